//! Which settings are worth a measurement at all, by what the machine, the backend and the manifest
//! allow. In what order, and which of them are left out, the search decides by what it sees.

use std::time::Duration;

use serde::Serialize;

/// Where settings may lie.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Space {
    /// Threads that networks compute on together.
    pub cores: u32,
    /// Whether a run can use more than one of them: not on a GPU, and not in the embedded engine.
    pub threads: bool,
    /// The most requests of the model that run at once: no run gathers more.
    pub concurrency: u32,
    /// Whether batching may be left to the trial at load, or off. Not where the manifest says more of
    /// batching than is tuned, which would be lost.
    pub plain_batching: bool,
    /// The smallest `max_batch_size` that the manifest's other settings allow.
    pub least_batch: u32,
}

/// Sizes of batches that are tried; between two of them lies little.
const SIZES: [u32; 8] = [4, 8, 16, 32, 64, 128, 256, 512];

/// Waits that are tried, in milliseconds.
const WAITS: [u32; 6] = [1, 2, 5, 10, 20, 50];

/// The share of the objective that a wait may take: more leaves the run itself too little.
const WAIT_SHARE: f64 = 0.25;

impl Space {
    /// Batch sizes, rising.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = u32> {
        let (least, most) = (self.least_batch.max(2), self.concurrency);
        SIZES
            .into_iter()
            .filter(move |size| (least..=most).contains(size))
    }

    /// Waits that leave room within the objective, rising.
    pub(crate) fn waits(objective: Duration) -> impl Iterator<Item = u32> {
        let most = objective.as_secs_f64() * 1000.0 * WAIT_SHARE;
        WAITS
            .into_iter()
            .filter(move |wait| f64::from(*wait) <= most)
    }

    /// Sessions and threads that use every core, from many sessions to many threads.
    pub(crate) fn whole(&self) -> Vec<(u32, u32)> {
        self.using(self.cores)
    }

    /// Sessions and threads that use half of the cores: the server and the handlers want some too.
    pub(crate) fn half(&self) -> Vec<(u32, u32)> {
        self.using(self.cores / 2)
    }

    fn using(&self, cores: u32) -> Vec<(u32, u32)> {
        // A manifest takes so many of either.
        let cores = cores.min(64);
        (1..=cores)
            .filter(|threads| cores.is_multiple_of(*threads))
            .filter(|threads| self.threads || *threads == 1)
            .map(|threads| (cores / threads, threads))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: Space = Space {
        cores: 6,
        threads: true,
        concurrency: 40,
        plain_batching: true,
        least_batch: 1,
    };

    #[test]
    fn sessions_times_threads_are_never_more_than_the_cores() {
        assert_eq!(SPACE.whole(), [(6, 1), (3, 2), (2, 3), (1, 6)]);
        assert_eq!(SPACE.half(), [(3, 1), (1, 3)]);
        let single = Space {
            threads: false,
            ..SPACE
        };
        assert_eq!(single.whole(), [(6, 1)]);
        let one = Space { cores: 1, ..SPACE };
        assert_eq!((one.whole(), one.half()), (vec![(1, 1)], vec![]));
    }

    #[test]
    fn no_batch_is_tried_that_cannot_come_together_or_that_the_manifest_forbids() {
        assert_eq!(SPACE.sizes().collect::<Vec<_>>(), [4, 8, 16, 32]);
        let bound = Space {
            least_batch: 10,
            ..SPACE
        };
        assert_eq!(bound.sizes().collect::<Vec<_>>(), [16, 32]);
    }

    #[test]
    fn a_wait_leaves_most_of_the_objective_to_the_run() {
        let waits = |ms| Space::waits(Duration::from_millis(ms)).collect::<Vec<_>>();
        assert_eq!(waits(3), [0; 0]);
        assert_eq!(waits(20), [1, 2, 5]);
    }
}
