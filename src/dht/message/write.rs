//! Writing KRPC: envelopes, queries, replies that fit their room, errors.

use std::net::SocketAddr;

use crate::dht::{
    bencode::{Writer, byte_string, string_len},
    contact::{Contact, Family, write_peer},
    id::Id,
    reach::Dial,
    realm::Realm,
    signed::{KEY_LEN, SIGNATURE_LEN},
    tokens::TOKEN_LEN,
};

use super::{About, MAX_GROWTH, MAX_SENT, Query, Refusal};

/// Who we say we are: top-level `v`.
const VERSION: &[u8] = b"AH\x00\x01";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Its id.
    pub id: Id,
    /// Others cannot ask it, and need not remember it (BEP 43).
    pub read_only: bool,
}

impl From<&Id> for Sender {
    fn from(id: &Id) -> Self {
        Self { id: *id, read_only: false }
    }
}

/// Writes a question. It is filled up to `pad_to` bytes, if it is shorter, as it buys no longer a reply than three times
/// itself.
pub fn write_query(
    realm: &Realm,
    transaction: &[u8],
    sender: impl Into<Sender>,
    query: &Query<'_>,
    want: [bool; 2],
    pad_to: usize,
) -> Vec<u8> {
    let sender = sender.into();
    let plain = query_padded(realm, transaction, sender, query, want, 0);
    if realm.is_mainline() {
        return plain;
    }
    // `1:z` and the length of the padding take some bytes as well.
    match pad_to.checked_sub(plain.len() + 3 + 4) {
        Some(padding @ 1..) => query_padded(realm, transaction, sender, query, want, padding),
        _ => plain,
    }
}

fn query_padded(
    realm: &Realm,
    transaction: &[u8],
    sender: Sender,
    query: &Query<'_>,
    want: [bool; 2],
    padding: usize,
) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.key(b"a").dict();
    if let Query::PutSigned { cas: Some(cas), .. } = query {
        writer.key(b"cas").int(*cas);
    }
    if let Query::AnnounceMany { held: Some((held, _)), .. } = query {
        writer.key(b"held").bytes(held);
    }
    writer.key(b"id").bytes(sender.id.as_bytes());
    let method: &[u8] = match query {
        Query::Ping => b"ping",
        Query::FindNode { target } => {
            writer.key(b"target").bytes(target.as_bytes());
            b"find_node"
        }
        Query::GetPeers { key } => {
            writer.key(b"info_hash").bytes(key.as_bytes());
            b"get_peers"
        }
        Query::AnnouncePeer { key, port, token, claim } => {
            if port.is_none() {
                writer.key(b"implied_port").int(1);
            }
            writer.key(b"info_hash").bytes(key.as_bytes());
            if let Some(claim) = claim {
                writer.key(b"pl").list().list().bytes(claim).int(1).end().end();
            }
            writer.key(b"port").int(i64::from(port.unwrap_or(0))).key(b"token").bytes(token);
            b"announce_peer"
        }
        Query::Get { target } => {
            writer.key(b"target").bytes(target.as_bytes());
            b"get"
        }
        Query::Put { token, value } => {
            writer.key(b"token").bytes(token).key(b"v").raw(value);
            b"put"
        }
        Query::PutSigned { token, item, .. } => {
            writer.key(b"k").bytes(item.key);
            if !item.salt.is_empty() {
                writer.key(b"salt").bytes(item.salt);
            }
            writer.key(b"seq").int(item.seq).key(b"sig").bytes(item.signature);
            writer.key(b"token").bytes(token).key(b"v").raw(item.value);
            b"put"
        }
        Query::AnnounceMany { port, held } => {
            writer.key(b"port").int(i64::from(*port));
            if let Some((_, token)) = held {
                writer.key(b"token").bytes(token);
            }
            b"announce_many"
        }
        Query::DialBack { port, token } => {
            writer.key(b"port").int(i64::from(*port));
            if let Some(token) = token {
                writer.key(b"token").bytes(token);
            }
            b"dial_back"
        }
    };
    if want != [false; 2] {
        writer.key(b"want").list();
        for (wanted, name) in want.into_iter().zip([b"n4", b"n6"]) {
            if wanted {
                writer.bytes(name);
            }
        }
        writer.end();
    }
    if padding > 0 {
        writer.key(b"z").bytes(&vec![0; padding]);
    }
    writer.end();
    let mac_at = writer.len();
    name_network(&mut writer, realm);
    writer.key(b"q").bytes(method);
    if sender.read_only {
        writer.key(b"ro").int(1);
    }
    seal(realm, writer, mac_at, transaction, b"q")
}

/// What is answered. Parts that do not fit the reply are left out, those of least worth first.
#[derive(Debug, Clone, Default)]
pub struct Answer<'a> {
    /// Needed for a later write.
    pub token: Option<[u8; TOKEN_LEN]>,
    /// An item's bencoded value.
    pub value: Option<&'a [u8]>,
    /// What makes the item a mutable one. It goes with the value; the number alone says that there is no higher one.
    pub stamp: Option<Stamp<'a>>,
    /// Whether the item is kept; said only where it does not fit.
    pub has_item: bool,
    /// Which of the announced keys are kept, by [`super::kept_bits`].
    pub kept: Vec<u8>,
    /// How the connection to who asks went.
    pub dial: Option<Dial>,
    /// What this node says of itself.
    pub about: About,
    /// Near nodes by [`Family::index`], nearest first.
    pub contacts: [Vec<Contact>; 2],
    /// Claims of piece hashes and how many networks made each, best first.
    pub claims: Vec<(&'a [u8], u32)>,
    /// Where the file is.
    pub peers: Vec<SocketAddr>,
}

/// Number, key and signature of a mutable item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// Its number.
    pub seq: i64,
    /// Whose it is, and that it is.
    pub proof: Option<(&'a [u8; KEY_LEN], &'a [u8; SIGNATURE_LEN])>,
}

/// Writes an answer to the address that asked in so many bytes. `None` when even the bare reply would be too long.
pub fn write_reply(
    realm: &Realm,
    transaction: &[u8],
    own: &Id,
    to: &SocketAddr,
    answer: Answer<'_>,
    query_len: usize,
) -> Option<Vec<u8>> {
    let bare = Answer {
        token: answer.token,
        has_item: answer.has_item,
        kept: answer.kept.clone(),
        dial: answer.dial,
        about: answer.about,
        ..Answer::default()
    };
    let bare_len = reply(realm, transaction, own, to, &bare).len();
    let room = longest_reply(realm, query_len).checked_sub(bare_len)?;
    Some(reply(realm, transaction, own, to, &answer.trimmed(room)))
}

fn longest_reply(realm: &Realm, query_len: usize) -> usize {
    if realm.is_mainline() { MAX_SENT } else { MAX_SENT.min(MAX_GROWTH * query_len) }
}

fn name_network(writer: &mut Writer, realm: &Realm) {
    if !realm.is_mainline() {
        writer.key(b"n").bytes(realm.id());
    }
}

fn reply(realm: &Realm, transaction: &[u8], own: &Id, to: &SocketAddr, answer: &Answer<'_>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.key(b"ip").bytes(&write_peer(to));
    let mac_at = writer.len();
    name_network(&mut writer, realm);
    writer.key(b"r").dict();
    if let Some(dial) = answer.dial {
        writer.key(b"dial").int(dial.code());
    }
    if answer.has_item && answer.value.is_none() && !realm.is_mainline() {
        writer.key(b"has").int(1);
    }
    writer.key(b"id").bytes(own.as_bytes());
    let proof = answer.stamp.and_then(|stamp| stamp.proof);
    if let Some((key, _)) = proof {
        writer.key(b"k").bytes(key);
    }
    if !answer.kept.is_empty() {
        writer.key(b"kept").bytes(&answer.kept);
    }
    for (contacts, name) in answer.contacts.iter().zip(CONTACT_KEYS) {
        if !contacts.is_empty() {
            let mut compact = Vec::new();
            contacts.iter().for_each(|contact| contact.write(&mut compact));
            writer.key(name).bytes(&compact);
        }
    }
    if !answer.claims.is_empty() {
        writer.key(b"pl").list();
        for (claim, networks) in &answer.claims {
            writer.list().bytes(claim).int(i64::from(*networks)).end();
        }
        writer.end();
    }
    if let Some(is_open) = answer.about.is_open {
        writer.key(b"re").int(if is_open { 1 } else { 2 });
    }
    if let Some(stamp) = answer.stamp {
        writer.key(b"seq").int(stamp.seq);
    }
    if let Some((_, signature)) = proof {
        writer.key(b"sig").bytes(signature);
    }
    if let Some(token) = &answer.token {
        writer.key(b"token").bytes(token);
    }
    if let Some(minutes) = answer.about.up_minutes {
        writer.key(b"up").int(i64::from(minutes));
    }
    if let Some(value) = answer.value {
        writer.key(b"v").raw(value);
    }
    if !answer.peers.is_empty() {
        writer.key(b"values").list();
        for peer in &answer.peers {
            writer.bytes(&write_peer(peer));
        }
        writer.end();
    }
    writer.end();
    seal(realm, writer, mac_at, transaction, b"r")
}

/// Where contacts of each family stand.
const CONTACT_KEYS: [&[u8]; 2] = [b"nodes", b"nodes6"];

impl Answer<'_> {
    /// Leaves out what does not fit: a value comes before contacts, these before the best claim, that before peers, and
    /// these before the other claims.
    fn trimmed(mut self, mut room: usize) -> Self {
        if self.stamp.is_some_and(|stamp| !take(&mut room, stamp.len())) {
            (self.stamp, self.value) = (None, None);
        }
        if self.value.is_some_and(|value| !take(&mut room, string_len(1) + value.len())) {
            (self.stamp, self.value) = (None, None);
        }
        for (contacts, family) in self.contacts.iter_mut().zip(Family::BOTH) {
            let head = string_len(CONTACT_KEYS[family.index()].len()) + LENGTH_DIGITS;
            keep_fitting(contacts, &mut room, head, |_| family.contact_len());
        }
        let claim_len = |(claim, networks): &(&[u8], u32)| {
            string_len(claim.len()) + networks.to_string().len() + "li".len() + "ee".len()
        };
        let others = self.claims.split_off(self.claims.len().min(1));
        keep_fitting(&mut self.claims, &mut room, string_len("pl".len()) + "le".len(), claim_len);
        let head = string_len("values".len()) + "le".len();
        keep_fitting(&mut self.peers, &mut room, head, |peer| string_len(Family::of(peer).peer_len()));
        if !self.claims.is_empty() {
            let mut others = others;
            keep_fitting(&mut others, &mut room, 0, claim_len);
            self.claims.extend(others);
        }
        self
    }
}

impl Stamp<'_> {
    /// Bytes that it takes in a reply, at most.
    fn len(&self) -> usize {
        let proof = string_len(1) + string_len(KEY_LEN) + string_len(3) + string_len(SIGNATURE_LEN);
        string_len(3) + "i-9223372036854775808e".len() + if self.proof.is_some() { proof } else { 0 }
    }
}

/// Digits and colon of a byte string's length in a datagram.
const LENGTH_DIGITS: usize = 5;

/// Keeps as many of the items, from the first, as fit behind `head` bytes.
fn keep_fitting<T>(items: &mut Vec<T>, room: &mut usize, head: usize, len: impl Fn(&T) -> usize) {
    let Some(first) = items.first() else { return };
    if !take(room, head + len(first)) {
        items.clear();
        return;
    }
    let fitting = 1 + items.iter().skip(1).take_while(|item| take(room, len(item))).count();
    items.truncate(fitting);
}

fn take(room: &mut usize, len: usize) -> bool {
    let fits = *room >= len;
    if fits {
        *room -= len;
    }
    fits
}

/// Writes a refusal to the address that asked. `None` when it would be too long.
pub fn write_error(
    realm: &Realm,
    transaction: &[u8],
    to: &SocketAddr,
    refusal: Refusal,
    query_len: usize,
) -> Option<Vec<u8>> {
    let mut writer = Writer::new();
    writer.key(b"e").list().int(refusal.code()).bytes(refusal.to_string().as_bytes()).end();
    writer.key(b"ip").bytes(&write_peer(to));
    let mac_at = writer.len();
    name_network(&mut writer, realm);
    let error = seal(realm, writer, mac_at, transaction, b"e");
    (error.len() <= longest_reply(realm, query_len)).then_some(error)
}

/// Ends a datagram; in a private network its code goes where the key `m` sorts.
fn seal(realm: &Realm, mut writer: Writer, mac_at: usize, transaction: &[u8], kind: &[u8]) -> Vec<u8> {
    writer.key(b"t").bytes(transaction).key(b"v").bytes(VERSION).key(b"y").bytes(kind);
    let mut datagram = writer.finish();
    if let Some(mac) = realm.mac([&datagram, &[]]) {
        let mut entry = b"1:m".to_vec();
        entry.extend(byte_string(&mac));
        datagram.splice(mac_at..mac_at, entry);
    }
    datagram
}
