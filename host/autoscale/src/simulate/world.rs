//! The simulation itself: load comes a quarter of a second at a time and is given to pods by
//! single requests or in bulk; between those steps scrapes, samples, syncs, starts and ends happen
//! at their own times, in order.

mod load;
mod sync;

use std::collections::VecDeque;

use rand::{RngExt as _, SeedableRng as _};

use super::{
    config::Config,
    histogram::Felt,
    pod::SimPod,
    profile::Profile,
    queue::{Queue, Rng},
    run::{Minute, Run, Summary, Tick, milliseconds},
    signal::Windows,
};
use crate::hpa::{Controller, Hpa, SYNC_PERIOD};

/// The longest piece of the load, in seconds: short against scrapes and syncs.
const LONGEST_STEP: f64 = 0.25;
/// Felt latencies are kept by so many seconds, which is a whole number of steps.
const SLICE: f64 = 5.0;
/// Slices of a minute, and of the last minute that a tick's p95 looks back on.
const SLICES_A_MINUTE: u64 = 12;

pub(super) struct World<'a> {
    config: &'a Config,
    profile: &'a Profile,
    controller: Controller,
    exact: bool,
    /// How long a piece of the load is, in seconds, and how many make a slice.
    step: f64,
    steps_a_slice: u64,
    windows: Windows,
    rng: Rng,
    pods: Vec<SimPod>,
    next_id: u32,
    replicas: i32,
    next_sync: f64,
    /// CPU used by pods that are gone, and by all at the last sync.
    cpu_of_gone: f64,
    cpu_at_sync: f64,
    /// When the single requests of this step come that have not come yet.
    arrivals: VecDeque<f64>,
    /// Requests that found no pod.
    unserved: u64,
    /// Latencies of the last 60 s, 5 s each.
    recent: VecDeque<Felt>,
    minute: MinuteSum,
    felt: Felt,
    ticks: Vec<Tick>,
    minutes: Vec<Minute>,
}

/// What a minute adds up to.
#[derive(Default)]
struct MinuteSum {
    felt: Felt,
    answered: u64,
    failed: u64,
    replicas: f64,
    pod_seconds: f64,
}

impl<'a> World<'a> {
    pub(super) fn new(config: &'a Config, hpa: &Hpa, profile: &'a Profile) -> Self {
        let exact = config.is_exact(profile);
        let begin = -config.warm_up;
        // Short against think times as well: a user asks once within a step at most.
        let steps_a_slice = (SLICE / LONGEST_STEP.min(config.think / 4.0)).ceil();
        let replicas = config.initial_replicas.unwrap_or(hpa.min_replicas());
        let mut world = Self {
            config,
            profile,
            controller: Controller::new(hpa.clone()),
            exact,
            step: SLICE / steps_a_slice,
            steps_a_slice: steps_a_slice as u64,
            windows: Windows {
                rate: config.rate_window,
                gauge: config.gauge_window,
            },
            rng: Rng::seed_from_u64(config.seed),
            pods: Vec::new(),
            next_id: 0,
            replicas,
            next_sync: begin + SYNC_PERIOD.as_f64(),
            cpu_of_gone: 0.0,
            cpu_at_sync: 0.0,
            arrivals: VecDeque::new(),
            unserved: 0,
            recent: VecDeque::new(),
            minute: MinuteSum::default(),
            felt: Felt::default(),
            ticks: Vec::new(),
            minutes: Vec::new(),
        };
        for _ in 0..replicas {
            // They have long been there.
            let pod = SimPod::new(world.next_id, begin, begin, begin, config, exact);
            world.pods.push(pod);
            world.next_id += 1;
        }
        world
    }

    pub(super) fn run(mut self) -> Run {
        let begin = -self.config.warm_up;
        let steps = ((self.profile.duration() - begin) / self.step).ceil() as u64;
        let warm = (self.config.warm_up / self.step).round() as u64;
        let mut initial_replicas = self.replicas;
        for step in 0..steps {
            let now = begin + step as f64 * self.step;
            self.load(now);
            self.happenings(now + self.step);
            self.account(step, now + self.step, step >= warm);
            if step + 1 == warm {
                self.minute = MinuteSum::default();
                initial_replicas = self.replicas;
            }
        }
        let summary = Summary::of(&self.ticks, &self.minutes, &self.felt, self.config);
        Run {
            profile: self.profile.name().to_owned(),
            load: self.profile.kind(),
            exact: self.exact,
            initial_replicas,
            ticks: self.ticks,
            minutes: self.minutes,
            summary,
        }
    }

    /// Everything but load that happens until `until`, in order of time.
    fn happenings(&mut self, until: f64) {
        loop {
            let next = self
                .pods
                .iter()
                .map(|pod| pod.next_scrape.min(pod.next_cpu))
                .fold(self.next_sync, f64::min);
            if next > until {
                break;
            }
            self.serve_until(next);
            for pod in &mut self.pods {
                if pod.next_scrape <= next {
                    pod.scrape(self.config, &mut self.rng);
                }
                if pod.next_cpu <= next {
                    pod.sample_cpu(self.config);
                }
            }
            if self.next_sync <= next {
                self.sync(next);
                // Each HPA is queued again 15 s after it was handled, which takes its time.
                let drift = 0.01 + 0.07 * self.rng.random::<f64>();
                self.next_sync = next + SYNC_PERIOD.as_f64() + drift;
            }
        }
        self.serve_until(until);
        let mut gone = 0.0;
        self.pods.retain_mut(|pod| {
            if !pod.is_gone(until) {
                return true;
            }
            // What it had not answered by the end of its grace is lost to the callers.
            if let Queue::Exact(queue) = &pod.queue {
                self.unserved += queue.in_flight() as u64;
            }
            gone += pod.counters.cpu;
            self.minute.take(pod);
            false
        });
        self.cpu_of_gone += gone;
    }

    fn living(&self) -> impl Iterator<Item = &SimPod> {
        self.pods.iter().filter(|pod| pod.deleted_at.is_none())
    }

    fn cpu(&self) -> f64 {
        self.cpu_of_gone + self.pods.iter().map(|pod| pod.counters.cpu).sum::<f64>()
    }

    fn scale_to(&mut self, desired: i32, now: f64) {
        self.replicas = desired;
        let living = self.living().count() as i32;
        for _ in living..desired {
            let runs_at = now + self.config.schedule;
            let spread = 0.8 + 0.4 * self.rng.random::<f64>();
            let ready_at = runs_at + self.config.startup * spread;
            let pod = SimPod::new(
                self.next_id,
                now,
                runs_at,
                ready_at,
                self.config,
                self.exact,
            );
            self.pods.push(pod);
            self.next_id += 1;
        }
        for _ in desired..living {
            // A ReplicaSet takes what is not ready first, and then what is ready for the shortest.
            let newest = self
                .pods
                .iter_mut()
                .filter(|pod| pod.deleted_at.is_none())
                .max_by(|a, b| {
                    (a.ready_at, a.id)
                        .partial_cmp(&(b.ready_at, b.id))
                        .unwrap_or(std::cmp::Ordering::Equal)
                });
            if let Some(pod) = newest {
                pod.deleted_at = Some(now);
            }
        }
    }

    /// Adds a step up, and ends a minute where one ends.
    fn account(&mut self, step: u64, end: f64, counts: bool) {
        self.minute.replicas += f64::from(self.replicas);
        self.minute.pod_seconds += self.pods.len() as f64 * self.step;
        if (step + 1).is_multiple_of(self.steps_a_slice) {
            let mut slice = Felt::default();
            for pod in &mut self.pods {
                slice.add(&pod.counters.felt);
                self.minute.take(pod);
            }
            self.minute.failed += std::mem::take(&mut self.unserved);
            self.recent.push_back(slice);
            if self.recent.len() > SLICES_A_MINUTE as usize {
                self.recent.pop_front();
            }
        }
        if counts && (step + 1).is_multiple_of(self.steps_a_slice * SLICES_A_MINUTE) {
            let sum = std::mem::take(&mut self.minute);
            self.felt.add(&sum.felt);
            self.minutes.push(Minute {
                time: end.round(),
                load: self.profile.at(end),
                p50_ms: milliseconds(sum.felt.quantile(0.5)),
                p95_ms: milliseconds(sum.felt.quantile(0.95)),
                p99_ms: milliseconds(sum.felt.quantile(0.99)),
                answered: sum.answered,
                failed: sum.failed,
                replicas: sum.replicas * self.step / 60.0,
                pod_hours: sum.pod_seconds / 3600.0,
            });
        }
    }
}

impl MinuteSum {
    /// Takes over what a pod has counted since it was last asked.
    fn take(&mut self, pod: &mut SimPod) {
        let counters = &mut pod.counters;
        self.felt.add(&counters.felt.take());
        self.answered += std::mem::take(&mut counters.answered);
        self.failed += std::mem::take(&mut counters.rejected);
    }
}
