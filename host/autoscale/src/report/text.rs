//! The seeds' tables: a run over time, the success metrics, and what it costs.

use super::{Report, Scenario, table::table};
use crate::{
    fit::{Fit, Pair},
    simulate::{Run, Summary, Tick},
    slo::Slo,
};

/// A fit for people: the figures, how well they tell the measurements, and what was left out.
pub fn fit_text(fit: &Fit) -> String {
    let pair =
        |pair: Pair, digits: usize| format!("{:.digits$} / {:.digits$}", pair.measured, pair.model);
    let rows: Vec<Vec<String>> = fit
        .rows
        .iter()
        .map(|row| {
            vec![
                whole(row.users),
                row.replicas.to_string(),
                pair(row.rps, 1),
                pair(row.p50_ms, 0),
                pair(row.p95_ms, 0),
                pair(row.p99_ms, 0),
            ]
        })
        .collect();
    let (low, high) = fit.concurrency_range;
    let range = if low == high {
        String::new()
    } else {
        format!(" ({low} to {high} fit nearly as well)")
    };
    let mut told = format!(
        "Fitted: {:.1} ms a request (cv {:.2}), {} at once{range}, so up to {:.1} requests a second \
         a pod; {}. Off by {:.1} % on average (root mean square over P50, P95 and the rate of users).\n\
         Measured / model:\n{}",
        fit.service_ms,
        fit.cv,
        fit.concurrency,
        fit.capacity,
        fit.think_s.map_or_else(
            || "an open loop does not tell how long users think".to_owned(),
            |think| format!("users think {think:.2} s")
        ),
        fit.rms_percent,
        table(
            &["Users", "Replicas", "RPS", "P50 ms", "P95 ms", "P99 ms"],
            &rows
        )
    );
    for reason in &fit.excluded {
        told.push_str("\nLeft out: ");
        told.push_str(reason);
    }
    told
}

/// Everything for people.
pub fn text(report: &Report) -> String {
    let config = &report.config;
    let service = &config.service;
    let mut parts = vec![format!(
        "A pod: {:.0} ms a request (cv {:.2}), {} at once, batches of {}, {} may wait: up to {:.0} \
         requests a second. Users think {:.2} s. A pod is ready {:.0} s after it is asked for. Seed {}.",
        service.time.mean() * 1e3,
        service.time.cv(),
        service.concurrency,
        service.max_batch,
        service.max_queue,
        service.capacity(),
        config.think,
        config.schedule + config.startup,
        config.seed,
    )];
    for scenario in &report.scenarios {
        for (name, run) in &scenario.runs {
            parts.push(over_time(scenario, name, run));
        }
    }
    if let Some(scenario) = report.scenarios.last() {
        parts.push(success(scenario, config.objective, &report.slo));
    }
    parts.join("\n\n")
}

/// Rows as far apart as a reader can follow, and one more wherever the replicas change.
fn over_time(scenario: &Scenario, name: &str, run: &Run) -> String {
    let seconds = run.summary.hours * 3600.0;
    let (every, shows_changes) = match seconds {
        s if s <= 900.0 => (30.0, true),
        s if s <= 2700.0 => (60.0, true),
        s => ((s / 24.0 / 60.0).ceil() * 60.0, false),
    };
    let mut next = 0.0;
    let mut rows = Vec::new();
    for tick in &run.ticks {
        let due = tick.time >= next;
        if due || (shows_changes && tick.desired != tick.replicas) {
            rows.push(row(tick));
        }
        while tick.time >= next {
            next += every;
        }
    }
    let load = run.load.to_string();
    let head = [
        "Time",
        &load,
        "CPU %",
        "P95 ms",
        "In-flight",
        "Queue",
        "Replicas",
        "Ready",
        "Action",
    ];
    format!("{}, {name}\n{}", scenario.title, table(&head, &rows))
}

fn row(tick: &Tick) -> Vec<String> {
    let seconds = tick.time.round() as u64;
    let time = if seconds >= 3600 {
        format!(
            "{}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    } else {
        format!("{}:{:02}", seconds / 60, seconds % 60)
    };
    vec![
        time,
        format!("{:.0}", tick.load),
        format!("{:.0}", tick.cpu_percent),
        whole(tick.p95_ms),
        format!("{:.1}", tick.in_flight),
        format!("{:.1}", tick.queued),
        tick.replicas.to_string(),
        tick.ready.to_string(),
        tick.action.clone(),
    ]
}

fn whole(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"))
}

/// The seeds' table of success metrics. Targets are the SLO's; of replicas on average, times and
/// errors, which it does not speak of, the seeds'.
fn success(scenario: &Scenario, objective: f64, slo: &Slo) -> String {
    let milliseconds =
        |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.0} ms"));
    let seconds = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.0} s"));
    let dollars = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("${v:.2}"));
    let breach = format!("SLO breach (P95 > {:.0} ms)", objective * 1e3);
    let below = |ms: f64| format!("< {ms} ms");
    let objectives = &slo.objectives;
    let p95 = below((objective * 1e6).round() / 1e3);
    let (p50, p99) = (
        below(objectives.p50_ms.millis()),
        below(objectives.p99_ms.millis()),
    );
    let warning = below(objectives.p95_warning_ms.millis().max(objective * 1e3));
    let most = format!("< {}", slo.scaling.max_replicas);
    type Show<'a> = &'a dyn Fn(&Summary) -> String;
    let metrics: [(&str, Show<'_>, &str); 15] = [
        (
            "P95 latency (median)",
            &|s| milliseconds(s.p95_median_ms),
            &p95,
        ),
        (
            "P95 latency (95th pctile)",
            &|s| milliseconds(s.p95_high_ms),
            &warning,
        ),
        (&breach, &|s| format!("{:.1} %", s.breach_percent), "< 5 %"),
        ("P50, all requests", &|s| milliseconds(s.p50_ms), &p50),
        ("P99, all requests", &|s| milliseconds(s.p99_ms), &p99),
        (
            "Avg replicas",
            &|s| format!("{:.2}", s.replicas_mean),
            "3-6",
        ),
        ("Peak replicas", &|s| s.replicas_peak.to_string(), &most),
        ("Scale-up time", &|s| seconds(s.scale_up_s), "< 120 s"),
        ("Scale-down time", &|s| seconds(s.scale_down_s), "> 300 s"),
        ("Scale-ups", &|s| s.scale_ups.to_string(), ""),
        ("Scale-downs", &|s| s.scale_downs.to_string(), ""),
        (
            "Error rate (429, 503)",
            &|s| format!("{:.2} %", s.failed_percent),
            "< 1 %",
        ),
        ("Requests", &|s| s.requests.to_string(), ""),
        (
            "Cost per month",
            &|s| format!("${:.2}", s.dollars_a_month),
            "",
        ),
        (
            "Cost per 1M predictions",
            &|s| dollars(s.dollars_a_million),
            "",
        ),
    ];
    let rows: Vec<Vec<String>> = metrics
        .iter()
        .map(|(name, show, target)| {
            let mut row = vec![(*name).to_owned()];
            row.extend(scenario.runs.iter().map(|(_, run)| show(&run.summary)));
            row.push((*target).to_owned());
            row
        })
        .collect();
    let mut head = vec!["Metric"];
    head.extend(scenario.runs.iter().map(|(name, _)| name.as_str()));
    head.push("Target");
    format!(
        "Success metrics: {}, {:.1} hours\n{}",
        scenario.title,
        scenario
            .runs
            .first()
            .map_or(0.0, |(_, run)| run.summary.hours),
        table(&head, &rows)
    )
}
