//! The page: HTML from the server, complete without scripts, in the order of a person's questions.
//!
//! Each question is a section with an id and a function of its own. The same functions feed `/live`, whose script puts a
//! section that changed in the place of the one before.
//!
//! **Security.** Names of files, words of peers and whatever is asked come from strangers. All of it passes through maud,
//! which escapes it. Nothing stands in the page that is a script or a style: a `Content-Security-Policy` forbids both
//! there, and charts are SVG whose sizes are plain attributes.

mod chart;
mod kept;
mod peers;
mod saved;
mod state;
mod transfers;

use maud::{DOCTYPE, Markup, html};

use super::{report::Report, words::moment};

pub(super) use chart::{legend, pieces};

/// The page's style, at `/style.css`.
pub const STYLE: &str = include_str!("style.css");
/// The script that keeps the page up to date, at `/live.js`.
pub const SCRIPT: &str = include_str!("live.js");

/// Three who huddle, at `/icon.svg`.
pub const ICON: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="#2a7548"><circle cx="8" cy="5" r="3.4"/><circle cx="4.5" cy="11" r="3.4"/><circle cx="11.5" cy="11" r="3.4"/></g></svg>
"##;

/// Seconds after which the page is loaded again where there are no scripts.
const REFRESH: u32 = 5;

/// A question, and its answer.
pub struct Section {
    /// The id of its element, which is there once.
    pub id: &'static str,
    /// The element.
    pub html: Markup,
}

/// All sections, in their order.
pub fn sections(report: &Report) -> [Section; 8] {
    let section = |id, html| Section { id, html };
    [
        section("state", state::state(report)),
        section("refused", kept::refused(report)),
        section("saved", saved::saved(report)),
        section("live", transfers::live(report)),
        section("recent", transfers::recent(report)),
        section("mirrors", state::mirrors(report)),
        section("peers", peers::peers(report)),
        section("kept", kept::kept(report)),
    ]
}

/// Renders the page.
pub fn render(report: &Report) -> Markup {
    let body = html! {
        header {
            h1 { "apt-huddle" }
            p #connection.soft role="status" { "As of " (moment(report.at)) "." }
        }
        @for section in sections(report) { (section.html) }
    };
    frame("apt-huddle", Some(REFRESH), &body)
}

/// What all pages have around them. One with `refresh` lives: by its script, or by being loaded again after so many seconds.
pub fn frame(title: &str, refresh: Option<u32>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(seconds) = refresh {
                    noscript { meta http-equiv="refresh" content=(seconds); }
                    script src="/live.js" defer {}
                }
                title { (title) }
                link rel="stylesheet" href="/style.css";
                link rel="icon" href="/icon.svg";
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                main #main { (body) }
            }
        }
    }
}

/// A table in a box of its own, which scrolls where the screen is narrow.
fn scrolling(label: &str, table: &Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { (table) } }
}

#[cfg(test)]
mod tests;
