//! A store over a bad network: it fails, stalls, stops short, forgets half of what it was given, or
//! does what it was asked and loses the answer. Nothing wrong is believed, nothing waits for ever,
//! and what passes by itself is not told to anyone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aegis_registry::{ErrorKind, Registry};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

use crate::support::*;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It fails.
    Fails,
    /// No answer ever comes.
    Stalls,
    /// Half of the bytes come, and then the end.
    StopsShort,
    /// Half of the bytes come, and then nothing more.
    StallsHalfway,
    /// A byte is another.
    Alters,
    /// It is done, and the answer is lost.
    LosesTheAnswer,
    /// Half of it is kept, and all is said to be well.
    KeepsHalf,
}

/// Does the next calls wrong in that order, and all others right.
struct Faulty {
    store: InMemory,
    gets: Mutex<VecDeque<Fault>>,
    /// `None` is a put that goes well.
    puts: Mutex<VecDeque<Option<Fault>>>,
    /// Whether of every blob half is kept.
    forgetful: AtomicBool,
    /// What others do as soon as so many listings were answered.
    meanwhile: Mutex<Option<(usize, BoxFuture<'static, ()>)>>,
    /// What others do as soon as an answer was lost.
    after_lost: Mutex<Option<BoxFuture<'static, ()>>>,
    lists: Mutex<VecDeque<Fault>>,
}

fn failure() -> object_store::Error {
    object_store::Error::Generic {
        store: "faulty",
        source: "connection reset".into(),
    }
}

impl Faulty {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            store: InMemory::new(),
            gets: Mutex::default(),
            puts: Mutex::default(),
            lists: Mutex::default(),
            forgetful: AtomicBool::new(false),
            meanwhile: Mutex::default(),
            after_lost: Mutex::default(),
        })
    }

    fn next_gets(&self, faults: &[Fault]) {
        self.gets.lock().extend(faults);
    }

    /// What is to be done after the listing that is asked for now.
    fn done_meanwhile(&self) -> Option<BoxFuture<'static, ()>> {
        let mut meanwhile = self.meanwhile.lock();
        let (listings, others) = meanwhile.take()?;
        if listings == 1 {
            return Some(others);
        }
        *meanwhile = Some((listings - 1, others));
        None
    }

    /// So many puts go well, and the next does not.
    fn put_after(&self, before: usize, fault: Fault) {
        let mut puts = self.puts.lock();
        puts.extend(vec![None; before]);
        puts.push_back(Some(fault));
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let mut fault = self.puts.lock().pop_front().flatten();
        if self.forgetful.load(Ordering::SeqCst) && location.as_ref().starts_with("blobs/") {
            fault = Some(Fault::KeepsHalf);
        }
        match fault {
            None => self.store.put_opts(location, payload, options).await,
            Some(Fault::Stalls) => std::future::pending().await,
            Some(Fault::LosesTheAnswer) => {
                self.store.put_opts(location, payload, options).await?;
                let others = self.after_lost.lock().take();
                if let Some(others) = others {
                    others.await;
                }
                Err(failure())
            }
            Some(Fault::KeepsHalf) => {
                let bytes = Bytes::from(payload);
                let half = bytes.slice(..bytes.len() / 2);
                self.store.put_opts(location, half.into(), options).await
            }
            Some(_) => Err(failure()),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            return self.store.get_opts(location, options).await;
        }
        let fault = self.gets.lock().pop_front();
        match fault {
            Some(Fault::Fails) => return Err(failure()),
            Some(Fault::Stalls) => std::future::pending().await,
            _ => {}
        }
        let found = self.store.get_opts(location, options).await?;
        let Some(fault) = fault else { return Ok(found) };
        let (meta, range) = (found.meta.clone(), found.range.clone());
        let (attributes, extensions) = (found.attributes.clone(), found.extensions.clone());
        let bytes = found.bytes().await?;
        let half = stream::iter([Ok(bytes.slice(..bytes.len() / 2))]);
        let pieces = match fault {
            Fault::StallsHalfway => half.chain(stream::pending()).boxed(),
            Fault::Alters => {
                let mut altered = bytes.to_vec();
                altered[0] ^= 1;
                stream::iter([Ok(Bytes::from(altered))]).boxed()
            }
            _ => half.boxed(),
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(pieces),
            meta,
            range,
            attributes,
            extensions,
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.lists.lock().pop_front() {
            None => {
                let listed = self.store.list(prefix);
                match self.done_meanwhile() {
                    None => listed,
                    Some(others) => {
                        let answered = async move {
                            let listed: Vec<_> = listed.collect().await;
                            others.await;
                            stream::iter(listed)
                        };
                        stream::once(answered).flatten().boxed()
                    }
                }
            }
            Some(Fault::Stalls) => stream::pending().boxed(),
            Some(_) => stream::iter([Err(failure())]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

struct World {
    store: Arc<Faulty>,
    work: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            store: Faulty::new(),
            work: tempfile::tempdir().unwrap(),
        }
    }

    async fn replica(&self) -> Registry {
        let work = tempfile::Builder::new()
            .tempdir_in(self.work.path())
            .unwrap()
            .keep();
        let store = Arc::clone(&self.store) as Arc<dyn ObjectStore>;
        let registry = Registry::open(store, work).await.unwrap();
        // The collection at the start has read what it reads, and takes no fault from a test.
        registry.collect_garbage(Registry::GRACE).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        registry
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_goes_wrong_twice_is_right_the_third_time() {
    for fault in [
        Fault::Fails,
        Fault::Stalls,
        Fault::StopsShort,
        Fault::StallsHalfway,
        Fault::Alters,
    ] {
        let world = World::new();
        let record = push(&world.replica().await, "m", "1").await.record;
        let other = world.replica().await;
        world.store.next_gets(&[fault, fault]);
        let dir = other.materialise(&record).await;
        let dir = dir.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        for (path, bytes) in files("m", "1") {
            assert_eq!(std::fs::read(dir.path().join(path)).unwrap(), bytes);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_stays_wrong_is_an_error_in_bounded_time_and_leaves_nothing() {
    for (fault, code) in [
        (Fault::Fails, "store_error"),
        (Fault::Stalls, "store_error"),
        (Fault::StopsShort, "store_error"),
        (Fault::StallsHalfway, "store_error"),
        (Fault::Alters, "corrupt_blob"),
    ] {
        let world = World::new();
        let record = push(&world.replica().await, "m", "1").await.record;
        let other = world.replica().await;
        world.store.next_gets(&[fault; 3]);
        let began = tokio::time::Instant::now();
        let error = other.materialise(&record).await.unwrap_err();
        assert_eq!(error.code(), code, "{fault:?}: {error}");
        assert!(began.elapsed() < Duration::from_secs(200), "{fault:?}");
        let says = match fault {
            Fault::Stalls | Fault::StallsHalfway => "did not answer within 60 s",
            Fault::StopsShort => " bytes of `blobs/sha256/",
            Fault::Alters => "expected sha256:",
            _ => "connection reset",
        };
        assert!(error.to_string().contains(says), "{error}");
        // The next one, when the network is back, is right.
        other.materialise(&record).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn rules_and_records_are_not_read_by_halves() {
    for fault in [Fault::StopsShort, Fault::StallsHalfway, Fault::Fails] {
        let world = World::new();
        push(&world.replica().await, "m", "1").await;
        let other = world.replica().await;
        world.store.next_gets(&[fault; 2]);
        let stable = other.traffic(&name("m")).await.unwrap().stable;
        assert_eq!(stable, Some(version(1)), "{fault:?}");
        world.store.next_gets(&[fault; 3]);
        let error = other.traffic(&name("m")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_stalls_ends() {
    let world = World::new();
    let registry = world.replica().await;
    push(&registry, "m", "1").await;
    world.store.lists.lock().push_back(Fault::Stalls);
    let error = registry.models().await.unwrap_err();
    assert!(error.to_string().contains("did not answer"), "{error}");
    assert_eq!(registry.models().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_is_cut_off_is_made_again() {
    let world = World::new();
    let registry = world.replica().await;
    push(&registry, "m", "1").await;
    world.store.lists.lock().extend([Fault::Fails; 2]);
    assert_eq!(registry.models().await.unwrap().len(), 1);
    world.store.lists.lock().extend([Fault::Fails; 3]);
    let error = registry.models().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(start_paused = true)]
async fn whichever_put_stalls_or_fails_it_is_settled_or_the_same_upload_ends_it() {
    // Four blobs, the record, the rule.
    for before in 0..6 {
        for fault in [Fault::Fails, Fault::Stalls, Fault::LosesTheAnswer] {
            let world = World::new();
            let registry = world.replica().await;
            let package = stage(&registry, "m", "1").await;
            world.store.put_after(before, fault);
            let first = registry.commit(package, by("ann")).await;
            // What is put on a condition is settled there and then, unless that took too long.
            if before >= 4 && fault != Fault::Stalls {
                let commit = first.unwrap();
                assert!(commit.created, "{before} {fault:?}");
            } else {
                let error = first.unwrap_err();
                let told = (error.code(), error.kind());
                let due = ("store_error", ErrorKind::Unavailable);
                assert_eq!(told, due, "{before} {fault:?}: {error}");
            }
            let commit = push(&registry, "m", "1").await;
            assert_eq!(commit.record.version, version(1), "{before} {fault:?}");
            let model = registry.model(&name("m")).await.unwrap();
            assert_eq!(
                (model.versions.len(), model.traffic.stable),
                (1, Some(version(1)))
            );
            // Done once, however often it was tried.
            assert_eq!(model.traffic.history.len(), 1);
            registry.materialise(&model.versions[0]).await.unwrap();
        }
    }
}

/// A model with three versions that were stable one after the other.
async fn thrice_promoted(world: &World) -> Registry {
    let registry = world.replica().await;
    for number in 1..=3 {
        let record = push(&registry, "m", &number.to_string()).await.record;
        registry
            .set_stable(&name("m"), record.version, Some("ann"))
            .await
            .unwrap();
    }
    registry
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_lost_or_whose_answer_is_lost_is_made_once() {
    for lost in [
        &[Fault::Fails][..],
        &[Fault::Fails, Fault::Fails],
        &[Fault::LosesTheAnswer],
        &[Fault::Fails, Fault::LosesTheAnswer],
    ] {
        let world = World::new();
        let registry = thrice_promoted(&world).await;
        lost.iter()
            .for_each(|fault| world.store.put_after(0, *fault));
        let after = registry.rollback(&name("m"), Some("ann")).await.unwrap();
        assert_eq!(after.stable, Some(version(2)), "{lost:?}");
        let there = registry.traffic(&name("m")).await.unwrap();
        assert_eq!(there, after, "{lost:?}");
        assert_eq!(there.history.len(), 4, "{lost:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_answer_is_lost_and_that_another_went_on_from_is_not_made_again() {
    let world = World::new();
    let registry = thrice_promoted(&world).await;
    let other = world.replica().await;
    let others = async move {
        other
            .set_fallback(&name("m"), Some(version(1)), Some("bob"))
            .await
            .unwrap();
    };
    world.store.put_after(0, Fault::LosesTheAnswer);
    *world.store.after_lost.lock() = Some(others.boxed());
    let after = registry.rollback(&name("m"), Some("ann")).await.unwrap();
    // A second rollback would be back at version 3, or at 1.
    let due = (Some(version(2)), Some(version(1)));
    assert_eq!((after.stable, after.fallback), due);
    let who: Vec<_> = after.history.iter().map(|it| it.by.as_deref()).collect();
    assert_eq!(who[3..], [Some("ann"), Some("bob")]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_from_a_change_is_told_in_bounded_time() {
    for fault in [Fault::Fails, Fault::Stalls] {
        let world = World::new();
        let registry = thrice_promoted(&world).await;
        world.store.puts.lock().extend(vec![Some(fault); 100]);
        let began = tokio::time::Instant::now();
        let error = registry.rollback(&name("m"), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(began.elapsed() < Duration::from_secs(130), "{fault:?}");
        world.store.puts.lock().clear();
        let stable = registry.traffic(&name("m")).await.unwrap().stable;
        assert_eq!(stable, Some(version(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_keeps_half_is_found_out_before_anything_serves() {
    let world = World::new();
    let registry = world.replica().await;
    // Once: it is put again.
    let package = stage(&registry, "m", "1").await;
    world.store.put_after(0, Fault::KeepsHalf);
    let record = registry.commit(package, by("ann")).await.unwrap().record;
    world.replica().await.materialise(&record).await.unwrap();
    // Always: it is said, and the version before it goes on.
    let package = stage(&registry, "m", "2").await;
    world.store.forgetful.store(true, Ordering::SeqCst);
    let error = registry.commit(package, by("ann")).await.unwrap_err();
    assert_eq!(error.code(), "not_kept", "{error}");
    let traffic = registry.traffic(&name("m")).await.unwrap();
    assert_eq!(traffic.stable, Some(version(1)));
    // The version that it left is put right by the same upload, when the store is well again.
    world.store.forgetful.store(false, Ordering::SeqCst);
    let record = push(&registry, "m", "2").await.record;
    world.replica().await.materialise(&record).await.unwrap();
}

#[tokio::test]
async fn a_collection_takes_no_blob_from_an_upload_that_comes_between() {
    // After the blobs are listed, after the records are, and after they are listed again, which is
    // the last that is looked at before blobs are removed.
    for listings in 1..=3 {
        let world = World::new();
        let registry = world.replica().await;
        push(&registry, "m", "1").await;
        push(&registry, "m", "2").await;
        registry
            .set_stable(&name("m"), version(2), None)
            .await
            .unwrap();
        registry
            .delete_version(&name("m"), version(1), None)
            .await
            .unwrap();
        assert_eq!(
            registry.find_garbage(Duration::ZERO).await.unwrap().blobs,
            1
        );

        // What version 1 had alone is wanted again.
        let other = world.replica().await;
        let package = stage(&other, "m", "1").await;
        let (uploader, done) = (other.clone(), Arc::new(AtomicBool::new(false)));
        let set = Arc::clone(&done);
        let upload = async move {
            uploader.commit(package, by("bob")).await.unwrap();
            set.store(true, Ordering::SeqCst);
        };
        *world.store.meanwhile.lock() = Some((listings, upload.boxed()));
        let collected = registry.collect_garbage(Duration::ZERO).await.unwrap();
        assert!(done.load(Ordering::SeqCst));
        assert_eq!(collected.blobs, 0, "after {listings} listings");
        let record = registry.version(&name("m"), version(3)).await.unwrap();
        world.replica().await.materialise(&record).await.unwrap();
    }
}
