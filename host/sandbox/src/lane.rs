//! Fairness between guests: those that compute long do so on threads of their own, of lower
//! priority than the executor's.
//!
//! Time is taken around each poll of a guest's call, so that what counts is the time a thread was
//! used: the guest's own code, what host functions copy for it and the making and resetting of its
//! memory, but no waiting. A call is free for its first slice on the executor. What goes on
//! after that goes on in the lane: it is handed over as it stands and never comes back. A handler
//! whose calls have been long lately is there from the start of the next one.
//!
//! That a call takes long by the clock says little on a busy machine, where the thread is set aside
//! in its midst. A thread's own time is certain and dear (a system call), so it is only taken of
//! calls that are suspect: from the poll after the one that took long by the clock, of a handler's
//! next calls after such a one, and of all that is in the lane.
//!
//! The lane's threads are one fewer than the executor's and have a lower priority, so that a short
//! request that wakes up takes its processor at once, however many guests loop, and none of what
//! they make the kernel do (faults, resetting memory) is done by a thread that others wait for.
//! Among themselves long calls take turns by the tick of the epoch clock.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// What a call may use of an executor thread before it counts as long. Most handlers use 10 to
/// 200 µs. A hand-over costs some 20 µs, little beside what is left of a call of this length.
const FIRST_SLICE: Duration = Duration::from_micros(500);

/// How fast bytes are taken to pass into a guest or out of it, in bytes a microsecond. Copying
/// is quicker, parsing and making them slower; a body of 500 kB counts as long from its first poll.
const BYTES_PER_MICROSECOND: u64 = 1000;

fn passing(bytes: usize) -> Duration {
    Duration::from_micros(bytes as u64 / BYTES_PER_MICROSECOND)
}

/// How much nicer than the executor the lane's threads are. Beside a busy executor thread they
/// get a tenth of a processor, so that they are slowed and not starved.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// How long after its deadline a call may still say by itself that it is late. Longer than one
/// tick, as it has to get its turn for that.
const GRACE: Duration = Duration::from_millis(50);

/// The threads of calls that compute long.
#[derive(Debug)]
pub(crate) struct Lane {
    /// There until the lane is dropped.
    runtime: Option<Runtime>,
    first_slice: Duration,
}

/// Whether the calls of one handler have been long lately.
#[derive(Debug, Default)]
pub(crate) struct Weight {
    /// Long calls weigh [`LONG_CALL`] and short ones take one off: long is from [`LONG`] on.
    score: AtomicU32,
    /// How many of the next calls are to be measured by the thread's own time.
    suspect: AtomicU32,
}

/// What a long call adds. A handler of which more than one call in nine is long is a long one.
const LONG_CALL: u32 = 8;

/// Two in a row are enough.
const LONG: u32 = 2 * LONG_CALL;

/// What was is forgotten over some fifty short calls.
const MOST: u32 = 8 * LONG_CALL;

/// How long suspicion lasts, in calls.
const SUSPECT: u32 = 16;

/// A call got no turn until its deadline, and not in the time after it that it has to say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overdue;

thread_local! {
    static ON_LANE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is one of a lane's threads, which no short request waits for.
pub(crate) fn on_lane() -> bool {
    ON_LANE.get()
}

impl Lane {
    /// A lane beside an executor of so many threads.
    pub(crate) fn new(threads: usize) -> io::Result<Lane> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.saturating_sub(1).max(1))
            .thread_name("aegis-lane")
            .enable_all()
            .on_thread_start(|| {
                ON_LANE.set(true);
                be_nice();
            })
            .build()?;
        Ok(Lane {
            runtime: Some(runtime),
            first_slice: FIRST_SLICE,
        })
    }

    /// A lane beside the executor that this is called on, or else beside one with a thread for
    /// each core.
    pub(crate) fn here() -> io::Result<Lane> {
        let threads = Handle::try_current().map_or_else(
            |_| std::thread::available_parallelism().map_or(1, usize::from),
            |runtime| runtime.metrics().num_workers(),
        );
        Lane::new(threads)
    }

    /// Where to leave work that is too long for an executor's thread and that nobody waits for.
    pub(crate) fn handle(&self) -> Option<Handle> {
        self.runtime
            .as_ref()
            .map(|runtime| runtime.handle().clone())
    }

    /// Runs a call that begins by taking in `bytes`, for a handler of this `weight`. The call
    /// itself ends at its deadline; it is left to itself some time after it, should it not
    /// have had a turn. Dropping this ends the call, in the lane at its next tick.
    ///
    /// A call is large and comes in a box: it would be copied at every step of its way to its first turn.
    pub(crate) async fn run<F>(
        &self,
        weight: Arc<Weight>,
        bytes: usize,
        deadline: Instant,
        call: Pin<Box<F>>,
    ) -> Result<F::Output, Overdue>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let is_long = weight.is_long();
        let mut call = Metered {
            call,
            passed: Duration::ZERO,
            own: (is_long || weight.is_suspect()).then_some(Duration::ZERO),
            first_slice: self.first_slice,
            weight,
        };
        if !is_long && passing(bytes) < self.first_slice {
            let ended = poll_fn(|context| {
                if call.is_long() {
                    return Poll::Ready(None);
                }
                Pin::new(&mut call).poll(context).map(Some)
            })
            .await;
            if let Some(output) = ended {
                return Ok(output);
            }
        }
        let Some(runtime) = &self.runtime else {
            return Err(Overdue);
        };
        let task = AbortOnDropHandle::new(runtime.spawn(call));
        match tokio::time::timeout_at((deadline + GRACE).into(), task).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only dropping its handle ends such a task otherwise.
                Err(_) => Err(Overdue),
            },
            Err(_) => Err(Overdue),
        }
    }
}

impl Drop for Lane {
    /// Without waiting, as the last to hold a lane may be a task of its own.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Gives this thread a lower priority. Only Linux has one for each thread; elsewhere the lane is
/// one by the number of its threads alone.
fn be_nice() {
    #[cfg(target_os = "linux")]
    {
        // To Linux, no process is the calling thread.
        let now = rustix::process::getpriority_process(None).unwrap_or(0);
        if let Err(error) = rustix::process::setpriority_process(None, now.saturating_add(NICER)) {
            tracing::debug!(%error, "a lane's thread keeps its priority");
        }
    }
}

impl Weight {
    /// Calls that end together may lose one another's word, which the next ones repeat.
    fn measured(&self, long: bool) {
        let (score, suspect) = (
            self.score.load(Ordering::Relaxed),
            self.suspect.load(Ordering::Relaxed),
        );
        if long {
            self.score
                .store((score + LONG_CALL).min(MOST), Ordering::Relaxed);
            self.suspect.store(SUSPECT, Ordering::Relaxed);
        } else {
            self.score.store(score.saturating_sub(1), Ordering::Relaxed);
            self.suspect
                .store(suspect.saturating_sub(1), Ordering::Relaxed);
        }
    }

    /// A call has answered with so many bytes. Where that is much, the handler's next calls count as long however quick
    /// they are, as a large answer is made and copied in one go, and those who wait for the thread wait for all of it.
    pub(crate) fn answered(&self, bytes: usize) {
        if passing(bytes) >= FIRST_SLICE {
            self.measured(true);
        }
    }

    fn suspect(&self) {
        self.suspect.store(SUSPECT, Ordering::Relaxed);
    }

    fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed) > 0
    }

    fn is_long(&self) -> bool {
        self.score.load(Ordering::Relaxed) >= LONG
    }
}

/// A call, and how long it has held a thread. That counts however it ends.
struct Metered<F> {
    call: Pin<Box<F>>,
    /// By the clock.
    passed: Duration,
    /// Of the thread's own time, from when that is taken.
    own: Option<Duration>,
    first_slice: Duration,
    weight: Arc<Weight>,
}

impl<F> Metered<F> {
    fn is_long(&self) -> bool {
        self.own.is_some_and(|own| own >= self.first_slice)
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if let Some(own) = self.own {
            let begun = own_time();
            let polled = self.call.as_mut().poll(context);
            self.own = Some(own + own_time().saturating_sub(begun));
            return polled;
        }
        let begun = Instant::now();
        let polled = self.call.as_mut().poll(context);
        self.passed += begun.elapsed();
        if self.passed >= self.first_slice {
            self.own = Some(Duration::ZERO);
        }
        polled
    }
}

impl<F> Drop for Metered<F> {
    fn drop(&mut self) {
        let measured_whole = self.passed.is_zero();
        if self.own.is_none() {
            return;
        }
        if measured_whole || self.is_long() {
            self.weight.measured(self.is_long());
        } else {
            self.weight.suspect();
        }
    }
}

/// What this thread has had of a processor.
fn own_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
    use std::{
        collections::HashSet,
        sync::{
            Mutex,
            atomic::{AtomicBool, AtomicUsize},
        },
        thread::{self, ThreadId},
    };

    use proptest::prelude::*;
    use tokio::task::yield_now;

    use super::*;

    impl Lane {
        async fn run_here<F>(
            &self,
            weight: Arc<Weight>,
            bytes: usize,
            deadline: Instant,
            call: F,
        ) -> Result<F::Output, Overdue>
        where
            F: Future + Send + 'static,
            F::Output: Send + 'static,
        {
            self.run(weight, bytes, deadline, Box::pin(call)).await
        }
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    /// Uses this much of the thread's own time: by the clock, less is used where the thread is set aside.
    fn busy(time: Duration) {
        let begun = own_time();
        while own_time() - begun < time {
            std::hint::spin_loop();
        }
    }

    /// Whether each of its turns was in the lane.
    async fn turns(times: usize, each: Duration) -> Vec<bool> {
        let mut turns = Vec::new();
        for _ in 0..times {
            turns.push(on_lane());
            busy(each);
            yield_now().await;
        }
        turns
    }

    #[tokio::test]
    async fn a_short_call_stays_where_it_is() {
        let lane = Lane::here().unwrap();
        let weight = Arc::<Weight>::default();
        // However often it waits.
        let turns = lane.run_here(Arc::clone(&weight), 0, later(), turns(100, Duration::ZERO));
        assert_eq!(turns.await, Ok(vec![false; 100]));
        assert!(!weight.is_long());
    }

    #[tokio::test]
    async fn a_long_call_goes_on_in_the_lane_and_stays_there() {
        let lane = Lane::here().unwrap();
        let turns = lane.run_here(Arc::default(), 0, later(), turns(5, FIRST_SLICE * 2));
        // The first turn makes it suspect, the second one long.
        assert_eq!(turns.await, Ok(vec![false, false, true, true, true]));
    }

    #[tokio::test]
    async fn a_thread_that_was_set_aside_is_no_long_call() {
        let lane = Lane::here().unwrap();
        let weight = Arc::<Weight>::default();
        // Asleep, the thread passes time and uses none.
        let set_aside = || async {
            for _ in 0..3 {
                thread::sleep(FIRST_SLICE * 3);
                yield_now().await;
            }
            on_lane()
        };
        let mut moved = 0;
        for _ in 0..50 {
            let call = lane.run_here(Arc::clone(&weight), 0, later(), set_aside());
            moved += usize::from(call.await == Ok(true));
        }
        // Where time passed is taken for time used all of them move. On a virtual machine one may: what the host takes
        // from it is counted as used.
        assert!(moved <= 5, "{moved}");
        assert!(!weight.is_long());
    }

    #[tokio::test]
    async fn a_large_request_is_long_from_the_start() {
        let lane = Lane::here().unwrap();
        let call = async { on_lane() };
        assert_eq!(
            lane.run_here(Arc::default(), 64 << 20, later(), call).await,
            Ok(true)
        );
    }

    #[tokio::test]
    async fn a_handler_whose_calls_are_long_begins_in_the_lane_until_they_are_short_again() {
        let lane = Lane::here().unwrap();
        let weight = Arc::<Weight>::default();
        for _ in 0..8 {
            let call = async { busy(FIRST_SLICE * 2) };
            lane.run_here(Arc::clone(&weight), 0, later(), call)
                .await
                .unwrap();
        }
        let begins = || lane.run_here(Arc::clone(&weight), 0, later(), async { on_lane() });
        assert_eq!(begins().await, Ok(true));
        let mut still = 0;
        while begins().await == Ok(true) {
            still += 1;
        }
        // Not forgotten at once, and forgotten.
        assert!((2..200).contains(&still), "{still}");
    }

    #[test]
    fn a_handler_that_answers_at_length_is_a_long_one_however_quick_it_is() {
        let weight = Weight::default();
        for _ in 0..100 {
            weight.answered(64 << 10);
        }
        assert!(!weight.is_long());
        for _ in 0..4 {
            weight.answered(1 << 20);
            // As its call was measured to be.
            weight.measured(false);
        }
        assert!(weight.is_long());
    }

    #[test]
    fn a_long_call_now_and_then_is_not_hidden_by_short_ones() {
        let weight = Weight::default();
        for _ in 0..20 {
            weight.measured(true);
            for _ in 0..LONG_CALL - 1 {
                weight.measured(false);
            }
        }
        assert!(weight.is_long());
    }

    #[tokio::test]
    async fn calls_that_wait_take_no_thread() {
        let lane = Lane::new(2).unwrap();
        let sleepers: Vec<_> = (0..8)
            .map(|_| {
                lane.run_here(Arc::default(), usize::MAX >> 1, later(), async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                })
            })
            .collect();
        let begun = Instant::now();
        futures_util::future::join_all(sleepers).await;
        assert!(begun.elapsed() < Duration::from_millis(8 * 20));
    }

    #[tokio::test]
    async fn a_call_that_gets_no_turn_is_overdue() {
        let lane = Lane::new(1).unwrap();
        let let_go = Arc::new(AtomicBool::new(false));
        let holds = {
            let let_go = Arc::clone(&let_go);
            lane.run_here(Arc::default(), usize::MAX >> 1, later(), async move {
                while !let_go.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let waits = async {
            let deadline = Instant::now() + Duration::from_millis(5);
            let waits = lane
                .run_here(Arc::default(), usize::MAX >> 1, deadline, async {})
                .await;
            let_go.store(true, Ordering::Relaxed);
            waits
        };
        let (held, waited) = tokio::join!(holds, waits);
        assert_eq!((held, waited), (Ok(()), Err(Overdue)));
    }

    #[tokio::test]
    async fn a_call_whose_caller_went_away_ends_in_the_lane() {
        struct Ends(Arc<AtomicBool>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.store(on_lane(), Ordering::SeqCst);
            }
        }
        let lane = Lane::new(1).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let ends = Ends(Arc::clone(&ended));
        let endless = lane.run_here(Arc::default(), usize::MAX >> 1, later(), async move {
            let _ends = ends;
            loop {
                busy(Duration::from_micros(50));
                yield_now().await;
            }
        });
        let caller = tokio::time::timeout(Duration::from_millis(20), endless).await;
        assert!(caller.is_err());
        let begun = Instant::now();
        while !ended.load(Ordering::SeqCst) {
            assert!(begun.elapsed() < Duration::from_secs(60));
            yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn long_calls_never_hold_more_threads_than_the_lane_has() {
        let lane = Lane::here().unwrap();
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads: Arc<Mutex<HashSet<ThreadId>>> = Arc::default();
        let calls = (0..8).map(|_| {
            let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
            let threads = Arc::clone(&threads);
            let call = async move {
                for _ in 0..20 {
                    let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    threads.lock().unwrap().insert(thread::current().id());
                    busy(Duration::from_micros(200));
                    inside.fetch_sub(1, Ordering::SeqCst);
                    yield_now().await;
                }
            };
            async {
                lane.run_here(Arc::default(), usize::MAX >> 1, later(), call)
                    .await
            }
        });
        futures_util::future::join_all(calls).await;
        assert!(most.load(Ordering::SeqCst) <= 2);
        assert!(threads.lock().unwrap().len() <= 2);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_lanes_threads_are_nicer_and_the_executors_are_not() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let lane = Lane::here().unwrap();
        let there = lane.run_here(
            Arc::default(),
            usize::MAX >> 1,
            later(),
            async move { nice() },
        );
        assert_eq!(there.await, Ok((before + NICER).min(19)));
        assert_eq!(nice(), before);
    }

    #[tokio::test]
    async fn a_panic_in_the_lane_is_the_callers() {
        let lane = Arc::new(Lane::here().unwrap());
        let ended = tokio::spawn(async move {
            lane.run_here(Arc::default(), usize::MAX >> 1, later(), async {
                std::panic::panic_any("words");
            })
            .await
        });
        let panic = ended.await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"words"));
    }

    proptest! {
        /// However calls were before: a few long ones make a handler long, and it is short again
        /// after no more short ones than are remembered.
        #[test]
        fn what_a_handler_was_is_forgotten(calls in proptest::collection::vec(any::<bool>(), 0..200)) {
            let weight = Weight::default();
            for long in calls {
                weight.measured(long);
            }
            for _ in 0..2 {
                weight.measured(true);
            }
            prop_assert!(weight.is_long());
            for _ in 0..MOST {
                weight.measured(false);
            }
            prop_assert!(!weight.is_long() && !weight.is_suspect());
        }
    }
}
