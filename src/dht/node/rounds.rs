//! Rounds of a node: files announced together.

use std::{net::SocketAddr, time::Duration};

use crate::dht::{
    id::Id,
    message::{Query, Reply},
    round::{Round, Step},
    shelf::Record,
    table::Table,
    terms::Priority,
    walk::Goal,
};

use super::{
    JobId, Node, Purpose,
    jobs::{JOB_DEADLINE, Job, Work},
};

impl Node {
    /// Begins to announce this node as a holder of several files and shelves, that serves peers at a TCP port of its address. Those whose
    /// keys are near each other are told of in the same datagrams. [`super::Event::Told`] says what came of it.
    pub fn publish_many(&mut self, records: &[Record], port: u16, now: Duration) -> JobId {
        self.announced_port = Some(port);
        let mut items = Vec::new();
        let mut entries = Vec::new();
        for record in records {
            let publication = record.publication();
            entries.push((record.key(&self.realm), publication.claim));
            items.extend(publication.items);
        }
        let key = entries.first().map_or(self.own, |(key, _)| *key);
        self.enter_job(key, Priority::Background, Work::Round { round: Round::new(entries), port, items }, now)
    }

    /// Lets a round go on as far as it can.
    pub(super) fn advance_round(&mut self, id: JobId, now: Duration) {
        loop {
            let reach = self.tables.iter().filter_map(Table::expected_reach).max();
            let Some(Job { work: Work::Round { round, port, .. }, until, .. }) = self.jobs.get_mut(&id) else { return };
            let port = *port;
            // Each stretch of a long round has its time.
            *until = now + JOB_DEADLINE;
            match round.next(&mut self.neighbourhoods, reach) {
                Step::Walk(key) => {
                    // It goes on when the walk has ended, which may be at once.
                    return self.begin(key, Goal::Near, Some(id), now);
                }
                Step::AskToken(to) => {
                    let query = Query::AnnounceMany { port, held: None };
                    self.ask_in_round(id, to.addr, to.id, &query, now);
                }
                Step::Tell { to, token, held } => {
                    let query = Query::AnnounceMany { port, held: Some((&held, &token)) };
                    self.ask_in_round(id, to.addr, to.id, &query, now);
                }
                Step::Wait => return,
                Step::Done => return self.close_one(id, now),
            }
        }
    }

    fn ask_in_round(&mut self, id: JobId, to: SocketAddr, node: Id, query: &Query<'_>, now: Duration) {
        let is_asked = self.may_tell(&to) && self.ask(to, Some(node), query, 0, Purpose::Round(id), now);
        if !is_asked && let Some(round) = self.round(id) {
            round.handle_failure(&to);
        }
    }

    /// A node was told, or gave a token.
    pub(super) fn handle_round_reply(&mut self, id: JobId, from: SocketAddr, reply: &Reply<'_>, now: Duration) {
        if let Some(round) = self.round(id) {
            round.handle_reply(&from, reply.token, reply.kept);
            self.advance_round(id, now);
        }
    }

    /// A node did not answer, or refused.
    pub(super) fn handle_round_failure(&mut self, id: JobId, from: SocketAddr, now: Duration) {
        if let Some(round) = self.round(id) {
            round.handle_failure(&from);
            self.advance_round(id, now);
        }
    }

    fn round(&mut self, id: JobId) -> Option<&mut Round> {
        match &mut self.jobs.get_mut(&id)?.work {
            Work::Round { round, .. } => Some(round),
            _ => None,
        }
    }
}
