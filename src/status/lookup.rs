//! Who has a file: `GET /api/v1/lookup?q=SHA256`.
//!
//! **Security.** A lookup tells strangers that somebody here wants the file. So it is only made for what apt could ask
//! for as well: a file that a public archive vouches for.

use std::{
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;
use utoipa::ToSchema;

use crate::{dht::Found, hash::ContentHash, store::StoreError};

use super::Window;

/// How long it may take in all.
const DEADLINE: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = LookupAnswer)]
pub struct Answer {
    /// The file.
    pub sha256: String,
    /// Why nobody was asked, if so.
    pub not_asked: Option<NotAsked>,
    /// Where peers serve it, as they say, first found first.
    #[schema(value_type = Vec<String>)]
    pub holders: Vec<SocketAddr>,
    /// Claims of its piece hashes that fit its size.
    pub chains: usize,
    /// Milliseconds to the first of either.
    pub first_ms: Option<f64>,
    /// Milliseconds to the end.
    pub took_ms: f64,
}

/// Why a file is not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotAsked {
    /// No archive's signature covers it, as far as is known.
    Unknown,
    /// It is nobody else's business.
    Private,
    /// There is no network.
    Off,
}

impl fmt::Display for NotAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no archive that is known here vouches for it",
            Self::Private => "its archive is private, so that nobody is asked",
            Self::Off => "the network is off",
        })
    }
}

impl Answer {
    /// Asks, and waits for the end.
    #[expect(clippy::disallowed_methods, reason = "the time that it takes")]
    pub async fn of(window: &Window, hash: ContentHash) -> Result<Self, StoreError> {
        let begun = Instant::now();
        let mut answer = Self {
            sha256: hash.to_string(),
            not_asked: None,
            holders: Vec::new(),
            chains: 0,
            first_ms: None,
            took_ms: 0.0,
        };
        let store = window.store.clone();
        let known =
            tokio::task::spawn_blocking(move || store.by_hash(hash)).await.expect("the store does not panic")?;
        let allowed = |vouched: &&crate::archive::Vouched| window.privacy.allows(vouched.repository());
        let file = known.iter().filter(allowed).find_map(crate::archive::Vouched::shareable);
        let file = match (file, &window.dht) {
            (_, None) => return Ok(Self { not_asked: Some(NotAsked::Off), ..answer }),
            (Some(file), Some(_)) => file,
            (None, _) if known.is_empty() => return Ok(Self { not_asked: Some(NotAsked::Unknown), ..answer }),
            (None, _) => return Ok(Self { not_asked: Some(NotAsked::Private), ..answer }),
        };
        let Some(mut found) = window.flow.search(file, true) else { return Ok(answer) };
        let deadline = (begun + DEADLINE).into();
        while let Ok(Some(found)) = timeout_at(deadline, found.recv()).await {
            answer.first_ms.get_or_insert_with(|| begun.elapsed().as_secs_f64() * 1000.0);
            match found {
                Found::Holder(holder) => answer.holders.push(holder),
                Found::Chain(_) => answer.chains += 1,
            }
        }
        answer.took_ms = begun.elapsed().as_secs_f64() * 1000.0;
        Ok(answer)
    }
}
