//! Many requests at once. Below its capacity a pod is taken to be in the steady state of M/G/c at
//! the rate of the moment (Erlang's C; Allen and Cunneen for the variation of service times);
//! above it, a fluid queue grows by what is beyond capacity and drains at it. Near capacity (90 to
//! 110 %) neither is exact: the steady state takes longer to come about than the load stays, so
//! waits are told a little early. The tests say how near the two kinds of queue are.

use rand::RngExt as _;
use rand_distr::{Distribution as _, Poisson};

use super::{Counters, Gauges, Rng};
use crate::simulate::{erlang, service::ServiceModel};

/// Latencies drawn for one step; each stands for its share of the step's requests.
const SAMPLES: u64 = 12;
/// The steady state is never taken nearer to capacity: what is beyond is the fluid's.
const NEAREST: f64 = 0.97;

/// A pod's queue as a fluid, with the steady state of the latest step.
#[derive(Clone, Debug, Default)]
pub(in crate::simulate) struct Aggregate {
    /// Requests that wait beyond those of the steady state.
    backlog: f64,
    /// Requests that wait in the steady state, and that are in work.
    waiting: f64,
    running: f64,
    /// How likely all places are busy in the steady state.
    all_busy: f64,
    /// Requests a second of the latest step.
    rate: f64,
}

impl Aggregate {
    /// `count` requests come during `step` seconds, `rate` a second being expected.
    pub(in crate::simulate) fn step(
        &mut self,
        step: f64,
        rate: f64,
        count: u64,
        model: &ServiceModel,
        rng: &mut Rng,
        counters: &mut Counters,
    ) {
        self.rate = rate;
        let capacity = model.capacity();
        let before = self.backlog;
        // As many as come while a batch is in work form the next one.
        let places = f64::from(model.concurrency);
        let full = before > 0.0 || rate >= capacity;
        let batch = if full {
            f64::from(model.max_batch)
        } else {
            batch_size(model, rate)
        };
        let factor = model.batch_factor(batch);
        let service = model.time.mean() * factor;
        self.backlog = (before + (rate - capacity) * step).max(0.0);
        let room = f64::from(model.max_queue);
        let turned_away = (self.backlog - room).max(0.0);
        self.backlog -= turned_away;
        let rejected =
            ((turned_away / (rate * step).max(1e-9)).min(1.0) * count as f64).round() as u64;
        counters.reject(rejected);

        let load = (rate / batch * service).min(places * NEAREST);
        let wait = if full {
            // Whoever comes finds all places busy; how long that takes depends on the backlog.
            Wait::None
        } else if batch > 1.0 {
            // All places are busy, one is done every `service / places`, and takes all who wait.
            Wait::UpTo(service / places)
        } else {
            let mean = erlang::wait_of_waiting(model.concurrency, load, service, model.time.cv());
            Wait::Exponential {
                chance: erlang::waits(model.concurrency, load),
                // Where those who wait go in one batch, none waits for more than the next place.
                mean: if model.max_batch > 1 {
                    mean.min(service / places)
                } else {
                    mean
                },
            }
        };
        let busy = if full || batch > 1.0 { places } else { load };
        self.running = busy * batch;
        self.all_busy = match wait {
            Wait::Exponential { chance, .. } => chance,
            Wait::None | Wait::UpTo(_) => 1.0,
        };
        self.waiting = rate * wait.mean();
        counters.cpu += busy * model.cores_per_place * step;

        let fluid = (before + self.backlog) / 2.0 / capacity;
        let answered = count - rejected.min(count);
        let samples = answered.min(SAMPLES);
        // Strata: one sample out of each equally likely share, so that a few are as good as many.
        let turn = rng.random::<f64>();
        for index in 0..samples {
            let count = answered / samples + u64::from(index < answered % samples);
            let p = (index as f64 + rng.random::<f64>()) / samples as f64;
            let q = (turn + index as f64 * 0.618_033_988_749_895).fract();
            let latency = fluid + wait.at(q) + model.time.quantile(p) * factor;
            counters.answer(latency, count);
        }
    }

    /// Requests that came and are not answered, on average.
    pub(in crate::simulate) fn in_flight(&self) -> f64 {
        self.running + self.waiting + self.backlog
    }

    /// Requests that wait beyond the steady state.
    pub(in crate::simulate) fn backlog(&self) -> f64 {
        self.backlog
    }

    /// How long an answer takes in the steady state of the latest step, by Little's law, in seconds.
    pub(in crate::simulate) fn steady_latency(&self, model: &ServiceModel) -> f64 {
        let alone = model.time.mean();
        if self.rate > 0.0 && self.backlog <= 0.0 {
            (self.running + self.waiting) / self.rate
        } else {
            alone
        }
    }

    /// Whether nothing is left to do once no more requests come.
    pub(in crate::simulate) fn is_idle(&self) -> bool {
        self.backlog <= 0.0
    }

    /// What one moment shows of the steady state: a gauge is scraped, not averaged, and what it
    /// scatters by keeps an HPA from going down as soon as the mean would let it.
    pub(in crate::simulate) fn seen(&self, model: &ServiceModel, rng: &mut Rng) -> Gauges {
        let places = f64::from(model.concurrency);
        let chance = self.all_busy;
        if self.backlog > 0.0 || model.max_batch > 1 || chance >= 1.0 {
            return self.gauges(model);
        }
        if rng.random::<f64>() < chance {
            // Of those moments, each longer queue is less likely by the same ratio (M/M/c).
            let mean = self.waiting / chance;
            let ratio = mean / (1.0 + mean);
            let waiting = (rng.random::<f64>().max(1e-12).ln() / ratio.max(1e-12).ln()).floor();
            let queued = waiting.min(f64::from(model.max_queue));
            return Gauges {
                in_flight: places + queued,
                queued,
            };
        }
        // At other moments nobody waits, and so many are in work that the mean comes out.
        let running = (self.running - chance * places) / (1.0 - chance);
        Gauges {
            in_flight: (poisson(running.max(0.0), rng) as f64).min((places - 1.0).max(0.0)),
            queued: 0.0,
        }
    }

    pub(in crate::simulate) fn gauges(&self, model: &ServiceModel) -> Gauges {
        Gauges {
            in_flight: self.in_flight(),
            // A gauge at a moment shows who waits then; what the bound leaves.
            queued: (self.waiting + self.backlog).min(f64::from(model.max_queue)),
        }
    }
}

/// How long those who come in one step wait for a place, in seconds.
#[derive(Clone, Copy)]
enum Wait {
    /// Not at all.
    None,
    /// Each length up to this is as likely.
    UpTo(f64),
    /// Some wait, and those exponentially.
    Exponential { chance: f64, mean: f64 },
}

impl Wait {
    fn mean(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::UpTo(most) => most / 2.0,
            Self::Exponential { chance, mean } => chance * mean,
        }
    }

    /// The wait at a share `q` of all, from the longest.
    fn at(self, q: f64) -> f64 {
        match self {
            Self::UpTo(most) => most * q,
            Self::Exponential { chance, mean } if q < chance => {
                -mean * (q / chance).max(1e-12).ln()
            }
            Self::None | Self::Exponential { .. } => 0.0,
        }
    }
}

/// The batch size that forms below capacity: those who come while all places are busy, else 1.
fn batch_size(model: &ServiceModel, rate: f64) -> f64 {
    let most = f64::from(model.max_batch);
    let places = f64::from(model.concurrency);
    // b = rate * s(b) / places, s(b) = s * (1 + (b - 1) * m): linear, so solved at once.
    let per_place = rate * model.time.mean() / places;
    let size = per_place * (1.0 - model.batch_marginal)
        / (1.0 - per_place * model.batch_marginal).max(1e-9);
    size.clamp(1.0, most)
}

/// A Poisson draw.
pub(in crate::simulate) fn poisson(mean: f64, rng: &mut Rng) -> u64 {
    match Poisson::new(mean) {
        Ok(poisson) => poisson.sample(rng) as u64,
        // Nothing comes where nothing is expected.
        Err(_) => 0,
    }
}
