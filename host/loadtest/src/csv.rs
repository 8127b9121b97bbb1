//! The rows of the seeds' CSV, columns exactly theirs.

use std::fmt::Write as _;

use crate::report::{CellResult, Report, timestamp};

/// The head. Latencies are milliseconds, `Duration` seconds, `FailureRate` percent.
pub const HEAD: &str = "Timestamp,Users,Workers,Duration,InitialReplicas,PeakReplicas,FinalReplicas,\
ScaleUpEvents,ScaleDownEvents,Requests,RPS,P50,P95,P99,MaxLatency,FailureRate";

/// What stands below the head where replicas are simulated: the columns cannot say it.
pub const SIMULATED: &str = "# replicas are simulated, not read from a cluster";

/// The head, with [`SIMULATED`] below it where that is so.
#[must_use]
pub fn head(simulated: bool) -> String {
    if simulated {
        format!("{HEAD}\n{SIMULATED}")
    } else {
        HEAD.to_owned()
    }
}

/// A cell's row. What was not measured or read is empty.
#[must_use]
pub fn row(cell: &CellResult) -> String {
    let replicas = |of: fn(&crate::replicas::Replicas) -> u32| {
        cell.replicas
            .as_ref()
            .map(|replicas| of(replicas).to_string())
    };
    let fields = [
        Some(timestamp(cell.began)),
        cell.cell.load.users().map(|users| users.to_string()),
        Some(cell.cell.workers.to_string()),
        Some(figure(cell.measured_seconds)),
        replicas(|replicas| replicas.initial),
        replicas(|replicas| replicas.peak),
        replicas(|replicas| replicas.last),
        replicas(|replicas| replicas.scale_ups),
        replicas(|replicas| replicas.scale_downs),
        Some(cell.requests.to_string()),
        Some(figure(cell.rps)),
        cell.p50_ms.map(figure),
        cell.p95_ms.map(figure),
        cell.p99_ms.map(figure),
        cell.max_ms.map(figure),
        Some(percent(cell.failure_percent)),
    ];
    fields.map(Option::unwrap_or_default).join(",")
}

/// Head and rows.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut text = head(report.simulated());
    for cell in &report.cells {
        let _ = write!(text, "\n{}", row(cell));
    }
    text
}

/// At most two places, and none that say nothing: `240`, `40.21`, `0.35`.
fn figure(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// As a [`figure`], with one place at least, as the seeds' row has it; and never `0.0` where
/// something failed.
fn percent(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0');
    match text.strip_suffix('.') {
        Some(_) => format!("{text}0"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copied from the seeds, with their example row.
    const SEEDS: [&str; 2] = [
        "Timestamp,Users,Workers,Duration,InitialReplicas,PeakReplicas,FinalReplicas,ScaleUpEvents,ScaleDownEvents,Requests,RPS,P50,P95,P99,MaxLatency,FailureRate",
        "2024-01-15T10:00:00,100,4,240,3,6,5,2,0,9650,40.21,245,312,458,1203,0.0",
    ];

    #[test]
    fn the_head_is_the_seeds_line() {
        assert_eq!(HEAD, SEEDS[0]);
    }

    #[test]
    fn a_row_reads_as_the_seeds_example_and_says_its_zone() {
        let cell = crate::sample::cell();
        assert_eq!(row(&cell), SEEDS[1].replacen(",100", "Z,100", 1));
    }

    #[test]
    fn simulated_replicas_say_so_below_the_head() {
        assert_eq!(head(false), HEAD);
        let head = head(true);
        assert_eq!(head.lines().collect::<Vec<_>>(), [HEAD, SIMULATED]);
    }

    #[test]
    fn what_was_not_read_is_empty_and_a_row_keeps_its_columns() {
        let mut cell = crate::sample::cell();
        cell.replicas = None;
        (cell.p50_ms, cell.p95_ms, cell.p99_ms, cell.max_ms) = (None, None, None, None);
        let row = row(&cell);
        assert_eq!(
            row,
            "2024-01-15T10:00:00Z,100,4,240,,,,,,9650,40.21,,,,,0.0"
        );
        assert_eq!(row.split(',').count(), HEAD.split(',').count());
    }

    #[test]
    fn a_rare_failure_does_not_read_as_none() {
        for (value, text) in [
            (0.0, "0.0"),
            (100.0, "100.0"),
            (0.5, "0.5"),
            (0.0104, "0.0104"),
        ] {
            assert_eq!(percent(value), text);
        }
    }
}
