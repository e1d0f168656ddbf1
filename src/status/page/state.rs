//! Is it working?

use maud::{Markup, html};

use crate::{
    dht::Reachability,
    status::{
        report::{Report, reachability},
        words::{ago, count, duration},
    },
};

use super::scrolling;

/// Mirrors that fail, shown.
const MAX_FAILING: usize = 20;

/// One thing that works, or does not, or cannot be said yet.
#[derive(Clone, Copy)]
enum Mark {
    Good,
    Open,
    Bad,
}

/// The daemon, apt, the network, the way in.
pub fn state(report: &Report) -> Markup {
    html! {
        section #state {
            h2 { "Is it working?" }
            ul.marks {
                (line(Mark::Good, html! { "Working for " (duration(report.uptime)) ", version " (report.version) "." }))
                (apt(report))
                (network(report))
                @for (family, state) in reachability(report) {
                    (line(mark(state), html! { "From outside over " (family) ": " (state) "." }))
                }
            }
        }
    }
}

fn apt(report: &Report) -> Markup {
    match report.apt.last {
        Some(last) => line(
            Mark::Good,
            html! {
                "apt uses it: " (count(report.apt.requests)) " requests since the start, the last one "
                (ago(report.at.saturating_sub(last))) "."
            },
        ),
        None => line(
            Mark::Open,
            html! {
                "apt has not asked for anything since the start."
                @if let Some(at) = report.listen.first() {
                    " This leads it here: " code { "apt-get -o Acquire::http::Proxy=http://" (at) " update" }
                }
            },
        ),
    }
}

fn network(report: &Report) -> Markup {
    let Some(dht) = &report.dht else {
        return line(Mark::Open, html! { "Nothing is shared: the network is off." });
    };
    match dht.nodes {
        0 => line(Mark::Open, html! { "No other node of the network is known yet; the mirror brings everything." }),
        1 => line(Mark::Good, html! { "One node of the network is known." }),
        nodes => line(Mark::Good, html! { (count(nodes as u64)) " nodes of the network are known." }),
    }
}

fn mark(state: Reachability) -> Mark {
    match state {
        Reachability::Untested => Mark::Open,
        state if state.is_fine() => Mark::Good,
        _ => Mark::Bad,
    }
}

fn line(mark: Mark, text: Markup) -> Markup {
    let (class, sign, name) = match mark {
        Mark::Good => ("good", "✓", "good"),
        Mark::Open => ("soft", "–", "open"),
        Mark::Bad => ("bad", "✗", "not good"),
    };
    html! { li { span.(class) role="img" aria-label=(name) { (sign) } span { (text) } } }
}

/// Which mirrors do not work? Without any, the section is empty.
pub fn mirrors(report: &Report) -> Markup {
    let failing = report.failing_mirrors.iter().take(MAX_FAILING);
    let table = html! {
        table {
            thead { tr { th { "Mirror" } th.n { "Failures in a row" } th { "Last" } th { "Now" } } }
            tbody {
                @for mirror in failing {
                    tr {
                        td { (mirror.host) }
                        td.n { (mirror.failures) }
                        td { (mirror.why) }
                        td {
                            @if mirror.is_open { span.bad { "passed by for " (mirror.retry_in) " s" } }
                            @else { "asked as before" }
                        }
                    }
                }
            }
        }
    };
    html! {
        section #mirrors hidden[report.failing_mirrors.is_empty()] {
            @if !report.failing_mirrors.is_empty() {
                h2 { "Mirrors that fail" }
                (scrolling("mirrors that fail", &table))
            }
        }
    }
}
