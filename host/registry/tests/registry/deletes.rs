//! Deleting: never what serves, never a number twice, never a blob that another version needs.

use std::time::Duration;

use aegis_registry::{
    Canary, ErrorKind, Registry, RegistryError, RolloutPlan, Shadow, TrafficAction, Weight,
};

use crate::support::*;

#[tokio::test]
async fn what_has_a_role_is_not_deleted_and_the_message_says_what_to_do() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    for content in ["1", "2", "3"] {
        push(registry, "m", content).await;
    }
    let canary = Canary {
        version: version(2),
        weight: Weight::ALL,
    };
    registry
        .set_canary(&name("m"), Some(canary), None)
        .await
        .unwrap();
    registry
        .set_fallback(&name("m"), Some(version(3)), None)
        .await
        .unwrap();
    for (number, remedy) in [
        (
            1,
            "version 1 of `m` is its stable version; make another version stable, or delete the whole model, then delete it",
        ),
        (
            2,
            "version 2 of `m` is its canary; withdraw the canary, then delete it",
        ),
        (
            3,
            "version 3 of `m` is its fallback; set another fallback or none, then delete it",
        ),
    ] {
        let error = registry
            .delete_version(&name("m"), version(number), None)
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            ("version_in_use", ErrorKind::Conflict)
        );
        assert_eq!(error.to_string(), remedy);
    }
    assert_eq!(registry.versions(&name("m")).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_deleted_version_is_gone_and_its_number_is_not_given_again() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    push(registry, "m", "1").await;
    push(registry, "m", "2").await;
    registry
        .delete_version(&name("m"), version(2), Some("bob"))
        .await
        .unwrap();

    let error = registry.version(&name("m"), version(2)).await.unwrap_err();
    assert_eq!(error.code(), "version_not_found");
    let error = registry
        .delete_version(&name("m"), version(2), None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "version_not_found");
    let error = registry
        .set_stable(&name("m"), version(2), None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "version_not_found");

    let again = push(registry, "m", "2").await;
    assert!(again.created);
    assert_eq!(again.record.version, version(3));
    let traffic = registry.traffic(&name("m")).await.unwrap();
    let last = traffic.history.last().unwrap();
    assert_eq!(
        (last.action, last.version, last.by.as_deref()),
        (TrafficAction::DeleteVersion, Some(version(2)), Some("bob"))
    );
}

#[tokio::test]
async fn blobs_go_when_the_last_version_that_names_them_goes() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    push(registry, "m", "1").await;
    push(registry, "m", "2").await;
    assert_eq!(fixture.files("blobs").len(), 5);
    registry
        .delete_version(&name("m"), version(2), None)
        .await
        .unwrap();
    // Young blobs stay: they could belong to an upload under way.
    assert_eq!(fixture.files("blobs").len(), 5);
    let collected = registry.collect_garbage(Duration::ZERO).await.unwrap();
    assert_eq!(collected.blobs, 1);
    assert_eq!(fixture.files("blobs").len(), 4);
    let record = registry.version(&name("m"), version(1)).await.unwrap();
    registry.materialise(&record).await.unwrap();
}

#[tokio::test]
async fn a_model_that_comes_back_has_no_part_of_before_it_was_deleted() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    push(registry, "m", "1").await;
    push(registry, "m", "2").await;
    push(registry, "m", "3").await;
    registry
        .edited(&name("m"), None, |edit| {
            let weight = Weight::from_percent(10.0).unwrap();
            edit.shadow = Some(Some(Shadow {
                version: version(3),
                weight,
            }));
            edit.rollout = Some(RolloutPlan {
                version: version(2),
                steps: vec![weight],
                every_s: 60,
                min_requests: 1,
            });
        })
        .await
        .unwrap();
    registry.delete_model(&name("m"), None).await.unwrap();
    push(registry, "m", "1").await;
    let traffic = registry.traffic(&name("m")).await.unwrap();
    assert_eq!(traffic.versions().collect::<Vec<_>>(), [version(4)]);
    assert_eq!(traffic.rollout, None);
}

#[tokio::test]
async fn a_deleted_model_is_gone_and_counts_on_when_it_comes_back() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    push(registry, "m", "1").await;
    push(registry, "m", "2").await;
    push(registry, "other", "1").await;
    registry
        .delete_model(&name("m"), Some("bob"))
        .await
        .unwrap();
    let names: Vec<_> = registry
        .models()
        .await
        .unwrap()
        .into_iter()
        .map(|model| model.name)
        .collect();
    assert_eq!(names, [name("other")]);
    for error in [
        registry.traffic(&name("m")).await.map(drop).unwrap_err(),
        registry.delete_model(&name("m"), None).await.unwrap_err(),
        registry
            .version(&name("m"), version(1))
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        assert_eq!(error.code(), "model_not_found");
    }
    registry.collect_garbage(Duration::ZERO).await.unwrap();

    let back = push(registry, "m", "1").await;
    assert_eq!(back.record.version, version(3));
    let traffic = registry.traffic(&name("m")).await.unwrap();
    assert_eq!(traffic.stable, Some(version(3)));
    let told: Vec<_> = traffic.history.iter().map(|it| it.action).collect();
    assert_eq!(
        told,
        [
            TrafficAction::FirstVersion,
            TrafficAction::DeleteModel,
            TrafficAction::FirstVersion
        ]
    );
}

#[tokio::test]
async fn a_laid_out_version_in_use_outlives_its_deletion() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    push(registry, "m", "1").await;
    let record = push(registry, "m", "2").await.record;
    let dir = registry.materialise(&record).await.unwrap();
    registry
        .delete_version(&name("m"), version(2), None)
        .await
        .unwrap();
    registry.collect_garbage(Duration::ZERO).await.unwrap();
    assert_eq!(std::fs::read(dir.handler().unwrap()).unwrap(), b"handler 2");
    let path = dir.path().to_owned();
    drop(dir);
    assert_eq!(
        registry
            .collect_garbage(Duration::ZERO)
            .await
            .unwrap()
            .laid_out,
        1
    );
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn promoting_and_deleting_one_version_never_both_succeed() {
    let fixture = Fixture::new().await;
    let work = tempfile::tempdir().unwrap();
    let other = Registry::open_folder(fixture.folder.path(), work.path().to_owned())
        .await
        .unwrap();
    push(&fixture.registry, "m", "1").await;
    for round in 0..20_u64 {
        let candidate = push(&fixture.registry, "m", &format!("round {round}"))
            .await
            .record
            .version;
        let stable = fixture.registry.traffic(&name("m")).await.unwrap().stable;
        let promoter = fixture.registry.clone();
        let deleter = other.clone();
        let (promoted, deleted) = tokio::join!(
            tokio::spawn(async move { promoter.set_stable(&name("m"), candidate, None).await }),
            tokio::spawn(async move { deleter.delete_version(&name("m"), candidate, None).await }),
        );
        let (promoted, deleted) = (promoted.unwrap(), deleted.unwrap());
        let traffic = other.traffic(&name("m")).await.unwrap();
        let there = fixture
            .registry
            .version(&name("m"), candidate)
            .await
            .is_ok();
        match (&promoted, &deleted) {
            (Ok(_), Err(RegistryError::VersionInUse { .. })) => {
                assert!(there && traffic.stable == Some(candidate));
            }
            (Err(RegistryError::VersionNotFound { .. }), Ok(())) => {
                assert!(!there && traffic.stable == stable);
            }
            both => panic!("{both:?}"),
        }
    }
}
