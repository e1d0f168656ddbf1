//! Writing KRPC: envelopes, queries, replies that fit their room, errors.

use std::net::SocketAddr;

use crate::dht::{
    bencode::{Writer, byte_string, string_len},
    contact::{Contact, Family, write_peer},
    id::Id,
    realm::Realm,
    tokens::TOKEN_LEN,
};

use super::{MAX_GROWTH, MAX_SENT, Query, Refusal};

/// Who we say we are: top-level `v`.
const VERSION: &[u8] = b"AH\x00\x01";

/// Writes a question. It is filled up to `pad_to` bytes, if it is shorter, as it buys no longer a reply than three times
/// itself.
pub fn write_query(
    realm: &Realm,
    transaction: &[u8],
    own: &Id,
    query: &Query<'_>,
    want: [bool; 2],
    pad_to: usize,
) -> Vec<u8> {
    let plain = query_padded(realm, transaction, own, query, want, 0);
    // `1:z` and the length of the padding take some bytes as well.
    match pad_to.checked_sub(plain.len() + 3 + 4) {
        Some(padding @ 1..) => query_padded(realm, transaction, own, query, want, padding),
        _ => plain,
    }
}

fn query_padded(
    realm: &Realm,
    transaction: &[u8],
    own: &Id,
    query: &Query<'_>,
    want: [bool; 2],
    padding: usize,
) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.key(b"a").dict().key(b"id").bytes(own.as_bytes());
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
    writer.key(b"n").bytes(realm.id()).key(b"q").bytes(method);
    seal(realm, writer, mac_at, transaction, b"q")
}

/// What is answered. Parts that do not fit the reply are left out, those of least worth first.
#[derive(Debug, Clone, Default)]
pub struct Answer<'a> {
    /// Needed for a later write.
    pub token: Option<[u8; TOKEN_LEN]>,
    /// An item's bencoded value.
    pub value: Option<&'a [u8]>,
    /// Near nodes by [`Family::index`], nearest first.
    pub contacts: [Vec<Contact>; 2],
    /// Claims of piece hashes and how many networks made each, best first.
    pub claims: Vec<(&'a [u8], u32)>,
    /// Where the file is.
    pub peers: Vec<SocketAddr>,
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
    let bare = Answer { token: answer.token, ..Answer::default() };
    let bare_len = reply(realm, transaction, own, to, &bare).len();
    let room = longest_reply(query_len).checked_sub(bare_len)?;
    Some(reply(realm, transaction, own, to, &answer.trimmed(room)))
}

fn longest_reply(query_len: usize) -> usize {
    MAX_SENT.min(MAX_GROWTH * query_len)
}

fn reply(realm: &Realm, transaction: &[u8], own: &Id, to: &SocketAddr, answer: &Answer<'_>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.key(b"ip").bytes(&write_peer(to));
    let mac_at = writer.len();
    writer.key(b"n").bytes(realm.id()).key(b"r").dict().key(b"id").bytes(own.as_bytes());
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
    if let Some(token) = &answer.token {
        writer.key(b"token").bytes(token);
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
        if self.value.is_some_and(|value| !take(&mut room, string_len(1) + value.len())) {
            self.value = None;
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
    writer.key(b"n").bytes(realm.id());
    Some(seal(realm, writer, mac_at, transaction, b"e")).filter(|error| error.len() <= longest_reply(query_len))
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
