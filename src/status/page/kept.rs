//! What is kept, what is known, and what was refused?

use maud::{Markup, html};

use crate::status::{
    report::{Refused, Report, Suite},
    words::{ago, count, duration, files, moment, size},
};

use super::{chart, scrolling};

/// Things that were not learned from, shown.
const MAX_REFUSALS: usize = 20;

/// Shown loudly, before all else: somebody gave wrong bytes for right ones. Without any, the section is empty.
pub fn refused(report: &Report) -> Markup {
    let bad: Vec<_> = report.refusals.iter().filter(|refusal| refusal.is_bad).collect();
    html! {
        section #refused role=[(!bad.is_empty()).then_some("alert")] hidden[bad.is_empty()] {
            @if !bad.is_empty() {
                h2.bad { "Refused" }
                p { "These were wrong and nothing was learned from them. They were passed to apt as they are, which decides for itself." }
                (scrolling("refused", &refusals(&bad, report.at)))
            }
        }
    }
}

/// What is kept, and what is known?
pub fn kept(report: &Report) -> Markup {
    let kept = &report.store;
    let unknown: Vec<_> = report.refusals.iter().filter(|refusal| !refusal.is_bad).take(MAX_REFUSALS).collect();
    let held = format!("{} of {}", size(kept.bytes), size(kept.quota));
    html! {
        section #kept {
            h2 { "What is kept and known?" }
            p {
                (files(kept.objects as u64)) ", " (held)
                @if let Some(free) = kept.free { "; " (size(free)) " free on the disk" }
                @if kept.partials > 0 { "; " (files(kept.partials as u64)) " on their way" }
                "."
            }
            (chart::part("store", kept.bytes, kept.quota, &held))
            p.soft {
                "Releases since the start: " (count(report.releases.verified)) " verified, "
                (count(report.releases.unverifiable)) " without a known key, " (count(report.releases.bad)) " refused."
            }
            @if !report.suites.is_empty() { (scrolling("suites", &suites(report))) }
            @if !unknown.is_empty() {
                h3 { "Passed on, and not learned from" }
                (scrolling("not learned from", &refusals(&unknown, report.at)))
            }
        }
    }
}

fn suites(report: &Report) -> Markup {
    html! {
        table {
            thead { tr { th { "Suite" } th.n { "Files" } th { "Made" } th { "Valid" } th { "Signed by" } } }
            tbody {
                @for suite in &report.suites {
                    tr {
                        td.path { (suite.repository) " " (suite.suite) }
                        td.n { (count(suite.files)) }
                        td { (moment(suite.date)) br; span.soft { "learned " (ago(report.at.saturating_sub(suite.learned))) } }
                        td { (validity(suite, report.at)) }
                        td { code { (suite.signer) } }
                    }
                }
            }
        }
    }
}

fn validity(suite: &Suite, now: u64) -> Markup {
    html! {
        @match suite.valid_until {
            None => span.soft { "without an end" },
            Some(until) if suite.is_expired => span.bad { "ended " (ago(now.saturating_sub(until))) },
            Some(until) => { "for " (duration(until.saturating_sub(now))) },
        }
    }
}

fn refusals(refusals: &[&Refused], now: u64) -> Markup {
    html! {
        table {
            thead { tr { th { "What" } th { "Why" } th.n { "When" } } }
            tbody {
                @for refusal in refusals {
                    tr {
                        td.path { (refusal.location) }
                        td { (refusal.reason) }
                        td.n { (ago(now.saturating_sub(refusal.at))) }
                    }
                }
            }
        }
    }
}
