//! The window: what the daemon does, for people and programs.
//!
//! `/` is the page, `/api/v1/status` the same as JSON, `/why?q=...` and `/api/v1/why?q=...` say on what a file's hash
//! hangs, `/api/v1/lookup?q=SHA256` who has a file, `/healthz` that the daemon answers. All are made anew from the stations' snapshots each time they are asked
//! for. The types of the answers are read by the command line too.

pub mod keeping;
pub mod lookup;
mod page;
pub mod report;
pub mod why;
pub mod words;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use actix_web::{
    HttpRequest, HttpResponse,
    guard::{self, GuardContext},
    http::{StatusCode, header},
    web::{self, Data, ServiceConfig},
};

use maud::Markup;
use tokio::sync::Semaphore;

use crate::{archive::Privacy, dht::Dht, fetch::Fetcher, flow::Flow, mirror::Mirror, peer::Pool, store::Store, upload};

pub use report::Report;

/// What the page may load and do: nothing but its own style, and the questions that it asks of this daemon.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// How the daemon names itself to those who ask whether it is well.
const SERVER: &str = concat!("apt-huddle/", env!("CARGO_PKG_VERSION"));
/// Questions that may go through the catalogue at once; further ones wait for their turn.
const QUESTIONS: usize = 1;

/// Who may go through the catalogue now.
struct Turns(Semaphore);

/// The stations that are looked at.
#[derive(Clone)]
pub struct Window {
    /// The path.
    pub flow: Flow,
    /// Downloads.
    pub fetcher: Fetcher,
    /// Peers.
    pub pool: Pool,
    /// Mirrors.
    pub mirror: Mirror,
    /// The DHT, when there is one.
    pub dht: Option<Dht>,
    /// What is kept.
    pub store: Store,
    /// What is never shared.
    pub privacy: Privacy,
    /// What is given, when anything is.
    pub upload: Option<upload::Meter>,
    /// Where apt is served.
    pub listen: Vec<SocketAddr>,
    /// Where peers are served, and the DHT is spoken.
    pub peer_listen: Vec<SocketAddr>,
    /// When the daemon started.
    pub started: Instant,
}

impl Window {
    /// Adds the pages to a server.
    pub fn pages(self: Arc<Self>) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
        let turns = Data::new(Turns(Semaphore::new(QUESTIONS)));
        move |config| {
            let route = |handler: actix_web::Route| handler.guard(guard::fn_guard(names_this_host));
            config
                .app_data(Data::from(self.clone()))
                .app_data(turns.clone())
                .route("/", route(web::get().to(page)))
                .route("/why", route(web::get().to(why_page)))
                .route("/api/v1/status", route(web::get().to(status)))
                .route("/api/v1/why", route(web::get().to(why)))
                .route("/api/v1/lookup", route(web::get().to(lookup)))
                .configure(keeping::pages)
                .route("/healthz", web::get().to(healthz));
        }
    }

    /// Answers one of the questions that may go through the whole catalogue.
    async fn explain(self: Arc<Self>, text: String, turns: &Turns) -> Result<why::Answer, why::NoAnswer> {
        let _turn = turns.0.acquire().await.expect("never closed");
        let explain = move || why::Answer::of(&self, &text);
        tokio::task::spawn_blocking(explain).await.expect("an answer does not panic")
    }

    #[expect(clippy::disallowed_methods, reason = "uptime, and the age of what is shown")]
    async fn look(self: Arc<Self>) -> Report {
        let look = move || Report::of(&self, Instant::now(), SystemTime::now());
        tokio::task::spawn_blocking(look).await.expect("a report does not panic")
    }
}

/// A page of another site, resolved to this host by a trick of its DNS, must not read this one: only addresses and
/// `localhost` are taken for a name of it.
fn names_this_host(context: &GuardContext<'_>) -> bool {
    let host = context.head().headers().get(header::HOST);
    is_this_host(host.and_then(|host| host.to_str().ok()).unwrap_or_default())
}

/// Whether a `Host` is an address or `localhost`.
fn is_this_host(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

async fn page(window: Data<Window>) -> HttpResponse {
    let report = window.into_inner().look().await;
    html(StatusCode::OK, page::render(&report))
}

async fn why_page(request: HttpRequest, window: Data<Window>, turns: Data<Turns>) -> HttpResponse {
    let Some(text) = asked(&request).filter(|text| !text.trim().is_empty()) else {
        return html(StatusCode::OK, why::page::render("", None));
    };
    let answer = window.into_inner().explain(text.clone(), &turns).await;
    let status = answer.as_ref().map_or_else(why::NoAnswer::status, |_| StatusCode::OK);
    html(status, why::page::render(&text, Some(&answer)))
}

async fn status(window: Data<Window>) -> HttpResponse {
    let report = window.into_inner().look().await;
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(report)
}

async fn why(request: HttpRequest, window: Data<Window>, turns: Data<Turns>) -> HttpResponse {
    let text = asked(&request).unwrap_or_default();
    match window.into_inner().explain(text, &turns).await {
        Ok(answer) => HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(answer),
        Err(error) => HttpResponse::build(error.status())
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .json(why::Trouble { error: error.to_string() }),
    }
}

async fn lookup(request: HttpRequest, window: Data<Window>, turns: Data<Turns>) -> HttpResponse {
    let trouble = |status: StatusCode, error: String| {
        let mut answer = HttpResponse::build(status);
        answer.insert_header((header::CACHE_CONTROL, "no-store")).json(why::Trouble { error })
    };
    let Some(hash) = asked(&request).and_then(|text| text.trim().parse().ok()) else {
        return trouble(StatusCode::BAD_REQUEST, "expected the 64 hexadecimal digits of a SHA-256".to_owned());
    };
    let _turn = turns.0.acquire().await.expect("never closed");
    match lookup::Answer::of(&window, hash).await {
        Ok(answer) => HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(answer),
        Err(error) => trouble(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// The value of `q` in the query.
fn asked(request: &HttpRequest) -> Option<String> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string()).ok()?.into_inner();
    pairs.into_iter().find(|(name, _)| name == "q").map(|(_, value)| value)
}

fn html(status: StatusCode, markup: Markup) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(markup.into_string())
}

/// Says that this is apt-huddle too: what asks before apt is led here must not take another program for it.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::SERVER, SERVER)).body("ok\n")
}
