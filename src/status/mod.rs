//! The window: what the daemon does, for people and programs.
//!
//! ```text
//!  /                      the page                            /api/v1/status            the same as JSON
//!  /live                  its sections as they change         /api/v1/peers             the peers alone
//!  /why?q=..., /why/...   on what a file's hash hangs         /api/v1/why?q=...         the same as JSON
//!  /metrics               figures for Prometheus              /api/v1/lookup?q=SHA256   who has a file
//!  /healthz               that the daemon answers             /api/v1/openapi.json      all of these, described
//! ```
//!
//! All are made anew from the stations' snapshots each time they are asked for. The types of the answers are read by the
//! command line too.

pub mod api;
pub mod keeping;
mod live;
mod look;
pub mod lookup;
mod metrics;
mod page;
pub mod reasons;
pub mod report;
mod routes;
mod traffic;
pub mod why;
pub mod words;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use actix_web::web::{Data, ServiceConfig};

use crate::{archive::Privacy, dht::Dht, fetch::Fetcher, flow::Flow, mirror::Mirror, peer::Pool, store::Store, upload};

use routes::Turns;

pub use live::Streams;
pub use report::Report;
pub use traffic::Account;

/// The stations that are looked at.
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
    /// What was written down of the traffic.
    pub account: Account,
    /// Who looks on.
    pub streams: Streams,
}

impl Window {
    /// Adds the pages to a server.
    pub fn pages(self: Arc<Self>) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
        let turns = Data::new(Turns::default());
        move |config| {
            config.app_data(Data::from(self.clone())).app_data(turns.clone());
            routes::add(config);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "whether a suite is still valid")]
    /// Answers one of the questions that may go through the whole catalogue.
    async fn explain(self: Arc<Self>, text: String, turns: &Turns) -> Result<why::Answer, why::NoAnswer> {
        let _turn = turns.0.acquire().await.expect("never closed");
        let explain = move || why::Answer::of(&self, &text, SystemTime::now());
        tokio::task::spawn_blocking(explain).await.expect("an answer does not panic")
    }

    #[expect(clippy::disallowed_methods, reason = "uptime, and the age of what is shown")]
    async fn look(self: Arc<Self>) -> Report {
        let look = move || Report::of(&self, Instant::now(), SystemTime::now());
        tokio::task::spawn_blocking(look).await.expect("a report does not panic")
    }
}
