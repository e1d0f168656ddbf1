//! A census of a network, as a machine: whom to ask next, and what they all said.
//!
//! Each node is asked whether it is there, then for the nodes near its own id and in other parts of the network, until
//! nobody names a node that is not known yet.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
};

use serde::Serialize;

use crate::{
    cli::text::Text,
    dht::{Answered, Contact, Id, Probe},
};

use super::told::{Told, version};

/// Most nodes that are asked.
const MAX_NODES: usize = 50_000;

/// First bytes of an id that are changed to ask about another part of the network.
const PARTS: [u8; 4] = [0, 0x80, 0x40, 0x20];

/// The census while it is taken.
#[derive(Debug, Default)]
pub struct Census {
    nodes: HashMap<SocketAddr, Option<Answered>>,
    questions: VecDeque<Probe>,
}

impl Census {
    /// Nodes that somebody named.
    pub fn handle_named(&mut self, named: impl IntoIterator<Item = Contact>) {
        for contact in named {
            if self.nodes.len() < MAX_NODES && !self.nodes.contains_key(&contact.addr) {
                self.nodes.insert(contact.addr, None);
                self.questions.push_back(Probe::Ping(contact.addr));
            }
        }
    }

    /// A node is there.
    pub fn handle_answer(&mut self, answered: Answered) {
        let addr = answered.contact.addr;
        let is_news = matches!(self.nodes.get(&addr), Some(None));
        if is_news {
            let own = *answered.contact.id.as_bytes();
            self.nodes.insert(addr, Some(answered));
            for part in PARTS {
                let mut target = own;
                target[0] ^= part;
                self.questions.push_back(Probe::Ask(addr, Id::new(target)));
            }
        }
    }

    /// The next question; none for now.
    pub fn next(&mut self) -> Option<Probe> {
        self.questions.pop_front()
    }

    /// What came of it.
    pub fn count(&self) -> Count {
        let answered: Vec<&Answered> = self.nodes.values().flatten().collect();
        let mut programs = BTreeMap::new();
        for node in &answered {
            let program = node.version.as_deref().map_or_else(|| "-".to_owned(), version);
            *programs.entry(program).or_default() += 1;
        }
        let open = |wanted| answered.iter().filter(|node| node.about.is_open == wanted).count();
        let mut up: Vec<u32> = answered.iter().filter_map(|node| node.about.up_minutes).collect();
        up.sort_unstable();
        let part = |percent: usize| up.get((up.len() * percent / 100).min(up.len().saturating_sub(1))).copied();
        Count {
            named: self.nodes.len(),
            answered: answered.len(),
            programs,
            open: open(Some(true)),
            closed: open(Some(false)),
            untested: open(None),
            up_minutes_p10: part(10),
            up_minutes_p50: part(50),
            up_minutes_p90: part(90),
        }
    }
}

/// The outcome.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Nodes that were named.
    pub named: usize,
    /// Those of them that answered.
    pub answered: usize,
    /// These by the program they run.
    pub programs: BTreeMap<String, usize>,
    /// Nodes to whose port others can connect, as they say.
    pub open: usize,
    /// Nodes to whose port nobody can.
    pub closed: usize,
    /// Nodes that do not know, or serve nothing.
    pub untested: usize,
    /// A tenth of the nodes are up for less, in minutes.
    pub up_minutes_p10: Option<u32>,
    /// Half of them.
    pub up_minutes_p50: Option<u32>,
    /// Nine of ten.
    pub up_minutes_p90: Option<u32>,
}

impl Told for Count {
    fn render(&self) -> String {
        let mut text = Text::default();
        text.line("Nodes of the network");
        text.item("named", [self.named.to_string().as_str()]);
        text.item("answered", [self.answered.to_string().as_str()]);
        for (program, count) in &self.programs {
            text.item("program", [format!("{program}: {count}").as_str()]);
        }
        text.item("port open", [self.open.to_string().as_str()]);
        text.item("port closed", [self.closed.to_string().as_str()]);
        text.item("not tested", [self.untested.to_string().as_str()]);
        if let (Some(p10), Some(p50), Some(p90)) = (self.up_minutes_p10, self.up_minutes_p50, self.up_minutes_p90) {
            text.item("up", [format!("{p50} min for half of them; {p10} min, {p90} min for a tenth").as_str()]);
        }
        text.into_string()
    }

    fn is_good(&self) -> bool {
        self.answered > 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::dht::About;

    use super::*;

    fn contact(n: u8) -> Contact {
        Contact { id: Id::new([n; 20]), addr: ([5, 6, 7, n], 1).into() }
    }

    fn answered(n: u8, about: About) -> Answered {
        let version = Some(b"AH\x00\x01".to_vec());
        Answered { contact: contact(n), rtt: Duration::ZERO, version, about, seen_from: None }
    }

    #[test]
    fn everybody_who_is_named_is_asked_once_and_counted() {
        let mut census = Census::default();
        census.handle_named([contact(1), contact(2), contact(1)]);
        let mut asked = 0;
        while let Some(probe) = census.next() {
            asked += 1;
            match probe {
                Probe::Ping(to) if to == contact(3).addr => {}
                Probe::Ping(to) => {
                    let n = if to == contact(1).addr { 1 } else { 2 };
                    let about = About { up_minutes: Some(u32::from(n) * 10), is_open: (n == 1).then_some(true) };
                    census.handle_answer(answered(n, about));
                    census.handle_answer(answered(n, about));
                }
                Probe::Ask(..) => census.handle_named([contact(1), contact(3)]),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(asked, 3 + 2 * PARTS.len());
        census.handle_answer(answered(9, About::default()));
        let count = census.count();
        assert_eq!((count.named, count.answered, count.open, count.closed, count.untested), (3, 2, 1, 0, 1));
        assert_eq!((count.up_minutes_p10, count.up_minutes_p90), (Some(10), Some(20)));
        assert_eq!(count.programs, BTreeMap::from([("AH 0.1".to_owned(), 2)]));
        assert!(count.render().contains("AH 0.1: 2"));
    }

    #[test]
    fn a_census_of_invented_nodes_ends() {
        let mut census = Census::default();
        for n in 0..60_000_u32 {
            census.handle_named([Contact { id: Id::new([1; 20]), addr: (n.to_be_bytes(), 1).into() }]);
        }
        assert_eq!(census.questions.len(), MAX_NODES);
    }
}
