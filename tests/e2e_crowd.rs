//! Many clients ask for one file: the mirror is asked once, and everybody gets it from the first byte on.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    PIECE,
    apt::have_apt,
    archive::Archive,
    client::fetch,
    eventually,
    huddle::Host,
    machine::Config,
    mirror::{Fault, Mirror},
};

/// Clients that ask at once.
const CROWD: usize = 32;

/// Asks, and reads so many bytes of the answer, head included.
fn begin(to: SocketAddr, url: &str, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(to).expect("the daemon listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero");
    stream.write_all(format!("GET {url} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).expect("it reads");
    stream.read_exact(&mut vec![0; bytes]).expect("as many bytes");
    stream
}

/// Lets the mirror go on, whenever it comes to its stop, until that is so.
fn go_on_until(mirror: &Mirror, so: impl Fn() -> bool) {
    eventually("it goes on to the end", Duration::from_secs(60), || {
        mirror.server().go_on();
        so().then_some(())
    });
}

#[test]
fn a_crowd_costs_the_mirror_one_file_and_latecomers_begin_at_once() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("crowd", &mirror, &Config::default());
    host.apt().update().expect_success();
    let package = archive.package("huddle-70");
    mirror.fault(&package.url_path(), Fault::Slow(6_000_000));
    let (proxy, url) = (host.daemon.proxy(), format!("http://{}{}", mirror.authority(), package.url_path()));
    let right = package.bytes();
    let ready = Barrier::new(CROWD);
    thread::scope(|scope| {
        for _client in 0..CROWD {
            scope.spawn(|| {
                ready.wait();
                let answer = fetch(proxy, &url, &[]);
                assert!(answer.status == 200 && answer.whole && answer.body == right, "{}", answer.head);
            });
        }
        scope.spawn(|| {
            // When a tenth is there, one more comes, and one who has a part already.
            while mirror.server().sent(&package.url_path()) < package.size / 10 {
                thread::sleep(Duration::from_millis(10));
            }
            let start = Instant::now();
            drop(begin(proxy, &url, 200_000));
            assert!(start.elapsed() < Duration::from_secs(2), "what is there is given at once: {:?}", start.elapsed());
            // What it has is of this very download, or was proven.
            let resumed = fetch(proxy, &url, &["Range: bytes=1000000-"]);
            assert_eq!((resumed.status, resumed.whole), (206, true), "{}", resumed.head);
            assert!(resumed.body == right[1_000_000..], "{}", resumed.head);
        });
    });
    assert_eq!(mirror.server().sent(&package.url_path()), package.size, "one file");
    assert_eq!(mirror.server().requests(&package.url_path()).len(), 1, "one request");
    host.machine.assert_store_is_whole();
}

#[test]
fn who_leaves_first_takes_nothing_from_those_who_stay() {
    if !have_apt() {
        return;
    }
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let host = Host::start("leaving", &mirror, &Config::default());
    host.apt().update().expect_success();
    let package = archive.package("huddle-69");
    mirror.fault(&package.url_path(), Fault::StallAfter(10 * PIECE));
    let (proxy, url) = (host.daemon.proxy(), format!("http://{}{}", mirror.authority(), package.url_path()));
    let first = begin(proxy, &url, PIECE as usize);
    let (joined, is_joined) = mpsc::channel();
    let second = thread::spawn({
        let url = url.clone();
        move || {
            let mut stream = begin(proxy, &url, PIECE as usize);
            joined.send(()).expect("the test waits");
            let mut left = package.size - PIECE;
            let mut buffer = vec![0; 64 * 1024];
            // The head is a part of what was read first, so somewhat more is left than that.
            while left > 0 {
                let read = stream.read(&mut buffer).expect("it goes on");
                assert!(read > 0, "{left} bytes are missing");
                left = left.saturating_sub(read as u64);
            }
        }
    });
    is_joined.recv_timeout(Duration::from_secs(60)).expect("the second reads along");
    drop(first);
    go_on_until(&mirror, || second.is_finished());
    second.join().expect("the second has all of it");
    assert_eq!(mirror.server().requests(&package.url_path()).len(), 1, "it went on");

    // More than half is there when the only reader leaves: it is brought to its end.
    let package = archive.package("huddle-71");
    mirror.fault(&package.url_path(), Fault::StallAfter(60 * PIECE));
    let url = format!("http://{}{}", mirror.authority(), package.url_path());
    drop(begin(proxy, &url, 50 * PIECE as usize));
    go_on_until(&mirror, || host.daemon.status().recent(&package.sha256).is_some());
    assert!(fetch(proxy, &url, &[]).body == package.bytes());
    assert_eq!(mirror.server().sent(&package.url_path()), package.size, "once");
}
