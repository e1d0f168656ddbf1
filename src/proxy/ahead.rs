//! What a connection's requests lead to before their turn comes.
//!
//! ```text
//!  wire: this request waits --> Ahead --foresee--> flow          the same request, in its turn --> Ahead: its answer
//! ```
//!
//! What waits behind a Release is not begun before that was learned from: it may be promised then. Releases themselves are.

use std::{cell::RefCell, collections::VecDeque, net::IpAddr, rc::Rc};

use crate::flow::{Ask, Flow, Foreseen};

/// The requests of one connection.
#[derive(Clone, Default)]
pub(super) struct Ahead(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    /// Whether the request that is answered now teaches what those behind it are.
    is_taught: bool,
    /// What was begun for that request.
    turn: Option<Foreseen>,
    /// Those behind it, in their order: no more than the wire tells of.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    ask: Ask,
    foreseen: Option<Foreseen>,
}

impl Ahead {
    /// A request's turn has come; `None`: it is not for the flow.
    pub fn begin(&self, ask: Option<&Ask>) {
        let mut state = self.0.borrow_mut();
        let has_waited = state.waiting.front().is_some_and(|waiting| Some(&waiting.ask) == ask);
        let waited = if has_waited { state.waiting.pop_front() } else { None };
        state.turn = waited.and_then(|waiting| waiting.foreseen);
        state.is_taught = ask.is_some_and(Flow::teaches);
    }

    /// A request waits.
    pub fn foresee(&self, flow: &Flow, ask: Ask, client: IpAddr) {
        let mut state = self.0.borrow_mut();
        let is_taught = state.is_taught || state.waiting.iter().any(|waiting| Flow::teaches(&waiting.ask));
        let may_begin = !is_taught || Flow::teaches(&ask);
        let foreseen = may_begin.then(|| flow.foresee(ask.clone(), client)).flatten();
        state.waiting.push_back(Waiting { ask, foreseen });
    }

    /// What was begun for the request whose turn it is, when it is this one.
    pub fn claim(&self, ask: &Ask) -> Option<Foreseen> {
        self.0.borrow_mut().turn.take().filter(|foreseen| foreseen.ask() == ask)
    }
}
