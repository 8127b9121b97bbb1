//! The report as one page that stands alone: a table of verdicts, and for each cell its plots. No
//! scripts, nothing fetched.

use std::{borrow::Cow, fmt::Write as _};

use crate::{
    chart::{Chart, Line, Mark},
    objective::Objective,
    report::{CellResult, Ended, Point, Report, timestamp},
};

/// The style of pages and charts.
pub const STYLE: &str = include_str!("report.css");

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let verdict = report.verdict().word();
    let objective = &report.objective;
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Load test: {verdict}</title><style>{STYLE}</style></head><body>\n\
         <h1>Load test <span class=\"verdict {verdict}\">{verdict}</span></h1>\n\
         <dl><dt>Asked</dt><dd><code>{}</code></dd><dt>Bodies</dt><dd>{}</dd>\
         <dt>Objective</dt><dd>P95 below {} ms (warning to {} ms), at most {} % failing</dd>\
         <dt>Seed</dt><dd>{}</dd>",
        escape(&report.url),
        escape(&report.bodies.join(", ")),
        objective.p95_ms(),
        objective.p95_warn_ms(),
        objective.max_failure_percent(),
        report.plan.seed()
    );
    if let Some(from) = &report.replicas_from {
        let _ = write!(
            html,
            "<dt>Replicas</dt><dd>{}</dd>",
            escape(&from.to_string())
        );
    }
    html.push_str("</dl>\n");
    let planned = report.plan.cells().len();
    if report.cells.len() < planned {
        let done = report.cells.len();
        let why = if report.gave_up() {
            "nothing succeeded any more"
        } else {
            "it was stopped"
        };
        let _ = writeln!(
            html,
            "<p class=\"caution\">{done} of {planned} cells were driven: {why}.</p>"
        );
    }
    overview(&mut html, report);
    for (index, cell) in report.cells.iter().enumerate() {
        section(&mut html, index, cell, report);
    }
    html.push_str(
        "<p class=\"small\">Latencies are of requests that were answered or timed out; failures that \
         come quickly count as failures only. Closed loop: each user waits for the answer, then \
         thinks. Open loop: latency counts from when a request was due.</p></body></html>\n",
    );
    html
}

fn overview(html: &mut String, report: &Report) {
    html.push_str(
        "<div class=\"wide\"><table><thead><tr><th>Verdict</th><th>Load</th><th>Workers</th><th>Measured</th>\
         <th>Requests</th><th>RPS</th><th>P50 ms</th><th>P95 ms</th><th>P99 ms</th><th>Max ms</th>\
         <th>Failed</th><th>",
    );
    html.push_str(replicas_title(report));
    html.push_str("</th></tr></thead><tbody>\n");
    for (index, cell) in report.cells.iter().enumerate() {
        let verdict = cell.judgement.verdict.word();
        let replicas = cell.replicas.map_or_else(
            || "–".to_owned(),
            |replicas| {
                format!(
                    "{} → {} → {}",
                    replicas.initial, replicas.peak, replicas.last
                )
            },
        );
        let _ = writeln!(
            html,
            "<tr><td><a href=\"#cell{index}\" class=\"verdict {verdict}\">{verdict}</a></td>\
             <td>{}</td><td>{}</td><td>{:.0} s</td><td>{}</td><td>{:.1}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2} %</td><td>{replicas}</td></tr>",
            cell.cell.load,
            cell.cell.workers,
            cell.measured_seconds,
            cell.requests,
            cell.rps,
            ms(cell.p50_ms),
            ms(cell.p95_ms),
            ms(cell.p99_ms),
            ms(cell.max_ms),
            cell.failure_percent,
        );
    }
    html.push_str("</tbody></table></div>\n");
}

/// What replicas are called, so that those of a model are never taken for a cluster's.
fn replicas_title(report: &Report) -> &'static str {
    if report.simulated() {
        "Replicas, simulated"
    } else {
        "Replicas"
    }
}

fn section(html: &mut String, index: usize, cell: &CellResult, report: &Report) {
    let verdict = cell.judgement.verdict.word();
    let _ = writeln!(
        html,
        "<section id=\"cell{index}\"><h2><span class=\"verdict {verdict}\">{verdict}</span> {}</h2>\
         <p class=\"small\">Began {}{}</p>",
        escape(&cell.cell.to_string()),
        timestamp(cell.began),
        match cell.ended {
            Ended::Whole => "",
            Ended::Stopped => ", stopped early",
            Ended::GaveUp => ", given up",
        }
    );
    list(html, "reason", cell.judgement.reasons.iter().cloned());
    list(html, "caution", cell.cautions.iter().cloned());
    let failures = cell
        .failures
        .iter()
        .map(|(kind, count)| format!("{count} × {kind}: {}", kind.meaning()));
    list(html, "failure", failures);
    html.push_str("<div class=\"charts\">");
    for chart in charts(cell, &report.objective, replicas_title(report)) {
        html.push_str(&chart.svg());
    }
    html.push_str("</div></section>\n");
}

fn list(html: &mut String, class: &str, items: impl Iterator<Item = String>) {
    let mut items = items.peekable();
    if items.peek().is_some() {
        let _ = write!(html, "<ul class=\"{class}\">");
        for item in items {
            let _ = write!(html, "<li>{}</li>", escape(&item));
        }
        html.push_str("</ul>");
    }
}

fn charts(cell: &CellResult, objective: &Objective, replicas_title: &'static str) -> Vec<Chart> {
    let line = |name, class, of: fn(&Point) -> Option<f64>| Line {
        name: Cow::Borrowed(name),
        class,
        points: cell
            .series
            .iter()
            .map(|point| (point.at_seconds, of(point)))
            .collect(),
        steps: false,
    };
    let objectives = || {
        let mark = |at, name: &str, class| Mark {
            at,
            name: name.to_owned(),
            class,
        };
        vec![
            mark(objective.p95_ms(), "objective", "warn"),
            mark(objective.p95_warn_ms(), "fail above", "fail"),
        ]
    };
    let over_time = |title, y_label, lines, across| Chart {
        title: Cow::Borrowed(title),
        x_label: "seconds since the measurement began",
        y_label,
        log_x: false,
        y_max: None,
        lines,
        across,
        upright: Vec::new(),
    };
    let mut charts = vec![
        over_time(
            "Latency",
            "ms",
            vec![
                // Of few requests a second P95 and P99 are one; what is judged by lies above.
                line("P99", "three", |point| point.p99_ms),
                line("P50", "one", |point| point.p50_ms),
                line("P95", "two", |point| point.p95_ms),
            ],
            objectives(),
        ),
        over_time(
            "Requests",
            "per second",
            vec![
                line("ended", "one", |point| Some(point.rps)),
                line("failed", "fail", |point| Some(point.failures_per_second)),
            ],
            Vec::new(),
        ),
        Chart {
            title: Cow::Borrowed("Distribution of latency"),
            x_label: "ms, logarithmic",
            y_label: "% at or below",
            log_x: true,
            y_max: Some(100.0),
            lines: vec![Line {
                name: Cow::Borrowed("requests"),
                class: "two",
                points: cell
                    .distribution
                    .iter()
                    .map(|(ms, share)| (*ms, Some(share * 100.0)))
                    .collect(),
                steps: false,
            }],
            across: vec![Mark {
                at: 95.0,
                name: "95 %".to_owned(),
                class: "quiet",
            }],
            upright: objectives(),
        },
    ];
    if cell.replicas.is_some() {
        let replicas = line("replicas", "one", |point| point.replicas.map(f64::from));
        let lines = vec![Line {
            steps: true,
            ..replicas
        }];
        charts.push(over_time(replicas_title, "pods", lines, Vec::new()));
    }
    charts
}

fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"))
}

/// Text from outside (URLs, file names, a server's words) as text and nothing else.
#[must_use]
pub fn escape(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut escaped, letter| {
            match letter {
                '&' => escaped.push_str("&amp;"),
                '<' => escaped.push_str("&lt;"),
                '>' => escaped.push_str("&gt;"),
                '"' => escaped.push_str("&quot;"),
                '\'' => escaped.push_str("&#39;"),
                other => escaped.push(other),
            }
            escaped
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan, replicas::ReplicasFrom, sample};

    fn report() -> Report {
        let cell = sample::cell();
        let plan = plan::tests::plan(cell.cell.load);
        Report {
            url: "http://127.0.0.1:8000/predict?identifier=<script>alert(1)</script>".to_owned(),
            bodies: vec!["a\"b.json".to_owned()],
            objective: sample::objective(),
            plan,
            replicas_from: Some(ReplicasFrom::Cluster),
            cells: vec![cell],
        }
    }

    #[test]
    fn a_page_stands_alone_and_what_comes_from_outside_is_text_in_it() {
        let page = page(&report());
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        assert!(page.contains("a&quot;b.json"));
        for fetched in ["src=", "href=\"http", "url(", "@import", "<link"] {
            assert!(!page.contains(fetched), "{fetched}");
        }
    }

    #[test]
    fn replicas_of_a_model_are_never_called_replicas_alone() {
        let mut report = report();
        assert!(!page(&report).contains("imulated"));
        let by = "k8s/hpa <3 pods>".to_owned();
        report.replicas_from = Some(ReplicasFrom::Simulated { by });
        let page = page(&report);
        assert!(
            page.contains("what k8s/hpa &lt;3 pods&gt; would have done"),
            "{page}"
        );
        for place in [
            "<th>Replicas, simulated</th>",
            "<title>Replicas, simulated</title>",
        ] {
            assert!(page.contains(place), "{place}");
        }
    }

    #[test]
    fn every_cell_has_its_verdict_and_its_plots() {
        let page = page(&report());
        for part in [
            "PASS",
            "Latency",
            "Requests",
            "Distribution of latency",
            "Replicas",
            "3 → 6 → 5",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<svg").count(), 4);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
