//! What the daemon tells whoever manages it, and is told: signals, and systemd's messages (sd_notify(3)).
//!
//! ```text
//!  SIGINT, SIGTERM   stop: what apt is in the middle of is brought to its end; a second one ends at once
//!  SIGHUP            read the configuration again
//! ```
//!
//! Without a manager nothing is sent. The watchdog is fed only when the door answers a question of health, so that a
//! daemon that hangs is started anew.
#![expect(clippy::disallowed_methods, reason = "the door of the process: signals and time")]

use std::{net::SocketAddr, process, time::Duration};

use anyhow::Result;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{AbortHandle, spawn, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

use crate::cli;

/// Exit code of a stop that was not awaited: as a shell gives for SIGINT.
const IMPATIENT: i32 = 130;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// To end in order.
    Stop,
    /// To read the configuration again.
    Reload,
}

/// Heard from the first moment, so that no signal ends the daemon half-way up.
pub(super) struct Service {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    watchdog: Option<AbortHandle>,
}

impl Service {
    pub(super) fn start() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            watchdog: None,
        })
    }

    /// The next thing that is asked for.
    pub(super) async fn wish(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }

    /// apt is served at these addresses from now on.
    pub(super) fn is_ready(&mut self, door: &[SocketAddr]) {
        tell(&[NotifyState::Ready, NotifyState::Status("serving apt")]);
        if let Some(limit) = sd_notify::watchdog_enabled() {
            self.watchdog = Some(spawn(feed(door.to_vec(), limit / 3)).abort_handle());
        }
    }

    /// The daemon ends for good.
    pub(super) fn stops(&mut self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("finishing what apt is in the middle of")]);
        self.ends();
    }

    /// The daemon ends, to begin anew.
    pub(super) fn reloads(&mut self) {
        let now = NotifyState::monotonic_usec_now().ok();
        let states: Vec<_> = [NotifyState::Reloading].into_iter().chain(now).collect();
        tell(&states);
        self.ends();
    }

    /// Whoever interrupts once more does not wait for the end.
    fn ends(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.abort();
        }
        if let Ok(mut again) = signal(SignalKind::interrupt()) {
            spawn(async move {
                again.recv().await;
                tracing::warn!("stopped at once");
                process::exit(IMPATIENT);
            });
        }
    }
}

/// Tells the manager, if there is one.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// Feeds the watchdog while the door answers.
async fn feed(door: Vec<SocketAddr>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let door = door.clone();
        let asked = spawn_blocking(move || cli::is_healthy(&door));
        if asked.await.unwrap_or(false) {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("the door does not answer");
        }
    }
}
