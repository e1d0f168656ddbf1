//! From the flow's answer to an HTTP response that apt accepts.
//!
//! Always a `Content-Length` or chunks, never an interim status; a promised file that cannot be completed is cut short.

use std::{ops::Range, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    body::SizedStream,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::{
    flow::{Answer, Flow, Growing},
    mirror::header::HeaderMap,
    store::{Blob, Part, Store},
};

/// Bytes read from the store at a time.
const CHUNK: u64 = 256 * 1024;

/// Fields of a mirror's answer that are passed on; the others belong to its connection.
const PASSED: [&str; 10] = [
    "last-modified",
    "etag",
    "content-type",
    "content-range",
    "accept-ranges",
    "cache-control",
    "expires",
    "date",
    "retry-after",
    "location",
];

/// Says where an answer came from.
const SOURCE: HeaderName = HeaderName::from_static("x-apt-huddle");

/// Turns an answer into a response.
pub fn respond(request: &HttpRequest, flow: &Flow, store: &Store, answer: Answer) -> HttpResponse {
    match answer {
        Answer::Held(blob) => held(request, flow, store, blob),
        Answer::Growing(growing) => grown(growing),
        Answer::Whole { reply, body } => {
            let mut response = with_fields(reply.status.as_u16(), &reply.headers);
            response.body(body)
        }
        Answer::Passed { status, headers, length, body } => {
            let length = declared(&headers).or(length);
            let mut response = with_fields(status, &headers);
            match length {
                _ if status == 304 || status == 204 => response.finish(),
                Some(length) => response.body(SizedStream::new(length, body)),
                None => response.streaming(body),
            }
        }
        Answer::Refused { status, reason } => refuse(status, &reason),
    }
}

/// A refusal that says what to do.
pub fn refuse(status: u16, reason: &str) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(format!("apt-huddle: {reason}\n"))
}

fn held(request: &HttpRequest, flow: &Flow, store: &Store, blob: Blob) -> HttpResponse {
    let size = blob.expected.size;
    // Part of a file is given only to a client that cannot hold a wrong part already, and not on a condition that
    // cannot be judged: the validator that the mirror once sent is not kept.
    let may_resume = !request.headers().contains_key(header::IF_RANGE) && !store.is_marked(blob.expected.hash);
    let wanted = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok()).filter(|_| may_resume);
    let (status, span) = match wanted.map_or(Part::Whole, |range| Part::parse(range, size)) {
        Part::Whole => (StatusCode::OK, 0..size),
        Part::Bytes(span) => (StatusCode::PARTIAL_CONTENT, span),
        Part::Nothing => {
            let mut response = HttpResponse::build(StatusCode::RANGE_NOT_SATISFIABLE);
            return response.insert_header((header::CONTENT_RANGE, format!("bytes */{size}"))).finish();
        }
    };
    let mut response = promised(status, "hit");
    if status == StatusCode::PARTIAL_CONTENT {
        response.insert_header((header::CONTENT_RANGE, format!("bytes {}-{}/{size}", span.start, span.end - 1)));
    }
    let length = span.end - span.start;
    if length == 0 {
        return response.body(Bytes::new());
    }
    response.body(SizedStream::new(length, read_held(flow.clone(), Arc::new(blob), span)))
}

fn read_held(flow: Flow, blob: Arc<Blob>, span: Range<u64>) -> impl Stream<Item = std::io::Result<Bytes>> {
    futures_util::stream::unfold(span, move |span| {
        let (flow, blob) = (flow.clone(), blob.clone());
        async move {
            let length = (span.end - span.start).min(CHUNK);
            if length == 0 {
                return None;
            }
            let start = span.start;
            let read = tokio::task::spawn_blocking(move || blob.read(start, length as usize));
            let bytes = read.await.expect("reading does not panic").map(Bytes::from);
            flow.add_from_store(length);
            Some((bytes, start + length..span.end))
        }
    })
}

/// A file on its way is always given from its first byte: what a client holds of it was perhaps never proven.
fn grown(growing: Growing) -> HttpResponse {
    let size = growing.expected().size;
    let mut response = promised(StatusCode::OK, "miss");
    if let Some(modified) = growing.last_modified().and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.insert_header((header::LAST_MODIFIED, modified));
    }
    if size == 0 {
        return response.body(Bytes::new());
    }
    let body = futures_util::stream::unfold((growing, 0), move |(mut growing, at)| async move {
        if at == size {
            return None;
        }
        let read = growing.read(at, size).await;
        let next = read.as_ref().map_or(size, |bytes| at + bytes.len() as u64);
        Some((read, (growing, next)))
    });
    response.body(SizedStream::new(size, body.boxed_local()))
}

fn promised(status: StatusCode, source: &'static str) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::CONTENT_TYPE, "application/octet-stream"))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((SOURCE, source));
    response
}

fn with_fields(status: u16, headers: &HeaderMap) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
    response.insert_header((SOURCE, "mirror"));
    for name in PASSED {
        if let Some(value) = headers.get(name).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
            response.insert_header((HeaderName::from_static(name), value));
        }
    }
    response
}

/// The length that a head declares: the body of an answer to HEAD has none of its own.
fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get("content-length")?.to_str().ok()?.trim().parse().ok()
}
