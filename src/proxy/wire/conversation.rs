//! One connection of a client, as a machine: bytes of the client and of the dispatcher in, bytes to both out.
//!
//! ```text
//!  client --bytes--> input --heads--> waiting --one at a time--> dispatcher
//!                                        '--> Foresee: they wait behind, and can be begun
//!  client <--------- own, held <--------------- framing <-------- dispatcher
//! ```
//!
//! **One request at a time.** The dispatcher is given a head only when the answer to the one before has passed whole.
//!
//! **Never silent.** apt gives up after 30 s without a byte. While nothing of an answer has passed, its status is open:
//! `HTTP/1.1 ` is sent, and then a space at a time, and the same beginning is dropped from what the dispatcher writes. In
//! the middle of a body, a chunk's size may have leading zeros (RFC 9112, section 7.1), and of a body with a length the
//! last few bytes that came are held back, to be given out one by one. A client that does not read is owed nothing.
//!
//! Order of use: [`Conversation::request`] and then [`Conversation::poll`] until it has nothing more, whenever something
//! happened and at [`Conversation::next_wake`]; what is [`Conversation::own`] goes to the client before anything else.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    framing::Framing,
    request::{BadHead, Head, Input},
};

/// Bytes of requests that wait on a connection; no more are read before some are answered.
const MAX_WAITING: usize = 64 * 1024;
/// Requests that wait on a connection.
const MAX_HEADS: usize = 32;
/// Requests behind the one that is being answered that are foreseen: as many as apt sends ahead.
pub const AHEAD: usize = 10;
/// Bytes of a body held back to be dripped, and zeros before a chunk in a row: enough for ten minutes.
const RESERVE: usize = 40;
/// How often in a row nothing but a space before a status is sent: an hour. Whoever writes the answer gives up sooner.
const MAX_SPACES: u32 = 240;
/// What an answer begins with.
const BEGINNING: &[u8] = b"HTTP/1.1 ";

/// When something is sent although there is nothing to say.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time without a byte for the client.
    pub silence: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { silence: Duration::from_secs(15) }
    }
}

/// What comes next for the dispatcher to read.
#[derive(Debug, PartialEq, Eq)]
pub enum Given {
    /// A part of a head.
    Bytes(Bytes),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    End,
}

/// What is to become of the first bytes that the dispatcher writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// The client has these already: [`Conversation::handle_dropped`].
    Drop(usize),
    /// These wait: [`Conversation::handle_held`].
    Hold(usize),
    /// What is [`Conversation::held`] and then these go to the client, [`Conversation::handle_sent`]; once all of that has
    /// gone, further ones wait.
    Pass {
        /// How many go.
        bytes: usize,
        /// How many wait.
        hold: usize,
    },
}

/// Something to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// The dispatcher was given this request.
    Begun(Head),
    /// This request waits behind another one.
    Foresee(Head),
    /// Nothing has come for so long that there is no hope: the connection is to end.
    Cut,
}

/// The machine.
#[derive(Debug)]
pub struct Conversation {
    pace: Pace,
    input: Input,
    waiting: VecDeque<Head>,
    /// How many of those that wait were foreseen.
    foreseen: usize,
    /// What comes behind those that wait is not answered.
    refused: Option<BadHead>,
    /// Nothing behind those that wait is read.
    is_last: bool,
    input_ended: bool,
    /// The rest of the head that the dispatcher is being given.
    given: Bytes,
    /// The request that it belongs to, until that is told.
    begun: Option<Head>,
    turn: Turn,
    own: BytesMut,
}

#[derive(Debug)]
enum Turn {
    /// Nobody is being answered.
    Idle,
    Answering(Answering),
    /// Nobody is answered any more.
    Closed,
}

/// An answer on its way.
#[derive(Debug)]
struct Answering {
    framing: Framing,
    /// Whether the client understands HTTP/1.1.
    is_current: bool,
    closes: bool,
    /// Whether the client has the beginning from here.
    has_begun: bool,
    /// Whether anything that the dispatcher wrote has passed.
    has_passed: bool,
    /// Bytes of the beginning that the client has already, and that the dispatcher has not written yet.
    strip: usize,
    /// Written by the dispatcher and not passed: the head alone, or the last bytes so far of a body with a length.
    held: BytesMut,
    /// Drips since the dispatcher was last heard.
    drips: u32,
    /// The client takes nothing now.
    is_blocked: bool,
    /// When the client last got a byte.
    heard: Instant,
}

impl Conversation {
    /// A connection on which nothing was said.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            input: Input::default(),
            waiting: VecDeque::new(),
            foreseen: 0,
            refused: None,
            is_last: false,
            input_ended: false,
            given: Bytes::new(),
            begun: None,
            turn: Turn::Idle,
            own: BytesMut::new(),
        }
    }

    /// Whether more of the client is read.
    pub fn wants_input(&self) -> bool {
        let waiting: usize = self.waiting.iter().map(|head| head.bytes().len()).sum();
        let has_room = self.waiting.len() < MAX_HEADS && waiting + self.input.len() < MAX_WAITING;
        has_room && !self.is_last && !self.input_ended
    }

    /// The client sent bytes.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
        self.read_heads();
    }

    /// The client sends nothing more.
    pub fn handle_input_end(&mut self) {
        self.input_ended = true;
    }

    /// What the dispatcher is to read, `most` bytes of it.
    pub fn request(&mut self, most: usize, now: Instant) -> Given {
        if self.given.is_empty() {
            match self.turn {
                Turn::Answering(_) => return Given::Nothing,
                Turn::Closed => return Given::End,
                Turn::Idle => match self.waiting.pop_front() {
                    Some(head) => self.begin(head, now),
                    None => return self.end(),
                },
            }
        }
        Given::Bytes(self.given.split_to(most.min(self.given.len())))
    }

    /// Whether the dispatcher has something to read that it had not before an answer ended.
    pub fn is_expectant(&self) -> bool {
        !matches!(self.turn, Turn::Answering(_))
    }

    /// What becomes of the first of these bytes, of which there is at least one.
    pub fn passage(&mut self, bytes: &[u8], now: Instant) -> Passage {
        if matches!(self.turn, Turn::Idle) {
            // An answer to nobody: a head that took too long.
            self.turn = Turn::Answering(Answering::new(Framing::new(false), false, true, now));
        }
        match &self.turn {
            Turn::Answering(answering) => answering.passage(bytes),
            Turn::Idle | Turn::Closed => Passage::Drop(bytes.len()),
        }
    }

    /// These bytes of the dispatcher's were dropped.
    pub fn handle_dropped(&mut self, bytes: &[u8]) {
        if let Turn::Answering(answering) = &mut self.turn {
            answering.framing.handle(bytes);
            answering.strip = answering.strip.saturating_sub(bytes.len());
        }
    }

    /// These bytes of the dispatcher's wait.
    pub fn handle_held(&mut self, bytes: &[u8]) {
        if let Turn::Answering(answering) = &mut self.turn {
            answering.framing.handle(bytes);
            answering.held.extend_from_slice(bytes);
            answering.drips = 0;
        }
    }

    /// What goes to the client before the dispatcher's next bytes.
    pub fn held(&self) -> &[u8] {
        match &self.turn {
            Turn::Answering(answering) => &answering.held,
            Turn::Idle | Turn::Closed => &[],
        }
    }

    /// The client took so many bytes of what is held and these; says how many of these.
    pub fn handle_sent(&mut self, sent: usize, bytes: &[u8], now: Instant) -> usize {
        let Turn::Answering(answering) = &mut self.turn else { return 0 };
        let of_held = sent.min(answering.held.len());
        answering.held.advance(of_held);
        let taken = sent - of_held;
        answering.framing.handle(&bytes[..taken]);
        (answering.has_passed, answering.is_blocked, answering.heard) = (true, false, now);
        answering.drips = 0;
        if answering.framing.is_done() {
            self.turn = if answering.closes { Turn::Closed } else { Turn::Idle };
            self.read_heads();
        }
        taken
    }

    /// The client takes nothing now.
    pub fn handle_blocked(&mut self) {
        if let Turn::Answering(answering) = &mut self.turn {
            answering.is_blocked = true;
        }
    }

    /// What this machine itself says to the client.
    pub fn own(&self) -> &[u8] {
        &self.own
    }

    /// The client took so many bytes of that.
    pub fn handle_own_sent(&mut self, sent: usize) {
        self.own.advance(sent);
    }

    /// When [`Conversation::poll`] may have something without anything having happened.
    pub fn next_wake(&self) -> Option<Instant> {
        match &self.turn {
            Turn::Answering(answering) if self.own.is_empty() && answering.may_drip() => {
                Some(answering.heard + self.pace.silence)
            }
            _ => None,
        }
    }

    /// The next thing to do, until there is none.
    #[must_use]
    pub fn poll(&mut self, now: Instant) -> Option<Output> {
        if let Some(head) = self.begun.take() {
            return Some(Output::Begun(head));
        }
        let is_due = self.next_wake().is_some_and(|at| at <= now);
        let Turn::Answering(answering) = &mut self.turn else { return None };
        if is_due && !answering.drip(&mut self.own, now) {
            self.turn = Turn::Closed;
            return Some(Output::Cut);
        }
        let next = self.waiting.get(self.foreseen).filter(|_| self.foreseen < AHEAD)?;
        self.foreseen += 1;
        Some(Output::Foresee(next.clone()))
    }

    fn read_heads(&mut self) {
        while !self.is_last && self.waiting.len() < MAX_HEADS {
            match self.input.next() {
                Ok(Some(head)) => {
                    self.is_last = head.closes;
                    self.waiting.push_back(head);
                }
                Ok(None) => return,
                Err(bad) => (self.refused, self.is_last) = (Some(bad), true),
            }
        }
    }

    fn begin(&mut self, head: Head, now: Instant) {
        self.foreseen = self.foreseen.saturating_sub(1);
        self.given = head.bytes().clone();
        let framing = Framing::new(head.is_head());
        self.turn = Turn::Answering(Answering::new(framing, head.is_current, head.closes, now));
        self.begun = Some(head);
        self.read_heads();
    }

    /// Nobody waits: what is refused is said, and what has ended ends.
    fn end(&mut self) -> Given {
        if let Some(bad) = self.refused.take() {
            let body = format!("apt-huddle: {bad}\n");
            let head = format!(
                "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bad.status(),
                body.len()
            );
            self.own.extend_from_slice((head + &body).as_bytes());
            self.turn = Turn::Closed;
            return Given::End;
        }
        if self.input_ended { Given::End } else { Given::Nothing }
    }
}

impl Answering {
    fn new(framing: Framing, is_current: bool, closes: bool, now: Instant) -> Self {
        Self {
            framing,
            is_current,
            closes,
            has_begun: false,
            has_passed: false,
            strip: 0,
            held: BytesMut::new(),
            drips: 0,
            is_blocked: false,
            heard: now,
        }
    }

    fn passage(&self, bytes: &[u8]) -> Passage {
        if self.strip > 0 {
            return Passage::Drop(self.strip.min(bytes.len()));
        }
        let mut ahead = self.framing.clone();
        let all = ahead.handle(bytes);
        if ahead.is_done() || !(ahead.in_head() || ahead.is_fixed()) {
            return Passage::Pass { bytes: all, hold: 0 };
        }
        let of_body = (ahead.body() - self.framing.body()) as usize;
        let fits = self.has_passed && self.held.len() + all <= RESERVE;
        if of_body == 0 || fits {
            return Passage::Hold(all);
        }
        let hold = of_body.min(RESERVE);
        Passage::Pass { bytes: all - hold, hold }
    }

    /// Whether silence is a reason to do something.
    fn may_drip(&self) -> bool {
        if self.is_blocked {
            return false;
        }
        if self.has_passed { self.framing.is_fixed() || self.framing.is_between_chunks() } else { self.is_current }
    }

    /// Gives the client something to live on; `false` when there is nothing left.
    fn drip(&mut self, own: &mut BytesMut, now: Instant) -> bool {
        let drips = self.drips;
        (self.drips, self.heard) = (drips + 1, now);
        if !self.has_begun && !self.has_passed {
            own.extend_from_slice(BEGINNING);
            let here = self.held.len().min(BEGINNING.len());
            self.held.advance(here);
            (self.has_begun, self.strip) = (true, BEGINNING.len() - here);
            return true;
        }
        if !self.has_passed {
            own.extend_from_slice(b" ");
            return drips < MAX_SPACES;
        }
        if self.framing.is_between_chunks() {
            own.extend_from_slice(b"0");
            return drips < RESERVE as u32;
        }
        let byte = self.held.first().copied();
        own.extend(byte);
        self.held.advance(usize::from(byte.is_some()));
        drips < RESERVE as u32
    }
}

#[cfg(test)]
mod tests;
