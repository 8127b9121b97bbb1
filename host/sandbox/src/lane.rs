//! Fairness between guests: those that compute long do so on threads of their own, of lower
//! priority than the executor's.
//!
//! Time is taken around each poll of a guest's call, so that what counts is the time a thread was
//! held: the guest's own code, what host functions copy for it and the making and resetting of its
//! memory, but no waiting. A call is free for its first slice on the executor. What goes on
//! after that goes on in the lane: it is handed over as it stands and never comes back. A handler
//! whose calls have been long lately is there from the start of the next one.
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

/// How fast a request's bytes are taken to pass into a guest, in bytes a microsecond. Copying
/// is quicker and parsing slower; a body of 500 kB counts as long from its first poll.
const BYTES_PER_MICROSECOND: u64 = 1000;

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

/// What the calls of one handler have used lately: above all, of a thread at a time.
#[derive(Debug, Default)]
pub(crate) struct Weight(AtomicU32);

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
    pub(crate) async fn run<F>(
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
        let is_long = weight.is_long(self.first_slice);
        let mut call = Metered {
            call: Box::pin(call),
            used: Duration::ZERO,
            weight,
        };
        let taken_in = Duration::from_micros(bytes as u64 / BYTES_PER_MICROSECOND);
        let long = |used: Duration| used + taken_in >= self.first_slice;
        if !is_long {
            let ended = poll_fn(|context| {
                if long(call.used) {
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
    /// Of a long call a quarter is felt at once, so that two or three in a row are enough. It
    /// is forgotten over some thirty calls: a handler is not to pass for a light one by
    /// computing long only now and then.
    fn add(&self, used: Duration) {
        // What one call adds has a bound, or a single one would be remembered for hours.
        let used = u32::try_from(used.as_micros())
            .unwrap_or(u32::MAX)
            .min(8 * u32::try_from(FIRST_SLICE.as_micros()).unwrap_or(u32::MAX));
        let before = self.0.load(Ordering::Relaxed);
        let after = if used > before {
            before + (used - before).div_ceil(4)
        } else {
            before - (before - used) / 32
        };
        // Calls that end together may lose one another's word, which the next ones repeat.
        if after != before {
            self.0.store(after, Ordering::Relaxed);
        }
    }

    fn is_long(&self, first_slice: Duration) -> bool {
        Duration::from_micros(self.0.load(Ordering::Relaxed).into()) >= first_slice
    }
}

/// A call, and how long it has held a thread. That counts however it ends.
struct Metered<F> {
    call: Pin<Box<F>>,
    used: Duration,
    weight: Arc<Weight>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let watch = Stopwatch::start();
        let polled = self.call.as_mut().poll(context);
        self.used += watch.elapsed();
        polled
    }
}

impl<F> Drop for Metered<F> {
    fn drop(&mut self) {
        self.weight.add(self.used);
    }
}

/// Takes the time that a thread is held. On the executor that is the time that passes, by the
/// cheaper clock; in the lane, where others come first, it is the thread's own.
enum Stopwatch {
    Passing(Instant),
    Own(Duration),
}

impl Stopwatch {
    fn start() -> Stopwatch {
        if on_lane() {
            Stopwatch::Own(own_time())
        } else {
            Stopwatch::Passing(Instant::now())
        }
    }

    fn elapsed(&self) -> Duration {
        match self {
            Stopwatch::Passing(begun) => begun.elapsed(),
            Stopwatch::Own(begun) => own_time().saturating_sub(*begun),
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
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
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

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    fn busy(time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
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
        let turns = lane.run(Arc::clone(&weight), 0, later(), turns(100, Duration::ZERO));
        assert_eq!(turns.await, Ok(vec![false; 100]));
        assert!(!weight.is_long(FIRST_SLICE));
    }

    #[tokio::test]
    async fn a_long_call_goes_on_in_the_lane_and_stays_there() {
        let lane = Lane::here().unwrap();
        let turns = lane.run(Arc::default(), 0, later(), turns(4, FIRST_SLICE));
        assert_eq!(turns.await, Ok(vec![false, true, true, true]));
    }

    #[tokio::test]
    async fn a_large_request_is_long_from_the_start() {
        let lane = Lane::here().unwrap();
        let call = async { on_lane() };
        assert_eq!(
            lane.run(Arc::default(), 64 << 20, later(), call).await,
            Ok(true)
        );
    }

    #[tokio::test]
    async fn a_handler_whose_calls_are_long_begins_in_the_lane_until_they_are_short_again() {
        let lane = Lane::here().unwrap();
        let weight = Arc::<Weight>::default();
        for _ in 0..8 {
            let call = async { busy(FIRST_SLICE * 2) };
            lane.run(Arc::clone(&weight), 0, later(), call)
                .await
                .unwrap();
        }
        let begins = || lane.run(Arc::clone(&weight), 0, later(), async { on_lane() });
        assert_eq!(begins().await, Ok(true));
        let mut still = 0;
        while begins().await == Ok(true) {
            still += 1;
        }
        // Not forgotten at once, and forgotten.
        assert!((2..200).contains(&still), "{still}");
    }

    #[test]
    fn a_long_call_now_and_then_is_not_hidden_by_short_ones() {
        let weight = Weight::default();
        for _ in 0..10 {
            weight.add(Duration::from_secs(1));
            for _ in 0..10 {
                weight.add(Duration::from_micros(20));
            }
        }
        assert!(weight.is_long(FIRST_SLICE));
    }

    #[tokio::test]
    async fn calls_that_wait_take_no_thread() {
        let lane = Lane::new(2).unwrap();
        let sleepers: Vec<_> = (0..8)
            .map(|_| {
                lane.run(Arc::default(), usize::MAX >> 1, later(), async {
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
            lane.run(Arc::default(), usize::MAX >> 1, later(), async move {
                while !let_go.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let waits = async {
            let deadline = Instant::now() + Duration::from_millis(5);
            let waits = lane
                .run(Arc::default(), usize::MAX >> 1, deadline, async {})
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
        let endless = lane.run(Arc::default(), usize::MAX >> 1, later(), async move {
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
                lane.run(Arc::default(), usize::MAX >> 1, later(), call)
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
        let there = lane.run(
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
            lane.run(Arc::default(), usize::MAX >> 1, later(), async {
                std::panic::panic_any("words");
            })
            .await
        });
        let panic = ended.await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"words"));
    }

    proptest! {
        /// Whatever calls use, in whatever order: the weight stays between the least and
        /// the most of them, so that a handler is never taken for what it has not been.
        #[test]
        fn weight_is_within_what_was_used(micros in proptest::collection::vec(0u64..4000, 1..60)) {
            let weight = Weight::default();
            let mut most = 0;
            for used in micros {
                weight.add(Duration::from_micros(used));
                most = most.max(used);
                prop_assert!(u64::from(weight.0.load(Ordering::Relaxed)) <= most);
            }
        }
    }
}
