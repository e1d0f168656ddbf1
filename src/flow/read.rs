//! Reading: a proven index becomes what the catalogue knows.
//!
//! ```text
//!  file --unpacked, on a thread of its own--> chunks, a few ahead --paragraphs--> entries --> gathered --all at once--> store
//! ```
//!
//! Unpacking takes longest by far; everything else goes on beside it.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use crate::{
    archive::{Compression, MAX_UNPACKED, Vouched, deb822::BadText, decompress, entries, index_kind},
    hash::Hasher,
    store::{Store, StoreError},
};

/// Chunks unpacked ahead, and the bytes of each.
const AHEAD: usize = 4;
const CHUNK: usize = 256 * 1024;

/// Bytes of the packed file that are read at once.
const BUFFER: usize = 128 * 1024;

/// Why an index was not learned.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// Its text ends where no index ends, or could not be unpacked or read so far.
    #[error(transparent)]
    Text(#[from] BadText),
    /// It could not be unpacked at all.
    #[error(transparent)]
    Packed(#[from] io::Error),
    /// Its bytes are not those that its Release lists.
    #[error("not what its Release says")]
    Unproven,
    /// The catalogue said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Learns an index from a file that has the bytes which `index`, under its plain path, promises, packed as said. The
/// number of its files; 0 when it is known already or nothing is read from its kind.
///
/// A malformed paragraph is left out. An index that cannot be read to its end teaches nothing.
pub fn read(store: &Store, index: &Vouched, compression: Compression, file: impl Read + Send) -> Result<usize, Unread> {
    learn(store, index, compression, file, Proof { packed: None, plain: None })
}

/// The same from a file that nobody has hashed yet. It is hashed while it is read, and teaches only what it proves: the
/// bytes as they are when the path of `index` says that they are packed so, else what they unpack to.
pub fn read_unproven(
    store: &Store,
    index: &Vouched,
    compression: Compression,
    file: impl Read + Send,
) -> Result<usize, Unread> {
    let hasher = Some(Hasher::new(index.expected()));
    let proof = match Compression::of(index.path()).1 == compression {
        true => Proof { packed: hasher, plain: None },
        false => Proof { packed: None, plain: hasher },
    };
    learn(store, index, compression, file, proof)
}

/// Which bytes are hashed while an index is read.
struct Proof {
    packed: Option<Hasher>,
    plain: Option<Hasher>,
}

fn learn(
    store: &Store,
    index: &Vouched,
    compression: Compression,
    file: impl Read + Send,
    proof: Proof,
) -> Result<usize, Unread> {
    let Some((kind, _)) = index_kind(index.path()) else { return Ok(0) };
    let Some(mut gathering) = store.gather(index)? else { return Ok(0) };
    let limit = unpacked_size(store, index)?;
    let mut left_out = None;
    let mut file = Hashed { bytes: file, hasher: proof.packed };
    let plain = unpacked(compression, &mut file, limit, |plain| {
        let mut plain = Hashed { bytes: plain, hasher: proof.plain };
        for entry in entries(kind, index, &mut plain) {
            match entry {
                Ok(entry) => gathering.add(&entry.file),
                Err(error @ BadText::Paragraph { .. }) => drop(left_out.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(plain.hasher)
    })?;
    if file.hasher.is_some() {
        // What lies behind the packed text counts as well.
        io::copy(&mut (&mut file).take(index.expected().size.saturating_add(1)), &mut io::sink())?;
    }
    for hasher in file.hasher.into_iter().chain(plain) {
        hasher.finish().map_err(|_| Unread::Unproven)?;
    }
    if let Some(error) = left_out {
        tracing::warn!(path = index.path(), %error, "entries left out");
    }
    Ok(gathering.record()?)
}

/// Bytes that are hashed as they are read, where there is a hasher.
struct Hashed<R> {
    bytes: R,
    hasher: Option<Hasher>,
}

impl<R> Hashed<R> {
    fn hash(hasher: &mut Option<Hasher>, bytes: &[u8]) {
        if let Some(hasher) = hasher {
            hasher.update(bytes);
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.bytes.read(buffer)?;
        Self::hash(&mut self.hasher, &buffer[..length]);
        Ok(length)
    }
}

impl BufRead for Hashed<Ahead> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.bytes.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        Self::hash(&mut self.hasher, &self.bytes.here()[..amount]);
        self.bytes.consume(amount);
    }
}

/// How many bytes an index may unpack to: as many as its Release says of the plain file. A Release that lists only packed
/// files says nothing of it; then, and where it says more, it is what no index of any archive comes near to.
fn unpacked_size(store: &Store, index: &Vouched) -> Result<u64, StoreError> {
    let (plain, _) = Compression::of(index.path());
    let promised = store.promise_in(index.repository(), plain)?;
    Ok(promised.map_or(MAX_UNPACKED, |plain| plain.expected().size.min(MAX_UNPACKED)))
}

/// Unpacks on a thread of its own while `read` reads.
fn unpacked<T>(compression: Compression, file: impl Read + Send, limit: u64, read: impl FnOnce(Ahead) -> T) -> T {
    let (sender, chunks) = sync_channel(AHEAD);
    let (give_back, used) = sync_channel(AHEAD);
    thread::scope(|scope| {
        scope.spawn(move || {
            let unpack = || {
                let mut plain = decompress(compression, BufReader::with_capacity(BUFFER, file), limit)?;
                loop {
                    let mut bytes: Vec<u8> = used.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
                    let length = plain.read(&mut bytes)?;
                    // When nobody reads any more, nobody misses the rest.
                    if length == 0 || sender.send(Ok(Chunk { bytes, length })).is_err() {
                        return Ok(());
                    }
                }
            };
            if let Err(error) = unpack() {
                let _nobody_reads = sender.send(Err(error));
            }
        });
        read(Ahead { chunks, give_back, chunk: Chunk { bytes: Vec::new(), length: 0 }, at: 0 })
    })
}

/// Unpacked bytes, and how many of them there are.
struct Chunk {
    bytes: Vec<u8>,
    length: usize,
}

/// What was unpacked so far, in order.
struct Ahead {
    chunks: Receiver<io::Result<Chunk>>,
    /// Chunks that were read, to be filled anew.
    give_back: SyncSender<Vec<u8>>,
    chunk: Chunk,
    at: usize,
}

impl Ahead {
    /// What is left of the chunk that is being read.
    fn here(&self) -> &[u8] {
        &self.chunk.bytes[self.at..self.chunk.length]
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.length
            && let Ok(chunk) = self.chunks.recv()
        {
            let read = std::mem::replace(&mut self.chunk, chunk?);
            self.at = 0;
            if !read.bytes.is_empty() {
                let _enough_of_them = self.give_back.try_send(read.bytes);
            }
        }
        Ok(self.here())
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        archive::{Repository, testing::pack},
        hash::{ContentHash, Expected},
        store::Config,
    };

    use super::*;

    const HOUSE: &str = "mirror.example.org/debian";
    const PACKAGES: &str = "dists/sid/main/binary-amd64/Packages";

    fn entry(n: u32) -> String {
        let hash = ContentHash::of(&n.to_be_bytes());
        format!("Package: p{n}\nFilename: pool/p{n}.deb\nSize: 4\nSHA256: {hash}\n\n")
    }

    /// Learns a text, packed so, that its Release says to have `size` bytes unpacked; what came of it, and whether the first
    /// and the last of a thousand files are promised.
    fn learned_packed(compression: Compression, text: &str, size: Option<usize>) -> (Result<usize, Unread>, [bool; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { path: dir.path().join("store"), quota: 1 << 20, min_free: 0 };
        let store = Store::open(&config, |_| true).unwrap();
        let member = |end: &str, size| {
            let expected = Expected { hash: ContentHash::of(end.as_bytes()), size };
            Vouched::restore(expected, Repository::restore(HOUSE), format!("{PACKAGES}{end}"), true)
        };
        let plain = size.map(|size| member("", size as u64));
        let packed = member(compression.suffix(), 7);
        let members = plain.into_iter().filter(|plain| plain.path() != packed.path()).chain([packed.clone()]);
        let repository = Repository::restore(HOUSE);
        store.record_release(&repository, "dists/sid", std::time::UNIX_EPOCH, "key", members).unwrap();
        let result = read(&store, &packed, compression, &pack(compression, text.as_bytes())[..]);
        let promised = [0, 999].map(|n| store.promise(&format!("{HOUSE}/pool/p{n}.deb")).unwrap().is_some());
        (result, promised)
    }

    fn learned(text: &str, size: usize) -> (Result<usize, Unread>, [bool; 2]) {
        learned_packed(Compression::Gz, text, Some(size))
    }

    #[test]
    fn an_index_of_any_packing_is_learned_up_to_the_size_that_its_release_says_and_not_a_byte_beyond() {
        let text: String = (0..1000).map(entry).collect();
        for compression in &Compression::ALL[1..] {
            let unlisted = learned_packed(*compression, &text, None);
            assert!(matches!(unlisted, (Ok(1000), [true, true])), "{compression:?}: {unlisted:?}");
            let whole = learned_packed(*compression, &text, Some(text.len()));
            assert!(matches!(whole, (Ok(1000), [true, true])), "{compression:?}: {whole:?}");
            let beyond = learned_packed(*compression, &text, Some(text.len() - 1));
            assert!(matches!(beyond, (Err(_), [false, false])), "{compression:?}: {beyond:?}");
        }
    }

    /// Empty lines without end behind what was promised; any number of them would be read as nothing.
    #[test]
    fn a_bomb_of_any_packing_teaches_nothing_and_is_not_unpacked_beyond_what_was_promised() {
        let text: String = (0..1000).map(entry).chain(["\n".repeat(8 << 20)]).collect();
        for compression in &Compression::ALL[1..] {
            let packed = pack(*compression, text.as_bytes());
            let bomb = unpacked(*compression, &packed[..], 300_000, |mut plain| {
                let mut unpacked = Vec::new();
                (plain.read_to_end(&mut unpacked).unwrap_err().kind(), unpacked.len())
            });
            assert!(matches!(bomb, (io::ErrorKind::FileTooLarge, ..=300_000)), "{compression:?}: {bomb:?}");
            let learned = learned_packed(*compression, &text, Some(300_000));
            assert!(matches!(learned, (Err(_), [false, false])), "{compression:?}: {learned:?}");
            let unbounded = learned_packed(*compression, &text, None);
            assert!(matches!(unbounded, (Ok(1000), [true, true])), "{compression:?}: {unbounded:?}");
        }
    }

    #[test]
    fn an_index_that_cannot_be_read_to_its_end_teaches_nothing() {
        let text: String = (0..1000).map(entry).collect();
        assert!(matches!(learned(&text, text.len()), (Ok(1000), [true, true])));
        assert!(matches!(learned(&text, text.len() - 1), (Err(_), [false, false])));
        let endless = format!("{text}Description: {}", "x".repeat(2 << 20));
        assert!(matches!(learned(&endless, endless.len()), (Err(_), [false, false])));
        let one_bad = text.replacen("Size: 4", "Size: four", 1);
        assert!(matches!(learned(&one_bad, one_bad.len()), (Ok(999), [false, true])));
    }

    #[test]
    fn a_file_that_nobody_hashed_teaches_only_what_it_proves_packed_or_not() {
        let text: String = (0..1000).map(entry).collect();
        let dir = tempfile::tempdir().unwrap();
        let config = Config { path: dir.path().join("store"), quota: 1 << 20, min_free: 0 };
        let store = Store::open(&config, |_| true).unwrap();
        let mut day = 0;
        let mut learned = |of: Compression, listed: &[u8], compression, file: &[u8]| {
            let expected = Expected { hash: ContentHash::of(listed), size: listed.len() as u64 };
            let path = format!("{PACKAGES}{}", of.suffix());
            let index = Vouched::restore(expected, Repository::restore(HOUSE), path, true);
            day += 86_400;
            let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(day);
            // A Release without it in between, so that it is new each time.
            for members in [vec![], vec![index.clone()]] {
                let repository = Repository::restore(HOUSE);
                store.record_release(&repository, "dists/sid", date, "key", members).unwrap();
            }
            let learned = read_unproven(&store, &index, compression, file);
            (learned, store.promise(&format!("{HOUSE}/pool/p999.deb")).unwrap().is_some())
        };
        for compression in Compression::ALL {
            let packed = pack(compression, text.as_bytes());
            for (of, listed) in [(compression, &packed[..]), (Compression::None, text.as_bytes())] {
                let honest = learned(of, listed, compression, &packed);
                assert!(matches!(honest, (Ok(1000), true)), "{compression:?} of {of:?}: {honest:?}");
                let changed = pack(compression, text.replacen("p7", "p8", 1).as_bytes());
                let another = learned(of, listed, compression, &changed);
                assert!(matches!(another, (Err(_), false)), "{compression:?} of {of:?}: {another:?}");
            }
            let behind = [&packed[..], b"\n"].concat();
            let more = learned(compression, &packed, compression, &behind);
            assert!(matches!(more, (Err(_), false)), "{compression:?}: {more:?}");
        }
    }

    #[test]
    fn what_is_read_is_what_was_packed_whoever_is_faster() {
        let bytes: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = pack(Compression::Gz, &bytes);
        let read = |pause: bool| {
            unpacked(Compression::Gz, &packed[..], bytes.len() as u64, |mut plain| {
                let mut read: Vec<u8> = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    match plain.read(&mut buffer).unwrap() {
                        0 => return read,
                        length => read.extend(&buffer[..length]),
                    }
                    if pause {
                        thread::yield_now();
                    }
                }
            })
        };
        assert!(read(false) == bytes && read(true) == bytes);
    }

    #[test]
    fn a_reader_that_has_enough_ends_the_unpacking() {
        let packed = pack(Compression::Gz, &vec![7; 64 << 20]);
        let first = unpacked(Compression::Gz, &packed[..], u64::MAX, |mut plain| plain.fill_buf().unwrap()[0]);
        assert_eq!(first, 7);
    }

    #[test]
    fn what_went_wrong_comes_behind_what_went_well() {
        let packed = pack(Compression::Gz, &[7; 300_000]);
        for (packed, limit) in [(&packed[..packed.len() - 9], u64::MAX), (&packed[..], 299_999)] {
            let mut read = Vec::new();
            let error = unpacked(Compression::Gz, packed, limit, |mut plain| plain.read_to_end(&mut read)).unwrap_err();
            assert!(!read.is_empty() && read.iter().all(|byte| *byte == 7), "{error}");
        }
    }
}
