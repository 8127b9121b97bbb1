//! What a breaker has seen lately, in slices of time, and whether that is too much.

use std::time::Duration;

use tokio::time::Instant;

use super::{Cause, Policy};

/// The window slides in steps of one part in so many: what is counted lies between 9/10 of the
/// window and all of it.
const SLICES: u32 = 10;

/// The outcomes of the last while.
pub(super) struct Window {
    /// The newest first.
    slices: [Slice; SLICES as usize],
    /// When the newest slice began.
    began: Instant,
    /// How long a slice lasts.
    width: Duration,
    /// All slices together.
    total: Slice,
    /// Failures since the last success, however long ago.
    in_a_row: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) requests: u32,
    pub(super) failures: u32,
    /// Those that took longer than the policy's threshold.
    pub(super) slow: u32,
}

impl Window {
    pub(super) fn new(policy: &Policy, now: Instant) -> Window {
        Window {
            slices: Default::default(),
            began: now,
            width: policy.window() / SLICES,
            total: Slice::default(),
            in_a_row: 0,
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, now: Instant) {
        self.slices = Default::default();
        self.began = now;
        self.total = Slice::default();
        self.in_a_row = 0;
    }

    /// Counts one outcome; the answer is why the breaker should open, if it should.
    pub(super) fn count(
        &mut self,
        policy: &Policy,
        now: Instant,
        failed: bool,
        took: Duration,
    ) -> Option<Cause> {
        self.forget(now);
        let one = Slice {
            requests: 1,
            failures: u32::from(failed),
            slow: u32::from(policy.is_slow(took)),
        };
        let [newest, ..] = &mut self.slices;
        newest.add(one);
        self.total.add(one);
        self.in_a_row = if failed {
            self.in_a_row.saturating_add(1)
        } else {
            0
        };
        policy.judge(self.total, self.in_a_row)
    }

    /// All that is remembered.
    #[cfg(test)]
    pub(super) fn total(&self) -> (Slice, u32) {
        (self.total, self.in_a_row)
    }

    /// Lets go of the slices that are too old by now.
    fn forget(&mut self, now: Instant) {
        let mut passed = 0;
        while now.saturating_duration_since(self.began) >= self.width {
            passed += 1;
            if passed > SLICES {
                // An idle version: nothing is left to forget, however long it was.
                self.began = now;
                return;
            }
            self.began += self.width;
            self.slices.rotate_right(1);
            let [newest, ..] = &mut self.slices;
            self.total.subtract(*newest);
            *newest = Slice::default();
        }
    }
}

impl Slice {
    fn add(&mut self, other: Slice) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.slow = self.slow.saturating_add(other.slow);
    }

    fn subtract(&mut self, other: Slice) {
        self.requests = self.requests.saturating_sub(other.requests);
        self.failures = self.failures.saturating_sub(other.failures);
        self.slow = self.slow.saturating_sub(other.slow);
    }
}
