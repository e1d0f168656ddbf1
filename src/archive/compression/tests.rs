use std::io::{Write, repeat};

use crate::archive::testing::pack;

use super::*;

fn unpack(compression: Compression, packed: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    decompress(compression, packed, limit)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn packed(bytes: &[u8]) -> impl Iterator<Item = (Compression, Vec<u8>)> {
    Compression::ALL.into_iter().map(move |compression| (compression, pack(compression, bytes)))
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// `Package: hello` and `Version: 2.10-3`, each packed by the format's own tool.
const BY_TOOLS: [(Compression, &str, &str); 6] = [
    (
        Compression::Gz,
        "1f8b08000000000000030b484cce4e4c4fb552c848cdc9c9e70200ac82bc4a0f000000",
        "1f8b08000000000000030b4b2d2acecccfb35230d23334d035e6020096be7ebb10000000",
    ),
    (
        Compression::Xz,
        "fd377a585a000004e6d6b4460200210116000000742fe5a301000e5061636b6167653a2068656c6c6f0a0000f8c3780b19eeb35300\
         01270fdf1afc6a1fb6f37d010000000004595a",
        "fd377a585a000004e6d6b4460200210116000000742fe5a301000f56657273696f6e3a20322e31302d330a004d8e7edd8c22fc9000\
         012810e50b6c601fb6f37d010000000004595a",
    ),
    (
        Compression::Bz2,
        "425a68393141592653597f1cbfef000001db0000104000001040002acca000220019040d0343a3228e02e0ef278bb9229c28483f8e\
         5ff780",
        "425a6839314159265359d2496942000004db800010400378100100022198002000229a346f540f48530004d20c810775b9494fc5dc\
         914e142434925a5080",
    ),
    (
        Compression::Zst,
        "28b52ffd240f7900005061636b6167653a2068656c6c6f0a78b57d1f",
        "28b52ffd241081000056657273696f6e3a20322e31302d330adfbc657b",
    ),
    (
        Compression::Lz4,
        "04224d186440a70f0000805061636b6167653a2068656c6c6f0a000000007e4ee412",
        "04224d186440a71000008056657273696f6e3a20322e31302d330a00000000f1d05067",
    ),
    (
        Compression::Lzma,
        "5d00008000ffffffffffffffff0028184866dbda3085fe16e55ca878f95d4d8b3fffff460c0000",
        "5d00008000ffffffffffffffff002b194a475c64ba0425bb280fc03bff7c3698c3d63ffff7ccc000",
    ),
];

#[test]
fn the_name_tells_the_packing() {
    for compression in Compression::ALL {
        let name = format!("dists/sid/Packages{}", compression.suffix());
        assert_eq!(Compression::of(&name), ("dists/sid/Packages", compression));
    }
    assert_eq!(Compression::of("Packages.lzo"), ("Packages.lzo", Compression::None));
    assert_eq!(Compression::of("xz"), ("xz", Compression::None));
}

#[test]
fn every_packing_gives_the_bytes_back_up_to_the_very_limit() {
    let bytes: Vec<u8> = (0..200_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
    for (compression, packed) in packed(&bytes) {
        assert!(unpack(compression, &packed, bytes.len() as u64).unwrap() == bytes, "{compression:?}");
        let error = unpack(compression, &packed, bytes.len() as u64 - 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{compression:?}");
    }
    for (compression, packed) in packed(b"") {
        assert_eq!(unpack(compression, &packed, 0).unwrap(), b"", "{compression:?}");
    }
}

#[test]
fn what_each_format_s_own_tool_packed_is_read_one_and_several_in_a_row() {
    for (compression, one, two) in BY_TOOLS {
        let (one, two) = (unhex(one), unhex(two));
        assert_eq!(unpack(compression, &one, 15).unwrap(), b"Package: hello\n", "{compression:?}");
        assert_eq!(unpack(compression, &two, 16).unwrap(), b"Version: 2.10-3\n", "{compression:?}");
        if compression != Compression::Lzma {
            let both = unpack(compression, &[one, two].concat(), 31).unwrap();
            assert_eq!(both, b"Package: hello\nVersion: 2.10-3\n", "{compression:?}");
        }
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let zeros = vec![0; 32 << 20];
    for (compression, packed) in packed(&zeros) {
        let mut reader = decompress(compression, &packed[..], 1 << 20).unwrap();
        let read = io::copy(&mut reader.by_ref().take(2 << 20), &mut io::sink());
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::FileTooLarge, "{compression:?}");
    }
}

#[test]
fn a_bomb_of_many_small_parts_is_stopped_too() {
    for (compression, part) in packed(&[0; 5000]).filter(|(compression, _)| *compression != Compression::Lzma) {
        let error = unpack(compression, &part.repeat(20), 99_999).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{compression:?}");
    }
}

#[test]
fn what_is_cut_anywhere_or_not_packed_is_an_error() {
    let bytes: Vec<u8> = (0..9000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for (compression, packed) in packed(&bytes).skip(1) {
        for cut in (1..packed.len() - 9).step_by(packed.len() / 50).chain([packed.len() - 9]) {
            assert!(unpack(compression, &packed[..cut], 1 << 20).is_err(), "{compression:?} cut at {cut}");
        }
        assert!(unpack(compression, b"Package: hello\nVersion: 1\n", 1 << 20).is_err(), "{compression:?}");
    }
}

#[test]
fn a_frame_cut_where_its_blocks_end_is_an_error() {
    let whole = unhex(BY_TOOLS[4].1);
    let (before_the_end, blocks) = (whole.len() - 8, "04224d186440a7".len() / 2);
    for cut in [blocks, before_the_end] {
        let error = unpack(Compression::Lz4, &whole[..cut], 100).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
    }
}

#[test]
fn changed_bytes_are_found_by_the_checksum_of_a_zstd_frame() {
    let mut frame = unhex(BY_TOOLS[3].1);
    frame[12] ^= 1;
    assert_eq!(unpack(Compression::Zst, &frame, 100).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn frames_without_data_are_passed_over() {
    let frame = unhex(BY_TOOLS[3].1);
    let skippable = [&0x184d_2a53_u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"xyz"].concat();
    let row = [&skippable[..], &frame, &skippable].concat();
    assert_eq!(unpack(Compression::Zst, &row, 100).unwrap(), b"Package: hello\n");
    assert!(unpack(Compression::Zst, &row[..row.len() - 1], 100).is_err());
}

/// LZ4 frames of one stored block each, of 64 KiB and 4 MiB at most: the second asks for larger buffers, the third for
/// smaller ones.
#[test]
fn frames_of_different_block_sizes_follow_each_other() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let bytes: Vec<u8> = (0..700_000u32).map(|i| (i % 251) as u8).collect();
    let frame = |size, mode| {
        let mut encoder = FrameEncoder::with_frame_info(FrameInfo::new().block_size(size).block_mode(mode), Vec::new());
        encoder.write_all(&bytes).unwrap();
        encoder.finish().unwrap()
    };
    for mode in [BlockMode::Linked, BlockMode::Independent] {
        let row = [frame(BlockSize::Max64KB, mode), frame(BlockSize::Max4MB, mode), frame(BlockSize::Max64KB, mode)];
        assert!(unpack(Compression::Lz4, &row.concat(), 2_100_000).unwrap() == bytes.repeat(3), "{mode:?}");
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

/// The head of a zstd frame (RFC 8878, section 3.1.1.1) with a window of 2^(10 + exponent) bytes, and an empty last block.
fn zstd_frame(exponent: u8) -> Vec<u8> {
    [&0xfd2f_b528_u32.to_le_bytes()[..], &[0, exponent << 3], &[1, 0, 0]].concat()
}

/// The head of an lzma file: properties, dictionary size, size unknown; then the first bytes of the range coder.
fn lzma_head(dictionary: u32) -> Vec<u8> {
    [&[0x5d][..], &dictionary.to_le_bytes(), &[0xff; 8], &[0; 6]].concat()
}

#[test]
fn a_dictionary_of_gigabytes_is_refused() {
    for (small, large, compression) in
        [(xz_head(22), xz_head(40), Compression::Xz), (lzma_head(8 << 20), lzma_head(3 << 30), Compression::Lzma)]
    {
        let eight_mib = unpack(compression, &small, 5000).unwrap_err();
        assert_eq!(eight_mib.kind(), io::ErrorKind::UnexpectedEof, "{eight_mib}");
        let gigabytes = unpack(compression, &large, 5000).unwrap_err();
        assert_ne!(gigabytes.kind(), io::ErrorKind::UnexpectedEof, "{gigabytes}");
    }
    assert_eq!(unpack(Compression::Zst, &zstd_frame(15), 5000).unwrap(), b"");
    let large = unpack(Compression::Zst, &zstd_frame(16), 5000).unwrap_err();
    assert!(large.to_string().contains("window"), "{large}");
}

#[test]
fn a_gigabyte_of_one_line_ends_at_the_line_s_limit() {
    use crate::archive::deb822::{BadText, Comments, MAX_LINE, Paragraphs};
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::copy(&mut repeat(b'x').take(1 << 30), &mut packer).unwrap();
    let packed = packer.finish().unwrap();
    let mut rest = &packed[..];
    let plain = decompress(Compression::Gz, &mut rest, 1 << 31).unwrap();
    let error = Paragraphs::new(plain, Comments::Refused).next_paragraph().unwrap_err();
    assert!(matches!(error, BadText::TooLong { line: 1, what: "line", limit: MAX_LINE }), "{error}");
    assert!(rest.len() > packed.len() * 9 / 10, "{} of {} left", rest.len(), packed.len());
}

proptest::proptest! {
    #[test]
    fn changed_bytes_are_an_error_or_other_bytes_within_the_limit(
        kind in 0..Compression::ALL.len(),
        changes in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), 0..=255u8), 1..4),
    ) {
        let compression = Compression::ALL[kind];
        let mut bytes = pack(compression, &b"Package: hello\nVersion: 2.10-3\n\n".repeat(50));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(plain) = unpack(compression, &bytes, 10_000) {
            proptest::prop_assert!(plain.len() <= 10_000);
        }
    }
}
