//! Instances made ahead of need, and taken apart behind the request: what keeps the cost
//! of a fresh instance off a request's path.
//!
//! A task per handler owns the work. It is woken when an instance is taken or used up,
//! drops what is used and makes what is missing. Under full load it falls behind by
//! design: a request that finds nothing ready makes its own, and used instances beyond the
//! bound are dropped where they were used.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{handler::HandlerInner, instance::Ready};

/// Ready and used instances of one handler.
pub(crate) struct WarmPool {
    lists: Mutex<Lists>,
    wake: Arc<Notify>,
    target: usize,
}

#[derive(Default)]
struct Lists {
    ready: Vec<Ready>,
    used: Vec<Ready>,
}

impl WarmPool {
    /// A pool that keeps `target` instances ready.
    pub(crate) fn new(target: usize) -> WarmPool {
        WarmPool {
            lists: Mutex::new(Lists::default()),
            wake: Arc::new(Notify::new()),
            target,
        }
    }

    /// An instance, if one is ready. More are made when those taken come back used; only
    /// when calls are long and the pool runs low are they made at once.
    pub(crate) fn take(&self) -> Option<Ready> {
        let mut lists = self.lists.lock();
        let taken = lists.ready.pop();
        let low = lists.ready.len() * 2 < self.target;
        drop(lists);
        if low {
            self.wake.notify_one();
        }
        taken
    }

    /// Leaves a used instance to be dropped off the request's path, and its slot to be
    /// used for the next.
    pub(crate) fn retire(&self, used: Ready) {
        let mut lists = self.lists.lock();
        if lists.used.len() < self.target {
            lists.used.push(used);
            drop(lists);
            self.wake.notify_one();
        }
        // Else it is dropped here, after the lock: the pool is behind already.
    }

    /// Puts back an instance whose model allows reuse.
    pub(crate) fn put_back(&self, ready: Ready) {
        let mut lists = self.lists.lock();
        if lists.ready.len() < self.target {
            lists.ready.push(ready);
        }
    }

    /// How many are ready.
    pub(crate) fn ready(&self) -> usize {
        self.lists.lock().ready.len()
    }

    /// Keeps the pool of `handler` full until the handler is gone.
    pub(crate) async fn tend(handler: Weak<HandlerInner>) {
        loop {
            let Some(inner) = handler.upgrade() else {
                return;
            };
            inner.warm.refill(&inner).await;
            let wake = Arc::clone(&inner.warm.wake);
            drop(inner);
            wake.notified().await;
        }
    }

    async fn refill(&self, handler: &HandlerInner) {
        loop {
            let used = self.lists.lock().used.pop();
            let had_used = used.is_some();
            drop(used);
            let missing = self.lists.lock().ready.len() < self.target;
            if missing {
                // Without a slot to spare the requests come first.
                let Some(slot) = handler.spare_slot() else {
                    return;
                };
                match handler.make(slot).await {
                    Ok(ready) => self.lists.lock().ready.push(ready),
                    Err(fault) => {
                        tracing::warn!(
                            model = %handler.context.model,
                            version = handler.context.version,
                            %fault,
                            "no instance could be made ahead"
                        );
                        return;
                    }
                }
            } else if !had_used {
                return;
            }
            // A request that waits for this thread goes first.
            tokio::task::yield_now().await;
        }
    }
}
