//! The page that answers why.

use maud::{Markup, html};

use crate::status::{
    page::{frame, legend, pieces},
    report::{Refused, Suite},
    words::{count, moment},
};

use super::{
    Answer, Chain, Missing, NoAnswer,
    pieces::{Came, Pieces},
};

/// Renders a question and its answer; without one the page only asks.
pub(in crate::status) fn render(question: &str, answer: Option<&Result<Answer, NoAnswer>>) -> Markup {
    let body = html! {
        h1 { "Why is this file what it is said to be?" }
        p { a href="/" { "apt-huddle" } }
        section {
            form action="/why" method="get" {
                input name="q" value=(question) aria-label="question" placeholder="hello, pool/main/h/hello/..., or a SHA-256";
                button { "Why?" }
            }
        }
        @match answer {
            None => p.soft { "A path in a repository, a URL, a file name, a package like hello:amd64 or hello=2.10-3, or a SHA-256." },
            Some(Err(error)) => section role="alert" { p.bad { (error) } },
            Some(Ok(answer)) => { (found(answer)) },
        }
    };
    frame("why - apt-huddle", None, &body)
}

fn found(answer: &Answer) -> Markup {
    html! {
        @for chain in &answer.chains { (links(chain)) }
        @if answer.more > 0 { p.soft { (answer.more) " more, older ones. A version or an architecture narrows it down." } }
        @if let Some(missing) = &answer.missing { (absent(&answer.question, missing)) }
    }
}

fn links(chain: &Chain) -> Markup {
    html! {
        section {
            h2 { (chain.file.path) }
            dl {
                dt { "Signed by" } dd { code { (chain.signer.fingerprint) } br; (chain.signer.key_file) }
                dt { "Release" }
                dd { (chain.release.repository) " " (chain.release.suite) br; "of " (moment(chain.release.date)) }
                @if let Some(index) = &chain.index { dt { "Index" } dd { (index.path) br; code { (index.sha256) } } }
                dt { "File" } dd { (count(chain.file.size)) " bytes" br; code { (chain.file.sha256) } }
                dt { "Chain" }
                dd { @match chain.breaks { None => span.good { "whole" }, Some(why) => span.bad { "broken: " (why) } } }
                dt { "Store" } dd { (chain.store) }
                dt { "Peers" } dd { (chain.peers) }
                @if let Some(brought) = &chain.pieces { dt { "Pieces" } dd { (brought_by(brought)) } }
            }
            (refusals(&chain.refusals))
        }
    }
}

fn brought_by(brought: &Pieces) -> Markup {
    html! {
        (pieces(&brought.map))
        (brought.map.pieces) " of at most 512 KiB, "
        @match brought.came {
            Came::Now => "on their way",
            Came::ThisRun => "brought since the start",
            Came::Earlier => "brought before the start",
        }
        @if let Some(reason) = brought.mirror_reason { "; the mirror: " (reason) }
        (legend())
    }
}

fn absent(question: &str, missing: &Missing) -> Markup {
    html! {
        section {
            h2 { (question) }
            p.bad { (missing.reason) "." }
            (refusals(&missing.refusals))
            @if !missing.suites.is_empty() { p.soft { "These are known:" } (suites(&missing.suites)) }
        }
    }
}

fn refusals(refusals: &[Refused]) -> Markup {
    html! {
        @if !refusals.is_empty() {
            table {
                thead { tr { th { "Refused" } th { "Why" } th { "When" } } }
                @for refusal in refusals {
                    tr { td.path { (refusal.location) } td { (refusal.reason) } td { (moment(refusal.at)) } }
                }
            }
        }
    }
}

fn suites(suites: &[Suite]) -> Markup {
    html! {
        table {
            thead { tr { th { "Suite" } th { "Of" } th { "Signed by" } } }
            @for suite in suites {
                tr {
                    td.path { (suite.repository) " " (suite.suite) }
                    td { (moment(suite.date)) }
                    td { code { (suite.signer) } }
                }
            }
        }
    }
}
