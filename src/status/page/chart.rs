//! Charts: SVG of plain rectangles, without a style or a script in it.

use maud::{Markup, html};

use crate::status::{
    report::{DayVolume, PieceMap, Volume},
    words::size,
};

/// Units of a bar's length.
const LENGTH: u64 = 1000;
/// Units of a chart's height.
const HEIGHT: u64 = 100;

/// The sources with their class, as the style names them, and as people do; in the order in which they are drawn.
fn parts(volume: &Volume) -> [(&'static str, &'static str, u64); 4] {
    [
        ("peers", "peers", volume.peers),
        ("lan", "peers in the LAN", volume.lan),
        ("store", "the store", volume.store),
        ("mirror", "the mirror", volume.mirror),
    ]
}

/// What each source brought, as parts of one bar.
pub fn shares(volume: &Volume) -> Markup {
    let total = u128::from(volume.total().max(1));
    let length = |bytes: u64| (u128::from(bytes) * u128::from(LENGTH) / total) as u64;
    let mut at = 0;
    let rectangles = parts(volume).map(|(class, _, bytes)| {
        let (x, width) = (at, length(bytes));
        at += width;
        (class, x, width)
    });
    let said: Vec<_> = parts(volume).iter().map(|(_, name, bytes)| format!("{} from {name}", size(*bytes))).collect();
    html! {
        svg.bar viewBox={ "0 0 " (LENGTH) " 10" } preserveAspectRatio="none" role="img" aria-label=(said.join(", ")) {
            @for (class, x, width) in rectangles { rect.(class) x=(x) y="0" width=(width) height="10" {} }
        }
    }
}

/// A part of a whole.
pub fn part(class: &'static str, part: u64, whole: u64, label: &str) -> Markup {
    let width = (u128::from(part) * u128::from(LENGTH) / u128::from(whole.max(1))).min(u128::from(LENGTH));
    html! {
        svg.bar viewBox={ "0 0 " (LENGTH) " 10" } preserveAspectRatio="none" role="img" aria-label=(label) {
            rect.(class) x="0" y="0" width=(width) height="10" {}
        }
    }
}

/// A column a day, of what each source brought.
pub fn days(days: &[DayVolume]) -> Markup {
    let most = u128::from(days.iter().map(|day| day.bytes.total()).max().unwrap_or(0).max(1));
    let columns = days.iter().zip(0..).map(|(day, column)| {
        let mut top = HEIGHT;
        let rectangles = parts(&day.bytes).map(|(class, _, bytes)| {
            let height = (u128::from(bytes) * u128::from(HEIGHT) / most) as u64;
            top -= height.min(top);
            (class, top, height)
        });
        (day, 10 * column, rectangles)
    });
    html! {
        svg.days viewBox={ "0 0 " (10 * days.len().max(1)) " " (HEIGHT) } preserveAspectRatio="none" role="img"
            aria-label="bytes of each of the last thirty days, by source" {
            @for (day, x, rectangles) in columns {
                g {
                    title { (day.day) ": " (size(day.bytes.total())) }
                    rect.ground x=(x) y="0" width="9" height=(HEIGHT) {}
                    @for (class, y, height) in rectangles { rect.(class) x=(x) y=(y) width="9" height=(height) {} }
                }
            }
        }
    }
}

/// The pieces of a file, each in the colour of who brought it.
pub fn pieces(map: &PieceMap) -> Markup {
    let cells = map.cells.as_bytes();
    let mut runs: Vec<(&'static str, usize, usize)> = Vec::new();
    for (at, cell) in cells.iter().enumerate() {
        let class = match cell {
            b'm' => "mirror",
            b'p' => "peers",
            b'l' => "lan",
            b's' => "store",
            _ => continue,
        };
        match runs.last_mut() {
            Some((of, from, length)) if *of == class && *from + *length == at => *length += 1,
            _ => runs.push((class, at, 1)),
        }
    }
    let there = cells.iter().filter(|cell| **cell != b'.').count();
    let label = format!("{there} of {} pieces: {}", cells.len(), counts(cells));
    html! {
        svg.bar.pieces viewBox={ "0 0 " (cells.len().max(1)) " 10" } preserveAspectRatio="none" role="img"
            aria-label=(label) {
            @for (class, x, width) in runs { rect.(class) x=(x) y="0" width=(width) height="10" {} }
        }
    }
}

fn counts(cells: &[u8]) -> String {
    let count = |letter| cells.iter().filter(|cell| **cell == letter).count();
    let named = [("mirror", b'm'), ("peers", b'p'), ("LAN", b'l'), ("store", b's')];
    let named = named.map(|(name, letter)| (name, count(letter)));
    let said: Vec<_> = named.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
    if said.is_empty() { "none yet".to_owned() } else { said.join(", ") }
}

/// Which colour is which.
pub fn legend() -> Markup {
    html! {
        ul.legend aria-label="colours" {
            @for (class, name, _) in parts(&Volume::default()) { li { span.swatch.(class) {} (name) } }
        }
    }
}
