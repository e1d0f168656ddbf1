//! The answer to the question which of some files are here.
//!
//! **Security.** It says nothing that asking for each file would not say, and of files of one piece alone. Each hash of what
//! is not here costs the asker something, so that nobody finds out what is here by going through an archive: at that price,
//! one address gets through the packages of Debian's main section in about an hour. A question takes a place among the
//! questions while the store is asked.
#![expect(clippy::disallowed_methods, reason = "the door to the clock for the budget")]

use std::time::{Duration, Instant};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header},
    web::{self, Bytes, Data, Payload},
};
use tokio::time::timeout;

use crate::hash::ContentHash;

use super::{
    Give, Peer,
    answer::{BUSY_WAIT, miss, refuse},
    budget::{QUESTION, UNKNOWN},
    recall::Recall,
};

/// Hashes of one question at most.
pub(super) const MAX_HASHES: usize = 256;
/// Bytes of one.
const HASH_LEN: usize = 32;
/// How long the body of a question may take.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// Answers the question, of whoever may ask it.
pub(super) async fn answer(request: &HttpRequest, body: Payload, give: Data<Give>, peer: Peer) -> HttpResponse {
    if !give.may_be_sealed(request) {
        return miss(&give, peer);
    }
    let body = timeout(BODY_WAIT, body.to_bytes_limited(MAX_HASHES * HASH_LEN)).await;
    let (body, wrong) = match body {
        Ok(Ok(Ok(body))) => (body, None),
        Ok(Ok(Err(_))) => (Bytes::new(), Some(StatusCode::BAD_REQUEST)),
        Ok(Err(_)) => (Bytes::new(), Some(StatusCode::PAYLOAD_TOO_LARGE)),
        Err(_) => (Bytes::new(), Some(StatusCode::REQUEST_TIMEOUT)),
    };
    if !give.is_sealed(request, &body) {
        return miss(&give, peer);
    }
    if request.method() != Method::POST {
        return HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, "POST")).finish();
    }
    let (hashes, rest) = body.as_chunks::<HASH_LEN>();
    if let Some(wrong) = wrong {
        return HttpResponse::build(wrong).finish();
    }
    if hashes.is_empty() || !rest.is_empty() {
        return HttpResponse::BadRequest().finish();
    }
    // A place of its own kind: a question of some milliseconds is to end nobody's upload.
    let Some(_place) = give.questions.take(peer, Recall::default(), Instant::now()) else {
        return refuse(&give.meter, StatusCode::SERVICE_UNAVAILABLE, BUSY_WAIT);
    };
    let hashes: Vec<_> = hashes.iter().map(|hash| ContentHash::new(*hash)).collect();
    let store = give.store.clone();
    match web::block(move || store.holds(&hashes)).await {
        Ok(Ok(holds)) => {
            let cost = holds.iter().map(|holds| if *holds { QUESTION } else { UNKNOWN }).sum();
            give.budget().charge(peer, cost, Instant::now());
            HttpResponse::Ok().content_type("application/octet-stream").body(bits(&holds))
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "a peer's question could not be answered");
            refuse(&give.meter, StatusCode::SERVICE_UNAVAILABLE, BUSY_WAIT)
        }
        Err(_) => refuse(&give.meter, StatusCode::SERVICE_UNAVAILABLE, BUSY_WAIT),
    }
}

/// One bit each, the lowest of each byte first.
fn bits(holds: &[bool]) -> Vec<u8> {
    let byte = |eight: &[bool]| eight.iter().rev().fold(0, |byte, holds| byte << 1 | u8::from(*holds));
    holds.chunks(8).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_the_lowest_bit_of_the_first_byte() {
        assert_eq!(bits(&[true]), [1]);
        assert_eq!(bits(&[false, true, false, false, false, false, false, true, true]), [0x82, 1]);
    }
}
