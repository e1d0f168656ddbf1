//! Many files over one connection, as apt fetches them: several questions ahead, answers in order, every byte hashed.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::{archive::Package, deb::hex};

/// Questions ahead of the answer that is read: apt's `Acquire::http::Pipeline-Depth`.
const AHEAD: usize = 10;
/// Time without a byte after which a run is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a run of files came.
pub struct Came {
    /// From the first question to the last byte.
    pub took: Duration,
    /// From the first question to the first byte of a body.
    pub first_byte: Duration,
}

/// Asks a server for packages of a mirror: the mirror itself, or a proxy for it.
///
/// # Panics
/// When one does not come, or comes wrong.
pub fn fetch(server: SocketAddr, mirror: SocketAddr, packages: &[&Package]) -> Came {
    let base = if server == mirror { String::new() } else { format!("http://{mirror}") };
    let begun = Instant::now();
    let stream = TcpStream::connect(server).expect("somebody listens");
    stream.set_nodelay(true).expect("a socket of ours");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut asking = stream.try_clone().expect("a descriptor");
    let mut reader = BufReader::with_capacity(128 * 1024, stream);
    let (turn, turns) = mpsc::sync_channel::<()>(AHEAD - 1);
    let asks: Vec<_> = packages
        .iter()
        .map(|package| format!("GET {base}{} HTTP/1.1\r\nHost: {mirror}\r\n\r\n", package.url_path()))
        .collect();
    let asker = thread::spawn(move || {
        for ask in asks {
            if turn.send(()).is_err() || asking.write_all(ask.as_bytes()).is_err() {
                break;
            }
        }
    });
    let mut first_byte = None;
    for package in packages {
        let length = read_head(&mut reader, package);
        assert_eq!(length, package.size, "{}", package.name);
        let (mut hash, mut left) = (Sha256::new(), length);
        let mut buffer = vec![0; 128 * 1024];
        while left > 0 {
            let most = buffer.len().min(left as usize);
            let read = reader.read(&mut buffer[..most]).unwrap_or_else(|error| panic!("{}: {error}", package.name));
            assert!(read > 0, "{} ended {left} bytes early", package.name);
            first_byte.get_or_insert_with(|| begun.elapsed());
            hash.update(&buffer[..read]);
            left -= read as u64;
        }
        assert_eq!(hex(&hash.finalize()), package.sha256, "{} came wrong", package.name);
        turns.recv().ok();
    }
    let took = begun.elapsed();
    asker.join().expect("the asker does not panic");
    Came { took, first_byte: first_byte.unwrap_or(took) }
}

fn read_head(reader: &mut impl BufRead, package: &Package) -> u64 {
    let mut length = None;
    let mut head = String::new();
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).unwrap_or_else(|error| panic!("{}: {error}", package.name));
        assert!(read > 0, "{}: no answer", package.name);
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) =
            line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        {
            length = value.trim().parse().ok().or_else(|| panic!("{name}: {value}"));
        }
        head += &line;
    }
    assert!(head.starts_with("HTTP/1.1 200"), "{}: {head}", package.name);
    length.unwrap_or_else(|| panic!("{}: no length\n{head}", package.name))
}
