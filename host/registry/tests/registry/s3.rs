//! The registry on S3's interface over HTTP, spoken to as in production: by a URL and the
//! environment's variables.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_registry::{Canary, Registry, StoreUrl, Weight};
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use object_store::ObjectStore;

use crate::crashes::Mortal;
use crate::support::*;
use crate::tools::S3;

/// Replicas of one registry, each with a working folder and a client of its own.
struct Fleet {
    s3: S3,
    work: tempfile::TempDir,
}

impl Fleet {
    async fn new() -> Option<Self> {
        Some(Self {
            s3: S3::start().await?,
            work: tempfile::tempdir().unwrap(),
        })
    }

    fn workdir(&self) -> std::path::PathBuf {
        tempfile::Builder::new()
            .tempdir_in(self.work.path())
            .unwrap()
            .keep()
    }

    async fn replica(&self) -> Registry {
        let place = "s3://models/team/a".parse().unwrap();
        Registry::open_at(
            &place,
            self.workdir(),
            &self.s3.variables(),
            Registry::PATIENCE,
        )
        .await
        .unwrap()
    }

    /// What is in the bucket, by paths from its root.
    async fn objects(&self) -> Vec<String> {
        let listing = self
            .open("s3://models")
            .list(None)
            .map_ok(|object| object.location.to_string());
        let mut all: Vec<_> = listing.try_collect().await.unwrap();
        all.sort();
        all
    }

    /// A place in it, as the registry sees it.
    fn open(&self, place: &str) -> Arc<dyn ObjectStore> {
        let place: StoreUrl = place.parse().unwrap();
        place
            .open_bucket(&self.s3.variables(), Registry::PATIENCE)
            .unwrap()
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_does_the_others_see() {
    let Some(fleet) = Fleet::new().await else {
        return;
    };
    let (one, other) = (fleet.replica().await, fleet.replica().await);
    // In parts, and in one piece.
    let mut large = files("m", "1");
    large[3].1 = (0..20 << 20).map(|at: u32| (at / 7) as u8).collect();
    let package = try_stage(&one, "m", &large).await.unwrap();
    let first = one.commit(package, by("ann")).await.unwrap().record;
    let second = push(&other, "m", "2").await.record;
    assert_eq!((first.version, second.version), (version(1), version(2)));

    let dir = other.materialise(&first).await.unwrap();
    for (path, bytes) in &large {
        assert!(
            std::fs::read(dir.path().join(path)).unwrap() == *bytes,
            "{path}"
        );
    }
    one.set_stable(&name("m"), version(2), Some("bob"))
        .await
        .unwrap();
    assert_eq!(
        other.traffic(&name("m")).await.unwrap().stable,
        Some(version(2))
    );
    assert!(!push(&other, "m", "2").await.created);

    other
        .delete_version(&name("m"), version(1), Some("bob"))
        .await
        .unwrap();
    let gone = one.version(&name("m"), version(1)).await.unwrap_err();
    assert_eq!(gone.code(), "version_not_found");
    let history = one.traffic(&name("m")).await.unwrap().history;
    let who: Vec<_> = history.iter().map(|change| change.by.as_deref()).collect();
    assert_eq!(who, [Some("ann"), Some("bob"), Some("bob")]);

    // The files of version 1 that version 2 does not have go.
    let collected = one.collect_garbage(Duration::ZERO).await.unwrap();
    assert_eq!(collected.blobs, 2);
    let objects = fleet.objects().await;
    assert!(
        objects.iter().all(|path| path.starts_with("team/a/")),
        "{objects:?}"
    );
    // Four blobs, the record and a tombstone, the rule.
    assert_eq!(objects.len(), 7, "{objects:?}");
    assert_eq!(other.models().await.unwrap().len(), 1);
    other.delete_model(&name("m"), None).await.unwrap();
    assert!(one.models().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_that_write_at_once_neither_loses_a_change() {
    let Some(fleet) = Fleet::new().await else {
        return;
    };
    let replicas = [fleet.replica().await, fleet.replica().await];
    push(&replicas[0], "m", "1").await;
    push(&replicas[0], "m", "2").await;
    const EACH: usize = 8;
    let writers = replicas.iter().enumerate().map(|(at, replica)| async move {
        for round in 0..EACH {
            // No two the same, so that each is a change.
            let weight = Weight::from_percent((1 + 2 * round + at) as f64).unwrap();
            let canary = Canary {
                version: version(2),
                weight,
            };
            let who = format!("writer {at}");
            replica
                .set_canary(&name("m"), Some(canary), Some(&who))
                .await
                .unwrap();
        }
    });
    join_all(writers).await;
    let traffic = replicas[1].traffic(&name("m")).await.unwrap();
    assert_eq!(traffic.history.len(), 1 + 2 * EACH);
    for at in 0..2 {
        let who = format!("writer {at}");
        let by_it = traffic
            .history
            .iter()
            .filter(|change| change.by.as_ref() == Some(&who));
        let weights: Vec<_> = by_it
            .map(|change| change.canary.unwrap().weight.percent() as usize)
            .collect();
        let expected: Vec<_> = (0..EACH).map(|round| 1 + 2 * round + at).collect();
        assert_eq!(weights, expected, "each in its own order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_uploads_at_once_each_gets_a_number_and_the_same_content_one() {
    let Some(fleet) = Fleet::new().await else {
        return;
    };
    let replicas = [fleet.replica().await, fleet.replica().await];
    let uploads = ["1", "2", "3", "same", "same"].into_iter().enumerate();
    let pushed = uploads.map(|(at, content)| push(&replicas[at % 2], "m", content));
    let commits = join_all(pushed).await;
    let mut numbers: Vec<_> = commits
        .iter()
        .map(|commit| commit.record.version.get())
        .collect();
    assert_eq!(numbers[3], numbers[4]);
    assert_eq!(commits.iter().filter(|commit| commit.created).count(), 4);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let stable = replicas[0].traffic(&name("m")).await.unwrap();
    assert!(stable.stable.is_some());
    assert_eq!(stable.history.len(), 1, "one of them was the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_s3_killed_at_any_write_leaves_what_served_and_no_orphan_unfound() {
    let Some(fleet) = Fleet::new().await else {
        return;
    };
    let mut created = 0;
    for writes in 0..=6 {
        // A model of its own each time; one that served, and an upload that dies.
        let model = format!("m{writes}");
        let replica = fleet.replica().await;
        push(&replica, &model, "1").await;
        let before = fleet.objects().await;
        let mortal = Mortal::new(fleet.open("s3://models/team/a"), writes);
        let dying = Registry::open(Arc::new(mortal), fleet.workdir())
            .await
            .unwrap();
        let package = stage(&dying, &model, &format!("new {writes}")).await;
        // Four blobs and the record; the rule stays as it is.
        let died = dying.commit(package, by("ann")).await.is_err();
        assert_eq!(died, writes < 5, "after {writes} writes");
        assert_eq!(
            replica.traffic(&name(&model)).await.unwrap().stable,
            Some(version(1))
        );
        replica.collect_garbage(Duration::ZERO).await.unwrap();
        let after = fleet.objects().await;
        created = after.len() - before.len();
        // The record and the one blob that is new with it, or nothing.
        assert_eq!(created, if died { 0 } else { 2 }, "after {writes} writes");
    }
    assert_eq!(created, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_told_in_bounded_time_and_what_is_laid_out_stays() {
    let Some(mut fleet) = Fleet::new().await else {
        return;
    };
    let replica = fleet.replica().await;
    let record = push(&replica, "m", "1").await.record;
    let dir = replica.materialise(&record).await.unwrap();
    fleet.s3.stop();
    let began = Instant::now();
    let error = replica.traffic(&name("m")).await.unwrap_err();
    assert_eq!(error.code(), "store_error", "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(90),
        "{:?}",
        began.elapsed()
    );
    // Laid out and verified, it needs no store.
    replica.materialise(&record).await.unwrap();
    assert_eq!(std::fs::read(dir.handler().unwrap()).unwrap(), b"handler 1");
}
