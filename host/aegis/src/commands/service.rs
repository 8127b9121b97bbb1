//! What a pod of a service can do, as `aegis simulate` is told it: a flag for each figure, and a file
//! with the same names (`--service`), which a fit writes (`--save-service`) and a load test reads.

use std::path::{Path, PathBuf};

use aegis_autoscale::simulate::{Config, ServiceTime};
use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};

/// The figures that are known. What is left out is the built-in guess, or the SLO's.
#[derive(clap::Args, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Figures {
    /// Mean service time of a request, in milliseconds [default: 100].
    #[arg(long, value_name = "MS")]
    service_ms: Option<f64>,
    /// Its coefficient of variation [default: 0.5].
    #[arg(long, value_name = "CV")]
    service_cv: Option<f64>,
    /// Measured service times instead, one a line, in seconds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["service_ms", "service_cv"])]
    service_times: Option<PathBuf>,
    /// Requests a pod answers at once [default: 4].
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Requests at most in a batch [default: 1].
    #[arg(long, value_name = "N")]
    max_batch: Option<u32>,
    /// What each further request of a batch adds to its time, as a share of the first [default: 0.3].
    #[arg(long, value_name = "SHARE")]
    batch_marginal: Option<f64>,
    /// Requests that may wait in a pod before it answers 429 [default: the SLO's pod.max_queue].
    #[arg(long, value_name = "N")]
    max_queue: Option<u32>,
    /// Cores that one request in work uses [default: 0.15].
    #[arg(long, value_name = "CORES")]
    cores: Option<f64>,
    /// A pod's CPU request, in thousandths of a core [default: the SLO's pod.cpu_request].
    #[arg(long, value_name = "MILLICORES")]
    cpu_request: Option<i64>,
    /// How long a user thinks between an answer and the next request, in seconds [default: 2.2].
    #[arg(long, value_name = "SECONDS")]
    think: Option<f64>,
    /// From a container's start until its pod is ready, in seconds [default: 30].
    #[arg(long, value_name = "SECONDS")]
    startup: Option<f64>,
}

impl Figures {
    /// From a file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let figures: Self = toml::from_str(text)?;
        if figures.service_times.is_some()
            && (figures.service_ms.is_some() || figures.service_cv.is_some())
        {
            bail!("service_times says what service_ms and service_cv say; keep one of them");
        }
        Ok(figures)
    }

    /// As a file.
    pub(crate) fn written(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// All that a configuration says, so that a file of it does not change with what is built in.
    pub(crate) fn of(config: &Config) -> Self {
        let service = &config.service;
        // What people read needs no more digits than a measurement has.
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        Self {
            service_ms: Some(rounded(service.time.mean() * 1e3)),
            service_cv: Some(rounded(service.time.cv())),
            service_times: None,
            concurrency: Some(service.concurrency),
            max_batch: Some(service.max_batch),
            batch_marginal: Some(service.batch_marginal),
            max_queue: Some(service.max_queue),
            cores: Some(service.cores_per_place),
            cpu_request: Some(service.cpu_request_milli),
            think: Some(rounded(config.think)),
            startup: Some(config.startup),
        }
    }

    /// These, and the others' where these say nothing.
    pub(crate) fn or(self, other: Self) -> Self {
        let timed = self.service_times.is_some();
        let drawn = self.service_ms.is_some() || self.service_cv.is_some();
        Self {
            service_ms: self.service_ms.or(other.service_ms.filter(|_| !timed)),
            service_cv: self.service_cv.or(other.service_cv.filter(|_| !timed)),
            service_times: self
                .service_times
                .or(other.service_times.filter(|_| !drawn)),
            concurrency: self.concurrency.or(other.concurrency),
            max_batch: self.max_batch.or(other.max_batch),
            batch_marginal: self.batch_marginal.or(other.batch_marginal),
            max_queue: self.max_queue.or(other.max_queue),
            cores: self.cores.or(other.cores),
            cpu_request: self.cpu_request.or(other.cpu_request),
            think: self.think.or(other.think),
            startup: self.startup.or(other.startup),
        }
    }

    /// Which of those are given that a fit finds.
    pub(crate) fn fitted(&self) -> Vec<&'static str> {
        let found = [
            ("--service-ms", self.service_ms.is_some()),
            ("--service-cv", self.service_cv.is_some()),
            ("--service-times", self.service_times.is_some()),
            ("--concurrency", self.concurrency.is_some()),
            ("--max-batch", self.max_batch.is_some()),
        ];
        let given = found.into_iter().filter(|(_, given)| *given);
        given.map(|(flag, _)| flag).collect()
    }

    /// Whether somebody says how long users think.
    pub(crate) const fn knows_thought(&self) -> bool {
        self.think.is_some()
    }

    /// Puts them into a configuration.
    pub(crate) fn apply(&self, config: &mut Config) -> anyhow::Result<()> {
        let service = &mut config.service;
        if let Some(path) = &self.service_times {
            service.time =
                ServiceTime::measured(times(path)?).with_context(|| path.display().to_string())?;
        } else {
            let mean = self.service_ms.map_or(service.time.mean(), |ms| ms / 1e3);
            let cv = self.service_cv.unwrap_or(service.time.cv());
            if self.service_ms.is_some() || self.service_cv.is_some() {
                service.time = ServiceTime::log_normal(mean, cv)?;
            }
        }
        let put = |slot: &mut f64, value: Option<f64>| *slot = value.unwrap_or(*slot);
        service.concurrency = self.concurrency.unwrap_or(service.concurrency);
        service.max_batch = self.max_batch.unwrap_or(service.max_batch);
        service.max_queue = self.max_queue.unwrap_or(service.max_queue);
        service.cpu_request_milli = self.cpu_request.unwrap_or(service.cpu_request_milli);
        put(&mut service.batch_marginal, self.batch_marginal);
        put(&mut service.cores_per_place, self.cores);
        put(&mut config.think, self.think);
        put(&mut config.startup, self.startup);
        Ok(())
    }
}

/// Seconds, one a line.
fn times(path: &Path) -> anyhow::Result<Vec<f64>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            line.trim().parse::<f64>().map_err(|_| {
                anyhow!(
                    "{}: line {}: `{line}` is no time in seconds",
                    path.display(),
                    index + 1
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use aegis_autoscale::slo::Slo;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let config = Config::of(&Slo::default()).unwrap();
        let figures = Figures::of(&config);
        let text = figures.written().unwrap();
        assert!(text.contains("service_ms = 100.0\n"), "{text}");
        assert_eq!(Figures::parse(&text).unwrap(), figures);
    }

    #[test]
    fn flags_come_before_the_file_and_one_kind_of_times_puts_out_the_other() {
        let file = Figures::parse("service_ms = 20\ncores = 0.5\nstartup = 5").unwrap();
        let flags = Figures::parse("cores = 0.1\nservice_times = \"a\"").unwrap();
        let both = flags.or(file);
        assert_eq!((both.cores, both.startup), (Some(0.1), Some(5.0)));
        assert_eq!(
            (both.service_ms, both.service_times.is_some()),
            (None, true)
        );
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_with_the_key() {
        let told = |text: &str| Figures::parse(text).unwrap_err().to_string();
        assert!(told("service_msec = 5").contains("unknown field `service_msec`"));
        assert!(told("concurrency = \"many\"").contains("concurrency"));
        assert!(told("service_ms = 5\nservice_times = \"a\"").contains("keep one"));
    }
}
