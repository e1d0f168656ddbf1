//! Compressed indexes, unpacked as they are read and never beyond a limit.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use xz2::{bufread::XzDecoder, stream};

/// Most memory that unpacking may take, in bytes. The archive's own xz files ask for 9 MiB, `xz -9` for 65 MiB.
pub const MAX_MEMORY: u64 = 80 * 1024 * 1024;

/// Bytes unpacked at a time.
const BUFFER: usize = 64 * 1024;

/// How the bytes of an index are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952), also several members in a row.
    Gz,
    /// xz, also several streams in a row.
    Xz,
}

impl Compression {
    /// Takes the name of a file apart into that of the plain file and its packing. Other packings count as none.
    pub fn of(name: &str) -> (&str, Self) {
        match name.rsplit_once('.') {
            Some((plain, "gz")) => (plain, Self::Gz),
            Some((plain, "xz")) => (plain, Self::Xz),
            _ => (name, Self::None),
        }
    }
}

/// Unpacks bytes as they are read. More than `limit` bytes of output are an error, whatever the input.
pub fn decompress<R: BufRead>(compression: Compression, reader: R, limit: u64) -> io::Result<impl BufRead + use<R>> {
    let unpacked = match compression {
        Compression::None => Unpacked::Plain(reader),
        Compression::Gz => Unpacked::Gz(MultiGzDecoder::new(reader)),
        Compression::Xz => {
            let decoder = stream::Stream::new_stream_decoder(MAX_MEMORY, stream::CONCATENATED)?;
            Unpacked::Xz(XzDecoder::new_stream(reader, decoder))
        }
    };
    Ok(BufReader::with_capacity(BUFFER, Bounded { unpacked, left: limit }))
}

enum Unpacked<R> {
    Plain(R),
    Gz(MultiGzDecoder<R>),
    Xz(XzDecoder<R>),
}

struct Bounded<R> {
    unpacked: Unpacked<R>,
    left: u64,
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.unpacked {
            Unpacked::Plain(reader) => reader.read(buffer),
            Unpacked::Gz(reader) => reader.read(buffer),
            Unpacked::Xz(reader) => reader.read(buffer),
        }?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "unpacks to more than the archive says"))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;
    use xz2::write::XzEncoder;

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = XzEncoder::new(Vec::new(), 0);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(compression: Compression, packed: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decompress(compression, packed, limit)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn packed(bytes: &[u8]) -> [(Compression, Vec<u8>); 3] {
        [(Compression::None, bytes.to_vec()), (Compression::Gz, gz(bytes)), (Compression::Xz, xz(bytes))]
    }

    #[test]
    fn the_name_tells_the_packing() {
        assert_eq!(Compression::of("Packages.xz"), ("Packages", Compression::Xz));
        assert_eq!(Compression::of("Packages.gz"), ("Packages", Compression::Gz));
        assert_eq!(Compression::of("Packages"), ("Packages", Compression::None));
        assert_eq!(Compression::of("Packages.zst"), ("Packages.zst", Compression::None));
    }

    #[test]
    fn every_packing_gives_the_bytes_back_up_to_the_very_limit() {
        let bytes: Vec<u8> = (0..200_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for (compression, packed) in packed(&bytes) {
            assert!(unpack(compression, &packed, bytes.len() as u64).unwrap() == bytes, "{compression:?}");
            let error = unpack(compression, &packed, bytes.len() as u64 - 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{compression:?}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let zeros = vec![0; 32 << 20];
        for (compression, packed) in packed(&zeros) {
            let mut reader = decompress(compression, &packed[..], 1 << 20).unwrap();
            let read = io::copy(&mut reader.by_ref().take(2 << 20), &mut io::sink());
            assert!(read.is_err(), "{compression:?}");
        }
    }

    #[test]
    fn several_members_are_one_file() {
        assert_eq!(unpack(Compression::Gz, &[gz(b"ab"), gz(b"cd")].concat(), 4).unwrap(), b"abcd");
        assert_eq!(unpack(Compression::Xz, &[xz(b"ab"), xz(b"cd")].concat(), 4).unwrap(), b"abcd");
    }

    #[test]
    fn what_is_cut_or_not_packed_is_an_error() {
        for (compression, packed) in packed(&[7; 5000]).into_iter().skip(1) {
            assert!(unpack(compression, &packed[..packed.len() - 9], 5000).is_err(), "{compression:?}");
            assert!(unpack(compression, b"Package: hello\n", 5000).is_err(), "{compression:?}");
        }
    }

    /// The head of an xz file (The .xz File Format 1.2, sections 2.1.1 and 3.1) with one LZMA2 filter.
    fn xz_head(dictionary: u8) -> Vec<u8> {
        let with_sum = |bytes: &[u8]| {
            let mut sum = flate2::Crc::new();
            sum.update(bytes);
            [bytes, &sum.sum().to_le_bytes()].concat()
        };
        let block = with_sum(&[2, 0, 0x21, 1, dictionary, 0, 0, 0]);
        [b"\xfd7zXZ\0".to_vec(), with_sum(&[0, 0]), block].concat()
    }

    #[test]
    fn a_dictionary_of_gigabytes_is_refused() {
        let eight_mib = unpack(Compression::Xz, &xz_head(22), 5000).unwrap_err();
        assert_eq!(eight_mib.kind(), io::ErrorKind::UnexpectedEof, "{eight_mib}");
        let four_gib = unpack(Compression::Xz, &xz_head(40), 5000).unwrap_err();
        assert_ne!(four_gib.kind(), io::ErrorKind::UnexpectedEof, "{four_gib}");
    }
}
