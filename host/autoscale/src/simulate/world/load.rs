//! How load comes to pods: how many requests a step brings, and which pod gets each.

use rand::RngExt as _;
use rand_distr::{Binomial, Distribution as _};

use super::World;
use crate::simulate::{
    profile::LoadKind,
    queue::{Queue, poisson},
};

impl World<'_> {
    /// The requests of one step.
    pub(super) fn load(&mut self, now: f64) {
        let load = self.profile.at(now);
        let in_flight: f64 = self
            .pods
            .iter()
            .map(|pod| match &pod.queue {
                Queue::Exact(queue) => queue.in_flight() as f64,
                Queue::Aggregate(queue) => queue.in_flight(),
            })
            .sum();
        if self.exact {
            let count = match self.profile.kind() {
                LoadKind::RequestsPerSecond => poisson(load * self.step, &mut self.rng),
                LoadKind::Users => {
                    // Each who thinks ends within the step with the same chance. It is step/think and
                    // not 1 - exp(-step/think): an answer comes half a step before its user counts
                    // as thinking, and then thinking takes step/think steps on average, exactly.
                    let thinking = (load - in_flight).round().max(0.0) as u64;
                    let chance = self.step / self.config.think;
                    Binomial::new(thinking, chance)
                        .map(|binomial| binomial.sample(&mut self.rng))
                        .unwrap_or(0)
                }
            };
            self.expect(now, count);
        } else {
            let rate = match self.profile.kind() {
                LoadKind::RequestsPerSecond => load,
                // Who asks is thinking no more; at the rate that this leaves.
                LoadKind::Users => {
                    let held: f64 = self.backlogged();
                    (load - held).max(0.0) / (self.config.think + self.mean_latency())
                }
            };
            let ready = self.ready(now);
            self.in_bulk(rate, &ready);
        }
    }

    /// Pods that take requests, as a Service's endpoints.
    fn ready(&self, now: f64) -> Vec<usize> {
        let pods = self.pods.iter().enumerate();
        let ready = pods.filter(|(_, pod)| pod.takes_requests(now));
        ready.map(|(index, _)| index).collect()
    }

    /// So many requests will come within the step, each at a time of its own.
    fn expect(&mut self, now: f64, count: u64) {
        let mut times: Vec<f64> = (0..count)
            .map(|_| now + self.step * self.rng.random::<f64>())
            .collect();
        times.sort_by(f64::total_cmp);
        self.arrivals.extend(times);
    }

    /// Brings single requests and their answers up to a time. Not beyond it: a scrape that saw what
    /// comes later in the step would find each pod as its latest request did, with that one in it.
    pub(super) fn serve_until(&mut self, until: f64) {
        let ready = match self.arrivals.front() {
            Some(first) if *first <= until => self.ready(*first),
            _ => Vec::new(),
        };
        while let Some(at) = self.arrivals.front().copied().filter(|at| *at <= until) {
            self.arrivals.pop_front();
            // kube-proxy's random choice among endpoints.
            let choice = (self.rng.random::<f64>() * ready.len() as f64) as usize;
            let pod = ready
                .get(choice)
                .and_then(|index| self.pods.get_mut(*index));
            let Some(pod) = pod else {
                self.unserved += 1;
                continue;
            };
            if let Queue::Exact(queue) = &mut pod.queue {
                let service = &self.config.service;
                queue.offer(at, service, &mut self.rng, &mut pod.counters);
            }
        }
        for pod in &mut self.pods {
            if let Queue::Exact(queue) = &mut pod.queue {
                let service = &self.config.service;
                queue.advance(until, service, &mut self.rng, &mut pod.counters);
            }
        }
    }

    fn in_bulk(&mut self, rate: f64, ready: &[usize]) {
        if ready.is_empty() {
            self.unserved += poisson(rate * self.step, &mut self.rng);
        }
        let share = rate / ready.len().max(1) as f64;
        for (index, pod) in self.pods.iter_mut().enumerate() {
            let rate = if ready.contains(&index) { share } else { 0.0 };
            let count = poisson(rate * self.step, &mut self.rng);
            if let Queue::Aggregate(queue) = &mut pod.queue {
                queue.step(
                    self.step,
                    rate,
                    count,
                    &self.config.service,
                    &mut self.rng,
                    &mut pod.counters,
                );
            }
        }
    }

    /// Users held up in pods' backlogs (aggregated queues).
    fn backlogged(&self) -> f64 {
        self.pods
            .iter()
            .map(|pod| match &pod.queue {
                Queue::Aggregate(queue) => queue.backlog(),
                Queue::Exact(_) => 0.0,
            })
            .sum()
    }

    /// The mean answer's time beyond the backlog, by Little's law (aggregated queues).
    fn mean_latency(&self) -> f64 {
        let ready = self.pods.iter().filter(|pod| pod.deleted_at.is_none());
        let (sum, count) = ready.fold((0.0, 0.0), |(sum, count), pod| match &pod.queue {
            Queue::Aggregate(queue) => (
                sum + queue.steady_latency(&self.config.service),
                count + 1.0,
            ),
            Queue::Exact(_) => (sum, count),
        });
        if count > 0.0 {
            sum / count
        } else {
            self.config.service.time.mean()
        }
    }
}
