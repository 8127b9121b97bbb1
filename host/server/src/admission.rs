//! A model's door: so many requests run, so many wait, the rest are told at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets at most `max_concurrency` requests in, has at most `max_queue` wait, in order of
/// arrival.
pub(crate) struct Admission {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_queue: usize,
}

/// A request's place inside. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Why a request does not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody else may wait.
    QueueFull {
        /// How many do.
        max_queue: usize,
    },
    /// The request's time ran out while it waited.
    Deadline,
}

impl Admission {
    pub(crate) fn new(max_concurrency: usize, max_queue: usize) -> Admission {
        Admission {
            running: Arc::new(Semaphore::new(max_concurrency)),
            waiting: AtomicUsize::new(0),
            max_queue,
        }
    }

    /// Waits for a place until `deadline`.
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<Permit, Refusal> {
        // tokio's semaphore is fair: while others wait, nothing is left for this to take.
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(Permit(permit));
        }
        let _place = Place::take(&self.waiting, self.max_queue)?;
        match tokio::time::timeout_at(deadline.into(), Arc::clone(&self.running).acquire_owned())
            .await
        {
            Ok(Ok(permit)) => Ok(Permit(permit)),
            // The semaphore is never closed; if it were, nobody would get in.
            Ok(Err(_)) | Err(_) => Err(Refusal::Deadline),
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
    fn take(waiting: &'a AtomicUsize, max: usize) -> Result<Place<'a>, Refusal> {
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < max).then_some(count + 1)
            })
            .map(|_| Place(waiting))
            .map_err(|_| Refusal::QueueFull { max_queue: max })
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

    fn soon() -> Instant {
        tokio::time::Instant::now().into_std() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_too_many_is_told_at_once() {
        let admission = Admission::new(1, 1);
        let first = admission.enter(soon()).await.unwrap();
        let mut second = Box::pin(admission.enter(soon()));
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(admission.waiting(), 1);
        assert_eq!(
            admission.enter(soon()).await.unwrap_err(),
            Refusal::QueueFull { max_queue: 1 }
        );
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
                                    assert_eq!(refusal, Refusal::QueueFull { max_queue: queue });
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
