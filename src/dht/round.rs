//! A round: files of ours that are announced together, stretch of the key space by stretch, without socket or clock.
//!
//! ```text
//!  keys, sorted   k1 k2 k3 | k4 k5 | k6 ..
//!  of each stretch: known? --no--> Walk --> its nodes: token known? --no--> AskToken --> Tell, up to 40 keys at a time
//!                   too few answered, and they were known from before: Walk
//! ```
//!
//! Who does not answer is asked for a token once more: the datagram may be lost, or the token be too old.

use std::{net::SocketAddr, ops::Range};

use super::{
    contact::Contact,
    id::{Distance, Id},
    message::{MAX_HELD, is_kept, write_held},
    neighbourhood::{Known, Neighbourhood, Neighbourhoods},
};

/// Most bytes of keys and claims in one datagram: it has room for the rest.
const MAX_HELD_LEN: usize = 1100;

/// Files, and how far it is with them.
#[derive(Debug)]
pub struct Round {
    files: Vec<File>,
    /// Those of the stretch that is told now, or was last.
    at: Range<usize>,
    phase: Phase,
}

#[derive(Debug)]
struct File {
    /// Its place in the order of who asked.
    nth: usize,
    key: Id,
    claim: Option<Vec<u8>>,
    stored: usize,
}

#[derive(Debug)]
enum Phase {
    Between,
    Walking,
    Telling { neighbourhood: Neighbourhood, is_fresh: bool, tellings: Vec<Telling> },
}

/// What one node is told.
#[derive(Debug)]
struct Telling {
    node: Known,
    /// The first file that it was not told of, and that after the last one which is under way.
    next: usize,
    sent: usize,
    has_failed: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Asked,
    Told,
    Failed,
}

/// What a round wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The nodes around a key, see [`Round::handle_walk_end`].
    Walk(Id),
    /// A token of this node.
    AskToken(Contact),
    /// This node is to be told.
    Tell {
        /// Whom.
        to: Contact,
        /// What shows that it may be.
        token: Vec<u8>,
        /// What [`super::message::Held`] reads.
        held: Vec<u8>,
    },
    /// Wait for answers.
    Wait,
    /// It is over.
    Done,
}

impl Round {
    /// Begins with files by their keys, each with its claim.
    pub fn new(files: impl IntoIterator<Item = (Id, Option<Vec<u8>>)>) -> Self {
        let files = files.into_iter().enumerate();
        let mut files: Vec<_> = files.map(|(nth, (key, claim))| File { nth, key, claim, stored: 0 }).collect();
        files.sort_by_key(|file| file.key);
        Self { files, at: 0..0, phase: Phase::Between }
    }

    /// How many nodes keep each file, in the order that they were given in.
    pub fn stored(&self) -> Vec<usize> {
        let mut stored = vec![0; self.files.len()];
        self.files.iter().for_each(|file| stored[file.nth] = file.stored);
        stored
    }

    /// What to do; to be called again until it says to wait, and after each `handle_`. Near any key some nodes are to be
    /// expected within `reach`.
    pub fn next(&mut self, known: &mut Neighbourhoods, reach: Option<Distance>) -> Step {
        loop {
            match &mut self.phase {
                Phase::Between => {
                    let Some(file) = self.files.get(self.at.end) else { return Step::Done };
                    let key = file.key;
                    self.at = self.at.end..self.at.end;
                    match known.take(&key, reach) {
                        Some(neighbourhood) => self.tell(neighbourhood, false),
                        None => {
                            self.phase = Phase::Walking;
                            return Step::Walk(key);
                        }
                    }
                }
                Phase::Walking => return Step::Wait,
                Phase::Telling { tellings, .. } => {
                    if let Some(telling) = tellings.iter_mut().find(|telling| telling.state == State::Idle) {
                        return telling.step(&self.files, self.at.end);
                    }
                    if tellings.iter().any(|telling| telling.state == State::Asked) {
                        return Step::Wait;
                    }
                    if let Some(key) = self.end_stretch(known) {
                        return Step::Walk(key);
                    }
                }
            }
        }
    }

    /// The walk ended, with the nodes nearest to its key by [`super::contact::Family::index`].
    pub fn handle_walk_end(&mut self, nearest: [Vec<Contact>; 2]) {
        if let (Phase::Walking, Some(file)) = (&self.phase, self.files.get(self.at.start)) {
            let found = Neighbourhood::found(&file.key, nearest);
            self.tell(found, true);
        }
    }

    /// A node answered: its token, and which of the files it keeps.
    pub fn handle_reply(&mut self, from: &SocketAddr, token: Option<&[u8]>, kept: &[u8]) {
        let end = self.at.end;
        let Phase::Telling { tellings, .. } = &mut self.phase else { return };
        let Some(telling) = asked(tellings, from) else { return };
        let told = telling.next..telling.sent;
        telling.node.token = token.map(<[u8]>::to_vec);
        telling.state = match (told.is_empty(), token) {
            (true, None) => State::Failed,
            (false, _) if told.end == end => State::Told,
            _ => State::Idle,
        };
        telling.next = told.end;
        for (nth, file) in self.files[told].iter_mut().enumerate() {
            file.stored += usize::from(is_kept(kept, nth));
        }
    }

    /// A node did not answer, or refused.
    pub fn handle_failure(&mut self, from: &SocketAddr) {
        let Phase::Telling { tellings, .. } = &mut self.phase else { return };
        let Some(telling) = asked(tellings, from) else { return };
        telling.state = if telling.has_failed { State::Failed } else { State::Idle };
        telling.has_failed = true;
        telling.node.token = None;
    }

    /// Begins to tell the nodes of a stretch of all files in it.
    fn tell(&mut self, neighbourhood: Neighbourhood, is_fresh: bool) {
        let start = self.at.start;
        let rest = self.files[start..].iter_mut();
        let within = rest.take_while(|file| neighbourhood.covers(&file.key));
        let count = within.map(|file| file.stored = 0).count();
        // The one that was walked to lies in it, whatever the walk has found.
        self.at = start..start + count.max(1);
        let telling = |node: &Known| Telling {
            node: node.clone(),
            next: start,
            sent: start,
            has_failed: false,
            state: State::Idle,
        };
        let tellings = neighbourhood.nodes().iter().map(telling).collect();
        self.phase = Phase::Telling { neighbourhood, is_fresh, tellings };
    }

    /// Remembers who answered; gives a key to walk to when they were too few.
    fn end_stretch(&mut self, known: &mut Neighbourhoods) -> Option<Id> {
        let Phase::Telling { neighbourhood, is_fresh, tellings } = std::mem::replace(&mut self.phase, Phase::Between)
        else {
            return None;
        };
        let answered = tellings.into_iter().filter(|telling| telling.state == State::Told);
        match neighbourhood.answered_by(answered.map(|telling| telling.node).collect()) {
            Some(neighbourhood) => known.put(neighbourhood),
            None if is_fresh => {}
            None => {
                self.at = self.at.start..self.at.start;
                self.phase = Phase::Walking;
                return Some(self.files[self.at.start].key);
            }
        }
        None
    }
}

impl Telling {
    fn step(&mut self, files: &[File], end: usize) -> Step {
        self.state = State::Asked;
        let to = self.node.contact;
        let Some(token) = self.node.token.clone() else {
            self.sent = self.next;
            return Step::AskToken(to);
        };
        let mut held = Vec::new();
        self.sent = self.next;
        for file in files[self.next..end].iter().take(MAX_HELD) {
            let before = held.len();
            write_held(&mut held, &file.key, file.claim.as_deref());
            if held.len() > MAX_HELD_LEN {
                held.truncate(before);
                break;
            }
            self.sent += 1;
        }
        Step::Tell { to, token, held }
    }
}

fn asked<'a>(tellings: &'a mut [Telling], addr: &SocketAddr) -> Option<&'a mut Telling> {
    tellings.iter_mut().find(|telling| telling.state == State::Asked && telling.node.contact.addr == *addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::message::Held;

    fn id(first: u8, second: u8) -> Id {
        let mut id = [0; 20];
        (id[0], id[1]) = (first, second);
        Id::new(id)
    }

    /// Eight nodes, seven of them so near to each other that they are the nearest to all keys which begin so.
    fn around(first: u8) -> Vec<Contact> {
        let ids = (0..7).map(|n| id(first, n)).chain([id(first ^ 1, 0)]);
        ids.map(|id| Contact { id, addr: ([20, first, id.as_bytes()[1], 1 + id.as_bytes()[0]], 1000).into() }).collect()
    }

    /// Lets nodes answer, but for the dead, until it is over; gives the walks, the questions for tokens and the tellings.
    fn run(round: &mut Round, known: &mut Neighbourhoods, dead: &[Contact]) -> [usize; 3] {
        let mut counts = [0; 3];
        loop {
            match round.next(known, None) {
                Step::Walk(key) => {
                    counts[0] += 1;
                    let mut nearest = around(key.as_bytes()[0]);
                    nearest.retain(|contact| !dead.contains(contact));
                    round.handle_walk_end([nearest, Vec::new()]);
                }
                Step::AskToken(to) | Step::Tell { to, .. } if dead.contains(&to) => round.handle_failure(&to.addr),
                Step::AskToken(to) => {
                    counts[1] += 1;
                    round.handle_reply(&to.addr, Some(b"token"), &[]);
                }
                Step::Tell { to, held, .. } => {
                    counts[2] += 1;
                    assert!(held.len() <= MAX_HELD_LEN && Held(&held).count() <= MAX_HELD);
                    round.handle_reply(&to.addr, Some(b"fresh"), &[0xff; 5]);
                }
                Step::Wait => panic!("nobody is left unanswered"),
                Step::Done => return counts,
            }
        }
    }

    #[test]
    fn keys_near_each_other_share_a_walk_and_later_rounds_go_straight_to_who_was_told() {
        let mut known = Neighbourhoods::default();
        let files = || (0..100).map(|n| (id([9, 40][n % 2], n as u8), (n % 4 == 0).then(|| vec![1; 60])));
        let mut round = Round::new(files());
        let [walks, tokens, tellings] = run(&mut round, &mut known, &[]);
        assert_eq!((walks, tokens), (2, 16));
        assert!((32..=64).contains(&tellings), "{tellings} datagrams to 16 nodes");
        assert_eq!(round.stored(), [8; 100]);
        let mut again = Round::new(files());
        assert_eq!(run(&mut again, &mut known, &[]), [0, 0, tellings]);
        assert_eq!(again.stored(), [8; 100]);
    }

    #[test]
    fn a_walk_is_made_anew_only_when_too_few_answer() {
        let mut known = Neighbourhoods::default();
        let files = || [(id(9, 1), None)];
        run(&mut Round::new(files()), &mut known, &[]);
        let mut round = Round::new(files());
        assert_eq!(run(&mut round, &mut known, &around(9)[..3]), [0, 0, 5]);
        assert_eq!(round.stored(), [5]);
        let mut round = Round::new(files());
        assert_eq!(run(&mut round, &mut known, &around(9)[..4])[0], 1);
        assert_eq!(round.stored(), [4]);
    }

    #[test]
    fn where_nobody_is_nothing_is_stored_and_it_ends() {
        let mut round = Round::new((0..5).map(|n| (id(9, n), None)));
        assert_eq!(run(&mut round, &mut Neighbourhoods::default(), &around(9)), [1, 0, 0]);
        assert_eq!(round.stored(), [0; 5]);
    }
}
