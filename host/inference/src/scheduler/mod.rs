//! Between `compute` and the sessions: a bounded queue, and sessions that run on threads of their own or, where a run
//! is shorter than the hand-off to another thread, in place on the caller's.
//!
//! [`queue`] holds the rules, [`session_thread`] the threads, [`warm_up`] the measurement that tells short runs from
//! long ones. This module is the way in.
//!
//! No wake-up is lost: whatever makes work possible (a request that joins, a session that is given back while someone
//! waits, a session to be replaced) changes the queue under its lock and then wakes one session thread, and a session
//! thread looks under the lock before it sleeps.

mod queue;
mod session_thread;
mod warm_up;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::backend::{Network, Session, guarded, panic_words};
use crate::error::ComputeError;
use crate::graph::{BackendKind, GraphStats};
use crate::observe::{Observer, RunReport, RunTimes};
use crate::tensor::NamedTensor;
use queue::{Answer, Queue, Ran, Reply};
pub use session_thread::sessions_ended;
use warm_up::WarmUp;

/// A run expected to be shorter than this is made on the caller's thread. Handing it to another thread and back costs
/// 10 to 30 µs of wake-ups, and up to about 100 µs a task may hold an executor's thread without others noticing.
pub const IN_PLACE_BOUND: Duration = Duration::from_micros(100);

/// A run in place that took this many bounds counts against the graph (see [`queue`]).
const OVERRUN: u32 = 4;

/// How a graph is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Sessions that run side by side, each with a thread of its own.
    pub sessions: usize,
    /// Requests that may wait.
    pub queue_capacity: usize,
    /// Runs expected to be shorter are made on the caller's thread; zero sends every run to a session thread.
    pub in_place_bound: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sessions: 1,
            queue_capacity: 64,
            in_place_bound: IN_PLACE_BOUND,
        }
    }
}

/// One graph's queue and sessions. Dropping it ends the threads.
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
}

/// What callers and session threads share.
struct Shared {
    graph: String,
    backend: BackendKind,
    queue: Mutex<Queue>,
    /// Session threads sleep here.
    work: Condvar,
    network: Box<dyn Network>,
    observer: Arc<dyn Observer>,
    queue_capacity: usize,
    in_place_bound: Duration,
    /// Requests of up to this many bytes may run in place; `None` where no run may.
    in_place_bytes: Option<usize>,
    warm_up: Option<Duration>,
}

impl Scheduler {
    /// Makes and warms up the sessions, and starts a thread for each.
    ///
    /// # Errors
    /// The backend's words when a session cannot be made, the system's when a thread cannot be.
    pub(crate) fn start(
        graph: &str,
        backend: BackendKind,
        network: Box<dyn Network>,
        settings: Settings,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, String> {
        let mut warm_up = WarmUp::of(network.signature());
        let mut sessions = Vec::with_capacity(settings.sessions);
        for _ in 0..settings.sessions {
            let session = guarded(|| network.session())?;
            // One that panics on made-up input is thrown away as it would be on a caller's.
            match warm_up.run(session) {
                Some(session) => sessions.push(session),
                None => sessions.push(guarded(|| network.session())?),
            }
        }
        let median = warm_up.median();
        let in_place_bytes = warm_up.bytes_within(settings.in_place_bound);
        tracing::debug!(
            graph,
            %backend,
            sessions = sessions.len(),
            warm_up_us = median.map(|median| median.as_micros()),
            in_place_bytes,
            "graph warmed up"
        );
        let scheduler = Self {
            shared: Arc::new(Shared {
                graph: graph.to_owned(),
                backend,
                queue: Mutex::new(Queue::new(sessions, settings.queue_capacity)),
                work: Condvar::new(),
                network,
                observer,
                queue_capacity: settings.queue_capacity,
                in_place_bound: settings.in_place_bound,
                in_place_bytes,
                warm_up: median,
            }),
        };
        for _ in 0..settings.sessions {
            // On failure the threads already started end as `scheduler` is dropped.
            session_thread::spawn(Arc::clone(&scheduler.shared))?;
        }
        Ok(scheduler)
    }

    pub(crate) fn graph(&self) -> &str {
        &self.shared.graph
    }

    pub(crate) fn backend(&self) -> BackendKind {
        self.shared.backend
    }

    pub(crate) fn stats(&self) -> GraphStats {
        self.shared.queue.lock().stats(self.shared.warm_up)
    }

    pub(crate) fn close(&self) {
        self.shared.close(&ComputeError::Closed);
    }

    /// Answers one request whose inputs have been checked, and says when its run was, if one ended.
    pub(crate) async fn compute(
        &self,
        inputs: Vec<NamedTensor>,
        deadline: Option<Instant>,
    ) -> Reply {
        let shared = &*self.shared;
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return (Err(ComputeError::DeadlineExceeded), None);
        }
        let (answer, mut place) = {
            let mut queue = shared.queue.lock();
            if shared.may_run_in_place(&inputs)
                && let Some(session) = queue.lease_in_place(&inputs)
            {
                drop(queue);
                let (answer, compute) = shared.run(session, &inputs, 1, None, now);
                let times = RunTimes {
                    queued: now,
                    started: now,
                    ended: now + compute,
                    batch_size: 1,
                    in_place: true,
                };
                return (answer, Some(times));
            }
            let (reply, answer) = oneshot::channel();
            let id = match queue.join(inputs, deadline, now, reply) {
                Ok(Some(id)) => id,
                Ok(None) => {
                    let full = ComputeError::QueueFull {
                        graph: shared.graph.clone(),
                        capacity: shared.queue_capacity,
                    };
                    return (Err(full), None);
                }
                Err(closed) => return (Err(closed), None),
            };
            let depth = queue.depth();
            drop(queue);
            shared.work.notify_one();
            shared.observer.queued(&shared.graph, depth);
            (
                answer,
                PlaceInQueue {
                    shared,
                    id: Some(id),
                },
            )
        };
        let answer = match deadline {
            None => answer.await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(answer) => answer,
                // Dropping the place takes the request out of the queue, if it is still there.
                Err(_) => return (Err(ComputeError::DeadlineExceeded), None),
            },
        };
        place.id = None;
        // A session thread answers whatever it takes, so a reply dropped unanswered means that the graph went away.
        answer.unwrap_or((Err(ComputeError::Closed), None))
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.close();
    }
}

/// A caller's place in the queue, given up when the caller goes away before the answer.
struct PlaceInQueue<'a> {
    shared: &'a Shared,
    id: Option<u64>,
}

impl Drop for PlaceInQueue<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let left = self.shared.queue.lock().leave(id);
            // The entry's tensors are freed here, after the lock.
            drop(left);
        }
    }
}

impl Shared {
    fn may_run_in_place(&self, inputs: &[NamedTensor]) -> bool {
        self.in_place_bytes.is_some_and(|most| {
            inputs
                .iter()
                .map(|input| input.tensor.byte_len())
                .sum::<usize>()
                <= most
        })
    }

    /// Runs a batch in a leased session, gives the session back and reports; also says how long the backend took.
    /// `queued` is how long the batch waited, `None` for a run in place.
    fn run(
        &self,
        mut session: Box<dyn Session>,
        inputs: &[NamedTensor],
        batch_size: usize,
        queued: Option<Duration>,
        start: Instant,
    ) -> (Answer, Duration) {
        let answer = catch_unwind(AssertUnwindSafe(|| session.run(inputs)));
        let compute = start.elapsed();
        let ran = Ran {
            in_place: queued.is_none(),
            overran: self
                .may_run_in_place(inputs)
                .then(|| compute > self.in_place_bound * OVERRUN),
        };
        let answer = match answer {
            Ok(answer) => {
                let mut queue = self.queue.lock();
                queue.give_back(session, ran);
                // A session thread that gives back looks for work itself; a caller cannot.
                let wake = ran.in_place && queue.has_work();
                drop(queue);
                if wake {
                    self.work.notify_one();
                }
                answer
            }
            Err(panic) => {
                let words = panic_words(&*panic);
                tracing::error!(graph = self.graph, backend = %self.backend, words, "a session panicked and is replaced");
                self.queue.lock().lose(ran);
                self.work.notify_one();
                discard(session);
                Err(ComputeError::Panicked(words))
            }
        };
        self.observer.ran(RunReport {
            graph: &self.graph,
            backend: self.backend,
            batch_size,
            queue: queued.unwrap_or_default(),
            compute,
            succeeded: answer.is_ok(),
            in_place: ran.in_place,
        });
        (answer, compute)
    }

    /// Takes nothing any more and tells those who wait why.
    fn close(&self, reason: &ComputeError) {
        let waiting = self.queue.lock().close(reason.clone());
        self.work.notify_all();
        for entry in waiting {
            // An error only says that the caller has gone away.
            let _ = entry.reply.send((Err(reason.clone()), None));
        }
    }
}

/// Drops a session that panicked; it may well panic again.
fn discard(session: Box<dyn Session>) {
    let _ = catch_unwind(AssertUnwindSafe(move || drop(session)));
}
