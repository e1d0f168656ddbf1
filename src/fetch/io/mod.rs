//! The door of fetch: drives the machines with real bytes, and lets readers have them.

pub(super) mod doubts;
mod flight;
pub(super) mod growing;
pub(super) mod live;
mod stream;
pub(super) mod tally;
#[cfg(test)]
mod tests;

use futures_util::{StreamExt, stream::BoxStream};
use tokio::sync::watch;

use crate::{hash::Verified, store::Partial};

use super::{Holder, Lead, Origin};

use doubts::Unproven;
use flight::Flight;
use growing::{Failure, Progress};
use tally::{Outcome, Report};

/// Brings one file, keeps it and reports.
pub(super) async fn fly(lead: Lead, origin: Option<Origin>, holders: BoxStream<'static, Holder>) {
    let expected = *lead.vouched.expected();
    let store = lead.shared.store.clone();
    let begin = move || store.begin(expected).map(|partial| (partial.earlier(), partial));
    let begun = tokio::task::spawn_blocking(begin).await.expect("begin does not panic");
    let (earlier, mut partial) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            tracing::warn!(file = lead.vouched.path(), %error, "not kept");
            return finish(&lead.progress, Err(Failure::Store(error.to_string())));
        }
    };
    lead.progress.send_modify(|progress| progress.file = Some(partial.file()));
    let holders = if lead.vouched.shareable().is_some() { holders } else { futures_util::stream::empty().boxed() };
    lead.live.begin();
    let mut flight = Flight::new(&lead, &partial, origin);
    flight.go_on(earlier);
    let result = flight.run(holders).await;
    let report = flight.report(result.as_ref().map(|_| ()).map_err(Clone::clone));
    let holders = flight.holders();
    let unproven = flight.into_unproven();
    holders.into_iter().for_each(|holders| partial.set_holders(holders));
    log(&report);
    lead.shared.tally.add_report(report);
    match result {
        Ok(verified) => keep(lead, partial, verified, unproven).await,
        Err(failure) => {
            // What was proven of a file that nobody has any more, or that is not what it was promised to be, helps nobody.
            if matches!(failure, Failure::Mismatch | Failure::WrongSize { .. }) {
                partial.discard();
            }
            finish(&lead.progress, Err(failure));
        }
    }
}

/// Lets readers have the rest, then puts the file into the store. Until it is there, others still follow this flight.
async fn keep(lead: Lead, mut partial: Partial, verified: Verified, unproven: Option<Unproven>) {
    finish(&lead.progress, Ok(()));
    partial.set_modified(lead.progress.borrow().last_modified.clone());
    let (store, vouched) = (lead.shared.store.clone(), lead.vouched.clone());
    let kept = tokio::task::spawn_blocking(move || {
        // Before it can be asked for in parts.
        unproven.into_iter().for_each(|unproven| unproven.settle(true));
        store.commit(partial, verified, &vouched)
    });
    match kept.await.expect("commit does not panic on a proof of its own partial") {
        Ok(_blob) => lead.progress.send_modify(|progress| progress.kept = true),
        Err(error) => tracing::warn!(file = lead.vouched.path(), %error, "not kept"),
    }
}

fn finish(progress: &watch::Sender<Progress>, outcome: Outcome) {
    progress.send_modify(|progress| progress.outcome = Some(outcome));
}

fn log(report: &Report) {
    let Report { path, from_peers, from_mirror, peers, wasted, took, .. } = report;
    match &report.outcome {
        Ok(()) => tracing::info!(path, from_peers, from_mirror, peers, wasted, ?took, "brought"),
        Err(failure) => tracing::warn!(path, from_peers, from_mirror, peers, wasted, ?took, %failure, "not brought"),
    }
}
