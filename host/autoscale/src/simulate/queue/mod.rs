//! One pod's queue, two ways: every request by itself ([`Exact`]), or a quarter of a second at a
//! time by queueing theory ([`Aggregate`]). The first is right at any load and costs some 100 ns a
//! request; the second costs the same whatever the rate, and stands in where a day would otherwise
//! take more than a second.

mod aggregate;
mod exact;

use rand::rngs::Xoshiro256PlusPlus;

use super::{
    histogram::{Exported, Felt},
    service::ServiceModel,
};

pub(super) use aggregate::{Aggregate, poisson};
pub(super) use exact::Exact;

/// The generator: its sequence is the same on every platform.
pub(super) type Rng = Xoshiro256PlusPlus;

/// What came of the requests, counted as they are answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    /// As `/metrics` has it.
    pub exported: Exported,
    /// What callers felt of those answered well.
    pub felt: Felt,
    /// Answered well.
    pub answered: u64,
    /// Refused with 429.
    pub rejected: u64,
    /// CPU used, in core seconds.
    pub cpu: f64,
}

/// A 429 is answered within this, in seconds.
const REJECTION: f64 = 0.000_4;

impl Counters {
    fn answer(&mut self, latency: f64, count: u64) {
        self.exported.record(latency, count);
        self.felt.record(latency, count);
        self.answered += count;
    }

    /// A refusal counts among the exported durations, as `http_request_duration_seconds` has all
    /// statuses: its haste lowers the p95 of an overloaded pod.
    fn reject(&mut self, count: u64) {
        self.exported.record(REJECTION, count);
        self.rejected += count;
    }
}

/// What the gauges of a pod show.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauges {
    /// `http_requests_in_flight`.
    pub in_flight: f64,
    /// `aegis_inference_queue_depth`.
    pub queued: f64,
}

/// A pod's queue, of either kind.
#[derive(Clone, Debug)]
pub(super) enum Queue {
    Exact(Exact),
    Aggregate(Aggregate),
}

impl Queue {
    /// What a scrape finds at its moment.
    pub(in crate::simulate) fn seen(&self, model: &ServiceModel, rng: &mut Rng) -> Gauges {
        match self {
            Self::Exact(exact) => exact.gauges(),
            Self::Aggregate(aggregate) => aggregate.seen(model, rng),
        }
    }

    /// What the gauges show now, or on average where only that is known.
    pub(in crate::simulate) fn gauges(&self, model: &ServiceModel) -> Gauges {
        match self {
            Self::Exact(exact) => exact.gauges(),
            Self::Aggregate(aggregate) => aggregate.gauges(model),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
