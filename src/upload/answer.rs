//! The answer to one request.
#![expect(clippy::disallowed_methods, reason = "the door to the clock for the budget")]

use std::{
    ops::Range,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    body::{BoxBody, SizedStream},
    http::{Method, StatusCode, header},
    web::{self, Bytes, Data, Payload},
};
use futures_util::stream;

use crate::{
    hash::{PieceChain, Pieces},
    seal,
    store::{Blob, Lent, Loan, Offered, Part},
};

use super::{Give, Meter, Peer, ask::Ask, budget::MISS, have, recall::Recall, seats::Seat};

/// Names a piece chain: the SHA-256 of its bytes, in hexadecimal.
const CHAIN: &str = "x-huddle-chain";

/// Which pieces an unfinished holder has: the bytes of [`Pieces`], in hexadecimal.
const HAVE: &str = "x-huddle-have";

/// Marks bytes that came from a mirror and are not proven yet.
const UNPROVEN: &str = "x-huddle-unproven";

/// Bytes of a body that are read at a time.
const CHUNK: u64 = 64 * 1024;

/// What a peer is told to wait when all places are taken.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(2);

/// Answers anything that is asked of the public port.
pub(super) async fn answer(request: HttpRequest, body: Payload, give: Data<Give>) -> HttpResponse {
    give.meter.0.requests.fetch_add(1, Relaxed);
    let Some(peer) = request.peer_addr().map(|address| Peer::of(address.ip())) else {
        return HttpResponse::NotFound().finish();
    };
    if let Err(wait) = give.budget().ask(peer, Instant::now()) {
        return refuse(&give.meter, StatusCode::TOO_MANY_REQUESTS, wait);
    }
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    let (hash, wants_pieces) = match Ask::parse(request.path()) {
        Some(Ask::Have) => return have::answer(&request, body, give, peer).await,
        Some(Ask::File(hash)) if is_read && give.is_sealed(&request, &[]) => (hash, false),
        Some(Ask::Pieces(hash)) if is_read && give.is_sealed(&request, &[]) => (hash, true),
        _ => return miss(&give, peer),
    };
    let recall = request.conn_data::<Recall>().cloned().unwrap_or_default();
    let Some(place) = give.places.take(peer, recall, Instant::now()) else {
        return refuse(&give.meter, StatusCode::SERVICE_UNAVAILABLE, BUSY_WAIT);
    };
    let store = give.store.clone();
    let offer = match web::block(move || store.offer(hash)).await {
        Ok(Ok(Some(offer))) => offer,
        Ok(Ok(None)) => return miss(&give, peer),
        Ok(Err(error)) => {
            tracing::warn!(%hash, %error, "a peer's question could not be answered");
            return refuse(&give.meter, StatusCode::SERVICE_UNAVAILABLE, BUSY_WAIT);
        }
        Err(_) => return refuse(&give.meter, StatusCode::SERVICE_UNAVAILABLE, BUSY_WAIT),
    };
    let sending = Sending { give, _active: None, _place: place };
    match offer.of {
        Offered::Whole(blob) if wants_pieces => chain(&request, &blob.chain, sending),
        Offered::Whole(blob) => file(&request, blob, sending),
        Offered::Lent(loan) if wants_pieces => pieces(&request, &loan, sending),
        Offered::Lent(loan) => part(&request, loan, sending),
    }
}

/// What a body holds for as long as it is sent.
struct Sending {
    give: Data<Give>,
    _active: Option<Active>,
    _place: Seat,
}

fn file(request: &HttpRequest, blob: Blob, sending: Sending) -> HttpResponse {
    let size = blob.expected.size;
    let (mut response, bytes) = match asked_part(request, size) {
        Part::Whole => (HttpResponse::Ok(), 0..size),
        Part::Bytes(bytes) => (partial_content(&bytes, size), bytes),
        Part::Nothing => return unsatisfiable(size),
    };
    response.insert_header((header::ACCEPT_RANGES, "bytes")).insert_header((CHAIN, blob.chain.digest().to_string()));
    send(request, &mut response, Source::Blob(Arc::new(blob)), bytes, sending)
}

/// Pieces of a file on its way. What is asked for is here in part, so that nothing of it counts as a miss.
fn part(request: &HttpRequest, loan: Arc<Loan>, sending: Sending) -> HttpResponse {
    let size = loan.expected().size;
    let bytes = match asked_part(request, size) {
        Part::Bytes(bytes) => bytes,
        Part::Nothing => return unsatisfiable(size),
        Part::Whole => return HttpResponse::NotFound().finish(),
    };
    let mut response = partial_content(&bytes, size);
    match (loan.lent(&bytes), loan.chain()) {
        (None, _) => return unsatisfiable(size),
        (Some(Lent::FromMirror), _) => drop(response.insert_header((UNPROVEN, "1"))),
        (Some(Lent::Proven), Some(chain)) => drop(response.insert_header((CHAIN, chain.digest().to_string()))),
        (Some(Lent::Proven), None) => {}
    }
    send(request, &mut response, Source::Loan(loan), bytes, sending)
}

fn chain(request: &HttpRequest, chain: &PieceChain, sending: Sending) -> HttpResponse {
    tell(request, HttpResponse::Ok(), Some(chain), sending)
}

/// Which pieces an unfinished file has, and its chain when that is proven.
fn pieces(request: &HttpRequest, loan: &Loan, sending: Sending) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((HAVE, digits(&loan.pieces())));
    tell(request, response, loan.chain().as_ref(), sending)
}

fn tell(
    request: &HttpRequest,
    mut response: HttpResponseBuilder,
    chain: Option<&PieceChain>,
    sending: Sending,
) -> HttpResponse {
    if let Some(chain) = chain {
        response.insert_header((CHAIN, chain.digest().to_string()));
    }
    let body = Bytes::from(chain.map(PieceChain::encode).unwrap_or_default());
    let bytes = 0..body.len() as u64;
    send(request, &mut response, Source::Memory(body), bytes, sending)
}

fn digits(pieces: &Pieces) -> String {
    pieces.encode().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How much of a file is asked for. Nothing here has a validator, so that an If-Range never holds (RFC 9110, section
/// 13.1.5).
fn asked_part(request: &HttpRequest, size: u64) -> Part {
    let range = request.headers().get(header::RANGE).filter(|_| !request.headers().contains_key(header::IF_RANGE));
    match range.map(header::HeaderValue::to_str) {
        Some(Ok(range)) => Part::parse(range, size),
        _ => Part::Whole,
    }
}

fn partial_content(bytes: &Range<u64>, size: u64) -> HttpResponseBuilder {
    let mut response = HttpResponse::PartialContent();
    let last = bytes.end - 1;
    response.insert_header((header::CONTENT_RANGE, format!("bytes {}-{last}/{size}", bytes.start)));
    response
}

fn unsatisfiable(size: u64) -> HttpResponse {
    HttpResponse::RangeNotSatisfiable().insert_header((header::CONTENT_RANGE, format!("bytes */{size}"))).finish()
}

/// Where a body's bytes come from.
#[derive(Clone)]
enum Source {
    Blob(Arc<Blob>),
    Loan(Arc<Loan>),
    Memory(Bytes),
}

impl Source {
    async fn read(&self, at: u64, length: usize) -> std::io::Result<Bytes> {
        let read = match self.clone() {
            Self::Memory(bytes) => return Ok(bytes.slice(at as usize..at as usize + length)),
            Self::Blob(blob) => web::block(move || blob.read(at, length)).await,
            Self::Loan(loan) => web::block(move || loan.read(at, length)).await,
        };
        read.map_err(std::io::Error::other)?.map(Bytes::from)
    }
}

fn send(
    request: &HttpRequest,
    response: &mut HttpResponseBuilder,
    source: Source,
    bytes: Range<u64>,
    mut sending: Sending,
) -> HttpResponse {
    let length = bytes.end - bytes.start;
    response.content_type("application/octet-stream");
    if request.method() == Method::HEAD {
        let nothing = stream::empty::<std::io::Result<Bytes>>();
        return response.body(BoxBody::new(SizedStream::new(length, nothing)));
    }
    sending._active = Some(Active::new(&sending.give.meter));
    let body = stream::unfold((source, bytes, sending), |(source, mut left, sending)| async move {
        let length = (left.end - left.start).min(CHUNK) as usize;
        if length == 0 {
            return None;
        }
        let chunk = source.read(left.start, length).await;
        // After an error there is no next chunk; the connection ends short of the promised length.
        left.start = if chunk.is_ok() { left.start + length as u64 } else { left.end };
        Some((chunk, (source, left, sending)))
    });
    response.body(BoxBody::new(SizedStream::new(length, Box::pin(body))))
}

/// Not here, or not for strangers: nobody can tell which.
pub(super) fn miss(give: &Give, peer: Peer) -> HttpResponse {
    give.budget().charge(peer, MISS, Instant::now());
    HttpResponse::NotFound().finish()
}

pub(super) fn refuse(meter: &Meter, status: StatusCode, wait: Duration) -> HttpResponse {
    meter.0.refused.fetch_add(1, Relaxed);
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    HttpResponse::build(status).insert_header((header::RETRY_AFTER, seconds.to_string())).finish()
}

impl Give {
    /// Whether who asks is a member of the private network; everybody is one of the public network.
    pub(super) fn is_sealed(&self, request: &HttpRequest, body: &[u8]) -> bool {
        let Some(seal) = &self.seal else { return true };
        let field = request.headers().get(seal::HEADER).and_then(|field| field.to_str().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (method, path) = (request.method().as_str(), request.path());
        field.is_some_and(|field| seal.accepts(field, method, path, body, now))
    }

    /// Whether it is worth to read the body.
    pub(super) fn may_be_sealed(&self, request: &HttpRequest) -> bool {
        self.seal.is_none() || request.headers().contains_key(seal::HEADER)
    }

    pub(super) fn budget(&self) -> std::sync::MutexGuard<'_, super::Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a file being sent.
struct Active(Meter);

impl Active {
    fn new(meter: &Meter) -> Self {
        meter.0.active.fetch_add(1, Relaxed);
        Self(meter.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.0.active.fetch_sub(1, Relaxed);
    }
}
