//! What a load test is judged by: the SLO's P95 with its warning and its availability, or what a flag
//! says instead of one of them.

use std::path::PathBuf;

use aegis_autoscale::slo::Slo;
use aegis_loadtest::objective::Objective;

/// Where the objective comes from.
#[derive(clap::Args, Debug)]
pub(super) struct Judged {
    /// The SLO file to judge by; without it the built-in SLO, whose figures are those of k8s/slo.toml
    /// as it came.
    #[arg(long, value_name = "FILE")]
    pub(super) slo: Option<PathBuf>,
    /// Pass: P95 below this many milliseconds [default: the SLO's objectives.p95_ms].
    #[arg(long, value_name = "MS")]
    p95_ms: Option<f64>,
    /// Warn: P95 up to this many milliseconds; beyond it is a fail [default: the SLO's
    /// objectives.p95_warning_ms, or the objective if that is more].
    #[arg(long, value_name = "MS")]
    p95_warn_ms: Option<f64>,
    /// Fail: more than this percent of the requests fail [default: what the SLO's
    /// objectives.availability_percent leaves].
    #[arg(long, value_name = "PERCENT")]
    max_failure_percent: Option<f64>,
}

impl Judged {
    /// The objective: each figure by its flag, else by the SLO.
    pub(super) fn objective(&self, slo: &Slo) -> anyhow::Result<Objective> {
        let promised = &slo.objectives;
        let p95 = self.p95_ms.unwrap_or(promised.p95_ms.millis());
        let warn = promised.p95_warning_ms.millis().max(p95);
        let failures = promised.availability_percent.rest() * 100.0;
        Ok(Objective::new(
            p95,
            self.p95_warn_ms.unwrap_or(warn),
            self.max_failure_percent.unwrap_or(failures),
        )?)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        judged: Judged,
    }

    fn objective(slo: &str, flags: &str) -> anyhow::Result<[f64; 3]> {
        let words = ["loadtest"].into_iter().chain(flags.split_whitespace());
        let line = Line::try_parse_from(words).unwrap();
        let objective = line.judged.objective(&Slo::parse(slo).unwrap())?;
        Ok([
            objective.p95_ms(),
            objective.p95_warn_ms(),
            objective.max_failure_percent(),
        ])
    }

    const OTHER: &str = "[objectives]\np95_ms = 200\np95_warning_ms = 350\np50_ms = 100\navailability_percent = 99.0\n";

    #[test]
    fn every_figure_is_the_slo_files() {
        assert_eq!(objective("", "").unwrap(), [350.0, 400.0, 0.5]);
        assert_eq!(objective(OTHER, "").unwrap(), [200.0, 350.0, 1.0]);
    }

    #[test]
    fn a_flag_comes_before_the_file_for_its_own_figure_only() {
        let flags = "--p95-ms 300 --max-failure-percent 5";
        assert_eq!(objective(OTHER, flags).unwrap(), [300.0, 350.0, 5.0]);
    }

    #[test]
    fn an_objective_above_the_usual_warning_has_no_band_of_it() {
        assert_eq!(objective("", "--p95-ms 500").unwrap(), [500.0, 500.0, 0.5]);
        assert!(objective("", "--p95-ms 500 --p95-warn-ms 400").is_err());
    }
}
