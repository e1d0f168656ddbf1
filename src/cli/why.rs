//! `apt-huddle why`: the answer as text, one step a line.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::status::{
    report::{Refused, Suite},
    why::{Answer, Chain, Missing},
    words::{count, moment},
};

use super::text::Text;

/// What is asked of the API.
pub fn target(question: &str) -> String {
    format!("/api/v1/why?q={}", utf8_percent_encode(question, NON_ALPHANUMERIC))
}

/// Renders an answer.
pub fn render(answer: &Answer) -> String {
    let mut text = Text::default();
    for chain in &answer.chains {
        text.gap();
        links(&mut text, chain);
    }
    if answer.more > 0 {
        text.gap();
        text.line(&format!("{} more, older ones. A version or an architecture narrows it down.", answer.more));
    }
    if let Some(missing) = &answer.missing {
        text.line(&answer.question);
        absent(&mut text, missing);
    }
    text.into_string()
}

fn links(text: &mut Text, chain: &Chain) {
    text.line(&chain.file.path);
    text.item("signed by", [chain.signer.fingerprint.as_str(), &chain.signer.key_file]);
    let release = format!("{} {}", chain.release.repository, chain.release.suite);
    text.item("Release", [release.as_str(), &format!("of {}", moment(chain.release.date))]);
    if let Some(index) = &chain.index {
        text.item("index", [index.path.as_str(), &index.sha256]);
    }
    text.item("file", [format!("{} bytes", count(chain.file.size)).as_str(), &chain.file.sha256]);
    match chain.breaks {
        None => text.item("chain", ["whole"]),
        Some(why) => text.item("BROKEN", [why.to_string().as_str()]),
    }
    text.item("store", [chain.store.to_string().as_str()]);
    text.item("peers", [chain.peers.to_string().as_str()]);
    refusals(text, &chain.refusals);
}

fn absent(text: &mut Text, missing: &Missing) {
    text.item("BROKEN", [missing.reason.to_string().as_str()]);
    refusals(text, &missing.refusals);
    for Suite { repository, suite, date, signer, .. } in &missing.suites {
        text.item("known", [format!("{repository} {suite}").as_str(), &format!("of {}", moment(*date)), signer]);
    }
}

fn refusals(text: &mut Text, refusals: &[Refused]) {
    for Refused { location, reason, is_bad, at } in refusals {
        let label = if *is_bad { "REFUSED" } else { "unverifiable" };
        text.item(label, [location.as_str(), reason, &moment(*at)]);
    }
}
