//! The trace that a thread works for at this moment. Only the log asks: whoever makes spans has
//! been handed a [`super::Trace`].

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;

use super::context::SpanIds;

thread_local! {
    static CURRENT: Cell<Option<SpanIds>> = const { Cell::new(None) };
}

/// Where the work that this thread does belongs.
pub(crate) fn current() -> Option<SpanIds> {
    CURRENT.get()
}

/// Says, while it lives, where this thread's work belongs.
struct Entered {
    before: Option<SpanIds>,
}

impl Entered {
    fn new(ids: SpanIds) -> Entered {
        Entered {
            before: CURRENT.replace(Some(ids)),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// A future for another task, whose log lines tell the trace that this thread works for now.
pub fn in_this_trace<F: Future>(future: F) -> impl Future<Output = F::Output> {
    scope(current(), future)
}

/// The same for work on another thread.
pub fn doing_in_this_trace<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let ids = current();
    move || {
        let _entered = ids.map(Entered::new);
        work()
    }
}

/// Runs a future whose log lines belong to `ids`, on whichever threads it is polled.
pub(super) async fn scope<F: Future>(ids: Option<SpanIds>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(move |context| {
        let _entered = ids.map(Entered::new);
        future.as_mut().poll(context)
    })
    .await
}
