//! Looks at the store that requests ask for: one for what is not known here may be for what another replica has just
//! uploaded. However many ask, and for whatever names, they share one look at a time and not more than a few a second,
//! so that nobody can have the store asked by asking for what is not there.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};

/// The least time from the beginning of one look to that of the next that a request asks for.
const APART: Duration = Duration::from_millis(250);

/// How long a request waits for a look at most. What has not come by then is answered as if nobody had looked.
const WAIT: Duration = Duration::from_secs(1);

/// Where those who ask for a look meet the one who looks.
pub(crate) struct Looks {
    /// Whether somebody looks at all.
    followed: AtomicBool,
    asked: Notify,
    last: Mutex<Last>,
    ended: watch::Sender<Ended>,
}

/// The last look that was begun.
#[derive(Clone, Copy, Default)]
struct Last {
    number: u64,
    began: Option<Instant>,
}

/// The last look that has ended.
#[derive(Clone, Copy, Default)]
struct Ended {
    number: u64,
    well: bool,
}

/// A look that has begun. Dropped without [`Look::end`], it is one at which nothing was seen.
pub(crate) struct Look<'l> {
    looks: &'l Looks,
    number: u64,
    well: bool,
}

impl Default for Looks {
    fn default() -> Looks {
        Looks {
            followed: AtomicBool::new(false),
            asked: Notify::new(),
            last: Mutex::default(),
            ended: watch::Sender::default(),
        }
    }
}

impl Looks {
    /// Waits, no longer than until `deadline`, for a look that begins from now on, so that it sees what was there when
    /// the request came; whether there was one and the store answered.
    pub(crate) async fn fresh(&self, deadline: Instant) -> bool {
        if !self.followed.load(Ordering::Acquire) {
            return false;
        }
        let mut ended = self.ended.subscribe();
        let wanted = self.last.lock().number + 1;
        self.asked.notify_one();
        let deadline = deadline.min(Instant::now() + WAIT);
        let seen = ended.wait_for(|ended| ended.number >= wanted);
        matches!(timeout_at(deadline, seen).await, Ok(Ok(ended)) if ended.well)
    }

    /// Says that there is one who looks from now on.
    pub(crate) fn follow(&self) {
        self.followed.store(true, Ordering::Release);
    }

    /// Ends when a look is asked for and it is time for it. Who waits no longer must look then: it may have been asked
    /// for meanwhile.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
        let last = self.last.lock().began;
        if let Some(began) = last {
            sleep_until(began + APART).await;
        }
    }

    /// Whether anybody waits for a look.
    pub(crate) fn are_wanted(&self) -> bool {
        self.ended.receiver_count() > 0
    }

    /// Begins a look.
    pub(crate) fn begin(&self) -> Look<'_> {
        let mut last = self.last.lock();
        last.number += 1;
        last.began = Some(Instant::now());
        Look {
            looks: self,
            number: last.number,
            well: false,
        }
    }
}

impl Look<'_> {
    /// What there is to be seen is known here.
    pub(crate) fn end(mut self) {
        self.well = true;
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.looks.ended.send_replace(Ended {
            number: self.number,
            well: self.well,
        });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use proptest::prelude::*;
    use std::sync::{Arc, atomic::AtomicU64};
    use tokio::time::{self, sleep};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn later() -> Instant {
        Instant::now() + ms(3_600_000)
    }

    /// One who looks when asked, for `takes` each time, and how often it has.
    fn followed(takes: Duration) -> (Arc<Looks>, Arc<AtomicU64>) {
        let (looks, done) = (Arc::new(Looks::default()), Arc::new(AtomicU64::new(0)));
        looks.follow();
        let (of, count) = (Arc::clone(&looks), Arc::clone(&done));
        tokio::spawn(async move {
            loop {
                of.asked().await;
                let look = of.begin();
                sleep(takes).await;
                count.fetch_add(1, Ordering::Relaxed);
                look.end();
            }
        });
        (looks, done)
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_quiet_time_it_is_looked_at_once() {
        let (looks, _) = followed(ms(10));
        for _ in 0..3 {
            let began = Instant::now();
            assert!(looks.fresh(later()).await);
            assert_eq!(began.elapsed(), ms(10));
            sleep(ms(1000)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_a_second_or_for_one_who_does_not_look() {
        let (looks, _) = followed(ms(60_000));
        let began = Instant::now();
        assert!(!looks.fresh(later()).await);
        assert_eq!(began.elapsed(), WAIT);
        assert!(!looks.fresh(Instant::now() + ms(20)).await);
        assert_eq!(began.elapsed(), WAIT + ms(20));
        assert!(!Looks::default().fresh(later()).await);
        assert_eq!(began.elapsed(), WAIT + ms(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_ends_the_wait() {
        let looks = Looks::default();
        looks.follow();
        let away = async {
            looks.asked().await;
            drop(looks.begin());
        };
        let began = Instant::now();
        let (seen, ()) = tokio::join!(looks.fresh(later()), away);
        assert!(!seen);
        assert_eq!(began.elapsed(), ms(0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whoever asks, and whenever: at most one look in each `APART`, and every caller who got one got one that began
        /// after it had asked.
        #[test]
        fn callers_share_looks_that_are_apart(
            callers in prop::collection::vec(0_u64..5_000, 1..200),
            takes in 0_u64..600,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let (waits, looked) = runtime.block_on(async {
                let (looks, done) = followed(ms(takes));
                let calls = callers.iter().map(|at| {
                    let looks = Arc::clone(&looks);
                    let at = ms(*at);
                    tokio::spawn(async move {
                        sleep(at).await;
                        let asked = Instant::now();
                        let seen = looks.fresh(later()).await;
                        (seen, asked.elapsed())
                    })
                });
                let calls: Vec<_> = calls.collect();
                let mut waits = Vec::new();
                for call in calls {
                    waits.push(call.await.unwrap());
                }
                time::sleep(ms(2_000)).await;
                (waits, done.load(Ordering::Relaxed))
            });
            for (seen, waited) in waits {
                // The look under way, the time apart, its own.
                let longest = ms(takes.max(250) + takes);
                prop_assert!(waited <= longest.min(WAIT), "{waited:?} of {longest:?}");
                // A whole look fits into it.
                prop_assert!(!seen || waited >= ms(takes));
                prop_assert!(seen || longest > WAIT);
            }
            prop_assert!(looked <= 7_000 / takes.max(250) + 1, "{looked} looks");
        }
    }
}
