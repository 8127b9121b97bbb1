//! The simulation itself: load comes a quarter of a second at a time and is given to pods by
//! single requests or in bulk; between those steps scrapes, samples, syncs, starts and ends happen
//! at their own times, in order.

use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Binomial, Distribution as _};

use super::{
    config::Config,
    histogram::Felt,
    pod::SimPod,
    profile::{LoadKind, Profile},
    queue::{Queue, Rng, poisson},
    run::{Minute, Run, Summary, Tick, milliseconds},
    signal::{Windows, of_service, through_adapter, through_keda},
};
use crate::hpa::{
    Controller, Decision, Hpa, Input, LimitReason, MetricSpec, Outcome, SYNC_PERIOD, Stabilization,
    Time,
};

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
    /// Requests that found no pod.
    unserved: u64,
    /// Latencies of the last 60 s, 5 s each.
    recent: std::collections::VecDeque<Felt>,
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
            unserved: 0,
            recent: std::collections::VecDeque::new(),
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
        for step in 0..steps {
            let now = begin + step as f64 * self.step;
            self.load(now);
            self.happenings(now + self.step);
            self.account(step, now + self.step, step >= warm);
            if step + 1 == warm {
                self.minute = MinuteSum::default();
            }
        }
        let summary = Summary::of(&self.ticks, &self.minutes, &self.felt, self.config);
        Run {
            profile: self.profile.name().to_owned(),
            load: self.profile.kind(),
            exact: self.exact,
            ticks: self.ticks,
            minutes: self.minutes,
            summary,
        }
    }

    /// The requests of one step.
    fn load(&mut self, now: f64) {
        let ready: Vec<usize> = (0..self.pods.len())
            .filter(|index| {
                self.pods
                    .get(*index)
                    .is_some_and(|pod| pod.takes_requests(now))
            })
            .collect();
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
            self.single_requests(now, count, &ready);
        } else {
            let rate = match self.profile.kind() {
                LoadKind::RequestsPerSecond => load,
                // Who asks is thinking no more; at the rate that this leaves.
                LoadKind::Users => {
                    let held: f64 = self.backlogged();
                    (load - held).max(0.0) / (self.config.think + self.mean_latency())
                }
            };
            self.in_bulk(rate, &ready);
        }
    }

    fn single_requests(&mut self, now: f64, count: u64, ready: &[usize]) {
        let mut times: Vec<f64> = (0..count)
            .map(|_| now + self.step * self.rng.random::<f64>())
            .collect();
        times.sort_by(f64::total_cmp);
        for at in times {
            // kube-proxy's random choice among endpoints.
            let choice = (self.rng.random::<f64>() * ready.len() as f64) as usize;
            let pod = ready
                .get(choice)
                .and_then(|index| self.pods.get_mut(*index));
            match (pod, &self.config.service) {
                (Some(pod), service) => {
                    if let Queue::Exact(queue) = &mut pod.queue {
                        queue.offer(at, service, &mut self.rng, &mut pod.counters);
                    }
                }
                (None, _) => self.unserved += 1,
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
            for pod in &mut self.pods {
                if let Queue::Exact(queue) = &mut pod.queue {
                    queue.advance(next, &self.config.service, &mut self.rng, &mut pod.counters);
                }
                if pod.next_scrape <= next {
                    pod.scrape(self.config);
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
        for pod in &mut self.pods {
            if let Queue::Exact(queue) = &mut pod.queue {
                queue.advance(
                    until,
                    &self.config.service,
                    &mut self.rng,
                    &mut pod.counters,
                );
            }
        }
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

    fn sync(&mut self, now: f64) {
        let hpa = self.controller.hpa().clone();
        let asked = now - self.config.adapter_lag;
        let service = |name: &str| {
            let signal = self.config.signal(name)?;
            let scrapes = self.pods.iter().filter(|pod| pod.deleted_at.is_none());
            of_service(signal, scrapes.map(|pod| &pod.scrapes), asked, self.windows)
        };
        let mut input = Input {
            spec_replicas: self.replicas,
            status_replicas: self.living().count() as i32,
            pods: self
                .pods
                .iter()
                .map(|pod| pod.seen(now, &hpa, self.config, self.windows))
                .collect(),
            ..Input::default()
        };
        for metric in hpa.metrics() {
            match metric {
                MetricSpec::External { name, .. } => {
                    let value = through_keda(service(name));
                    input.external.insert(name.clone(), vec![value]);
                }
                MetricSpec::Object { name, .. } => {
                    if let Some(value) = service(name) {
                        input.objects.insert(name.clone(), through_adapter(value));
                    }
                }
                MetricSpec::Pods { .. } | MetricSpec::Resource { .. } => {}
            }
        }
        let decision = self.controller.sync(Time::from_f64(now), &input);
        if now >= 0.0 {
            let tick = self.tick(now, &decision);
            self.ticks.push(tick);
        }
        self.cpu_at_sync = self.cpu();
        self.scale_to(decision.desired, now);
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

    fn tick(&self, now: f64, decision: &Decision) -> Tick {
        let ready: Vec<&SimPod> = self
            .pods
            .iter()
            .filter(|pod| pod.takes_requests(now))
            .collect();
        let count = ready.len().max(1) as f64;
        let gauges = ready
            .iter()
            .map(|pod| pod.queue.gauges(&self.config.service))
            .fold((0.0, 0.0), |(a, b), g| (a + g.in_flight, b + g.queued));
        let cores = (self.cpu() - self.cpu_at_sync) / SYNC_PERIOD.as_f64();
        let requested = count * self.config.service.cpu_request_milli as f64 / 1000.0;
        let mut felt = Felt::default();
        for slice in &self.recent {
            felt.add(slice);
        }
        let steps = match &decision.outcome {
            Outcome::Decided(steps) => Some(steps),
            _ => None,
        };
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        Tick {
            time: tenth(now),
            load: tenth(self.profile.at(now)),
            cpu_percent: tenth(100.0 * cores / requested),
            p95_ms: milliseconds(felt.quantile(0.95)),
            in_flight: tenth(gauges.0 / count),
            queued: tenth(gauges.1 / count),
            replicas: decision.current,
            ready: ready.len() as i32,
            want: steps.map(|steps| steps.want),
            desired: decision.desired,
            action: action(decision),
            stabilization: steps.map(|steps| steps.stabilization),
            limit: steps.map(|steps| steps.limit),
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

/// What the controller did, in a few words.
fn action(decision: &Decision) -> String {
    let from_to = format!("{} → {}", decision.current, decision.desired);
    match &decision.outcome {
        Outcome::Disabled => "disabled: no replicas".to_owned(),
        Outcome::AboveMax => format!("{from_to}: above the maximum"),
        Outcome::BelowMin => format!("{from_to}: below the minimum"),
        Outcome::Failed { reason, .. } => format!("nothing: {reason}"),
        Outcome::Decided(steps) => {
            let held = match (steps.stabilization, steps.limit) {
                (_, LimitReason::ScaleUpLimit | LimitReason::ScaleDownLimit) => ", held by policy",
                (_, LimitReason::TooManyReplicas) => ", held by the maximum",
                (_, LimitReason::TooFewReplicas) => ", held by the minimum",
                (Stabilization::ReadyForNewScale, _) => "",
                _ => ", held by the window",
            };
            let why = if steps.want > decision.current {
                format!("wants {} by {}", steps.want, steps.metric)
            } else if steps.want < decision.current {
                format!("wants {}", steps.want)
            } else {
                String::new()
            };
            match (decision.rescaled(), why.is_empty()) {
                (true, true) => from_to,
                (true, false) => format!("{from_to}: {why}{held}"),
                (false, true) => "–".to_owned(),
                (false, false) => format!("{why}{held}"),
            }
        }
    }
}
