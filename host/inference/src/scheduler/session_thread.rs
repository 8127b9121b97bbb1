//! The threads that run what waits, one for each session of a graph.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Shared;
use super::queue::{Entry, Work};
use crate::backend::{Session, guarded};
use crate::error::ComputeError;
use crate::observe::RunTimes;

/// How many requests one run answers. Batching raises it and joins their inputs in [`run_batch`].
const MOST_IN_A_BATCH: usize = 1;

/// How many session threads there are in this process, and that one has ended.
static ALIVE: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Waits until no session of this process has a thread, for `within` at most; whether that is so.
///
/// A graph that is dropped does not wait for its threads, which may be in a native run or letting go of what the
/// backend gave them. A process that ends meanwhile runs the native libraries' exit handlers under them, which has
/// ended in a segmentation fault: so before it ends, it waits here, once its graphs are dropped.
pub fn sessions_ended(within: Duration) -> bool {
    let deadline = Instant::now() + within;
    let (alive, ended) = &ALIVE;
    let mut alive = alive.lock();
    while *alive > 0 {
        if ended.wait_until(&mut alive, deadline).timed_out() {
            return *alive == 0;
        }
    }
    true
}

/// One of [`ALIVE`].
struct Alive;

impl Alive {
    fn new() -> Alive {
        *ALIVE.0.lock() += 1;
        Alive
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        *ALIVE.0.lock() -= 1;
        ALIVE.1.notify_all();
    }
}

/// Starts a session thread. It ends when the graph closes.
pub(super) fn spawn(shared: Arc<Shared>) -> Result<(), String> {
    // Linux shows the first 15 characters.
    let name: String = format!("nn {}", shared.graph)
        .chars()
        .filter(|c| *c != '\0')
        .collect();
    let alive = Alive::new();
    thread::Builder::new()
        .name(name)
        .spawn(move || {
            serve(&shared);
            // What the backend gave goes first, where this is the last to hold it.
            drop(shared);
            drop(alive);
        })
        .map(drop)
        .map_err(|error| format!("a session thread could not be started: {error}"))
}

fn serve(shared: &Shared) {
    let mut expired = Vec::new();
    let mut queue = shared.queue.lock();
    loop {
        let work = queue.take(Instant::now(), MOST_IN_A_BATCH, &mut expired);
        if !expired.is_empty() {
            MutexGuard::unlocked(&mut queue, || {
                for entry in expired.drain(..) {
                    let _ = entry
                        .reply
                        .send((Err(ComputeError::DeadlineExceeded), None));
                }
            });
        }
        match work {
            Work::Run(session, batch) => {
                if queue.has_work() {
                    // One wake-up may have been meant for several requests.
                    shared.work.notify_one();
                }
                MutexGuard::unlocked(&mut queue, || run_batch(shared, session, batch));
            }
            Work::Replace => MutexGuard::unlocked(&mut queue, || replace(shared)),
            Work::Wait => shared.work.wait(&mut queue),
            Work::End => return,
        }
    }
}

fn run_batch(shared: &Shared, session: Box<dyn Session>, mut batch: Vec<Entry>) {
    let Some(entry) = batch.pop() else { return };
    let start = Instant::now();
    let queued = start.saturating_duration_since(entry.queued);
    // The session is back before the caller hears, so that its next request finds it.
    let (answer, compute) = shared.run(session, &entry.inputs, 1, Some(queued), start);
    let times = RunTimes {
        queued: entry.queued,
        started: start,
        ended: start + compute,
        batch_size: 1,
        in_place: false,
    };
    // An error only says that the caller has gone away.
    let _ = entry.reply.send((answer, Some(times)));
}

/// Makes a session in place of one that panicked; closes the graph if none is left and none can be made.
fn replace(shared: &Shared) {
    match guarded(|| shared.network.session()) {
        Ok(session) => {
            let mut queue = shared.queue.lock();
            queue.replace(session);
            let wake = queue.has_work();
            drop(queue);
            if wake {
                shared.work.notify_one();
            }
        }
        Err(words) => {
            tracing::error!(graph = shared.graph, backend = %shared.backend, words, "a session could not be replaced");
            if shared.queue.lock().alive() == 0 {
                shared.close(&ComputeError::Backend(format!(
                    "the graph's last session panicked and could not be replaced: {words}"
                )));
            }
        }
    }
}
