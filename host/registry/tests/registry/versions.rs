//! Committing and reading: versions are immutable, numbered without gaps or doubles, and laid out
//! in the store as documented.

use aegis_registry::{Digest, Registry, RegistryError};

use crate::support::*;

#[tokio::test]
async fn the_store_is_laid_out_as_documented() {
    let fixture = Fixture::new().await;
    let commit = push(&fixture.registry, "m", "1").await;
    push(&fixture.registry, "m", "2").await;

    assert_eq!(
        fixture.files("models"),
        ["m/traffic.json", "m/versions/1.json", "m/versions/2.json"]
    );
    // Three files are the same in both versions, and are stored once.
    assert_eq!(fixture.files("blobs/sha256").len(), 5);
    let handler = commit.record.file(&"h.wasm".parse().unwrap()).unwrap();
    assert_eq!(handler.digest, Digest::of(b"handler 1"));
    let blob = fixture
        .folder
        .path()
        .join("blobs/sha256")
        .join(handler.digest.hex());
    assert_eq!(std::fs::read(blob).unwrap(), b"handler 1");
    fixture.staging_is_empty().await;
}

#[tokio::test]
async fn the_first_version_serves_and_later_ones_wait() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let first = push(registry, "m", "1").await;
    assert!(first.created);
    assert_eq!(first.record.version, version(1));
    assert_eq!(first.record.created_by.as_deref(), Some("ann"));
    push(registry, "m", "2").await;

    let traffic = registry.traffic(&name("m")).await.unwrap();
    assert_eq!(traffic.stable, Some(version(1)));
    assert_eq!(traffic.history.len(), 1);
    let numbers: Vec<_> = registry
        .versions(&name("m"))
        .await
        .unwrap()
        .iter()
        .map(|it| it.version)
        .collect();
    assert_eq!(numbers, [version(1), version(2)]);
}

#[tokio::test]
async fn the_same_content_again_is_the_same_version() {
    let fixture = Fixture::new().await;
    let first = push(&fixture.registry, "m", "1").await;
    push(&fixture.registry, "m", "2").await;
    let again = push(&fixture.registry, "m", "1").await;
    assert!(!again.created);
    assert_eq!(again.record, first.record);
    assert_eq!(
        fixture.registry.versions(&name("m")).await.unwrap().len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_uploads_of_one_name_get_different_numbers() {
    let fixture = Fixture::new().await;
    // Two registries on one folder are what two processes are.
    let work = tempfile::tempdir().unwrap();
    let other = Registry::open_folder(fixture.folder.path(), work.path().to_owned())
        .await
        .unwrap();
    let uploads = (0..12).map(|n| {
        let registry = if n % 2 == 0 {
            fixture.registry.clone()
        } else {
            other.clone()
        };
        tokio::spawn(async move { push(&registry, "m", &n.to_string()).await })
    });
    let commits = futures_util::future::join_all(uploads).await;
    let mut numbers: Vec<_> = commits
        .into_iter()
        .map(|commit| commit.unwrap().record.version.get())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    let traffic = fixture.registry.traffic(&name("m")).await.unwrap();
    assert!(traffic.stable.is_some());
    assert_eq!(traffic.history.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_uploads_of_one_content_make_one_version() {
    let fixture = Fixture::new().await;
    let uploads = (0..8).map(|_| {
        let registry = fixture.registry.clone();
        tokio::spawn(async move { push(&registry, "m", "same").await })
    });
    let commits = futures_util::future::join_all(uploads).await;
    let created = commits
        .into_iter()
        .filter(|commit| commit.as_ref().unwrap().created)
        .count();
    assert_eq!(created, 1);
    assert_eq!(
        fixture.registry.versions(&name("m")).await.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let fixture = Fixture::new().await;
    push(&fixture.registry, "m", "1").await;
    let registry = &fixture.registry;
    let code = |error: RegistryError| error.code();
    assert_eq!(
        code(registry.version(&name("m"), version(2)).await.unwrap_err()),
        "version_not_found"
    );
    assert_eq!(
        code(registry.version(&name("n"), version(1)).await.unwrap_err()),
        "model_not_found"
    );
    assert_eq!(
        code(registry.versions(&name("n")).await.unwrap_err()),
        "model_not_found"
    );
    assert_eq!(
        code(registry.traffic(&name("n")).await.unwrap_err()),
        "model_not_found"
    );
    assert_eq!(
        code(registry.model(&name("n")).await.unwrap_err()),
        "model_not_found"
    );
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let fixture = Fixture::new().await;
    push(&fixture.registry, "a", "1").await;
    push(&fixture.registry, "b", "1").await;
    push(&fixture.registry, "b", "2").await;
    let before = fixture.registry.models().await.unwrap();

    let again = Registry::open_local(fixture.folder.path()).await.unwrap();
    let after = again.models().await.unwrap();
    let names: Vec<_> = after
        .iter()
        .map(|model| (model.name.as_str(), model.versions.len()))
        .collect();
    assert_eq!(names, [("a", 1), ("b", 2)]);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.versions, after.versions);
        assert_eq!(before.traffic, after.traffic);
    }
}

#[tokio::test]
async fn a_change_by_another_process_is_seen_at_once() {
    let fixture = Fixture::new().await;
    let work = tempfile::tempdir().unwrap();
    let other = Registry::open_folder(fixture.folder.path(), work.path().to_owned())
        .await
        .unwrap();
    push(&fixture.registry, "m", "1").await;
    push(&fixture.registry, "m", "2").await;
    assert_eq!(other.models().await.unwrap()[0].versions.len(), 2);
    fixture
        .registry
        .delete_version(&name("m"), version(2), None)
        .await
        .unwrap();
    assert_eq!(other.models().await.unwrap()[0].versions.len(), 1);
}

#[tokio::test]
async fn a_large_file_goes_in_parts_and_comes_back_whole() {
    let fixture = Fixture::new().await;
    let mut files = files("m", "1");
    // Two parts and a bit, and then exactly two parts.
    for size in [20_000_000_usize, 16 * 1024 * 1024] {
        files[3].1 = (0..size).map(|n| (n % 251) as u8).collect();
        let package = try_stage(&fixture.registry, "m", &files).await.unwrap();
        let commit = fixture.registry.commit(package, by("ann")).await.unwrap();
        let dir = fixture.registry.materialise(&commit.record).await.unwrap();
        assert_eq!(
            std::fs::read(dir.path().join("net/g.bin")).unwrap(),
            files[3].1
        );
    }
}
