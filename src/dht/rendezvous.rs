//! The meeting point on Mainline: when to look there for the own network, and when to be found there. A machine
//! without clock and sockets; [`super::io::meeting`] drives it.
//!
//! 1. Who knows nobody looks, ever less often. Nobody else does.
//! 2. Who can be reached is announced in a period with the chance that keeps about [`FINDABLE`] of the network findable.
//! 3. Who knows nobody, even after having looked, is announced as well, since the first two of a network have nobody to
//!    ask whether they can be reached. The first contact who cannot connect ends that.
//!
//! Nothing but "this address runs the program" is to be learned there.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::reach::Reachability;

/// Nodes that are to be findable at any time.
pub const FINDABLE: usize = 20;

/// How long saved nodes, entries and the LAN come first.
const GRACE: Duration = Duration::from_secs(4);

/// Wait between the first two looks; it doubles up to [`MAX_LOOK`].
const MIN_LOOK: Duration = Duration::from_secs(10);

/// Longest wait between two looks.
const MAX_LOOK: Duration = Duration::from_secs(15 * 60);

/// Longest wait between the first look in vain and being announced unproven, so that of many who begin together the
/// first are found by the others.
const MAX_SHY: Duration = Duration::from_secs(8);

/// Time between two announcements: Mainline keeps them for 30 to 45 minutes.
const PERIOD: Duration = Duration::from_secs(22 * 60);

/// The wait after an announcement that no node took.
const FAILED: Duration = Duration::from_secs(60);

/// What the own node says of the own network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// Nodes known that answer.
    pub nodes: usize,
    /// How many the network has.
    pub estimate: usize,
    /// Whether others can connect; none when nothing is served.
    pub reachability: Option<Reachability>,
}

/// What is to be done on Mainline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Look who is announced. [`Rendezvous::handle_looked`] ends it.
    Look,
    /// Be announced. [`Rendezvous::handle_announced`] ends it.
    Announce,
}

/// The machine.
#[derive(Debug)]
pub struct Rendezvous {
    rng: StdRng,
    situation: Situation,
    look: Option<Duration>,
    look_wait: Duration,
    has_looked: bool,
    announce: Option<Duration>,
}

impl Rendezvous {
    /// Begins alone.
    pub fn new(seed: u64, now: Duration) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let look = Some(now + GRACE.mul_f64(rng.random_range(1.0..1.5)));
        let situation = Situation { nodes: 0, estimate: 0, reachability: None };
        Self { rng, situation, look, look_wait: MIN_LOOK, has_looked: false, announce: None }
    }

    /// What is known of the own network now.
    pub fn handle_situation(&mut self, situation: Situation, now: Duration) {
        let before = std::mem::replace(&mut self.situation, situation);
        match (before.nodes, situation.nodes) {
            (0, 1..) => {
                self.look = None;
                self.has_looked = false;
            }
            (1.., 0) => {
                self.look = Some(now + GRACE.mul_f64(self.rng.random_range(1.0..1.5)));
                self.look_wait = MIN_LOOK;
            }
            _ => {}
        }
        if !self.may_announce() {
            self.announce = None;
        } else if self.announce.is_none() {
            self.announce = Some(now + MAX_SHY.mul_f64(self.rng.random_range(0.1..1.0)));
        }
    }

    /// What is to be done now.
    #[must_use]
    pub fn poll(&mut self, now: Duration) -> Option<Wish> {
        if self.look.is_some_and(|at| at <= now) {
            self.look = Some(now + self.look_wait.mul_f64(self.rng.random_range(0.75..1.25)));
            self.look_wait = (self.look_wait * 2).min(MAX_LOOK);
            return Some(Wish::Look);
        }
        if self.announce.is_some_and(|at| at <= now) {
            self.announce = Some(now + PERIOD.mul_f64(self.rng.random_range(0.8..1.1)));
            let chance = FINDABLE as f64 / self.situation.estimate.max(FINDABLE) as f64;
            if self.situation.nodes == 0 || self.rng.random_bool(chance) {
                return Some(Wish::Announce);
            }
        }
        None
    }

    /// It was looked.
    pub fn handle_looked(&mut self, now: Duration) {
        self.has_looked = true;
        self.handle_situation(self.situation, now);
    }

    /// It was announced; so many nodes keep it.
    pub fn handle_announced(&mut self, stored: usize, now: Duration) {
        if stored == 0 && self.announce.is_some() {
            self.announce = Some(now + FAILED);
        }
    }

    /// When there may be something to do; none until the situation is another one.
    pub fn next(&self) -> Option<Duration> {
        self.look.into_iter().chain(self.announce).min()
    }

    fn may_announce(&self) -> bool {
        match self.situation.reachability {
            Some(Reachability::Open) => true,
            Some(Reachability::Untested) => self.situation.nodes == 0 && self.has_looked,
            Some(Reachability::Closed(_)) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::dht::reach::Dial;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const OPEN: Option<Reachability> = Some(Reachability::Open);
    const UNTESTED: Option<Reachability> = Some(Reachability::Untested);

    fn at(nodes: usize, reachability: Option<Reachability>) -> Situation {
        Situation { nodes, estimate: nodes, reachability }
    }

    /// What is wished for until then, when Mainline does all of it at once.
    fn until(machine: &mut Rendezvous, now: &mut Duration, end: Duration) -> Vec<(Duration, Wish)> {
        let mut wishes = Vec::new();
        while let Some(next) = machine.next().filter(|next| *next <= end) {
            *now = next.max(*now);
            while let Some(wish) = machine.poll(*now) {
                wishes.push((*now, wish));
                match wish {
                    Wish::Look => machine.handle_looked(*now),
                    Wish::Announce => machine.handle_announced(8, *now),
                }
            }
        }
        *now = end;
        wishes
    }

    #[test]
    fn who_knows_nobody_looks_then_is_announced_and_looks_ever_less_often() {
        let (mut machine, mut now) = (Rendezvous::new(1, Duration::ZERO), Duration::ZERO);
        machine.handle_situation(at(0, UNTESTED), now);
        let wishes = until(&mut machine, &mut now, 24 * HOUR);
        assert!(wishes[0].0 >= GRACE && wishes[0].1 == Wish::Look, "what costs nothing comes first");
        assert!(wishes[1].1 == Wish::Announce && wishes[1].0 - wishes[0].0 <= MAX_SHY, "{wishes:?}");
        let looks = wishes.iter().filter(|(_, wish)| *wish == Wish::Look).count();
        assert!((96..120).contains(&looks), "{looks} looks in a day");
        let announced = wishes.len() - looks;
        assert!((60..85).contains(&announced), "{announced} announcements in a day");
    }

    #[test]
    fn nobody_looks_while_the_own_network_is_there() {
        let (mut machine, mut now) = (Rendezvous::new(1, Duration::ZERO), Duration::ZERO);
        machine.handle_situation(at(3, UNTESTED), now);
        assert_eq!(until(&mut machine, &mut now, HOUR), [], "nor is announced before somebody could connect");
        machine.handle_situation(at(0, UNTESTED), now);
        assert_eq!(until(&mut machine, &mut now, 2 * HOUR)[0].1, Wish::Look);
    }

    #[test]
    fn the_first_contact_who_cannot_connect_ends_the_announcing() {
        let (mut machine, mut now) = (Rendezvous::new(1, Duration::ZERO), Duration::ZERO);
        machine.handle_situation(at(0, UNTESTED), now);
        assert!(until(&mut machine, &mut now, HOUR).iter().any(|(_, wish)| *wish == Wish::Announce));
        let closed = Some(Reachability::Closed(Dial::Silent));
        machine.handle_situation(at(1, closed), now);
        assert_eq!(until(&mut machine, &mut now, 3 * HOUR), []);
        machine.handle_situation(at(0, closed), now);
        assert!(until(&mut machine, &mut now, 5 * HOUR).iter().all(|(_, wish)| *wish == Wish::Look));
    }

    #[test]
    fn who_serves_nothing_is_never_announced() {
        let (mut machine, mut now) = (Rendezvous::new(1, Duration::ZERO), Duration::ZERO);
        machine.handle_situation(at(0, None), now);
        assert!(until(&mut machine, &mut now, 5 * HOUR).iter().all(|(_, wish)| *wish == Wish::Look));
    }

    #[test]
    fn about_twenty_of_any_number_are_findable() {
        for size in [1, 10, 20, 200, 5000] {
            let mut announced = 0;
            for seed in 0..size as u64 {
                let (mut machine, mut now) = (Rendezvous::new(seed, Duration::ZERO), Duration::ZERO);
                machine.handle_situation(Situation { nodes: 9, estimate: size, reachability: OPEN }, now);
                let wishes = until(&mut machine, &mut now, 10 * PERIOD);
                assert!(wishes.iter().all(|(_, wish)| *wish == Wish::Announce));
                announced += wishes.len();
            }
            let a_period = announced as f64 / 10.0;
            let wanted = size.min(FINDABLE) as f64;
            assert!((0.8 * wanted..1.4 * wanted).contains(&a_period), "{a_period} of {size}");
        }
    }

    #[test]
    fn an_announcement_that_nobody_took_is_tried_again_soon() {
        let mut machine = Rendezvous::new(1, Duration::ZERO);
        machine.handle_situation(at(30, OPEN), Duration::ZERO);
        let due = machine.next().expect("it may be announced");
        let mut now = due;
        while machine.poll(now) != Some(Wish::Announce) {
            now = machine.next().expect("another period");
        }
        machine.handle_announced(0, now);
        assert_eq!(machine.next(), Some(now + FAILED));
    }
}
