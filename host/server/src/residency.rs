//! What loaded versions take together, and which of them go when that is too much.
//!
//! Memory is estimated, not measured: native libraries do not say what they hold. The estimate
//! of a version is the bytes of its code and of its graphs, once for each session, and what was
//! measured of the rest (`bench/README.md`, density). Who uses a version holds an `Arc` of it,
//! so one that only its model's list holds has no request in flight.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

/// What a loaded version takes beside its code and its graphs: the component's types and
/// metadata, its metrics, a session's own structures and its thread.
pub(crate) const VERSION_BYTES: u64 = 512 << 10;

/// What a ready instance takes: the pages of its memory and its stack that were written.
pub(crate) const INSTANCE_BYTES: u64 = 256 << 10;

/// Versions loaded at once. Loading is reading, hashing and parsing on threads beside the
/// executor's: more than a few at once only slow each other and the requests down, and
/// hold more memory before the budget is looked at again.
pub(crate) const LOADS_AT_ONCE: usize = 4;

/// The memory that loaded versions may take, and the places for loading them.
pub(crate) struct Residency {
    budget: Option<u64>,
    pub(crate) loads: Semaphore,
    /// Held while versions are chosen and given up, so that two that look at once do not both
    /// make the same room.
    choosing: parking_lot::Mutex<()>,
}

/// Something that could be unloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate<T> {
    pub(crate) last_use: Duration,
    pub(crate) bytes: u64,
    pub(crate) what: T,
}

impl Residency {
    pub(crate) fn new(budget: Option<u64>) -> Residency {
        Residency {
            budget,
            loads: Semaphore::new(LOADS_AT_ONCE),
            choosing: parking_lot::Mutex::new(()),
        }
    }

    /// Whether `bytes` together are within the budget.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.budget.is_none_or(|budget| bytes <= budget)
    }

    /// Has the candidates given up, least recently used first, until the rest is within the
    /// budget. One that `give_up` refuses, as it is in use, stays. Whether the rest is within
    /// the budget now.
    pub(crate) fn make_room<T>(
        &self,
        candidates: impl FnOnce() -> Vec<Candidate<T>>,
        mut give_up: impl FnMut(T) -> bool,
    ) -> bool {
        let Some(budget) = self.budget else {
            return true;
        };
        let _one_at_a_time = self.choosing.lock();
        let mut candidates = candidates();
        let mut total: u64 = candidates.iter().map(|candidate| candidate.bytes).sum();
        if total <= budget {
            return true;
        }
        candidates.sort_by_key(|candidate| candidate.last_use);
        for candidate in candidates {
            if total <= budget {
                break;
            }
            if give_up(candidate.what) {
                total -= candidate.bytes;
            }
        }
        total <= budget
    }
}

/// When something was last asked for; noting it costs a request a clock reading and a store.
#[derive(Debug)]
pub(crate) struct LastUse(AtomicU64);

/// Uses are counted from here.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

impl LastUse {
    /// Used now.
    pub(crate) fn now() -> LastUse {
        let last_use = LastUse(AtomicU64::new(0));
        last_use.note();
        last_use
    }

    pub(crate) fn note(&self) {
        let since = BEGINNING.elapsed().as_nanos();
        self.0
            .store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Since a beginning that is the same for all.
    pub(crate) fn at(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn given_up(budget: Option<u64>, versions: &[(u64, u64, bool)]) -> Vec<usize> {
        let mut gone = Vec::new();
        Residency::new(budget).make_room(
            || {
                let candidate =
                    |(what, (last_use, bytes, _)): (usize, &(u64, u64, bool))| Candidate {
                        last_use: Duration::from_secs(*last_use),
                        bytes: *bytes,
                        what,
                    };
                versions.iter().enumerate().map(candidate).collect()
            },
            |what| {
                let idle = versions.get(what).is_some_and(|(.., in_use)| !in_use);
                gone.extend(idle.then_some(what));
                idle
            },
        );
        gone
    }

    #[test]
    fn the_least_recently_used_goes_first_and_no_more_than_must() {
        let versions = [(3, 10, false), (1, 10, false), (2, 10, false)];
        assert_eq!(given_up(Some(30), &versions), Vec::<usize>::new());
        assert_eq!(given_up(Some(29), &versions), [1]);
        assert_eq!(given_up(Some(10), &versions), [1, 2]);
        assert_eq!(given_up(None, &versions), Vec::<usize>::new());
    }

    #[test]
    fn what_is_in_use_stays_whatever_the_budget() {
        let versions = [(1, 10, true), (2, 10, false), (3, 10, true)];
        assert_eq!(given_up(Some(0), &versions), [1]);
    }

    proptest! {
        /// Whatever there is: the rest fits unless all of it is in use, nothing in use goes,
        /// and the one that went last was needed.
        #[test]
        fn the_budget_holds_as_far_as_use_allows(
            budget in 0u64..200,
            versions in proptest::collection::vec((0u64..50, 0u64..30, any::<bool>()), 0..20),
        ) {
            let gone = given_up(Some(budget), &versions);
            let bytes = |index: &usize| versions.get(*index).map_or(0, |version| version.1);
            let total: u64 = versions.iter().map(|version| version.1).sum();
            let freed: u64 = gone.iter().map(bytes).sum();
            let idle = versions.iter().filter(|version| !version.2).count();
            prop_assert!(total - freed <= budget || gone.len() == idle);
            if let Some(last) = gone.last() {
                prop_assert!(total - freed + bytes(last) > budget);
            }
        }
    }
}
