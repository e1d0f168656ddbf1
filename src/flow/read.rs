//! Reading: a proven index becomes what the catalogue knows.
//!
//! ```text
//!  file --unpacked, on a thread of its own--> chunks, a few ahead --paragraphs--> entries --> gathered --all at once--> store
//! ```
//!
//! Unpacking takes longest by far; everything else goes on beside it.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use crate::{
    archive::{Compression, MAX_UNPACKED, Vouched, deb822::BadText, decompress, entries, index_kind},
    store::{Store, StoreError},
};

/// Chunks unpacked ahead, of 64 KiB each as they come.
const AHEAD: usize = 16;

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
    /// The catalogue said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Learns an index from a file that has the bytes which `index`, under its plain path, promises, packed as said. The
/// number of its files; 0 when it is known already or nothing is read from its kind.
///
/// A malformed paragraph is left out. An index that cannot be read to its end teaches nothing.
pub fn read(store: &Store, index: &Vouched, compression: Compression, file: impl Read + Send) -> Result<usize, Unread> {
    let Some((kind, _)) = index_kind(index.path()) else { return Ok(0) };
    let Some(mut gathering) = store.gather(index)? else { return Ok(0) };
    let limit = unpacked_size(store, index)?;
    let mut left_out = None;
    unpacked(compression, file, limit, |plain| {
        for entry in entries(kind, index, plain) {
            match entry {
                Ok(entry) => gathering.add(&entry.file),
                Err(error @ BadText::Paragraph { .. }) => drop(left_out.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })?;
    if let Some(error) = left_out {
        tracing::warn!(path = index.path(), %error, "entries left out");
    }
    Ok(gathering.record()?)
}

/// How many bytes an index may unpack to: as many as its Release says of the plain file.
fn unpacked_size(store: &Store, index: &Vouched) -> Result<u64, StoreError> {
    let (plain, _) = Compression::of(index.path());
    let promised = store.promise(&format!("{}/{plain}", index.repository()))?;
    Ok(promised.map_or(MAX_UNPACKED, |plain| plain.expected().size))
}

/// Unpacks on a thread of its own while `read` reads.
fn unpacked<T>(compression: Compression, file: impl Read + Send, limit: u64, read: impl FnOnce(Ahead) -> T) -> T {
    let (sender, chunks) = sync_channel(AHEAD);
    thread::scope(|scope| {
        scope.spawn(move || {
            let unpack = || {
                let mut plain = decompress(compression, BufReader::with_capacity(BUFFER, file), limit)?;
                loop {
                    let chunk = plain.fill_buf()?.to_vec();
                    let length = chunk.len();
                    // When nobody reads any more, nobody misses the rest.
                    if length == 0 || sender.send(Ok(chunk)).is_err() {
                        return Ok(());
                    }
                    plain.consume(length);
                }
            };
            if let Err(error) = unpack() {
                let _nobody_reads = sender.send(Err(error));
            }
        });
        read(Ahead { chunks, chunk: Vec::new(), at: 0 })
    })
}

/// What was unpacked so far, in order.
struct Ahead {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len()
            && let Ok(chunk) = self.chunks.recv()
        {
            (self.chunk, self.at) = (chunk?, 0);
        }
        Ok(&self.chunk[self.at..])
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
