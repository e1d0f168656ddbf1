//! From mirrors: the origin's own bytes, over HTTP or TLS.
//!
//! Redirects are followed here, and every hop is judged by the [`guard`]. Bodies are streams; nothing is decoded.
#![expect(clippy::disallowed_types, reason = "the door to mirrors: sockets and names")]

pub mod guard;

use std::{error::Error as _, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::{
    Method,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, HeaderValue},
    redirect,
};
pub use reqwest::{StatusCode, header};
use tokio::time::timeout;

use crate::{
    archive::{Location, is_global},
    hash::Mismatch,
};

use guard::{Forbidden, Reach};

/// Redirects followed for one request.
const MAX_HOPS: usize = 10;
/// Time for a connection to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a byte after which a mirror is given up; apt itself waits 30 s.
const SILENCE: Duration = Duration::from_secs(25);
/// Time to resolve a name whose scope is asked for.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a mirror gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The origin must not be asked for this client.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// It could not be reached or spoke no HTTP.
    #[error("{0}")]
    Unreachable(String),
    /// Its redirects lead nowhere.
    #[error("redirected {MAX_HOPS} times")]
    Redirects,
    /// Its bytes are not the promised ones.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

/// What to ask a mirror for.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Only the head.
    pub head_only: bool,
    /// Bytes from the first to before the second, which may be open.
    pub range: Option<(u64, Option<u64>)>,
    /// Conditions and the like that the client sent and that are passed on.
    pub headers: HeaderMap,
}

/// A mirror's answer; the body comes as it arrives.
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// The header fields of the last hop.
    pub headers: HeaderMap,
    /// The body's length in bytes, when it was said.
    pub length: Option<u64>,
    body: reqwest::Response,
}

impl Reply {
    /// The next bytes of the body; `None` at its end. An error is a body that broke off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Trouble> {
        self.body.chunk().await.map_err(|error| unreachable_because(&error))
    }

    /// The whole body, if it is not longer than `limit` bytes.
    pub async fn collect(&mut self, limit: usize) -> Result<Option<Bytes>, Trouble> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if all.len() + chunk.len() > limit {
                return Ok(None);
            }
            all.extend_from_slice(&chunk);
        }
        Ok(Some(all.into()))
    }

    /// A header field as text.
    pub fn text(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, Trouble>> + Send {
        self.body.bytes_stream().map(|chunk| chunk.map_err(|error| unreachable_because(&error)))
    }
}

/// The client of all mirrors. Cheap to clone.
#[derive(Clone)]
pub struct Mirror {
    shared: Arc<Shared>,
}

struct Shared {
    named: reqwest::Client,
    local: reqwest::Client,
    remote: reqwest::Client,
}

impl Mirror {
    /// Builds the clients, one for each [`Reach`], so that a kept connection never serves a wider one.
    pub fn new() -> Result<Self, Trouble> {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let build = |reach, without_roots: bool| {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("apt-huddle/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(SILENCE)
                .pool_idle_timeout(Duration::from_secs(30))
                .tcp_nodelay(true)
                .http1_only()
                .no_proxy()
                .dns_resolver(Arc::new(Guarded(reach)));
            if without_roots { builder.tls_certs_only([]).build() } else { builder.build() }
        };
        // A host without CA certificates still reaches its mirrors over HTTP.
        let without_roots = build(Reach::Named, false).inspect_err(|error| {
            tracing::warn!(%error, "origins over TLS cannot be reached; is the package ca-certificates installed?");
        });
        let without_roots = without_roots.is_err();
        let client = |reach| build(reach, without_roots).map_err(|error| unreachable_because(&error));
        let shared =
            Shared { named: client(Reach::Named)?, local: client(Reach::Local)?, remote: client(Reach::Remote)? };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Asks for a location and follows redirects. `reach` judges every hop, given where it leads.
    pub async fn ask(&self, at: &Location, ask: &Ask, reach: impl Fn(&Location) -> Reach) -> Result<Reply, Trouble> {
        let (mut at, mut ask) = (at.clone(), ask.clone());
        for _hop in 0..MAX_HOPS {
            let reply = self.ask_once(&at, &ask, reach(&at)).await?;
            let Some(next) = follow(&at, &reply) else { return Ok(reply) };
            tracing::debug!(from = %at, to = %next, "redirected");
            if next.authority() != at.authority() {
                ask.headers.remove(header::AUTHORIZATION);
            }
            at = next;
        }
        Err(Trouble::Redirects)
    }

    /// Whether every address of a location's host can be reached from everywhere, as it resolves now. Names that do not
    /// resolve cannot.
    pub async fn is_global(&self, at: &Location) -> bool {
        self.resolves_global(at).await.unwrap_or(false)
    }

    /// The same; `None` when the host does not resolve.
    pub async fn resolves_global(&self, at: &Location) -> Option<bool> {
        if let Some(ip) = at.ip() {
            return Some(is_global(ip));
        }
        let resolving = tokio::net::lookup_host((at.host(), at.port_or_default()));
        let resolved = timeout(RESOLVE_TIMEOUT, resolving).await.ok()?.ok()?;
        let mut addresses = resolved.map(|address| address.ip()).peekable();
        addresses.peek()?;
        Some(addresses.all(is_global))
    }

    async fn ask_once(&self, at: &Location, ask: &Ask, reach: Reach) -> Result<Reply, Trouble> {
        if let Some(ip) = at.ip() {
            reach.check(&at.authority(), ip)?;
        }
        let client = match reach {
            Reach::Named => &self.shared.named,
            Reach::Local => &self.shared.local,
            Reach::Remote => &self.shared.remote,
        };
        let method = if ask.head_only { Method::HEAD } else { Method::GET };
        let mut request = client.request(method, at.url()).headers(ask.headers.clone());
        if let Some((from, until)) = ask.range {
            let last = until.map_or(String::new(), |until| (until - 1).to_string());
            request = request.header(header::RANGE, format!("bytes={from}-{last}"));
        }
        if let Some(credentials) = at.credentials() {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            request = request.basic_auth(user, Some(password));
        }
        let body = request
            .send()
            .await
            .map_err(|error| forbidden_in(&error).unwrap_or_else(|| unreachable_because(&error)))?;
        Ok(Reply { status: body.status(), headers: body.headers().clone(), length: body.content_length(), body })
    }
}

/// Where an answer redirects to. Credentials go to the host they were meant for only; TLS is never left again.
fn follow(at: &Location, reply: &Reply) -> Option<Location> {
    if !matches!(reply.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let target = reply.text(header::LOCATION)?;
    let next = reqwest::Url::parse(&at.url()).ok()?.join(target).ok()?;
    let next = Location::parse(next.as_str()).ok()?;
    (next.is_https() || !at.is_https()).then_some(next)
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

fn forbidden_in(error: &reqwest::Error) -> Option<Trouble> {
    causes(error).filter_map(|cause| cause.downcast_ref::<Forbidden>()).next().cloned().map(Trouble::Forbidden)
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

/// The innermost cause says most; a URL, which might hold credentials, is left out.
fn unreachable_because(error: &reqwest::Error) -> Trouble {
    Trouble::Unreachable(causes(error).last().map_or_else(|| "no answer".to_owned(), ToString::to_string))
}

/// The fields of a client's request that are passed on to the mirror.
pub fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let wanted = [
        header::AUTHORIZATION,
        header::IF_MODIFIED_SINCE,
        header::IF_RANGE,
        header::RANGE,
        header::CACHE_CONTROL,
        header::ACCEPT,
    ];
    let pick = |name: header::HeaderName| headers.get(&name).map(|value: &HeaderValue| (name, value.clone()));
    wanted.into_iter().filter_map(pick).collect()
}
