//! Whether others can connect to this host's public port: what those say who tried.
//!
//! ```text
//!  asker                                   asked
//!  dial_back {id, port}             ->     token                 shows that the address is the asker's own
//!  dial_back {id, port, token}      ->     connects over TCP to the address that asks, nowhere else
//!                                   <-     {id, dial: 0 open | 1 refused | 2 silent | 3 unroutable | 4 foreign}
//! ```
//!
//! A port that one node finds open may be announced; it takes as many who say otherwise, and one more, to call it
//! closed. Each neighbourhood of addresses has one voice, the last. A network of two can do it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::contact::Subnet;

/// Nodes that are asked at one try.
pub const ASKED: usize = 3;

/// Time between tries of an open port.
const OPEN_AGAIN: Duration = Duration::from_secs(30 * 60);

/// Time between tries of a closed one.
const CLOSED_AGAIN: Duration = Duration::from_secs(5 * 60);

/// Wait for a second try when nobody said anything; it doubles up to [`CLOSED_AGAIN`].
const FIRST_AGAIN: Duration = Duration::from_secs(2);

/// How long a verdict counts.
const VOICE: Duration = Duration::from_secs(45 * 60);

/// Most verdicts that are kept.
const MAX_VOICES: usize = 8;

/// What somebody found who tried to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dial {
    /// It answers as this program does.
    Open,
    /// The host says that nobody listens there.
    Refused,
    /// No answer: a router or a firewall drops what comes.
    Silent,
    /// There is no way to the address.
    Unroutable,
    /// Something else answers there.
    Foreign,
}

impl Dial {
    /// The number on the wire.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// Reads the number.
    pub fn read(code: i64) -> Option<Self> {
        [Self::Open, Self::Refused, Self::Silent, Self::Unroutable, Self::Foreign]
            .into_iter()
            .find(|dial| dial.code() == code)
    }
}

/// What is known of the public port over one family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reachability {
    /// Nobody has tried yet.
    #[default]
    Untested,
    /// Others can connect.
    Open,
    /// They cannot; this is what they find.
    Closed(Dial),
}

impl Reachability {
    /// Whether there is nothing that somebody could do about it.
    pub fn is_fine(self) -> bool {
        !matches!(self, Self::Closed(_))
    }
}

impl fmt::Display for Reachability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untested => "not tried by anybody yet",
            Self::Open | Self::Closed(Dial::Open) => "others can connect",
            Self::Closed(Dial::Refused) => {
                "others cannot connect: the connection is refused. The router forwards the port to another host, or a \
                 firewall rejects it"
            }
            Self::Closed(Dial::Silent) => {
                "others cannot connect: nothing answers. Forward the port, TCP and UDP, in the router, and open it in the \
                 firewall"
            }
            Self::Closed(Dial::Unroutable) => "others cannot connect: there is no route to this host's address",
            Self::Closed(Dial::Foreign) => {
                "others reach another program at this address. Forward the port, TCP and UDP, to this host"
            }
        })
    }
}

/// The question, asked again and again.
#[derive(Debug)]
pub struct Reach {
    voices: Vec<(Subnet, Dial, Duration)>,
    state: Reachability,
    next: Duration,
    wait: Duration,
}

impl Reach {
    /// Nobody has tried yet; somebody is to be asked at once.
    pub fn new(now: Duration) -> Self {
        Self { voices: Vec::new(), state: Reachability::Untested, next: now, wait: FIRST_AGAIN }
    }

    /// What is known.
    pub fn state(&self) -> Reachability {
        self.state
    }

    /// When [`ASKED`] nodes are to be asked.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// They are being asked.
    pub fn handle_asked(&mut self, now: Duration) {
        self.next = now
            + match self.state {
                Reachability::Open => OPEN_AGAIN,
                Reachability::Closed(_) => CLOSED_AGAIN,
                Reachability::Untested => self.wait,
            };
        if self.state == Reachability::Untested {
            self.wait = (self.wait * 2).min(CLOSED_AGAIN);
        }
    }

    /// The own address is another one, or there is somebody to ask at last: what was said is no more.
    pub fn handle_change(&mut self, now: Duration) {
        *self = Self { state: self.state, ..Self::new(now) };
    }

    /// A node has tried. Says whether that changes what is known.
    pub fn handle_voice(&mut self, from: Subnet, dial: Dial, now: Duration) -> bool {
        self.voices.retain(|(subnet, _, at)| *subnet != from && now.saturating_sub(*at) < VOICE);
        if self.voices.len() >= MAX_VOICES {
            self.voices.remove(0);
        }
        self.voices.push((from, dial, now));
        let open = self.voices.iter().filter(|(_, dial, _)| *dial == Dial::Open).count();
        let before = self.state;
        self.state = if open > 0 && 2 * open >= self.voices.len() {
            Reachability::Open
        } else {
            let count = |dial: Dial| self.voices.iter().filter(|(_, other, _)| *other == dial).count();
            let closed = self.voices.iter().map(|(_, dial, _)| *dial).filter(|dial| *dial != Dial::Open);
            let reason = closed.max_by_key(|dial| count(*dial)).expect("fewer are open than there are");
            Reachability::Closed(reason)
        };
        if before != self.state {
            self.wait = FIRST_AGAIN;
            self.next = now + if self.state == Reachability::Open { OPEN_AGAIN } else { CLOSED_AGAIN };
        }
        before != self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(n: u8) -> Subnet {
        Subnet::of([5, 6, n, 1].into())
    }

    const AT: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn one_who_connects_is_enough_and_more_who_cannot_outvote_it() {
        let mut reach = Reach::new(AT(0));
        assert_eq!((reach.state(), reach.next()), (Reachability::Untested, AT(0)));
        assert!(reach.handle_voice(subnet(1), Dial::Open, AT(1)));
        assert_eq!(reach.state(), Reachability::Open);
        assert!(!reach.handle_voice(subnet(2), Dial::Silent, AT(1)), "one against one");
        for _ in 0..10 {
            assert!(!reach.handle_voice(subnet(2), Dial::Silent, AT(1)), "a neighbourhood has one voice");
        }
        assert!(reach.handle_voice(subnet(3), Dial::Refused, AT(2)));
        assert!(matches!(reach.state(), Reachability::Closed(_)));
        assert!(!reach.handle_voice(subnet(4), Dial::Refused, AT(2)));
        assert!(!reach.handle_voice(subnet(5), Dial::Refused, AT(2)));
        assert!(reach.handle_voice(subnet(1), Dial::Open, AT(2) + VOICE), "what was said long ago counts no more");
    }

    #[test]
    fn the_reason_is_what_most_of_them_found() {
        let mut reach = Reach::new(AT(0));
        for (n, dial) in [Dial::Silent, Dial::Refused, Dial::Silent].into_iter().enumerate() {
            reach.handle_voice(subnet(n as u8), dial, AT(0));
        }
        assert_eq!(reach.state(), Reachability::Closed(Dial::Silent));
        assert!(reach.state().to_string().contains("Forward the port"));
    }

    #[test]
    fn it_is_tried_again_sooner_where_it_is_closed_or_unknown() {
        let mut reach = Reach::new(AT(0));
        let mut waits = Vec::new();
        let mut now = AT(0);
        for _ in 0..12 {
            reach.handle_asked(now);
            waits.push(reach.next() - now);
            now = reach.next();
        }
        assert!(waits[0] == FIRST_AGAIN && waits[11] == CLOSED_AGAIN && waits.is_sorted(), "{waits:?}");
        reach.handle_voice(subnet(1), Dial::Open, now);
        assert_eq!(reach.next(), now + OPEN_AGAIN);
        reach.handle_change(now);
        assert_eq!((reach.next(), reach.state()), (now, Reachability::Open), "known until it is known better");
    }

    #[test]
    fn numbers_on_the_wire_come_back() {
        for code in 0..5 {
            assert_eq!(Dial::read(code).map(Dial::code), Some(code));
        }
        assert_eq!((Dial::read(5), Dial::read(-1)), (None, None));
    }
}
