//! Probes of a node: those that are walks go as jobs, single questions at once.

use std::{net::SocketAddr, time::Duration};

use crate::dht::{
    contact::{Contact, plain},
    flights::Flight,
    message::Reply,
    probe::{Answered, Heard, Probe, Probing, Way},
    terms::Priority,
};

use super::{Event, JobId, Node, Output, Purpose, jobs::Work};

impl Node {
    /// Begins a probe. It ends with [`Event::Ended`], which counts the nodes that answered a single question, or that
    /// stored.
    pub fn probe(&mut self, probe: Probe, now: Duration) -> JobId {
        match probe.way() {
            Way::Walk(target, _) => self.enter_job(target, Priority::Urgent, Work::Probe(Probing::new(probe)), now),
            Way::Question(to, query) => {
                let id = self.next_job();
                if !self.ask(plain(to), None, &query, 0, Purpose::Probe(id), now) {
                    self.outputs.push_back(Output::Event(Event::Ended(id, 0)));
                }
                id
            }
        }
    }

    /// The node that a single question went to answered.
    pub(super) fn handle_probe_reply(
        &mut self,
        id: JobId,
        flight: &Flight<Purpose>,
        rtt: Duration,
        reply: &Reply<'_>,
        named: Vec<Contact>,
    ) {
        let node = Heard::Node(Answered::of(flight.to, rtt, reply));
        let named = (!named.is_empty()).then_some(Heard::Named(named));
        let heard = [node].into_iter().chain(named).map(|heard| Output::Event(Event::Heard(id, heard)));
        self.outputs.extend(heard);
        self.outputs.push_back(Output::Event(Event::Ended(id, 1)));
    }

    /// It did not.
    pub(super) fn handle_probe_failure(&mut self, id: JobId) {
        self.outputs.push_back(Output::Event(Event::Ended(id, 0)));
    }

    /// A node on the way of a probe's walk answered. `None` when the walk is of another job.
    pub(super) fn handle_probed(
        &mut self,
        id: JobId,
        from: SocketAddr,
        rtt: Duration,
        peers: &[SocketAddr],
        reply: &Reply<'_>,
    ) -> Option<bool> {
        let Work::Probe(probing) = &mut self.jobs.get_mut(&id)?.work else { return None };
        let (heard, is_done) = probing.handle_reply(Answered::of(from, rtt, reply), peers, reply);
        self.outputs.extend(heard.into_iter().map(|heard| Output::Event(Event::Heard(id, heard))));
        Some(is_done)
    }
}
