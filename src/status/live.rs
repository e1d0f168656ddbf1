//! The page as it changes: `GET /live`, a stream of server-sent events (WHATWG HTML, section 9.2).
//!
//! ```text
//!  retry: 2000
//!
//!  event: section                                           once a second, for each section that is not as it was
//!  data: {"id":"live","html":"<section id=\"live\">..."}
//! ```
//!
//! However many look on, the stations are looked at once a second. A stream ends after [`LIFETIME`], and when the daemon
//! stops; a browser then asks again by itself.
#![expect(clippy::disallowed_methods, reason = "the clock of those who look on")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpResponse,
    http::header,
    web::{Bytes, Data},
};
use futures_util::stream;
use serde::Serialize;
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch},
    time::{Interval, MissedTickBehavior, interval},
};

use super::{Window, page};

/// Streams at a time; to further ones the answer is 503.
const MAX_STREAMS: usize = 16;
/// How often it is looked whether something changed.
const PERIOD: Duration = Duration::from_secs(1);
/// How old a look may be that is shared.
const FRESH: Duration = Duration::from_millis(900);
/// How long a stream goes on at most, so that one nobody reads any more does not keep its place.
const LIFETIME: Duration = Duration::from_secs(600);
/// Tells a browser after how many milliseconds to ask again.
const RETRY: &str = "retry: 2000\n\n";

/// Sections as they were at one moment: id and HTML.
type Sections = Arc<[(&'static str, String)]>;

/// Everybody who looks on.
pub struct Streams {
    places: Arc<Semaphore>,
    latest: Mutex<Option<(Instant, Sections)>>,
    closing: watch::Sender<bool>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_STREAMS)),
            latest: Mutex::default(),
            closing: watch::Sender::new(false),
        }
    }
}

impl Streams {
    /// Ends all streams, and every later one at once.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

/// One who looks on.
struct Stream {
    window: Arc<Window>,
    closing: watch::Receiver<bool>,
    ticks: Interval,
    began: Instant,
    sent: Option<Sections>,
    _place: OwnedSemaphorePermit,
}

/// What is sent of one section.
#[derive(Serialize)]
struct Event<'a> {
    id: &'a str,
    html: &'a str,
}

/// Begins a stream.
pub(super) async fn live(window: Data<Window>) -> HttpResponse {
    let window = window.into_inner();
    let Ok(place) = window.streams.places.clone().try_acquire_owned() else {
        return HttpResponse::ServiceUnavailable()
            .insert_header((header::RETRY_AFTER, "30"))
            .content_type("text/plain; charset=utf-8")
            .body("too many pages are open\n");
    };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let closing = window.streams.closing.subscribe();
    let stream = Stream { window, closing, ticks, began: Instant::now(), sent: None, _place: place };
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .streaming(stream::unfold(stream, |mut stream| async move {
            let bytes = stream.next().await?;
            Some((Ok::<_, std::io::Error>(bytes), stream))
        }))
}

impl Stream {
    /// Waits for the next change; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                biased;
                _closed = self.closing.wait_for(|closing| *closing) => return None,
                _now = self.ticks.tick() => {}
            }
            if self.began.elapsed() > LIFETIME {
                return None;
            }
            let sections = self.window.clone().latest().await;
            let text = changes(self.sent.as_ref(), &sections);
            let text = if self.sent.is_none() { RETRY.to_owned() + &text } else { text };
            self.sent = Some(sections);
            if !text.is_empty() {
                return Some(text.into());
            }
        }
    }
}

impl Window {
    /// The sections now, or as another one saw them a moment ago.
    async fn latest(self: Arc<Self>) -> Sections {
        let mut latest = self.streams.latest.lock().await;
        if let Some((_, sections)) = latest.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return sections.clone();
        }
        let report = self.clone().look().await;
        let sections = page::sections(&report).into_iter().map(|section| (section.id, section.html.into_string()));
        let sections: Sections = sections.collect();
        *latest = Some((Instant::now(), sections.clone()));
        sections
    }
}

/// Events for the sections that are not as they were.
fn changes(before: Option<&Sections>, now: &Sections) -> String {
    let is_new = |section: &&(&'static str, String)| before.is_none_or(|before| !before.contains(section));
    let event = |(id, html): &(&'static str, String)| {
        let data = serde_json::to_string(&Event { id, html }).expect("strings are JSON");
        // JSON has no line ends, so that no text can end the event and begin one of its own.
        format!("event: section\ndata: {data}\n\n")
    };
    now.iter().filter(is_new).map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_sent_and_no_text_can_forge_an_event() {
        let hostile = "a\n\nevent: section\ndata: {}\r\n\r\u{2028}";
        let before: Sections = [("one", "a".to_owned()), ("two", "b".to_owned())].into();
        let now: Sections = [("one", "a".to_owned()), ("two", hostile.to_owned())].into();
        assert_eq!(changes(Some(&now), &now), "");
        let events = changes(Some(&before), &now);
        let lines: Vec<_> = events.split('\n').collect();
        assert!(lines.len() == 4 && lines[0] == "event: section" && !events.contains('\r'), "{events:?}");
        let data: serde_json::Value = serde_json::from_str(lines[1].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&data["id"], &data["html"]), (&"two".into(), &hostile.into()));
        assert_eq!(changes(None, &now).matches("event: section\n").count(), 2);
    }
}
