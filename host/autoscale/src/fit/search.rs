//! The search: think time by Little's law, a first service time from the lightest row, then every
//! concurrency in turn with service time and variation refined for it, each candidate judged by
//! running the simulator on each row. One queueing model, the simulator's own, is thereby used for
//! fitting and for foretelling.

use super::{Fit, FitError, FitRow, MOST_FAILURES, Pair, ResultRow, WORST_FIT};
use crate::{
    hpa::Hpa,
    simulate::{Config, Engine, Profile, ServiceTime, simulate},
};

/// Concurrencies that are tried: each up to 8, then a fifth more each time.
const CONCURRENCIES: &[u32] = &[
    1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128,
];
/// Requests simulated for a row: enough for a P95 to a few percent.
const REQUESTS: f64 = 3000.0;
/// Requests a second from which a row is simulated in bulk.
const BULK: f64 = 1000.0;

/// What is fitted to of one row; times in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// None: an open loop at `rps`.
    users: Option<f64>,
    replicas: u32,
    rps: f64,
    p50: f64,
    p95: f64,
    p99: f64,
}

/// A candidate.
#[derive(Clone, Copy, Debug)]
struct Model {
    service: f64,
    cv: f64,
    concurrency: u32,
}

impl Row {
    /// Takes a row, or says why it tells nothing.
    pub(super) fn of(row: &ResultRow, replicas: Option<u32>) -> Result<Self, String> {
        if row.failure_rate > MOST_FAILURES {
            return Err(format!(
                "{} % failed, and what failed has no latency",
                row.failure_rate
            ));
        }
        let Some([p50, p95, p99]) = row.latency else {
            return Err("nothing was answered, so it has no latency".to_owned());
        };
        if row.rps <= 0.0 {
            return Err("nothing was asked: RPS is 0".to_owned());
        }
        let replicas = match (row.replicas, replicas) {
            (Some((initial, peak, last)), _) if initial == peak && peak == last => peak,
            (Some((initial, peak, last)), _) => {
                return Err(format!(
                    "replicas went from {initial} over {peak} to {last}: measure without the autoscaler"
                ));
            }
            (None, Some(replicas)) => replicas,
            (None, None) => {
                return Err(
                    "it does not tell the replicas: say how many with --replicas".to_owned(),
                );
            }
        };
        Ok(Self {
            users: row.users,
            replicas,
            rps: row.rps,
            p50: p50 / 1e3,
            p95: p95 / 1e3,
            p99: p99 / 1e3,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.users.is_some()
    }

    /// How much load a replica has: in users, or in requests a second.
    pub(super) fn per_replica(&self, in_users: bool) -> f64 {
        let load = self.users.filter(|_| in_users).unwrap_or(self.rps);
        load / f64::from(self.replicas)
    }

    /// The mean answer's time, by the log-normal that has this P50 and P95.
    fn mean_latency(&self) -> f64 {
        self.p50 * (self.sigma().powi(2) / 2.0).exp()
    }

    fn sigma(&self) -> f64 {
        (self.p95 / self.p50).ln() / 1.644_854
    }

    /// How long a user takes from one request to the next.
    fn cycle(&self) -> Option<f64> {
        self.users.map(|users| users / self.rps)
    }

    /// Little: users are in flight or think.
    fn think(&self) -> Option<f64> {
        Some(self.cycle()? - self.mean_latency())
    }

    fn profile(&self) -> Result<Profile, FitError> {
        // Whole minutes, as summaries count.
        let minutes = (REQUESTS / self.rps / 60.0).ceil().clamp(1.0, 30.0);
        let (kind, load) = match self.users {
            Some(users) => ("users", users),
            None => ("rps", self.rps),
        };
        let text = format!("time,{kind}\n0,{load}\n{},{load}\n", minutes * 60.0);
        // Rows were checked to have a load above zero: a profile of them cannot be refused.
        Profile::from_csv("row", &text).map_err(|_| FitError::Misfit { rms_percent: 100.0 })
    }

    /// As many replicas as there were, whatever happens.
    fn hpa(&self) -> Result<Hpa, FitError> {
        let yaml = format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nspec:\n  \
             scaleTargetRef: {{kind: Deployment, name: row}}\n  minReplicas: {0}\n  maxReplicas: {0}\n",
            self.replicas
        );
        Hpa::from_yaml(&yaml).map_err(|_| FitError::Misfit { rms_percent: 100.0 })
    }

    fn simulated(&self, model: Model, config: &mut Config) -> Result<FitRow, FitError> {
        config.service.time = ServiceTime::log_normal(model.service, model.cv)?;
        config.service.concurrency = model.concurrency;
        config.engine = if self.rps > BULK {
            Engine::Aggregate
        } else {
            Engine::Exact
        };
        let profile = self.profile()?;
        let summary = simulate(config, &self.hpa()?, &profile)?.summary;
        let pair = |measured, model: Option<f64>| Pair {
            measured,
            model: model.unwrap_or(f64::MAX),
        };
        let rps = summary.requests as f64 / profile.duration();
        Ok(FitRow {
            users: self.users,
            replicas: self.replicas,
            rps: pair(self.rps, Some(rps)),
            p50_ms: pair(self.p50 * 1e3, summary.p50_ms),
            p95_ms: pair(self.p95 * 1e3, summary.p95_ms),
            p99_ms: pair(self.p99 * 1e3, summary.p99_ms),
        })
    }
}

/// The root mean square, over all rows, of the logarithms of what is off.
fn misfit(rows: &[FitRow]) -> f64 {
    let squares: Vec<f64> = rows
        .iter()
        .flat_map(|row| {
            // An open loop has the rate it is given, whatever the service.
            let rate = row.users.map(|_| row.rps);
            [rate, Some(row.p50_ms), Some(row.p95_ms)]
        })
        .flatten()
        .map(|pair| (pair.model.max(1e-9) / pair.measured).ln().powi(2))
        .collect();
    (squares.iter().sum::<f64>() / squares.len().max(1) as f64).sqrt()
}

struct Search<'a> {
    rows: &'a [Row],
    config: Config,
}

impl Search<'_> {
    fn all(&mut self, model: Model) -> Result<Vec<FitRow>, FitError> {
        let Self { rows, config } = self;
        rows.iter()
            .map(|row| row.simulated(model, config))
            .collect()
    }

    fn judge(&mut self, model: Model) -> Result<f64, FitError> {
        Ok(misfit(&self.all(model)?))
    }

    /// Service time and variation moved while that helps, by ever smaller steps.
    fn refine(
        &mut self,
        model: Model,
        mut error: f64,
        steps: &[f64],
    ) -> Result<(Model, f64), FitError> {
        let mut best = model;
        for step in steps {
            for (by, of) in [
                (1.0 + step, 1.0),
                (1.0 / (1.0 + step), 1.0),
                (1.0, 1.0 + 2.0 * step),
                (1.0, 1.0 / (1.0 + 2.0 * step)),
            ] {
                for _ in 0..4 {
                    let next = Model {
                        service: (best.service * by).clamp(1e-6, 600.0),
                        cv: (best.cv * of).clamp(0.01, 5.0),
                        ..best
                    };
                    let next_error = self.judge(next)?;
                    if next_error >= error {
                        break;
                    }
                    (best, error) = (next, next_error);
                }
            }
        }
        Ok((best, error))
    }
}

pub(super) fn best(rows: &[Row], excluded: Vec<String>, base: &Config) -> Result<Fit, FitError> {
    let think = think(rows)?;
    let mut search = Search {
        rows,
        config: Config {
            think: think.unwrap_or(base.think).max(0.01),
            seed: 1,
            warm_up: 60.0,
            initial_replicas: None,
            ..base.clone()
        },
    };
    search.config.service.max_batch = 1;
    // Failures were few, so nobody was turned away.
    search.config.service.max_queue = 1_000_000;

    // The lightest row waits least: its latency is nearly the service time.
    let Some(lightest) = rows.first() else {
        return Err(FitError::Misfit { rms_percent: 100.0 });
    };
    let sigma = lightest.sigma();
    let first = Model {
        service: lightest.mean_latency(),
        cv: (sigma * sigma).exp_m1().sqrt().clamp(0.05, 5.0),
        concurrency: 1,
    };
    let mut candidates = Vec::new();
    for concurrency in CONCURRENCIES {
        let model = Model {
            concurrency: *concurrency,
            ..first
        };
        let error = search.judge(model)?;
        candidates.push(search.refine(model, error, &[0.2, 0.08])?);
    }
    let least = candidates
        .iter()
        .map(|(_, e)| *e)
        .fold(f64::INFINITY, f64::min);
    let Some((model, error)) = candidates
        .iter()
        .copied()
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
    else {
        return Err(FitError::Misfit { rms_percent: 100.0 });
    };
    let rms_percent = error.exp_m1() * 100.0;
    if rms_percent > WORST_FIT {
        return Err(FitError::Misfit { rms_percent });
    }
    // Nearly as well: within a tenth, or within what the drawn requests blur.
    let alike = || {
        let fits = candidates.iter().filter(|(_, e)| *e <= least * 1.1 + 0.004);
        fits.map(|(model, _)| model.concurrency)
    };
    let (low, high) = (
        alike().min().unwrap_or(model.concurrency),
        alike().max().unwrap_or(model.concurrency),
    );
    if high > 2 * low + 1 {
        let heaviest = rows.iter().map(|row| row.p95).fold(0.0, f64::max);
        return Err(FitError::Concurrency {
            low,
            high,
            unsaturated: heaviest < 1.5 * lightest.p95,
        });
    }
    let (model, error) = search.refine(model, error, &[0.04, 0.02])?;
    let fitted = search.all(model)?;
    let time = ServiceTime::log_normal(model.service, model.cv)?;
    Ok(Fit {
        service_ms: model.service * 1e3,
        cv: model.cv,
        concurrency: model.concurrency,
        think_s: think,
        capacity: f64::from(model.concurrency) / time.mean(),
        rms_percent: error.exp_m1() * 100.0,
        concurrency_range: (low, high),
        rows: fitted,
        excluded,
    })
}

/// The think time that all rows agree about. Rows that are mostly answering tell it badly and are
/// left out where there are others. None where no row has users.
fn think(rows: &[Row]) -> Result<Option<f64>, FitError> {
    let told = |row: &&Row| {
        row.cycle()
            .is_some_and(|cycle| row.mean_latency() < cycle / 2.0)
    };
    let mut thinks: Vec<f64> = rows.iter().filter(told).filter_map(Row::think).collect();
    if thinks.is_empty() {
        thinks = rows.iter().filter_map(Row::think).collect();
    }
    thinks.sort_by(f64::total_cmp);
    let median = thinks.get(thinks.len() / 2).map(|think| think.max(0.0));
    match (thinks.first(), thinks.last()) {
        (Some(low), Some(high)) if *high > 2.0 * low.max(0.0) + 0.1 => Err(FitError::ThinkTime {
            low: *low,
            high: *high,
        }),
        _ => Ok(median),
    }
}
