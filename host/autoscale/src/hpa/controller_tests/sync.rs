//! One sync with several metrics or none, the order of its steps, and what holds without `behavior`.

use super::*;

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
