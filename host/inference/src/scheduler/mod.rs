//! Between `compute` and the sessions: a bounded queue, and sessions that run batches of what waits on threads of their
//! own or, where a run is shorter than the hand-off to another thread, one request in place on the caller's.
//!
//! [`queue`] holds the rules, [`rows`] how requests are joined and told apart, [`trial`] whether they may be,
//! [`session_thread`] the threads, [`budget`] whose turn it is among all graphs, [`warm_up`] the measurement that tells
//! short runs from long ones. This module is the way in.
//!
//! No wake-up is lost: whatever makes work possible (a request that joins while a session is idle, a session that is given
//! back while someone waits, a session to be replaced) changes the queue under its lock and then wakes one session
//! thread, and a session thread looks under the lock before it sleeps.

mod budget;
mod entry;
mod queue;
mod rows;
mod session_thread;
mod settings;
mod trial;
mod warm_up;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::backend::{Network, Session, guarded, panic_words};
use crate::error::ComputeError;
use crate::graph::{BackendKind, GraphStats};
use crate::observe::{Observer, RunReport, RunTimes};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::tensor::NamedTensor;
pub(crate) use budget::Budget;
use budget::Share;
use entry::{Answer, Reply};
use queue::{Place, Queue, Ran, Refused, Rules};
pub use session_thread::sessions_ended;
pub use settings::{
    Batching, BatchingMode, BatchingState, IN_PLACE_BOUND, Priority, Settings, Terms,
};
use warm_up::WarmUp;

/// A run in place that took this many bounds counts against the graph (see [`queue`]).
const OVERRUN: u32 = 4;

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
    network: Arc<dyn Network>,
    share: Share,
    observer: Arc<dyn Observer>,
    in_place_bound: Duration,
    /// Requests of up to this many bytes may run in place; `None` where no run may.
    in_place_bytes: Option<usize>,
    warm_up: Option<Duration>,
    /// How requests may share runs at most, as the trial has shown.
    trial: trial::Outcome,
}

impl Scheduler {
    /// Makes and warms up the sessions, tries whether requests may share runs, and starts a first thread for them.
    ///
    /// # Errors
    /// The backend's words when a session cannot be made, the system's when a thread cannot be.
    pub(crate) fn start(
        graph: &str,
        backend: BackendKind,
        network: Arc<dyn Network>,
        settings: &Settings,
        budget: &Arc<Budget>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, String> {
        let mut warm_up = WarmUp::of(network.signature());
        let mut sessions = Vec::with_capacity(settings.sessions);
        let mut trial = None;
        for _ in 0..settings.sessions.max(1) {
            let mut session = warm(&*network, &mut warm_up)?;
            if trial.is_none() {
                let tried = catch_unwind(AssertUnwindSafe(|| {
                    trial::run(&mut *session, network.signature(), &settings.batching)
                }));
                match tried {
                    Ok(outcome) => trial = Some(outcome),
                    Err(panic) => {
                        discard(session);
                        session = warm(&*network, &mut warm_up)?;
                        trial = Some(trial::panicked(&panic_words(&*panic)));
                    }
                }
            }
            sessions.push(session);
        }
        let trial = trial.unwrap_or_default();
        let median = warm_up.median();
        let in_place_bytes = warm_up.bytes_within(settings.in_place_bound);
        tracing::debug!(
            graph,
            %backend,
            sessions = sessions.len(),
            warm_up_us = median.map(|median| median.as_micros()),
            in_place_bytes,
            max_rows = trial.max_rows,
            warning = trial.warning,
            "graph warmed up"
        );
        let rules = rules(settings, &trial);
        let scheduler = Self {
            shared: Arc::new(Shared {
                graph: graph.to_owned(),
                backend,
                queue: Mutex::new(Queue::new(sessions, rules)),
                work: Condvar::new(),
                network,
                share: budget.share(settings.threads),
                observer,
                in_place_bound: settings.in_place_bound,
                in_place_bytes,
                warm_up: median,
                trial,
            }),
        };
        // One; others come when there is work for them.
        scheduler.shared.queue.lock().threads.begin();
        session_thread::spawn(Arc::clone(&scheduler.shared))?;
        Ok(scheduler)
    }

    pub(crate) fn graph(&self) -> &str {
        &self.shared.graph
    }

    pub(crate) fn backend(&self) -> BackendKind {
        self.shared.backend
    }

    pub(crate) fn sharers(&self) -> usize {
        Arc::strong_count(&self.shared.network)
    }

    pub(crate) fn stats(&self) -> GraphStats {
        self.shared.queue.lock().stats(self.shared.warm_up)
    }

    pub(crate) fn batching(&self) -> BatchingState {
        let queue = self.shared.queue.lock();
        let rules = queue.rules();
        BatchingState {
            max_rows: rules.axes.as_ref().map_or(1, |_| rules.max_rows),
            max_wait: rules.max_wait,
            warning: self.shared.trial.warning.clone(),
        }
    }

    pub(crate) fn close(&self) {
        self.shared.close(&ComputeError::Closed);
    }

    /// Answers one request whose inputs have been checked, and says when its run was, if one ended.
    pub(crate) async fn compute(&self, inputs: Vec<NamedTensor>, terms: Terms) -> Reply {
        let shared = &self.shared;
        let now = Instant::now();
        if terms.deadline.is_some_and(|deadline| deadline <= now) {
            return (Err(ComputeError::DeadlineExceeded), None);
        }
        let (answer, mut place) = {
            let mut queue = shared.queue.lock();
            if shared.may_run_in_place(&inputs)
                && let Some(session) = queue.lease_in_place(&inputs)
            {
                if let Some(turn) = shared.share.try_turn() {
                    drop(queue);
                    let reply = shared.run_in_place(session, &inputs, now);
                    drop(turn);
                    return reply;
                }
                queue.give_back(session);
            }
            let (reply, answer) = oneshot::channel();
            let place = match queue.join(inputs, terms, now, reply) {
                Ok(place) => place,
                Err(Refused::Full) => {
                    let full = ComputeError::QueueFull {
                        graph: shared.graph.clone(),
                        waiting: queue.depth(),
                    };
                    return (Err(full), None);
                }
                Err(Refused::Closed(reason)) => return (Err(reason), None),
            };
            let depth = queue.depth();
            // A thread whose session is in a run looks again when that is over.
            shared.wake(queue);
            shared.observer.queued(&shared.graph, depth);
            (
                answer,
                PlaceInQueue {
                    shared,
                    place: Some(place),
                },
            )
        };
        let answer = match terms.deadline {
            None => answer.await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(answer) => answer,
                // Dropping the place takes the request out of the queue, if it is still there.
                Err(_) => return (Err(ComputeError::DeadlineExceeded), None),
            },
        };
        // Of a request that was cut, pieces may still wait after the first has failed.
        if matches!(answer, Ok((Ok(_), _))) {
            place.place = None;
        }
        // A session thread answers whatever it takes, so a reply dropped unanswered means that the graph went away.
        answer.unwrap_or((Err(ComputeError::Closed), None))
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.close();
    }
}

/// What is asked for, as far as the trial has shown it to be possible.
fn rules(settings: &Settings, trial: &trial::Outcome) -> Rules {
    let batching = &settings.batching;
    let axes = match batching.mode {
        BatchingMode::Off => None,
        BatchingMode::Auto | BatchingMode::On => trial.axes.clone(),
    };
    let max_rows = match batching.mode {
        BatchingMode::Auto => batching.max_rows.min(trial.max_rows),
        BatchingMode::On | BatchingMode::Off => batching.max_rows,
    };
    let mut preferred: Vec<u32> = batching
        .preferred_rows
        .iter()
        .copied()
        .filter(|rows| (1..=max_rows).contains(rows))
        .collect();
    preferred.sort_unstable();
    preferred.dedup();
    Rules {
        axes,
        max_rows: max_rows.max(1),
        // What the trial found is how many rows are worth a run, not how many one may have.
        cuts: batching.mode == BatchingMode::On,
        max_wait: batching.max_wait,
        preferred,
        capacity: settings.queue_capacity,
        capacity_bytes: settings.queue_bytes,
    }
}

/// A session that has made its first runs.
fn warm(network: &dyn Network, warm_up: &mut WarmUp) -> Result<Box<dyn Session>, String> {
    let session = guarded(|| network.session())?;
    match warm_up.run(session) {
        Some(session) => Ok(session),
        // One that panics on made-up input is thrown away as it would be on a caller's.
        None => guarded(|| network.session()),
    }
}

/// A caller's place in the queue, given up when the caller goes away before the answer.
struct PlaceInQueue<'a> {
    shared: &'a Shared,
    place: Option<Place>,
}

impl Drop for PlaceInQueue<'_> {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            let left = self.shared.queue.lock().leave(place);
            // The entries' tensors are freed here, after the lock.
            drop(left);
        }
    }
}

impl Shared {
    /// If there is work, has one session thread look at it: one that is about to anyway, one that sleeps or, where none
    /// does, one more, as long as there are fewer than sessions.
    fn wake(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        if !queue.has_work() || queue.threads.gathering() {
            return;
        }
        if queue.threads.asleep() {
            drop(queue);
            self.work.notify_one();
            return;
        }
        if !queue.threads.begin() {
            // All are about, and look before they sleep.
            return;
        }
        drop(queue);
        if let Err(words) = session_thread::spawn(Arc::clone(self)) {
            tracing::warn!(
                graph = self.graph,
                words,
                "fewer sessions run than the graph has"
            );
            self.queue.lock().threads.end();
        }
    }

    fn may_run_in_place(&self, inputs: &[NamedTensor]) -> bool {
        self.in_place_bytes.is_some_and(|most| {
            inputs
                .iter()
                .map(|input| input.tensor.byte_len())
                .sum::<usize>()
                <= most
        })
    }

    /// Runs one request on the caller's thread.
    fn run_in_place(
        self: &Arc<Self>,
        mut session: Box<dyn Session>,
        inputs: &[NamedTensor],
        start: Instant,
    ) -> Reply {
        let (answer, ran) = self.run(&mut *session, inputs, 1, start, true);
        let panicked = matches!(answer, Err(ComputeError::Panicked(_)));
        let mut queue = self.queue.lock();
        queue.count(ran);
        let session = if panicked {
            queue.lose();
            Some(session)
        } else {
            queue.give_back(session);
            None
        };
        // A session thread that gives back looks for work itself; a caller cannot.
        self.wake(queue);
        if let Some(session) = session {
            discard(session);
        }
        self.report(&answer, ran, Duration::ZERO);
        let times = RunTimes {
            queued: start,
            started: start,
            ended: start + ran.compute,
            batch_size: 1,
            in_place: true,
        };
        (answer, Some(times))
    }

    /// Runs inputs of `batch_size` requests. A session that panicked says so in its answer, and is not to be used again.
    fn run(
        &self,
        session: &mut dyn Session,
        inputs: &[NamedTensor],
        batch_size: usize,
        start: Instant,
        in_place: bool,
    ) -> (Answer, Ran) {
        let answer = catch_unwind(AssertUnwindSafe(|| session.run(inputs)));
        let compute = start.elapsed();
        let answer = answer.unwrap_or_else(|panic| {
            let words = panic_words(&*panic);
            tracing::error!(graph = self.graph, backend = %self.backend, words, "a session panicked and is replaced");
            Err(ComputeError::Panicked(words))
        });
        let overran = self
            .may_run_in_place(inputs)
            .then(|| compute > self.in_place_bound * OVERRUN);
        let ran = Ran {
            in_place,
            overran,
            batch_size,
            compute,
        };
        (answer, ran)
    }

    /// Tells the observer of a run; `queued` is how long the longest-waiting request waited.
    fn report(&self, answer: &Answer, ran: Ran, queued: Duration) {
        self.observer.ran(RunReport {
            graph: &self.graph,
            backend: self.backend,
            batch_size: ran.batch_size,
            queue: queued,
            compute: ran.compute,
            succeeded: answer.is_ok(),
            in_place: ran.in_place,
        });
    }

    /// Takes nothing any more and tells those who wait why.
    fn close(&self, reason: &ComputeError) {
        let waiting = self.queue.lock().close(reason.clone());
        self.work.notify_all();
        for entry in waiting {
            entry.answer(Err(reason.clone()), None);
        }
    }
}

/// Drops a session that panicked; it may well panic again.
fn discard(session: Box<dyn Session>) {
    let _ = catch_unwind(AssertUnwindSafe(move || drop(session)));
}
