//! From mirrors: the origin's own bytes, over HTTP or TLS, directly or through the proxy that this host has.
//!
//! Redirects are followed here, and every hop is judged by the [`guard`], by the [`breaker`] of its host, and by
//! [`upstream`] for its way. Bodies are streams; nothing is decoded.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the door to mirrors: sockets, names, time and the name in `Via`"
)]

pub mod breaker;
mod clients;
pub mod guard;
pub mod upstream;

use std::{
    error::Error as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::{
    Method,
    header::{HeaderMap, HeaderValue},
};
pub use reqwest::{StatusCode, header};
use tokio::{sync::watch, time::timeout};

use crate::{
    archive::{Location, is_global},
    hash::Mismatch,
};

use breaker::{Admission, Breakers, Failing};
use clients::Clients;
use guard::{Forbidden, Reach};
use upstream::Upstream;

/// Redirects followed for one request.
const MAX_HOPS: usize = 10;
/// Time to resolve a name whose scope is asked for.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a request waits for another one that tries a host which failed.
const TRIAL: Duration = Duration::from_secs(12);

/// Why a mirror gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The origin must not be asked for this client.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// It could not be reached or spoke no HTTP.
    #[error("{0}")]
    Unreachable(String),
    /// It failed several times in a row, just now, and is not tried again yet.
    #[error("failed {failures} times in a row, at last: {why}")]
    Open {
        /// How often.
        failures: u32,
        /// Why, the last time.
        why: String,
    },
    /// Its file is another one than it was when the first part of it came.
    #[error("the mirror's file changed between two parts")]
    Changed,
    /// It sent nothing for a while, or next to nothing, and another one is at hand.
    #[error("slower than {0:?} allows")]
    Slow(Duration),
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
    /// Whether another mirror can serve this: then one that failed before is not waited for.
    pub has_other: bool,
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
    clients: Clients,
    upstream: Upstream,
    breakers: Mutex<Breakers>,
    /// Counts what came of trials, for those who wait for one.
    settled: watch::Sender<u64>,
    via: String,
}

impl Mirror {
    /// A client of mirrors that goes through these proxies.
    pub fn new(upstream: Upstream) -> Result<Self, Trouble> {
        let via = format!("1.1 apt-huddle-{:08x}", rand::random::<u32>());
        let clients = Clients::build(&upstream, &via)?;
        let shared = Shared { clients, upstream, breakers: Mutex::default(), settled: watch::Sender::default(), via };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whether a request that came in went out through a proxy from here: it has come round in a circle.
    pub fn has_sent(&self, headers: &HeaderMap) -> bool {
        let own = self.shared.via.trim_start_matches("1.1 ");
        let fields = headers.get_all(header::VIA).iter().filter_map(|field| field.to_str().ok());
        fields.flat_map(|field| field.split(',')).any(|hop| hop.split_whitespace().nth(1) == Some(own))
    }

    /// The hosts that failed when they were last asked.
    pub fn failing(&self) -> Vec<Failing> {
        self.shared.lock().failing(Instant::now())
    }

    /// Whether a location's host failed so often, or was so slow of late, that one that has another mirror had better go
    /// there.
    pub fn is_shunned(&self, at: &Location) -> bool {
        self.shared.lock().is_shunned(&at.authority(), Instant::now())
    }

    /// A location's host was slow while another mirror was at hand.
    pub fn shun(&self, at: &Location) {
        self.shared.lock().handle_slow(&at.authority(), Instant::now());
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
        let client = self.way(at, reach).await?;
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
        let trial = self.admit(at, ask.has_other).await?;
        match request.send().await {
            Ok(body) => {
                trial.answered();
                Ok(Reply {
                    status: body.status(),
                    headers: body.headers().clone(),
                    length: body.content_length(),
                    body,
                })
            }
            Err(error) => {
                let trouble = forbidden_in(&error).unwrap_or_else(|| unreachable_because(&error));
                if let Trouble::Unreachable(why) = &trouble {
                    trial.failed(why);
                }
                Err(trouble)
            }
        }
    }

    /// Which client asks for a location, once the guard has judged it as far as that client does not.
    async fn way(&self, at: &Location, reach: Reach) -> Result<&reqwest::Client, Trouble> {
        if let Some(ip) = at.ip() {
            reach.check(&at.authority(), ip)?;
        }
        let proxied = self.shared.clients.proxied(at).filter(|_| self.shared.upstream.covers(at));
        let Some(client) = proxied else { return Ok(self.shared.clients.direct(reach)) };
        if at.ip().is_none() && reach != Reach::Named {
            let resolving = tokio::net::lookup_host((at.host(), at.port_or_default()));
            let resolved: Vec<_> = timeout(RESOLVE_TIMEOUT, resolving)
                .await
                .ok()
                .and_then(Result::ok)
                .map_or(Vec::new(), |addresses| addresses.map(|address| address.ip()).collect());
            if resolved.is_empty() {
                return Err(Forbidden::unknown(&at.authority()).into());
            }
            resolved.into_iter().try_for_each(|ip| reach.check(&at.authority(), ip))?;
        }
        Ok(client)
    }

    /// Waits until a host may be asked.
    async fn admit(&self, at: &Location, has_other: bool) -> Result<Trial<'_>, Trouble> {
        let host = at.authority();
        let trial = |host, is_probe| Trial { shared: &self.shared, host, is_probe };
        let admitted = async {
            loop {
                let mut settled = self.shared.settled.subscribe();
                let admission = self.shared.lock().admit(&host, has_other, Instant::now());
                match admission {
                    Admission::Pass => return Ok(false),
                    Admission::Probe => return Ok(true),
                    Admission::Open { failures, why } => return Err(Trouble::Open { failures, why }),
                    Admission::Wait => settled.changed().await.expect("the sender is in `shared`"),
                }
            }
        };
        // Nothing is lost when the trial takes longer than this: then this request tries as well.
        let is_probe = timeout(TRIAL, admitted).await.unwrap_or(Ok(false))?;
        Ok(trial(host, is_probe))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request to a host, of which its breaker is told what came of it.
struct Trial<'a> {
    shared: &'a Shared,
    host: String,
    is_probe: bool,
}

impl Trial<'_> {
    fn answered(mut self) {
        self.shared.lock().handle_answer(&self.host);
        self.settle();
    }

    fn failed(mut self, why: &str) {
        self.shared.lock().handle_failure(&self.host, why, Instant::now());
        self.settle();
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.is_probe) {
            self.shared.settled.send_modify(|count| *count += 1);
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.shared.lock().handle_abandoned(&self.host);
            self.settle();
        }
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
