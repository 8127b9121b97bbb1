//! What is kept of the breakers of versions that are not loaded: one that went for the memory budget, or for a version
//! that came after it, and comes back is no better for that. Kept until the version is deleted, or this process ends.

use std::collections::HashMap;
use std::sync::Arc;

use aegis_registry::{ModelName, Version};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Breaker, Phase, Why};

/// How many are kept: more than a server has versions that are unwell and unloaded. Beyond that goes the one that could
/// have been probed for the longest time.
const MOST: usize = 1024;

/// A breaker that was not closed when its version was unloaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Unwell {
    /// When it may be probed.
    pub(super) until: Instant,
    /// Since when it was as it was.
    pub(super) since: Instant,
    pub(super) why: Option<Why>,
}

/// The breakers of unloaded versions. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    unwell: Arc<Mutex<HashMap<(ModelName, Version), Unwell>>>,
}

impl Kept {
    /// Keeps what a breaker knows whose version is unloaded.
    pub(crate) fn keep(&self, name: &ModelName, version: Version, breaker: &Breaker) {
        let of = (name.clone(), version);
        let mut kept = self.unwell.lock();
        let Some(unwell) = breaker.unwell() else {
            kept.remove(&of);
            return;
        };
        if kept.len() >= MOST && !kept.contains_key(&of) {
            let first = kept.iter().min_by_key(|(_, unwell)| unwell.until);
            if let Some(first) = first.map(|(of, _)| of.clone()) {
                kept.remove(&first);
            }
        }
        kept.insert(of, unwell);
    }

    /// How a version's breaker was when it was last unloaded, if it was not closed. It stays kept, as the version may
    /// fail to load.
    pub(super) fn of(&self, name: &ModelName, version: Version) -> Option<Unwell> {
        self.unwell.lock().get(&(name.clone(), version)).copied()
    }

    /// Lets go of what is kept of a version, or of all versions of a model: they are deleted.
    pub(crate) fn forget(&self, name: &ModelName, version: Option<Version>) {
        self.unwell
            .lock()
            .retain(|of, _| of.0 != *name || version.is_some_and(|version| version != of.1));
    }
}

impl Breaker {
    /// What is to be kept of it, if it is not closed. A probe that is out finds nothing any more.
    fn unwell(&self) -> Option<Unwell> {
        let inner = self.inner.lock();
        let until = match inner.phase {
            Phase::Closed => return None,
            Phase::Open { until } => until,
            Phase::HalfOpen { .. } => inner.since,
        };
        Some(Unwell {
            until,
            since: inner.since,
            why: inner.why,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::super::{Policy, Verdict};
    use super::*;
    use aegis_registry::manifest;
    use std::time::Duration;

    fn name(text: &str) -> ModelName {
        text.parse().unwrap()
    }

    fn opened() -> Arc<Breaker> {
        let wishes = manifest::Breaker {
            consecutive_failures: Some(1),
            ..manifest::Breaker::default()
        };
        let breaker = Breaker::new(Policy::new(&wishes).unwrap(), None, |_, _| ());
        let took = Duration::ZERO;
        breaker.admit().unwrap().end(Verdict::Failure { took });
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_number_is_kept_and_what_is_deleted_is_not() {
        let kept = Kept::default();
        for number in 1..=MOST as u64 + 10 {
            tokio::time::advance(Duration::from_secs(1)).await;
            let of = name(&format!("m{}", number % 2));
            kept.keep(&of, Version::new(number).unwrap(), &opened());
        }
        assert_eq!(kept.unwell.lock().len(), MOST);
        let of = |number: u64| {
            let name = name(&format!("m{}", number % 2));
            kept.of(&name, Version::new(number).unwrap())
        };
        assert!(of(10).is_none() && of(11).is_some(), "the oldest went");
        kept.forget(&name("m1"), Some(Version::new(11).unwrap()));
        assert!(of(11).is_none() && of(13).is_some());
        kept.forget(&name("m1"), None);
        assert!(of(13).is_none() && of(12).is_some());
        assert_eq!(kept.unwell.lock().len(), MOST / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn of_one_that_is_closed_nothing_is_kept() {
        let kept = Kept::default();
        kept.keep(&name("m"), Version::FIRST, &opened());
        assert!(kept.of(&name("m"), Version::FIRST).is_some());
        let policy = Policy::new(&manifest::Breaker::default()).unwrap();
        let closed = Breaker::new(policy, None, |_, _| ());
        kept.keep(&name("m"), Version::FIRST, &closed);
        assert_eq!(kept.of(&name("m"), Version::FIRST), None);
    }
}
