//! The page: HTML from the server, complete without scripts, in the order of a person's questions.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    report::{Download, Report, reachability},
    words::{duration, milliseconds, size},
};

/// Downloads shown.
const MAX_RECENT: usize = 25;
/// Mirrors that fail, shown.
const MAX_FAILING: usize = 20;
/// Peers shown.
const MAX_PEERS: usize = 25;
/// Seconds after which the page is loaded again.
const REFRESH: u32 = 5;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1d2530;--soft:#5a6675;--paper:#f6f7f9;--card:#fff;--line:#d9dee5;--peers:#2f7d4f;--mirror:#b3610c;--store:#2b62b5;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#a3afbf;--paper:#12161c;--card:#1b212a;--line:#333d4a;--peers:#63c088;--mirror:#eba257;--store:#7fb0f5;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.45 system-ui,sans-serif}
main{max-width:64rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.1rem;margin:0 0 .6rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem;margin:1rem 0;overflow-x:auto}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:1rem}
.figures strong{display:block;font-size:1.45rem;font-variant-numeric:tabular-nums}.figures span,.soft{color:var(--soft)}
.bar{display:flex;height:.8rem;border-radius:.4rem;overflow:hidden;background:var(--line);margin:1rem 0 0}
.peers{background:var(--peers)}.mirror{background:var(--mirror)}.store{background:var(--store)}
strong.peers,strong.mirror,strong.store{background:none}strong.peers{color:var(--peers)}strong.mirror{color:var(--mirror)}strong.store{color:var(--store)}
table{border-collapse:collapse;width:100%;font-size:.92rem}th,td{text-align:left;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}td.path{word-break:break-all}
.bad{color:var(--bad);font-weight:600}.good{color:var(--peers);font-weight:600}code{font-size:.9em;word-break:break-all}a{color:inherit}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1rem;margin:0}dt{color:var(--soft)}dd{margin:0;word-break:break-all}
form{display:flex;gap:.5rem}input{flex:1;min-width:0;font:inherit;padding:.35rem .6rem}button{font:inherit}
";

/// Renders the page.
pub fn render(report: &Report) -> Markup {
    let body = html! {
        h1 { "apt-huddle" }
        p { (state(report)) }
        (refusals(report))
        (saved(report))
        (recent(report))
        (failing(report))
        (who(report))
        (kept(report))
    };
    frame("apt-huddle", Some(REFRESH), &body)
}

/// What all pages have around them. One with `refresh` is loaded again after so many seconds.
pub fn frame(title: &str, refresh: Option<u32>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    }
}

/// Is it working?
fn state(report: &Report) -> Markup {
    let nodes = report.dht.as_ref().map(|dht| dht.nodes);
    html! {
        "Working for " (duration(report.uptime)) ", version " (report.version) ". "
        @match nodes {
            None => "Nothing is shared: the network is off.",
            Some(0) => "No other node of the network is known yet; the mirror brings everything.",
            Some(1) => "One node of the network is known.",
            Some(nodes) => { (nodes) " nodes of the network are known." },
        }
        @if report.under_way > 0 { " On their way: " (report.under_way) "." }
    }
}

/// Shown loudly, before all else: somebody gave wrong bytes for right ones.
fn refusals(report: &Report) -> Markup {
    let bad: Vec<_> = report.refusals.iter().filter(|refusal| refusal.is_bad).collect();
    html! {
        @if !bad.is_empty() {
            section role="alert" {
                h2.bad { "Refused" }
                p { "These were wrong and nothing was learned from them. They were passed to apt as they are, which decides for itself." }
                table {
                    thead { tr { th { "What" } th { "Why" } } }
                    @for refusal in bad { tr { td.path { (refusal.location) } td { (refusal.reason) } } }
                }
            }
        }
    }
}

/// What did it save?
fn saved(report: &Report) -> Markup {
    let bytes = &report.bytes;
    let total = (bytes.from_peers + bytes.from_mirror + bytes.from_store).max(1);
    let share = |part: u64| format!("flex-grow:{}", part * 1000 / total);
    html! {
        section {
            h2 { "Bytes since the start" }
            div.figures {
                div { strong.peers { (size(bytes.from_peers)) } span { "from peers" } }
                div { strong.mirror { (size(bytes.from_mirror)) } span { "from the mirror" } }
                div { strong.store { (size(bytes.from_store)) } span { "from the store" } }
                div { strong { (size(bytes.up)) } span { "given to peers" } }
            }
            div.bar role="img" aria-label="shares of peers, mirror and store" {
                div.peers style=(share(bytes.from_peers)) {}
                div.mirror style=(share(bytes.from_mirror)) {}
                div.store style=(share(bytes.from_store)) {}
            }
        }
    }
}

/// What did it do?
fn recent(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Recent files" }
            p.soft { "Each leads to the chain of signatures and hashes behind it; " a href="/why" { "ask for another" } "." }
            @if report.recent.is_empty() { p.soft { "None yet." } } @else {
                table {
                    thead { tr { th { "File" } th.n { "Size" } th.n { "Pieces from peers" } th.n { "from the mirror" } th.n { "First byte" } th.n { "Took" } } }
                    @for file in report.recent.iter().take(MAX_RECENT) { (download(file)) }
                }
            }
        }
    }
}

fn download(file: &Download) -> Markup {
    html! {
        tr {
            td.path {
                a href={ "/why?q=" (file.hash) } { (file.path) }
                @if let Some(failure) = &file.failure { " " span.bad { (failure) } }
            }
            td.n { (size(file.size)) }
            td.n {
                (file.pieces_from_peers)
                @if file.peers > 1 { span.soft { " of " (file.peers) " peers" } }
            }
            td.n { (file.pieces_from_mirror) }
            td.n { @if let Some(time) = file.first_byte_ms { (milliseconds(time)) } }
            td.n { (milliseconds(file.took_ms)) }
        }
    }
}

/// Which mirrors do not work?
fn failing(report: &Report) -> Markup {
    html! {
        @if !report.failing_mirrors.is_empty() {
            section {
                h2 { "Mirrors that fail" }
                table {
                    thead { tr { th { "Mirror" } th.n { "Failures in a row" } th { "Last" } th { "Now" } } }
                    @for mirror in report.failing_mirrors.iter().take(MAX_FAILING) {
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
        }
    }
}

/// Who is there?
fn who(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Peers" }
            p.soft {
                (report.peers.len()) " met"
                @if let Some(dht) = &report.dht {
                    "; DHT nodes known: " (dht.nodes)
                    @if let Some(time) = dht.figures.lookup_p50_ms { "; median lookup " (milliseconds(time)) }
                }
                "."
            }
            @for (family, state) in reachability(report) {
                p.soft[state.is_fine()].bad[!state.is_fine()] { "The port of peers over " (family) ": " (state) "." }
            }
            @if !report.peers.is_empty() {
                table {
                    thead { tr { th { "Address" } th.n { "Gave" } th.n { "Rate" } th.n { "Round trip" } th { "Standing" } } }
                    @for peer in report.peers.iter().take(MAX_PEERS) {
                        tr {
                            td { (peer.address) }
                            td.n { (size(peer.given)) }
                            td.n { @if let Some(rate) = peer.rate { (size(rate)) "/s" } }
                            td.n { @if let Some(time) = peer.round_trip_ms { (milliseconds(time)) } }
                            td { @if peer.banned { span.bad { "banned: sent false pieces" } } @else { "good" } }
                        }
                    }
                }
            }
        }
    }
}

/// What is kept, and what is known?
fn kept(report: &Report) -> Markup {
    let kept = &report.store;
    html! {
        section {
            h2 { "Kept and known" }
            p {
                (kept.objects) " files, " (size(kept.bytes)) " of " (size(kept.quota))
                @if let Some(free) = kept.free { "; " (size(free)) " free on the disk" }
                ". Releases: " (report.releases.verified) " verified, " (report.releases.unverifiable)
                " without a known key, " (report.releases.bad) " refused."
            }
            @if !report.suites.is_empty() {
                table {
                    thead { tr { th { "Suite" } th.n { "Files" } th { "Signed by" } } }
                    @for suite in &report.suites {
                        tr { td.path { (suite.repository) " " (suite.suite) } td.n { (suite.files) } td { code { (suite.signer) } } }
                    }
                }
            }
        }
    }
}
