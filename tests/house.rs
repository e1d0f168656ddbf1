//! The house rules: the sources read as data, each rule with its reason.

use std::{fmt, fs, path::Path};

/// Which stations a station may import. Data and trust flow one way; what is below never hears of what is above.
const EDGES: &[(&str, &[&str])] = &[
    ("hash", &[]),
    // Whoever asks a peer and whoever answers one make the same codes; neither is above the other.
    ("seal", &[]),
    ("archive", &["hash"]),
    ("dht", &["archive", "hash"]),
    ("peer", &["archive", "hash", "seal"]),
    ("mirror", &["archive", "hash"]),
    ("store", &["archive", "hash"]),
    ("fetch", &["peer", "mirror", "store", "archive", "hash"]),
    ("upload", &["store", "archive", "hash", "seal"]),
    ("announce", &["dht", "store", "archive", "hash"]),
    ("flow", &["archive", "dht", "fetch", "mirror", "store", "hash"]),
    ("proxy", &["flow", "mirror", "store", "archive", "hash"]),
    ("status", &["proxy", "flow", "dht", "peer", "mirror", "fetch", "store", "upload", "announce", "archive", "hash"]),
    (
        "config",
        &["proxy", "flow", "archive", "dht", "peer", "mirror", "fetch", "store", "upload", "announce", "status"],
    ),
    // The tools that need no daemon are a node for a moment; those for apt's sources read them as the archive does.
    ("cli", &["config", "status", "dht", "archive", "hash"]),
    // Programs beside the main one need nothing of it.
    ("bin", &[]),
    ("daemon", EVERY_STATION),
    ("main", EVERY_STATION),
    ("lib", EVERY_STATION),
];

const EVERY_STATION: &[&str] = &[
    "cli", "config", "daemon", "hash", "seal", "proxy", "flow", "archive", "dht", "peer", "mirror", "fetch", "store",
    "upload", "announce", "status",
];

/// A text, the only places where it may stand, and why.
const DOORS: &[(&str, &[&str], &str)] = &[
    ("rusqlite", &["store/"], "SQL has one home, so that a table can change without the rest knowing"),
    ("actix_", &["proxy/", "upload/", "status/", "daemon.rs"], "only what serves knows the web framework"),
    ("sequoia_openpgp", &["archive/"], "a signature is judged in one place"),
    ("Vouched::restore(", &["archive/vouched.rs", "store/"], "only the store gives back a proof that it was given"),
    ("reqwest", &["mirror/"], "origins are fetched through one door, which knows what may be fetched"),
];

/// What a pure file has none of.
const IMPURE: &[&str] = &[
    "expect(clippy::disallowed",
    "allow(clippy::disallowed",
    "async ",
    ".await",
    "tokio::",
    "Mutex",
    "RwLock",
    "OnceLock",
    "LazyLock",
    "thread_local!",
    "static mut",
    "fs::",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "SystemTime::now",
    "Instant::now",
];

/// Longest file, and longest file of nothing but tests, in lines.
const LONGEST: [usize; 2] = [500, 700];

/// One breach of a rule.
struct Breach {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file, self.line, self.rule)
    }
}

#[test]
fn the_sources_keep_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut breaches = Vec::new();
    for (file, text) in sources(&root.join("src"), "") {
        breaches.extend(breaches_of(&file, &text));
    }
    for (file, text) in sources(&root.join("tests"), "../tests/") {
        breaches.extend(too_long(&file, &text));
        breaches.extend(without_a_name(&file, &text));
    }
    let list: Vec<_> = breaches.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "\n{}", list.join("\n"));
}

/// All Rust files below a folder, by their path in it; those that a build put there are not ours.
fn sources(folder: &Path, prefix: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a checkout").flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() && entry.file_name() == "target" {
            continue;
        } else if entry.path().is_dir() {
            found.extend(sources(&entry.path(), &format!("{name}/")));
        } else if name.ends_with(".rs") {
            found.push((name, fs::read_to_string(entry.path()).expect("Rust is UTF-8")));
        }
    }
    found
}

/// Every breach of a file below `src`.
fn breaches_of(file: &str, text: &str) -> Vec<Breach> {
    let code = production_code(file, text);
    let rules = [too_long, without_a_name, without_a_reason];
    let of_all = rules.iter().flat_map(|rule| rule(file, text));
    let of_code = [wrong_edges, wrong_doors, impure];
    of_all.chain(of_code.iter().flat_map(|rule| rule(file, &code))).collect()
}

/// The text with comments and tests blanked, line by line: a test may set up a station's neighbours.
fn production_code(file: &str, text: &str) -> String {
    if is_test(file) {
        return String::new();
    }
    let (mut lines, mut blank) = (Vec::new(), Blank::Nothing);
    for line in text.lines() {
        blank = match blank {
            Blank::Nothing | Blank::Last if line == "#[cfg(test)]" => Blank::Attributes,
            // Further attributes and their reasons, up to the item that they are for.
            Blank::Attributes if line.starts_with("mod ") && line.ends_with('{') => Blank::Body,
            Blank::Attributes if line.starts_with("mod ") => Blank::Last,
            Blank::Attributes if line.starts_with(|c: char| c.is_ascii_alphabetic()) => Blank::Nothing,
            Blank::Body if line == "}" => Blank::Last,
            Blank::Last => Blank::Nothing,
            blank => blank,
        };
        let code = match line.find("//") {
            Some(at) if !line[..at].ends_with(':') => &line[..at],
            _ => line,
        };
        lines.push(if blank == Blank::Nothing { code } else { "" });
    }
    lines.join("\n")
}

/// What is blanked of a text: modules of tests, whether their bodies stand there or in a file of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blank {
    Nothing,
    /// From `#[cfg(test)]` to its item.
    Attributes,
    /// The body of a module.
    Body,
    /// One line more.
    Last,
}

fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.split('/').any(|part| part == "tests" || part == "testing.rs")
}

fn too_long(file: &str, text: &str) -> Vec<Breach> {
    let (lines, limit) = (text.lines().count(), LONGEST[usize::from(is_test(file))]);
    let rule = format!("{lines} lines: a file of more than {limit} does more than one thing");
    breach_if(lines > limit, file, lines, rule)
}

fn without_a_name(file: &str, text: &str) -> Vec<Breach> {
    let named = text.starts_with("//!") || is_test(file);
    breach_if(!named, file, 1, "the first line says what the module is, as `//!`".into())
}

fn without_a_reason(file: &str, text: &str) -> Vec<Breach> {
    let mut found = Vec::new();
    for kind in ["#![expect(", "#[expect(", "#![allow(", "#[allow("] {
        for (at, _) in text.match_indices(kind) {
            let attribute = &text[at..at + text[at..].find(")]").unwrap_or(0)];
            let rule = "a lint is only set aside with a `reason`".to_owned();
            found.extend(breach_if(!attribute.contains("reason"), file, line_of(text, at), rule));
        }
    }
    found
}

fn wrong_edges(file: &str, code: &str) -> Vec<Breach> {
    let station = station_of(file);
    let allowed = EDGES.iter().find(|(from, _)| *from == station).map(|(_, to)| *to);
    let Some(allowed) = allowed else {
        return breach_if(true, file, 1, format!("`{station}` is not a station of the house; see the list of edges"));
    };
    let wrong = imports(file, code).into_iter().filter(|(_, to)| to != station && !allowed.contains(&to.as_str()));
    let breach = |(line, to)| Breach {
        file: file.to_owned(),
        line,
        rule: format!("`{station}` must not know `{to}`: imports go strictly down, {station} -> {allowed:?}"),
    };
    wrong.map(breach).collect()
}

fn wrong_doors(file: &str, code: &str) -> Vec<Breach> {
    let mut found = Vec::new();
    for (text, places, why) in DOORS.iter().filter(|(_, places, _)| !places.iter().any(|place| file.starts_with(place)))
    {
        for (at, _) in code.match_indices(text) {
            let rule = format!("`{text}` belongs in {places:?} alone: {why}");
            found.extend(breach_if(true, file, line_of(code, at), rule));
        }
    }
    found
}

fn impure(file: &str, code: &str) -> Vec<Breach> {
    let mut found = Vec::new();
    for text in IMPURE.iter().filter(|_| is_pure(file)) {
        for (at, _) in code.match_indices(text) {
            let rule = format!("`{}` in a pure file: a simulation must be able to run it", text.trim());
            found.extend(breach_if(true, file, line_of(code, at), rule));
        }
    }
    found
}

/// As the map in `lib.rs` has it.
fn is_pure(file: &str) -> bool {
    let station = station_of(file);
    let inside = file.split_once('/').map(|(_, inside)| inside);
    match station {
        "hash" | "seal" | "archive" => true,
        "dht" | "peer" | "fetch" => inside.is_some_and(|inside| inside != "mod.rs" && !inside.starts_with("io")),
        _ => false,
    }
}

fn station_of(file: &str) -> &str {
    file.split('/').next().map_or(file, |first| first.trim_end_matches(".rs"))
}

/// The stations that a text names, with the lines where it does.
fn imports(file: &str, code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for root in ["crate::", "apt_huddle::"] {
        for (at, _) in code.match_indices(root) {
            let names = heads(&code[at + root.len()..]);
            found.extend(names.into_iter().map(|name| (line_of(code, at), name)));
        }
    }
    // As many `super`s as the file is deep lead to the crate's root as well.
    let depth = file.trim_end_matches("/mod.rs").split('/').count();
    for (at, climb) in code.match_indices(&"super::".repeat(depth)) {
        let names = heads(&code[at + climb.len()..]).into_iter();
        found.extend(names.filter(|name| EVERY_STATION.contains(&name.as_str())).map(|name| (line_of(code, at), name)));
    }
    found
}

/// The first names of what follows a `path::`: one name, or those of a group in braces.
fn heads(rest: &str) -> Vec<String> {
    let name = |text: &str| {
        let text = text.trim_start();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        text[..end].to_owned()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            '}' => depth -= 1,
            _ => {}
        }
        if c == '}' && start == at + 1 && depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn breach_if(broken: bool, file: &str, line: usize, rule: String) -> Vec<Breach> {
    if broken { vec![Breach { file: file.to_owned(), line, rule }] } else { Vec::new() }
}

/// The lines on which a snippet breaks a rule that has this word in its message.
#[cfg(test)]
fn caught(file: &str, text: &str, word: &str) -> Vec<usize> {
    let breaches = breaches_of(file, text).into_iter();
    breaches.filter(|breach| breach.to_string().contains(word)).map(|breach| breach.line).collect()
}

#[test]
fn an_edge_upwards_is_caught_in_every_spelling() {
    let bad = [
        "//! a\nuse crate::store::Store;\n",
        "//! a\nuse crate::{\n    hash::{ContentHash, Expected},\n    store::Store,\n};\n",
        "//! a\nfn f() { crate::store::open() }\n",
        "//! a\nuse super::super::store::Store;\n",
    ];
    for text in bad {
        assert_eq!(caught("dht/node.rs", text, "must not know `store`").len(), 1, "{text}");
        assert!(caught("upload/mod.rs", text, "must not know `store`").is_empty(), "{text}");
    }
    let good =
        "//! a\nuse crate::{archive::{Shareable, store}, hash};\n// use crate::store;\nuse super::super::id::Id;\n";
    assert!(caught("dht/node/walk.rs", good, "must not know").is_empty());
    assert_eq!(caught("cellar/mod.rs", "//! a\n", "not a station"), [1]);
}

#[test]
fn what_stands_outside_of_its_door_is_caught_but_not_in_tests() {
    for (text, places, _) in DOORS {
        let snippet = format!("//! a\n\nuse {text}x;\n");
        assert_eq!(caught("flow/mod.rs", &snippet, "belongs in"), [3], "{text}");
        let file_of_its_own = format!("//! a\n#[cfg(test)]\nmod tests;\nuse {text}x;\n");
        assert_eq!(caught("flow/mod.rs", &file_of_its_own, "belongs in"), [4], "{text}");
        let inside =
            places.iter().map(|place| if place.ends_with('/') { format!("{place}x.rs") } else { (*place).into() });
        inside.for_each(|file| assert!(caught(&file, &snippet, "belongs in").is_empty(), "{file}: {text}"));
        assert!(caught("flow/tests.rs", &snippet, "belongs in").is_empty());
        let attributes = ["", "#[expect(\n    dead_code,\n    reason = \"a test's\"\n)]\n"];
        for attributes in attributes {
            let tested = format!("//! a\n#[cfg(test)]\n{attributes}mod tests {{\n    use {text}x;\n}}\n");
            assert!(caught("flow/mod.rs", &tested, "belongs in").is_empty());
            let after = format!("{tested}use {text}x;\n");
            assert_eq!(caught("flow/mod.rs", &after, "belongs in"), [after.lines().count()], "{text}");
        }
    }
}

#[test]
fn what_follows_a_test_module_that_has_a_file_of_its_own_is_looked_at() {
    let text = "//! a\n#[cfg(test)]\nmod tests;\nuse crate::dht::Dht;\n";
    assert_eq!(caught("fetch/mod.rs", text, "must not know `dht`"), [4]);
    let two = "//! a\n#[cfg(test)]\nmod testing;\n#[cfg(test)]\nmod tests;\nmod trust;\nuse crate::dht::Dht;\n";
    assert_eq!(caught("archive/mod.rs", two, "must not know `dht`"), [7]);
    let helper = "//! a\n#[cfg(test)]\nfn f() {\n    crate::dht::open();\n}\n";
    assert_eq!(caught("fetch/mod.rs", helper, "must not know `dht`"), [4], "a helper among the code is code");
}

#[test]
fn a_clock_a_lock_and_a_task_are_caught_in_pure_files_alone() {
    for text in IMPURE {
        let snippet = format!("//! a\nfn f() {{ {text}x }}\n");
        for file in ["archive/release.rs", "hash.rs", "dht/node.rs", "peer/wire.rs", "fetch/plan.rs"] {
            assert!(!caught(file, &snippet, "pure").is_empty(), "{file}: {text}");
        }
        for file in ["dht/mod.rs", "fetch/io.rs", "store/mod.rs", "proxy/wire.rs"] {
            assert!(caught(file, &snippet, "pure").is_empty(), "{file}: {text}");
        }
        let tested = format!("//! a\n#[cfg(test)]\nmod tests {{\n    fn f() {{ {text}x }}\n}}\n");
        assert!(caught("dht/node.rs", &tested, "pure").is_empty(), "{text}");
    }
    let grouped = "//! a\nuse std::{fs, net::{IpAddr, TcpStream}};\nfn f() { fs::read(\"a\") }\n";
    assert_eq!(caught("archive/release.rs", grouped, "pure"), [3, 2]);
}

#[test]
fn long_nameless_and_unexplained_things_are_caught() {
    let long = format!("//! a\n{}", "\n".repeat(LONGEST[0]));
    assert_eq!(caught("store/mod.rs", &long, "lines"), [LONGEST[0] + 1]);
    assert!(caught("store/tests.rs", &long, "lines").is_empty());
    assert_eq!(caught("store/mod.rs", "use std::fs;\n", "//!"), [1]);
    let silent = "//! a\n#![expect(clippy::disallowed_methods)]\n#[allow(dead_code)]\nfn f() {}\n";
    assert_eq!(caught("store/mod.rs", silent, "reason"), [2, 3]);
    let told = "//! a\n#![expect(\n    clippy::disallowed_methods,\n    reason = \"a door (to the disk)\"\n)]\n";
    assert!(caught("store/mod.rs", told, "reason").is_empty());
}
