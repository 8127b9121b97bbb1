//! Every alert, held by promtool to when it must be told and when it must not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    promtool::{calm, idle, left, overloaded, promtool_test, restarted, rules},
    scenario::{CALM, Life, SLOWISH, Scenario, question},
};

/// What is told when everything is wrong at once: alert, labels beside it.
const OVERLOADED: &[(&str, &str)] = &[
    ("AegisLatencyObjectiveBreached", "severity=\"warning\""),
    ("AegisLatencyBeyondWarning", "severity=\"critical\""),
    ("AegisLatencyP50Breached", "severity=\"warning\""),
    ("AegisLatencyP99Breached", "severity=\"warning\""),
    ("AegisQueueDepthHigh", "severity=\"warning\""),
    ("AegisRequestsRefused", "severity=\"critical\""),
    ("AegisSafetyFlagSpike", "severity=\"warning\",model=\"m\""),
    (
        "AegisCircuitOpen",
        "severity=\"critical\",model=\"m\",model_version=\"1\"",
    ),
    (
        "AegisModelNotLoaded",
        "severity=\"critical\",model=\"m\",model_version=\"1\"",
    ),
    (
        "AegisScaledToMaximum",
        "severity=\"warning\",deployment=\"inference\"",
    ),
    (
        "AegisScalerNotWorking",
        "severity=\"critical\",horizontalpodautoscaler=\"inference\",condition=\"ScalingActive\",status=\"false\"",
    ),
    (
        "AegisScrapeFailing",
        "severity=\"warning\",job=\"inference\"",
    ),
];

/// Those on budgets: 20 or 16 times too fast is too fast for each pair of windows.
const BUDGETS: [(&str, &str); 3] = [
    ("AegisAvailabilityBudgetBurn", "availability"),
    ("AegisLatencyP95BudgetBurn", "latency_p95"),
    ("AegisLatencyP99BudgetBurn", "latency_p99"),
];
const WINDOWS: [(&str, &str); 4] = [
    ("1h", "critical"),
    ("6h", "critical"),
    ("1d", "warning"),
    ("3d", "warning"),
];

/// What is told when nothing is known at all.
const BLIND: &[(&str, &str)] = &[
    // `absent` has the labels that were asked for with `=`.
    (
        "AegisMetricsMissing",
        "severity=\"critical\",job=\"inference\",endpoint=\"/predict\"",
    ),
    (
        "AegisReplicasUnknown",
        "severity=\"warning\",deployment=\"inference\"",
    ),
];

fn budgets() -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    for (alert, slo) in BUDGETS {
        for (window, severity) in WINDOWS {
            told.push((
                alert,
                format!("severity=\"{severity}\",slo=\"{slo}\",window=\"{window}\""),
            ));
        }
    }
    told
}

fn owned(alerts: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    alerts
        .iter()
        .map(|(alert, labels)| (*alert, (*labels).to_owned()))
        .collect()
}

/// Exactly these alerts are told at this minute, and no others.
fn told(minute: u32, alerts: &[(&'static str, String)]) -> Value {
    let answers: Vec<(String, f64)> = alerts
        .iter()
        .map(|(alert, labels)| {
            (
                format!(
                    "ALERTS{{alertname=\"{alert}\",alertstate=\"firing\",namespace=\"aegis\",{labels}}}"
                ),
                1.0,
            )
        })
        .collect();
    question("ALERTS{alertstate=\"firing\"}", minute, &answers)
}

#[test]
fn when_everything_is_wrong_every_symptom_is_told() {
    let all = [owned(OVERLOADED), budgets()].concat();
    // Not before it has lasted: at minute 4 only what is told at once. A burn rate is a long look
    // already, a breaker that is open a minute is open, and the spike has not begun.
    let at_once = [
        budgets(),
        owned(&[(
            "AegisCircuitOpen",
            "severity=\"critical\",model=\"m\",model_version=\"1\"",
        )]),
    ]
    .concat();
    promtool_test(&[overloaded().test(vec![told(4, &at_once), told(25, &all)], vec![])]);
}

#[test]
fn when_all_is_well_nothing_is_told() {
    let quiet: Vec<Value> = [4, 10, 16, 25, 40].map(|minute| told(minute, &[])).into();
    promtool_test(&[
        calm().test(quiet.clone(), vec![]),
        // Nobody asks: there is no latency, and no alert about it.
        idle().test(quiet.clone(), vec![]),
        // A counter that begins anew is no burst, and its lost past no spike.
        restarted().test(quiet, vec![]),
    ]);
}

#[test]
fn what_a_pod_was_told_for_goes_with_it() {
    let before = [
        ("AegisQueueDepthHigh", "severity=\"warning\""),
        (
            "AegisCircuitOpen",
            "severity=\"critical\",model=\"m\",model_version=\"1\"",
        ),
        (
            "AegisModelNotLoaded",
            "severity=\"critical\",model=\"m\",model_version=\"1\"",
        ),
        (
            "AegisScrapeFailing",
            "severity=\"warning\",job=\"inference\"",
        ),
    ];
    promtool_test(&[left().test(
        vec![told(14, &owned(&before)), told(25, &[]), told(40, &[])],
        vec![],
    )]);
}

#[test]
fn that_nothing_is_known_is_told() {
    // Prometheus has series of others only.
    let nothing = Scenario::new("blind");
    promtool_test(&[nothing.test(vec![told(4, &[]), told(25, &owned(BLIND))], vec![])]);
}

#[test]
fn between_objective_and_warning_a_breach_is_a_warning() {
    // P95: of 60 the 57th, in the bucket 0.35 to 0.4 s with 6, is 0.35 + 5/6 × 0.05.
    let slowish = Scenario::new("slowish")
        .pod("a", Life::Whole, SLOWISH, 4, 0)
        .cluster(5, false);
    let warned = "AegisLatencyObjectiveBreached";
    let annotations = json!({
        "summary": "P95 latency is over its objective",
        "description": "The P95 of /predict has been above 0.35 s for 5 minutes; it is 391.7ms.",
        "runbook_url": "k8s/SLO_DEPLOYMENT_GUIDE.md#aegislatencyobjectivebreached",
    });
    let expected = json!([{
        "exp_labels": { "severity": "warning", "namespace": "aegis" },
        "exp_annotations": annotations,
    }]);
    // 8 of 60 are slower than 0.35 s: 0.133, 2.67 times the budget. That is under the 3 of the
    // day's window and over the 1 of the three days'.
    let told_at = owned(&[
        (warned, "severity=\"warning\""),
        (
            "AegisLatencyP95BudgetBurn",
            "severity=\"warning\",slo=\"latency_p95\",window=\"3d\"",
        ),
    ]);
    promtool_test(&[slowish.test(
        vec![told(25, &told_at)],
        vec![json!({ "alertname": warned, "eval_time": "25m", "exp_alerts": expected })],
    )]);
}

#[test]
fn a_few_flags_of_few_predictions_are_no_spike() {
    // Four flags in ten minutes, whatever their share; and a model that always raises many.
    let few = Scenario::new("few")
        .pod("a", Life::Whole, CALM, 4, 0)
        .flags("a", "0x80 4x80")
        .cluster(5, false);
    let always = Scenario::new("always")
        .pod("a", Life::Whole, CALM, 4, 0)
        .flags("a", "0+6x160")
        .cluster(5, false);
    promtool_test(&[
        few.test(vec![told(22, &[]), told(25, &[])], vec![]),
        // What it does from its first request on is what is usual of it.
        always.test(vec![told(5, &[]), told(12, &[]), told(25, &[])], vec![]),
    ]);
}

#[test]
fn a_model_without_a_past_has_no_spikes() {
    // Both raise a flag for every prediction from minute 20 on. Until minute 15, ten minutes before
    // they are looked at, one was asked some 60 times and the other 120 times.
    let tried = Scenario::new("tried")
        .pod("a", Life::Whole, CALM, 4, 0)
        .model_with_flags("a", "tried", "0+1x160", "0x80 1+1x79")
        .model_with_flags("a", "known", "0+2x160", "0x80 2+2x79")
        .cluster(5, false);
    let spike = (
        "AegisSafetyFlagSpike",
        "severity=\"warning\",model=\"known\"",
    );
    promtool_test(&[tried.test(vec![told(19, &[]), told(25, &owned(&[spike]))], vec![])]);
}

#[test]
fn no_alert_is_without_a_case_in_which_it_is_told() {
    let cases: BTreeSet<&str> = OVERLOADED
        .iter()
        .chain(BLIND)
        .map(|(alert, _)| *alert)
        .chain(BUDGETS.map(|(alert, _)| alert))
        .collect();
    let rules = rules();
    let alerts: BTreeSet<&str> = rules
        .iter()
        .filter_map(|rule| rule["alert"].as_str())
        .collect();
    assert_eq!(alerts, cases);
}
