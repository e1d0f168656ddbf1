//! The door: apt's requests, in every form that apt knows.
//!
//! ```text
//!  GET http://mirror.example.org/debian/pool/...          through Acquire::http::Proxy
//!  GET /mirror.example.org/debian/pool/...                from a rewritten sources.list
//!  GET /HTTPS///mirror.example.org/debian/pool/...        the same, for an origin behind TLS
//!  CONNECT mirror.example.org:443                         a tunnel
//! ```
//!
//! actix-web's `App` answers, over a stream of our own ([`wire`]) that owns what passes and how connections end: it gives
//! the dispatcher one request at a time, leaves no client in silence, and tells of requests that wait, which are begun
//! ahead of their turn.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the door takes connections over, and closes in time"
)]

mod ahead;
mod answer;
mod tunnel;
pub mod wire;

use std::{
    io,
    net::{IpAddr, TcpListener},
    time::Duration,
};

use actix_http::{HttpService, KeepAlive, Protocol};
use actix_server::GracefulShutdownSignal;
use actix_service::{ServiceFactoryExt, fn_service, map_config};
use actix_web::{
    App, HttpRequest, HttpResponse,
    dev::{AppConfig, Server},
    guard,
    http::Method,
    web::{self, Data, ServiceConfig},
};
use ipnet::IpNet;
use tokio::time::sleep;

use crate::{
    archive::Location,
    flow::{Ask, Flow},
    mirror::{
        self,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
};

use ahead::Ahead;
use wire::{Head, Pace, Place, Wire};

/// How long a connection is kept open between requests.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way may take to end when the daemon stops, in seconds.
const SHUTDOWN: u64 = 10;
/// How long a connection that was let in may take for its question when the door closes: apt is not to ask in vain.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Client connections at a time.
const MAX_CONNECTIONS: usize = 1024;

/// What the door needs to know.
#[derive(Clone)]
pub struct Door {
    /// Whom it leads to.
    pub flow: Flow,
    /// Networks of clients besides this host.
    pub allow: Vec<IpNet>,
    /// How clients are kept waiting.
    pub pace: Pace,
}

impl Door {
    /// Serves apt, and the pages of this daemon, on these sockets. The server ends when its handle says so.
    pub fn open<P>(self, listeners: Vec<TcpListener>, pages: P) -> io::Result<Server>
    where
        P: Fn(&mut ServiceConfig) + Clone + Send + 'static,
    {
        let mut server = Server::build()
            .workers(1)
            .disable_signals()
            .shutdown_timeout(SHUTDOWN)
            .max_concurrent_connections(MAX_CONNECTIONS);
        let closing = server.graceful_shutdown_signal();
        for (index, listener) in listeners.into_iter().enumerate() {
            let (door, pages, closing) = (self.clone(), pages.clone(), closing.clone());
            server = server.listen(format!("door-{index}"), listener, move || {
                door.clone().service(pages.clone(), closing.clone())
            })?;
        }
        Ok(server.run())
    }

    fn service<P>(
        self,
        pages: P,
        closing: GracefulShutdownSignal,
    ) -> impl actix_service::ServiceFactory<tokio::net::TcpStream, Config = (), Response = (), Error = (), InitError = ()>
    where
        P: Fn(&mut ServiceConfig) + Clone + 'static,
    {
        let (door, tunnels, idle) = (Data::new(self.clone()), self, closing.clone());
        let guarding = tunnels.clone();
        let is_own = move |ctx: &guard::GuardContext<'_>| {
            let client = ctx.head().peer_addr.map(|address| address.ip());
            ctx.head().uri.authority().is_none() && client.is_some_and(|client| guarding.admits(client))
        };
        let app = move || {
            App::new()
                .app_data(door.clone())
                // What is asked of this daemon itself has no authority in its request line.
                .service(web::scope("").guard(guard::fn_guard(is_own.clone())).configure(pages.clone()))
                .default_service(web::to(serve))
        };
        let http = HttpService::build()
            .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
            .client_request_timeout(HEAD_TIMEOUT)
            .on_connect_ext(|wire: &Wire, extensions| {
                extensions.insert(wire.ahead().clone());
            })
            .graceful_shutdown_signal(move || {
                let closing = idle.clone();
                async move { closed(&closing).await }
            })
            .finish(map_config(app(), |()| AppConfig::default()))
            .map_err(|error| tracing::trace!(?error, "connection ended"));
        let accept = fn_service(move |stream: tokio::net::TcpStream| {
            let (door, closing) = (tunnels.clone(), closing.clone());
            async move {
                let mut wire = Wire::new(stream, door.pace).map_err(drop)?;
                let is_tunnel = tokio::select! {
                    is_tunnel = wire.asks_for_tunnel() => is_tunnel,
                    () = closed(&closing) => return Err(()),
                };
                if !is_tunnel {
                    let peer = wire.peer();
                    door.look_ahead(&mut wire);
                    return Ok((wire, Protocol::Http1, Some(peer)));
                }
                if door.admits(wire.peer().ip()) {
                    tokio::select! {
                        () = tunnel::serve(wire, &door.flow) => {}
                        () = closing.notified() => {}
                    }
                }
                Err(())
            }
        });
        accept.and_then(http)
    }

    /// Begins what waits on a connection behind other requests.
    fn look_ahead(&self, wire: &mut Wire) {
        let (door, client, ahead) = (self.clone(), wire.peer().ip().to_canonical(), wire.ahead().clone());
        wire.foresee(move |place, head| match (place, door.foreseeable(head, client)) {
            (Place::First, ask) => ahead.begin(ask.as_ref()),
            (Place::Behind, Some(ask)) => ahead.foresee(&door.flow, ask, client),
            (Place::Behind, None) => {}
        });
    }

    /// The question that a request will be to the flow. `None`: it is refused, or for a page of this daemon.
    fn foreseeable(&self, head: &Head, client: IpAddr) -> Option<Ask> {
        if !self.admits(client) || !["GET", "HEAD"].contains(&head.method.as_str()) {
            return None;
        }
        let field = |(name, value): (String, Vec<u8>)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(&value).ok()?))
        };
        let headers: HeaderMap = head.fields().into_iter().filter_map(field).collect();
        let location = locate(&head.target).ok().filter(|_| !self.flow.leads_back(&headers))?;
        let is_file = !head.target.starts_with('/') || location.host().contains(['.', ':']) || location.is_https();
        let head_only = head.is_head();
        is_file.then(|| Ask {
            location,
            is_local: client.is_loopback(),
            head_only,
            headers: mirror::passed_on(&headers),
        })
    }

    /// Whether a client may use this proxy.
    fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        client.is_loopback() || self.allow.iter().any(|network| network.contains(&client))
    }
}

/// The door is to close, and who had just come in has said what for.
async fn closed(closing: &GracefulShutdownSignal) {
    closing.notified().await;
    sleep(LAST_WORDS).await;
}

async fn serve(request: HttpRequest, door: Data<Door>) -> HttpResponse {
    let Some(client) = request.peer_addr().map(|address| address.ip().to_canonical()) else {
        return answer::refuse(400, "a client without address");
    };
    if !door.admits(client) {
        return answer::refuse(403, &format!("{client} is not in allow in section [proxy]"));
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return answer::refuse(405, "only GET and HEAD are answered");
    }
    let headers = convert(&request);
    if door.flow.leads_back(&headers) {
        return answer::refuse(508, "this request was sent from here and came back: see proxy in section [mirror]");
    }
    let location = match locate(&request.uri().to_string()) {
        Ok(location) => location,
        Err(error) => return answer::refuse(400, &error.to_string()),
    };
    let ask = Ask {
        location,
        is_local: client.is_loopback(),
        head_only: request.method() == Method::HEAD,
        headers: mirror::passed_on(&headers),
    };
    let foreseen = request.conn_data::<Ahead>().and_then(|ahead| ahead.claim(&ask));
    let answer = match foreseen {
        Some(foreseen) => foreseen.answer().await,
        None => None,
    };
    let answer = match answer {
        Some(answer) => answer,
        None => door.flow.serve(ask).await,
    };
    answer::respond(&request, &door.flow, answer)
}

/// The file that a request is about, in whichever form it names it.
fn locate(target: &str) -> Result<Location, crate::archive::BadLocation> {
    if target.starts_with('/') { Location::from_rewritten(target) } else { Location::parse(target) }
}

/// actix-web speaks an older version of the `http` crate than the client of mirrors.
fn convert(request: &HttpRequest) -> HeaderMap {
    let field = |(name, value): (&actix_web::http::header::HeaderName, &actix_web::http::header::HeaderValue)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    };
    request.headers().iter().filter_map(field).collect()
}
