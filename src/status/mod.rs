//! The window: what the daemon does, for people and programs.
//!
//! `/` is the page, `/api/v1/status` the same as JSON, `/healthz` says that the daemon answers. All are made anew from
//! the stations' snapshots each time they are asked for.

mod page;
mod report;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use actix_web::{
    HttpRequest, HttpResponse,
    guard::{self, GuardContext},
    http::header,
    web::{self, Data, ServiceConfig},
};

use crate::{dht::Dht, fetch::Fetcher, flow::Flow, peer::Pool, store::Store, upload};

pub use report::Report;

/// What the page may load and do: nothing but its own style.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The stations that are looked at.
#[derive(Clone)]
pub struct Window {
    /// The path.
    pub flow: Flow,
    /// Downloads.
    pub fetcher: Fetcher,
    /// Peers.
    pub pool: Pool,
    /// The DHT, when there is one.
    pub dht: Option<Dht>,
    /// What is kept.
    pub store: Store,
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
        move |config| {
            let route = |handler: actix_web::Route| handler.guard(guard::fn_guard(names_this_host));
            config
                .app_data(Data::from(self.clone()))
                .route("/", route(web::get().to(page)))
                .route("/api/v1/status", route(web::get().to(status)))
                .route("/healthz", web::get().to(healthz));
        }
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
    let host = context.head().headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

async fn page(window: Data<Window>) -> HttpResponse {
    let report = window.into_inner().look().await;
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(page::render(&report).into_string())
}

async fn status(window: Data<Window>) -> HttpResponse {
    let report = window.into_inner().look().await;
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(report)
}

async fn healthz(_request: HttpRequest) -> &'static str {
    "ok\n"
}
