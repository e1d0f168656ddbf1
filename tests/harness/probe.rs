//! A read-only node that asks daemons what they know, and announces what a liar wants announced.
//!
//! KRPC (BEP 5, 43, 44) with what the project adds: `n` on every datagram, `pl` beside peers, `a.z` to pay for replies.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{PIECE, archive::SUITE, bencode::Value, eventually};

/// How long one reply may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long an announcement may take to get round.
const ROUND: Duration = Duration::from_secs(60);

/// The asking node.
pub struct Probe {
    socket: UdpSocket,
    id: [u8; 20],
}

impl Probe {
    /// Binds a port that the system chooses.
    pub fn bind(ip: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).expect("a loopback address");
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let id = Sha256::digest(ip.octets())[..20].try_into().expect("a SHA-256 is longer");
        Self { socket, id }
    }

    /// Who has a file of that size, by what a node has been told; of one piece, who has something of its shelf.
    pub fn holders(&self, node: SocketAddr, sha256: &str, size: u64) -> Vec<SocketAddr> {
        let key = if size <= PIECE { shelf(sha256) } else { key(sha256) };
        let reply = self.ask(node, "get_peers", [("info_hash", Value::bytes(key))]);
        let values = reply.as_ref().and_then(|reply| reply.at("values")).map(Value::items).unwrap_or_default();
        values.iter().filter_map(|value| address(value.as_bytes()?)).collect()
    }

    /// Waits until one of the nodes has been told that the holder has the file, or something of its shelf.
    #[track_caller]
    pub fn wait_for(&self, holder: SocketAddr, (sha256, size): (&str, u64), nodes: &[SocketAddr]) {
        eventually(&format!("{holder} is known to have {sha256}"), ROUND, || {
            nodes.iter().any(|node| self.holders(*node, sha256, size).contains(&holder)).then_some(())
        });
    }

    /// Tells a node that this address, with that TCP port, has the file, and what its piece hashes are; without any, that it
    /// has something of its shelf, too.
    #[track_caller]
    pub fn announce(&self, node: SocketAddr, sha256: &str, port: u16, claim: Option<&[u8]>) {
        if claim.is_none() {
            self.announce_at(node, shelf(sha256), port, None);
        }
        self.announce_at(node, key(sha256), port, claim);
    }

    #[track_caller]
    fn announce_at(&self, node: SocketAddr, key: [u8; 20], port: u16, claim: Option<&[u8]>) {
        let key = Value::bytes(key);
        let token = self.token(node, "get_peers", ("info_hash", key.clone()));
        let port = Value::Int(port.into());
        let reply = match claim {
            Some(claim) => {
                let claims = Value::List(vec![Value::List(vec![Value::bytes(claim), Value::Int(1)])]);
                self.ask(node, "announce_peer", [("info_hash", key), ("port", port), ("token", token), ("pl", claims)])
            }
            None => self.ask(node, "announce_peer", [("info_hash", key), ("port", port), ("token", token)]),
        };
        assert!(reply.is_some(), "{node} takes the announcement");
    }

    /// Stores an immutable item, and gives its target.
    #[track_caller]
    pub fn put(&self, node: SocketAddr, item: &[u8]) -> [u8; 20] {
        let value = Value::bytes(item);
        let target = sha1::Sha1::digest(value.encode()).into();
        let token = self.token(node, "get", ("target", Value::bytes(target)));
        assert!(self.ask(node, "put", [("token", token), ("v", value)]).is_some(), "{node} takes the item");
        target
    }

    #[track_caller]
    fn token(&self, node: SocketAddr, method: &str, target: (&str, Value)) -> Value {
        eventually(&format!("{node} gives a token"), ROUND, || {
            self.ask(node, method, [target.clone()])?.at("token").cloned()
        })
    }

    /// The reply's `r`; `None` when none came in time, or an error.
    fn ask<const N: usize>(&self, node: SocketAddr, method: &str, args: [(&str, Value); N]) -> Option<Value> {
        let transaction = rand::random::<[u8; 4]>();
        let Value::Dict(mut a) = Value::dict(args) else { unreachable!("a dictionary was made") };
        a.insert(b"id".to_vec(), Value::bytes(self.id));
        a.insert(b"z".to_vec(), Value::bytes([0; 450]));
        let query = Value::dict([
            ("a", Value::Dict(a)),
            ("n", Value::bytes(network())),
            ("q", Value::bytes(method)),
            ("ro", Value::Int(1)),
            ("t", Value::bytes(transaction)),
            ("y", Value::bytes("q")),
        ]);
        self.socket.send_to(&query.encode(), node).expect("loopback takes datagrams");
        let mut datagram = [0; 2048];
        loop {
            let (length, from) = self.socket.recv_from(&mut datagram).ok()?;
            let Some(reply) = Value::decode(&datagram[..length]) else { continue };
            if from == node && reply.at("t").and_then(Value::as_bytes) == Some(&transaction) {
                return reply.at("r").cloned();
            }
        }
    }
}

/// The id of the public network.
fn network() -> [u8; 8] {
    Sha256::digest(b"apt-huddle/1 network")[..8].try_into().expect("a SHA-256 is longer")
}

/// Where a file is announced in the public network.
fn key(sha256: &str) -> [u8; 20] {
    let hash: apt_huddle::hash::ContentHash = sha256.parse().expect("a hash of the archive");
    let digest = Sha256::new().chain_update(b"apt-huddle/1").chain_update(hash.as_bytes()).finalize();
    digest[..20].try_into().expect("a SHA-256 is longer")
}

/// Where the shelf of a file of one piece is, among those of the archive's suite.
fn shelf(sha256: &str) -> [u8; 20] {
    let hash: apt_huddle::hash::ContentHash = sha256.parse().expect("a hash of the archive");
    let mut suite = Sha256::new();
    for field in ["Huddle", SUITE] {
        suite.update((field.len() as u32).to_be_bytes());
        suite.update(field);
    }
    let digest = Sha256::new().chain_update(b"apt-huddle/1 shelf").chain_update(suite.finalize());
    digest.chain_update([hash.as_bytes()[0] >> 3]).finalize()[..20].try_into().expect("a SHA-256 is longer")
}

/// A compact IPv4 address (BEP 5).
fn address(compact: &[u8]) -> Option<SocketAddr> {
    let [a, b, c, d, high, low] = *compact else { return None };
    Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
}
