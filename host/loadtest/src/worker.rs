//! A worker: one thread with an executor and connections of its own, which drives its share of a
//! cell's load and writes to its recorder. The thread ends by itself: every request has a deadline,
//! and when the cell is stopped what is under way is dropped.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    arrivals::{Arrivals, Random},
    exchange::exchange,
    failure::FailureKind,
    plan::{Cell, Connections, Load, Think},
    record::Recorder,
    target::{Target, client},
};

/// When a cell begins, is measured, and sends no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) begins: Instant,
    pub(crate) ramp_up: Duration,
    pub(crate) measured_from: Instant,
    pub(crate) measured_until: Instant,
}

/// What a worker is to do.
pub(crate) struct Work {
    pub(crate) index: u32,
    pub(crate) cell: Cell,
    pub(crate) clock: Clock,
    pub(crate) timeout: Duration,
    pub(crate) connections: Connections,
    pub(crate) seed: u64,
    pub(crate) target: Arc<Target>,
    pub(crate) recorder: Arc<Recorder>,
}

/// A worker at work. Dropped, it is stopped and not waited for.
pub(crate) struct Worker {
    thread: thread::JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn start(work: Work, stop: CancellationToken) -> io::Result<Self> {
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = Client::new(work.connections).map_err(io::Error::other)?;
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name(format!("loadtest-{}", work.index))
            .spawn(move || {
                executor.block_on(async {
                    tokio::select! {
                        () = until_the_end(work, client) => {}
                        () = stop.cancelled() => {}
                    }
                });
                // Not by dropping it: that waits for threads that look up names.
                executor.shutdown_background();
                let _ = end.send(());
            })?;
        Ok(Self { thread, ended })
    }

    /// Waits for the worker's end; false if it ended by a panic.
    pub(crate) async fn ended(self) -> bool {
        // Sent on the thread's last line, or dropped in a panic: the join waits for no time.
        let sent = self.ended.await.is_ok();
        self.thread.join().is_ok() && sent
    }
}

/// The worker's HTTP client, made anew where connections are to be.
struct Client {
    connections: Connections,
    current: Mutex<(reqwest::Client, Instant)>,
}

impl Client {
    fn new(connections: Connections) -> Result<Self, reqwest::Error> {
        Ok(Self {
            connections,
            current: Mutex::new((client(connections.keep_alive)?, Instant::now())),
        })
    }

    fn get(&self) -> reqwest::Client {
        let mut current = self.current.lock();
        let (made, at) = &mut *current;
        let every = self.connections.reconnect;
        if !every.is_zero() && at.elapsed() >= every {
            *at = Instant::now();
            // Where none can be made the old one does.
            if let Ok(new) = client(self.connections.keep_alive) {
                *made = new;
            }
        }
        made.clone()
    }
}

/// What the tasks of a worker share.
struct Shared {
    work: Work,
    client: Client,
    /// Requests sent, for the turn of bodies.
    sent: AtomicUsize,
}

/// Also where the last user thinks beyond the end: what is measured is all of the time.
async fn until_the_end(work: Work, client: Client) {
    let end = work.clock.measured_until;
    drive(work, client).await;
    sleep_until(end).await;
}

async fn drive(work: Work, client: Client) {
    let load = work.cell.load;
    let shared = Arc::new(Shared {
        work,
        client,
        sent: AtomicUsize::new(0),
    });
    match load {
        Load::Closed { users, think } => closed(&shared, users, think).await,
        Load::Open { rate, arrival, .. } => {
            let work = &shared.work;
            let arrivals = Arrivals::new(
                arrival,
                rate,
                work.clock.ramp_up,
                (work.index, work.cell.workers),
                work.seed,
            );
            open(&shared, arrivals).await;
        }
    }
}

/// Users number index, index + workers, … of the cell.
async fn closed(shared: &Arc<Shared>, users: u32, think: Think) {
    let mut tasks = JoinSet::new();
    let step = usize::try_from(shared.work.cell.workers)
        .unwrap_or(1)
        .max(1);
    for number in (shared.work.index..users).step_by(step) {
        tasks.spawn(user(Arc::clone(shared), number, users, think));
    }
    while tasks.join_next().await.is_some() {}
}

async fn user(shared: Arc<Shared>, number: u32, users: u32, think: Think) {
    let clock = shared.work.clock;
    let mut random = Random::new(shared.work.seed, u64::from(number));
    let arrives = f64::from(number) / f64::from(users.max(1));
    let mut next = clock.begins + clock.ramp_up.mul_f64(arrives);
    while next < clock.measured_until {
        sleep_until(next).await;
        // A user who is late in asking for the client's reasons has not felt the server yet.
        let begun = Instant::now();
        shared.work.recorder.sent_late(begun - next);
        shared.ask(begun).await;
        next = Instant::now() + think.draw(&mut random);
    }
}

/// Sends each request when it is due, whoever still waits; where as many are under way as may be it
/// goes out when one ends, and its latency counts from when it was due all the same.
async fn open(shared: &Arc<Shared>, arrivals: Arrivals) {
    let Work {
        clock,
        timeout,
        connections,
        cell,
        index,
        ..
    } = shared.work;
    let places = share(connections.max_outstanding, index, cell.workers);
    let mut tasks = JoinSet::new();
    for due in arrivals {
        let due = clock.begins + due;
        if due >= clock.measured_until {
            break;
        }
        sleep_until(due).await;
        while tasks.try_join_next().is_some() {}
        if tasks.len() < places {
            shared.work.recorder.sent_late(due.elapsed());
        } else {
            shared.work.recorder.held_back();
            tasks.join_next().await;
        }
        if due.elapsed() < timeout {
            let shared = Arc::clone(shared);
            tasks.spawn(async move { shared.ask(due).await });
        } else {
            // Whoever was to send it would have given up by now.
            shared.count(due, Err(FailureKind::Timeout));
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Worker `index`'s share of `whole`; all shares together are the whole.
fn share(whole: u32, index: u32, workers: u32) -> usize {
    let workers = workers.max(1);
    let share = whole / workers + u32::from(index < whole % workers);
    usize::try_from(share).unwrap_or(usize::MAX).max(1)
}

impl Shared {
    /// One request whose latency counts from `due`.
    async fn ask(&self, due: Instant) {
        let work = &self.work;
        let turn = self.sent.fetch_add(1, Ordering::Relaxed);
        let turn = turn
            .wrapping_mul(usize::try_from(work.cell.workers).unwrap_or(1))
            .wrapping_add(usize::try_from(work.index).unwrap_or(0));
        let client = self.client.get();
        let under_way = work.recorder.begin();
        let answer = exchange(&client, &work.target, turn, due + work.timeout).await;
        drop(under_way);
        self.count(due, answer.and_then(|answer| answer.judged()));
    }

    fn count(&self, due: Instant, ended: Result<(), FailureKind>) {
        let clock = self.work.clock;
        let counts = due >= clock.measured_from && due < clock.measured_until;
        self.work.recorder.ended(counts, due.elapsed(), ended);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_workers_shares_are_the_whole(whole in 1u32..5000, workers in 1u32..64) {
            prop_assume!(whole >= workers);
            let shares: usize = (0..workers).map(|index| share(whole, index, workers)).sum();
            prop_assert_eq!(shares, whole as usize);
        }
    }
}
