//! Rollouts: who may move one on, and what a hand in between does to it.

use std::time::Duration;

use aegis_registry::{
    Canary, RegistryError, RolloutPlan, Traffic, TrafficAction, TrafficEdit, Weight,
};

use crate::support::*;

const SPAN: Duration = Duration::from_secs(60);

fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

fn plan(steps: &[f64]) -> RolloutPlan {
    RolloutPlan {
        version: version(2),
        steps: steps.iter().copied().map(percent).collect(),
        every_s: 120,
        min_requests: 100,
    }
}

/// A model with a stable version 1 and a version 2, which is being rolled out.
async fn begun(steps: &[f64]) -> Fixture {
    let fixture = Fixture::new().await;
    push(&fixture.registry, "m", "1").await;
    push(&fixture.registry, "m", "2").await;
    begin(&fixture, plan(steps)).await.unwrap();
    fixture
}

async fn begin(fixture: &Fixture, plan: RolloutPlan) -> Result<Traffic, RegistryError> {
    let mut edit = TrafficEdit::default();
    edit.rollout = Some(plan);
    fixture.registry.edit(&name("m"), edit, Some("ann")).await
}

fn at(traffic: &Traffic) -> (Option<u64>, Option<f64>, Option<usize>) {
    (
        traffic.stable.map(|stable| stable.get()),
        traffic.canary.map(|canary| canary.weight.percent()),
        traffic.rollout.as_ref().map(|rollout| rollout.step),
    )
}

#[tokio::test]
async fn a_rollout_goes_from_share_to_share_and_ends_stable() {
    let fixture = begun(&[1.0, 25.0, 100.0]).await;
    let registry = &fixture.registry;
    assert_eq!(
        at(&registry.traffic(&name("m")).await.unwrap()),
        (Some(1), Some(1.0), Some(0))
    );
    let driven = registry.drive_rollout(&name("m"), "one", SPAN).await;
    assert!(driven.unwrap().is_some());
    let first = registry.advance_rollout(&name("m"), "one", 0).await;
    let (traffic, moved) = first.unwrap();
    assert_eq!(
        (at(&traffic), moved),
        ((Some(1), Some(25.0), Some(1)), true)
    );
    let last = registry.advance_rollout(&name("m"), "one", 1).await;
    let (traffic, _) = last.unwrap();
    assert_eq!(at(&traffic), (Some(2), None, None));
    let told: Vec<_> = (traffic.history.iter().skip(1))
        .map(|change| (change.action, change.by.as_deref()))
        .collect();
    let driver = Some("rollout, driven by one");
    assert_eq!(
        told,
        [
            (TrafficAction::BeginRollout, Some("ann")),
            (TrafficAction::AdvanceRollout, driver),
            (TrafficAction::EndRollout, driver),
        ]
    );
}

#[tokio::test]
async fn one_that_does_not_end_at_all_the_traffic_leaves_a_canary() {
    let fixture = begun(&[1.0, 25.0]).await;
    let registry = &fixture.registry;
    registry
        .drive_rollout(&name("m"), "one", SPAN)
        .await
        .unwrap();
    for step in [0, 1] {
        registry
            .advance_rollout(&name("m"), "one", step)
            .await
            .unwrap();
    }
    let traffic = registry.traffic(&name("m")).await.unwrap();
    assert_eq!(at(&traffic), (Some(1), Some(25.0), None));
}

#[tokio::test]
async fn only_its_driver_moves_it_on_and_only_from_where_it_is() {
    let fixture = begun(&[1.0, 5.0, 25.0, 100.0]).await;
    let registry = &fixture.registry;
    let none = registry.drive_rollout(&name("m"), "one", SPAN).await;
    assert!(none.unwrap().is_some());
    assert!(
        registry
            .drive_rollout(&name("m"), "other", SPAN)
            .await
            .unwrap()
            .is_none()
    );
    let before = registry.traffic(&name("m")).await.unwrap();
    for (holder, step) in [("other", 0), ("one", 1), ("one", 7)] {
        let after = registry.advance_rollout(&name("m"), holder, step).await;
        assert_eq!(after.unwrap(), (before.clone(), false), "{holder} {step}");
        let after = registry
            .withdraw_rollout(&name("m"), holder, step, "it is slow")
            .await;
        assert_eq!(after.unwrap(), (before.clone(), false), "{holder} {step}");
    }
    // Twice at once, as of two tasks of one driver, is once.
    let m = name("m");
    let (one, other) = (
        registry.advance_rollout(&m, "one", 0),
        registry.advance_rollout(&m, "one", 0),
    );
    let (one, other) = tokio::join!(one, other);
    let ((one, first), (other, second)) = (one.unwrap(), other.unwrap());
    assert_eq!((at(&one).2, at(&other).2), (Some(1), Some(1)));
    assert!(first != second, "one of them took the step");
}

#[tokio::test]
async fn another_drives_once_the_driver_was_not_heard_of() {
    let fixture = begun(&[1.0, 100.0]).await;
    let registry = &fixture.registry;
    let short = Duration::from_millis(20);
    registry
        .drive_rollout(&name("m"), "one", short)
        .await
        .unwrap();
    tokio::time::sleep(2 * short).await;
    let taken = registry
        .drive_rollout(&name("m"), "other", SPAN)
        .await
        .unwrap();
    let driver = taken.unwrap().rollout.unwrap().driver.unwrap();
    assert_eq!(driver.holder, "other");
    // The first, back from wherever it was, finds that out.
    assert!(
        registry
            .drive_rollout(&name("m"), "one", SPAN)
            .await
            .unwrap()
            .is_none()
    );
    let traffic = registry.advance_rollout(&name("m"), "one", 0).await;
    let (traffic, moved) = traffic.unwrap();
    assert_eq!(
        (at(&traffic), moved),
        ((Some(1), Some(1.0), Some(0)), false)
    );
}

#[tokio::test]
async fn a_withdrawn_canary_is_gone_and_the_history_says_why() {
    let fixture = begun(&[1.0, 100.0]).await;
    let registry = &fixture.registry;
    registry
        .drive_rollout(&name("m"), "one", SPAN)
        .await
        .unwrap();
    let (traffic, _) = registry
        .withdraw_rollout(&name("m"), "one", 0, "it fails")
        .await
        .unwrap();
    assert_eq!(at(&traffic), (Some(1), None, None));
    let last = traffic.history.last().unwrap();
    assert_eq!(
        (last.action, last.version, last.why.as_deref()),
        (
            TrafficAction::WithdrawRollout,
            Some(version(2)),
            Some("it fails")
        )
    );
    let kept = registry.traffic(&name("m")).await.unwrap();
    assert_eq!(kept, traffic);
}

#[tokio::test]
async fn a_hand_that_changes_the_canary_ends_the_rollout() {
    let same = Canary {
        version: version(2),
        weight: percent(1.0),
    };
    for canary in [Some(same), None] {
        let fixture = begun(&[1.0, 100.0]).await;
        let registry = &fixture.registry;
        let mut edit = TrafficEdit::default();
        edit.canary = Some(canary);
        let traffic = registry.edit(&name("m"), edit, Some("bob")).await.unwrap();
        assert_eq!((traffic.canary, traffic.rollout), (canary, None));
        assert_eq!(
            traffic.history.last().unwrap().action,
            TrafficAction::SetCanary
        );
    }
    let fixture = begun(&[1.0, 100.0]).await;
    let registry = &fixture.registry;
    let promoted = registry.set_stable(&name("m"), version(2), None).await;
    assert_eq!(at(&promoted.unwrap()), (Some(2), None, None));
}

#[tokio::test]
async fn what_is_no_plan_is_refused_with_what_would_be_one() {
    let fixture = begun(&[1.0, 100.0]).await;
    let registry = &fixture.registry;
    let before = registry.traffic(&name("m")).await.unwrap();
    let rising = "steps are percents that rise, from above 0 to 100, such as 1,5,25,50,100";
    for (steps, problem) in [
        (vec![], rising),
        (vec![0.0, 5.0], rising),
        (vec![5.0, 5.0], rising),
        (vec![25.0, 5.0], rising),
    ] {
        let error = begin(&fixture, plan(&steps)).await.unwrap_err();
        assert_eq!(error.code(), "invalid_traffic");
        assert!(error.to_string().contains(problem), "{error}");
    }
    let mut of_stable = plan(&[1.0]);
    of_stable.version = version(1);
    let mut of_none = plan(&[1.0]);
    of_none.version = version(9);
    let mut at_once = plan(&[1.0]);
    at_once.every_s = 0;
    for (plan, problem) in [
        (of_stable, "version 1 is stable already"),
        (of_none, "has no version 9"),
        (at_once, "a step lasts a second at least"),
    ] {
        let error = begin(&fixture, plan).await.unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    assert_eq!(registry.traffic(&name("m")).await.unwrap(), before);
}
