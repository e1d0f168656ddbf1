//! `apt-huddle status`: the page in a few lines.

use crate::status::{
    report::{Report, reachability},
    words::{ago, count, duration, files, milliseconds, moment, size},
};

use super::text::Text;

/// What is asked of the API.
pub const TARGET: &str = "/api/v1/status";

/// Refusals shown.
const MAX_REFUSALS: usize = 5;
/// Downloads shown.
const MAX_LIVE: usize = 8;
/// Characters of a bar.
const BAR: usize = 20;

/// Renders a report.
pub fn render(report: &Report) -> String {
    let mut text = Text::default();
    let page = report.listen.first().map_or_else(String::new, |at| format!(", http://{at}/"));
    text.line(&format!("apt-huddle {}, up {}{page}", report.version, duration(report.uptime)));
    bytes(&mut text, report);
    saved(&mut text, report);
    live(&mut text, report);
    network(&mut text, report);
    known(&mut text, report);
    text.into_string()
}

fn bytes(text: &mut Text, report: &Report) {
    let bytes = &report.bytes;
    text.gap();
    text.line("Bytes since the start");
    for (label, number) in [
        ("from peers", bytes.from_peers),
        ("of them, LAN", bytes.from_lan),
        ("from mirror", bytes.from_mirror),
        ("from store", bytes.from_store),
        ("to peers", bytes.up),
    ] {
        text.item(label, [size(number).as_str()]);
    }
    if report.under_way > 0 {
        text.item("under way", [files(report.under_way as u64).as_str()]);
    }
}

fn network(text: &mut Text, report: &Report) {
    text.gap();
    text.line("Network");
    let banned = report.peers.iter().filter(|peer| peer.banned).count();
    let banned = if banned > 0 { format!(", {banned} banned for false pieces") } else { String::new() };
    text.item("peers", [format!("{} met{banned}", report.peers.len()).as_str()]);
    let apt = match report.apt.last {
        Some(last) => {
            format!("{} requests, the last one {}", count(report.apt.requests), ago(report.at.saturating_sub(last)))
        }
        None => "has not asked for anything since the start".to_owned(),
    };
    text.item("apt", [apt.as_str()]);
    let nodes = match &report.dht {
        None => "off: nothing is shared".to_owned(),
        Some(dht) => match dht.lookup_p50_ms {
            Some(time) => format!("{} known, half of the lookups take less than {}", dht.nodes, milliseconds(time)),
            None => format!("{} known", dht.nodes),
        },
    };
    text.item("nodes", [nodes.as_str()]);
    for (family, state) in reachability(report) {
        text.item("port", [format!("over {family}: {state}").as_str()]);
    }
    let listen: Vec<_> = report.peer_listen.iter().map(ToString::to_string).collect();
    if !listen.is_empty() {
        text.item("listens at", [listen.join(", ").as_str()]);
    }
}

/// What is on its way, a bar of so many characters each.
fn live(text: &mut Text, report: &Report) {
    if report.live.is_empty() {
        return;
    }
    text.gap();
    text.line("Under way");
    for transfer in report.live.iter().take(MAX_LIVE) {
        let done = transfer.pieces_there * BAR / transfer.map.pieces.max(1);
        let bar = format!("[{}{}]", "#".repeat(done), ".".repeat(BAR - done));
        let how_far = format!("{bar} {} of {}, {}/s", size(transfer.bytes), size(transfer.size), size(transfer.rate));
        text.item("file", [transfer.path.as_str(), &how_far]);
    }
    if report.live.len() > MAX_LIVE {
        text.item("more", [files((report.live.len() - MAX_LIVE) as u64).as_str()]);
    }
}

fn saved(text: &mut Text, report: &Report) {
    let saved = &report.saved;
    text.gap();
    text.line("Not from a mirror");
    for (label, volume) in [("today", &saved.today), ("30 days", &saved.month), ("ever", &saved.ever)] {
        let share = volume.share_saved().map_or_else(|| "-".to_owned(), |share| format!("{share} %"));
        let of = format!("{share} of {}, {} given", size(volume.total()), size(volume.up));
        text.item(label, [of.as_str()]);
    }
}

fn known(text: &mut Text, report: &Report) {
    let kept = &report.store;
    text.gap();
    text.line("Kept and known");
    let free = kept.free.map_or_else(String::new, |free| format!("; {} free on the disk", size(free)));
    let held = format!("{}, {} of {}{free}", files(kept.objects as u64), size(kept.bytes), size(kept.quota));
    text.item("store", [held.as_str()]);
    let releases = &report.releases;
    let told = format!(
        "{} verified, {} without a known key, {} refused",
        releases.verified, releases.unverifiable, releases.bad
    );
    text.item("Releases", [told.as_str()]);
    for suite in &report.suites {
        let place = format!("{} {}", suite.repository, suite.suite);
        text.item("suite", [place.as_str(), &format!("{}, of {}", files(suite.files), moment(suite.date))]);
    }
    for refusal in report.refusals.iter().filter(|refusal| refusal.is_bad).take(MAX_REFUSALS) {
        text.item("REFUSED", [refusal.location.as_str(), &refusal.reason]);
    }
}
