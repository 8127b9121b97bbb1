//! What `aegis loadtest` found, for people: a table, and below it what a reader should know of each
//! cell.

use aegis_loadtest::report::{CellResult, Report};

use crate::client::columns;

/// The table and the words below it.
pub(super) fn text(report: &Report) -> String {
    let head = [
        "VERDICT",
        "LOAD",
        "WORKERS",
        "SECONDS",
        "REQUESTS",
        "RPS",
        "P50",
        "P95",
        "P99",
        "MAX",
        "FAILED",
        if report.simulated() {
            "SIMULATED REPLICAS"
        } else {
            "REPLICAS"
        },
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(report.cells.iter().map(row));
    let mut text = columns(&rows);
    for cell in &report.cells {
        let mut tell = |words: &str| {
            text.push_str(&format!("\n{}: {words}", cell.cell));
        };
        cell.judgement
            .reasons
            .iter()
            .for_each(|reason| tell(reason));
        for (kind, count) in cell.failures.iter() {
            tell(&format!("{count} × {kind}: {}", kind.meaning()));
        }
        cell.cautions.iter().for_each(|caution| tell(caution));
    }
    if let Some(from) = report
        .replicas_from
        .as_ref()
        .filter(|from| from.is_simulated())
    {
        text.push_str(&format!("\nReplicas are {from}"));
    }
    let (done, planned) = (report.cells.len(), report.plan.cells().len());
    if done < planned {
        let why = if report.gave_up() {
            "no request succeeded any more"
        } else {
            "it was stopped"
        };
        text.push_str(&format!("\n{done} of {planned} cells were driven: {why}"));
    }
    text
}

fn row(cell: &CellResult) -> Vec<String> {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}ms"));
    let replicas = cell.replicas.map_or_else(
        || "-".to_owned(),
        |replicas| format!("{}>{}>{}", replicas.initial, replicas.peak, replicas.last),
    );
    vec![
        cell.judgement.verdict.word().to_owned(),
        cell.cell.load.to_string(),
        cell.cell.workers.to_string(),
        format!("{:.0}", cell.measured_seconds),
        cell.requests.to_string(),
        format!("{:.2}", cell.rps),
        ms(cell.p50_ms),
        ms(cell.p95_ms),
        ms(cell.p99_ms),
        ms(cell.max_ms),
        format!("{:.2}%", cell.failure_percent),
        replicas,
    ]
}
