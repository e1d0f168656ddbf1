use crate::status::{
    metrics,
    report::{
        AptUse, Bytes, DayVolume, Download, Downloads, FailingMirror, Kept, MirrorReason, PassReason, Passed, Peer,
        PieceMap, Refused, Releases, Saved, Suite, Taker, Transfer, Uploads, Volume,
    },
    why,
};

use super::*;

/// What somebody might call a file, or say of himself.
const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>\n</style>&amp;{{7*7}}\u{202e}\u{0}";

fn hostile() -> Report {
    let text = || HOSTILE.to_owned();
    let volume = Volume { peers: 30, lan: 10, store: 20, mirror: 40, up: 7 };
    let map = PieceMap { pieces: 6, pieces_per_cell: 1, cells: "mmlp.s".to_owned() };
    Report {
        version: text(),
        at: 1_000_000,
        uptime: 5,
        listen: vec!["127.0.0.1:9977".parse().unwrap()],
        peer_listen: Vec::new(),
        apt: AptUse { requests: 0, last: None },
        bytes: Bytes { from_peers: 5, from_lan: 3, from_mirror: 1, from_store: 1, up: 1, wasted: 1 },
        saved: Saved {
            today: volume,
            month: volume,
            ever: volume,
            days: vec![DayVolume { day: text(), bytes: volume }; 3],
        },
        dht: None,
        peers: vec![Peer {
            address: "192.0.2.1:1".parse().unwrap(),
            is_lan: false,
            is_connected: true,
            rate: Some(1),
            round_trip_ms: Some(1.0),
            given: 1,
            taken: 1,
            convictions: 2,
            banned: true,
            banned_for: Some(3600),
        }],
        takers: vec![Taker { address: "192.0.2.2".parse().unwrap(), taken: 5 }],
        connections: 1,
        failing_mirrors: vec![FailingMirror { host: text(), failures: 1, is_open: true, retry_in: 1, why: text() }],
        under_way: 1,
        live: vec![Transfer {
            path: text(),
            repository: text(),
            hash: text(),
            size: 6 << 19,
            bytes: 5 << 19,
            rate: 1,
            since_ms: 1.0,
            pieces_there: 5,
            map: map.clone(),
        }],
        downloads: Downloads { brought: 1, failed: 1, convictions: 1 },
        uploads: Uploads { requests: 1, active: 1, refused: 1 },
        recent: vec![Download {
            path: text(),
            repository: text(),
            hash: text(),
            size: 1,
            pieces: 6,
            pieces_from_peers: 2,
            pieces_from_lan: 1,
            pieces_from_mirror: 2,
            map,
            mirror_reason: Some(MirrorReason::Quicker),
            peers: 2,
            wasted: 0,
            took_ms: 1.0,
            first_byte_ms: Some(1.0),
            ended: 999_990,
            failure: Some(text()),
        }],
        passed: vec![Passed { location: text(), reason: PassReason::NotVouched, at: 1 }],
        store: Kept { objects: 1, bytes: 1, partials: 1, in_flight: 1, quota: 2, free: Some(1) },
        suites: vec![Suite {
            repository: text(),
            suite: text(),
            date: 1,
            valid_until: Some(2),
            is_expired: true,
            signer: text(),
            files: 1,
            learned: 1,
        }],
        releases: Releases { verified: 1, unverifiable: 1, bad: 1 },
        refusals: vec![
            Refused { location: text(), reason: text(), is_bad: true, at: 1 },
            Refused { location: text(), reason: text(), is_bad: false, at: 1 },
        ],
    }
}

#[test]
fn words_of_strangers_are_shown_as_words() {
    let question = why::page::render(HOSTILE, None);
    for html in [render(&hostile()), question] {
        let html = html.into_string();
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{html}");
        let scripts = html.matches("<script").count();
        assert!(html.matches("<script src=\"/live.js\" defer></script>").count() == scripts, "{html}");
        for forbidden in ["<img", " style=", "<style", "javascript:"] {
            assert!(!html.contains(forbidden), "{forbidden}: {html}");
        }
        assert!(!html.contains("http://") || html.contains("Proxy=http://127.0.0.1:9977"));
    }
    let metrics = metrics::text(&hostile());
    let (version, rest) = metrics.split_once("_info{").and_then(|(_, rest)| rest.split_once('\n')).unwrap();
    assert!(version.contains("\\\"><script>") && !rest.contains("script"), "{metrics}");
    assert!(metrics.lines().all(|line| line.starts_with("# ") || line.starts_with("apt_huddle_")), "{metrics}");
}

#[test]
fn every_section_has_its_id_once_and_says_what_it_is_for() {
    let (report, page) = (hostile(), render(&hostile()).into_string());
    for section in sections(&report) {
        let (html, id) = (section.html.into_string(), format!("id=\"{}\"", section.id));
        assert!(html.starts_with("<section ") && html.contains("<h2") && html.ends_with("</section>"), "{html}");
        assert_eq!(page.matches(&id).count(), 1, "{id}");
        assert!(page.contains(&html), "the page and /live are the same");
    }
    let words = ["60 %", "banned for 1 h", "quicker than peers", "ended 11 d", "takes", "5 of 6 pieces"];
    let found: Vec<_> = words.into_iter().filter(|word| !page.contains(word)).collect();
    assert!(found.is_empty(), "{found:?} in {page}");
}

#[test]
fn bars_are_as_long_as_what_they_show() {
    let widths = |svg: &str| -> Vec<u64> {
        let parts = svg.split("width=\"").skip(1);
        parts.map(|part| part.split('"').next().unwrap().parse().unwrap()).collect()
    };
    let report = hostile();
    assert_eq!(widths(&chart::shares(&report.saved.ever).into_string()), [300, 100, 200, 400]);
    assert_eq!(widths(&chart::shares(&Volume::default()).into_string()), [0; 4]);
    let most = Volume { peers: u64::MAX, mirror: u64::MAX, ..Volume::default() };
    assert!(widths(&chart::shares(&most).into_string()).iter().sum::<u64>() <= 2000);
    assert_eq!(widths(&chart::part("store", 1, 4, "").into_string()), [250]);
    assert_eq!(widths(&chart::part("store", 9, 4, "").into_string()), [1000]);
    let bar = pieces(&report.live[0].map).into_string();
    assert_eq!(widths(&bar), [2, 1, 1, 1], "{bar}");
    assert!(bar.contains("5 of 6 pieces: 2 mirror, 1 peers, 1 LAN, 1 store"), "{bar}");
    assert!(bar.contains("<rect class=\"store\" x=\"5\""), "{bar}");
}

/// The colours of a block of the style, by their names.
fn colours(block: &str) -> Vec<(&str, [f64; 3])> {
    let declarations = block.lines().filter_map(|line| line.trim().strip_prefix("--")?.split_once(": #"));
    let channel = |hex: &str, at: usize| f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
    declarations.map(|(name, hex)| (name, [0, 2, 4].map(|at| channel(hex, at)))).collect()
}

/// Contrast of two colours (WCAG 2.2, "contrast ratio").
fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
    let luminance = |[r, g, b]: [f64; 3]| 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn text_and_charts_can_be_told_from_their_ground_in_light_and_dark() {
    assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 1e-9);
    let (light, rest) = STYLE.split_once("@media").unwrap();
    let dark = rest.split_once("* {").unwrap().0;
    for (name, block) in [("light", light), ("dark", dark)] {
        let colours = colours(block);
        let of = |name: &str| colours.iter().find(|(one, _)| *one == name).unwrap_or_else(|| panic!("{name}")).1;
        for (text, ground) in [
            ("ink", "paper"),
            ("ink", "card"),
            ("soft", "paper"),
            ("soft", "card"),
            ("link", "card"),
            ("link", "paper"),
            ("peers", "card"),
            ("bad", "card"),
        ] {
            let ratio = contrast(of(text), of(ground));
            assert!(ratio >= 4.5, "{name}: {text} on {ground}: {ratio:.2}");
        }
        for chart in ["peers", "lan", "store", "mirror"] {
            for ground in ["card", "ground"] {
                let ratio = contrast(of(chart), of(ground));
                assert!(ratio >= 3.0, "{name}: {chart} on {ground}: {ratio:.2}");
            }
        }
    }
}
