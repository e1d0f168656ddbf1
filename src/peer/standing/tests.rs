use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn failures_pause_a_peer_longer_each_time_and_a_good_answer_ends_it() {
    let (mut standings, now, peer) = (Standings::default(), start(), at("9.9.9.1:9978"));
    assert!(standings.is_welcome(peer, now));
    standings.handle_failure(peer, now);
    assert!(!standings.is_welcome(peer, now + FIRST_PAUSE / 2));
    assert!(standings.is_welcome(peer, now + FIRST_PAUSE));
    standings.handle_failure(peer, now);
    assert!(!standings.is_welcome(peer, now + FIRST_PAUSE));
    for _ in 0..40 {
        standings.handle_failure(peer, now);
    }
    assert!(standings.is_welcome(peer, now + MAX_PAUSE));
    standings.handle_good(peer, now);
    assert!(standings.is_welcome(peer, now));
}

#[test]
fn a_conviction_bans_the_port_and_three_the_public_address_but_never_a_private_one() {
    let now = start();
    for (host, whole) in [("9.9.9.1", true), ("127.0.0.9", false), ("10.1.1.1", false)] {
        let mut standings = Standings::default();
        for port in 1..=3 {
            assert!(!standings.is_banned(at(&format!("{host}:77")), now));
            standings.handle_convicted(at(&format!("{host}:{port}")), now);
            assert!(standings.is_banned(at(&format!("{host}:{port}")), now));
        }
        assert_eq!(standings.is_banned(at(&format!("{host}:77")), now), whole, "{host}");
        assert!(!standings.is_banned(at("9.9.9.2:1"), now));
        assert!(!standings.is_banned(at(&format!("{host}:1")), now + FIRST_BAN));
    }
}

#[test]
fn a_second_conviction_bans_twice_as_long() {
    let (mut standings, now, peer) = (Standings::default(), start(), at("9.9.9.1:9978"));
    assert_eq!(standings.handle_convicted(peer, now), FIRST_BAN);
    assert_eq!(standings.handle_convicted(peer, now), 2 * FIRST_BAN);
}

#[test]
fn the_record_is_bounded_and_keeps_the_banned_longest() {
    let (mut standings, now) = (Standings::default(), start());
    let liar = at("9.9.8.5:1");
    standings.handle_convicted(liar, now);
    for n in 0..2 * MAX_PEERS as u32 {
        let peer = SocketAddr::new(IpAddr::from((0x0100_0000 + n).to_be_bytes()), 9978);
        standings.handle_failure(peer, now + Duration::from_secs(1));
    }
    assert!(standings.iter().count() <= MAX_PEERS);
    assert!(standings.is_banned(liar, now + Duration::from_secs(2)));
}

#[test]
fn one_address_written_in_two_ways_is_one_peer() {
    let (mut standings, now) = (Standings::default(), start());
    standings.handle_convicted(at("[::ffff:9.9.9.1]:1"), now);
    assert!(standings.is_banned(at("9.9.9.1:1"), now) && standings.is_banned(at("[::ffff:9.9.9.1]:1"), now));
    standings.handle_convicted(at("9.9.9.1:2"), now);
    standings.handle_convicted(at("[::ffff:9.9.9.1]:3"), now);
    assert!(standings.is_banned(at("9.9.9.1:77"), now));
    assert_eq!(standings.iter().count(), 3);
}

#[test]
fn three_convicted_ports_ban_the_64_and_nothing_wider() {
    let (mut standings, now) = (Standings::default(), start());
    for (host, port) in [("2600:1:2:3::1", 1), ("2600:1:2:3:9::1", 1), ("2600:1:2:3::1", 2)] {
        assert!(!standings.is_banned(at("[2600:1:2:3:7::7]:9"), now));
        standings.handle_convicted(at(&format!("[{host}]:{port}")), now);
    }
    assert!(standings.is_banned(at("[2600:1:2:3:7::7]:9"), now));
    assert!(!standings.is_banned(at("[2600:1:2:4::1]:1"), now));
    assert!(!standings.is_banned(at("[2600:1:2:3:7::7]:9"), now + FIRST_BAN), "the terms of all three are over");
    for port in 1..9 {
        standings.handle_convicted(at(&format!("[fd12::1]:{port}")), now);
    }
    assert!(!standings.is_banned(at("[fd12::1]:77"), now), "a private address is never banned as a whole");
}

#[test]
fn the_term_of_a_ban_has_an_end() {
    let (mut standings, now, peer) = (Standings::default(), start(), at("9.9.9.1:9978"));
    let longest = (0..40).map(|_| standings.handle_convicted(peer, now)).max();
    assert_eq!(longest, Some(MAX_BAN));
    assert!(!standings.is_banned(peer, now + MAX_BAN));
}
