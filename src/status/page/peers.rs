//! Who is there?

use maud::{Markup, html};

use crate::status::{
    report::{Peer, Report},
    words::{count, duration, milliseconds, size},
};

use super::scrolling;

/// Peers shown.
const MAX_PEERS: usize = 25;
/// Addresses shown that only took.
const MAX_TAKERS: usize = 10;

/// Peers, and the nodes of the DHT.
pub fn peers(report: &Report) -> Markup {
    let (met, takers) = (report.peers.len(), report.takers.len());
    let table = html! {
        table {
            thead {
                tr {
                    th { "Address" } th.n { "Gave" } th.n { "Took" } th.n { "Rate" } th.n { "Round trip" } th { "Standing" }
                }
            }
            tbody {
                @for peer in report.peers.iter().take(MAX_PEERS) { (row(peer)) }
                @for taker in report.takers.iter().take(MAX_TAKERS) {
                    tr {
                        td { (taker.address) }
                        td.n { (size(0)) } td.n { (size(taker.taken)) } td {} td {}
                        td.soft { "takes" }
                    }
                }
            }
        }
    };
    html! {
        section #peers {
            h2 { "Who is there?" }
            p.soft {
                (count(met as u64)) " peers known, " (report.connections) " connected"
                @if takers > 0 { "; " (count(takers as u64)) " more that only take" }
                "."
            }
            (nodes(report))
            @if met + takers > 0 { (scrolling("peers", &table)) }
        }
    }
}

fn nodes(report: &Report) -> Markup {
    html! {
        p.soft {
            @match &report.dht {
                None => "DHT: off.",
                Some(dht) => {
                    "DHT: " (count(dht.nodes as u64)) " nodes known, some " (count(dht.estimate as u64)) " in the network"
                    @if let (Some(half), Some(most)) = (dht.lookup_p50_ms, dht.lookup_p95_ms) {
                        "; half of the lookups take up to " (milliseconds(half)) ", 95 % up to " (milliseconds(most))
                    }
                    "."
                }
            }
        }
    }
}

fn row(peer: &Peer) -> Markup {
    html! {
        tr {
            td { (peer.address) @if peer.is_lan { " " span.soft { "LAN" } } }
            td.n { (size(peer.given)) }
            td.n { (size(peer.taken)) }
            td.n { @if let Some(rate) = peer.rate { (size(rate)) "/s" } }
            td.n { @if let Some(time) = peer.round_trip_ms { (milliseconds(time)) } }
            td { (standing(peer)) }
        }
    }
}

fn standing(peer: &Peer) -> Markup {
    html! {
        @match (peer.banned, peer.banned_for) {
            (true, Some(left)) => span.bad {
                "banned for " (duration(left)) ": false pieces, " (peer.convictions) " times"
            },
            (true, None) => span.bad { "banned: others at its address sent false pieces" },
            (false, _) if peer.is_connected => "good, connected",
            (false, _) => "good",
        }
    }
}
