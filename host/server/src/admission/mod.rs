//! A model's door: so many requests run, so many wait, the rest are told at once.

mod door;
#[cfg(test)]
mod simulation;
mod vegas;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use door::Door;

/// Lets at most `max_concurrency` requests in, or as many as an adaptive limit below that finds right, and has at most
/// `max_queue` wait, in order of arrival.
pub(crate) struct Admission {
    door: Arc<Door>,
    waiting: AtomicUsize,
    max_queue: usize,
}

/// A request's place inside. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    /// There until the permit is dropped.
    place: Option<OwnedSemaphorePermit>,
    since: Instant,
    door: Arc<Door>,
}

/// Of the times that requests are inside, how much the last one counts: one part in so many.
const SMOOTHING: u64 = 8;

impl Permit {
    /// The request was answered: how long that took may change how many are let in.
    pub(crate) fn answered(&self) {
        self.door.adapt(self.since.elapsed());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let took = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let service = &self.door.service;
        let before = service.load(Ordering::Relaxed);
        let now = match before {
            0 => took,
            before => before - before / SMOOTHING + took / SMOOTHING,
        };
        // Requests that end together may lose one another's word, which the next ones repeat.
        service.store(now, Ordering::Relaxed);
        if let Some(place) = self.place.take() {
            self.door.give_back(place);
        }
    }
}

/// Why a request does not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody else may wait.
    QueueFull {
        /// How many do.
        max_queue: usize,
        /// How long it takes, at the pace of the last requests, until those have been answered.
        retry_after: Duration,
    },
    /// The request's time ran out while it waited.
    Deadline,
}

impl Admission {
    /// With `max_concurrency` inside at most.
    pub(crate) fn new(max_concurrency: usize, max_queue: usize) -> Admission {
        Admission::with(Door::fixed(max_concurrency), max_queue)
    }

    /// With as many inside as is found right, `ceiling` at most.
    pub(crate) fn adaptive(ceiling: usize, max_queue: usize) -> Admission {
        Admission::with(Door::adaptive(ceiling), max_queue)
    }

    fn with(door: Door, max_queue: usize) -> Admission {
        Admission {
            door: Arc::new(door),
            waiting: AtomicUsize::new(0),
            max_queue,
        }
    }

    /// How many may be inside now.
    pub(crate) fn limit(&self) -> usize {
        self.door.limit()
    }

    /// Waits for a place until `deadline`.
    pub(crate) async fn enter(&self, deadline: std::time::Instant) -> Result<Permit, Refusal> {
        if let Some(permit) = self.try_enter() {
            return Ok(permit);
        }
        let _place =
            Place::take(&self.waiting, self.max_queue).ok_or_else(|| Refusal::QueueFull {
                max_queue: self.max_queue,
                retry_after: self.retry_after(),
            })?;
        match tokio::time::timeout_at(deadline.into(), self.door.place()).await {
            Ok(Some(place)) => Ok(self.permit(place)),
            Ok(None) | Err(_) => Err(Refusal::Deadline),
        }
    }

    /// A place, if one is free and nobody waits for it.
    pub(crate) fn try_enter(&self) -> Option<Permit> {
        // tokio's semaphore is fair: while others wait, nothing is left for this to take.
        Some(self.permit(self.door.try_place()?))
    }

    /// How long requests are inside, lately; nothing while that is not known.
    pub(crate) fn service(&self) -> Duration {
        Duration::from_nanos(self.door.service.load(Ordering::Relaxed))
    }

    /// When one that is turned away now is likely to find a place: when those before it have been answered, at
    /// the pace of the last requests.
    pub(crate) fn retry_after(&self) -> Duration {
        let service = self.service();
        let inside = self.limit().max(1);
        let before = self.waiting() + inside;
        service.mul_f64(before as f64 / inside as f64)
    }

    fn permit(&self, place: OwnedSemaphorePermit) -> Permit {
        Permit {
            place: Some(place),
            since: Instant::now(),
            door: Arc::clone(&self.door),
        }
    }

    /// How many wait now. Exact.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// A place among those who wait, left when dropped: also when the caller goes away.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Option<Place<'a>> {
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < max).then_some(count + 1)
            })
            .ok()
            .map(|_| Place(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn soon() -> std::time::Instant {
        Instant::now().into_std() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_too_many_is_told_at_once() {
        let admission = Admission::new(1, 1);
        let first = admission.enter(soon()).await.unwrap();
        let mut second = Box::pin(admission.enter(soon()));
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(admission.waiting(), 1);
        let refusal = admission.enter(soon()).await.unwrap_err();
        assert!(matches!(refusal, Refusal::QueueFull { max_queue: 1, .. }));
        drop(first);
        second.await.unwrap();
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_deadline() {
        let admission = Admission::new(1, 4);
        let _first = admission.enter(soon()).await.unwrap();
        assert_eq!(
            admission.enter(soon()).await.unwrap_err(),
            Refusal::Deadline
        );
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_leaves_frees_its_place() {
        let admission = Admission::new(1, 1);
        let _first = admission.enter(soon()).await.unwrap();
        let mut leaver = Box::pin(admission.enter(soon()));
        assert!(futures_util::poll!(&mut leaver).is_pending());
        drop(leaver);
        assert_eq!(admission.waiting(), 0);
    }

    #[tokio::test]
    async fn who_is_turned_away_is_told_how_long_the_others_take() {
        let admission = Admission::new(2, 4);
        assert_eq!(
            admission.retry_after(),
            Duration::ZERO,
            "nothing is known yet"
        );
        for _ in 0..3 {
            let inside = admission.enter(soon()).await.unwrap();
            std::thread::sleep(Duration::from_millis(20));
            drop(inside);
        }
        let one_after_the_other = admission.retry_after();
        assert!((20..2000).contains(&one_after_the_other.as_millis()));
        let _inside = (
            admission.enter(soon()).await.unwrap(),
            admission.enter(soon()).await.unwrap(),
        );
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(admission.enter(soon()))).collect();
        for waiting in &mut waiting {
            assert!(futures_util::poll!(waiting).is_pending());
        }
        // Four wait behind two: three times as long.
        let behind = admission.retry_after().as_secs_f64() / one_after_the_other.as_secs_f64();
        assert!((2.9..3.1).contains(&behind), "{behind}");
    }

    proptest! {
        /// Whatever the order of arrivals, ends and departures: never more inside than
        /// allowed, never more waiting than allowed, and nobody waits beside a free place.
        #[test]
        fn the_bounds_hold_in_any_order(
            concurrency in 1usize..4,
            queue in 0usize..4,
            steps in proptest::collection::vec(0u8..3, 1..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let admission = Admission::new(concurrency, queue);
                let mut inside = Vec::new();
                let mut waiting = Vec::new();
                for step in steps {
                    match step {
                        0 => {
                            let mut entering = Box::pin(admission.enter(soon()));
                            match futures_util::poll!(&mut entering) {
                                std::task::Poll::Ready(Ok(permit)) => inside.push(permit),
                                std::task::Poll::Ready(Err(refusal)) => {
                                    let full = matches!(refusal, Refusal::QueueFull { max_queue, .. } if max_queue == queue);
                                    assert!(full);
                                    assert_eq!(waiting.len(), queue);
                                }
                                std::task::Poll::Pending => waiting.push(entering),
                            }
                        }
                        1 => drop(inside.pop()),
                        _ => drop(waiting.pop()),
                    }
                    let mut still = Vec::new();
                    for mut entering in waiting.drain(..) {
                        match futures_util::poll!(&mut entering) {
                            std::task::Poll::Ready(result) => inside.push(result.unwrap()),
                            std::task::Poll::Pending => still.push(entering),
                        }
                    }
                    waiting = still;
                    assert!(inside.len() <= concurrency);
                    assert!(waiting.len() <= queue);
                    assert_eq!(admission.waiting(), waiting.len());
                    assert!(waiting.is_empty() || inside.len() == concurrency);
                }
            });
        }
    }
}
