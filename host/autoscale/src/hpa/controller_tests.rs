//! Every clause of the algorithm in a table or a claim of its own, and what must hold of any run.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use proptest::prelude::*;

use super::*;
use crate::hpa::{
    Phase, Pod, Policy, PolicyKind, Quantity, Ready, ReadyCondition, ResourceTarget, ScalingRules,
    SelectPolicy, Tolerances, Usage, ValueTarget,
};

const LOAD: &str = "load";

fn pods_metric(name: &str, milli: i64) -> MetricSpec {
    MetricSpec::Pods {
        name: name.to_owned(),
        average_value: Quantity::from_milli(milli),
    }
}

fn cpu(target: ResourceTarget) -> MetricSpec {
    MetricSpec::Resource {
        name: "cpu".to_owned(),
        target,
    }
}

fn external(target: ValueTarget) -> MetricSpec {
    MetricSpec::External {
        name: LOAD.to_owned(),
        target,
    }
}

fn hpa(metrics: Vec<MetricSpec>) -> Hpa {
    Hpa {
        name: "a".to_owned(),
        target: "Deployment/a".to_owned(),
        min_replicas: 1,
        max_replicas: 100,
        metrics,
        behavior: None,
        tolerances: Tolerances {
            scale_down: 0.1,
            scale_up: 0.1,
        },
    }
}

fn rules(window: i32, select: SelectPolicy, policies: &[(PolicyKind, i32, i32)]) -> ScalingRules {
    ScalingRules {
        stabilization_window_seconds: window,
        select,
        policies: policies
            .iter()
            .map(|&(kind, value, period_seconds)| Policy {
                kind,
                value,
                period_seconds,
            })
            .collect(),
    }
}

fn behaving(scale_up: ScalingRules, scale_down: ScalingRules) -> Hpa {
    Hpa {
        behavior: Some(Behavior {
            scale_up,
            scale_down,
        }),
        ..hpa(vec![pods_metric(LOAD, 1000)])
    }
}

/// Everything at once, both ways.
fn free() -> ScalingRules {
    rules(0, SelectPolicy::Max, &[(PolicyKind::Pods, 1000, 15)])
}

/// A pod that has long been ready, with a value of the custom metric.
fn pod(value: impl Into<Option<i64>>) -> Pod {
    Pod {
        start_time: Some(Time::seconds(-10_000)),
        ready: Some(ReadyCondition {
            status: Ready::True,
            since: Time::seconds(-9_000),
        }),
        metrics: value
            .into()
            .map(|value| (LOAD.to_owned(), value))
            .into_iter()
            .collect(),
        requests: [("cpu".to_owned(), 1000), ("memory".to_owned(), 1000)].into(),
        ..Pod::default()
    }
}

fn phase(phase: Phase, value: impl Into<Option<i64>>) -> Pod {
    Pod {
        phase,
        ..pod(value)
    }
}

fn unready(value: impl Into<Option<i64>>) -> Pod {
    let mut pod = pod(value);
    pod.ready.as_mut().unwrap().status = Ready::False;
    pod
}

fn deleted(value: impl Into<Option<i64>>) -> Pod {
    Pod {
        deleted: true,
        ..pod(value)
    }
}

/// Names them, as each pod of a cluster has a name of its own.
fn input(current: i32, pods: Vec<Pod>) -> Input {
    Input {
        spec_replicas: current,
        status_replicas: current,
        pods: pods
            .into_iter()
            .enumerate()
            .map(|(index, pod)| Pod {
                name: format!("pod-{index}"),
                ..pod
            })
            .collect(),
        ..Input::default()
    }
}

/// What one metric proposes, in a sync of its own.
fn proposes(metric: MetricSpec, input: &Input) -> Result<i32, MetricError> {
    let decision = Controller::new(hpa(vec![metric])).sync(Time(0), input);
    decision.proposals[0]
        .1
        .clone()
        .map(|proposal| proposal.replicas)
}

/// So many pods, all with this value: an easy way to a want.
fn all(current: i32, value: i64) -> Input {
    input(current, vec![pod(value); usize::try_from(current).unwrap()])
}

fn steps(decision: &Decision) -> &Steps {
    match &decision.outcome {
        Outcome::Decided(steps) => steps,
        other => panic!("{other:?}"),
    }
}

// One metric: Pods.

#[test]
fn a_pods_metric_is_an_average_in_whole_thousandths() {
    for (values, target, current, proposal) in [
        // 1.1 is within, 1.101 is not; both ends belong to the tolerance.
        (vec![1100, 1100], 1000, 2, 2),
        (vec![1101, 1101], 1000, 2, 3),
        (vec![900, 900], 1000, 2, 2),
        (vec![899, 899], 1000, 2, 2),
        (vec![899; 10], 1000, 10, 9),
        (vec![499, 499], 1000, 2, 1),
        // The average of 1100 and 1101 is 1100: cut off, so within.
        (vec![1100, 1101], 1000, 2, 2),
        (vec![0, 0], 1000, 2, 0),
        (vec![350, 350, 350], 350, 3, 3),
        // The facts' trap: at r = 0.571 two pods stay two.
        (vec![200, 200], 350, 2, 2),
        (vec![200; 4], 350, 4, 3),
    ] {
        let pods = values.iter().map(|value| pod(*value)).collect();
        assert_eq!(
            proposes(pods_metric(LOAD, target), &input(current, pods)),
            Ok(proposal),
            "{values:?} / {target}"
        );
    }
}

#[test]
fn the_ratio_multiplies_the_pods_with_a_value_and_not_the_replicas() {
    // Five are asked for, two are there.
    let two = vec![pod(2000), pod(2000)];
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(5, two)), Ok(4));
}

#[test]
fn readiness_is_not_looked_at_for_a_pods_metric() {
    let pods = vec![unready(3000), pod(1000)];
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(2, pods)), Ok(4));
}

#[test]
fn deleted_and_failed_pods_do_not_count_with_their_values() {
    let pods = vec![pod(2000), deleted(9000), phase(Phase::Failed, 9000)];
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(1, pods)), Ok(2));
}

#[test]
fn a_pending_pod_counts_as_idle_when_scaling_up() {
    // Alone the two would make ceil(2 * 2) = 4; with an idle third the ratio is 1.333: ceil(1.333 * 3).
    let pods = vec![pod(2000), pod(2000), phase(Phase::Pending, 7000)];
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(3, pods)), Ok(4));
    let pods = vec![pod(1500), phase(Phase::Pending, None)];
    // 1.5 becomes 0.75: the other side of 1, so nothing.
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(2, pods)), Ok(2));
}

#[test]
fn a_pending_pod_is_left_out_when_scaling_down() {
    let mut pods = vec![pod(500); 4];
    pods.push(phase(Phase::Pending, None));
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(5, pods)), Ok(2));
}

#[test]
fn a_missing_pod_counts_as_idle_when_scaling_up() {
    let pods = vec![pod(4000), pod(None)];
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(2, pods)), Ok(4));
    let pods = vec![pod(1800), pod(None)];
    // 1.8 becomes 0.9, which is within tolerance.
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(2, pods)), Ok(2));
}

#[test]
fn a_missing_pod_counts_as_at_the_target_when_scaling_down() {
    // 0.25 becomes (0.25 + 1) / 2 = 0.625: ceil(1.25).
    let pods = vec![pod(250), pod(None)];
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(2, pods)), Ok(2));
    let mut pods = vec![pod(0); 9];
    pods.push(pod(None));
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(10, pods)), Ok(1));
}

#[test]
fn a_missing_pod_at_exactly_the_target_changes_nothing() {
    let pods = vec![pod(1000), pod(None)];
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(2, pods)), Ok(2));
}

#[test]
fn missing_and_pending_pods_both_count_as_idle_when_scaling_up() {
    let pods = vec![pod(9000), pod(None), phase(Phase::Pending, None)];
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(3, pods)), Ok(9));
}

#[test]
fn filled_in_pods_never_turn_the_direction_of_the_count() {
    // The ratio stays above 1 (1.2 over five), yet ceil(1.2 * 5) = 6 is fewer than the 8 there are.
    let mut pods = vec![pod(1500); 4];
    pods.push(pod(None));
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(8, pods)), Ok(8));
    // And below 1 (0.8 over five), ceil(4) is more than the 2 there are.
    let mut pods = vec![pod(750); 4];
    pods.push(pod(None));
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(2, pods)), Ok(2));
}

#[test]
fn without_pods_or_values_the_metric_fails() {
    let metric = || pods_metric(LOAD, 1000);
    assert_eq!(
        proposes(metric(), &input(2, vec![])),
        Err(MetricError::NoPods)
    );
    for pods in [
        vec![pod(None)],
        vec![deleted(1000)],
        vec![phase(Phase::Pending, 1000)],
    ] {
        assert_eq!(
            proposes(metric(), &input(2, pods)),
            Err(MetricError::NoValues)
        );
    }
}

#[test]
fn a_succeeded_pod_without_a_value_is_a_missing_one() {
    let pods = vec![pod(250), phase(Phase::Succeeded, None)];
    assert_eq!(proposes(pods_metric(LOAD, 1000), &input(2, pods)), Ok(2));
}

// One metric: Resource.

fn using(milli: i64) -> Pod {
    let usage = Usage {
        milli,
        timestamp: Time::seconds(-5),
        window: Time::seconds(15),
    };
    Pod {
        usage: [("cpu".to_owned(), usage), ("memory".to_owned(), usage)].into(),
        ..pod(None)
    }
}

fn started(ago: i64, status: Ready, since_ago: i64, milli: i64) -> Pod {
    Pod {
        start_time: Some(Time::seconds(-ago)),
        ready: Some(ReadyCondition {
            status,
            since: Time::seconds(-since_ago),
        }),
        ..using(milli)
    }
}

const AT_50: ResourceTarget = ResourceTarget::AverageUtilization(50);

#[test]
fn utilization_is_a_whole_percent_of_the_requests() {
    for (usage, target, proposal) in [
        (vec![559, 559], 50, 2), // 55 %, cut off: 1.1, within
        (vec![560, 560], 50, 3), // 56 %: 1.12
        (vec![450, 459], 50, 2), // 45 %
        (vec![400, 400], 50, 2), // 0.8 * 2 = 1.6, up
        (vec![100, 100], 50, 1),
    ] {
        let pods = usage.iter().map(|usage| using(*usage)).collect();
        let target = ResourceTarget::AverageUtilization(target);
        assert_eq!(
            proposes(cpu(target), &input(2, pods)),
            Ok(proposal),
            "{usage:?}"
        );
    }
}

#[test]
fn utilization_is_of_the_sums_and_not_an_average_of_percents() {
    let mut large = using(1000);
    large.requests.insert("cpu".to_owned(), 4000);
    // 100 % and 25 %, but 2000 of 5000: 40 %.
    let pods = vec![using(1000), large];
    assert_eq!(proposes(cpu(AT_50), &input(2, pods)), Ok(2));
}

#[test]
fn a_pod_without_a_request_fails_the_utilization_even_if_it_does_not_count() {
    let mut pods = vec![using(100), deleted(None)];
    pods[1].requests.clear();
    let error = proposes(cpu(AT_50), &input(2, pods.clone())).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("missing request for cpu in pod pod-1"),
        "{error}"
    );
    // A raw value needs no request.
    let raw = ResourceTarget::AverageValue(Quantity::from_milli(50));
    assert_eq!(proposes(cpu(raw), &input(1, pods)), Ok(2));
}

#[test]
fn a_pod_missing_from_a_resource_counts_with_its_request_down_and_nothing_up() {
    // Down: 0 and 1000 of 2000 are 50 % of a target of 80: 0.625 * 2, up.
    let at_80 = ResourceTarget::AverageUtilization(80);
    assert_eq!(
        proposes(cpu(at_80), &input(2, vec![using(0), pod(None)])),
        Ok(2)
    );
    // A target above 100 % counts instead of the request: (0 + 2000) / 2000 at 200 %.
    let at_200 = ResourceTarget::AverageUtilization(200);
    let mut pods = vec![using(0); 3];
    pods.push(pod(None));
    assert_eq!(proposes(cpu(at_200), &input(4, pods)), Ok(1));
    // Up: 2000 and 0 of 2000 are 100 %.
    assert_eq!(
        proposes(cpu(AT_50), &input(2, vec![using(2000), pod(None)])),
        Ok(4)
    );
}

#[test]
fn cpu_of_a_starting_pod_does_not_count_yet() {
    let counts = |pod: Pod| {
        // With it the ratio is 2 of two pods, without it (idle, going up) 1 of two.
        let proposal = proposes(cpu(AT_50), &input(2, vec![using(1000), pod]));
        match proposal.unwrap() {
            4 => true,
            2 => false,
            other => panic!("{other}"),
        }
    };
    // Within five minutes: ready, and its sample began after that (timestamp -5, window 15).
    assert!(counts(started(299, Ready::True, 20, 1000)));
    assert!(!counts(started(299, Ready::True, 19, 1000)));
    assert!(!counts(started(299, Ready::False, 200, 1000)));
    // Unknown is not False.
    assert!(counts(started(299, Ready::Unknown, 200, 1000)));
    // From five minutes on it counts, unless it never was ready.
    assert!(counts(started(300, Ready::True, 1, 1000)));
    assert!(counts(started(300, Ready::False, 270, 1000)));
    assert!(!counts(started(300, Ready::False, 271, 1000)));
    // Without a condition or a start it does not.
    let mut without = using(1000);
    without.ready = None;
    assert!(!counts(without));
    let mut without = using(1000);
    without.start_time = None;
    assert!(!counts(without));
}

#[test]
fn memory_of_a_starting_pod_counts_at_once() {
    let metric = MetricSpec::Resource {
        name: "memory".to_owned(),
        target: AT_50,
    };
    let pods = vec![using(1000), started(1, Ready::False, 1, 1000)];
    assert_eq!(proposes(metric, &input(2, pods)), Ok(4));
}

#[test]
fn a_raw_resource_value_follows_the_rules_of_starting_pods_too() {
    let raw = ResourceTarget::AverageValue(Quantity::from_milli(500));
    let pods = vec![using(1000), started(10, Ready::False, 10, 1000)];
    assert_eq!(proposes(cpu(raw), &input(2, pods)), Ok(2));
}

// One metric: External and Object.

fn with_external(current: i32, pods: Vec<Pod>, values: &[i64]) -> Input {
    Input {
        external: [(LOAD.to_owned(), values.to_vec())].into(),
        ..input(current, pods)
    }
}

#[test]
fn an_external_average_is_shared_among_the_replicas_of_the_status() {
    let target = || external(ValueTarget::AverageValue(Quantity::from_milli(10_000)));
    for (total, proposal) in [
        (33_000, 3), // 1.1
        (33_001, 4),
        (27_000, 3), // 0.9
        (26_999, 3), // out of tolerance, and up: ceil(2.7)
        (20_000, 2),
        (0, 0),
    ] {
        // No pods needed; spec and status may differ.
        let input = Input {
            spec_replicas: 5,
            status_replicas: 3,
            ..with_external(0, vec![], &[total])
        };
        assert_eq!(proposes(target(), &input), Ok(proposal), "{total}");
    }
    let values = with_external(3, vec![], &[20_000, 20_000]);
    assert_eq!(proposes(target(), &values), Ok(4));
}

#[test]
fn an_external_value_multiplies_the_pods_that_run_and_are_ready() {
    let target = || external(ValueTarget::Value(Quantity::from_milli(350)));
    let pods = || {
        vec![
            pod(None),
            pod(None),
            unready(None),
            phase(Phase::Pending, None),
        ]
    };
    assert_eq!(proposes(target(), &with_external(4, pods(), &[700])), Ok(4));
    assert_eq!(
        proposes(target(), &with_external(4, pods(), &[1400])),
        Ok(8)
    );
    assert_eq!(proposes(target(), &with_external(4, pods(), &[385])), Ok(4));
    assert_eq!(
        proposes(target(), &with_external(4, vec![], &[700])),
        Err(MetricError::NoPods)
    );
}

#[test]
fn the_same_latency_means_less_the_more_replicas_divide_it() {
    // The trap: KEDA's default, AverageValue, with a p95. At twice the objective three pods shrink to two.
    let average = external(ValueTarget::AverageValue(Quantity::from_milli(350)));
    assert_eq!(proposes(average, &with_external(3, vec![], &[700])), Ok(2));
}

#[test]
fn an_external_metric_without_values_fails() {
    let target = external(ValueTarget::Value(Quantity::from_milli(1)));
    assert!(proposes(target.clone(), &with_external(1, vec![], &[])).is_err());
    assert!(proposes(target, &input(1, vec![])).is_err());
}

#[test]
fn an_object_metric_goes_by_the_same_two_formulas() {
    let object = |target| MetricSpec::Object {
        name: LOAD.to_owned(),
        kind: "Ingress".to_owned(),
        target,
    };
    let input = Input {
        objects: [(LOAD.to_owned(), 2000)].into(),
        ..input(2, vec![pod(None), pod(None)])
    };
    let q = Quantity::from_milli;
    assert_eq!(proposes(object(ValueTarget::Value(q(1000))), &input), Ok(4));
    assert_eq!(
        proposes(object(ValueTarget::AverageValue(q(500))), &input),
        Ok(4)
    );
}

// Several metrics.

fn two(first: i64, second: Option<i64>) -> Input {
    let mut input = all(4, first);
    for pod in &mut input.pods {
        match second {
            Some(value) => pod.metrics.insert("other".to_owned(), value),
            None => pod.metrics.remove("other"),
        };
    }
    input
}

fn of_two() -> Controller {
    Controller::new(hpa(vec![
        pods_metric(LOAD, 1000),
        pods_metric("other", 1000),
    ]))
}

#[test]
fn the_highest_proposal_wins_and_names_the_reason() {
    let decision = of_two().sync(Time(0), &two(1500, Some(2000)));
    assert_eq!(decision.desired, 8);
    assert_eq!(
        decision.rescale_reason().unwrap(),
        "pods metric other above target"
    );
}

#[test]
fn a_metric_that_fails_does_not_stop_going_up_or_staying() {
    let decision = of_two().sync(Time(0), &two(1500, None));
    assert_eq!(decision.desired, 6);
    let decision = of_two().sync(Time(0), &two(1000, None));
    assert_eq!(steps(&decision).want, 4);
}

#[test]
fn a_metric_that_fails_stops_going_down_and_leaves_no_recommendation() {
    let mut controller = of_two();
    let decision = controller.sync(Time(0), &two(250, None));
    assert_eq!(decision.desired, 4);
    let Outcome::Failed { reason, message } = &decision.outcome else {
        panic!("{decision:?}");
    };
    assert_eq!(*reason, "FailedGetPodsMetric");
    assert!(
        message.contains("invalid metrics (1 invalid out of 2), first error is: did not"),
        "{message}"
    );
    // Nothing but the first sync's own recommendation, of 4, was kept: when that is old, down it goes.
    let decision = controller.sync(Time::seconds(301), &two(250, Some(250)));
    assert_eq!(decision.desired, 1);
}

#[test]
fn all_metrics_failing_change_nothing() {
    let input = Input {
        failing: [
            (LOAD.to_owned(), "no answer".to_owned()),
            ("other".to_owned(), "no answer".to_owned()),
        ]
        .into(),
        ..two(9000, Some(9000))
    };
    let decision = of_two().sync(Time(0), &input);
    assert_eq!(decision.desired, 4);
    assert!(matches!(decision.outcome, Outcome::Failed { .. }));
}

// The order of a sync.

#[test]
fn zero_replicas_mean_disabled() {
    let decision = of_two().sync(Time(0), &all(0, 0));
    assert_eq!(decision.outcome, Outcome::Disabled);
    assert_eq!(decision.desired, 0);
}

#[test]
fn outside_the_range_it_goes_to_the_range_at_once_and_remembers_the_change() {
    let limited = rules(0, SelectPolicy::Max, &[(PolicyKind::Pods, 2, 60)]);
    let mut hpa = behaving(limited.clone(), limited);
    (hpa.min_replicas, hpa.max_replicas) = (5, 10);
    let mut controller = Controller::new(hpa.clone());
    let decision = controller.sync(Time(0), &all(1, 9000));
    assert_eq!(
        (decision.desired, &decision.outcome),
        (5, &Outcome::BelowMin)
    );
    assert!(decision.proposals.is_empty());
    // Those 4 count against the policy of 2 a minute.
    let decision = controller.sync(Time::seconds(15), &all(5, 2000));
    assert_eq!(decision.desired, 5);
    assert_eq!(steps(&decision).limit, LimitReason::ScaleUpLimit);

    let decision = Controller::new(hpa).sync(Time(0), &all(30, 9000));
    assert_eq!(
        (decision.desired, decision.outcome),
        (10, Outcome::AboveMax)
    );
}

// Without behavior.

#[test]
fn without_behavior_growth_is_to_twice_or_to_four() {
    for (current, value, desired, limit) in [
        (1, 9000, 4, LimitReason::ScaleUpLimit),
        (3, 9000, 6, LimitReason::ScaleUpLimit),
        (3, 2000, 6, LimitReason::DesiredWithinRange),
        (60, 9000, 100, LimitReason::TooManyReplicas),
        (4, 1000, 4, LimitReason::DesiredWithinRange),
    ] {
        let decision =
            Controller::new(hpa(vec![pods_metric(LOAD, 1000)])).sync(Time(0), &all(current, value));
        assert_eq!(decision.desired, desired, "{current} at {value}");
        assert_eq!(steps(&decision).limit, limit, "{current} at {value}");
    }
}

#[test]
fn without_behavior_the_highest_of_five_minutes_holds_it_up() {
    let mut controller = Controller::new(hpa(vec![pods_metric(LOAD, 1000)]));
    let first = controller.sync(Time(0), &all(4, 2000));
    assert_eq!(first.desired, 8);
    // Exactly 300 s old still counts.
    for at in [15, 150, 300] {
        let decision = controller.sync(Time::seconds(at), &all(8, 125));
        assert_eq!(decision.desired, 8, "at {at}");
        assert_eq!(steps(&decision).want, 1);
        assert_eq!(
            steps(&decision).stabilization,
            Stabilization::ScaleDownStabilized
        );
    }
    let decision = controller.sync(Time(300_001), &all(8, 125));
    assert_eq!(decision.desired, 1);
    assert_eq!(
        decision.rescale_reason().unwrap(),
        "All metrics below target"
    );
}

#[test]
fn below_the_minimum_is_the_minimum() {
    let mut hpa = hpa(vec![pods_metric(LOAD, 1000)]);
    hpa.min_replicas = 3;
    let mut controller = Controller::new(hpa);
    controller.sync(Time(0), &all(4, 1000));
    let decision = controller.sync(Time::seconds(400), &all(4, 0));
    assert_eq!(decision.desired, 3);
    assert_eq!(steps(&decision).limit, LimitReason::TooFewReplicas);
}

// Behavior: windows.

#[test]
fn a_restarted_controller_does_not_go_up_before_its_up_window_has_passed() {
    let up = ScalingRules {
        stabilization_window_seconds: 60,
        ..free()
    };
    let mut controller = Controller::new(behaving(up, free()));
    // The first sync keeps the 4 there are; strictly younger than 60 s holds.
    for at in [0, 15, 30, 45] {
        let decision = controller.sync(Time::seconds(at), &all(4, 2000));
        assert_eq!(decision.desired, 4, "at {at}");
        assert_eq!(
            steps(&decision).stabilization,
            Stabilization::ScaleUpStabilized
        );
    }
    assert_eq!(controller.sync(Time::seconds(60), &all(4, 2000)).desired, 8);
}

#[test]
fn up_goes_to_the_lowest_and_down_to_the_highest_of_its_window() {
    let window = |seconds| ScalingRules {
        stabilization_window_seconds: seconds,
        ..free()
    };
    let mut controller = Controller::new(behaving(window(30), window(60)));
    let want = |controller: &mut Controller, at, current: i32, want: i32| {
        let value = i64::from(want) * 1000 / i64::from(current);
        controller
            .sync(Time::seconds(at), &all(current, value))
            .desired
    };
    assert_eq!(want(&mut controller, 0, 10, 10), 10);
    assert_eq!(want(&mut controller, 30, 10, 20), 20);
    // The lowest of 20 and 40.
    assert_eq!(want(&mut controller, 45, 20, 40), 20);
    assert_eq!(want(&mut controller, 60, 20, 30), 30);
    // Down: the highest of the last 60 s is 40, more than there are: nothing.
    assert_eq!(want(&mut controller, 75, 30, 3), 30);
    // 40 is exactly 60 s old, which is old: 30 is left.
    assert_eq!(want(&mut controller, 105, 30, 3), 30);
    assert_eq!(want(&mut controller, 135, 30, 6), 6);
}

#[test]
fn what_is_remembered_is_what_was_wanted_not_what_was_done() {
    let mut hpa = behaving(free(), free());
    hpa.max_replicas = 5;
    hpa.behavior.as_mut().unwrap().scale_down = ScalingRules {
        stabilization_window_seconds: 60,
        ..free()
    };
    let mut controller = Controller::new(hpa);
    assert_eq!(controller.sync(Time(0), &all(4, 5000)).desired, 5);
    // It wanted 20. Asked to go to 1, the window says 20, so that nothing moves.
    let decision = controller.sync(Time::seconds(30), &all(5, 0));
    assert_eq!((decision.desired, steps(&decision).stabilized), (5, 5));
}

// Behavior: policies.

#[test]
fn policies_bound_a_change_from_where_their_period_began() {
    use PolicyKind::{Percent, Pods};
    use SelectPolicy::{Disabled, Max, Min};
    let both = [(Pods, 2, 30), (Percent, 50, 30)];
    for (select, policies, current, up, down) in [
        (Max, both.to_vec(), 3, 5, 1),
        (Max, both.to_vec(), 9, 14, 4),
        (Min, both.to_vec(), 9, 11, 7),
        (Min, both.to_vec(), 3, 5, 1),
        (Disabled, both.to_vec(), 3, 3, 3),
        // Percent: up it is rounded up, down cut off.
        (Max, vec![(Percent, 10, 30)], 5, 6, 4),
        (Max, vec![(Percent, 100, 30)], 5, 10, 1),
        (Max, vec![(Pods, 7, 30)], 5, 12, 1),
    ] {
        let rules = rules(0, select, &policies);
        let decided = |value| {
            Controller::new(behaving(rules.clone(), rules.clone()))
                .sync(Time(0), &all(current, value))
        };
        let what = format!("{select:?} of {policies:?} at {current}");
        assert_eq!(decided(90_000).desired, up, "{what}");
        // The first sync keeps `current`, but the down window is 0 long.
        assert_eq!(decided(0).desired, down, "{what}");
    }
}

#[test]
fn the_reason_says_what_held_it() {
    let one = rules(0, SelectPolicy::Max, &[(PolicyKind::Pods, 1, 60)]);
    let mut hpa = behaving(one.clone(), one);
    (hpa.min_replicas, hpa.max_replicas) = (3, 6);
    for (current, value, limit, desired) in [
        (4, 9000, LimitReason::ScaleUpLimit, 5),
        // The limit and the maximum the same: the maximum is named.
        (5, 9000, LimitReason::TooManyReplicas, 6),
        (6, 9000, LimitReason::TooManyReplicas, 6),
        (5, 0, LimitReason::ScaleDownLimit, 4),
        (4, 0, LimitReason::TooFewReplicas, 3),
        (3, 0, LimitReason::TooFewReplicas, 3),
        (4, 1200, LimitReason::DesiredWithinRange, 5),
        (5, 700, LimitReason::DesiredWithinRange, 4),
    ] {
        let decision = Controller::new(hpa.clone()).sync(Time(0), &all(current, value));
        let what = format!("{current} at {value}");
        assert_eq!(
            (steps(&decision).limit, decision.desired),
            (limit, desired),
            "{what}"
        );
    }
}

#[test]
fn a_change_counts_until_its_period_is_over_to_the_millisecond() {
    let one = rules(0, SelectPolicy::Max, &[(PolicyKind::Pods, 1, 60)]);
    let mut controller = Controller::new(behaving(one, free()));
    assert_eq!(controller.sync(Time(0), &all(4, 9000)).desired, 5);
    assert_eq!(controller.sync(Time(59_999), &all(5, 9000)).desired, 5);
    assert_eq!(controller.sync(Time(60_000), &all(5, 9000)).desired, 6);
}

#[test]
fn changes_down_give_back_what_changes_up_took() {
    let one = rules(0, SelectPolicy::Max, &[(PolicyKind::Pods, 2, 60)]);
    let mut controller = Controller::new(behaving(one, free()));
    assert_eq!(controller.sync(Time(0), &all(4, 9000)).desired, 6);
    assert_eq!(controller.sync(Time::seconds(15), &all(6, 500)).desired, 3);
    // The minute began with 6 - 2 - 0 = 4 and its down event of 3 added: 3 - 2 + 3 = 4, so up to 6.
    assert_eq!(controller.sync(Time::seconds(30), &all(3, 9000)).desired, 6);
}

#[test]
fn the_slot_of_an_event_older_than_its_own_directions_periods_is_used_again() {
    // Up looks back 15 s, down 600 s and takes what went up since into account.
    let up = rules(0, SelectPolicy::Max, &[(PolicyKind::Pods, 4, 15)]);
    let down = rules(0, SelectPolicy::Max, &[(PolicyKind::Pods, 1, 600)]);
    let mut controller = Controller::new(behaving(up, down));
    assert_eq!(controller.sync(Time(0), &all(4, 9000)).desired, 8);
    assert_eq!(
        controller.sync(Time::seconds(30), &all(8, 9000)).desired,
        12
    );
    // The first event's slot was taken by the second: the period of 600 s sees 4 of the 8 added,
    // so it believes it began with 8 and may go down to 7, not to 3.
    assert_eq!(controller.sync(Time::seconds(60), &all(12, 0)).desired, 7);
}

#[test]
fn without_behavior_no_event_is_kept() {
    let mut controller = Controller::new(hpa(vec![pods_metric(LOAD, 1000)]));
    controller.sync(Time(0), &all(4, 2000));
    assert_eq!(controller.up.within(Time::seconds(100), Time(1)), 0);
}

#[test]
fn each_direction_has_its_tolerance() {
    let mut hpa = hpa(vec![pods_metric(LOAD, 1000)]);
    hpa.tolerances = Tolerances {
        scale_up: 0.0,
        scale_down: 0.5,
    };
    let want = |value| steps(&Controller::new(hpa.clone()).sync(Time(0), &all(10, value))).want;
    assert_eq!(want(1001), 11);
    assert_eq!(want(1000), 10);
    assert_eq!(want(500), 10);
    assert_eq!(want(499), 5);
}

// The seeds' spike, with their own policies.

#[test]
fn the_seeds_spike_grows_by_their_policies_and_not_as_their_table_says() {
    let hpa = Hpa::from_yaml(include_str!("../../hpa/after.yaml")).unwrap();
    let mut controller = Controller::new(hpa);
    let at_load = |current: i32, in_flight: i64| {
        let mut input = all(current, 0);
        for pod in &mut input.pods {
            pod.metrics = [
                ("http_request_duration_p95".to_owned(), 150),
                ("http_requests_in_flight".to_owned(), in_flight),
                ("aegis_inference_queue_depth".to_owned(), 0),
            ]
            .into();
            pod.usage = using(400).usage;
        }
        input
    };
    let mut current = 3;
    let mut seen = Vec::new();
    for tick in 0..20 {
        let in_flight = if tick < 2 { 4000 } else { 28_000 };
        let decision = controller.sync(Time::seconds(tick * 15), &at_load(current, in_flight));
        if decision.desired != current {
            seen.push((tick * 15, decision.desired));
        }
        current = decision.desired;
    }
    // The load is seen from 30 s on. The window of 60 s holds the last calm recommendation, of 15 s,
    // until 75 s; then 3 + 2 = ceil(3 * 1.5) = 5, not 6; 5 + 50 % = 8; 12; 18; 20.
    assert_eq!(seen, [(75, 5), (105, 8), (135, 12), (165, 18), (195, 20)]);
}

// What holds of any run.

fn any_rules() -> impl Strategy<Value = ScalingRules> {
    let policy = (
        prop_oneof![Just(PolicyKind::Pods), Just(PolicyKind::Percent)],
        1..200i32,
        1..=600i32,
    );
    let select = prop_oneof![
        Just(SelectPolicy::Max),
        Just(SelectPolicy::Min),
        Just(SelectPolicy::Disabled)
    ];
    (0..=600i32, select, proptest::collection::vec(policy, 1..4))
        .prop_map(|(window, select, policies)| rules(window, select, &policies))
}

fn any_behavior() -> impl Strategy<Value = Option<Behavior>> {
    proptest::option::of(
        (any_rules(), any_rules()).prop_map(|(scale_up, scale_down)| Behavior {
            scale_up,
            scale_down,
        }),
    )
}

/// Values over a run: each tick either a value for all pods, or the metric is missing.
fn any_run() -> impl Strategy<Value = Vec<Option<i64>>> {
    proptest::collection::vec(proptest::option::weighted(0.95, 0..5_000i64), 1..80)
}

fn run(hpa: &Hpa, begin: i32, values: &[Option<i64>]) -> Vec<Decision> {
    let mut controller = Controller::new(hpa.clone());
    let mut current = begin;
    values
        .iter()
        .enumerate()
        .map(|(tick, value)| {
            let mut input = all(current, value.unwrap_or(0));
            if value.is_none() {
                input.failing.insert(LOAD.to_owned(), "away".to_owned());
            }
            let decision = controller.sync(Time::seconds(tick as i64 * 15), &input);
            current = decision.desired;
            decision
        })
        .collect()
}

proptest! {
    #[test]
    fn it_never_leaves_the_range(
        behavior in any_behavior(), min in 1..10i32, more in 0..30i32, begin in 1..60i32, values in any_run()
    ) {
        let hpa = Hpa { behavior, min_replicas: min, max_replicas: min + more, ..hpa(vec![pods_metric(LOAD, 1000)]) };
        for decision in run(&hpa, begin, &values) {
            prop_assert!((min..=min + more).contains(&decision.desired), "{:?}", decision);
        }
    }

    #[test]
    fn one_policy_alone_is_never_exceeded_within_its_period(
        pods in 1..8i32, period in 1..300i32, begin in 1..30i32, values in any_run()
    ) {
        // Only upwards, so that nothing is given back.
        let hpa = behaving(
            rules(0, SelectPolicy::Max, &[(PolicyKind::Pods, pods, period)]),
            rules(0, SelectPolicy::Disabled, &[(PolicyKind::Pods, 1, 60)]),
        );
        let decisions = run(&hpa, begin, &values);
        let added: Vec<i32> = decisions.iter().map(|d| d.desired - d.current).collect();
        let ticks = usize::try_from((period + 14) / 15).unwrap();
        for window in added.windows(ticks.min(added.len())) {
            prop_assert!(window.iter().sum::<i32>() <= pods, "{:?}", added);
        }
    }

    #[test]
    fn a_disabled_direction_does_not_move(behavior in any_behavior(), begin in 1..50i32, values in any_run()) {
        let Some(mut behavior) = behavior else { return Ok(()) };
        behavior.scale_down.select = SelectPolicy::Disabled;
        let hpa = Hpa { behavior: Some(behavior), ..hpa(vec![pods_metric(LOAD, 1000)]) };
        for decision in run(&hpa, begin, &values) {
            prop_assert!(decision.desired >= decision.current);
        }
    }

    #[test]
    fn a_want_within_tolerance_changes_nothing_once_the_windows_hold_nothing_else(
        behavior in any_behavior(), begin in 1..50i32, values in proptest::collection::vec(900..=1100i64, 1..60)
    ) {
        let hpa = Hpa { behavior, ..hpa(vec![pods_metric(LOAD, 1000)]) };
        let values: Vec<_> = values.into_iter().map(Some).collect();
        for decision in run(&hpa, begin, &values) {
            prop_assert_eq!(decision.desired, begin);
        }
    }

    #[test]
    fn a_step_is_towards_what_is_wanted_or_was_wanted_within_the_window(
        behavior in any_behavior(), begin in 1..50i32, values in any_run()
    ) {
        let hpa = Hpa { behavior, ..hpa(vec![pods_metric(LOAD, 1000)]) };
        let decisions = run(&hpa, begin, &values);
        let mut wants = vec![begin];
        for decision in &decisions {
            if let Outcome::Decided(steps) = &decision.outcome {
                wants.push(steps.want);
                let low = wants.iter().min().unwrap().clamp(&1, &100);
                let high = wants.iter().max().unwrap().clamp(&1, &100);
                prop_assert!((low..=high).contains(&&decision.desired));
            } else {
                prop_assert_eq!(decision.desired, decision.current);
            }
        }
    }

    #[test]
    fn the_order_of_metrics_does_not_matter(
        behavior in any_behavior(),
        values in proptest::collection::vec((0..5_000i64, proptest::option::weighted(0.9, 0..5_000i64)), 1..40),
    ) {
        let metrics = vec![pods_metric(LOAD, 1000), pods_metric("other", 700)];
        let forth = Hpa { behavior, ..hpa(metrics) };
        let mut back = forth.clone();
        back.metrics.reverse();
        let run = |hpa: &Hpa| {
            let mut controller = Controller::new(hpa.clone());
            let mut current = 4;
            let mut desired = Vec::new();
            for (tick, (first, second)) in values.iter().enumerate() {
                let mut input = all(current, *first);
                for pod in &mut input.pods {
                    if let Some(second) = second {
                        pod.metrics.insert("other".to_owned(), *second);
                    }
                }
                current = controller.sync(Time::seconds(tick as i64 * 15), &input).desired;
                desired.push(current);
            }
            desired
        };
        prop_assert_eq!(run(&forth), run(&back));
    }

    #[test]
    fn pods_in_any_state_are_counted_without_a_panic(
        pods in proptest::collection::vec((0..5u8, any::<bool>(), proptest::option::of(any::<i64>())), 0..12),
        current in any::<i32>(), percent in 1..1000i32
    ) {
        let pods = pods.into_iter().map(|(state, is_deleted, value)| {
            let phase = [Phase::Pending, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Unknown];
            let mut pod = Pod { deleted: is_deleted, phase: phase[usize::from(state)], ..pod(value) };
            if let Some(value) = value {
                pod.usage = using(value).usage;
            }
            pod
        }).collect();
        let input = Input { spec_replicas: current, ..input(4, pods) };
        let metrics = vec![pods_metric(LOAD, 1), cpu(ResourceTarget::AverageUtilization(percent))];
        let decision = Controller::new(hpa(metrics)).sync(Time(0), &input);
        prop_assert!((0..=100).contains(&decision.desired) || decision.desired == current);
    }
}
