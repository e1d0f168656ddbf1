//! A download as others see it while it goes: which source brought which piece, and how fast.
//!
//! The flight alone writes, an atomic byte a piece; whoever looks takes a copy. Nobody waits for anybody.

use std::{
    net::IpAddr,
    sync::{
        OnceLock,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{archive::Scope, hash::Expected};

/// Cells of a map at most; a file of more pieces has several of them in each.
pub const MAX_CELLS: usize = 512;
/// Time over which a rate is measured, in milliseconds.
const WINDOW: u64 = 1000;

/// Where a piece came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A mirror.
    Mirror,
    /// A peer somewhere.
    Peer,
    /// A peer with a private, link-local or loopback address.
    Lan,
    /// This host's own store.
    Store,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mirror, Self::Peer, Self::Lan, Self::Store];

    /// What a peer at that address is.
    pub fn of_peer(ip: IpAddr) -> Self {
        match Scope::of(ip) {
            Scope::Private | Scope::LinkLocal | Scope::Loopback => Self::Lan,
            Scope::Global | Scope::Unusable => Self::Peer,
        }
    }

    fn code(self) -> u8 {
        self as u8 + 1
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// The pieces of a file, several to a cell where there are many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// Pieces of the file.
    pub pieces: usize,
    /// Pieces in each cell; the last one may have fewer.
    pub pieces_per_cell: usize,
    /// Who brought the first piece of each cell; none while one of its pieces is missing.
    pub cells: Vec<Option<Source>>,
}

impl Map {
    fn of(pieces: &[Option<Source>]) -> Self {
        let pieces_per_cell = pieces.len().div_ceil(MAX_CELLS).max(1);
        let cell = |pieces: &[Option<Source>]| if pieces.contains(&None) { None } else { pieces[0] };
        Self { pieces: pieces.len(), pieces_per_cell, cells: pieces.chunks(pieces_per_cell).map(cell).collect() }
    }

    /// All pieces of a file from one source.
    pub fn whole(pieces: usize, source: Source) -> Self {
        Self::alike(pieces, Some(source))
    }

    fn alike(pieces: usize, cell: Option<Source>) -> Self {
        let pieces_per_cell = pieces.div_ceil(MAX_CELLS).max(1);
        Self { pieces, pieces_per_cell, cells: vec![cell; pieces.div_ceil(pieces_per_cell)] }
    }
}

/// The picture of one download.
#[derive(Debug)]
pub struct Live {
    path: String,
    repository: String,
    expected: Expected,
    began: Instant,
    /// Made when there is room for the file: before that, its size is but a promise.
    pieces: OnceLock<Box<[AtomicU8]>>,
    bytes: AtomicU64,
    /// When the window of the rate began, in milliseconds since the start, and the bytes that had come by then.
    window: [AtomicU64; 2],
    /// Bytes a second in the window before.
    rate: AtomicU64,
}

/// A download at one moment.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The file's path in its repository.
    pub path: String,
    /// The repository that vouches for it.
    pub repository: String,
    /// What it must be.
    pub expected: Expected,
    /// Time since it was asked for.
    pub since: Duration,
    /// Bytes that came, those of no use included.
    pub bytes: u64,
    /// Bytes a second of late.
    pub rate: u64,
    /// Pieces that are there.
    pub there: usize,
    /// Who brought which.
    pub map: Map,
}

impl Live {
    /// Nothing has come yet.
    pub(in crate::fetch) fn new(path: &str, repository: &str, expected: Expected, now: Instant) -> Self {
        Self {
            path: path.to_owned(),
            repository: repository.to_owned(),
            expected,
            began: now,
            pieces: OnceLock::new(),
            bytes: AtomicU64::new(0),
            window: Default::default(),
            rate: AtomicU64::new(0),
        }
    }

    /// There is room for the file: its pieces are shown from now on.
    pub(super) fn begin(&self) {
        self.pieces.get_or_init(|| (0..self.expected.pieces()).map(|_| AtomicU8::new(0)).collect());
    }

    /// Bytes came.
    pub(super) fn add(&self, bytes: u64, now: Instant) {
        let came = self.bytes.fetch_add(bytes, Relaxed) + bytes;
        let at = self.milliseconds(now);
        let since = self.window[0].load(Relaxed);
        if at >= since + WINDOW {
            self.rate.store((came - self.window[1].load(Relaxed)) * 1000 / (at - since), Relaxed);
            self.window[0].store(at, Relaxed);
            self.window[1].store(came, Relaxed);
        }
    }

    /// That piece is there from a source, or is not any more.
    pub(super) fn set(&self, piece: usize, source: Option<Source>) {
        if let Some(pieces) = self.pieces.get() {
            pieces[piece].store(source.map_or(0, Source::code), Relaxed);
        }
    }

    /// Who brought which piece.
    pub(super) fn map(&self) -> Map {
        self.map_of(&self.sources())
    }

    /// How it stands.
    pub(in crate::fetch) fn picture(&self, now: Instant) -> Picture {
        let sources = self.sources();
        Picture {
            path: self.path.clone(),
            repository: self.repository.clone(),
            expected: self.expected,
            since: now.saturating_duration_since(self.began),
            bytes: self.bytes.load(Relaxed),
            rate: self.rate(now),
            there: sources.iter().flatten().count(),
            map: self.map_of(&sources),
        }
    }

    fn map_of(&self, sources: &[Option<Source>]) -> Map {
        if sources.is_empty() { Map::alike(self.expected.pieces(), None) } else { Map::of(sources) }
    }

    fn sources(&self) -> Vec<Option<Source>> {
        self.pieces.get().into_iter().flatten().map(|piece| Source::of_code(piece.load(Relaxed))).collect()
    }

    /// Of the last window that is whole, or of the one since, when that is longer.
    fn rate(&self, now: Instant) -> u64 {
        let at = self.milliseconds(now);
        let since = self.window[0].load(Relaxed);
        if since > 0 && at < since + WINDOW {
            return self.rate.load(Relaxed);
        }
        let came = self.bytes.load(Relaxed).saturating_sub(self.window[1].load(Relaxed));
        came * 1000 / at.saturating_sub(since).max(1)
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_millis() as u64
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's clock begins somewhere")]
mod tests {
    use crate::hash::ContentHash;

    use super::*;

    #[test]
    fn a_map_has_so_many_cells_at_most_and_shows_what_is_missing() {
        let mut pieces = vec![Some(Source::Mirror); 3 * MAX_CELLS - 1];
        pieces[4] = None;
        pieces[6] = Some(Source::Lan);
        let map = Map::of(&pieces);
        assert_eq!((map.pieces_per_cell, map.cells.len()), (3, MAX_CELLS));
        assert_eq!(map.cells[..4], [Some(Source::Mirror), None, Some(Source::Lan), Some(Source::Mirror)]);
        assert_eq!(Map::of(&pieces[..3]).pieces_per_cell, 1);
        assert_eq!(Map::whole(1200, Source::Store).cells.len(), 400);
        assert!(Map::of(&[]).cells.is_empty());
    }

    #[test]
    fn a_picture_shows_the_rate_of_late_and_the_pieces_by_source() {
        let start = Instant::now();
        let expected = Expected { hash: ContentHash::of(b"a"), size: 3 << 19 };
        let live = Live::new("pool/a.deb", "mirror.example.org/debian", expected, start);
        live.begin();
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        live.add(500, after(500));
        assert_eq!(live.picture(after(500)).rate, 1000);
        live.add(500, after(1000));
        live.set(2, Some(Source::Peer));
        live.set(0, Some(Source::Mirror));
        live.add(3000, after(2000));
        let picture = live.picture(after(2500));
        assert_eq!((picture.rate, picture.bytes, picture.there), (3000, 4000, 2));
        assert_eq!(picture.map.cells, [Some(Source::Mirror), None, Some(Source::Peer)]);
        assert_eq!(live.picture(after(4000)).rate, 0, "nothing has come for two seconds");
        live.set(2, None);
        assert_eq!(live.picture(after(4000)).there, 1);
    }

    #[test]
    fn a_promise_of_any_size_takes_no_room_before_there_is_room_for_the_file() {
        let expected = Expected { hash: ContentHash::of(b"a"), size: u64::MAX };
        let live = Live::new("pool/a.deb", "mirror.example.org/debian", expected, Instant::now());
        live.set(7, Some(Source::Mirror));
        let picture = live.picture(Instant::now());
        assert!(picture.there == 0 && picture.map.cells.len() <= MAX_CELLS, "{}", picture.map.cells.len());
        assert!(picture.map.cells.iter().all(Option::is_none) && picture.map.pieces == expected.pieces());
    }

    #[test]
    fn a_neighbour_is_of_the_lan() {
        for (ip, source) in [
            ("192.168.1.7", Source::Lan),
            ("127.0.0.1", Source::Lan),
            ("fe80::1", Source::Lan),
            ("fd00::1", Source::Lan),
            ("8.8.8.8", Source::Peer),
            ("2a00::1", Source::Peer),
        ] {
            assert_eq!(Source::of_peer(ip.parse().unwrap()), source, "{ip}");
        }
        for source in Source::ALL {
            assert_eq!(Source::of_code(source.code()), Some(source));
        }
    }
}
