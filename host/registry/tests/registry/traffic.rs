//! Traffic rules: what may be said, who said it, and that no change is lost.

use aegis_registry::{Canary, ErrorKind, Traffic, TrafficAction, Weight};

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
