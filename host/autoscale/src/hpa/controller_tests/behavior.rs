//! `behavior`: windows, policies, tolerances, and the seeds' spike under their own.

use super::*;

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

#[test]
fn the_seeds_spike_grows_by_their_policies_and_not_as_their_table_says() {
    let hpa = crate::report::hpa_of(&crate::slo::Slo::default()).unwrap();
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
