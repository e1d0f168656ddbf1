//! `apt-huddle lookup`: who has a file.

use crate::{
    hash::ContentHash,
    status::{lookup::Answer, words::milliseconds},
};

use super::text::Text;

/// What is asked of the API.
pub fn target(hash: ContentHash) -> String {
    format!("/api/v1/lookup?q={hash}")
}

/// Renders an answer.
pub fn render(answer: &Answer) -> String {
    let mut text = Text::default();
    text.line(&answer.sha256);
    if let Some(why) = answer.not_asked {
        text.item("not asked", [why.to_string().as_str()]);
        return text.into_string();
    }
    for holder in &answer.holders {
        text.item("holder", [holder.to_string().as_str()]);
    }
    text.item("holders", [answer.holders.len().to_string().as_str()]);
    text.item("piece lists", [answer.chains.to_string().as_str()]);
    if let Some(first) = answer.first_ms {
        text.item("first after", [milliseconds(first).as_str()]);
    }
    text.item("took", [milliseconds(answer.took_ms).as_str()]);
    text.into_string()
}
