//! What a simulation leaves: a row for every sync and a row for every minute, and what they come to.

use serde::Serialize;

use super::{config::Config, histogram::Felt, profile::LoadKind};
use crate::hpa::{LimitReason, Stabilization};

/// One simulated run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The profile's name.
    pub profile: String,
    /// What its load counts.
    pub load: LoadKind,
    /// Whether single requests were followed.
    pub exact: bool,
    /// Replicas when the profile began.
    pub initial_replicas: i32,
    /// One row for each of the controller's syncs.
    pub ticks: Vec<Tick>,
    /// One row for each minute.
    pub minutes: Vec<Minute>,
    /// The run as a whole.
    pub summary: Summary,
}

impl Run {
    /// Replicas that are asked for at a time, in seconds since the profile began.
    pub fn replicas_at(&self, time: f64) -> i32 {
        let until = self.ticks.partition_point(|tick| tick.time <= time);
        match until.checked_sub(1).and_then(|index| self.ticks.get(index)) {
            Some(tick) => tick.desired,
            None => self.initial_replicas,
        }
    }
}

/// The service at one sync of the controller.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tick {
    /// Since the profile began, in seconds.
    pub time: f64,
    /// Users, or requests a second.
    pub load: f64,
    /// CPU of the ready pods in percent of their requests, over the last sync period.
    pub cpu_percent: f64,
    /// What callers felt over the last 60 s, in milliseconds; none where nobody asked.
    pub p95_ms: Option<f64>,
    /// Requests in flight per ready pod.
    pub in_flight: f64,
    /// Requests waiting per ready pod.
    pub queued: f64,
    /// Replicas that are asked for, before this sync's decision.
    pub replicas: i32,
    /// Pods that take requests.
    pub ready: i32,
    /// The highest proposal; none where the metrics were not asked or failed.
    pub want: Option<i32>,
    /// Replicas after this sync.
    pub desired: i32,
    /// What the controller did, or why it did not, in a few words.
    pub action: String,
    /// Whether a window held it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stabilization: Option<Stabilization>,
    /// Whether policies or the range held it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitReason>,
}

/// The service over one minute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Minute {
    /// Its end since the profile began, in seconds.
    pub time: f64,
    /// Users, or requests a second, at its end.
    pub load: f64,
    /// What callers felt, in milliseconds; none where nobody was answered.
    pub p50_ms: Option<f64>,
    /// The same, p95.
    pub p95_ms: Option<f64>,
    /// The same, p99.
    pub p99_ms: Option<f64>,
    /// Answered well.
    pub answered: u64,
    /// 429, or no pod to ask.
    pub failed: u64,
    /// Replicas asked for, on average.
    pub replicas: f64,
    /// Pods that existed, in hours.
    pub pod_hours: f64,
}

/// A run in numbers: the seeds' table of success metrics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Hours of profile.
    pub hours: f64,
    /// Median over the minutes' p95, in milliseconds.
    pub p95_median_ms: Option<f64>,
    /// 95th percentile over the minutes' p95, in milliseconds.
    pub p95_high_ms: Option<f64>,
    /// Minutes with a p95 over the objective, percent of those with requests.
    pub breach_percent: f64,
    /// Mean replicas.
    pub replicas_mean: f64,
    /// Highest replicas.
    pub replicas_peak: i32,
    /// From the first proposal above the replicas to the change, in seconds: the median over all
    /// times it went up from rest.
    pub scale_up_s: Option<f64>,
    /// The same from the first proposal below the replicas.
    pub scale_down_s: Option<f64>,
    /// Changes up.
    pub scale_ups: u32,
    /// Changes down.
    pub scale_downs: u32,
    /// Requests.
    pub requests: u64,
    /// Those that failed, in percent: 429, or no pod to ask.
    pub failed_percent: f64,
    /// Dollars for 30 days like this.
    pub dollars_a_month: f64,
    /// Dollars for a million requests answered; none where none was.
    pub dollars_a_million: Option<f64>,
    /// What callers felt over the whole run, in milliseconds: the mean, which by Little's law is
    /// requests in flight over requests a second.
    pub mean_ms: Option<f64>,
    /// The same, p50.
    pub p50_ms: Option<f64>,
    /// The same, p95.
    pub p95_ms: Option<f64>,
    /// The same, p99.
    pub p99_ms: Option<f64>,
}

pub(super) fn milliseconds(seconds: f64) -> Option<f64> {
    (!seconds.is_nan()).then(|| (seconds * 1e4).round() / 10.0)
}

impl Summary {
    pub(super) fn of(ticks: &[Tick], minutes: &[Minute], felt: &Felt, config: &Config) -> Self {
        let mut p95s: Vec<f64> = minutes.iter().filter_map(|minute| minute.p95_ms).collect();
        p95s.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (share * p95s.len() as f64).ceil() as usize;
            p95s.get(index.saturating_sub(1)).copied()
        };
        let objective = config.objective * 1000.0;
        let breaches = p95s.iter().filter(|p95| **p95 > objective).count();
        let percent = |part: f64, whole: f64| {
            if whole > 0.0 {
                100.0 * part / whole
            } else {
                0.0
            }
        };
        let answered: u64 = minutes.iter().map(|minute| minute.answered).sum();
        let failed: u64 = minutes.iter().map(|minute| minute.failed).sum();
        let pod_hours: f64 = minutes.iter().map(|minute| minute.pod_hours).sum();
        let hours = minutes.len() as f64 / 60.0;
        let dollars = pod_hours * config.pod_hour;
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, count) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
            if count > 0.0 { sum / count } else { 0.0 }
        };
        Self {
            hours,
            p95_median_ms: at(0.5),
            p95_high_ms: at(0.95),
            breach_percent: percent(breaches as f64, p95s.len() as f64),
            replicas_mean: mean(&mut minutes.iter().map(|minute| minute.replicas)),
            replicas_peak: ticks.iter().map(|tick| tick.desired).max().unwrap_or(0),
            scale_up_s: reaction(ticks, |from, to| to > from),
            scale_down_s: reaction(ticks, |from, to| to < from),
            scale_ups: ticks
                .iter()
                .filter(|tick| tick.desired > tick.replicas)
                .count() as u32,
            scale_downs: ticks
                .iter()
                .filter(|tick| tick.desired < tick.replicas)
                .count() as u32,
            requests: answered + failed,
            failed_percent: percent(failed as f64, (answered + failed) as f64),
            dollars_a_month: if hours > 0.0 {
                dollars / hours * 720.0
            } else {
                0.0
            },
            dollars_a_million: (answered > 0).then(|| dollars / answered as f64 * 1e6),
            mean_ms: milliseconds(felt.mean()),
            p50_ms: milliseconds(felt.quantile(0.5)),
            p95_ms: milliseconds(felt.quantile(0.95)),
            p99_ms: milliseconds(felt.quantile(0.99)),
        }
    }
}

/// The median time from when a direction is first wanted to when it is first taken. A want that is
/// given up before counts as none.
fn reaction(ticks: &[Tick], is_towards: impl Fn(i32, i32) -> bool) -> Option<f64> {
    let mut wanted_since: Option<f64> = None;
    let mut moving = false;
    let mut times = Vec::new();
    for tick in ticks {
        if !tick
            .want
            .is_some_and(|want| is_towards(tick.replicas, want))
        {
            wanted_since = None;
            moving = false;
            continue;
        }
        let since = *wanted_since.get_or_insert(tick.time);
        if is_towards(tick.replicas, tick.desired) && !moving {
            times.push(tick.time - since);
            moving = true;
        }
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len().saturating_sub(1) / 2).copied()
}
