//! What is answered to others: nodes near a target, holders, claims, items, and whether something is stored.

use std::{net::SocketAddr, time::Duration};

use rand::{SeedableRng, rngs::StdRng};

use super::{
    allowance::{self, Allowance},
    contact::{Contact, Family, is_believable},
    id::Id,
    limits::Askers,
    message::{About, Answer, Asked, Held, Query, Refusal, Stamp, kept_bits, write_error, write_reply},
    reach::Dial,
    realm::Realm,
    signed::{NotKept, SignedItems},
    storage::{Full, MAINLINE_TTL, Storage, TTL},
    table::Table,
    tokens::{self, Secret, Tokens},
};

/// Most holders in one reply.
const MAX_PEERS: usize = 50;

/// Answers questions.
pub struct Server {
    realm: Realm,
    own: Id,
    storage: Storage,
    signed: SignedItems,
    tokens: Tokens,
    /// For any key, see [`Query::AnnounceMany`].
    hourly: Tokens,
    askers: Askers,
    allowance: Allowance,
    began: Duration,
    is_open: Option<bool>,
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
    /// Has nothing stored. The secret is that of its tokens.
    pub fn new(realm: Realm, own: Id, secret: &Secret, seed: u64, now: Duration) -> Self {
        Self {
            allowance: Allowance::new(
                if realm.is_mainline() { allowance::MAINLINE } else { allowance::OWN },
                seed.rotate_left(16),
                now,
            ),
            storage: Storage::new(own, if realm.is_mainline() { MAINLINE_TTL } else { TTL }),
            began: now,
            is_open: None,
            realm,
            own,
            signed: SignedItems::new(own),
            tokens: Tokens::new(tokens::ROTATION, secret.clone(), now),
            hourly: Tokens::new(tokens::HOURLY_ROTATION, secret.clone(), now),
            askers: Askers::new(seed.rotate_left(32)),
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
        self.signed.sweep(now);
        self.askers.sweep(now);
        self.allowance.sweep(now);
    }

    /// Keys, items and mutable items stored for others.
    pub fn stored(&self) -> usize {
        self.storage.stored() + self.signed.len()
    }

    /// The own id is another one from now on.
    pub fn rename(&mut self, own: Id) {
        self.own = own;
        self.storage.rename(own);
        self.signed.rename(own);
    }

    /// Others can connect to the own port, or cannot.
    pub fn set_open(&mut self, is_open: bool) {
        self.is_open = Some(is_open);
    }

    /// Whether a token for that key was given out to that address of late.
    pub fn accepts(&mut self, token: &[u8], from: SocketAddr, key: &Id, now: Duration) -> bool {
        self.tokens.accepts(token, from.ip(), key, now)
    }

    /// Says to who asked for it how the connection went.
    pub fn tell_dial(&mut self, dial: Dial, envelope: Envelope<'_>, now: Duration) -> Option<Vec<u8>> {
        let answer = Answer { dial: Some(dial), ..Answer::default() };
        let Envelope { from, transaction, len } = envelope;
        let reply = write_reply(&self.realm, transaction, &self.own, &from, answer, len)?;
        self.may_send(&reply, from, now).then_some(reply)
    }

    fn may_send(&mut self, reply: &[u8], to: SocketAddr, now: Duration) -> bool {
        self.allowance.takes(to.ip(), reply.len(), now)
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
        if let Query::AnnounceMany { port, held } = asked.query {
            return match self.announce_many(port, held, from, now) {
                Ok(answer) => {
                    let reply = write_reply(&self.realm, transaction, &self.own, &from, answer, len)?;
                    self.may_send(&reply, from, now).then_some(reply)
                }
                Err(refusal) => self.refuse(refusal, envelope, now),
            };
        }
        match self.obey(asked, from, now) {
            Ok(token) => {
                let (contacts, peers) = (self.contacts(asked, from, tables), self.peers(&asked.query, from, now));
                let claims = match &asked.query {
                    Query::GetPeers { key } => self.storage.claims(key, now),
                    _ => Vec::new(),
                };
                let (value, stamp) = self.item(asked, now);
                let about = self.about(&asked.query, now);
                let has_item = value.is_some();
                let mut answer = Answer { token, value, stamp, about, contacts, claims, peers, ..Answer::default() };
                answer.has_item = has_item;
                let reply = write_reply(&self.realm, transaction, &self.own, &from, answer, len)?;
                self.may_send(&reply, from, now).then_some(reply)
            }
            Err(refusal) => self.refuse(refusal, envelope, now),
        }
    }

    /// Answers a question that has not its form.
    pub fn refuse(&mut self, refusal: Refusal, envelope: Envelope<'_>, now: Duration) -> Option<Vec<u8>> {
        let error = write_error(&self.realm, envelope.transaction, &envelope.from, refusal, envelope.len)?;
        self.may_send(&error, envelope.from, now).then_some(error)
    }

    /// The item that is asked for; of a mutable one that who asks has already, no more than its number.
    fn item(&self, asked: &Asked<'_>, now: Duration) -> (Option<&[u8]>, Option<Stamp<'_>>) {
        let Query::Get { target } = &asked.query else { return (None, None) };
        match (self.storage.item(target, now), self.signed.item(target, now)) {
            (Some(value), _) => (Some(value), None),
            (None, Some(item)) if asked.has.is_none_or(|seq| seq < item.seq) => {
                let proof = Some((item.key, item.signature));
                (Some(item.value), Some(Stamp { seq: item.seq, proof }))
            }
            (None, Some(item)) => (None, Some(Stamp { seq: item.seq, proof: None })),
            (None, None) => (None, None),
        }
    }

    /// What is said of oneself to who asks for nothing else; on Mainline nobody would understand it.
    fn about(&self, query: &Query<'_>, now: Duration) -> About {
        if *query != Query::Ping || self.realm.is_mainline() {
            return About::default();
        }
        let minutes = now.saturating_sub(self.began).as_secs() / 60;
        About { up_minutes: u32::try_from(minutes).ok(), is_open: self.is_open }
    }

    /// Stores as much as there is room for. Each key counts as a question; the token is for all of them.
    fn announce_many(
        &mut self,
        port: u16,
        held: Option<(&[u8], &[u8])>,
        from: SocketAddr,
        now: Duration,
    ) -> Result<Answer<'static>, Refusal> {
        if self.realm.is_mainline() {
            return Err(Refusal::Method);
        }
        let mut kept = Vec::new();
        if let Some((held, token)) = held {
            if !self.hourly.accepts_for_all(token, from.ip(), now) {
                return Err(Refusal::Token);
            }
            // The datagram itself was counted when it came.
            if !self.askers.takes(from.ip(), Held(held).count().saturating_sub(1), now) {
                return Err(Refusal::Full);
            }
            let holder = SocketAddr::new(from.ip(), port);
            kept.extend(Held(held).map(|(key, claim)| self.storage.announce(&key, holder, claim, now).is_ok()));
        }
        let token = Some(self.hourly.issue_for_all(from.ip(), now));
        Ok(Answer { token, kept: kept_bits(&kept), ..Answer::default() })
    }

    /// Stores what is to be stored, and gives out tokens for what could be.
    fn obey(&mut self, asked: &Asked<'_>, from: SocketAddr, now: Duration) -> Result<Option<[u8; 8]>, Refusal> {
        let (ip, sender) = (from.ip(), &asked.sender);
        match &asked.query {
            Query::Ping | Query::FindNode { .. } => Ok(None),
            // Mainline has no such method. With a token the node itself sees to it.
            Query::AnnounceMany { .. } => Err(Refusal::Method),
            Query::DialBack { .. } if self.realm.is_mainline() => Err(Refusal::Method),
            Query::DialBack { .. } => Ok(Some(self.tokens.issue(ip, sender, now))),
            Query::PutSigned { token, item, cas } => {
                if !self.tokens.accepts(token, ip, &item.target(), now) {
                    return Err(Refusal::Token);
                }
                if !item.is_genuine() {
                    return Err(Refusal::Signature);
                }
                self.signed.put(item, *cas, from, now).map_err(|not| match not {
                    NotKept::Full => Refusal::Full,
                    NotKept::Cas => Refusal::Cas,
                    NotKept::Old => Refusal::Old,
                })?;
                Ok(None)
            }
            Query::GetPeers { key } => Ok(Some(self.tokens.issue(ip, key, now))),
            Query::Get { target } => {
                self.storage.handle_wanted(target, now);
                Ok(Some(self.tokens.issue(ip, target, now)))
            }
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
            Query::Ping
            | Query::AnnouncePeer { .. }
            | Query::Put { .. }
            | Query::PutSigned { .. }
            | Query::AnnounceMany { .. }
            | Query::DialBack { .. } => return Default::default(),
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
