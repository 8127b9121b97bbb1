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

/// Runs a future whose log lines belong to `ids`, on whichever threads it is polled.
pub(super) async fn scope<F: Future>(ids: Option<SpanIds>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(move |context| {
        let _entered = ids.map(Entered::new);
        future.as_mut().poll(context)
    })
    .await
}
