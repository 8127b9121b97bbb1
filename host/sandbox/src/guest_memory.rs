//! What all instances may hold together: WebAssembly memory, and tensors in the host. Each
//! instance has limits of its own, but hundreds of them within their limits would still fill
//! a machine.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Shares are taken and given back in steps of this many bytes, so that instances that hold
/// little seldom touch the common counter.
const STEP: usize = 1 << 20;

/// The memory of all guests.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    limit: usize,
    taken: AtomicUsize,
}

/// One holder's part of it. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arc<GuestMemory>,
    taken: usize,
}

impl GuestMemory {
    /// `limit` bytes for all instances together.
    pub(crate) fn new(limit: usize) -> Arc<GuestMemory> {
        Arc::new(GuestMemory {
            limit,
            taken: AtomicUsize::new(0),
        })
    }

    /// Memory without a bound of its own, for a guest that is alone in its process.
    pub(crate) fn unbounded() -> Arc<GuestMemory> {
        GuestMemory::new(usize::MAX)
    }

    /// A share of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share {
            of: Arc::clone(self),
            taken: 0,
        }
    }
}

impl Share {
    /// Makes the share large enough for `bytes`; `false`, and no change, if there is not so
    /// much left.
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        if bytes <= self.taken {
            return true;
        }
        let more = bytes
            .checked_next_multiple_of(STEP)
            .unwrap_or(bytes)
            .saturating_sub(self.taken);
        let got = self
            .of
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                taken
                    .checked_add(more)
                    .filter(|taken| *taken <= self.of.limit)
            });
        if got.is_ok() {
            self.taken += more;
        }
        got.is_ok()
    }

    /// Gives back what is far beyond `bytes`, for a holder that let go of much.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        /// So much may stay: taking and giving back a little at a time is not worth it.
        const SLACK: usize = 16 * STEP;
        let kept = bytes.next_multiple_of(STEP);
        if self.taken > kept.saturating_add(SLACK) {
            self.of
                .taken
                .fetch_sub(self.taken - kept, Ordering::Relaxed);
            self.taken = kept;
        }
    }

    /// The bound of all shares together, in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.of.limit
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.taken.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_finds_too_little_left_gets_nothing_and_the_others_keep_theirs() {
        let memory = GuestMemory::new(10 * STEP);
        let (mut one, mut other) = (memory.share(), memory.share());
        assert!(one.cover(7 * STEP));
        assert!(!other.cover(4 * STEP));
        assert!(other.cover(3 * STEP));
        drop(one);
        assert!(other.cover(10 * STEP));
        assert!(!other.cover(usize::MAX));
    }

    proptest! {
        /// Whatever holders take, shrink and leave: never more than there is, and all of it
        /// comes back.
        #[test]
        fn memory_is_never_lost_and_never_given_twice(
            steps in proptest::collection::vec((0usize..4, 0usize..40 * STEP, 0u8..3), 0..80),
        ) {
            let memory = GuestMemory::new(64 * STEP);
            let mut shares: Vec<Share> = (0..4).map(|_| memory.share()).collect();
            for (which, bytes, what) in steps {
                let share = shares.get_mut(which).unwrap();
                match what {
                    0 => *share = memory.share(),
                    1 => share.shrink(bytes),
                    _ => {
                        let before = share.taken;
                        let covered = share.cover(bytes);
                        let right = if covered { share.taken >= bytes } else { share.taken == before };
                        prop_assert!(right, "{bytes} bytes, covered: {covered}");
                    }
                }
                let taken: usize = shares.iter().map(|share| share.taken).sum();
                prop_assert_eq!(taken, memory.taken.load(Ordering::Relaxed));
                prop_assert!(taken <= memory.limit);
            }
            drop(shares);
            prop_assert_eq!(memory.taken.load(Ordering::Relaxed), 0);
        }
    }
}
