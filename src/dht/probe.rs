//! Probes: raw questions to a network, by ids and addresses, for tools and for the meeting point on Mainline.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use super::{
    contact::Contact,
    id::Id,
    message::{About, Query, Reply},
    signed::{OwnItem, Signed},
    walk::Goal,
};

/// Most peers that one probe tells of.
const MAX_PEERS: usize = 1000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// One node: are you there?
    Ping(SocketAddr),
    /// One node: who is near that id?
    Ask(SocketAddr, Id),
    /// Who is near that id?
    FindNode(Id),
    /// Who has what that key stands for?
    GetPeers(Id),
    /// To be known under a key.
    Announce {
        /// The key.
        key: Id,
        /// The TCP port at this host's address.
        port: u16,
    },
    /// What is the item?
    Get {
        /// SHA-1 of its value, or of its key and salt.
        target: Id,
        /// The salt, for a mutable one.
        salt: Vec<u8>,
    },
    /// To have an immutable item kept.
    Put {
        /// Its value, bencoded.
        value: Vec<u8>,
    },
    /// To have a mutable item kept.
    PutSigned {
        /// The item.
        item: Box<OwnItem>,
        /// The number of the one that it is to replace, and no other.
        cas: Option<i64>,
    },
}

/// Something that a probe heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A node answered.
    Node(Answered),
    /// A node that answered named others.
    Named(Vec<Contact>),
    /// Somebody announced itself under the key.
    Peer(SocketAddr),
    /// The item: it hashes to the target, or its key does and signed it.
    Item {
        /// Its value, bencoded.
        value: Vec<u8>,
        /// Its number, when it is a mutable one; the next one heard has a higher one.
        seq: Option<i64>,
    },
}

/// A node that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Who and where.
    pub contact: Contact,
    /// After how long.
    pub rtt: Duration,
    /// The program it runs, as it says: mostly two letters and two numbers.
    pub version: Option<Vec<u8>>,
    /// What it says of itself.
    pub about: About,
    /// Where it saw this host.
    pub seen_from: Option<SocketAddr>,
}

impl Answered {
    /// From a reply.
    pub fn of(from: SocketAddr, rtt: Duration, reply: &Reply<'_>) -> Self {
        Self {
            contact: Contact { id: reply.id, addr: from },
            rtt,
            version: reply.version.map(<[u8]>::to_vec),
            about: reply.about,
            seen_from: reply.seen_from,
        }
    }
}

/// How a probe is carried out.
pub enum Way {
    /// One question to one node.
    Question(SocketAddr, Query<'static>),
    /// A walk.
    Walk(Id, Goal),
}

impl Probe {
    /// How it is carried out.
    pub fn way(&self) -> Way {
        match self {
            Self::Ping(to) => Way::Question(*to, Query::Ping),
            Self::Ask(to, target) => Way::Question(*to, Query::FindNode { target: *target }),
            Self::FindNode(target) => Way::Walk(*target, Goal::Near),
            Self::GetPeers(key) => Way::Walk(*key, Goal::Peers),
            Self::Announce { key, port } => Way::Walk(*key, Goal::Announce { port: *port, claim: None }),
            Self::Get { target, .. } => Way::Walk(*target, Goal::Item),
            Self::Put { value } => {
                Way::Walk(Id::of_item(value), Goal::Put { value: value.clone(), where_missing: false })
            }
            Self::PutSigned { item, cas } => {
                Way::Walk(item.target(), Goal::PutSigned { item: item.clone(), cas: *cas })
            }
        }
    }
}

/// A probe under way.
pub struct Probing {
    probe: Probe,
    peers: HashSet<SocketAddr>,
    seq: Option<i64>,
    /// Nodes that stored what was to be stored.
    pub stored: usize,
}

impl Probing {
    /// Heard nothing yet.
    pub fn new(probe: Probe) -> Self {
        Self { probe, peers: HashSet::new(), seq: None, stored: 0 }
    }

    /// How it is carried out.
    pub fn way(&self) -> Way {
        self.probe.way()
    }

    /// A node on the way answered; `peers` are those that are taken from it. Says whether all is heard that can be.
    pub fn handle_reply(&mut self, node: Answered, peers: &[SocketAddr], reply: &Reply<'_>) -> (Vec<Heard>, bool) {
        let mut heard = vec![Heard::Node(node)];
        for peer in peers {
            if self.peers.len() < MAX_PEERS && self.peers.insert(*peer) {
                heard.push(Heard::Peer(*peer));
            }
        }
        let Probe::Get { target, salt } = &self.probe else { return (heard, false) };
        if let Some(value) = reply.value
            && Id::of_item(value) == *target
        {
            heard.push(Heard::Item { value: value.to_vec(), seq: None });
            return (heard, true);
        }
        if let Some(signed) = reply.signed.map(|signed| Signed { salt, ..signed })
            && signed.target() == *target
            && self.seq.is_none_or(|seq| seq < signed.seq)
            && signed.is_genuine()
        {
            self.seq = Some(signed.seq);
            heard.push(Heard::Item { value: signed.value.to_vec(), seq: self.seq });
        }
        (heard, false)
    }
}
