//! One pod over its life: created, running, ready, deleted, gone; its queue, its scrapes, and how
//! the HPA's controller sees it.

use std::collections::VecDeque;

use super::{
    config::Config,
    queue::{Aggregate, Counters, Exact, Queue, Rng},
    signal::{Scrape, Windows, of_pod, through_adapter},
};
use crate::hpa::{Hpa, MetricSpec, Phase, Pod, Ready, ReadyCondition, Time, Usage};

/// Kubernetes' default `terminationGracePeriodSeconds`.
const GRACE: f64 = 30.0;

/// A simulated pod; times in seconds of the simulation.
#[derive(Clone, Debug)]
pub(super) struct SimPod {
    pub id: u32,
    pub created: f64,
    pub runs_at: f64,
    pub ready_at: f64,
    pub deleted_at: Option<f64>,
    pub queue: Queue,
    pub counters: Counters,
    pub scrapes: VecDeque<Scrape>,
    /// The next scrape, and the next sample of CPU.
    pub next_scrape: f64,
    pub next_cpu: f64,
    /// Time and CPU used until then: the last two samples.
    cpu: [Option<(f64, f64)>; 2],
}

impl SimPod {
    pub(super) fn new(
        id: u32,
        created: f64,
        runs_at: f64,
        ready_at: f64,
        config: &Config,
        exact: bool,
    ) -> Self {
        // Scrapes are spread over their interval by a hash of the target; a golden ratio spreads
        // them as well. metrics-server asks all nodes at once.
        let offset = (f64::from(id) * 0.618_033_988_749_895).fract() * config.scrape;
        let on_grid = |offset: f64| {
            let turns = ((runs_at - offset) / config.scrape).floor() + 1.0;
            turns * config.scrape + offset
        };
        Self {
            id,
            created,
            runs_at,
            ready_at,
            deleted_at: None,
            queue: if exact {
                Queue::Exact(Exact::new(&config.service))
            } else {
                Queue::Aggregate(Aggregate::default())
            },
            counters: Counters::default(),
            scrapes: VecDeque::new(),
            next_scrape: on_grid(offset),
            next_cpu: on_grid(0.0),
            cpu: [None; 2],
        }
    }

    /// Whether it is given requests.
    pub(super) fn takes_requests(&self, now: f64) -> bool {
        self.deleted_at.is_none() && now >= self.ready_at
    }

    /// Whether it has ended: deleted, and either done or out of time.
    pub(super) fn is_gone(&self, now: f64) -> bool {
        self.deleted_at.is_some_and(|at| {
            let idle = match &self.queue {
                Queue::Exact(queue) => queue.in_flight() == 0,
                Queue::Aggregate(queue) => queue.is_idle(),
            };
            now >= at + GRACE || idle || now < self.runs_at
        })
    }

    pub(super) fn scrape(&mut self, config: &Config, rng: &mut Rng) {
        let gauges = self.queue.seen(&config.service, rng);
        let at = self.next_scrape;
        self.scrapes.push_back(Scrape {
            at,
            buckets: self.counters.exported.cumulative(),
            in_flight: gauges.in_flight,
            queued: gauges.queued,
        });
        let oldest = at - config.rate_window.max(config.gauge_window) - config.adapter_lag - 60.0;
        while self
            .scrapes
            .front()
            .is_some_and(|scrape| scrape.at < oldest)
        {
            self.scrapes.pop_front();
        }
        self.next_scrape += config.scrape;
    }

    pub(super) fn sample_cpu(&mut self, config: &Config) {
        let [_, last] = self.cpu;
        self.cpu = [last, Some((self.next_cpu, self.counters.cpu))];
        self.next_cpu += config.scrape;
    }

    /// What metrics-server tells: CPU between its last two samples, in thousandths of a core.
    fn usage(&self) -> Option<Usage> {
        let [Some((from, before)), Some((to, used))] = self.cpu else {
            return None;
        };
        Some(Usage {
            milli: ((used - before) / (to - from) * 1000.0).round() as i64,
            timestamp: Time::from_f64(to),
            window: Time::from_f64(to - from),
        })
    }

    /// As the controller sees it.
    pub(super) fn seen(&self, now: f64, hpa: &Hpa, config: &Config, windows: Windows) -> Pod {
        let runs = now >= self.runs_at;
        let ready = now >= self.ready_at;
        let asked = now - config.adapter_lag;
        let metrics = hpa.metrics().iter().filter_map(|metric| {
            let MetricSpec::Pods { name, .. } = metric else {
                return None;
            };
            let value = of_pod(config.signal(name)?, &self.scrapes, asked, windows)?;
            Some((name.clone(), through_adapter(value)))
        });
        Pod {
            name: format!("pod-{}", self.id),
            phase: if runs { Phase::Running } else { Phase::Pending },
            deleted: self.deleted_at.is_some(),
            start_time: Some(Time::from_f64(self.runs_at)),
            ready: Some(ReadyCondition {
                status: if ready { Ready::True } else { Ready::False },
                since: Time::from_f64(if ready { self.ready_at } else { self.created }),
            }),
            requests: [("cpu".to_owned(), config.service.cpu_request_milli)].into(),
            usage: self
                .usage()
                .into_iter()
                .map(|usage| ("cpu".to_owned(), usage))
                .collect(),
            metrics: metrics.collect(),
        }
    }
}
