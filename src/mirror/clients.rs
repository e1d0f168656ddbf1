//! The HTTP clients: one for each way that a request may go, so that a kept connection never serves another one.
#![expect(clippy::disallowed_types, reason = "the door to mirrors: sockets and names")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{
    Client, ClientBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, HeaderValue, VIA},
    redirect,
};

use crate::archive::Location;

use super::{
    Trouble,
    guard::Reach,
    unreachable_because,
    upstream::{Proxy, Upstream},
};

/// Time for a connection to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a byte after which a mirror is given up; apt itself waits 30 s.
const SILENCE: Duration = Duration::from_secs(25);
/// Time after which an idle connection is closed.
const IDLE: Duration = Duration::from_secs(30);

/// The clients.
pub(super) struct Clients {
    named: Client,
    local: Client,
    remote: Client,
    http_proxy: Option<Client>,
    https_proxy: Option<Client>,
}

impl Clients {
    /// Builds them. `via` is what requests through a proxy carry as their `Via`.
    pub fn build(upstream: &Upstream, via: &str) -> Result<Self, Trouble> {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let without_roots = builder().build().inspect_err(|error| {
            tracing::warn!(%error, "origins over TLS cannot be reached; is the package ca-certificates installed?");
        });
        let without_roots = without_roots.is_err();
        // A host without CA certificates still reaches its mirrors over HTTP.
        let finish = |builder: ClientBuilder| {
            let builder = if without_roots { builder.tls_certs_only([]) } else { builder };
            builder.build().map_err(|error| unreachable_because(&error))
        };
        let direct = |reach| finish(builder().dns_resolver(Arc::new(Guarded(reach))));
        let through = |proxy: Option<&Proxy>| proxy.map(|proxy| finish(through(proxy, via)?)).transpose();
        Ok(Self {
            named: direct(Reach::Named)?,
            local: direct(Reach::Local)?,
            remote: direct(Reach::Remote)?,
            http_proxy: through(upstream.http())?,
            https_proxy: through(upstream.https())?,
        })
    }

    /// The client that dials origins itself.
    pub fn direct(&self, reach: Reach) -> &Client {
        match reach {
            Reach::Named => &self.named,
            Reach::Local => &self.local,
            Reach::Remote => &self.remote,
        }
    }

    /// The client that asks a proxy for a location.
    pub fn proxied(&self, at: &Location) -> Option<&Client> {
        if at.is_https() { self.https_proxy.as_ref() } else { self.http_proxy.as_ref() }
    }
}

fn builder() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("apt-huddle/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(SILENCE)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
        .http1_only()
        .no_proxy()
}

fn through(proxy: &Proxy, via: &str) -> Result<ClientBuilder, Trouble> {
    let mut there = reqwest::Proxy::all(proxy.url()).map_err(|error| unreachable_because(&error))?;
    if let Some((user, password)) = proxy.credentials() {
        there = there.basic_auth(user, password);
    }
    let via = HeaderValue::from_str(via).expect("made of letters and digits");
    Ok(builder().proxy(there).default_headers(HeaderMap::from_iter([(VIA, via)])))
}

/// Resolves names and gives only addresses that may be dialled.
struct Guarded(Reach);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let resolved: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<_> = resolved.iter().copied().filter(|address| reach.allows(address.ip())).collect();
            if let (true, Some(first)) = (allowed.is_empty(), resolved.first()) {
                reach.check(name.as_str(), first.ip())?;
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
