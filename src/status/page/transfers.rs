//! What is it doing now, and what did it do?

use maud::{Markup, html};

use crate::status::{
    report::{Download, Report, Transfer},
    words::{ago, duration, milliseconds, size},
};

use super::{chart, scrolling};

/// Downloads under way, shown.
const MAX_LIVE: usize = 20;
/// Downloads that ended, shown.
const MAX_RECENT: usize = 25;

/// Files shown that were only passed on.
const MAX_PASSED: usize = 10;

/// What is it doing now?
pub fn live(report: &Report) -> Markup {
    let more = report.live.len().saturating_sub(MAX_LIVE);
    html! {
        section #live {
            h2 { "What is it doing now?" }
            @if report.live.is_empty() { p.soft { "Nothing is on its way." } } @else {
                @for transfer in report.live.iter().take(MAX_LIVE) { (one(transfer)) }
                @if more > 0 { p.soft { (more) " more." } }
                (chart::legend())
            }
        }
    }
}

fn one(transfer: &Transfer) -> Markup {
    html! {
        div.transfer {
            p.path { a href={ "/why?q=" (transfer.hash) } { (transfer.path) } }
            (chart::pieces(&transfer.map))
            p.soft {
                (transfer.pieces_there) " of " (transfer.map.pieces) " pieces, "
                (size(transfer.bytes)) " of " (size(transfer.size)) ", " (size(transfer.rate)) "/s, for "
                (duration((transfer.since_ms / 1000.0) as u64))
            }
        }
    }
}

/// What did it do?
pub fn recent(report: &Report) -> Markup {
    let table = html! {
        table {
            thead {
                tr {
                    th { "File" } th.n { "Size" } th { "Pieces" } th.n { "First byte" } th.n { "Took" }
                    th { "Why the mirror" } th.n { "When" }
                }
            }
            tbody { @for file in report.recent.iter().take(MAX_RECENT) { (row(file, report.at)) } }
        }
    };
    html! {
        section #recent {
            h2 { "What did it do?" }
            p.soft { "Each file leads to the signatures and hashes behind it; " a href="/why" { "ask for another" } "." }
            @if report.recent.is_empty() { p.soft { "None yet." } } @else { (scrolling("recent files", &table)) }
            (passed(report))
        }
    }
}

/// What was only passed on.
fn passed(report: &Report) -> Markup {
    let table = html! {
        table {
            thead { tr { th { "File" } th { "Why" } th.n { "When" } } }
            tbody {
                @for file in report.passed.iter().take(MAX_PASSED) {
                    tr {
                        td.path { (file.location) }
                        td { (file.reason) }
                        td.n { (ago(report.at.saturating_sub(file.at))) }
                    }
                }
            }
        }
    };
    html! {
        @if !report.passed.is_empty() {
            h3 { "Passed on from the mirror, neither kept nor shared" }
            (scrolling("files passed on", &table))
        }
    }
}

fn row(file: &Download, now: u64) -> Markup {
    html! {
        tr {
            td.path {
                a href={ "/why?q=" (file.hash) } { (file.path) }
                @if let Some(failure) = &file.failure { " " span.bad { (failure) } }
            }
            td.n { (size(file.size)) }
            td.pieces { (chart::pieces(&file.map)) span.soft { (sources(file)) } }
            td.n { @if let Some(time) = file.first_byte_ms { (milliseconds(time)) } }
            td.n { (milliseconds(file.took_ms)) }
            td.words { @if let Some(reason) = file.mirror_reason { (reason) } }
            td.n { (ago(now.saturating_sub(file.ended))) }
        }
    }
}

/// How many pieces came from where.
fn sources(file: &Download) -> String {
    let beyond = file.pieces_from_peers.saturating_sub(file.pieces_from_lan);
    let all = [(beyond, "peers"), (file.pieces_from_lan, "LAN"), (file.pieces_from_mirror, "mirror")];
    let said: Vec<_> = all.iter().filter(|(pieces, _)| *pieces > 0).map(|(n, name)| format!("{n} {name}")).collect();
    let of = if file.peers > 1 { format!(" ({} peers)", file.peers) } else { String::new() };
    said.join(", ") + &of
}
