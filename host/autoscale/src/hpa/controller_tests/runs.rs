//! What holds of any run, whatever the metrics say and the manifest allows.

use proptest::prelude::*;

use super::*;

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
