//! A peer of the tests' making: it serves what it is given, right or wrong, and announces it as a peer does.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use apt_huddle::hash::{ContentHash, Expected, State, Step};

use super::{
    PIECE,
    archive::Package,
    own_network,
    probe::Probe,
    server::{Body, End, Reply, Request, Server},
};

/// First byte of a claim that is states.
const STATES: u8 = 1;

/// First byte of a claim that is targets of items.
const TARGETS: u8 = 2;

/// States in one item of a claim.
const STATES_PER_ITEM: usize = 30;

/// One file as a peer tells it.
#[derive(Clone)]
pub struct Tale {
    sha256: String,
    bytes: Arc<Vec<u8>>,
    chain: Vec<[u8; 32]>,
    stall: Option<Range<u64>>,
    rate: Option<u64>,
    /// Whether the next piece that is asked for is to be false.
    slip: Option<Arc<AtomicBool>>,
}

impl Tale {
    /// The truth.
    pub fn honest(package: &Package) -> Self {
        let bytes = package.bytes();
        let chain = chain_of(&bytes);
        Self { sha256: package.sha256.clone(), bytes: Arc::new(bytes), chain, stall: None, rate: None, slip: None }
    }

    /// True piece hashes, but a flipped byte in each of these pieces.
    pub fn flipped(package: &Package, pieces: &[u64]) -> Self {
        let mut tale = Self::honest(package);
        let bytes = Arc::make_mut(&mut tale.bytes);
        let last = bytes.len() - 1;
        pieces.iter().for_each(|piece| bytes[last.min((piece * PIECE + 100) as usize)] ^= 0xff);
        tale
    }

    /// True bytes, but a false state after this piece.
    pub fn false_chain(package: &Package, after: usize) -> Self {
        let mut tale = Self::honest(package);
        tale.chain[after][7] ^= 1;
        tale
    }

    /// A flipped byte in each of these pieces, and piece hashes that agree with the flipped bytes.
    pub fn consistent_lie(package: &Package, pieces: &[u64]) -> Self {
        let flipped = Self::flipped(package, pieces);
        let chain = chain_of(&flipped.bytes);
        assert_ne!(chain, flipped.chain, "a lie before the last piece");
        Self { chain, ..flipped }
    }

    /// A flipped first piece and a first state that agrees with it; all else is true, and the second piece gives it away.
    pub fn false_front(package: &Package) -> Self {
        Self::false_before(package, 1)
    }

    /// True from this piece on; before it flipped pieces and states that agree with them, so that the chains part there.
    pub fn false_before(package: &Package, fork: u64) -> Self {
        let truth = Self::honest(package);
        let mut tale = Self::consistent_lie(package, &(0..fork).collect::<Vec<_>>());
        tale.chain[fork as usize..].copy_from_slice(&truth.chain[fork as usize..]);
        tale
    }

    /// An answer that reaches these bytes stops before them.
    pub fn stalling_on(self, span: Range<u64>) -> Self {
        Self { stall: Some(span), ..self }
    }

    /// False in the first piece that somebody asks for, whichever it is, and in no other.
    pub fn slipping_once(self) -> Self {
        Self { slip: Some(Arc::new(AtomicBool::new(true))), ..self }
    }

    /// Told at so many bytes a second a connection.
    pub fn slowly(self, rate: u64) -> Self {
        Self { rate: Some(rate), ..self }
    }

    /// The bytes that it tells.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The peer. It vanishes when it is dropped.
pub struct Liar {
    server: Server,
    probe: Probe,
    tales: BTreeMap<String, Tale>,
}

impl Liar {
    /// Serves these files from a network of its own.
    pub fn start(tales: Vec<Tale>) -> Self {
        let ip = own_network();
        let tales: BTreeMap<_, _> = tales.into_iter().map(|tale| (tale.sha256.clone(), tale)).collect();
        let served = tales.clone();
        let server = Server::start(ip, Box::new(move |request| answer(&served, request)));
        Self { server, probe: Probe::bind(ip), tales }
    }

    /// Where it serves.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Requests, bytes sent, and the switch.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The path under which it serves a file.
    pub fn path(sha256: &str) -> String {
        format!("/~/{sha256}")
    }

    /// Tells each node that it has all its files, with its piece hashes in the tier that the size asks for.
    pub fn announce(&self, nodes: &[SocketAddr]) {
        for tale in self.tales.values() {
            for node in nodes {
                let claim = self.claim(*node, &tale.chain);
                self.probe.announce(*node, &tale.sha256, self.addr().port(), claim.as_deref());
            }
        }
    }

    /// What goes beside the peer: nothing for 1 piece, the states of 2 to 4, the targets of the items of 5 to 69.
    fn claim(&self, node: SocketAddr, chain: &[[u8; 32]]) -> Option<Vec<u8>> {
        match chain.len() + 1 {
            1 | 70.. => None,
            2..=4 => Some([&[STATES][..], &chain.concat()].concat()),
            _ => {
                let targets = chain.chunks(STATES_PER_ITEM).map(|states| self.probe.put(node, &states.concat()));
                Some([&[TARGETS][..], &targets.collect::<Vec<_>>().concat()].concat())
            }
        }
    }
}

fn answer(tales: &BTreeMap<String, Tale>, request: &Request) -> Reply {
    if let Some(reply) = request.have(|sha256| tales.contains_key(sha256)) {
        return reply;
    }
    let rest = request.path.strip_prefix("/~/").unwrap_or_default();
    let (sha256, wants_chain) = match rest.strip_suffix("/pieces") {
        Some(sha256) => (sha256, true),
        None => (rest, false),
    };
    let Some(tale) = tales.get(sha256) else { return Reply::bare("404 Not Found") };
    let chain = tale.chain.concat();
    let digest = ContentHash::of(&chain);
    let body = if wants_chain { Arc::new(chain) } else { Arc::clone(&tale.bytes) };
    let size = body.len() as u64;
    let (status, span) = match request.range(size).filter(|_| !wants_chain) {
        None => ("200 OK", 0..size),
        Some(Ok(span)) => ("206 Partial Content", span),
        Some(Err(())) => return Reply::bare("416 Range Not Satisfiable"),
    };
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", span.end - span.start);
    head += &format!("Content-Type: application/octet-stream\r\nX-Huddle-Chain: {digest}\r\n");
    if status.starts_with("206") {
        head += &format!("Content-Range: bytes {}-{}/{size}\r\n", span.start, span.end - 1);
    }
    let stall = tale.stall.as_ref().filter(|stall| !wants_chain && stall.start < span.end && span.start < stall.end);
    let stop = stall.map(|stall| (stall.start.saturating_sub(span.start), End::Stall));
    let rate = tale.rate.filter(|_| !wants_chain);
    let slips = !wants_chain && tale.slip.as_ref().is_some_and(|slip| slip.swap(false, Relaxed));
    Reply { head: head + "\r\n", body: Body::Memory(body), span, stop, rate, flip_every: slips.then_some(10_007) }
}

/// The states at the inner piece boundaries of these bytes, whatever they are.
pub(super) fn chain_of(bytes: &[u8]) -> Vec<[u8; 32]> {
    let expected = Expected { hash: ContentHash::of(bytes), size: bytes.len() as u64 };
    let inner = bytes.chunks(PIECE as usize).take(expected.pieces() - 1).enumerate();
    let states = inner.scan(State::INITIAL, |at, (index, piece)| {
        *at = Step::take(&expected, index, *at, piece).expect("a whole piece").to();
        Some(*at.as_bytes())
    });
    states.collect()
}
