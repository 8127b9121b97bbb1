//! What waits and what is free, under one lock: requests in arrival order, and the sessions that no one has leased.
//!
//! Pure state, without threads or waiting: every rule about who runs next is here and can be tested step by step.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::backend::Session;
use crate::error::ComputeError;
use crate::graph::GraphStats;
use crate::observe::RunTimes;
use crate::tensor::NamedTensor;

/// What a caller is answered.
pub(super) type Answer = Result<Vec<NamedTensor>, ComputeError>;

/// An answer, and the run it comes from if there was one.
pub(super) type Reply = (Answer, Option<RunTimes>);

/// A request that waits for a session.
pub(super) struct Entry {
    /// Tells it apart from the others, so that its caller can take it back.
    pub(super) id: u64,
    /// The signature's inputs, in its order.
    pub(super) inputs: Vec<NamedTensor>,
    /// When the answer stops being of use.
    pub(super) deadline: Option<Instant>,
    /// When it joined the queue.
    pub(super) queued: Instant,
    /// Where the answer goes; closed once the caller has gone away.
    pub(super) reply: oneshot::Sender<Reply>,
}

/// Runs far over the bound weigh this much against one within it; at [`LONGEST_PATIENCE`] no more runs are made in place.
/// So a graph is given up after a few long runs in a row, but not for the rare one during which the operating system
/// had something better to do, and comes back once its runs through the queue are short again.
const OVERRUN_WEIGHT: u32 = 16;
const LONGEST_PATIENCE: u32 = 4 * OVERRUN_WEIGHT;

/// What a session thread does next.
pub(super) enum Work {
    /// Run these requests, which all still want an answer, as one batch in this session.
    Run(Box<dyn Session>, Vec<Entry>),
    /// Make a session in place of one that panicked.
    Replace,
    /// Nothing now.
    Wait,
    /// Nothing ever again.
    End,
}

/// What a run tells about the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ran {
    /// Whether it was made on the caller's own thread.
    pub(super) in_place: bool,
    /// Whether it took far longer than a run in place may; `None` if it was too large to be made in place anyway.
    pub(super) overran: Option<bool>,
}

/// The graph's state between runs.
pub(super) struct Queue {
    waiting: VecDeque<Entry>,
    capacity: usize,
    next_id: u64,
    idle: Vec<Box<dyn Session>>,
    /// Sessions that are alive, idle or leased.
    alive: usize,
    /// Sessions that panicked and that no thread has begun to replace.
    to_replace: usize,
    /// Why nothing is taken any more.
    closed: Option<ComputeError>,
    overruns: u32,
    runs: u64,
    in_place_runs: u64,
}

impl Queue {
    pub(super) fn new(sessions: Vec<Box<dyn Session>>, capacity: usize) -> Self {
        Self {
            // Grown on demand: a bound may be far above what ever waits.
            waiting: VecDeque::new(),
            capacity,
            next_id: 0,
            alive: sessions.len(),
            idle: sessions,
            to_replace: 0,
            closed: None,
            overruns: 0,
            runs: 0,
            in_place_runs: 0,
        }
    }

    /// A session for a run on the caller's own thread: only past an empty queue, so that no one is overtaken.
    pub(super) fn lease_in_place(&mut self, inputs: &[NamedTensor]) -> Option<Box<dyn Session>> {
        if self.closed.is_some() || !self.waiting.is_empty() || self.overruns >= LONGEST_PATIENCE {
            return None;
        }
        self.idle.pop_if(|session| session.is_ready_for(inputs))
    }

    /// Lets a request wait, and says under which id. The caller then wakes a session thread.
    ///
    /// # Errors
    /// `Ok(None)` when the queue is at its bound; the graph's last words when it is closed.
    pub(super) fn join(
        &mut self,
        inputs: Vec<NamedTensor>,
        deadline: Option<Instant>,
        now: Instant,
        reply: oneshot::Sender<Reply>,
    ) -> Result<Option<u64>, ComputeError> {
        if let Some(reason) = &self.closed {
            return Err(reason.clone());
        }
        if self.waiting.len() >= self.capacity {
            return Ok(None);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push_back(Entry {
            id,
            inputs,
            deadline,
            queued: now,
            reply,
        });
        Ok(Some(id))
    }

    /// Takes a request back whose caller has gone away. Nothing happens if it no longer waits.
    pub(super) fn leave(&mut self, id: u64) -> Option<Entry> {
        // Ids rise along the queue.
        let index = self
            .waiting
            .binary_search_by_key(&id, |entry| entry.id)
            .ok()?;
        self.waiting.remove(index)
    }

    /// What to do next. Requests whose deadline has passed go to `expired`, to be answered without the lock.
    pub(super) fn take(&mut self, now: Instant, most: usize, expired: &mut Vec<Entry>) -> Work {
        if self.closed.is_some() {
            return Work::End;
        }
        if self.to_replace > 0 {
            self.to_replace -= 1;
            return Work::Replace;
        }
        let Some(session) = self.idle.pop() else {
            return Work::Wait;
        };
        let batch = self.take_batch(now, most, expired);
        if batch.is_empty() {
            self.idle.push(session);
            return Work::Wait;
        }
        Work::Run(session, batch)
    }

    /// The oldest requests that still want an answer, at most `most`. Where requests come to be batched, the rule of who
    /// goes together belongs here.
    fn take_batch(&mut self, now: Instant, most: usize, expired: &mut Vec<Entry>) -> Vec<Entry> {
        let mut batch = Vec::with_capacity(most.min(self.waiting.len()));
        while batch.len() < most
            && let Some(entry) = self.waiting.pop_front()
        {
            if entry.deadline.is_some_and(|deadline| deadline <= now) {
                expired.push(entry);
            } else if !entry.reply.is_closed() {
                batch.push(entry);
            }
        }
        batch
    }

    /// Returns a leased session.
    pub(super) fn give_back(&mut self, session: Box<dyn Session>, ran: Ran) {
        self.idle.push(session);
        self.count(ran);
    }

    /// A leased session panicked and will not come back.
    pub(super) fn lose(&mut self, ran: Ran) {
        self.alive -= 1;
        self.to_replace += 1;
        self.count(ran);
    }

    /// A session that takes a lost one's place.
    pub(super) fn replace(&mut self, session: Box<dyn Session>) {
        self.alive += 1;
        self.idle.push(session);
    }

    /// Whether another session thread has something to do.
    pub(super) fn has_work(&self) -> bool {
        self.to_replace > 0 || (!self.waiting.is_empty() && !self.idle.is_empty())
    }

    /// Takes nothing any more, for this reason; returns those who wait, to be told it without the lock.
    pub(super) fn close(&mut self, reason: ComputeError) -> VecDeque<Entry> {
        self.closed.get_or_insert(reason);
        std::mem::take(&mut self.waiting)
    }

    /// How many requests wait.
    pub(super) fn depth(&self) -> usize {
        self.waiting.len()
    }

    /// How many sessions are alive.
    pub(super) fn alive(&self) -> usize {
        self.alive
    }

    pub(super) fn stats(&self, warm_up: Option<Duration>) -> GraphStats {
        GraphStats {
            queue_depth: self.waiting.len(),
            queue_capacity: self.capacity,
            sessions: self.alive,
            idle_sessions: self.idle.len(),
            runs: self.runs,
            in_place_runs: self.in_place_runs,
            warm_up,
        }
    }

    fn count(&mut self, ran: Ran) {
        self.runs += 1;
        self.in_place_runs += u64::from(ran.in_place);
        match ran.overran {
            // A ceiling, so that the way back is as short as the way out.
            Some(true) => {
                self.overruns = (self.overruns + OVERRUN_WEIGHT).min(2 * LONGEST_PATIENCE)
            }
            Some(false) => self.overruns = self.overruns.saturating_sub(1),
            None => {}
        }
    }
}
