//! The threads that run what waits: one from the start and, while there is work for more, up to one for each session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::budget::Turn;
use super::entry::{Answer, Entry};
use super::queue::{Next, Queue, Ran};
use super::rows::{self, Buffers, RowAxes, Rows};
use super::{Shared, discard};
use crate::backend::{Session, guarded};
use crate::error::ComputeError;
use crate::observe::RunTimes;
use crate::sync::{MutexGuard, thread};
use crate::tensor::NamedTensor;

/// How long a run may give way at most: who wants the processor may have nothing to do with it.
const GIVES_WAY: Duration = Duration::from_millis(2);

/// How many session threads there are in this process, and that one has ended.
static ALIVE: (parking_lot::Mutex<usize>, parking_lot::Condvar) =
    (parking_lot::Mutex::new(0), parking_lot::Condvar::new());

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

/// How many session threads a graph has and may have; under its queue's lock.
pub(super) struct Threads {
    running: usize,
    asleep: usize,
    /// Those that let others go first and then look at all that waits.
    gathering: usize,
    most: usize,
}

impl Threads {
    pub(super) fn new(most: usize) -> Threads {
        Threads {
            running: 0,
            asleep: 0,
            gathering: 0,
            most,
        }
    }

    /// Whether one more may start, which is then to be started.
    pub(super) fn begin(&mut self) -> bool {
        let may = self.running < self.most;
        self.running += usize::from(may);
        may
    }

    /// One that was to be started did not.
    pub(super) fn end(&mut self) {
        self.running -= 1;
    }

    /// Whether one is about to look at what waits, so that none need be woken for it.
    pub(super) fn gathering(&self) -> bool {
        self.gathering > 0
    }

    /// Whether one sleeps, or has been woken and not yet looked.
    pub(super) fn asleep(&self) -> bool {
        self.asleep > 0
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

fn serve(shared: &Arc<Shared>) {
    let mut spent = Vec::new();
    let mut buffers = Buffers::default();
    let mut queue = shared.queue.lock();
    loop {
        match queue.next(Instant::now()) {
            Next::Run => {
                gather(&mut queue);
                // Whose turn it is decides another lock; while this thread waits for it, more may come and share the run.
                let turn = match shared.share.try_turn() {
                    Some(turn) => turn,
                    None => MutexGuard::unlocked(&mut queue, || shared.share.turn()),
                };
                let taken = queue.take(Instant::now(), &mut spent);
                // One wake-up may have been meant for several requests.
                let more = queue.has_work();
                MutexGuard::unlocked(&mut queue, || {
                    if more {
                        shared.wake(shared.queue.lock());
                    }
                    for entry in spent.drain(..) {
                        entry.answer(Err(ComputeError::DeadlineExceeded), None);
                    }
                    if let Some((session, batch)) = taken {
                        run_batch(shared, session, turn, batch, &mut buffers);
                    }
                });
            }
            Next::Replace => {
                queue.begin_replacing();
                MutexGuard::unlocked(&mut queue, || replace(shared));
            }
            Next::WaitUntil(until) => {
                queue.threads.asleep += 1;
                shared.work.wait_until(&mut queue, until);
                queue.threads.asleep -= 1;
            }
            Next::Wait => {
                queue.threads.asleep += 1;
                shared.work.wait(&mut queue);
                queue.threads.asleep -= 1;
            }
            Next::End => return,
        }
    }
}

/// Lets the other threads that this one's processor is wanted for go first, for as long as requests come of it.
///
/// A session thread is woken by the first request of many and takes the processor from the very thread that was about to
/// bring the others: runs stay small, and many small ones keep the processors from bringing more. Where nobody else wants
/// the processor this costs a system call, and a lone caller that of one run in sixteen.
fn gather(queue: &mut MutexGuard<'_, Queue>) {
    if !queue.expects_more() {
        return;
    }
    queue.threads.gathering += 1;
    let until = Instant::now() + GIVES_WAY;
    loop {
        let joined = queue.joined();
        MutexGuard::unlocked(queue, thread::yield_now);
        if queue.joined() == joined || !queue.expects_more() || Instant::now() >= until {
            break;
        }
    }
    queue.threads.gathering -= 1;
}

/// Runs a batch, gives the session and the turn back and answers every caller with its own rows. What fails in company is
/// run again alone, so that only the guilty caller is told.
fn run_batch(
    shared: &Shared,
    session: Box<dyn Session>,
    turn: Turn<'_>,
    batch: Vec<Entry>,
    buffers: &mut Buffers,
) {
    let mut leased = Leased {
        shared,
        session: Some(session),
        ran: SmallVec::new(),
    };
    let together = leased.run(&batch, buffers);
    if together.answer.is_err() && batch.len() > 1 {
        let apart: Vec<_> = batch
            .iter()
            .map(|entry| leased.run_apart(entry, buffers))
            .collect();
        drop((leased, turn));
        for (entry, ran) in batch.into_iter().zip(apart) {
            let times = ran.times(&entry);
            entry.answer(ran.answer, times);
        }
        return;
    }
    // Both are back before the callers hear, so that their next requests find them.
    drop((leased, turn));
    let mut from = 0;
    let alone = batch.len() == 1;
    for entry in batch {
        let times = together.times(&entry);
        let answer = match (&together.answer, &shared.trial.axes) {
            (Ok(outputs), Some(axes)) if !alone => {
                let rows = from..from + entry.rows.unwrap_or_default();
                from = rows.end;
                rows::slice(&axes.outputs, outputs, &rows).map_err(ComputeError::Backend)
            }
            (answer, _) => answer.clone(),
        };
        entry.answer(answer, times);
    }
}

/// A session on lease, given back when this is dropped.
struct Leased<'a> {
    shared: &'a Shared,
    /// `None` after it panicked.
    session: Option<Box<dyn Session>>,
    /// Its runs, told to the queue when it is given back.
    ran: SmallVec<[Ran; 1]>,
}

/// What came of a run.
struct Outcome {
    answer: Answer,
    /// When it was, unless it never began.
    ran: Option<(Instant, Ran)>,
}

impl Outcome {
    fn refused(why: ComputeError) -> Self {
        Self {
            answer: Err(why),
            ran: None,
        }
    }

    fn times(&self, entry: &Entry) -> Option<RunTimes> {
        self.ran.map(|(started, ran)| RunTimes {
            queued: entry.queued,
            started,
            ended: started + ran.compute,
            batch_size: ran.batch_size,
            in_place: false,
        })
    }
}

impl Leased<'_> {
    /// Runs the entry alone after it failed in company, unless nobody needs that any more.
    fn run_apart(&mut self, entry: &Entry, buffers: &mut Buffers) -> Outcome {
        if entry.is_late(Instant::now()) || !entry.is_wanted() {
            return Outcome::refused(ComputeError::DeadlineExceeded);
        }
        self.run(std::slice::from_ref(entry), buffers)
    }

    /// Runs the entries as one.
    fn run(&mut self, batch: &[Entry], buffers: &mut Buffers) -> Outcome {
        let axes = self.shared.trial.axes.as_deref();
        match (batch, axes) {
            // As it is: nothing to join, nothing to copy.
            ([entry], _) if entry.is_whole() => {
                self.run_inputs(entry.inputs().tensors, batch, None)
            }
            (_, Some(axes)) => {
                let parts: SmallVec<[Rows<'_>; 32]> = batch.iter().map(Entry::inputs).collect();
                let rows = parts
                    .iter()
                    .map(|part| part.rows.end - part.rows.start)
                    .sum();
                match rows::join(&axes.inputs, &parts, buffers) {
                    Ok(inputs) => {
                        let outcome = self.run_inputs(&inputs, batch, Some((axes, rows)));
                        buffers.give_back(inputs);
                        outcome
                    }
                    Err(words) => Outcome::refused(ComputeError::Backend(words)),
                }
            }
            // Without axes nothing is ever put together.
            (_, None) => Outcome::refused(ComputeError::Closed),
        }
    }

    fn run_inputs(
        &mut self,
        inputs: &[NamedTensor],
        batch: &[Entry],
        joined: Option<(&RowAxes, u32)>,
    ) -> Outcome {
        let shared = self.shared;
        let mut session = match self.session.take() {
            Some(session) => session,
            None => match guarded(|| shared.network.session()) {
                Ok(session) => session,
                Err(words) => {
                    return Outcome::refused(ComputeError::Panicked(format!(
                        "the session panicked and could not be replaced: {words}"
                    )));
                }
            },
        };
        let start = Instant::now();
        let (mut answer, ran) = shared.run(&mut *session, inputs, batch.len(), start, false);
        if matches!(answer, Err(ComputeError::Panicked(_))) {
            discard(session);
        } else {
            self.session = Some(session);
        }
        if let (Ok(outputs), Some((axes, rows))) = (&answer, joined)
            && let Err(words) = rows::check(&axes.outputs, outputs, rows)
        {
            answer = Err(ComputeError::Backend(words));
        }
        self.ran.push(ran);
        let oldest = batch.iter().map(|entry| entry.queued).min();
        let queued = oldest.map_or(Duration::ZERO, |oldest| {
            start.saturating_duration_since(oldest)
        });
        shared.report(&answer, ran, queued);
        Outcome {
            answer,
            ran: Some((start, ran)),
        }
    }
}

impl Drop for Leased<'_> {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        for ran in &self.ran {
            queue.count(*ran);
        }
        match self.session.take() {
            Some(session) => queue.give_back(session),
            None => queue.lose(),
        }
    }
}

/// Makes a session in place of one that panicked; closes the graph if none is left and none can be made.
fn replace(shared: &Arc<Shared>) {
    match guarded(|| shared.network.session()) {
        Ok(session) => {
            let mut queue = shared.queue.lock();
            queue.add(session);
            shared.wake(queue);
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
