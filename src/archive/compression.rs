//! Compressed indexes, unpacked as they are read and never beyond a limit.
//!
//! | name    | format                               | several in a row | memory at most                     |
//! |---------|--------------------------------------|------------------|------------------------------------|
//! | `.gz`   | RFC 1952                             | members          | 64 KiB                             |
//! | `.xz`   | The .xz File Format 1.2              | streams          | [`MAX_MEMORY`]                     |
//! | `.bz2`  | bzip2                                | streams          | 4 MB                               |
//! | `.zst`  | RFC 8878, without dictionaries       | frames           | [`MAX_WINDOW`], twice as it grows  |
//! | `.lz4`  | LZ4 Frame Format 1.6, no legacy ones | frames           | three blocks of 8 MiB              |
//! | `.lzma` | LZMA_Alone                           | -                | [`MAX_MEMORY`]                     |
//!
//! **Security.** What a header asks for is refused before anything is allocated, and output is counted: a bomb ends at the
//! limit that the Release set, with a few buffers filled.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use xz2::{bufread::XzDecoder, stream};

use frames::{Lz4Frames, ZstdFrames};

mod frames;

/// Most memory that unpacking xz or lzma may take, in bytes. The archive's own files ask for 9 MiB, `xz -9` for 65 MiB.
pub const MAX_MEMORY: u64 = 80 * 1024 * 1024;

/// Largest window of a zstd frame, in bytes. `zstd -19` asks for 8 MiB, `--ultra -20` for 32 MiB.
pub const MAX_WINDOW: u64 = 32 * 1024 * 1024;

/// Bytes unpacked at a time.
const BUFFER: usize = 64 * 1024;

/// How the bytes of an index are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, also several members in a row.
    Gz,
    /// xz, also several streams in a row.
    Xz,
    /// bzip2, also several streams in a row.
    Bz2,
    /// Zstandard, also several frames in a row.
    Zst,
    /// LZ4 frames.
    Lz4,
    /// The format before xz.
    Lzma,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::None, Self::Gz, Self::Xz, Self::Bz2, Self::Zst, Self::Lz4, Self::Lzma];

    /// What the name of a file so packed ends with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gz => ".gz",
            Self::Xz => ".xz",
            Self::Bz2 => ".bz2",
            Self::Zst => ".zst",
            Self::Lz4 => ".lz4",
            Self::Lzma => ".lzma",
        }
    }

    /// Takes the name or path of a file apart into that of the plain file and its packing. Other packings count as none.
    pub fn of(name: &str) -> (&str, Self) {
        let packed = Self::ALL[1..].iter().find_map(|&packing| Some((name.strip_suffix(packing.suffix())?, packing)));
        packed.unwrap_or((name, Self::None))
    }
}

/// Unpacks bytes as they are read. More than `limit` bytes of output are an error, whatever the input.
pub fn decompress<R: BufRead>(compression: Compression, reader: R, limit: u64) -> io::Result<impl BufRead + use<R>> {
    let unpacked = match compression {
        Compression::None => Unpacked::Plain(reader),
        Compression::Gz => Unpacked::Gz(MultiGzDecoder::new(reader)),
        Compression::Xz => {
            let decoder = stream::Stream::new_stream_decoder(MAX_MEMORY, stream::CONCATENATED)?;
            Unpacked::Lzma(XzDecoder::new_stream(reader, decoder))
        }
        Compression::Bz2 => Unpacked::Bz2(MultiBzDecoder::new(reader)),
        Compression::Zst => Unpacked::Zst(Box::new(ZstdFrames::new(reader, MAX_WINDOW))),
        Compression::Lz4 => Unpacked::Lz4(Lz4Frames::new(reader)),
        Compression::Lzma => {
            let decoder = stream::Stream::new_lzma_decoder(MAX_MEMORY)?;
            Unpacked::Lzma(XzDecoder::new_stream(reader, decoder))
        }
    };
    Ok(BufReader::with_capacity(BUFFER, Bounded { unpacked, left: limit }))
}

enum Unpacked<R: BufRead> {
    Plain(R),
    Gz(MultiGzDecoder<R>),
    Bz2(MultiBzDecoder<R>),
    Zst(Box<ZstdFrames<R>>),
    Lz4(Lz4Frames<R>),
    /// xz too.
    Lzma(XzDecoder<R>),
}

struct Bounded<R: BufRead> {
    unpacked: Unpacked<R>,
    left: u64,
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.unpacked {
            Unpacked::Plain(reader) => reader.read(buffer),
            Unpacked::Gz(reader) => reader.read(buffer),
            Unpacked::Bz2(reader) => reader.read(buffer),
            Unpacked::Zst(reader) => reader.read(buffer),
            Unpacked::Lz4(reader) => reader.read(buffer),
            Unpacked::Lzma(reader) => reader.read(buffer),
        }?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "unpacks to more than the archive says"))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
