//! The answer to one request.
#![expect(clippy::disallowed_methods, reason = "the door to the clock for the budget")]

use std::{
    ops::Range,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    body::{BoxBody, SizedStream},
    http::{Method, StatusCode, header},
    web::{self, Bytes, Data},
};
use futures_util::stream;

use crate::store::{Blob, Offer, Part};

use super::{Give, Meter, Peer, ask::Ask, budget::MISS, seats::Seat};

/// Names a piece chain: the SHA-256 of its bytes, in hexadecimal.
const CHAIN: &str = "x-huddle-chain";

/// What a peer is told to wait when all places are taken.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// Answers anything that is asked of the public port.
pub(super) async fn answer(request: HttpRequest, give: Data<Give>) -> HttpResponse {
    give.meter.0.requests.fetch_add(1, Relaxed);
    let Some(peer) = request.peer_addr().map(|address| Peer::of(address.ip())) else {
        return HttpResponse::NotFound().finish();
    };
    if let Err(wait) = give.budget().ask(peer, Instant::now()) {
        return refuse(&give.meter, StatusCode::TOO_MANY_REQUESTS, wait);
    }
    let method = request.method();
    let asked = Ask::parse(request.path()).filter(|_| method == Method::GET || method == Method::HEAD);
    let Some(asked) = asked else { return miss(&give, peer) };
    let Some(place) = give.places.take(peer) else {
        return refuse(&give.meter, StatusCode::SERVICE_UNAVAILABLE, BUSY_WAIT);
    };
    let (Ask::File(hash) | Ask::Pieces(hash)) = asked;
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
    let sending = Sending { give: give.into_inner(), peer, _active: None, _place: place };
    match asked {
        Ask::File(_) => file(&request, offer, sending),
        Ask::Pieces(_) => pieces(&request, &offer, sending),
    }
}

/// What a body holds for as long as it is sent.
struct Sending {
    give: Arc<Give>,
    peer: Peer,
    _active: Option<Active>,
    _place: Seat,
}

fn file(request: &HttpRequest, offer: Offer, sending: Sending) -> HttpResponse {
    let size = offer.blob.expected.size;
    // Nothing here has a validator, so that an If-Range never holds (RFC 9110, section 13.1.5).
    let range = request.headers().get(header::RANGE).filter(|_| !request.headers().contains_key(header::IF_RANGE));
    let part = match range.map(header::HeaderValue::to_str) {
        Some(Ok(range)) => Part::parse(range, size),
        _ => Part::Whole,
    };
    let (mut response, bytes) = match part {
        Part::Whole => (HttpResponse::Ok(), 0..size),
        Part::Bytes(bytes) => {
            let mut response = HttpResponse::PartialContent();
            let last = bytes.end - 1;
            response.insert_header((header::CONTENT_RANGE, format!("bytes {}-{last}/{size}", bytes.start)));
            (response, bytes)
        }
        Part::Nothing => {
            return HttpResponse::RangeNotSatisfiable()
                .insert_header((header::CONTENT_RANGE, format!("bytes */{size}")))
                .finish();
        }
    };
    response
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((CHAIN, offer.blob.chain.digest().to_string()));
    send(request, &mut response, Source::Blob(Arc::new(offer.blob)), bytes, sending)
}

fn pieces(request: &HttpRequest, offer: &Offer, sending: Sending) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((CHAIN, offer.blob.chain.digest().to_string()));
    let chain = Bytes::from(offer.blob.chain.encode());
    let bytes = 0..chain.len() as u64;
    send(request, &mut response, Source::Memory(chain), bytes, sending)
}

/// Where a body's bytes come from.
#[derive(Clone)]
enum Source {
    Blob(Arc<Blob>),
    Memory(Bytes),
}

impl Source {
    async fn read(&self, at: u64, length: usize) -> std::io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(at as usize..at as usize + length)),
            Self::Blob(blob) => {
                let blob = blob.clone();
                let read = web::block(move || blob.read(at, length)).await;
                read.map_err(std::io::Error::other)?.map(Bytes::from)
            }
        }
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
        let length = (left.end - left.start).min(sending.give.pace.chunk() as u64) as usize;
        if length == 0 {
            return None;
        }
        sending.give.pace.take(sending.peer, length).await;
        let chunk = source.read(left.start, length).await;
        // After an error there is no next chunk; the connection ends short of the promised length.
        left.start = if chunk.is_ok() { left.start + length as u64 } else { left.end };
        Some((chunk, (source, left, sending)))
    });
    response.body(BoxBody::new(SizedStream::new(length, Box::pin(body))))
}

/// Not here, or not for strangers: nobody can tell which.
fn miss(give: &Give, peer: Peer) -> HttpResponse {
    give.budget().charge(peer, MISS, Instant::now());
    HttpResponse::NotFound().finish()
}

fn refuse(meter: &Meter, status: StatusCode, wait: Duration) -> HttpResponse {
    meter.0.refused.fetch_add(1, Relaxed);
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    HttpResponse::build(status).insert_header((header::RETRY_AFTER, seconds.to_string())).finish()
}

impl Give {
    fn budget(&self) -> std::sync::MutexGuard<'_, super::Budget> {
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
