//! A file of apt's sources with other addresses in it: all else stays as it is, byte for byte.

use std::net::SocketAddr;

use crate::archive::{Proxies, Sources, Surroundings};

use super::{
    fate::{Fate, Ground, Left, lead_back, lead_through},
    spots::Style,
};

/// A URI in a file, and what is to be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Its line, counted from 1.
    pub line: usize,
    /// As it is written.
    pub uri: String,
    /// What is to be done with it.
    pub fate: Fate,
}

/// The URIs of a file, in its order; the error is the place that is not understood, for people.
pub fn uses(name: &str, style: Style, text: &str, ground: &Ground) -> Result<Vec<Use>, String> {
    understood(name, text, &ground.proxies)?;
    let spots = style.spots(text).into_iter();
    let told = |spot: super::spots::Spot| {
        let uri = &text[spot.range];
        Use { line: spot.line, uri: uri.to_owned(), fate: ground.fate(uri) }
    };
    Ok(spots.map(told).collect())
}

/// A file whose free addresses all lead through the daemon. The error is what is not understood.
pub fn rewritten(name: &str, style: Style, text: &str, ground: &Ground, daemon: SocketAddr) -> Result<String, String> {
    let before = understood(name, text, &ground.proxies)?;
    let unclear = |found: &Use| matches!(found.fate, Fate::Left(Left::Unclear(_)));
    if let Some(Use { line, fate: Fate::Left(why), .. }) = uses(name, style, text, ground)?.into_iter().find(unclear) {
        return Err(format!("line {line}: {why}"));
    }
    let after = replaced(style, text, |uri| match ground.fate(uri) {
        Fate::Free(_) => lead_through(uri, daemon),
        Fate::Here(_) | Fate::Left(_) => None,
    });
    // What is written has to mean the same to whoever reads it next.
    match understood(name, &after, &ground.proxies) {
        Ok(sources) if sources == before => Ok(after),
        _ => Err("its addresses cannot be told from the rest for certain".to_owned()),
    }
}

/// A file none of whose addresses leads through the daemon any more.
pub fn led_back(style: Style, text: &str, proxies: &Proxies) -> String {
    replaced(style, text, |uri| lead_back(uri, proxies))
}

/// A file by its origins alone, to compare one that was rewritten with what it was before.
pub fn by_origins(style: Style, text: &str, proxies: &Proxies) -> String {
    let daemon = SocketAddr::from(([127, 0, 0, 1], 9));
    let alike = Proxies { listen: vec![daemon], ..Proxies::default() };
    replaced(style, text, |uri| match lead_back(uri, proxies) {
        Some(origin) => Some(origin),
        None => lead_back(&lead_through(uri, daemon)?, &alike),
    })
}

fn replaced(style: Style, text: &str, with: impl Fn(&str) -> Option<String>) -> String {
    let (mut out, mut at) = (String::with_capacity(text.len() + 256), 0);
    for spot in style.spots(text) {
        if let Some(uri) = with(&text[spot.range.clone()]) {
            out.push_str(&text[at..spot.range.start]);
            out.push_str(&uri);
            at = spot.range.end;
        }
    }
    out.push_str(&text[at..]);
    out
}

/// What a file means. An entry that cannot be read is an error: nobody knows what would be changed.
fn understood(name: &str, text: &str, proxies: &Proxies) -> Result<Sources, String> {
    let around = Surroundings { proxies: proxies.clone(), ..Surroundings::default() };
    let (sources, bad) = Sources::parse([(name, text)], &around);
    match bad.into_iter().find(|bad| bad.is_malformed) {
        Some(bad) => Err(format!("line {}: {}", bad.line, bad.reason)),
        None => Ok(sources),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE_LINE: &str = "# sources\n\ndeb [signed-by=/k.gpg arch=amd64] http://m.example.org/debian sid main  # a\n\
                            deb-src http://127.0.0.1:9977/n.example.org/debian sid main\n\
                            deb https://s.example.org/x ./\ndeb cdrom:[Debian]/ sid main";
    const DEB822: &str = "Types: deb deb-src\nURIs: http://m.example.org/debian\n # no\n\n# a remark\nTypes: deb\n\
                          URIs: https://s.example.org/x\n  http://m.example.org/y\nSuites: sid\nComponents: main\n";

    fn daemon() -> SocketAddr {
        "127.0.0.1:9977".parse().unwrap()
    }

    fn ground() -> Ground {
        let proxies = Proxies { listen: vec![daemon()], ..Proxies::default() };
        Ground { proxies, passwords: Some(Vec::new()), ..Ground::default() }
    }

    #[test]
    fn only_the_addresses_change_and_they_come_back() {
        let text = ONE_LINE;
        let there = rewritten("a.list", Style::OneLine, text, &ground(), daemon()).unwrap();
        let want = text
            .replace("http://m.example.org", "http://127.0.0.1:9977/m.example.org")
            .replace("https://s", "http://127.0.0.1:9977/HTTPS///s");
        assert_eq!(there, want);
        let again = rewritten("a.list", Style::OneLine, &there, &ground(), daemon()).unwrap();
        assert_eq!(again, there, "twice is as once");
        let back = led_back(Style::OneLine, &there, &ground().proxies);
        assert_eq!(back, text.replace("127.0.0.1:9977/n.example.org", "n.example.org"));
    }

    #[test]
    fn a_file_is_refused_whole_when_an_entry_is_not_understood() {
        let deb822 = DEB822.replacen("\n # no\n", "\nSuites: sid\nComponents: main\n", 1);
        assert!(rewritten("a.sources", Style::Deb822, &deb822, &ground(), daemon()).is_ok());
        for (style, name, text, word) in [
            (Style::OneLine, "a.list", format!("{ONE_LINE}\ndeb http://m.example.org sid\n"), "line 7"),
            (Style::OneLine, "a.list", format!("{ONE_LINE}\nrpm http://m.example.org sid main\n"), "line 7"),
            (Style::OneLine, "a.list", "deb http://m.example.org?x=y sid main\n".into(), "query"),
            (Style::Deb822, "a.sources", format!("{deb822}Colour\n"), "line"),
            (Style::Deb822, "a.sources", DEB822.to_owned(), "Suites"),
        ] {
            let error = rewritten(name, style, &text, &ground(), daemon()).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_named_an_origin_in_another_way_is_known_again() {
        let (proxies, style) = (ground().proxies, Style::OneLine);
        let text = "deb http://HTTPS///s.example.org/x sid main\ndeb HTTP://m.example.org/ sid main\n";
        let there = rewritten("a.list", style, text, &ground(), daemon()).unwrap();
        assert_ne!(led_back(style, &there, &proxies), text);
        assert_eq!(by_origins(style, &there, &proxies), by_origins(style, text, &proxies));
        assert_ne!(by_origins(style, &there, &proxies), by_origins(style, ONE_LINE, &proxies));
    }

    #[test]
    fn what_is_left_alone_stays_while_the_rest_goes() {
        let ground = Ground { passwords: Some(vec!["s.example.org".to_owned()]), ..ground() };
        let there = rewritten("a.list", Style::OneLine, ONE_LINE, &ground, daemon()).unwrap();
        assert!(there.contains("deb https://s.example.org/x ./"), "{there}");
        assert!(there.contains("http://127.0.0.1:9977/m.example.org/debian"), "{there}");
        let fates = uses("a.list", Style::OneLine, ONE_LINE, &ground).unwrap();
        let lines: Vec<_> = fates.iter().map(|found| found.line).collect();
        assert_eq!(lines, [3, 4, 5, 6]);
        assert!(matches!(fates[2].fate, Fate::Left(Left::Password)));
    }

    fn entry() -> impl Strategy<Value = String> {
        let uri = r"(https?://[a-d]\.example\.org(:80)?/[a-z/]{0,5}|cdrom:\[a\]/|file:/a)";
        let line = (r"[ \t]{0,2}deb(-src)?[ \t]{1,2}", r"(\[ ?arch=amd64 ?\] ?)?", uri, r" (sid main|\./)( # .{0,9})?");
        line.prop_map(|(a, b, c, d)| a + &b + &c + &d)
    }

    proptest! {
        #[test]
        fn rewriting_keeps_the_meaning_and_comes_back_byte_for_byte(
            entries in prop::collection::vec(prop_oneof![4 => entry(), 1 => r"#.{0,9}", 1 => Just(String::new())], 0..6),
            end in prop_oneof![Just("\n"), Just("\r\n")],
        ) {
            let text = entries.join(end);
            let there = rewritten("a.list", Style::OneLine, &text, &ground(), daemon());
            prop_assert!(there.is_ok(), "{:?}: {:?}", text, there);
            let there = there.unwrap();
            prop_assert!(!there.contains("//a.example.org") || there.contains("HTTPS///a.example.org"));
            let proxies = ground().proxies;
            prop_assert_eq!(&led_back(Style::OneLine, &there, &proxies), &text);
            prop_assert_eq!(by_origins(Style::OneLine, &there, &proxies), by_origins(Style::OneLine, &text, &proxies));
        }

        #[test]
        fn no_text_at_all_is_damaged(text in r"([ -~\t]|\n|é){0,200}") {
            for (name, style) in [("a.list", Style::OneLine), ("a.sources", Style::Deb822)] {
                if let Ok(there) = rewritten(name, style, &text, &ground(), daemon()) {
                    prop_assert_eq!(led_back(style, &there, &ground().proxies), text.clone());
                }
            }
        }
    }
}
