//! KRPC: what nodes say to each other, one bencoded dictionary a datagram (BEP 5, 32, 42, 43, 44).
//!
//! ```text
//!  query  { a: {id, ..}, m?, n?, q: method, ro?, t, v, y: "q" }
//!  reply  { ip, m?, n?, r: {id, ..}, t, v, y: "r" }
//!  error  { e: [code, text], ip, m?, n?, t, v, y: "e" }
//!
//!  method         a                                              r
//!  ping           id                                             id, re, up
//!  find_node      id, target, want                               id, nodes, nodes6
//!  get_peers      id, info_hash, want                            id, nodes, nodes6, pl, token, values
//!  announce_peer  id, info_hash, port, token, implied_port, pl   id
//!  get            id, seq, target, want                          id, k, nodes, nodes6, seq, sig, token, v
//!  put            id, token, v, [k, seq, sig, [cas], [salt]]     id
//!  dial_back      id, port, [token]                              id, token or dial
//!  announce_many  id, port, [held, token]                        id, token, [kept]
//!
//!  held  1 to 40 times: key, 20 bytes | length of the claim, 1 byte | claim
//!  kept  one bit for each of them, the first in the highest bit of the first byte: whether it is kept now
//! ```
//!
//! `announce_many` without `held` and `token` asks for a token, which is good for any key, from that address, for an hour at
//! least; each answer brings a fresh one, so that who announces hourly sends one datagram.
//!
//! Beyond the BEPs: `n`, the network id, 8 bytes; `m`, in private networks, the first 16 bytes of the HMAC-SHA-256 of the
//! datagram without it; `pl`, a list of `[claim, number of networks that made it]`, see [`super::claim`]; `a.z`, zeros that
//! buy a longer reply, as no reply is longer than [`MAX_GROWTH`] times its query; `dial_back`, see [`super::reach`];
//! `r.has`, 1 where the item that is asked for is kept but does not fit; `r.up`, whole minutes since the node began, and `r.re`, 1 when its port answers, 2 when not. On Mainline there is none
//! of these, and answers have budgets instead (see [`super::allowance`]).
//!
//! **Security.** A datagram of another network, or one that is not KRPC, is nothing at all: it is not answered. A
//! datagram of the own network that asks wrongly is answered with an error.

mod held;
mod write;

use std::net::SocketAddr;

use super::{
    bencode::Value,
    contact::{Contact, Family, read_peer},
    id::Id,
    reach::Dial,
    realm::Realm,
    signed::{MAX_SALT, Signed},
};

pub use held::{Held, MAX_HELD, is_kept, kept_bits, write_held};
pub use write::{Answer, Sender, Stamp, write_error, write_query, write_reply};

/// Longest datagram that is sent, in bytes: it fits every link's frame with room for tunnels.
pub const MAX_SENT: usize = 1400;

/// Longest datagram that is read, in bytes.
pub const MAX_READ: usize = 2048;

/// A reply is at most so many times as long as its query, so that nobody's address is worth forging.
pub const MAX_GROWTH: usize = 3;

/// Longest bencoded value of an item, in bytes (BEP 44).
pub const MAX_ITEM: usize = 1000;

/// Longest claim beside a peer, in bytes: a version and three states.
pub const MAX_CLAIM: usize = 97;

/// Distinct claims that are kept of one key, and read from one reply.
pub const MAX_CLAIMS: usize = 3;

/// Most contacts of one family that are read from one reply.
const MAX_CONTACTS: usize = 16;

/// Longest name of a program that is read, in bytes.
const MAX_VERSION: usize = 16;

/// Most peers that are read from one reply.
const MAX_PEERS: usize = 100;

/// A datagram of the own network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What a reply must echo, or what a query of ours said; any length.
    pub transaction: &'a [u8],
    /// What it says.
    pub body: Body<'a>,
}

/// What a datagram says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body<'a> {
    /// A question.
    Query(Asked<'a>),
    /// A question that cannot be answered but with an error.
    Refused(Refusal),
    /// An answer.
    Reply(Box<Reply<'a>>),
    /// A refusal of a question of ours.
    Error,
}

/// A question and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The asking node's id, as it says.
    pub sender: Id,
    /// The asking node does not answer, and belongs in no table (BEP 43).
    pub read_only: bool,
    /// Families of contacts asked for, by [`Family::index`]; none: that of the transport.
    pub want: [bool; 2],
    /// The number of the mutable item that the asking node has: it wants to see a higher one only (BEP 44).
    pub has: Option<i64>,
    /// The question.
    pub query: Query<'a>,
}

/// What one node asks another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query<'a> {
    /// Are you there?
    Ping,
    /// Who is near?
    FindNode {
        /// To what.
        target: Id,
    },
    /// Who has the file, and what are its piece hashes?
    GetPeers {
        /// The file's key.
        key: Id,
    },
    /// I have the file.
    AnnouncePeer {
        /// The file's key.
        key: Id,
        /// TCP port at the sending address; `None`: the UDP port sent from.
        port: Option<u16>,
        /// The token that the asked node gave out.
        token: &'a [u8],
        /// The file's piece hashes.
        claim: Option<&'a [u8]>,
    },
    /// What is the item?
    Get {
        /// SHA-1 of its value.
        target: Id,
    },
    /// Keep the immutable item.
    Put {
        /// The token that the asked node gave out.
        token: &'a [u8],
        /// The value, bencoded.
        value: &'a [u8],
    },
    /// Keep the mutable item.
    PutSigned {
        /// The token that the asked node gave out.
        token: &'a [u8],
        /// The item, whose signature nobody has checked yet.
        item: Signed<'a>,
        /// Only in the place of the one with that number.
        cas: Option<i64>,
    },
    /// I have these files; or, what shows that I may say so?
    AnnounceMany {
        /// TCP port at the sending address.
        port: u16,
        /// What [`Held`] reads, at most [`MAX_HELD`], and the token that the asked node gave out; none: one is asked for.
        held: Option<(&'a [u8], &'a [u8])>,
    },
    /// Connect to me over TCP, and say how it went.
    DialBack {
        /// The TCP port at the sending address.
        port: u16,
        /// The token that the asked node gave out; without one, one is asked for.
        token: Option<&'a [u8]>,
    },
}

/// Why a question is not answered. The number is that of KRPC (BEP 5, BEP 44).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 202: this node cannot do that.
    #[error("no room")]
    Full,
    /// 203: not the form of a question, or a bad token.
    #[error("malformed question")]
    Malformed,
    /// 203: the token was not given to this address for this key of late.
    #[error("bad token")]
    Token,
    /// 204.
    #[error("unknown method")]
    Method,
    /// 205.
    #[error("value too big")]
    TooBig,
    /// 206.
    #[error("invalid signature")]
    Signature,
    /// 207.
    #[error("salt too big")]
    Salt,
    /// 301: another number is kept than the one that was to be replaced.
    #[error("cas mismatch")]
    Cas,
    /// 302: a higher number is kept.
    #[error("sequence number less than current")]
    Old,
}

impl Refusal {
    /// The number on the wire.
    pub fn code(self) -> i64 {
        match self {
            Self::Full => 202,
            Self::Malformed | Self::Token => 203,
            Self::Method => 204,
            Self::TooBig => 205,
            Self::Signature => 206,
            Self::Salt => 207,
            Self::Cas => 301,
            Self::Old => 302,
        }
    }
}

/// What a node answers; which parts are there depends on what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The answering node's id.
    pub id: Id,
    /// What it asks to see before it stores.
    pub token: Option<&'a [u8]>,
    /// Nodes near the target, of both families.
    pub contacts: Vec<Contact>,
    /// Where the file is.
    pub peers: Vec<SocketAddr>,
    /// Claims of the file's piece hashes, and how many networks made each.
    pub claims: Vec<(&'a [u8], u32)>,
    /// An item's value, bencoded.
    pub value: Option<&'a [u8]>,
    /// The same when it is signed, by whomever; without its salt, which who asks knows.
    pub signed: Option<Signed<'a>>,
    /// Whether it keeps the item that was asked for, though it is not in the reply.
    pub has_item: bool,
    /// Which of the announced keys it keeps, see [`is_kept`].
    pub kept: &'a [u8],
    /// How the connection to the asking node went.
    pub dial: Option<Dial>,
    /// What it says of itself.
    pub about: About,
    /// The program it runs, top-level `v`.
    pub version: Option<&'a [u8]>,
    /// Where it saw the question come from (BEP 42).
    pub seen_from: Option<SocketAddr>,
}

/// What a node of an own network says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About {
    /// Whole minutes since it began.
    pub up_minutes: Option<u32>,
    /// Whether others can connect to its port.
    pub is_open: Option<bool>,
}

impl<'a> Packet<'a> {
    /// Reads a datagram. `None`: it is not of this network, or no KRPC at all, and nothing is answered.
    pub fn read(realm: &Realm, datagram: &'a [u8]) -> Option<Self> {
        if datagram.len() > MAX_READ {
            return None;
        }
        let top = Value::parse(datagram).ok()?;
        if !realm.names(bytes(&top, b"n")) || !is_authentic(realm, datagram, &top) {
            return None;
        }
        let body = match bytes(&top, b"y")? {
            b"q" => match Asked::read(&top) {
                Ok(asked) => Body::Query(asked),
                Err(refusal) => Body::Refused(refusal),
            },
            b"r" => Body::Reply(Box::new(Reply::read(&top)?)),
            b"e" => Body::Error,
            _ => return None,
        };
        Some(Self { transaction: bytes(&top, b"t")?, body })
    }
}

fn is_authentic(realm: &Realm, datagram: &[u8], top: &Value<'_>) -> bool {
    match top.key(b"m") {
        _ if realm.is_mainline() => true,
        None => realm.accepts([datagram, &[]], None),
        Some(code) => {
            // The entry begins with its key, which has one spelling: `1:m`.
            let before = &datagram[..code.start() - 3];
            let after = &datagram[code.start() + code.raw().len()..];
            realm.accepts([before, after], code.bytes())
        }
    }
}

impl<'a> Asked<'a> {
    fn read(top: &Value<'a>) -> Result<Self, Refusal> {
        let method = bytes(top, b"q").ok_or(Refusal::Malformed)?;
        let args = top.key(b"a").ok_or(Refusal::Malformed)?;
        let query = match method {
            b"ping" => Query::Ping,
            b"find_node" => Query::FindNode { target: id(args, b"target")? },
            b"get_peers" => Query::GetPeers { key: id(args, b"info_hash")? },
            b"announce_peer" => read_announce(args)?,
            b"get" => Query::Get { target: id(args, b"target")? },
            b"put" => read_put(args)?,
            b"dial_back" => {
                Query::DialBack { port: port(args).ok_or(Refusal::Malformed)?, token: bytes(args, b"token") }
            }
            b"announce_many" => read_announce_many(args)?,
            _ => return Err(Refusal::Method),
        };
        let wanted = args.key(b"want").map(Value::list).unwrap_or_default();
        let want = [&b"n4"[..], b"n6"].map(|family| wanted.iter().any(|item| item.bytes() == Some(family)));
        let read_only = top.key(b"ro").and_then(Value::int) == Some(1);
        let has = args.key(b"seq").and_then(Value::int).filter(|_| matches!(query, Query::Get { .. }));
        Ok(Self { sender: id(args, b"id")?, read_only, want, has, query })
    }
}

fn read_announce<'a>(args: &Value<'a>) -> Result<Query<'a>, Refusal> {
    let implied = args.key(b"implied_port").and_then(Value::int).is_some_and(|implied| implied != 0);
    let port = if implied { None } else { Some(port(args).ok_or(Refusal::Malformed)?) };
    let claim = match args.key(b"pl") {
        None => None,
        Some(claims) => {
            let claim = claims.list().first().and_then(|pair| pair.list().first()).and_then(Value::bytes);
            Some(claim.filter(|claim| (1..=MAX_CLAIM).contains(&claim.len())).ok_or(Refusal::Malformed)?)
        }
    };
    let token = bytes(args, b"token").ok_or(Refusal::Malformed)?;
    Ok(Query::AnnouncePeer { key: id(args, b"info_hash")?, port, token, claim })
}

fn read_announce_many<'a>(args: &Value<'a>) -> Result<Query<'a>, Refusal> {
    let held = match (bytes(args, b"held"), bytes(args, b"token")) {
        (None, None) => None,
        (Some(held), Some(token)) if held::is_sound(held) => Some((held, token)),
        _ => return Err(Refusal::Malformed),
    };
    Ok(Query::AnnounceMany { port: port(args).ok_or(Refusal::Malformed)?, held })
}

fn read_put<'a>(args: &Value<'a>) -> Result<Query<'a>, Refusal> {
    let value = args.key(b"v").ok_or(Refusal::Malformed)?;
    let token = bytes(args, b"token").ok_or(Refusal::Malformed)?;
    if value.raw().len() > MAX_ITEM {
        return Err(Refusal::TooBig);
    }
    if !value.is_canonical() {
        return Err(Refusal::Malformed);
    }
    let salt = bytes(args, b"salt").unwrap_or_default();
    if salt.len() > MAX_SALT {
        return Err(Refusal::Salt);
    }
    match (args.key(b"k"), args.key(b"sig"), args.key(b"seq")) {
        // A key without a signature would hide the signed item of that key from everybody else.
        (None, None, None) => Ok(Query::Put { token, value: value.raw() }),
        (Some(key), Some(signature), Some(seq)) => {
            let key = key.bytes().and_then(|key| key.try_into().ok()).ok_or(Refusal::Malformed)?;
            let signature = signature.bytes().and_then(|bytes| bytes.try_into().ok()).ok_or(Refusal::Signature)?;
            let seq = seq.int().filter(|seq| *seq >= 0).ok_or(Refusal::Malformed)?;
            let cas = args.key(b"cas").map(|cas| cas.int().ok_or(Refusal::Malformed)).transpose()?;
            Ok(Query::PutSigned { token, item: Signed { key, salt, seq, signature, value: value.raw() }, cas })
        }
        _ => Err(Refusal::Malformed),
    }
}

fn port(args: &Value<'_>) -> Option<u16> {
    let port = args.key(b"port").and_then(Value::int)?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

impl<'a> Reply<'a> {
    fn read(top: &Value<'a>) -> Option<Self> {
        let values = top.key(b"r")?;
        let nodes = bytes(values, b"nodes").unwrap_or_default();
        let nodes6 = bytes(values, b"nodes6").unwrap_or_default();
        let contacts = Contact::read_all(nodes, Family::V4).take(MAX_CONTACTS);
        let contacts = contacts.chain(Contact::read_all(nodes6, Family::V6).take(MAX_CONTACTS)).collect();
        let peers = values.key(b"values").map(Value::list).unwrap_or_default();
        let claims = values.key(b"pl").map(Value::list).unwrap_or_default();
        Some(Self {
            id: Id::read(bytes(values, b"id")?)?,
            token: bytes(values, b"token"),
            contacts,
            peers: peers.iter().filter_map(|peer| read_peer(peer.bytes()?)).take(MAX_PEERS).collect(),
            claims: claims.iter().filter_map(read_claim).take(MAX_CLAIMS).collect(),
            value: values.key(b"v").filter(|value| value.raw().len() <= MAX_ITEM).map(Value::raw),
            signed: read_signed(values),
            has_item: values.key(b"has").and_then(Value::int) == Some(1),
            kept: bytes(values, b"kept").unwrap_or_default(),
            dial: values.key(b"dial").and_then(Value::int).and_then(Dial::read),
            about: About {
                up_minutes: values.key(b"up").and_then(Value::int).and_then(|minutes| u32::try_from(minutes).ok()),
                is_open: values
                    .key(b"re")
                    .and_then(Value::int)
                    .and_then(|re| [None, Some(true), Some(false)].get(usize::try_from(re).ok()?).copied()?),
            },
            version: bytes(top, b"v").filter(|version| version.len() <= MAX_VERSION),
            seen_from: bytes(top, b"ip").and_then(read_peer),
        })
    }
}

fn read_signed<'a>(values: &Value<'a>) -> Option<Signed<'a>> {
    Some(Signed {
        key: bytes(values, b"k")?.try_into().ok()?,
        salt: &[],
        seq: values.key(b"seq").and_then(Value::int)?,
        signature: bytes(values, b"sig")?.try_into().ok()?,
        value: values.key(b"v").map(Value::raw).filter(|value| value.len() <= MAX_ITEM)?,
    })
}

fn read_claim<'a>(pair: &Value<'a>) -> Option<(&'a [u8], u32)> {
    let [claim, networks] = pair.list() else { return None };
    let claim = claim.bytes().filter(|claim| (1..=MAX_CLAIM).contains(&claim.len()))?;
    Some((claim, u32::try_from(networks.int()?).ok()?))
}

fn bytes<'a>(dict: &Value<'a>, key: &[u8]) -> Option<&'a [u8]> {
    dict.key(key).and_then(Value::bytes)
}

fn id(dict: &Value<'_>, key: &[u8]) -> Result<Id, Refusal> {
    bytes(dict, key).and_then(Id::read).ok_or(Refusal::Malformed)
}

#[cfg(test)]
mod tests;
