//! `.deb` files of any wanted size, to the byte.
//!
//! ```text
//!   !<arch>\n                                     8   deb(5), ar with 60-byte member headers
//!   debian-binary   "2.0\n"                  60 + 4
//!   control.tar     ./control                60 + 512 k
//!   data.tar        ./usr/share/<name>/data  60 + 512 m    uncompressed, the content cannot be compressed
//!   _fill           zeros                    60 + rest     only where 512 m does not meet the size; dpkg ignores it
//! ```

use std::{
    fs::File,
    io::{BufWriter, Write},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

const AR_HEADER: u64 = 60;
const TAR_BLOCK: u64 = 512;

/// How large a package is to be.
#[derive(Clone, Copy)]
pub enum Size {
    /// The whole `.deb`, in bytes.
    Whole(u64),
    /// As large as it gets with a data member of no bytes.
    NoData,
}

/// What was written.
pub struct Written {
    /// Length of the `.deb` in bytes.
    pub size: u64,
    /// SHA-256 of the `.deb`, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of the file that it installs.
    pub content_sha256: String,
}

/// Writes a package that installs one file, `/usr/share/<name>/data`, of random bytes.
pub fn write(path: &Path, control: &str, name: &str, size: Size, seed: u64) -> Written {
    let file = File::create(path).expect("a file in the scratch directory");
    let owner = file.metadata().map(|meta| (meta.uid(), meta.gid())).expect("just made");
    let mut out = Hashing { inner: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new(), size: 0 };

    let mut control_tar = Vec::new();
    control_tar.extend(tar_header("./", 0, b'5', owner));
    control_tar.extend(tar_header("./control", control.len() as u64, b'0', owner));
    control_tar.extend(control.as_bytes());
    control_tar.resize(control_tar.len().next_multiple_of(TAR_BLOCK as usize) + 2 * TAR_BLOCK as usize, 0);

    out.put(b"!<arch>\n");
    out.member("debian-binary", 4);
    out.put(b"2.0\n");
    out.member("control.tar", control_tar.len() as u64);
    out.put(&control_tar);

    let folders = ["./".to_owned(), "./usr/".into(), "./usr/share/".into(), format!("./usr/share/{name}/")];
    let frame = (folders.len() as u64 + 1 + 2) * TAR_BLOCK;
    let (content, fill) = match size {
        Size::NoData => (0, None),
        Size::Whole(whole) => {
            let room = whole.checked_sub(out.size + AR_HEADER + frame).expect("a package has some kilobytes at least");
            match room % TAR_BLOCK {
                0 => (room, None),
                rest if rest >= AR_HEADER => (room - rest, Some(rest - AR_HEADER)),
                rest => (room - rest - TAR_BLOCK, Some(rest + TAR_BLOCK - AR_HEADER)),
            }
        }
    };
    out.member("data.tar", content + frame);
    for folder in &folders {
        out.put(&tar_header(folder, 0, b'5', owner));
    }
    out.put(&tar_header(&format!("./usr/share/{name}/data"), content, b'0', owner));
    let content_sha256 = out.noise(content, seed);
    out.put(&[0; 2 * TAR_BLOCK as usize]);
    if let Some(fill) = fill {
        out.member("_fill", fill);
        out.put(&vec![0; fill as usize]);
    }
    out.inner.flush().expect("the disk has room");
    Written { size: out.size, sha256: hex(&out.hash.finalize()), content_sha256 }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Hashing {
    inner: BufWriter<File>,
    hash: Sha256,
    size: u64,
}

impl Hashing {
    fn put(&mut self, bytes: &[u8]) {
        self.inner.write_all(bytes).expect("the disk has room");
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn member(&mut self, name: &str, size: u64) {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 100644);
        self.put(header.as_bytes());
    }

    fn noise(&mut self, size: u64, seed: u64) -> String {
        let mut random = StdRng::seed_from_u64(seed);
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 1 << 18];
        let mut left = size as usize;
        while left > 0 {
            let chunk = &mut chunk[..left.min(1 << 18)];
            random.fill(chunk);
            hash.update(&*chunk);
            self.put(chunk);
            left -= chunk.len();
        }
        hex(&hash.finalize())
    }
}

/// A POSIX ustar header (IEEE 1003.1-1988), owned by whoever runs the tests, so that dpkg need not be root.
fn tar_header(name: &str, size: u64, kind: u8, (uid, gid): (u32, u32)) -> [u8; TAR_BLOCK as usize] {
    let mut header = [0; TAR_BLOCK as usize];
    let mode = if kind == b'5' { "0000755" } else { "0000644" };
    let fields = [
        (0, name.to_owned()),
        (100, mode.to_owned()),
        (108, format!("{uid:07o}")),
        (116, format!("{gid:07o}")),
        (124, format!("{size:011o}")),
        (136, format!("{:011o}", 1_740_000_000)),
        (148, " ".repeat(8)),
        (156, char::from(kind).to_string()),
        (257, "ustar\x0000".to_owned()),
    ];
    for (at, text) in fields {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
