//! One metric of type Resource: utilization, raw values, and pods that are starting.

use super::*;

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
