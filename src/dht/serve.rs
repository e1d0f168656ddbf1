//! What is answered to others: nodes near a target, holders, claims, items, and whether something is stored.

use std::{net::SocketAddr, time::Duration};

use rand::{SeedableRng, rngs::StdRng};

use super::{
    contact::{Contact, Family, is_believable},
    id::Id,
    limits::Askers,
    message::{Answer, Asked, Query, Refusal, write_error, write_reply},
    realm::Realm,
    storage::{Full, Storage},
    table::Table,
    tokens::Tokens,
};

/// Most holders in one reply.
const MAX_PEERS: usize = 50;

/// Answers questions.
pub struct Server {
    realm: Realm,
    own: Id,
    storage: Storage,
    tokens: Tokens,
    askers: Askers,
    rng: StdRng,
}

/// A question's envelope.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// Where it came from.
    pub from: SocketAddr,
    /// What the reply echoes.
    pub transaction: &'a [u8],
    /// Its length in bytes, which bounds that of the reply.
    pub len: usize,
}

impl Server {
    /// Has nothing stored.
    pub fn new(realm: Realm, own: Id, seed: u64, now: Duration) -> Self {
        Self {
            realm,
            own,
            storage: Storage::new(own),
            tokens: Tokens::new(seed, now),
            askers: Askers::new(seed.rotate_left(32), now),
            rng: StdRng::seed_from_u64(!seed),
        }
    }

    /// What is stored.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Lets go of what has ended.
    pub fn sweep(&mut self, now: Duration) {
        self.storage.sweep(now);
        self.askers.sweep(now);
    }

    /// Whether a question from there is within its budget.
    pub fn admits(&mut self, from: &SocketAddr, now: Duration) -> bool {
        self.askers.admits(from.ip(), now)
    }

    /// Answers a question. `None`: nothing may be sent.
    pub fn handle_query(
        &mut self,
        asked: &Asked<'_>,
        envelope: Envelope<'_>,
        tables: &[Table; 2],
        now: Duration,
    ) -> Option<Vec<u8>> {
        let Envelope { from, transaction, len } = envelope;
        match self.obey(&asked.query, from, now) {
            Ok(token) => {
                let (contacts, peers) = (self.contacts(asked, from, tables), self.peers(&asked.query, from, now));
                let claims = match &asked.query {
                    Query::GetPeers { key } => self.storage.claims(key, now),
                    _ => Vec::new(),
                };
                let value = match &asked.query {
                    Query::Get { target } => self.storage.item(target, now),
                    _ => None,
                };
                let answer = Answer { token, value, contacts, claims, peers };
                let reply = write_reply(&self.realm, transaction, &self.own, &from, answer, len)?;
                self.askers.affords(reply.len(), now).then_some(reply)
            }
            Err(refusal) => self.refuse(refusal, envelope, now),
        }
    }

    /// Answers a question that has not its form.
    pub fn refuse(&mut self, refusal: Refusal, envelope: Envelope<'_>, now: Duration) -> Option<Vec<u8>> {
        let error = write_error(&self.realm, envelope.transaction, &envelope.from, refusal, envelope.len)?;
        self.askers.affords(error.len(), now).then_some(error)
    }

    /// Stores what is to be stored, and gives out tokens for what could be.
    fn obey(&mut self, query: &Query<'_>, from: SocketAddr, now: Duration) -> Result<Option<[u8; 8]>, Refusal> {
        let ip = from.ip();
        match query {
            Query::Ping | Query::FindNode { .. } => Ok(None),
            Query::GetPeers { key } => Ok(Some(self.tokens.issue(ip, key, now))),
            Query::Get { target } => Ok(Some(self.tokens.issue(ip, target, now))),
            Query::AnnouncePeer { key, port, token, claim } => {
                if !self.tokens.accepts(token, ip, key, now) {
                    return Err(Refusal::Token);
                }
                let holder = SocketAddr::new(ip, port.unwrap_or(from.port()));
                self.storage.announce(key, holder, *claim, now).map_err(|Full| Refusal::Full)?;
                Ok(None)
            }
            Query::Put { token, value } => {
                if !self.tokens.accepts(token, ip, &Id::of_item(value), now) {
                    return Err(Refusal::Token);
                }
                self.storage.put(value, from, now).map_err(|Full| Refusal::Full)?;
                Ok(None)
            }
        }
    }

    /// Holders of the family that asks.
    fn peers(&mut self, query: &Query<'_>, from: SocketAddr, now: Duration) -> Vec<SocketAddr> {
        let Query::GetPeers { key } = query else { return Vec::new() };
        let (family, private) = (Family::of(&from), self.realm.is_private());
        let may_tell = |peer: &SocketAddr| Family::of(peer) == family && is_believable(peer, from.ip(), private);
        self.storage.holders(key, MAX_PEERS, now, &mut self.rng, may_tell)
    }

    fn contacts(&self, asked: &Asked<'_>, from: SocketAddr, tables: &[Table; 2]) -> [Vec<Contact>; 2] {
        let target = match asked.query {
            Query::FindNode { target } | Query::Get { target } => target,
            Query::GetPeers { key } => key,
            Query::Ping | Query::AnnouncePeer { .. } | Query::Put { .. } => return Default::default(),
        };
        Family::BOTH.map(|family| {
            let wanted = asked.want[family.index()] || (asked.want == [false; 2] && family == Family::of(&from));
            if !wanted {
                return Vec::new();
            }
            tables[family.index()].nearest_lively(&target, |contact| {
                contact.id != asked.sender && is_believable(&contact.addr, from.ip(), self.realm.is_private())
            })
        })
    }
}
