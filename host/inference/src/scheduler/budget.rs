//! The threads that all graphs of a process compute on, and whose turn it is when there are not enough.
//!
//! A session takes a turn for each run. When more want one than there are threads, the graph that has had the least of
//! them goes first (start-time fair queueing, Goyal, Vin and Cheng, 1996, with a graph for a flow): ten long runs of one
//! model do not stand before a short one of another. A graph that was idle does not save up for later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::{self, Thread};

/// The threads there are to compute on.
#[derive(Debug)]
pub(crate) struct Budget {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    total: usize,
    free: usize,
    /// What each graph has had, in thread-nanoseconds; never less than what the last to go had when it went.
    used: Vec<u64>,
    /// Places in `used` that no graph has.
    unused: Vec<usize>,
    /// What the last to go had had.
    clock: u64,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    graph: usize,
    threads: usize,
    turn: Arc<Signal>,
}

#[derive(Debug)]
struct Signal {
    given: AtomicBool,
    thread: Thread,
}

/// One graph's part of the budget.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    graph: usize,
    threads: usize,
}

/// Threads that are a run's until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    share: &'a Share,
    begun: Instant,
}

impl Budget {
    /// A budget of so many threads; at least one.
    pub(crate) fn new(threads: usize) -> Arc<Self> {
        let total = threads.max(1);
        Arc::new(Self {
            state: Mutex::new(State {
                total,
                free: total,
                used: Vec::new(),
                unused: Vec::new(),
                clock: 0,
                waiting: Vec::new(),
            }),
        })
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.state.lock().total
    }

    /// A graph's part, whose runs take so many threads each. One that takes more than there are takes them all.
    pub(super) fn share(self: &Arc<Self>, threads: usize) -> Share {
        let mut state = self.state.lock();
        let threads = threads.clamp(1, state.total);
        let clock = state.clock;
        let graph = match state.unused.pop() {
            Some(graph) => graph,
            None => {
                state.used.push(0);
                state.used.len() - 1
            }
        };
        state.has_had(graph, |_| clock);
        drop(state);
        Share {
            budget: Arc::clone(self),
            graph,
            threads,
        }
    }
}

impl State {
    fn has_had(&mut self, graph: usize, now: impl FnOnce(u64) -> u64) {
        if let Some(used) = self.used.get_mut(graph) {
            *used = now(*used);
        }
    }

    fn had(&self, graph: usize) -> u64 {
        self.used.get(graph).copied().unwrap_or_default()
    }

    /// Takes the threads if they are free and nobody waits.
    fn take(&mut self, graph: usize, threads: usize) -> bool {
        let is_free = self.waiting.is_empty() && self.free >= threads;
        if is_free {
            self.free -= threads;
            self.go(graph);
        }
        is_free
    }

    /// A graph goes: what it did not use while it was idle is forgotten.
    fn go(&mut self, graph: usize) {
        let clock = self.clock;
        self.has_had(graph, |used| used.max(clock));
        self.clock = self.had(graph);
    }

    /// Gives what is free to those who wait, least used first. Who needs more than is free is waited for, as smaller
    /// ones would go before it for ever.
    fn give(&mut self) {
        while let Some(next) = self.next() {
            let Some(waiting) = self.waiting.get(next) else {
                return;
            };
            if waiting.threads > self.free {
                return;
            }
            let waiting = self.waiting.remove(next);
            self.free -= waiting.threads;
            self.go(waiting.graph);
            waiting.turn.given.store(true, Ordering::Release);
            waiting.turn.thread.unpark();
        }
    }

    /// Who of those that wait goes next: of equals, the one that came first.
    fn next(&self) -> Option<usize> {
        let had = |waiting: &Waiting| self.had(waiting.graph).max(self.clock);
        let waiting = self.waiting.iter().enumerate();
        waiting
            .min_by_key(|(_, waiting)| had(waiting))
            .map(|(index, _)| index)
    }
}

impl Share {
    /// A turn, if one can be had at once.
    pub(super) fn try_turn(&self) -> Option<Turn<'_>> {
        let taken = self.budget.state.lock().take(self.graph, self.threads);
        taken.then(|| self.turn_now())
    }

    /// A turn. Blocks the thread until it comes.
    pub(super) fn turn(&self) -> Turn<'_> {
        let signal = {
            let mut state = self.budget.state.lock();
            if state.take(self.graph, self.threads) {
                return self.turn_now();
            }
            let turn = Arc::new(Signal {
                given: AtomicBool::new(false),
                thread: thread::current(),
            });
            state.waiting.push(Waiting {
                graph: self.graph,
                threads: self.threads,
                turn: Arc::clone(&turn),
            });
            state.give();
            turn
        };
        while !signal.given.load(Ordering::Acquire) {
            thread::park();
        }
        self.turn_now()
    }

    fn turn_now(&self) -> Turn<'_> {
        Turn {
            share: self,
            begun: Instant::now(),
        }
    }

    fn end(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let took = took.saturating_mul(self.threads as u64);
        let mut state = self.budget.state.lock();
        state.has_had(self.graph, |used| used.saturating_add(took));
        state.free += self.threads;
        state.give();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.state.lock().unused.push(self.graph);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.share.end(self.begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use super::*;

    /// Both graphs always want a turn; runs take what `takes` says. How much each has had in the end.
    fn shared_out(takes: [u64; 2], sessions: [usize; 2]) -> [u64; 2] {
        let budget = Budget::new(1);
        let shares = [budget.share(1), budget.share(1)];
        let mut had = [0, 0];
        let mut state = budget.state.lock();
        state.free = 0;
        let wait = |state: &mut State, graph: usize| {
            state.waiting.push(Waiting {
                graph,
                threads: 1,
                turn: Arc::new(Signal {
                    given: AtomicBool::new(false),
                    thread: thread::current(),
                }),
            });
        };
        for (share, sessions) in shares.iter().zip(sessions) {
            (0..sessions).for_each(|_| wait(&mut state, share.graph));
        }
        for _ in 0..10_000 {
            let Some(next) = state.next() else { break };
            let graph = state.waiting.remove(next).graph;
            state.go(graph);
            for (share, (had, takes)) in shares.iter().zip(had.iter_mut().zip(takes)) {
                if share.graph == graph {
                    *had += takes;
                    state.has_had(graph, |used| used + takes);
                }
            }
            wait(&mut state, graph);
        }
        drop(state);
        had
    }

    #[test]
    fn graphs_get_equal_parts_however_long_their_runs_and_many_their_sessions() {
        for (takes, sessions) in [([5, 5], [1, 1]), ([1, 100], [1, 1]), ([7, 5], [1, 16])] {
            let [one, other] = shared_out(takes, sessions);
            let (least, most) = (one.min(other) as f64, one.max(other) as f64);
            assert!(most / least < 1.05, "{takes:?} {sessions:?}: {one} {other}");
        }
    }

    #[test]
    fn who_was_idle_has_not_saved_up() {
        let budget = Budget::new(1);
        let (busy, idle) = (budget.share(1), budget.share(1));
        for _ in 0..10 {
            assert!(busy.try_turn().is_some());
            busy.end(Duration::from_secs(1));
            budget.state.lock().free -= 1;
        }
        drop(idle.try_turn());
        let state = budget.state.lock();
        // Its turn began where the others were, so that it owes as much as they do from now on.
        assert!(state.had(idle.graph) + 1_500_000_000 > state.had(busy.graph));
    }

    #[test]
    fn no_more_threads_are_used_than_there_are() {
        let budget = Budget::new(3);
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for threads in [1, 1, 2, 2, 3, 9] {
                let share = budget.share(threads);
                let (inside, most) = (&inside, &most);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let turn = share.turn();
                        let now = inside.fetch_add(share.threads, Ordering::SeqCst) + share.threads;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(share.threads, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!(budget.state.lock().free, 3);
    }

    #[test]
    fn a_turn_is_not_had_before_those_who_wait() {
        let budget = Budget::new(1);
        let (first, second) = (budget.share(1), budget.share(1));
        let held = first.try_turn();
        assert!(held.is_some());
        assert!(second.try_turn().is_none());
        let (went, goes) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _turn = second.turn();
                let _ = went.send(());
            });
            while budget.state.lock().waiting.is_empty() {
                thread::yield_now();
            }
            assert!(first.try_turn().is_none());
            drop(held);
            assert!(goes.recv_timeout(Duration::from_secs(10)).is_ok());
        });
        assert!(first.try_turn().is_some());
    }
}
