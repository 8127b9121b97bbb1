//! A store that stops answering at each step in turn, as it would for a process that is killed
//! there: what was before still serves, nothing is half there, and doing it again ends it. The
//! store is one in memory, so these tests also hold for conditional puts by ETag; the longest of
//! them is made against S3 as well (`s3`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aegis_registry::Registry;
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::support::*;

/// Writes to `store` until its strength is spent, and then no more.
#[derive(Debug)]
pub(crate) struct Mortal {
    store: Arc<dyn ObjectStore>,
    strength: Arc<Strength>,
}

/// The writes that are left.
#[derive(Debug)]
struct Strength(AtomicI64);

impl Strength {
    fn spend(&self) -> Result<()> {
        match self.0.fetch_sub(1, Ordering::SeqCst) > 0 {
            true => Ok(()),
            false => Err(object_store::Error::Generic {
                store: "mortal",
                source: "killed".into(),
            }),
        }
    }
}

impl Mortal {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, writes: i64) -> Self {
        let strength = Arc::new(Strength(AtomicI64::new(writes)));
        Self { store, strength }
    }
}

/// An upload in parts, each of which is a write.
#[derive(Debug)]
struct MortalParts {
    upload: Box<dyn MultipartUpload>,
    strength: Arc<Strength>,
}

#[async_trait]
impl MultipartUpload for MortalParts {
    fn put_part(&mut self, bytes: PutPayload) -> UploadPart {
        match self.strength.spend() {
            Ok(()) => self.upload.put_part(bytes),
            Err(killed) => Box::pin(std::future::ready(Err(killed))),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.strength.spend()?;
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        // The dead do not tidy up.
        self.strength.spend()?;
        self.upload.abort().await
    }
}

impl std::fmt::Display for Mortal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mortal")
    }
}

#[async_trait]
impl ObjectStore for Mortal {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.strength.spend()?;
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.strength.spend()?;
        let upload = self.store.put_multipart_opts(location, options).await?;
        let strength = Arc::clone(&self.strength);
        Ok(Box::new(MortalParts { upload, strength }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

/// One store, and a folder for the working folders of its replicas.
struct World {
    store: Arc<InMemory>,
    work: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            store: Arc::new(InMemory::new()),
            work: tempfile::tempdir().unwrap(),
        }
    }

    /// A new replica, which dies after so many writes.
    async fn replica(&self, writes: i64) -> Registry {
        let work = tempfile::Builder::new()
            .tempdir_in(self.work.path())
            .unwrap()
            .keep();
        let mortal = Mortal::new(Arc::clone(&self.store) as Arc<dyn ObjectStore>, writes);
        Registry::open(Arc::new(mortal), work).await.unwrap()
    }
}

const IMMORTAL: i64 = i64::MAX;

/// Every version that is there can be laid out, and the one that serves is there.
async fn is_whole(registry: &Registry, model: &str) -> usize {
    let Ok(found) = registry.model(&name(model)).await else {
        return 0;
    };
    for record in &found.versions {
        registry.materialise(record).await.unwrap();
    }
    if let Some(stable) = found.traffic.stable {
        registry.version(&name(model), stable).await.unwrap();
    }
    found.versions.len()
}

#[tokio::test]
async fn a_first_upload_killed_at_any_write_is_ended_by_the_same_upload() {
    // Four blobs, the record, the rule.
    for writes in 0..=6 {
        let world = World::new();
        let dying = world.replica(writes).await;
        let package = stage(&dying, "m", "1").await;
        let died = dying.commit(package, by("ann")).await.is_err();
        assert_eq!(died, writes < 6);

        let next = world.replica(IMMORTAL).await;
        assert_eq!(is_whole(&next, "m").await, usize::from(writes >= 5));
        let commit = push(&next, "m", "1").await;
        assert_eq!(
            (commit.record.version, commit.created),
            (version(1), writes < 5)
        );
        assert_eq!(is_whole(&next, "m").await, 1);
        assert_eq!(
            next.traffic(&name("m")).await.unwrap().stable,
            Some(version(1))
        );
    }
}

#[tokio::test]
async fn a_large_upload_killed_at_any_part_leaves_nothing_that_is_not_found() {
    // Of 20 MiB, three parts: begun, each, ended; three more blobs, the record, the rule.
    let large = || {
        let mut files = files("m", "1");
        files[3].1 = vec![9; 20 << 20];
        files
    };
    for writes in 0..=10 {
        let world = World::new();
        let dying = world.replica(writes).await;
        let package = try_stage(&dying, "m", &large()).await.unwrap();
        assert_eq!(dying.commit(package, by("ann")).await.is_err(), writes < 10);
        let next = world.replica(IMMORTAL).await;
        assert_eq!(is_whole(&next, "m").await, usize::from(writes >= 9));
        next.collect_garbage(Duration::ZERO).await.unwrap();
        let left = world.store.list(None).count().await;
        // Four blobs and the record, or all of it; or nothing.
        let expected = match writes {
            9 => 5,
            10 => 6,
            _ => 0,
        };
        assert_eq!(left, expected, "after {writes} writes");
        let package = try_stage(&next, "m", &large()).await.unwrap();
        next.commit(package, by("ann")).await.unwrap();
        assert_eq!(is_whole(&next, "m").await, 1);
    }
}

#[tokio::test]
async fn a_later_upload_killed_at_any_write_changes_nothing_that_serves() {
    for writes in 0..=5 {
        let world = World::new();
        push(&world.replica(IMMORTAL).await, "m", "1").await;
        let dying = world.replica(writes).await;
        let package = stage(&dying, "m", "2").await;
        assert_eq!(dying.commit(package, by("ann")).await.is_err(), writes < 5);

        let next = world.replica(IMMORTAL).await;
        assert_eq!(is_whole(&next, "m").await, if writes < 5 { 1 } else { 2 });
        assert_eq!(
            next.traffic(&name("m")).await.unwrap().stable,
            Some(version(1))
        );
        // What was left over is found.
        let collected = next.collect_garbage(Duration::ZERO).await.unwrap();
        assert_eq!(
            collected.blobs > 0,
            (1..5).contains(&writes) && collected.blobs == 1
        );
        assert_eq!(next.collect_garbage(Duration::ZERO).await.unwrap().blobs, 0);
    }
}

#[tokio::test]
async fn a_deletion_killed_at_any_write_is_ended_by_the_next_start() {
    // The rule says it goes, the tombstone, the rule forgets it.
    for writes in 0..=3 {
        let world = World::new();
        let first = world.replica(IMMORTAL).await;
        push(&first, "m", "1").await;
        push(&first, "m", "2").await;
        let dying = world.replica(writes).await;
        let died = dying
            .delete_version(&name("m"), version(2), Some("bob"))
            .await
            .is_err();
        assert_eq!(died, writes < 3);

        let next = world.replica(IMMORTAL).await;
        if writes > 0 {
            // Once begun, it can be given no role any more.
            assert_eq!(
                next.set_stable(&name("m"), version(2), None)
                    .await
                    .unwrap_err()
                    .code(),
                "version_not_found"
            );
        }
        next.collect_garbage(Duration::ZERO).await.unwrap();
        assert_eq!(is_whole(&next, "m").await, if writes == 0 { 2 } else { 1 });
        let again = next
            .delete_version(&name("m"), version(2), Some("bob"))
            .await;
        assert_eq!(again.is_ok(), writes == 0);
        assert_eq!(push(&next, "m", "3").await.record.version, version(3));
    }
}

#[tokio::test]
async fn a_model_deleted_halfway_is_gone_after_the_next_collection() {
    for writes in 1..=4 {
        let world = World::new();
        let first = world.replica(IMMORTAL).await;
        push(&first, "m", "1").await;
        push(&first, "m", "2").await;
        let dying = world.replica(writes).await;
        assert_eq!(
            dying.delete_model(&name("m"), None).await.is_err(),
            writes < 4
        );
        let next = world.replica(IMMORTAL).await;
        next.collect_garbage(Duration::ZERO).await.unwrap();
        assert!(next.models().await.unwrap().is_empty());
        next.collect_garbage(Duration::ZERO).await.unwrap();
        assert_eq!(push(&next, "m", "1").await.record.version, version(3));
    }
}

#[tokio::test]
async fn a_replica_downloads_what_another_uploaded() {
    let world = World::new();
    let uploader = world.replica(IMMORTAL).await;
    let record = push(&uploader, "m", "1").await.record;
    let other = world.replica(IMMORTAL).await;
    let dir = other.materialise(&record).await.unwrap();
    for (path, bytes) in files("m", "1") {
        assert_eq!(std::fs::read(dir.path().join(path)).unwrap(), bytes);
    }
    // A copy that rots on the replica's disk is fetched again.
    std::fs::write(dir.handler().unwrap(), b"rotten").unwrap();
    let dir = other.materialise(&record).await.unwrap();
    assert_eq!(std::fs::read(dir.handler().unwrap()).unwrap(), b"handler 1");
}

#[tokio::test]
async fn a_commit_goes_on_when_its_caller_is_gone() {
    let fixture = Fixture::new().await;
    let package = stage(&fixture.registry, "m", "1").await;
    let registry = fixture.registry.clone();
    let caller = tokio::spawn(async move { registry.commit(package, by("ann")).await });
    while fixture.files("blobs").is_empty() {
        tokio::task::yield_now().await;
    }
    caller.abort();
    for _ in 0..200 {
        if fixture
            .registry
            .traffic(&name("m"))
            .await
            .is_ok_and(|traffic| traffic.stable.is_some())
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the commit was cut off");
}
