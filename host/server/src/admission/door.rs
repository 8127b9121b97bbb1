//! The places inside, whose number may change while requests are there: what is taken away while it is in use goes when
//! it is given back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::vegas::Vegas;

#[derive(Debug)]
pub(super) struct Door {
    places: Arc<Semaphore>,
    /// How many may be inside. Changes under the lock of `adaptive` only.
    limit: AtomicUsize,
    /// How many more there are than that, until they are given back. Likewise.
    surplus: AtomicUsize,
    /// How long requests are inside, lately, in nanoseconds.
    pub(super) service: AtomicU64,
    adaptive: Option<Mutex<Vegas>>,
}

impl Door {
    /// As many as are asked for.
    pub(super) fn fixed(limit: usize) -> Door {
        Door::new(limit, None)
    }

    /// As many as requests' times say, `ceiling` at most.
    pub(super) fn adaptive(ceiling: usize) -> Door {
        let vegas = Vegas::new(ceiling);
        Door::new(vegas.limit(), Some(Mutex::new(vegas)))
    }

    fn new(limit: usize, adaptive: Option<Mutex<Vegas>>) -> Door {
        Door {
            places: Arc::new(Semaphore::new(limit)),
            limit: AtomicUsize::new(limit),
            surplus: AtomicUsize::new(0),
            service: AtomicU64::new(0),
            adaptive,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// A place, once there is one; in order of arrival. `None`, which does not happen, if the semaphore was closed.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// A place, if one is free and nobody waits for it: tokio's semaphore is fair, and while others wait, nothing is left
    /// for this to take.
    pub(super) fn try_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Takes a place back, unless there is one too many.
    pub(super) fn give_back(&self, place: OwnedSemaphorePermit) {
        let lessened = |surplus: usize| surplus.checked_sub(1);
        let one_too_many =
            self.surplus
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, lessened);
        if one_too_many.is_ok() {
            place.forget();
        }
    }

    /// A request was answered after so long: the number of places follows, where it is adaptive.
    pub(super) fn adapt(&self, took: Duration) {
        let Some(vegas) = &self.adaptive else {
            return;
        };
        let mut vegas = vegas.lock();
        let before = self.limit();
        let all = before + self.surplus.load(Ordering::Relaxed);
        vegas.answered(took, all.saturating_sub(self.places.available_permits()));
        let after = vegas.limit();
        self.limit.store(after, Ordering::Relaxed);
        if after > before {
            self.add(after - before);
        } else {
            self.take_away(before - after);
        }
    }

    fn add(&self, mut places: usize) {
        // What was to be taken away stays first.
        let kept = |surplus: usize| Some(surplus.saturating_sub(places));
        let surplus = self
            .surplus
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, kept)
            .unwrap_or_default();
        places = places.saturating_sub(surplus);
        self.places.add_permits(places);
    }

    fn take_away(&self, places: usize) {
        let gone = self.places.forget_permits(places);
        self.surplus.fetch_add(places - gone, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the limit changes while requests come and go: as many are inside as it allows, but for those that were
        /// in before it fell.
        #[test]
        fn no_place_is_lost_and_none_is_lent_twice(
            steps in proptest::collection::vec((any::<bool>(), 1_usize..9, 0_u8..4), 1..200),
        ) {
            let door = Door::fixed(4);
            let (mut limit, mut inside) = (4, Vec::new());
            for (more, by, step) in steps {
                match step {
                    0 if more => {
                        door.add(by);
                        limit += by;
                    }
                    0 => {
                        let by = by.min(limit - 1);
                        door.take_away(by);
                        limit -= by;
                    }
                    1 => {
                        if let Some(place) = inside.pop() {
                            door.give_back(place);
                        }
                    }
                    _ => inside.extend(door.try_place()),
                }
                let free = door.places.available_permits();
                prop_assert_eq!(free, limit.saturating_sub(inside.len()));
            }
        }
    }

    #[test]
    fn a_fixed_number_of_places_does_not_follow_anything() {
        let door = Door::fixed(3);
        for _ in 0..10_000 {
            let place = door.try_place().unwrap();
            door.adapt(Duration::from_millis(1));
            door.give_back(place);
        }
        assert_eq!((door.limit(), door.places.available_permits()), (3, 3));
    }
}
