//! What `aegis tune` found, for people: what to do, a line for each setting, and what a reader should
//! know.

use aegis_tune::report::{Report, ms};

use crate::client::columns;

/// The words and the table.
pub(super) fn text(report: &Report) -> String {
    let head = [
        "", "SETTING", "LOAD", "RPS", "P50", "P95", "P99", "FAILED", "A RUN", "RUNS", "",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for row in report.rows() {
        let mut line = vec![row.mark.to_owned(), row.setting.to_string()];
        match &row.at {
            Some((load, figures)) => line.extend([
                load.to_string(),
                format!("{:.0}", figures.rps),
                ms(figures.p50_ms),
                ms(figures.p95_ms),
                ms(figures.p99_ms),
                format!("{:.2} %", figures.failure_percent),
                figures
                    .mean_batch
                    .map_or_else(|| "-".to_owned(), |mean| format!("{mean:.1}")),
                figures.runs.to_string(),
                if row.meets { "" } else { "misses" }.to_owned(),
            ]),
            None => line.push("not served".to_owned()),
        }
        rows.push(line);
    }
    let mut lines = report.proposal();
    lines.push(String::new());
    lines.push(columns(&rows));
    lines.push(
        "Each setting at the load where it served most within the objective; latencies in ms; A RUN: \
         requests in one run of the graph; RUNS: measurements whose median the figures are."
            .to_owned(),
    );
    lines.extend(report.cautions());
    lines.join("\n")
}
