//! What waits and what is free, under one lock: requests by priority and arrival, and the sessions that no one has
//! leased.
//!
//! Pure state, without threads or waiting: every rule about who runs next, and with whom, is here and can be tested
//! step by step.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::entry::{Entry, Large, Reply, What};
use super::rows::{self, RowAxes};
use super::session_thread::Threads;
use super::settings::{Priority, Terms};
use crate::backend::Session;
use crate::error::ComputeError;
use crate::graph::GraphStats;
use crate::tensor::NamedTensor;

/// Runs far over the bound weigh this much against one within it; at [`LONGEST_PATIENCE`] no more runs are made in place.
/// So a graph is given up after a few long runs in a row, but not for the rare one during which the operating system
/// had something better to do, and comes back once its runs through the queue are short again.
const OVERRUN_WEIGHT: u32 = 16;
const LONGEST_PATIENCE: u32 = 4 * OVERRUN_WEIGHT;

/// After so many runs that were led by others, those of a lower priority lead one.
const MOST_PASSED_OVER: u32 = 8;

/// How many of those that wait are looked at for each row of a batch, as looking holds the lock. In a queue of
/// requests that mostly cannot share a run, batches stay smaller than they could be.
const LOOK_AHEAD: usize = 4;

/// Of the times and sizes of runs, how much the last one counts: one part in so many.
const SMOOTHING: u32 = 8;

/// While a run through the queue answers so many requests and more, on average, none is run in place: it would be
/// missing in the next run, and two small runs cost more than a large one with its hand-off. Two callers are better
/// off in place.
const MANY_A_RUN: f32 = 2.5;

/// One run in so many is thought to have company on its way, whoever shared those before it: that is how a crowd is found.
const LOOKS_ROUND: u64 = 16;

/// How requests share runs, as it was found to be possible.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Where rows are; `None` where each request runs alone.
    pub(super) axes: Option<Arc<RowAxes>>,
    pub(super) max_rows: u32,
    /// Whether a request with more rows is cut; else it runs alone, whole.
    pub(super) cuts: bool,
    pub(super) max_wait: Duration,
    /// In rising order.
    pub(super) preferred: Vec<u32>,
    pub(super) capacity: usize,
    pub(super) capacity_bytes: usize,
}

/// What a session thread does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Take a batch and run it.
    Run,
    /// Make a session in place of one that panicked.
    Replace,
    /// Nothing until then, unless something comes.
    WaitUntil(Instant),
    /// Nothing now.
    Wait,
    /// Nothing ever again.
    End,
}

/// Why a request may not wait.
#[derive(Debug)]
pub(super) enum Refused {
    /// As many wait as may, or as many bytes.
    Full,
    /// The graph is closed, for this reason.
    Closed(ComputeError),
}

/// A request's place in the queue: its entries' ids and where they wait.
#[derive(Debug, Clone)]
pub(super) struct Place {
    ids: Range<u64>,
    priority: Priority,
}

/// What a run tells about the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ran {
    /// Whether it was made on the caller's own thread.
    pub(super) in_place: bool,
    /// Whether it took far longer than a run in place may; `None` if it was too large to be made in place anyway.
    pub(super) overran: Option<bool>,
    /// How many requests it answered.
    pub(super) batch_size: usize,
    /// How long the backend took.
    pub(super) compute: Duration,
}

/// Those of one priority.
#[derive(Default)]
struct Level {
    waiting: VecDeque<Entry>,
    /// Runs led by others while these waited.
    passed_over: u32,
}

/// The graph's state between runs.
pub(super) struct Queue {
    levels: [Level; Priority::ALL.len()],
    rules: Rules,
    next_id: u64,
    /// Requests that wait, as their callers count them.
    depth: usize,
    bytes: usize,
    idle: Vec<Box<dyn Session>>,
    /// Sessions that are alive, idle or leased.
    alive: usize,
    /// Sessions that panicked and that no thread has begun to replace.
    to_replace: usize,
    /// The threads that serve it.
    pub(super) threads: Threads,
    /// Why nothing is taken any more.
    closed: Option<ComputeError>,
    overruns: u32,
    runs: u64,
    in_place_runs: u64,
    answered: u64,
    /// How long a run takes, lately.
    compute: Duration,
    /// How many requests a run through the queue answers, lately.
    mean_batch: f32,
}

impl Queue {
    pub(super) fn new(sessions: Vec<Box<dyn Session>>, rules: Rules) -> Self {
        Self {
            levels: Default::default(),
            rules,
            next_id: 0,
            depth: 0,
            bytes: 0,
            alive: sessions.len(),
            threads: Threads::new(sessions.len()),
            idle: sessions,
            to_replace: 0,
            closed: None,
            overruns: 0,
            runs: 0,
            in_place_runs: 0,
            answered: 0,
            compute: Duration::ZERO,
            mean_batch: 0.0,
        }
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// A session for a run on the caller's own thread: only past an empty queue, so that no one is overtaken, and only
    /// where nobody asked that requests wait for company and few find it.
    pub(super) fn lease_in_place(&mut self, inputs: &[NamedTensor]) -> Option<Box<dyn Session>> {
        let goes = self.closed.is_none()
            && self.depth == 0
            && self.levels.iter().all(|level| level.waiting.is_empty())
            && self.overruns < LONGEST_PATIENCE
            && self.mean_batch < MANY_A_RUN
            && self.rules.max_wait.is_zero()
            && !self.is_to_be_cut(inputs);
        if !goes {
            return None;
        }
        self.idle.pop_if(|session| session.is_ready_for(inputs))
    }

    /// Lets a request wait, cut where it has more rows than a run takes. The caller then wakes a session thread, if
    /// there [is work](Queue::has_work).
    pub(super) fn join(
        &mut self,
        inputs: Vec<NamedTensor>,
        terms: Terms,
        now: Instant,
        reply: oneshot::Sender<Reply>,
    ) -> Result<Place, Refused> {
        if let Some(reason) = &self.closed {
            return Err(Refused::Closed(reason.clone()));
        }
        let bytes = inputs.iter().fold(0_usize, |sum, input| {
            sum.saturating_add(input.tensor.byte_len())
        });
        // One that is larger than the bound may still wait alone: what a request holds is its sender's limit.
        let too_many_bytes =
            self.bytes > 0 && self.bytes.saturating_add(bytes) > self.rules.capacity_bytes;
        if self.depth >= self.rules.capacity || too_many_bytes {
            return Err(Refused::Full);
        }
        let max_rows = self.rules.max_rows.max(1);
        let axes = self.rules.axes.clone();
        let counted = self.count_rows(&inputs);
        let first = self.next_id;
        let push = |queue: &mut Self, rows, is_last, what| {
            let id = queue.next_id;
            queue.next_id += 1;
            let entry = Entry {
                id,
                deadline: terms.deadline,
                queued: now,
                rows,
                is_last,
                bytes: if is_last { bytes } else { 0 },
                what,
            };
            queue.level(terms.priority).waiting.push_back(entry);
        };
        match (axes, counted) {
            (Some(axes), Some(rows)) if rows > max_rows && self.rules.cuts => {
                let pieces = rows.div_ceil(max_rows);
                let of = Arc::new(Large::new(inputs, axes, pieces as usize, reply));
                for piece in 0..pieces {
                    let start = piece * max_rows;
                    let rows = start..rows.min(start.saturating_add(max_rows));
                    let what = What::Piece {
                        of: Arc::clone(&of),
                        index: piece as usize,
                        rows: rows.clone(),
                    };
                    push(self, Some(rows.end - rows.start), piece + 1 == pieces, what);
                }
            }
            (_, counted) => {
                let rows = counted.filter(|rows| *rows <= max_rows);
                push(self, rows, true, What::Whole { inputs, reply });
            }
        }
        self.depth += 1;
        self.bytes += bytes;
        Ok(Place {
            ids: first..self.next_id,
            priority: terms.priority,
        })
    }

    /// Takes a request back whose caller has gone away: what of it still waits.
    pub(super) fn leave(&mut self, place: &Place) -> SmallVec<[Entry; 1]> {
        let waiting = &mut self.level(place.priority).waiting;
        // Ids rise along the queue, and those of one request follow one another.
        let first = waiting.partition_point(|entry| entry.id < place.ids.start);
        let count = waiting
            .iter()
            .skip(first)
            .take_while(|entry| entry.id < place.ids.end)
            .count();
        let left: SmallVec<[Entry; 1]> = waiting.drain(first..first + count).collect();
        for entry in &left {
            self.uncount(entry);
        }
        left
    }

    /// What a session thread is to do.
    pub(super) fn next(&self, now: Instant) -> Next {
        if self.closed.is_some() {
            return Next::End;
        }
        if self.to_replace > 0 {
            return Next::Replace;
        }
        if self.idle.is_empty() {
            return Next::Wait;
        }
        let Some(leader) = self.leader() else {
            return Next::Wait;
        };
        match self.wait_of(leader, now) {
            Some(until) => Next::WaitUntil(until),
            None => Next::Run,
        }
    }

    /// A session and the batch that it is to run, if there is one for it now. Entries that nobody needs run any more go
    /// to `spent`, to be answered without the lock.
    pub(super) fn take(
        &mut self,
        now: Instant,
        spent: &mut Vec<Entry>,
    ) -> Option<(Box<dyn Session>, Vec<Entry>)> {
        if self.closed.is_some() || self.idle.is_empty() {
            return None;
        }
        let leader = loop {
            let leader = self.leader()?;
            let entry = self.front(leader)?;
            if !entry.is_late(now) && entry.is_wanted() {
                break leader;
            }
            spent.extend(self.remove(leader, 0));
        };
        if self.wait_of(leader, now).is_some() {
            return None;
        }
        let session = self.idle.pop()?;
        let mut company = self.company(leader);
        let target = self.target(&company);
        company.trim(target);
        let batch = self.remove_company(leader, &company, now, spent);
        self.passed(leader);
        Some((session, batch))
    }

    /// Whether a run that could begin now is better begun once those have come who are on their way: fewer wait than half
    /// of what a run answers, and nobody asked for a wait, which then is all that there is. Where more wait, the others
    /// are better prepared during this run than before it.
    pub(super) fn expects_more(&self) -> bool {
        let rules = &self.rules;
        let few =
            (2 * self.depth) as f32 <= self.mean_batch || self.runs.is_multiple_of(LOOKS_ROUND);
        few && rules.axes.is_some()
            && rules.max_wait.is_zero()
            && self
                .leader()
                .is_some_and(|leader| (1..rules.max_rows).contains(&self.company(leader).rows))
    }

    /// How many entries have ever been in it.
    pub(super) fn joined(&self) -> u64 {
        self.next_id
    }

    /// Whether a session thread has something to do.
    pub(super) fn has_work(&self) -> bool {
        self.to_replace > 0
            || (!self.idle.is_empty() && self.levels.iter().any(|level| !level.waiting.is_empty()))
    }

    /// Returns a leased session.
    pub(super) fn give_back(&mut self, session: Box<dyn Session>) {
        self.idle.push(session);
    }

    /// A leased session panicked and will not come back.
    pub(super) fn lose(&mut self) {
        self.alive -= 1;
        self.to_replace += 1;
    }

    /// A thread sees to one of the lost sessions.
    pub(super) fn begin_replacing(&mut self) {
        self.to_replace = self.to_replace.saturating_sub(1);
    }

    /// A session in a lost one's place.
    pub(super) fn add(&mut self, session: Box<dyn Session>) {
        self.alive += 1;
        self.idle.push(session);
    }

    /// Takes nothing any more, for this reason; returns those who wait, to be told it without the lock.
    pub(super) fn close(&mut self, reason: ComputeError) -> Vec<Entry> {
        self.closed.get_or_insert(reason);
        self.depth = 0;
        self.bytes = 0;
        self.levels
            .iter_mut()
            .flat_map(|level| level.waiting.drain(..))
            .collect()
    }

    /// How many requests wait.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// How many sessions are alive.
    pub(super) fn alive(&self) -> usize {
        self.alive
    }

    pub(super) fn stats(&self, warm_up: Option<Duration>) -> GraphStats {
        GraphStats {
            queue_depth: self.depth,
            queue_capacity: self.rules.capacity,
            queue_bytes: self.bytes,
            sessions: self.alive,
            idle_sessions: self.idle.len(),
            runs: self.runs,
            in_place_runs: self.in_place_runs,
            answered: self.answered,
            warm_up,
        }
    }

    /// What a run has shown.
    pub(super) fn count(&mut self, ran: Ran) {
        self.runs += 1;
        self.in_place_runs += u64::from(ran.in_place);
        self.answered += ran.batch_size as u64;
        self.compute = if self.runs == 1 {
            ran.compute
        } else {
            self.compute * (SMOOTHING - 1) / SMOOTHING + ran.compute / SMOOTHING
        };
        if !ran.in_place {
            self.mean_batch += (ran.batch_size as f32 - self.mean_batch) / SMOOTHING as f32;
        }
        match ran.overran {
            // A ceiling, so that the way back is as short as the way out.
            Some(true) => {
                self.overruns = (self.overruns + OVERRUN_WEIGHT).min(2 * LONGEST_PATIENCE)
            }
            Some(false) => self.overruns = self.overruns.saturating_sub(1),
            None => {}
        }
    }

    fn count_rows(&self, inputs: &[NamedTensor]) -> Option<u32> {
        let axes = self.rules.axes.as_ref()?;
        rows::count(&axes.inputs, inputs)
    }

    fn is_to_be_cut(&self, inputs: &[NamedTensor]) -> bool {
        self.rules.cuts
            && self
                .count_rows(inputs)
                .is_some_and(|rows| rows > self.rules.max_rows)
    }

    fn level(&mut self, priority: Priority) -> &mut Level {
        let [high, normal, low] = &mut self.levels;
        match priority {
            Priority::High => high,
            Priority::Normal => normal,
            Priority::Low => low,
        }
    }

    /// The level whose first entry leads the next batch.
    fn leader(&self) -> Option<usize> {
        let waits = |(_, level): &(usize, &Level)| !level.waiting.is_empty();
        let levels = || self.levels.iter().enumerate().filter(waits);
        levels()
            .find(|(_, level)| level.passed_over >= MOST_PASSED_OVER)
            .or_else(|| levels().next())
            .map(|(at, _)| at)
    }

    fn front(&self, level: usize) -> Option<&Entry> {
        self.levels.get(level)?.waiting.front()
    }

    /// Until when the batch that this level leads waits for more; `None` when it is to run now.
    fn wait_of(&self, leader: usize, now: Instant) -> Option<Instant> {
        let rules = &self.rules;
        let entry = self.front(leader)?;
        if rules.max_wait.is_zero() || entry.rows.is_none() || rules.max_rows <= 1 {
            return None;
        }
        let mut until = entry.queued + rules.max_wait;
        if let Some(deadline) = entry.deadline {
            // It is to be answered by then: the run is to fit twice, and waiting never takes more than half of the time.
            let begin = deadline.checked_sub(self.compute * 2).unwrap_or(now);
            let half = entry.queued + deadline.saturating_duration_since(entry.queued) / 2;
            until = until.min(begin).min(half);
        }
        if until <= now {
            return None;
        }
        let company = self.company(leader);
        let full = match rules.preferred.first() {
            Some(smallest) => company.rows >= *smallest,
            None => company.rows >= rules.max_rows,
        };
        (!full).then_some(until)
    }

    /// Who could run with the first of this level, as far as a batch goes: by priority, then by arrival.
    fn company(&self, leader: usize) -> Company {
        let mut company = Company::default();
        let Some(first) = self.front(leader) else {
            return company;
        };
        let (Some(axes), Some(rows)) = (&self.rules.axes, first.rows) else {
            return company;
        };
        company.rows = rows;
        let max_rows = self.rules.max_rows;
        let mut looks = (max_rows as usize).saturating_mul(LOOK_AHEAD);
        let order = std::iter::once(leader)
            .chain((0..self.levels.len()).filter(move |level| *level != leader));
        for level in order {
            let Some(waiting) = self.levels.get(level).map(|level| &level.waiting) else {
                continue;
            };
            for (at, entry) in waiting.iter().enumerate() {
                if level == leader && at == 0 {
                    continue;
                }
                if company.rows >= max_rows || looks == 0 {
                    return company;
                }
                looks -= 1;
                let Some(rows) = entry.rows else { continue };
                if rows <= max_rows - company.rows
                    && rows::agree(&axes.inputs, first.inputs().tensors, entry.inputs().tensors)
                {
                    company.rows += rows;
                    company.members.push((level, at, rows));
                }
            }
        }
        company
    }

    /// How many rows to run of those that could: the largest preferred number that they fill, if there is one.
    fn target(&self, company: &Company) -> u32 {
        let preferred = self.rules.preferred.iter().rev();
        preferred
            .copied()
            .find(|rows| *rows <= company.rows)
            .unwrap_or(company.rows)
    }

    fn remove_company(
        &mut self,
        leader: usize,
        company: &Company,
        now: Instant,
        spent: &mut Vec<Entry>,
    ) -> Vec<Entry> {
        let mut batch = Vec::with_capacity(company.members.len() + 1);
        // From the back, so that places before keep their numbers; the leader's, 0, last.
        for (level, at, _) in company.members.iter().rev() {
            if let Some(entry) = self.remove(*level, *at) {
                if entry.is_late(now) || !entry.is_wanted() {
                    spent.push(entry);
                } else {
                    batch.push(entry);
                }
            }
        }
        batch.extend(self.remove(leader, 0));
        batch.reverse();
        batch
    }

    fn remove(&mut self, level: usize, at: usize) -> Option<Entry> {
        let entry = self.levels.get_mut(level)?.waiting.remove(at)?;
        self.uncount(&entry);
        Some(entry)
    }

    fn uncount(&mut self, entry: &Entry) {
        if entry.is_last {
            self.depth -= 1;
            self.bytes -= entry.bytes;
        }
    }

    /// A batch led by this level has been taken.
    fn passed(&mut self, leader: usize) {
        for (at, level) in self.levels.iter_mut().enumerate() {
            if at == leader || level.waiting.is_empty() {
                level.passed_over = 0;
            } else if at > leader {
                level.passed_over += 1;
            }
        }
    }
}

/// Those who run with a leader, and how many rows they are together.
#[derive(Debug, Default)]
struct Company {
    rows: u32,
    /// Level, place in it, rows.
    members: SmallVec<[(usize, usize, u32); 32]>,
}

impl Company {
    /// Sends the last ones away until there are at most `rows`.
    fn trim(&mut self, rows: u32) {
        while self.rows > rows
            && let Some((_, _, last)) = self.members.pop()
        {
            self.rows -= last;
        }
    }
}
