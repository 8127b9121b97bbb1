//! One metric of type External or Object, by value and by average.

use super::*;

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
