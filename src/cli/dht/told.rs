//! What the tools tell: as JSON, or as lines for people.

use std::net::SocketAddr;

use serde::Serialize;

use crate::{
    cli::text::{Text, clean},
    dht::{Answered, Heard, Id},
};

/// Something to be told.
pub trait Told {
    /// As lines.
    fn render(&self) -> String;

    /// Whether it came to something.
    fn is_good(&self) -> bool;
}

/// Where a node listens.
#[derive(Debug, Serialize)]
pub struct Listening {
    /// Its addresses.
    pub listen: Vec<SocketAddr>,
}

impl Told for Listening {
    fn render(&self) -> String {
        self.listen.iter().map(|at| format!("listening at {at}, UDP\n")).collect()
    }

    fn is_good(&self) -> bool {
        true
    }
}

/// A node that was asked whether it is there.
#[derive(Debug, Serialize)]
pub struct Ping {
    /// Where it was asked.
    pub addr: SocketAddr,
    /// What it said; none when nothing.
    pub answer: Option<Node>,
}

/// A node that answered.
#[derive(Debug, Serialize)]
pub struct Node {
    /// Its ID.
    pub id: String,
    /// Where it is.
    pub addr: SocketAddr,
    /// Round trip in milliseconds.
    pub rtt_ms: f64,
    /// The program it runs, as it says: two letters and the numbers of the version.
    pub version: Option<String>,
    /// Whole minutes since it began, where nodes tell.
    pub up_minutes: Option<u32>,
    /// Whether others can connect to its port, where nodes tell.
    pub open: Option<bool>,
    /// Where it saw this host.
    pub seen_from: Option<SocketAddr>,
}

impl Node {
    /// From an answer.
    pub fn of(answered: &Answered) -> Self {
        Self {
            id: answered.contact.id.to_string(),
            addr: answered.contact.addr,
            rtt_ms: (answered.rtt.as_secs_f64() * 1e5).round() / 1e2,
            version: answered.version.as_deref().map(version),
            up_minutes: answered.about.up_minutes,
            open: answered.about.is_open,
            seen_from: answered.seen_from,
        }
    }

    fn line(&self) -> String {
        let version = self.version.as_deref().unwrap_or("-");
        format!("{}  {}  {:.1} ms  {version}", self.id, self.addr, self.rtt_ms)
    }
}

/// `LT 2.0.8.0` of `LT\x02\x00` and the like.
pub fn version(v: &[u8]) -> String {
    let (name, numbers) = v.split_at(v.len().min(2));
    let name = clean(&String::from_utf8_lossy(name));
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    format!("{name} {}", numbers.join(".")).trim_end().to_owned()
}

impl Ping {
    /// From an answer, or none.
    pub fn of(addr: SocketAddr, answered: Option<&Answered>) -> Self {
        Self { addr, answer: answered.map(Node::of) }
    }
}

impl Told for Ping {
    fn render(&self) -> String {
        let mut text = Text::default();
        text.line(&self.addr.to_string());
        match &self.answer {
            None => text.item("answer", ["none: no node, or one of another network"]),
            Some(node) => {
                text.item("id", [node.id.as_str()]);
                text.item("round trip", [format!("{:.1} ms", node.rtt_ms).as_str()]);
                text.item("program", [node.version.as_deref().unwrap_or("-")]);
                if let Some(minutes) = node.up_minutes {
                    text.item("up", [format!("{minutes} min").as_str()]);
                }
                if let Some(open) = node.open {
                    text.item("its port", [if open { "open" } else { "closed" }]);
                }
                if let Some(seen) = node.seen_from {
                    text.item("sees us at", [seen.to_string().as_str()]);
                }
            }
        }
        text.into_string()
    }

    fn is_good(&self) -> bool {
        self.answer.is_some()
    }
}

/// The nodes nearest to an ID.
#[derive(Debug, Serialize)]
pub struct Near {
    /// Nearest first.
    pub nodes: Vec<Node>,
    /// Nodes that answered on the way.
    pub asked: usize,
}

impl Near {
    /// From all that was heard.
    pub fn of(id: &Id, heard: Vec<Heard>, shown: usize) -> Self {
        let mut nodes: Vec<Answered> = heard.into_iter().filter_map(answered).collect();
        nodes.sort_by_key(|node| node.contact.id.distance(id));
        nodes.dedup_by_key(|node| node.contact.id);
        Self { asked: nodes.len(), nodes: nodes.iter().take(shown).map(Node::of).collect() }
    }
}

impl Told for Near {
    fn render(&self) -> String {
        let lines = self.nodes.iter().map(|node| node.line() + "\n").collect::<String>();
        format!("{lines}{} answered\n", self.asked)
    }

    fn is_good(&self) -> bool {
        !self.nodes.is_empty()
    }
}

/// Who is announced.
#[derive(Debug, Serialize)]
pub struct Peers {
    /// Each once.
    pub peers: Vec<SocketAddr>,
    /// Nodes that answered on the way.
    pub asked: usize,
}

impl Peers {
    /// From all that was heard.
    pub fn of(heard: Vec<Heard>) -> Self {
        let asked = heard.iter().filter(|heard| matches!(heard, Heard::Node(_))).count();
        let peer = |heard| if let Heard::Peer(peer) = heard { Some(peer) } else { None };
        Self { peers: heard.into_iter().filter_map(peer).collect(), asked }
    }
}

impl Told for Peers {
    fn render(&self) -> String {
        let lines = self.peers.iter().map(|peer| format!("{peer}\n")).collect::<String>();
        format!("{lines}{} peers, {} nodes answered\n", self.peers.len(), self.asked)
    }

    fn is_good(&self) -> bool {
        !self.peers.is_empty()
    }
}

/// How many stored it.
#[derive(Debug, Serialize)]
pub struct Stored {
    /// Nodes that did.
    pub stored: usize,
}

impl Told for Stored {
    fn render(&self) -> String {
        format!("{} nodes stored it\n", self.stored)
    }

    fn is_good(&self) -> bool {
        self.stored > 0
    }
}

/// An item that was put.
#[derive(Debug, Serialize)]
pub struct Put {
    /// Where it is found.
    pub target: String,
    /// Its number, when it is a mutable one.
    pub seq: Option<i64>,
    /// Nodes that keep it.
    pub stored: usize,
}

impl Told for Put {
    fn render(&self) -> String {
        let seq = self.seq.map_or(String::new(), |seq| format!(", as number {seq}"));
        format!("{}\n{} nodes stored it{seq}\n", self.target, self.stored)
    }

    fn is_good(&self) -> bool {
        self.stored > 0
    }
}

/// An item that was looked for.
#[derive(Debug, Serialize)]
pub struct Item {
    /// Its bencoded value in hexadecimal digits; none when it was not found.
    pub value: Option<String>,
    /// The same, when it is a text.
    pub text: Option<String>,
    /// Its number, when it is a mutable one.
    pub seq: Option<i64>,
}

impl Item {
    /// The last one heard has the highest number.
    pub fn of(heard: Vec<Heard>) -> Self {
        let found = heard.into_iter().rev().find_map(|heard| match heard {
            Heard::Item { value, seq } => Some((value, seq)),
            _ => None,
        });
        let (value, seq) = found.map_or((None, None), |(value, seq)| (Some(value), seq));
        let text = value.as_deref().and_then(|value| {
            let colon = value.iter().position(|byte| *byte == b':').filter(|_| value[0].is_ascii_digit())?;
            String::from_utf8(value[colon + 1..].to_vec()).ok()
        });
        let hex = |value: Vec<u8>| value.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { value: value.map(hex), text, seq }
    }
}

impl Told for Item {
    fn render(&self) -> String {
        let Some(value) = &self.value else { return "not found\n".to_owned() };
        let seq = self.seq.map_or_else(String::new, |seq| format!("number {seq}\n"));
        // Terminals obey some texts.
        format!("{seq}{}\n", self.text.as_deref().map_or_else(|| value.clone(), clean))
    }

    fn is_good(&self) -> bool {
        self.value.is_some()
    }
}

/// The node of an answer.
pub fn answered(heard: Heard) -> Option<Answered> {
    if let Heard::Node(answered) = heard { Some(answered) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_shown_as_text_when_it_is_one_and_obeys_no_terminal() {
        let item = |value: &[u8], seq| Item::of(vec![Heard::Item { value: value.to_vec(), seq }]);
        assert_eq!(item(b"5:hello", None).render(), "hello\n");
        assert_eq!(item(b"2:\x1b[", Some(3)).render(), "number 3\n\u{fffd}[\n");
        assert_eq!(item(b"i1e", None).render(), "693165\n");
        assert_eq!(item(b"1:\xff", None).render(), "313aff\n");
        assert_eq!((Item::of(vec![]).render().as_str(), Item::of(vec![]).is_good()), ("not found\n", false));
    }

    #[test]
    fn programs_are_named_as_they_say() {
        assert_eq!(version(b"LT\x01\x02"), "LT 1.2");
        assert_eq!(version(b"\x1b"), "\u{fffd}");
        assert_eq!(version(b""), "");
    }
}
