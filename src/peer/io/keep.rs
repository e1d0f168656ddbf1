//! The file that the standings of peers are kept in: read at the start, written whole and put in place by a rename.

use std::{
    io,
    path::Path,
    time::{Instant, SystemTime},
};

use crate::peer::standing::{Standings, saved::MAX_LEN};

use super::Pool;

impl Pool {
    /// Takes up what was saved of peers in an earlier run. A file that is missing, too long or not understood teaches nothing.
    pub async fn load(&self, file: &Path) {
        let bytes = match tokio::fs::metadata(file).await {
            Ok(meta) if meta.len() <= MAX_LEN as u64 => tokio::fs::read(file).await,
            Ok(_) => Err(io::ErrorKind::FileTooLarge.into()),
            Err(error) => Err(error),
        };
        let standings = match bytes {
            Ok(bytes) => Standings::restore(&bytes, Instant::now(), SystemTime::now()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) => None,
        };
        match standings {
            Some(standings) => self.shared.lock().standings = standings,
            None => tracing::warn!(file = %file.display(), "what was known of peers is not understood and forgotten"),
        }
    }

    /// Saves what is known of peers.
    pub async fn save(&self, file: &Path) {
        let bytes = self.shared.lock().standings.saved(Instant::now(), SystemTime::now());
        let fresh = file.with_extension("new");
        let written = async {
            tokio::fs::write(&fresh, bytes).await?;
            tokio::fs::rename(&fresh, file).await
        };
        if let Err(error) = written.await {
            tracing::warn!(file = %file.display(), %error, "what is known of peers is not saved");
        }
    }
}
