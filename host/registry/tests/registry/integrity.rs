//! What is read from the store is what was put there, or it is refused by name.

use std::path::PathBuf;

use aegis_registry::{Digest, ErrorKind, Registry, RegistryError};

use crate::support::*;

fn blob(fixture: &Fixture, content: &[u8]) -> PathBuf {
    fixture
        .folder
        .path()
        .join("blobs/sha256")
        .join(Digest::of(content).hex())
}

#[tokio::test]
async fn a_version_comes_back_as_the_files_it_was() {
    let fixture = Fixture::new().await;
    let record = push(&fixture.registry, "m", "1").await.record;
    let dir = fixture.registry.materialise(&record).await.unwrap();
    assert_eq!(dir.digest(), record.digest);
    for (path, bytes) in files("m", "1") {
        assert_eq!(std::fs::read(dir.path().join(path)).unwrap(), bytes);
    }
    assert_eq!(dir.handler_digest(), Some(Digest::of(b"handler 1")));
    // A second time it is the same folder.
    let again = fixture.registry.materialise(&record).await.unwrap();
    assert_eq!(again.path(), dir.path());
}

#[cfg(unix)]
#[tokio::test]
async fn a_laid_out_version_takes_no_room_twice() {
    use std::os::unix::fs::MetadataExt;
    let fixture = Fixture::new().await;
    let record = push(&fixture.registry, "m", "1").await.record;
    let dir = fixture.registry.materialise(&record).await.unwrap();
    let inode = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
    assert_eq!(
        inode(dir.handler().unwrap()),
        inode(blob(&fixture, b"handler 1"))
    );
}

#[tokio::test]
async fn a_corrupt_blob_is_refused_with_its_file_and_both_digests() {
    let fixture = Fixture::new().await;
    let record = push(&fixture.registry, "m", "1").await.record;
    for before_first_use in [true, false] {
        if !before_first_use {
            std::fs::write(blob(&fixture, b"handler 1"), b"handler 1").unwrap();
            drop(fixture.registry.materialise(&record).await.unwrap());
        }
        std::fs::write(blob(&fixture, b"handler 1"), b"handler X").unwrap();
        let error = fixture.registry.materialise(&record).await.unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            ("corrupt_blob", ErrorKind::Internal)
        );
        let message = error.to_string();
        for part in [
            "`h.wasm`",
            "version 1 of `m`",
            &Digest::of(b"handler 1").to_string(),
            &Digest::of(b"handler X").to_string(),
        ] {
            assert!(message.contains(part), "{message}");
        }
        fixture.staging_is_empty().await;
    }
}

#[tokio::test]
async fn the_same_upload_again_repairs_what_was_damaged() {
    let fixture = Fixture::new().await;
    let record = push(&fixture.registry, "m", "1").await.record;
    std::fs::write(blob(&fixture, b"handler 1"), b"handler X").unwrap();
    std::fs::remove_file(blob(&fixture, b"network")).unwrap();
    assert!(fixture.registry.materialise(&record).await.is_err());
    assert!(!push(&fixture.registry, "m", "1").await.created);
    let dir = fixture.registry.materialise(&record).await.unwrap();
    assert_eq!(std::fs::read(dir.handler().unwrap()).unwrap(), b"handler 1");
}

#[tokio::test]
async fn a_missing_blob_is_told_by_its_file() {
    let fixture = Fixture::new().await;
    let record = push(&fixture.registry, "m", "1").await.record;
    std::fs::remove_file(blob(&fixture, b"network")).unwrap();
    let error = fixture.registry.materialise(&record).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::MissingBlob { path, .. } if path.as_str() == "net/g.xml"),
        "{error}"
    );
}

#[tokio::test]
async fn a_damaged_working_folder_is_made_anew() {
    let fixture = Fixture::new().await;
    let record = push(&fixture.registry, "m", "1").await.record;
    let dir = fixture.registry.materialise(&record).await.unwrap();
    let handler = dir.handler().unwrap();
    drop(dir);
    // Removed first, so that the blob it is linked to stays as it is.
    std::fs::remove_file(&handler).unwrap();
    std::fs::write(&handler, b"something else").unwrap();
    let dir = fixture.registry.materialise(&record).await.unwrap();
    assert_eq!(std::fs::read(dir.handler().unwrap()).unwrap(), b"handler 1");
}

#[tokio::test]
async fn a_staged_file_that_changes_is_not_committed() {
    let fixture = Fixture::new().await;
    let package = stage(&fixture.registry, "m", "1").await;
    std::fs::write(package.dir().handler().unwrap(), b"swapped").unwrap();
    let error = fixture
        .registry
        .commit(package, by("ann"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "staged_file_changed");
    assert!(fixture.registry.models().await.unwrap().is_empty());
}

#[tokio::test]
async fn one_damaged_record_does_not_hide_the_rest() {
    let fixture = Fixture::new().await;
    push(&fixture.registry, "a", "1").await;
    push(&fixture.registry, "a", "2").await;
    push(&fixture.registry, "b", "1").await;
    let path = fixture.folder.path().join("models/a/versions/2.json");
    std::fs::write(&path, b"{").unwrap();

    let models = fixture.registry.models().await.unwrap();
    assert_eq!(
        models
            .iter()
            .map(|model| model.versions.len())
            .collect::<Vec<_>>(),
        [1, 1]
    );
    let error = fixture
        .registry
        .version(&name("a"), version(2))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "corrupt_record");
    assert!(
        error.to_string().contains("models/a/versions/2.json"),
        "{error}"
    );
    // Its number stays taken, what it may name stays there, and it can be deleted.
    assert_eq!(
        push(&fixture.registry, "a", "3").await.record.version,
        version(3)
    );
    let collected = fixture
        .registry
        .collect_garbage(std::time::Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(collected.blobs, 0);
    fixture
        .registry
        .delete_version(&name("a"), version(2), None)
        .await
        .unwrap();
    let collected = fixture
        .registry
        .collect_garbage(std::time::Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(collected.blobs, 1);
}

#[tokio::test]
async fn a_damaged_traffic_rule_is_an_error_not_an_empty_rule() {
    let fixture = Fixture::new().await;
    push(&fixture.registry, "m", "1").await;
    std::fs::write(
        fixture.folder.path().join("models/m/traffic.json"),
        b"{\"stable\": \"one\"}",
    )
    .unwrap();
    let error = fixture.registry.traffic(&name("m")).await.unwrap_err();
    assert_eq!(error.code(), "corrupt_record");
    let error = fixture
        .registry
        .set_stable(&name("m"), version(1), None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "corrupt_record");
}

#[tokio::test]
async fn what_a_crash_left_is_removed_at_the_start() {
    let fixture = Fixture::new().await;
    push(&fixture.registry, "m", "1").await;
    let root = fixture.folder.path().to_owned();
    let partial = root.join("blobs/sha256/abc#1");
    std::fs::write(&partial, b"half").unwrap();
    let long_ago = std::time::SystemTime::now() - 2 * Registry::GRACE;
    std::fs::File::options()
        .write(true)
        .open(&partial)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    let young = root.join("blobs/sha256/abc#2");
    std::fs::write(&young, b"half").unwrap();
    let orphan = root.join("work/staging/left");
    std::fs::create_dir_all(&orphan).unwrap();
    std::fs::write(orphan.join("half"), b"half").unwrap();

    let again = Registry::open_local(&root).await.unwrap();
    assert!(!partial.exists() && young.exists() && !orphan.exists());
    assert_eq!(again.models().await.unwrap().len(), 1);
}
