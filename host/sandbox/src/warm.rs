//! Instances made ahead of need, and taken apart behind the request: what keeps the cost
//! of a fresh instance off a request's path.
//!
//! A task per handler owns the work. It wakes some time after an instance came back used
//! (at once if few are left), drops what is used and makes what is missing, a batch at a
//! time. While requests outrun it, so that most find nothing ready, it works ever more
//! seldom: the processors are busy then, an instance made ahead costs what one made on the
//! path costs, and it is made on one core and used on another. On digits at 32 connections
//! and two cores, a task that always refilled gave some 22,000 requests a second and no
//! task at all 25,000 to 28,000, on a machine whose pace varies by a sixth.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{handler::HandlerInner, instance::Ready};

/// How long used instances gather before the task sees to them.
const TICK: Duration = Duration::from_millis(1);

/// The longest pause while requests outrun the task, as a power of two of [`TICK`]: 32 ms.
const LONGEST_PAUSE: u32 = 5;

/// Ready and used instances of one handler.
pub(crate) struct WarmPool {
    lists: Mutex<Lists>,
    /// Something came back used.
    used: Arc<Notify>,
    /// Less than half of the target is left.
    low: Arc<Notify>,
    target: usize,
    /// Requests since the last refill that found an instance, and that did not.
    hits: AtomicU32,
    misses: AtomicU32,
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
            used: Arc::new(Notify::new()),
            low: Arc::new(Notify::new()),
            target,
            hits: AtomicU32::new(0),
            misses: AtomicU32::new(0),
        }
    }

    /// An instance, if one is ready.
    pub(crate) fn take(&self) -> Option<Ready> {
        let mut lists = self.lists.lock();
        let taken = lists.ready.pop();
        let low = lists.ready.len() * 2 < self.target;
        drop(lists);
        let count = if taken.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        if low && taken.is_some() {
            self.low.notify_one();
        }
        taken
    }

    /// Leaves a used instance to be dropped off the request's path.
    pub(crate) fn retire(&self, used: Ready) {
        let mut lists = self.lists.lock();
        if lists.used.len() < self.target {
            lists.used.push(used);
            drop(lists);
            self.used.notify_one();
        }
        // Else it is dropped here, after the lock: the task is behind already.
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
        let mut pause = 0;
        loop {
            let Some(inner) = handler.upgrade() else {
                return;
            };
            let warm = &inner.warm;
            pause = next_pause(
                pause,
                warm.hits.swap(0, Ordering::Relaxed),
                warm.misses.swap(0, Ordering::Relaxed),
            );
            warm.refill(&inner).await;
            let (used, low) = (Arc::clone(&warm.used), Arc::clone(&warm.low));
            drop(inner);
            tokio::select! {
                () = used.notified() => {}
                () = low.notified() => {}
            }
            if pause > 0 {
                tokio::time::sleep(TICK * 2u32.pow(pause)).await;
            } else {
                let _ = tokio::time::timeout(TICK, low.notified()).await;
            }
        }
    }

    async fn refill(&self, handler: &HandlerInner) {
        let used = std::mem::take(&mut self.lists.lock().used);
        for instance in used {
            drop(instance);
            // A request that waits for this thread goes first.
            tokio::task::yield_now().await;
        }
        while self.ready() < self.target {
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
            tokio::task::yield_now().await;
        }
    }
}

/// How long to pause after a refill, as a power of two of [`TICK`], given the pause before
/// it and how requests have fared since.
fn next_pause(pause: u32, hits: u32, misses: u32) -> u32 {
    if misses > hits {
        (pause + 1).min(LONGEST_PAUSE)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_backs_off_while_requests_outrun_it_and_no_longer() {
        let mut pause = 0;
        for expected in [1, 2, 3, 4, 5, 5] {
            pause = next_pause(pause, 8, 20);
            assert_eq!(pause, expected);
        }
        assert_eq!(next_pause(pause, 8, 3), 0);
        assert_eq!(next_pause(0, 0, 0), 0);
    }
}
