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
    store::{Blob, Part},
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
pub fn respond(request: &HttpRequest, flow: &Flow, answer: Answer) -> HttpResponse {
    match answer {
        Answer::Held(blob) => held(request, flow, blob),
        Answer::Growing(growing) => grown(request, flow, growing),
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

fn held(request: &HttpRequest, flow: &Flow, blob: Blob) -> HttpResponse {
    let modified = blob.modified.clone();
    let since = request.headers().get(header::IF_MODIFIED_SINCE).and_then(|since| since.to_str().ok());
    if modified.is_some() && since == modified.as_deref() {
        return promised(StatusCode::NOT_MODIFIED, "hit", modified).finish();
    }
    // Part of a file is given only to a client that cannot hold a wrong part already.
    let part = part(request, blob.expected.size, modified.as_deref(), || !flow.is_doubtful(blob.expected.hash));
    let flow = flow.clone();
    partial(part, blob.expected.size, "hit", modified, |span| read_held(flow, Arc::new(blob), span))
}

/// The part of a file that a request is about, when the client may be given a part. What it has of the file is of this
/// version when it says nothing of that or names the validator that it would be sent now (RFC 9110, section 13.1.5).
fn part(request: &HttpRequest, size: u64, modified: Option<&str>, may_resume: impl FnOnce() -> bool) -> Part {
    let text = |name| Some(request.headers().get(name)?.to_str().unwrap_or_default());
    let is_same = text(header::IF_RANGE).is_none_or(|version| Some(version) == modified);
    text(header::RANGE).filter(|_| is_same && may_resume()).map_or(Part::Whole, |range| Part::parse(range, size))
}

/// That part of a promised file, as `read` reads it.
fn partial<S, E>(
    part: Part,
    size: u64,
    source: &'static str,
    modified: Option<String>,
    read: impl FnOnce(Range<u64>) -> S,
) -> HttpResponse
where
    S: Stream<Item = Result<Bytes, E>> + 'static,
    E: Into<Box<dyn std::error::Error>> + 'static,
{
    let (status, span) = match part {
        Part::Whole => (StatusCode::OK, 0..size),
        Part::Bytes(span) => (StatusCode::PARTIAL_CONTENT, span),
        Part::Nothing => {
            let mut response = HttpResponse::build(StatusCode::RANGE_NOT_SATISFIABLE);
            return response.insert_header((header::CONTENT_RANGE, format!("bytes */{size}"))).finish();
        }
    };
    let mut response = promised(status, source, modified);
    if status == StatusCode::PARTIAL_CONTENT {
        response.insert_header((header::CONTENT_RANGE, format!("bytes {}-{}/{size}", span.start, span.end - 1)));
    }
    let length = span.end - span.start;
    if length == 0 {
        return response.body(Bytes::new());
    }
    response.body(SizedStream::new(length, read(span).boxed_local()))
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

/// A file on its way.
fn grown(request: &HttpRequest, flow: &Flow, growing: Growing) -> HttpResponse {
    let (size, modified) = (growing.expected().size, growing.last_modified());
    let part = part(request, size, modified.as_deref(), || flow.may_resume(&growing));
    partial(part, size, "miss", modified, |span| {
        futures_util::stream::unfold((growing, span), move |(mut growing, span)| async move {
            if span.is_empty() {
                return None;
            }
            let read = growing.read(span.start, span.end).await;
            let next = read.as_ref().map_or(span.end, |bytes| span.start + bytes.len() as u64);
            Some((read, (growing, next..span.end)))
        })
    })
}

fn promised(status: StatusCode, source: &'static str, modified: Option<String>) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::CONTENT_TYPE, "application/octet-stream"))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((SOURCE, source));
    if let Some(modified) = modified.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.insert_header((header::LAST_MODIFIED, modified));
    }
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
