//! What a replica knows of the others: which models changed since it last looked; and how much of
//! its own disk it takes for what it fetched.

use std::sync::Arc;

use aegis_registry::{Follower, ModelName, Registry};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::support::*;

async fn replica(store: &Arc<InMemory>, work: &tempfile::TempDir) -> Registry {
    let workdir = tempfile::Builder::new()
        .tempdir_in(work.path())
        .unwrap()
        .keep();
    let store = Arc::clone(store) as Arc<dyn ObjectStore>;
    Registry::open(store, workdir).await.unwrap()
}

#[tokio::test]
async fn a_look_finds_what_changed_since_the_last_and_nothing_else() {
    let (store, work) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let (one, other) = (replica(&store, &work).await, replica(&store, &work).await);
    let mut follower = Follower::new(other.clone());
    let none: [ModelName; 0] = [];
    assert_eq!(follower.look().await.unwrap(), none);

    push(&one, "a", "1").await;
    push(&one, "b", "1").await;
    // The first look of a replica that starts late finds all of it.
    assert_eq!(
        Follower::new(other.clone()).look().await.unwrap(),
        [name("a"), name("b")]
    );
    assert_eq!(follower.look().await.unwrap(), [name("a"), name("b")]);
    assert_eq!(follower.look().await.unwrap(), none);

    push(&one, "b", "2").await;
    assert_eq!(follower.look().await.unwrap(), [name("b")]);
    one.set_stable(&name("b"), version(2), None).await.unwrap();
    assert_eq!(follower.look().await.unwrap(), [name("b")]);
    // What comes to nothing is nothing.
    one.set_stable(&name("b"), version(2), None).await.unwrap();
    assert_eq!(follower.look().await.unwrap(), none);
    one.delete_version(&name("b"), version(1), None)
        .await
        .unwrap();
    assert_eq!(follower.look().await.unwrap(), [name("b")]);
    one.delete_model(&name("a"), None).await.unwrap();
    assert_eq!(follower.look().await.unwrap(), [name("a")]);
    follower.forget(&name("b"));
    assert_eq!(follower.look().await.unwrap(), [name("b")]);
}

#[tokio::test]
async fn a_folder_is_followed_as_well() {
    let fixture = Fixture::new().await;
    let mut follower = Follower::new(fixture.registry.clone());
    push(&fixture.registry, "a", "1").await;
    push(&fixture.registry, "a", "2").await;
    assert_eq!(follower.look().await.unwrap(), [name("a")]);
    assert!(follower.look().await.unwrap().is_empty());
    fixture
        .registry
        .set_stable(&name("a"), version(2), None)
        .await
        .unwrap();
    assert_eq!(follower.look().await.unwrap(), [name("a")]);
}

#[tokio::test]
async fn local_copies_go_beyond_the_bound_the_least_recently_used_first_and_none_in_use() {
    let (store, work) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let uploader = replica(&store, &work).await;
    let mut records = Vec::new();
    for content in ["1", "2", "3", "4"] {
        records.push(push(&uploader, "m", content).await.record);
    }
    // Room for two and a half.
    let bound = records[0].total_bytes() * 5 / 2;
    let replica = replica(&store, &work).await.with_local_bytes(bound);
    // A path tells whether the copy is there, after what held it is gone.
    let lay_out = async |at: usize| replica.materialise(&records[at]).await.unwrap();
    let (first, second) = (lay_out(0).await, lay_out(1).await);
    let (path_0, path_1) = (first.path().to_owned(), second.path().to_owned());
    drop(second);
    let third = lay_out(2).await;
    assert!(path_0.exists(), "it is in use");
    assert!(!path_1.exists(), "it was not");
    drop((first, third));
    // Used again, the first is not the oldest any more.
    let path_2 = lay_out(2).await.path().to_owned();
    drop(lay_out(0).await);
    let _fourth = lay_out(3).await;
    assert!(path_0.exists() && !path_2.exists());
    // What went comes back.
    lay_out(1).await;
    assert!(path_1.exists());
}
