//! The call that ends a connection, from wherever.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// One connection's. A clone is the same call.
#[derive(Debug, Clone, Default)]
pub(super) struct Recall(Arc<Called>);

#[derive(Debug, Default)]
struct Called {
    is_called: AtomicBool,
    /// The task of the connection.
    waker: AtomicWaker,
}

impl Recall {
    /// Ends the connection, at the next moment that it is looked after.
    pub(super) fn call(&self) {
        self.0.is_called.store(true, SeqCst);
        self.0.waker.wake();
    }

    /// Whether the connection is to end; until then the task is woken when it is.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.waker.register(cx.waker());
        if self.is_called() { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(super) fn is_called(&self) -> bool {
        self.0.is_called.load(SeqCst)
    }
}
