//! Every recording rule, held by promtool to what it must say when the service is overloaded, calm,
//! asked nothing, when a counter starts anew and when a pod leaves.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    promtool::{calm, idle, left, overloaded, promtool_test, restarted, rules},
    scenario::{Scenario, question},
};

/// What one rule says in each scenario, or that it says nothing.
struct Row {
    name: &'static str,
    /// The label beside the namespace, if there is one.
    label: &'static str,
    overloaded: Option<f64>,
    calm: Option<f64>,
    idle: Option<f64>,
    left: Option<f64>,
}

/// What each recording says; `-` is nothing.
/// The arithmetic, for `overloaded`: of 60 requests between looks 30 are within 0.5 s, so the P50 is
/// 0.5; the 57th is in the bucket 1.5 to 2 s, which has 12, so the P95 is 1.5 + 9/12 × 0.5. 48 of 60
/// are slower than 0.35 s: 0.8, of a budget of 0.05. Of 100 requests 10 fail, of a budget of 0.005.
///
/// Of safety flags 6 come between looks, of 120 predictions; over the day that is 25 minutes old, in
/// 10 of them. Predictions of the day are 60 of each pod between looks, of which there were 100; of the
/// pod that left 59, and half a look that Prometheus adds where a series ends.
const TABLE: &str = r#"
recording                                    label              overloaded       calm   idle      left
pod:http_request_duration_seconds:p50        pod=a                     0.5        0.1      -       0.1
pod:http_request_duration_seconds:p50        pod=b                     0.5        0.1      -         -
pod:http_request_duration_seconds:p95        pod=a                   1.875      0.275      -     0.275
pod:http_request_duration_seconds:p95        pod=b                   1.875      0.275      -         -
pod:http_request_duration_seconds:p99        pod=a                   1.975      0.335      -     0.335
pod:http_request_duration_seconds:p99        pod=b                   1.975      0.335      -         -
pod:http_requests_in_flight:sum              pod=a                    12.0        4.0    0.0       4.0
pod:http_requests_in_flight:sum              pod=b                    12.0        4.0    0.0         -
pod:aegis_inference_queue_depth:sum          pod=a                     6.0        0.0    0.0       0.0
pod:aegis_inference_queue_depth:sum          pod=b                     6.0        0.0    0.0         -
pod:http_requests:rate1m                     pod=a                6.666667   6.666667    0.0  6.666667
pod:http_requests:rate1m                     pod=b                6.666667   6.666667    0.0         -
service:http_request_duration_seconds:p50    -                         0.5        0.1      -       0.1
service:http_request_duration_seconds:p95    -                       1.875      0.275      -     0.275
service:http_request_duration_seconds:p99    -                       1.975      0.335      -     0.335
service:http_requests_in_flight:sum          -                        24.0        8.0    0.0       4.0
service:aegis_inference_queue_depth:sum      -                        12.0        0.0    0.0       0.0
service:http_requests:rate1m                 -                   13.333333  13.333333    0.0  6.666667
service:http_requests_failed:ratio_rate1m    -                         0.1        0.0    0.0       0.0
service:http_requests_refused:ratio_rate1m   -                         0.1        0.0    0.0       0.0
model:aegis_safety_flags:ratio_rate10m       model=m                  0.05        0.0    0.0       0.0
model:aegis_safety_flags:ratio_rate1d        model=m                  0.02        0.0    0.0       0.0
model:aegis_inference_requests:increase1d    model=m               12000.0    12000.0    0.0    9570.0
model:aegis_safety_flags:baseline            model=m                 0.001      0.001  0.001     0.001
service:slo_burn:rate5m                      slo=availability         20.0        0.0    0.0       0.0
service:slo_burn:rate30m                     slo=availability         20.0        0.0    0.0       0.0
service:slo_burn:rate1h                      slo=availability         20.0        0.0    0.0       0.0
service:slo_burn:rate2h                      slo=availability         20.0        0.0    0.0       0.0
service:slo_burn:rate6h                      slo=availability         20.0        0.0    0.0       0.0
service:slo_burn:rate1d                      slo=availability         20.0        0.0    0.0       0.0
service:slo_burn:rate3d                      slo=availability         20.0        0.0    0.0       0.0
service:slo_burn:rate5m                      slo=latency_p95          16.0        0.0    0.0       0.0
service:slo_burn:rate30m                     slo=latency_p95          16.0        0.0    0.0       0.0
service:slo_burn:rate1h                      slo=latency_p95          16.0        0.0    0.0       0.0
service:slo_burn:rate2h                      slo=latency_p95          16.0        0.0    0.0       0.0
service:slo_burn:rate6h                      slo=latency_p95          16.0        0.0    0.0       0.0
service:slo_burn:rate1d                      slo=latency_p95          16.0        0.0    0.0       0.0
service:slo_burn:rate3d                      slo=latency_p95          16.0        0.0    0.0       0.0
service:slo_burn:rate5m                      slo=latency_p99          20.0        0.0    0.0       0.0
service:slo_burn:rate30m                     slo=latency_p99          20.0        0.0    0.0       0.0
service:slo_burn:rate1h                      slo=latency_p99          20.0        0.0    0.0       0.0
service:slo_burn:rate2h                      slo=latency_p99          20.0        0.0    0.0       0.0
service:slo_burn:rate6h                      slo=latency_p99          20.0        0.0    0.0       0.0
service:slo_burn:rate1d                      slo=latency_p99          20.0        0.0    0.0       0.0
service:slo_burn:rate3d                      slo=latency_p99          20.0        0.0    0.0       0.0
service:slo_error_budget_remaining:ratio30d  slo=availability        -19.0        1.0    1.0       1.0
service:slo_error_budget_remaining:ratio30d  slo=latency_p95         -15.0        1.0    1.0       1.0
service:slo_error_budget_remaining:ratio30d  slo=latency_p99         -19.0        1.0    1.0       1.0
"#;

fn rows() -> Vec<Row> {
    let lines = TABLE.trim().lines().skip(1);
    lines
        .map(|line| {
            let cells: Vec<&'static str> = line.split_whitespace().collect();
            let figure = |column: usize| match cells[column] {
                "-" => None,
                figure => Some(figure.parse().unwrap()),
            };
            Row {
                name: cells[0],
                label: cells[1],
                overloaded: figure(2),
                calm: figure(3),
                idle: figure(4),
                left: figure(5),
            }
        })
        .collect()
}

/// One question for each recording's name, and what answers it.
fn questions(of: impl Fn(&Row) -> Option<f64>) -> Vec<Value> {
    let rows = rows();
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name).collect();
    names
        .into_iter()
        .map(|name| {
            let answers: Vec<(String, f64)> = rows
                .iter()
                .filter(|row| row.name == name)
                .filter_map(|row| {
                    let label = row.label.split_once('=');
                    let label = label.map(|(key, value)| format!(",{key}=\"{value}\""));
                    let labels = format!("{{namespace=\"aegis\"{}}}", label.unwrap_or_default());
                    of(row).map(|value| (labels, value))
                })
                .collect();
            // promtool compares floats to the last bit.
            question(&format!("round({name}, 1e-6)"), 25, &answers)
        })
        .collect()
}

#[test]
fn every_recording_says_what_it_should_in_every_situation() {
    promtool_test(&[
        overloaded().test(questions(|row| row.overloaded), vec![]),
        calm().test(questions(|row| row.calm), vec![]),
        idle().test(questions(|row| row.idle), vec![]),
        restarted().test(questions(|row| row.calm), vec![]),
        left().test(questions(|row| row.left), vec![]),
        // Nothing is known: nothing is said, rather than 0.
        Scenario::new("nothing").test(questions(|_| None), vec![]),
    ]);
}

#[test]
fn no_recording_is_without_a_row() {
    let rows = rows();
    for rule in rules() {
        let Some(name) = rule["record"].as_str() else {
            continue;
        };
        let slo = rule["labels"]["slo"].as_str().unwrap_or_default();
        let row = rows
            .iter()
            .find(|row| row.name == name && row.label.contains(slo));
        assert!(row.is_some(), "{name} {slo}");
    }
}
