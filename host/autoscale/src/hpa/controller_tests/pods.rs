//! One metric of type Pods: which pods count, and as what.

use super::*;

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
