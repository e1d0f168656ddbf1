//! What did it save?

use maud::{Markup, html};

use crate::status::{
    report::{Report, Volume},
    words::size,
};

use super::{chart, scrolling};

/// Today, thirty days, ever; and the days one by one.
pub fn saved(report: &Report) -> Markup {
    let saved = &report.saved;
    html! {
        section #saved {
            h2 { "What did it save?" }
            div.figures {
                (figure("Today", &saved.today))
                (figure("30 days", &saved.month))
                (figure("Ever", &saved.ever))
            }
            (chart::shares(&saved.ever))
            (chart::legend())
            (scrolling("bytes by source", &table(report)))
            (chart::days(&saved.days))
            p.soft { "The last thirty days, today at the right; days are those of UTC." }
        }
    }
}

fn figure(name: &str, volume: &Volume) -> Markup {
    html! {
        div {
            strong { @match volume.share_saved() { Some(share) => { (share) " %" } None => "–" } }
            span { (name) ": not from a mirror" }
        }
    }
}

fn table(report: &Report) -> Markup {
    let saved = &report.saved;
    let periods =
        [("Today", saved.today), ("30 days", saved.month), ("Ever", saved.ever), ("Since the start", start(report))];
    html! {
        table {
            thead {
                tr { th { "Bytes" } th.n { "from peers" } th.n { "LAN" } th.n { "store" } th.n { "mirror" } th.n { "given" } }
            }
            tbody {
                @for (name, volume) in periods {
                    tr {
                        th scope="row" { (name) }
                        td.n { (size(volume.peers)) }
                        td.n { (size(volume.lan)) }
                        td.n { (size(volume.store)) }
                        td.n { (size(volume.mirror)) }
                        td.n { (size(volume.up)) }
                    }
                }
            }
        }
    }
}

fn start(report: &Report) -> Volume {
    let bytes = &report.bytes;
    Volume {
        peers: bytes.from_peers.saturating_sub(bytes.from_lan),
        lan: bytes.from_lan,
        store: bytes.from_store,
        mirror: bytes.from_mirror,
        up: bytes.up,
    }
}
