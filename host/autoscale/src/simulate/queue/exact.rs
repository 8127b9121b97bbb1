//! Every request by itself: a first-come, first-served queue before a pod's places, by events.

use std::collections::VecDeque;

use rand::RngExt as _;

use super::{Counters, Gauges, Rng};
use crate::simulate::service::ServiceModel;

/// A pod's places and those who wait for them.
#[derive(Clone, Debug)]
pub(in crate::simulate) struct Exact {
    places: Vec<Place>,
    busy: usize,
    running: usize,
    waiting: VecDeque<f64>,
    /// When the next place is done; infinite while all are free. Kept so that most calls of
    /// `advance` end at one comparison.
    next: f64,
}

#[derive(Clone, Debug, Default)]
struct Place {
    done_at: f64,
    began_at: f64,
    /// When those in its batch came; empty: it is free.
    batch: Vec<f64>,
}

impl Exact {
    pub(in crate::simulate) fn new(model: &ServiceModel) -> Self {
        let places = vec![Place::default(); model.concurrency as usize];
        Self {
            places,
            busy: 0,
            running: 0,
            waiting: VecDeque::new(),
            next: f64::INFINITY,
        }
    }

    /// A request comes at `at`, in seconds, not before any other event of this pod.
    pub(in crate::simulate) fn offer(
        &mut self,
        at: f64,
        model: &ServiceModel,
        rng: &mut Rng,
        counters: &mut Counters,
    ) {
        self.advance(at, model, rng, counters);
        if self.busy < self.places.len() {
            let free = self.places.iter().position(|place| place.batch.is_empty());
            self.waiting.push_back(at);
            if let Some(place) = free {
                self.start(place, at, model, rng);
            }
        } else if self.waiting.len() < model.max_queue as usize {
            self.waiting.push_back(at);
        } else {
            counters.reject(1);
        }
    }

    /// Lets everything happen that happens until `until`, in seconds.
    pub(in crate::simulate) fn advance(
        &mut self,
        until: f64,
        model: &ServiceModel,
        rng: &mut Rng,
        counters: &mut Counters,
    ) {
        while self.next <= until {
            let done_at = self.next;
            let done = self
                .places
                .iter()
                .position(|place| !place.batch.is_empty() && place.done_at <= done_at);
            let Some(index) = done else { break };
            if let Some(place) = self.places.get_mut(index) {
                for came_at in &place.batch {
                    counters.answer(place.done_at - came_at, 1);
                }
                counters.cpu += (place.done_at - place.began_at) * model.cores_per_place;
                self.running -= place.batch.len();
                place.batch.clear();
                self.busy -= 1;
            }
            if self.waiting.is_empty() {
                self.find_next();
            } else {
                self.start(index, done_at, model, rng);
            }
        }
    }

    /// A free place takes what waits, up to a batch.
    fn start(&mut self, index: usize, at: f64, model: &ServiceModel, rng: &mut Rng) {
        let size = self.waiting.len().min(model.max_batch as usize);
        if let Some(place) = self.places.get_mut(index) {
            place.batch.extend(self.waiting.drain(..size));
            let service = model.time.quantile(rng.random::<f64>());
            place.began_at = at;
            place.done_at = at + service * model.batch_factor(size as f64);
            self.busy += 1;
            self.running += size;
        }
        self.find_next();
    }

    fn find_next(&mut self) {
        self.next = self
            .places
            .iter()
            .filter(|place| !place.batch.is_empty())
            .map(|place| place.done_at)
            .fold(f64::INFINITY, f64::min);
    }

    /// Requests that came and are not answered.
    pub(in crate::simulate) fn in_flight(&self) -> usize {
        self.running + self.waiting.len()
    }

    pub(in crate::simulate) fn gauges(&self) -> Gauges {
        Gauges {
            in_flight: self.in_flight() as f64,
            queued: self.waiting.len() as f64,
        }
    }
}
