//! The real index, packed as the archive packs it, and once more with one entry in a hundred changed.

use std::{
    fs,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use apt_huddle::{
    archive::{Compression, decompress},
    hash::ContentHash,
};
use flate2::write::GzEncoder;
use xz2::{
    stream::{Check, Filters, LzmaOptions, Stream},
    write::XzEncoder,
};

/// What the name of apt's list ends with.
const NAME: &str = "dists_bookworm_main_binary-amd64_Packages";

/// Files of the index, kept from run to run.
pub struct Corpus {
    pub plain: PathBuf,
    pub xz: PathBuf,
    pub gz: PathBuf,
    /// Every hundredth entry has another version and digest.
    pub changed: PathBuf,
}

impl Corpus {
    /// Unpacks apt's list into a directory and packs it anew, unless that was done before. The error is why it cannot be.
    pub fn prepare(lists: &Path, dir: &Path) -> Result<Self, String> {
        let (list, compression) = find(lists).ok_or_else(|| format!("no {NAME} in {}", lists.display()))?;
        let text = |error: io::Error| format!("{}: {error}", list.display());
        let age = fs::metadata(&list).and_then(|data| data.modified()).map_err(text)?;
        let at = |name: &str| dir.join(format!("bookworm-main-{name}"));
        let corpus =
            Self { plain: at("Packages"), xz: at("Packages.xz"), gz: at("Packages.gz"), changed: at("changed") };
        let made = fs::metadata(&corpus.changed).and_then(|data| data.modified());
        if made.is_ok_and(|made| made > age) {
            return Ok(corpus);
        }
        // A run that ends half-way leaves nothing that looks finished.
        let new = Self {
            plain: at("Packages.new"),
            xz: at("Packages.xz.new"),
            gz: at("Packages.gz.new"),
            changed: at("changed.new"),
        };
        new.write(&list, compression).map_err(text)?;
        for (new, name) in
            [(&new.plain, &corpus.plain), (&new.xz, &corpus.xz), (&new.gz, &corpus.gz), (&new.changed, &corpus.changed)]
        {
            fs::rename(new, name).map_err(text)?;
        }
        Ok(corpus)
    }

    fn write(&self, list: &Path, compression: Compression) -> io::Result<()> {
        let packed = BufReader::new(fs::File::open(list)?);
        io::copy(&mut decompress(compression, packed, 1 << 30)?, &mut fs::File::create(&self.plain)?)?;
        let plain = || fs::File::open(&self.plain).map(BufReader::new);

        // As xz -6 does, of which the dictionary has 8 MiB.
        let mut filters = Filters::new();
        filters.lzma2(LzmaOptions::new_preset(6)?.dict_size(8 << 20));
        let stream = Stream::new_stream_encoder(&filters, Check::Crc64)?;
        let mut xz = XzEncoder::new_stream(fs::File::create(&self.xz)?, stream);
        io::copy(&mut plain()?, &mut xz)?;
        xz.finish()?;
        let mut gz = GzEncoder::new(fs::File::create(&self.gz)?, flate2::Compression::best());
        io::copy(&mut plain()?, &mut gz)?;
        gz.finish()?;

        let mut changed = BufWriter::new(fs::File::create(&self.changed)?);
        let mut paragraph = 0_u32;
        for line in plain()?.split(b'\n') {
            let line = line?;
            let text = String::from_utf8_lossy(&line);
            match (text.split_once(": "), paragraph % 100) {
                (Some(("Filename", path)), 50) => writeln!(changed, "Filename: {}", path.replace(".deb", "+1.deb"))?,
                (Some(("SHA256", hash)), 50) => writeln!(changed, "SHA256: {}", ContentHash::of(hash.as_bytes()))?,
                _ => {
                    changed.write_all(&line)?;
                    changed.write_all(b"\n")?;
                }
            }
            paragraph += u32::from(line.is_empty());
        }
        changed.flush()
    }
}

fn find(lists: &Path) -> Option<(PathBuf, Compression)> {
    let names = fs::read_dir(lists).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    names.into_iter().find_map(|path| {
        let (plain, compression) = Compression::of(path.to_str()?);
        plain.ends_with(NAME).then(|| (path.clone(), compression))
    })
}
