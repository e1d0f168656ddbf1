//! Limits, over real sockets: on bytes, on questions, and on patience.

use super::*;

fn request(bytes: &[u8]) -> String {
    format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path(bytes))
}

/// Asks for that file and reads it to the end.
fn take(mut peer: TcpStream, file: &[u8]) {
    peer.write_all(request(file).as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    while !bytes.ends_with(file) {
        let read = peer.read(&mut chunk).unwrap();
        assert!(read > 0, "the connection ended early");
        bytes.extend_from_slice(&chunk[..read]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_small_files_asked_for_at_once_on_one_connection_are_all_given() {
    let port = port(&Config::default());
    let files: Vec<Vec<u8>> = (0..20).map(|number| content(5000 + number)).collect();
    port.hold(1, PUBLIC, true, &files.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let asked: Vec<_> = files.iter().cycle().take(300).collect();
    let mut peer = port.connect(1);
    let questions: String = asked.iter().map(|file| request(file)).collect();
    let mut reader = peer.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| peer.write_all(questions.as_bytes()).unwrap());
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
        for file in asked {
            while !bytes.windows(4).any(|end| end == b"\r\n\r\n") || {
                let (_, head) = Answer::parse(&bytes);
                bytes.len() < head + file.len()
            } {
                let read = reader.read(&mut chunk).unwrap();
                assert!(read > 0, "the connection ended early");
                bytes.extend_from_slice(&chunk[..read]);
            }
            let (answer, head) = Answer::parse(&bytes);
            assert_eq!((answer.status, &answer.body[..file.len()]), (200, file.as_slice()));
            bytes.drain(..head + file.len());
        }
    });
    assert_eq!(port.meter.snapshot().refused, 0);
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_peers_together_get_no_more_than_the_limit() {
    const LIMIT: u64 = 400_000;
    let port = port(&Config { upload_limit: Some(LIMIT), ..Config::default() });
    let file = content(200_000);
    port.hold(1, PUBLIC, true, &[&file]);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for from in 2..5 {
            let (peer, file) = (port.connect(from), &file);
            scope.spawn(move || take(peer, file));
        }
    });
    // What may go at once after a pause, and one turn of debt.
    let paced = port.meter.snapshot().bytes_up - LIMIT / 8 - LIMIT / 16;
    let least = Duration::from_secs_f64(paced as f64 / LIMIT as f64);
    assert!(began.elapsed() >= least, "{:?} where the limit asks for {least:?}", began.elapsed());
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_many_connections_leaves_another_its_half() {
    let port = port(&Config { upload_limit: Some(400_000), ..Config::default() });
    let (large, small) = (content(2_000_000), content(200_000));
    port.hold(1, PUBLIC, true, &[&large, &small]);
    let greedy: Vec<_> = (0..6)
        .map(|_| {
            let mut peer = port.connect(2);
            peer.write_all(request(&large).as_bytes()).unwrap();
            peer.read_exact(&mut [0; 12]).unwrap();
            peer
        })
        .collect();
    let before = port.meter.snapshot().bytes_up;
    take(port.connect(3), &small);
    let meanwhile = port.meter.snapshot().bytes_up - before;
    assert!((200_000..500_000).contains(&meanwhile), "{meanwhile} bytes went out while one of seven got 200,000");
    drop(greedy);
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_loses_its_place() {
    let patience = Patience { window: Duration::from_millis(300), ..Patience::default() };
    let port = port(&Config { uploads_per_address: 1, patience, ..Config::default() });
    // More than the buffers of two sockets on loopback hold.
    let file = content(24 << 20);
    port.hold(1, PUBLIC, true, &[&file]);
    let mut idle = port.connect(1);
    idle.write_all(request(&file).as_bytes()).unwrap();
    idle.read_exact(&mut [0; 12]).unwrap();
    assert_eq!(port.ask("HEAD", &path(&file), "").status, 503);
    let began = Instant::now();
    while port.ask("HEAD", &path(&file), "").status != 200 {}
    assert!(began.elapsed() < Patience::default().window, "{:?}", began.elapsed());
    assert_eq!(port.meter.snapshot().active, 0);
    let mut rest = Vec::new();
    let _cut = idle.read_to_end(&mut rest);
    assert!(rest.len() < file.len());
    port.stop().await;
}

/// Peers of these addresses that ask for a file and read no more than that it comes.
fn slow(port: &Port, file: &[u8], addresses: impl Iterator<Item = u8>) -> Vec<TcpStream> {
    let ask = |from| {
        let mut peer = port.connect(from);
        peer.write_all(request(file).as_bytes()).unwrap();
        peer.read_exact(&mut [0; 12]).unwrap();
        peer
    };
    addresses.map(ask).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_slow_addresses_that_hold_all_places_do_not_keep_a_fifth_out() {
    let port = port(&Config { uploads: 8, uploads_per_address: 2, ..Config::default() });
    let file = content(24 << 20);
    port.hold(1, PUBLIC, true, &[&file]);
    let slow = slow(&port, &file, (2..6).chain(2..6));
    assert_eq!(port.meter.snapshot().active, 8);
    let began = Instant::now();
    while port.ask_from(6, "HEAD", &path(&file), "").status != 200 {}
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(port.meter.snapshot().active, 7, "one of those who had two has one");
    take(port.connect(6), &file);
    drop(slow);
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_slow_addresses_that_hold_a_place_each_lose_it_when_somebody_waits() {
    let patience = Patience { window: Duration::from_secs(8), ..Patience::default() };
    let port = port(&Config { uploads: 4, patience, ..Config::default() });
    let file = content(24 << 20);
    port.hold(1, PUBLIC, true, &[&file]);
    let slow = slow(&port, &file, 2..6);
    let began = Instant::now();
    while port.ask_from(6, "HEAD", &path(&file), "").status != 200 {}
    assert!(began.elapsed() < patience.window / 2, "{:?}", began.elapsed());
    drop(slow);
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_hold_all_connections_give_one_up_to_who_has_none() {
    let port = port(&Config { connections: 8, connections_per_address: 4, ..Config::default() });
    let file = content(2000);
    port.hold(1, PUBLIC, true, &[&file]);
    let mut idle = Vec::new();
    for from in (0..4).flat_map(|_| [2, 3]) {
        let mut peer = port.connect(from);
        peer.write_all(request(&file).as_bytes()).unwrap();
        peer.read_exact(&mut [0; 12]).unwrap();
        idle.push(peer);
    }
    let began = Instant::now();
    loop {
        // One that finds no seat is closed without a word.
        let mut peer = port.connect(4);
        let mut bytes = Vec::new();
        let asked = peer.write_all((request(&file).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).as_bytes());
        if asked.is_ok() && peer.read_to_end(&mut bytes).is_ok() && bytes.ends_with(&file) {
            break;
        }
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nothing_is_sent_ends_whatever_trickles_in() {
    let patience = Patience { silence: Duration::from_millis(500), ..Patience::default() };
    let port = port(&Config { patience, ..Config::default() });
    let began = Instant::now();
    let mut peer = port.connect(1);
    // Longer than the wait for a head at first would take, if there were no other end.
    for byte in b"GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
        peer.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let ended = |error: &io::Error| !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        let sent = peer.write_all(&[*byte]);
        match peer.read(&mut [0; 512]) {
            Ok(0) => break,
            Ok(_) => continue,
            Err(error) if ended(&error) => break,
            Err(_) => sent.unwrap(),
        }
    }
    assert!(began.elapsed() < HEAD_WAIT, "{:?}", began.elapsed());
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_uploads_is_none_on_what_this_host_reads_itself() {
    let port = port(&Config { upload_limit: Some(4096), ..Config::default() });
    let file = content(8 << 20);
    port.hold(1, PUBLIC, true, &[&file]);
    let mut peer = port.connect(1);
    peer.write_all(request(&file).as_bytes()).unwrap();
    peer.read_exact(&mut [0; 12]).unwrap();
    let blob = port.store.open_object(ContentHash::of(&file)).unwrap().unwrap();
    assert_eq!(blob.read(0, file.len()).unwrap(), file);
    // The peer would have taken half an hour.
    assert!(port.meter.snapshot().bytes_up < file.len() as u64 / 8);
    assert_eq!(port.meter.snapshot().active, 1);
    port.stop().await;
}
