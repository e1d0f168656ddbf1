//! What outlives a restart: how quick each peer was, what it gave, and what of its ban is left.
//!
//! ```text
//!  apt-huddle peers 1
//!  saved 1790000000                                   seconds since 1970
//!  192.0.2.7:9978 524288 40000 1048576 1 86400        a peer a line, the convicted first, the rest as last heard of:
//!                                                     bytes a second, round trip in microseconds, bytes given,
//!                                                     convictions, seconds of the ban that are left; `-`: not known
//! ```
//!
//! **Clocks.** A ban is a span, not a date. While the daemon runs, the monotonic clock counts it. The time in between
//! counts by the wall clock, but takes off half of what is left at most, and nothing when the clock went back: so a clock
//! that jumps can neither free a liar nor keep one out for ever, and a host that is switched off every night still forgives.
//!
//! **Security.** Only the daemon writes the file, yet nothing in it is believed without bounds: no ban is longer than the
//! longest term, no more peers are read than are written, and a line that is anything else is left out.

use std::{
    cmp::Reverse,
    fmt::Write as _,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{MAX_BAN, Standing, Standings, canonical};

/// Longest file that is read, in bytes.
pub const MAX_LEN: usize = 256 * 1024;

/// Most peers that are written, and read.
const MAX_SAVED: usize = 1024;

/// First line of the file.
const MAGIC: &str = "apt-huddle peers 1";

/// The largest rate that is believed, in bytes a second.
const MAX_RATE: f64 = 1e12;

/// The longest round trip that is believed.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(60);

impl Standings {
    /// The bytes to write.
    pub fn saved(&self, now: Instant, wall: SystemTime) -> Vec<u8> {
        let since_1970 = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let is_worth_it = |(_, standing): &(&SocketAddr, &Standing)| {
            standing.convictions > 0 || standing.rate.is_some() || standing.round_trip.is_some()
        };
        let mut peers: Vec<_> = self.peers.iter().filter(is_worth_it).collect();
        peers.sort_by_key(|(peer, standing)| Reverse((standing.convictions > 0, standing.heard, **peer)));
        let mut text = format!("{MAGIC}\nsaved {since_1970}\n");
        for (peer, standing) in peers.into_iter().take(MAX_SAVED) {
            let known = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
            let rate = known(standing.rate.map(|rate| rate as u64));
            let round_trip = known(standing.round_trip.map(|time| time.as_micros() as u64));
            // A term that has begun is never written as over.
            let left = standing.banned_until.and_then(|until| until.checked_duration_since(now));
            let left = left.map_or(0, |left| left.as_millis().div_ceil(1000));
            let Standing { given, convictions, .. } = standing;
            writeln!(text, "{peer} {rate} {round_trip} {given} {convictions} {left}").expect("a string takes it");
        }
        text.into_bytes()
    }

    /// The standings that were written, as of now; none when it is anything else.
    pub fn restore(bytes: &[u8], now: Instant, wall: SystemTime) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..MAX_LEN).unwrap_or(bytes)).ok()?;
        let mut lines = text.lines();
        lines.next().filter(|first| *first == MAGIC)?;
        let written = lines.next()?.strip_prefix("saved ")?.parse().ok()?;
        let written = UNIX_EPOCH.checked_add(Duration::from_secs(written))?;
        let away = wall.duration_since(written).unwrap_or_default();
        let peers = lines.filter_map(|line| read(line, away, now)).take(MAX_SAVED);
        Some(Self { peers: peers.collect() })
    }
}

fn read(line: &str, away: Duration, now: Instant) -> Option<(SocketAddr, Standing)> {
    let mut words = line.split(' ');
    let mut word = || words.next();
    let peer: SocketAddr = word()?.parse().ok()?;
    let optional = |word: &str| if word == "-" { Some(None) } else { word.parse::<u64>().ok().map(Some) };
    let rate = optional(word()?)?.map(|rate| (rate as f64).min(MAX_RATE));
    let round_trip = optional(word()?)?.map(|micros| Duration::from_micros(micros).min(MAX_ROUND_TRIP));
    let given = word()?.parse().ok()?;
    let convictions = word()?.parse().ok()?;
    let left = Duration::from_secs(word()?.parse().ok()?).min(MAX_BAN);
    if word().is_some() {
        return None;
    }
    let left = left - away.min(left / 2);
    let banned_until = (left > Duration::ZERO).then(|| now + left);
    let standing = Standing { rate, round_trip, given, convictions, banned_until, ..Standing::new(now) };
    Some((canonical(peer), standing))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[expect(clippy::disallowed_methods, reason = "only as an origin for differences")]
    fn start() -> Instant {
        Instant::now()
    }

    fn wall() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }

    fn convicted(times: u32, now: Instant) -> (SocketAddr, Standings) {
        let (mut standings, liar) = (Standings::default(), at("9.9.9.1:9978"));
        for _time in 0..times {
            standings.handle_convicted(liar, now);
        }
        (liar, standings)
    }

    #[test]
    fn rates_round_trips_and_bans_come_back_and_the_next_term_is_twice_as_long() {
        let (now, later) = (start(), start() + 5 * DAY);
        let (liar, mut standings) = convicted(1, now);
        let quick = at("[2600::1]:7");
        standings.handle_rate(quick, 1_000_000, Duration::from_secs(1), now);
        standings.handle_round_trip(quick, Duration::from_millis(40), now);
        standings.handle_proven(quick, 77, now);
        standings.handle_failure(at("9.9.9.2:1"), now);
        let bytes = standings.saved(now + DAY / 2, wall());
        let mut back = Standings::restore(&bytes, later, wall() + Duration::from_secs(10)).expect("as it was written");

        let standing = back.of(quick).expect("it was quick");
        assert_eq!((standing.rate, standing.given), (Some(1e6), 77));
        assert_eq!(standing.round_trip, Some(Duration::from_millis(40)));
        assert!(back.of(at("9.9.9.2:1")).is_none(), "a mere failure is forgiven");
        assert!(back.is_banned(liar, later) && back.is_banned(liar, later + DAY / 2 - Duration::from_secs(11)));
        assert!(!back.is_banned(liar, later + DAY / 2));
        assert_eq!(back.handle_convicted(liar, later), 2 * DAY);
    }

    #[test]
    fn a_clock_that_jumps_neither_frees_nor_keeps_for_ever() {
        let now = start();
        let (liar, standings) = convicted(3, now);
        let bytes = standings.saved(now, wall());
        let years = 50 * 365 * DAY;
        for (jumped, least, most) in [
            (wall() + years, 2 * DAY, 2 * DAY),
            (UNIX_EPOCH, 4 * DAY, 4 * DAY),
            (wall() - DAY, 4 * DAY, 4 * DAY),
            (wall() + DAY, 3 * DAY, 3 * DAY),
        ] {
            let back = Standings::restore(&bytes, now, jumped).expect("as it was written");
            assert!(back.is_banned(liar, now + least - Duration::from_secs(2)), "{jumped:?}");
            assert!(!back.is_banned(liar, now + most), "{jumped:?}");
        }
        // Restarts one after another wear it down no faster than time does.
        let mut bytes = bytes;
        for _restart in 0..20 {
            let back = Standings::restore(&bytes, now, wall()).expect("as it was written");
            bytes = back.saved(now, wall());
        }
        assert!(Standings::restore(&bytes, now, wall()).expect("as it was written").is_banned(liar, now + 3 * DAY));
    }

    #[test]
    fn what_is_written_is_bounded_and_begins_with_the_convicted() {
        let (mut standings, now) = (Standings::default(), start());
        let peer = |n: u32| SocketAddr::new(std::net::IpAddr::from((0x0100_0000 + n).to_be_bytes()), 9978);
        for n in 0..20 {
            standings.handle_convicted(peer(n), now);
        }
        for n in 20..3000 {
            standings.handle_rate(peer(n), usize::MAX, Duration::from_secs(1), now + Duration::from_secs(n.into()));
        }
        let bytes = standings.saved(now, wall());
        assert!(bytes.len() <= MAX_LEN, "{}", bytes.len());
        let back = Standings::restore(&bytes, now, wall()).expect("as it was written");
        assert_eq!(back.iter().count(), MAX_SAVED);
        assert!((0..20).all(|n| back.is_banned(peer(n), now)));
        assert!(back.of(peer(2999)).is_some() && back.of(peer(20)).is_none(), "the last heard of are kept");
    }

    #[test]
    fn a_file_that_is_anything_else_is_not_believed() {
        let now = start();
        for text in ["", "apt-huddle peers 2\nsaved 1\n", "apt-huddle peers 1\n", "apt-huddle peers 1\nsaved -1\n"] {
            assert!(Standings::restore(text.as_bytes(), now, wall()).is_none(), "{text:?}");
        }
        let max = u64::MAX;
        let text = format!(
            "{MAGIC}\nsaved 1790000000\n9.9.9.1:1 {max} {max} {max} 4294967295 {max}\n9.9.9.2:1 1 1 1 1\n9.9.9.3:1 1 1 1 1 1 1\n\
             9.9.9.4 1 1 1 1 1\n9.9.9.5:1 -1 1 1 1 1\n[::ffff:9.9.9.6]:1 - - 0 1 60\n9.9.9.7:1 - - 0"
        );
        let mut back = Standings::restore(text.as_bytes(), now, wall()).expect("its head is right");
        let mut peers: Vec<_> = back.iter().map(|(peer, _)| peer.to_string()).collect();
        peers.sort();
        assert_eq!(peers, ["9.9.9.1:1", "9.9.9.6:1"]);
        assert!(!back.is_banned(at("9.9.9.1:1"), now + MAX_BAN));
        back.handle_proven(at("9.9.9.1:1"), 1, now);
        assert_eq!(back.handle_convicted(at("9.9.9.1:1"), now), MAX_BAN);
        let far = format!("{MAGIC}\nsaved {max}\n");
        assert!(Standings::restore(far.as_bytes(), now, wall()).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(apt-huddle peers 1\nsaved [0-9]{1,20}\n)?([0-9.:\\[\\] -]{0,40}\n){0,5}") {
            if let Some(standings) = Standings::restore(text.as_bytes(), start(), wall()) {
                prop_assert!(standings.iter().count() <= MAX_SAVED);
            }
        }
    }
}
