//! Fairness between guests: those that compute long share a lane that leaves an executor thread
//! free for the short ones.
//!
//! Time is taken around each poll of a guest's call, so that what counts is the executor's time:
//! the guest's own code and what host functions copy for it, but no waiting. A call is free
//! for its first slice. Past it, each further poll needs a place in the lane, which has one
//! place fewer than the executor has threads, hands them out in order of arrival, and takes
//! them back at the end of the poll. So however many guests loop, a short request finds a
//! thread that no one holds for longer than a first slice.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// What a call may use of an executor thread before it counts as long: two ticks of the epoch
/// clock, so that a guest that is interrupted once and then ends is still a short one. Most
/// handlers use 10 to 200 µs.
const FIRST_SLICE: Duration = Duration::from_millis(2);

/// How fast a request's bytes are taken to pass into a guest, in bytes a microsecond. Copying
/// is quicker and parsing slower; a body of 2 MB counts as long from its first poll.
const BYTES_PER_MICROSECOND: u64 = 1000;

/// The places for calls that compute long.
#[derive(Debug)]
pub(crate) struct Lane {
    places: Arc<Semaphore>,
    first_slice: Duration,
}

/// Waiting for a place.
type Turn = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

impl Lane {
    /// A lane beside an executor of so many threads.
    pub(crate) fn new(threads: usize) -> Lane {
        Lane {
            places: Arc::new(Semaphore::new(threads.saturating_sub(1).max(1))),
            first_slice: FIRST_SLICE,
        }
    }

    /// A lane beside the executor that this is called on, or else beside one with a thread for
    /// each core.
    pub(crate) fn here() -> Lane {
        let threads = tokio::runtime::Handle::try_current().map_or_else(
            |_| std::thread::available_parallelism().map_or(1, usize::from),
            |runtime| runtime.metrics().num_workers(),
        );
        Lane::new(threads)
    }

    /// Runs a call that begins by taking in `bytes`. Dropping it leaves the lane at once.
    pub(crate) async fn run<F: Future>(&self, bytes: usize, call: F) -> F::Output {
        let mut call = pin!(call);
        let mut used = Duration::from_micros(bytes as u64 / BYTES_PER_MICROSECOND);
        let mut turn: Option<Turn> = None;
        poll_fn(|context| {
            let _place = if used < self.first_slice {
                None
            } else {
                let waiting =
                    turn.get_or_insert_with(|| Box::pin(Arc::clone(&self.places).acquire_owned()));
                let place = ready!(waiting.as_mut().poll(context));
                turn = None;
                // An error would say that the lane is closed, which it never is.
                place.ok()
            };
            let begun = Instant::now();
            let polled: Poll<F::Output> = call.as_mut().poll(context);
            used += begun.elapsed();
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;
    use tokio::task::yield_now;

    use super::*;

    /// A lane in which every call is long from its first poll.
    fn no_slice(places: usize) -> Lane {
        Lane {
            first_slice: Duration::ZERO,
            ..Lane::new(places + 1)
        }
    }

    fn busy(time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn a_short_call_passes_a_lane_that_is_full() {
        let lane = Lane::new(2);
        let _taken = Arc::clone(&lane.places).acquire_owned().await.unwrap();
        lane.run(0, async {
            for _ in 0..100 {
                yield_now().await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_long_call_waits_for_a_place_and_goes_on_when_there_is_one() {
        let lane = Lane::new(2);
        let taken = Arc::clone(&lane.places).acquire_owned().await.unwrap();
        let mut long = pin!(lane.run(0, async {
            busy(FIRST_SLICE);
            yield_now().await;
            "done"
        }));
        for _ in 0..10 {
            assert!(futures_util::poll!(&mut long).is_pending());
        }
        drop(taken);
        assert_eq!(long.await, "done");
        assert_eq!(lane.places.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_large_request_is_long_from_the_start() {
        let lane = Lane::new(2);
        let _taken = Arc::clone(&lane.places).acquire_owned().await.unwrap();
        let mut large = pin!(lane.run(64 << 20, async {}));
        assert!(futures_util::poll!(&mut large).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_holds_no_place() {
        let lane = no_slice(1);
        let sleeper = lane.run(0, tokio::time::sleep(Duration::from_secs(3600)));
        let mut sleeper = pin!(sleeper);
        assert!(futures_util::poll!(&mut sleeper).is_pending());
        assert_eq!(lane.places.available_permits(), 1);
        lane.run(0, yield_now()).await;
        sleeper.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_holds_while_a_call_waits_for_its_place() {
        let lane = no_slice(1);
        let _taken = Arc::clone(&lane.places).acquire_owned().await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(1), lane.run(0, async {})).await;
        assert!(ended.is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn long_calls_never_hold_every_thread() {
        let lane = Arc::new(Lane {
            first_slice: Duration::ZERO,
            ..Lane::here()
        });
        assert_eq!(lane.places.available_permits(), 2);
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let (lane, inside, most) =
                    (Arc::clone(&lane), Arc::clone(&inside), Arc::clone(&most));
                tokio::spawn(async move {
                    let polls = async {
                        for _ in 0..20 {
                            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                            busy(Duration::from_micros(200));
                            inside.fetch_sub(1, Ordering::SeqCst);
                            yield_now().await;
                        }
                    };
                    lane.run(0, polls).await;
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    proptest! {
        /// Whatever the order in which calls begin, go on, end and are dropped: no more run
        /// than there are places, and no place is lost.
        #[test]
        fn no_place_is_ever_lost(
            places in 1usize..4,
            steps in proptest::collection::vec((0u8..4, 0usize..8), 1..80),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let lane = no_slice(places);
                let mut calls = Vec::new();
                for (step, which) in steps {
                    match step {
                        0 | 1 => calls.push(Box::pin(lane.run(0, async {
                            yield_now().await;
                            yield_now().await;
                        }))),
                        2 if which < calls.len() => drop(calls.swap_remove(which)),
                        _ => {}
                    }
                    let mut going = Vec::new();
                    for mut call in calls.drain(..) {
                        if futures_util::poll!(&mut call).is_pending() {
                            going.push(call);
                        }
                    }
                    calls = going;
                    assert!(lane.places.available_permits() <= places);
                }
                drop(calls);
                assert_eq!(lane.places.available_permits(), places);
            });
        }
    }
}
