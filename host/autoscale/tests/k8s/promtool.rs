//! promtool on the committed rules, and the situations that they are tried in: overloaded, calm, asked
//! nothing, a counter that starts anew and a pod that leaves.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    scenario::{BAD, CALM, Life, NONE, Scenario},
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
fn the_operator_gets_the_same_rules() {
    let plain = documents(&read("prometheus/rules.yaml")).remove(0);
    let wrapped = documents(&read("base/inference-slo-rules.yaml")).remove(0);
    assert_eq!(wrapped["spec"], plain);
}
