//! Traffic rules: what may be said, who said it, and that no change is lost.

use aegis_registry::{Canary, ErrorKind, Shadow, Traffic, TrafficAction, Weight};

use crate::support::*;

#[tokio::test]
async fn promoting_changes_the_rule_and_is_remembered() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    push(registry, "m", "1").await;
    push(registry, "m", "2").await;
    registry
        .set_stable(&name("m"), version(2), Some("bob"))
        .await
        .unwrap();
    // Said again, it is no change.
    let traffic = registry
        .set_stable(&name("m"), version(2), Some("cat"))
        .await
        .unwrap();
    assert_eq!(traffic, registry.traffic(&name("m")).await.unwrap());
    assert_eq!(traffic.stable, Some(version(2)));
    let told: Vec<_> = traffic
        .history
        .iter()
        .map(|it| (it.action, it.stable, it.by.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (TrafficAction::FirstVersion, Some(version(1)), Some("ann")),
            (TrafficAction::SetStable, Some(version(2)), Some("bob")),
        ]
    );
}

#[tokio::test]
async fn only_versions_that_are_there_get_a_role() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    push(registry, "m", "1").await;
    let error = registry
        .set_stable(&name("m"), version(7), None)
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("version_not_found", ErrorKind::NotFound)
    );
    assert_eq!(error.to_string(), "model `m` has no version 7");
    let error = registry
        .set_stable(&name("n"), version(1), None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "model_not_found");
    let error = registry
        .set_canary(&name("n"), None, None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "model_not_found");
    let canary = Canary {
        version: version(1),
        weight: Weight::ALL,
    };
    let error = registry
        .set_canary(&name("m"), Some(canary), None)
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("invalid_traffic", ErrorKind::Unprocessable)
    );
}

#[tokio::test]
async fn canary_and_fallback_are_set_and_withdrawn() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    push(registry, "m", "1").await;
    push(registry, "m", "2").await;
    let canary = Canary {
        version: version(2),
        weight: Weight::from_percent(12.5).unwrap(),
    };
    registry
        .set_canary(&name("m"), Some(canary), Some("bob"))
        .await
        .unwrap();
    registry
        .set_fallback(&name("m"), Some(version(1)), Some("bob"))
        .await
        .unwrap();
    let json =
        std::fs::read_to_string(fixture.folder.path().join("models/m/traffic.json")).unwrap();
    assert!(json.contains("\"weight\": 12.5"), "{json}");
    let traffic = registry.traffic(&name("m")).await.unwrap();
    assert_eq!(
        (traffic.canary, traffic.fallback),
        (Some(canary), Some(version(1)))
    );

    let traffic = registry
        .set_stable(&name("m"), version(2), Some("bob"))
        .await
        .unwrap();
    assert_eq!(traffic.canary, None);
    let traffic = registry
        .set_fallback(&name("m"), None, Some("bob"))
        .await
        .unwrap();
    assert_eq!(
        (traffic.stable, traffic.canary, traffic.fallback),
        (Some(version(2)), None, None)
    );
    assert_eq!(traffic.history.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_among_many_writers_is_lost() {
    let fixture = Fixture::new().await;
    for n in 1..=9 {
        push(&fixture.registry, "m", &n.to_string()).await;
    }
    let writers = (2..=9).map(|n| {
        let registry = fixture.registry.clone();
        tokio::spawn(async move {
            registry
                .set_stable(&name("m"), version(n), Some("w"))
                .await
                .unwrap()
        })
    });
    futures_util::future::join_all(writers)
        .await
        .into_iter()
        .for_each(|done| drop(done.unwrap()));
    let traffic = fixture.registry.traffic(&name("m")).await.unwrap();
    let mut said: Vec<_> = traffic
        .history
        .iter()
        .skip(1)
        .map(|it| it.version.unwrap().get())
        .collect();
    assert_eq!(traffic.stable.map(|it| it.get()), said.last().copied());
    said.sort_unstable();
    assert_eq!(said, (2..=9).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_history_is_bounded() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    push(registry, "m", "1").await;
    push(registry, "m", "2").await;
    for round in 0..Traffic::HISTORY as u64 + 5 {
        registry
            .set_stable(&name("m"), version(2 - round % 2), None)
            .await
            .unwrap();
    }
    assert_eq!(
        registry.traffic(&name("m")).await.unwrap().history.len(),
        Traffic::HISTORY
    );
}

#[tokio::test]
async fn a_change_is_made_whole_or_not_at_all() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    for number in ["1", "2", "3"] {
        push(registry, "m", number).await;
    }
    let share = |number| Shadow {
        version: version(number),
        weight: Weight::ALL,
    };
    let traffic = registry
        .edited(&name("m"), Some("ann"), |edit| {
            edit.stable = Some(version(2));
            edit.shadow = Some(Some(share(3)));
            edit.fallback = Some(Some(version(1)));
        })
        .await
        .unwrap();
    let parts: Vec<u64> = traffic.versions().map(|version| version.get()).collect();
    assert_eq!(parts, [2, 1, 3]);
    let last = traffic.history.last().unwrap();
    assert_eq!(last.action, TrafficAction::SetStable);
    assert_eq!(last.shadow, Some(share(3)));
    // One part that cannot be, and none is changed.
    for (shadow, fallback, code) in [
        (share(1), version(1), "invalid_traffic"),
        (share(3), version(9), "version_not_found"),
    ] {
        let error = registry
            .edited(&name("m"), None, |edit| {
                edit.stable = Some(version(1));
                edit.shadow = Some(Some(shadow));
                edit.fallback = Some(Some(fallback));
            })
            .await
            .unwrap_err();
        assert_eq!(error.code(), code);
        assert_eq!(registry.traffic(&name("m")).await.unwrap(), traffic);
    }
    // What was a shadow and is stable is a shadow no more.
    let traffic = registry
        .set_stable(&name("m"), version(3), None)
        .await
        .unwrap();
    assert_eq!(traffic.shadow, None);
}

#[tokio::test]
async fn a_rollback_goes_to_the_version_before_and_ends_the_trial() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    push(registry, "m", "1").await;
    let error = registry.rollback(&name("m"), None).await.unwrap_err();
    assert_eq!(error.code(), "invalid_traffic");
    for number in ["2", "3"] {
        push(registry, "m", number).await;
    }
    registry
        .set_stable(&name("m"), version(3), None)
        .await
        .unwrap();
    let canary = Canary {
        version: version(2),
        weight: Weight::ALL,
    };
    registry
        .set_canary(&name("m"), Some(canary), None)
        .await
        .unwrap();
    let traffic = registry.rollback(&name("m"), Some("bob")).await.unwrap();
    assert_eq!((traffic.stable, traffic.canary), (Some(version(1)), None));
    let last = traffic.history.last().unwrap();
    assert_eq!(
        (last.action, last.by.as_deref()),
        (TrafficAction::Rollback, Some("bob"))
    );
    // And forth again.
    let traffic = registry.rollback(&name("m"), None).await.unwrap();
    assert_eq!(traffic.stable, Some(version(3)));
}
