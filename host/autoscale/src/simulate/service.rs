//! What one pod can do: how long a request takes, how many at once, how they batch, how many may
//! wait, and what CPU that is. Figures are measured ones (`crate::fit` finds them), or a stated guess.

/// How finely a distribution is kept: so many equally likely values. The last stands for what one
/// request in so many sees, beyond a p99.9.
const QUANTILES: usize = 4096;

/// Why a service model makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ServiceError {
    /// A figure is out of its range.
    #[error("{what} is {value}, and must be {range}")]
    Range {
        /// Which figure, with its unit.
        what: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// There are too few measured times.
    #[error("{0} measured service times are too few to know a p95 by: at least 100 are needed")]
    TooFew(usize),
}

/// How long a place is busy with one request, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceTime {
    quantiles: Box<[f64]>,
    mean: f64,
    cv: f64,
}

impl ServiceTime {
    /// A log-normal of this mean, in seconds, and coefficient of variation: the usual shape of a
    /// service time, skewed to the right.
    ///
    /// # Errors
    /// If the mean is not above zero, or the variation not within 0 and 5.
    pub fn log_normal(mean: f64, cv: f64) -> Result<Self, ServiceError> {
        in_range(
            "the mean service time, in seconds,",
            mean,
            1e-6..=600.0,
            "0.000001 to 600",
        )?;
        in_range("the coefficient of variation", cv, 0.0..=5.0, "0 to 5")?;
        let sigma = (1.0 + cv * cv).ln().sqrt();
        let mut quantiles: Vec<f64> = (0..QUANTILES)
            .map(|index| {
                let p = (index as f64 + 0.5) / QUANTILES as f64;
                (sigma * normal_quantile(p)).exp()
            })
            .collect();
        let scale = mean * QUANTILES as f64 / quantiles.iter().sum::<f64>();
        quantiles.iter_mut().for_each(|value| *value *= scale);
        Ok(Self::of(quantiles))
    }

    /// Measured times, in seconds, of requests that did not wait.
    ///
    /// # Errors
    /// If there are fewer than 100, or one is no positive time.
    pub fn measured(mut times: Vec<f64>) -> Result<Self, ServiceError> {
        if times.len() < 100 {
            return Err(ServiceError::TooFew(times.len()));
        }
        for time in &times {
            in_range(
                "a measured service time, in seconds,",
                *time,
                1e-6..=600.0,
                "0.000001 to 600",
            )?;
        }
        times.sort_by(f64::total_cmp);
        let last = (times.len() - 1) as f64;
        let quantiles = (0..QUANTILES)
            .map(|index| {
                let at = (index as f64 + 0.5) / QUANTILES as f64 * last;
                let value = |index: usize| times.get(index).copied().unwrap_or_default();
                let low = at.floor() as usize;
                value(low) + (value(low + 1) - value(low)).max(0.0) * at.fract()
            })
            .collect();
        Ok(Self::of(quantiles))
    }

    fn of(quantiles: Vec<f64>) -> Self {
        let n = quantiles.len() as f64;
        let mean = quantiles.iter().sum::<f64>() / n;
        let variance = quantiles.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        Self {
            quantiles: quantiles.into(),
            mean,
            cv: variance.sqrt() / mean,
        }
    }

    /// In seconds.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Standard deviation over mean.
    pub fn cv(&self) -> f64 {
        self.cv
    }

    /// The value below which a share `p` of the times lies.
    pub fn quantile(&self, p: f64) -> f64 {
        let index = (p.clamp(0.0, 1.0) * self.quantiles.len() as f64) as usize;
        let last = self.quantiles.len().saturating_sub(1);
        self.quantiles
            .get(index.min(last))
            .copied()
            .unwrap_or(self.mean)
    }
}

/// One pod's abilities. `check` once, then use.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceModel {
    /// How long a place is busy with a request alone.
    pub time: ServiceTime,
    /// Places: requests (or batches) in work at once without making each other slower.
    pub concurrency: u32,
    /// Requests at most in one batch; 1: none.
    pub max_batch: u32,
    /// What each further request of a batch adds to its time, as a share of the first. 1: batching
    /// gains nothing; 0: it costs nothing.
    pub batch_marginal: f64,
    /// Requests that may wait in a pod; further ones get 429.
    pub max_queue: u32,
    /// Cores that one busy place uses.
    pub cores_per_place: f64,
    /// The pod's CPU request, in thousandths of a core.
    pub cpu_request_milli: i64,
}

impl ServiceModel {
    /// A service after the seeds' figures, until one's own is measured: 100 ms a request, four
    /// places, CPU 0.15 cores a busy place of a request of 500m. `docs/simulate.md` says how they
    /// were chosen.
    ///
    /// # Errors
    /// None; the signature is that of its parts.
    pub fn example() -> Result<Self, ServiceError> {
        Ok(Self {
            time: ServiceTime::log_normal(0.1, 0.5)?,
            concurrency: 4,
            max_batch: 1,
            batch_marginal: 0.3,
            max_queue: 64,
            cores_per_place: 0.15,
            cpu_request_milli: 500,
        })
    }

    /// Refuses what no pod is like.
    ///
    /// # Errors
    /// With the figure that is out of its range.
    pub fn check(&self) -> Result<(), ServiceError> {
        let whole = |what, value: u32, most: u32, range| {
            in_range(what, f64::from(value), 1.0..=f64::from(most), range)
        };
        whole(
            "the concurrency of a pod",
            self.concurrency,
            1024,
            "1 to 1024",
        )?;
        whole("the largest batch", self.max_batch, 1024, "1 to 1024")?;
        in_range(
            "the marginal cost in a batch",
            self.batch_marginal,
            0.0..=1.0,
            "0 to 1",
        )?;
        in_range(
            "the bound of the queue",
            f64::from(self.max_queue),
            0.0..=1e6,
            "0 to 1000000",
        )?;
        in_range(
            "the cores of a busy place",
            self.cores_per_place,
            0.0..=64.0,
            "0 to 64",
        )?;
        in_range(
            "the CPU request, in thousandths of a core,",
            self.cpu_request_milli as f64,
            1.0..=1e6,
            "1 to 1000000",
        )
    }

    /// How much longer a batch of so many takes than one request.
    pub fn batch_factor(&self, size: f64) -> f64 {
        1.0 + (size - 1.0).max(0.0) * self.batch_marginal
    }

    /// Requests a second that a pod can answer at most.
    pub fn capacity(&self) -> f64 {
        let batch = f64::from(self.max_batch);
        f64::from(self.concurrency) * batch / (self.time.mean() * self.batch_factor(batch))
    }
}

fn in_range(
    what: &'static str,
    value: f64,
    range: std::ops::RangeInclusive<f64>,
    words: &'static str,
) -> Result<(), ServiceError> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(ServiceError::Range {
            what,
            value,
            range: words,
        })
    }
}

/// The standard normal's quantile, by Acklam's rational approximation (relative error below 1.2e-9).
pub(crate) fn normal_quantile(p: f64) -> f64 {
    const LOW: f64 = 0.024_25;
    let tail = |q: f64| {
        let top = ((((-7.784_894_002_430_293e-3 * q - 3.223_964_580_411_365e-1) * q
            - 2.400_758_277_161_838)
            * q
            - 2.549_732_539_343_734)
            * q
            + 4.374_664_141_464_968)
            * q
            + 2.938_163_982_698_783;
        let bottom = (((7.784_695_709_041_462e-3 * q + 3.224_671_290_700_398e-1) * q
            + 2.445_134_137_142_996)
            * q
            + 3.754_408_661_907_416)
            * q
            + 1.0;
        top / bottom
    };
    if p < LOW {
        tail((-2.0 * p.ln()).sqrt())
    } else if p > 1.0 - LOW {
        -tail((-2.0 * (1.0 - p).ln()).sqrt())
    } else {
        let q = p - 0.5;
        let r = q * q;
        let top = (((((-3.969_683_028_665_376e1 * r + 2.209_460_984_245_205e2) * r
            - 2.759_285_104_469_687e2)
            * r
            + 1.383_577_518_672_69e2)
            * r
            - 3.066_479_806_614_716e1)
            * r
            + 2.506_628_277_459_239)
            * q;
        let bottom = ((((-5.447_609_879_822_406e1 * r + 1.615_858_368_580_409e2) * r
            - 1.556_989_798_598_866e2)
            * r
            + 6.680_131_188_771_972e1)
            * r
            - 1.328_068_155_288_572e1)
            * r
            + 1.0;
        top / bottom
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn the_normal_quantile_is_that_of_the_tables() {
        for (p, z) in [
            (0.5, 0.0),
            (0.95, 1.644_853_627),
            (0.99, 2.326_347_874),
            (0.001, -3.090_232_306),
        ] {
            assert!((normal_quantile(p) - z).abs() < 1e-6, "{p}");
        }
    }

    #[test]
    fn a_log_normal_has_its_mean_its_variation_and_its_p95() {
        let time = ServiceTime::log_normal(0.1, 0.5).unwrap();
        assert!((time.mean() - 0.1).abs() < 1e-12);
        assert!((time.cv() - 0.5).abs() < 0.01, "{}", time.cv());
        let sigma = 1.25f64.ln().sqrt();
        let p95 = 0.1 * (1.644_853_627 * sigma - sigma * sigma / 2.0).exp();
        assert!((time.quantile(0.95) / p95 - 1.0).abs() < 0.005);
    }

    #[test]
    fn measured_times_are_kept_as_they_are() {
        let times: Vec<f64> = (1..=1000).map(|n| f64::from(n) / 1000.0).collect();
        let time = ServiceTime::measured(times).unwrap();
        assert!((time.mean() - 0.5005).abs() < 1e-3);
        assert!((time.quantile(0.95) - 0.95).abs() < 2e-3);
    }

    #[test]
    fn what_no_pod_is_like_is_refused_with_the_range() {
        assert!(ServiceTime::log_normal(0.0, 0.5).is_err());
        assert!(ServiceTime::log_normal(f64::NAN, 0.5).is_err());
        assert!(
            ServiceTime::measured(vec![0.1; 99])
                .unwrap_err()
                .to_string()
                .contains("at least 100")
        );
        let model = ServiceModel {
            concurrency: 0,
            ..ServiceModel::example().unwrap()
        };
        let told = model.check().unwrap_err().to_string();
        assert_eq!(told, "the concurrency of a pod is 0, and must be 1 to 1024");
    }

    #[test]
    fn a_batch_raises_what_a_pod_can_answer() {
        let mut model = ServiceModel::example().unwrap();
        assert!((model.capacity() - 40.0).abs() < 1e-9);
        model.max_batch = 8;
        assert!((model.capacity() - 40.0 * 8.0 / 3.1).abs() < 1e-9);
    }
}
