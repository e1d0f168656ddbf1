//! `apt-huddle peers`: who is there.

use crate::status::{
    report::{Peer, PeerList},
    words::{duration, milliseconds, size},
};

use super::text::{Text, clean};

/// What is asked of the API.
pub const TARGET: &str = "/api/v1/peers";

/// Columns of an address; a longer one has a line of its own.
const ADDRESS: usize = 26;

/// Renders the peers as a table of 80 columns.
pub fn render(list: &PeerList) -> String {
    let mut text = Text::default();
    text.line(&format!("{} peers known, {} connected", list.peers.len(), list.connections));
    let mut table = text.into_string();
    if list.peers.is_empty() && list.takers.is_empty() {
        return table;
    }
    table.push_str(&row("address", ["gave", "took", "rate", "trip"], "standing"));
    for peer in &list.peers {
        let rate = peer.rate.map_or_else(|| "-".to_owned(), |rate| format!("{}/s", size(rate)));
        let trip = peer.round_trip_ms.map_or_else(|| "-".to_owned(), milliseconds);
        let figures = [size(peer.given), size(peer.taken), rate, trip];
        table.push_str(&row(&peer.address.to_string(), figures.each_ref().map(String::as_str), &standing(peer)));
    }
    for taker in &list.takers {
        table.push_str(&row(&taker.address.to_string(), ["-", &size(taker.taken), "-", "-"], "takes"));
    }
    table
}

fn standing(peer: &Peer) -> String {
    match (peer.banned, peer.banned_for) {
        (true, Some(left)) => format!("banned {}", duration(left)),
        (true, None) => "banned".to_owned(),
        (false, _) if peer.is_connected => "connected".to_owned(),
        (false, _) if peer.is_lan => "LAN".to_owned(),
        (false, _) => "good".to_owned(),
    }
}

fn row(address: &str, [gave, took, rate, trip]: [&str; 4], standing: &str) -> String {
    let (address, standing) = (clean(address), clean(standing));
    let turn = if address.chars().count() > ADDRESS {
        format!("{address}\n{:ADDRESS$}", "")
    } else {
        format!("{address:ADDRESS$}")
    };
    format!("{turn} {gave:>8} {took:>8} {rate:>9} {trip:>7} {standing}").trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer {
            address: address.parse().unwrap(),
            is_lan: false,
            is_connected: false,
            rate: Some(999_400_000),
            round_trip_ms: Some(9999.0),
            given: 999_400_000_000,
            taken: 999_400_000_000,
            convictions: 3,
            banned: true,
            banned_for: Some(365 * 86_400),
        }
    }

    #[test]
    fn the_widest_row_fits_a_terminal() {
        let wide = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";
        let takers = vec![crate::status::report::Taker { address: "192.0.2.255".parse().unwrap(), taken: 1 }];
        let text = render(&PeerList { peers: vec![peer("192.0.2.1:1"), peer(wide)], takers, connections: 1 });
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains(wide) && text.contains("banned 365 d") && text.contains("192.0.2.255"), "{text}");
        let none = render(&PeerList { peers: Vec::new(), takers: Vec::new(), connections: 0 });
        assert_eq!(none, "0 peers known, 0 connected\n");
    }
}
