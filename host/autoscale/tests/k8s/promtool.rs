//! Every recording rule, held by promtool to what it must say when the service is overloaded, calm,
//! asked nothing, when a counter starts anew and when a pod leaves.

use std::{collections::BTreeSet, process::Command};

use serde_json::{Value, json};

use crate::{
    scenario::{BAD, CALM, Life, NONE, Scenario, question},
    tools::{documents, find, k8s, read, succeed},
};

/// Every rule and alert of the committed file.
pub(crate) fn rules() -> Vec<Value> {
    let file = &documents(&read("prometheus/rules.yaml"))[0];
    let groups = file["groups"].as_array().unwrap();
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

/// Runs promtool on these tests; the rules' groups in their order.
pub(crate) fn promtool_test(tests: &[Value]) {
    let Some(promtool) = find("promtool", "bin") else {
        return;
    };
    let file = &documents(&read("prometheus/rules.yaml"))[0];
    let order: Vec<&Value> = file["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| &g["name"])
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.yaml");
    let tests = json!({
        "rule_files": [k8s().join("prometheus/rules.yaml")],
        "evaluation_interval": "15s",
        "group_eval_order": order,
        "tests": tests,
    });
    std::fs::write(&path, tests.to_string()).unwrap();
    succeed(Command::new(promtool).args(["test", "rules"]).arg(path));
}

pub(crate) fn overloaded() -> Scenario {
    Scenario::new("overloaded")
        .pod("a", Life::Whole, BAD, 12, 6)
        .pod("b", Life::Whole, BAD, 12, 6)
        .flags("a", "0x60 6+6x99")
        .model("a", Life::Whole, 0, 2)
        .model("b", Life::Whole, 1, 0)
        .unanswered("c", Life::Whole)
        .cluster(20, true)
}

pub(crate) fn calm() -> Scenario {
    Scenario::new("calm")
        .pod("a", Life::Whole, CALM, 4, 0)
        .pod("b", Life::Whole, CALM, 4, 0)
        .flags("a", "0x160")
        .model("a", Life::Whole, 1, 0)
        .model("b", Life::Whole, 1, 1)
        .cluster(5, false)
}

pub(crate) fn idle() -> Scenario {
    Scenario::new("idle")
        .pod("a", Life::Whole, NONE, 0, 0)
        .pod("b", Life::Whole, NONE, 0, 0)
        .flags("a", "0x160")
        .model("a", Life::Whole, 1, 0)
        .cluster(3, false)
}

/// As calm, but a process starts anew: its counters begin at nothing.
pub(crate) fn restarted() -> Scenario {
    Scenario::new("restarted")
        .pod("a", Life::Restarts, CALM, 4, 0)
        .pod("b", Life::Whole, CALM, 4, 0)
        .flags("a", "500x59 0x100")
        .model("a", Life::Whole, 1, 0)
        .cluster(5, false)
}

/// As calm, but the pod with the trouble has gone.
pub(crate) fn left() -> Scenario {
    Scenario::new("left")
        .pod("a", Life::Whole, CALM, 4, 0)
        .pod("b", Life::Leaves, CALM, 90, 60)
        .flags("a", "0x160")
        .model("a", Life::Whole, 1, 0)
        .model("b", Life::Leaves, 0, 2)
        .unanswered("c", Life::Leaves)
        .cluster(5, false)
}

/// What one rule says in each scenario, or that it says nothing.
struct Row {
    name: &'static str,
    /// Labels beside the namespace.
    labels: &'static str,
    overloaded: Option<f64>,
    calm: Option<f64>,
    idle: Option<f64>,
    left: Option<f64>,
}

const fn row(
    name: &'static str,
    labels: &'static str,
    overloaded: f64,
    calm: f64,
    idle: Option<f64>,
    left: Option<f64>,
) -> Row {
    Row {
        name,
        labels,
        overloaded: Some(overloaded),
        calm: Some(calm),
        idle,
        left,
    }
}

/// The arithmetic, for `overloaded`: of 60 requests between looks 30 are within 0.5 s, so the P50 is
/// 0.5; the 57th is in the bucket 1.5 to 2 s, which has 12, so the P95 is 1.5 + 9/12 × 0.5. 48 of 60
/// are slower than 0.35 s: 0.8, of a budget of 0.05. Of 100 requests 10 fail, of a budget of 0.005.
const ROWS: &[Row] = &[
    row(
        "pod:http_request_duration_seconds:p50",
        "pod=\"a\"",
        0.5,
        0.1,
        None,
        Some(0.1),
    ),
    row(
        "pod:http_request_duration_seconds:p50",
        "pod=\"b\"",
        0.5,
        0.1,
        None,
        None,
    ),
    row(
        "pod:http_request_duration_seconds:p95",
        "pod=\"a\"",
        1.875,
        0.275,
        None,
        Some(0.275),
    ),
    row(
        "pod:http_request_duration_seconds:p95",
        "pod=\"b\"",
        1.875,
        0.275,
        None,
        None,
    ),
    row(
        "pod:http_request_duration_seconds:p99",
        "pod=\"a\"",
        1.975,
        0.335,
        None,
        Some(0.335),
    ),
    row(
        "pod:http_request_duration_seconds:p99",
        "pod=\"b\"",
        1.975,
        0.335,
        None,
        None,
    ),
    row(
        "pod:http_requests_in_flight:sum",
        "pod=\"a\"",
        12.0,
        4.0,
        Some(0.0),
        Some(4.0),
    ),
    row(
        "pod:http_requests_in_flight:sum",
        "pod=\"b\"",
        12.0,
        4.0,
        Some(0.0),
        None,
    ),
    row(
        "pod:aegis_inference_queue_depth:sum",
        "pod=\"a\"",
        6.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "pod:aegis_inference_queue_depth:sum",
        "pod=\"b\"",
        6.0,
        0.0,
        Some(0.0),
        None,
    ),
    row(
        "pod:http_requests:rate1m",
        "pod=\"a\"",
        6.666667,
        6.666667,
        Some(0.0),
        Some(6.666667),
    ),
    row(
        "pod:http_requests:rate1m",
        "pod=\"b\"",
        6.666667,
        6.666667,
        Some(0.0),
        None,
    ),
    row(
        "service:http_request_duration_seconds:p50",
        "",
        0.5,
        0.1,
        None,
        Some(0.1),
    ),
    row(
        "service:http_request_duration_seconds:p95",
        "",
        1.875,
        0.275,
        None,
        Some(0.275),
    ),
    row(
        "service:http_request_duration_seconds:p99",
        "",
        1.975,
        0.335,
        None,
        Some(0.335),
    ),
    row(
        "service:http_requests_in_flight:sum",
        "",
        24.0,
        8.0,
        Some(0.0),
        Some(4.0),
    ),
    row(
        "service:aegis_inference_queue_depth:sum",
        "",
        12.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:http_requests:rate1m",
        "",
        13.333333,
        13.333333,
        Some(0.0),
        Some(6.666667),
    ),
    row(
        "service:http_requests_failed:ratio_rate1m",
        "",
        0.1,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:http_requests_refused:ratio_rate1m",
        "",
        0.1,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    // 6 flags between looks, of 120 predictions; over the day that is 25 minutes old, in 10 of them.
    row(
        "model:aegis_safety_flags:ratio_rate10m",
        "model=\"m\"",
        0.05,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "model:aegis_safety_flags:ratio_rate1d",
        "model=\"m\"",
        0.02,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    // 60 of each pod between looks, of which there were 100; of the one that left 59, and half a look
    // that Prometheus adds where a series ends.
    row(
        "model:aegis_inference_requests:increase1d",
        "model=\"m\"",
        12000.0,
        12000.0,
        Some(0.0),
        Some(9570.0),
    ),
    row(
        "model:aegis_safety_flags:baseline",
        "model=\"m\"",
        0.001,
        0.001,
        Some(0.001),
        Some(0.001),
    ),
    row(
        "service:slo_burn:rate5m",
        "slo=\"availability\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate30m",
        "slo=\"availability\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate1h",
        "slo=\"availability\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate2h",
        "slo=\"availability\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate6h",
        "slo=\"availability\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate1d",
        "slo=\"availability\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate3d",
        "slo=\"availability\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate5m",
        "slo=\"latency_p95\"",
        16.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate30m",
        "slo=\"latency_p95\"",
        16.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate1h",
        "slo=\"latency_p95\"",
        16.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate2h",
        "slo=\"latency_p95\"",
        16.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate6h",
        "slo=\"latency_p95\"",
        16.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate1d",
        "slo=\"latency_p95\"",
        16.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate3d",
        "slo=\"latency_p95\"",
        16.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate5m",
        "slo=\"latency_p99\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate30m",
        "slo=\"latency_p99\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate1h",
        "slo=\"latency_p99\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate2h",
        "slo=\"latency_p99\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate6h",
        "slo=\"latency_p99\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate1d",
        "slo=\"latency_p99\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_burn:rate3d",
        "slo=\"latency_p99\"",
        20.0,
        0.0,
        Some(0.0),
        Some(0.0),
    ),
    row(
        "service:slo_error_budget_remaining:ratio30d",
        "slo=\"availability\"",
        -19.0,
        1.0,
        Some(1.0),
        Some(1.0),
    ),
    row(
        "service:slo_error_budget_remaining:ratio30d",
        "slo=\"latency_p95\"",
        -15.0,
        1.0,
        Some(1.0),
        Some(1.0),
    ),
    row(
        "service:slo_error_budget_remaining:ratio30d",
        "slo=\"latency_p99\"",
        -19.0,
        1.0,
        Some(1.0),
        Some(1.0),
    ),
];

/// One question for each recording's name, and what answers it.
fn questions(of: impl Fn(&Row) -> Option<f64>) -> Vec<Value> {
    let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
    names
        .into_iter()
        .map(|name| {
            let answers: Vec<(String, f64)> = ROWS
                .iter()
                .filter(|row| row.name == name)
                .filter_map(|row| {
                    let comma = if row.labels.is_empty() { "" } else { "," };
                    let labels = format!("{{namespace=\"aegis\"{comma}{}}}", row.labels);
                    of(row).map(|value| (labels, value))
                })
                .collect();
            // promtool compares floats to the last bit.
            question(&format!("round({name}, 1e-6)"), 25, &answers)
        })
        .collect()
}

#[test]
fn promtool_finds_no_fault_in_the_rules() {
    let Some(promtool) = find("promtool", "bin") else {
        return;
    };
    succeed(
        Command::new(promtool)
            .args(["check", "rules", "--lint=all", "--lint-fatal"])
            .arg(k8s().join("prometheus/rules.yaml")),
    );
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
    for rule in rules() {
        let Some(name) = rule["record"].as_str() else {
            continue;
        };
        let slo = rule["labels"]["slo"].as_str().unwrap_or_default();
        let row = ROWS
            .iter()
            .find(|row| row.name == name && row.labels.contains(slo));
        assert!(row.is_some(), "{name} {slo}");
    }
}

#[test]
fn the_operator_gets_the_same_rules() {
    let plain = documents(&read("prometheus/rules.yaml")).remove(0);
    let wrapped = documents(&read("base/inference-slo-rules.yaml")).remove(0);
    assert_eq!(wrapped["spec"], plain);
}
