//! What comes in: complete packages are staged as files, everything else is refused by name and
//! leaves nothing behind.

use aegis_registry::manifest::ManifestError;
use aegis_registry::{ErrorKind, PackageError, RegistryError, UploadLimits};
use bytes::Bytes;
use proptest::prelude::*;

use crate::support::*;

#[tokio::test]
async fn a_package_can_be_read_as_files_before_it_is_committed() {
    let fixture = Fixture::new().await;
    let package = stage(&fixture.registry, "m", "1").await;
    let dir = package.dir();
    let graph = &package.manifest().graphs[0];
    assert_eq!(std::fs::read(dir.handler().unwrap()).unwrap(), b"handler 1");
    assert_eq!(std::fs::read(dir.graph(graph)).unwrap(), b"network");
    assert_eq!(
        std::fs::read(dir.weights(graph).unwrap()).unwrap().len(),
        300_000
    );
    assert_eq!(
        dir.graph(graph).with_extension("bin"),
        dir.weights(graph).unwrap()
    );
    assert!(fixture.files("blobs").is_empty() && fixture.files("models").is_empty());

    let paths: Vec<_> = dir.files().iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["h.wasm", "model.toml", "net/g.bin", "net/g.xml"]);
    drop(package);
    fixture.staging_is_empty().await;
}

#[tokio::test]
async fn a_clone_of_the_folder_outlives_the_commit() {
    let fixture = Fixture::new().await;
    let package = stage(&fixture.registry, "m", "1").await;
    let dir = package.dir().clone();
    fixture.registry.commit(package, by("ann")).await.unwrap();
    assert!(dir.handler().unwrap().exists());
    drop(dir);
    fixture.staging_is_empty().await;
}

#[tokio::test]
async fn an_interrupted_upload_leaves_nothing() {
    let fixture = Fixture::new().await;
    let mut upload = fixture
        .registry
        .begin_upload(name("m"), UploadLimits::default())
        .await
        .unwrap();
    send(&mut upload, "h.wasm", b"handler").await.unwrap();
    let mut part = upload.part("net/g.bin").await.unwrap();
    part.write(Bytes::from(vec![1; 400_000])).await.unwrap();
    drop(part);
    assert!(!fixture.files("work/staging").is_empty());
    drop(upload);
    fixture.staging_is_empty().await;
    assert!(fixture.registry.models().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_part_that_was_cut_off_spoils_the_upload() {
    let fixture = Fixture::new().await;
    let mut upload = fixture
        .registry
        .begin_upload(name("m"), UploadLimits::default())
        .await
        .unwrap();
    for (path, bytes) in files("m", "1") {
        send(&mut upload, &path, &bytes).await.unwrap();
    }
    drop(upload.part("more").await.unwrap());
    let error = upload.part("other").await.err().unwrap();
    assert_eq!(error.code(), "upload_incomplete");
    let error = upload.finish().await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Package(PackageError::Incomplete(path)) if path.as_str() == "more")
    );
}

/// The error of an upload of `files`, after which staging must be empty.
async fn refused(files: &[(&str, &[u8])]) -> RegistryError {
    let fixture = Fixture::new().await;
    let files: Vec<_> = files
        .iter()
        .map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()))
        .collect();
    let error = try_stage(&fixture.registry, "m", &files).await.unwrap_err();
    fixture.staging_is_empty().await;
    error
}

#[tokio::test]
async fn what_is_not_a_package_is_refused_by_name() {
    let text = manifest("m");
    let toml = ("model.toml", text.as_bytes());
    let (wasm, xml, bin) = (
        ("h.wasm", &b"w"[..]),
        ("net/g.xml", &b"x"[..]),
        ("net/g.bin", &b""[..]),
    );

    let error = refused(&[wasm, xml, bin]).await;
    assert_eq!(
        (error.code(), error.kind()),
        ("missing_manifest", ErrorKind::Unprocessable)
    );

    let error = refused(&[toml, xml]).await;
    assert!(
        matches!(&error, RegistryError::Package(PackageError::MissingFiles(files)) if files.len() == 2)
    );
    assert!(
        error.to_string().contains("`h.wasm`, `net/g.bin`"),
        "{error}"
    );

    let error = refused(&[toml, wasm, xml, bin, ("README.md", b"hello")]).await;
    assert_eq!(error.code(), "unknown_files");
    assert!(error.to_string().contains("README.md"), "{error}");

    let error = refused(&[toml, ("h.wasm", b""), xml, bin]).await;
    assert_eq!(error.to_string(), "file `h.wasm` is empty");

    let error = refused(&[("model.toml", manifest("other").as_bytes()), wasm, xml, bin]).await;
    assert_eq!(error.code(), "name_mismatch");
    assert!(
        error.to_string().contains("`m`") && error.to_string().contains("\"other\""),
        "{error}"
    );

    let error = refused(&[("model.toml", b"name = 1"), wasm]).await;
    assert_eq!(error.code(), "invalid_manifest");
    assert!(
        error
            .to_string()
            .starts_with("model.toml line 1, column 8, `name`"),
        "{error}"
    );

    let error = refused(&[("model.toml", b"\xff")]).await;
    assert!(matches!(
        error,
        RegistryError::Manifest(ManifestError::NotUtf8 { offset: 0 })
    ));
}

#[tokio::test]
async fn an_empty_weights_file_is_taken_for_openvino_writes_them() {
    let fixture = Fixture::new().await;
    let mut files = files("m", "1");
    files[3].1.clear();
    assert!(try_stage(&fixture.registry, "m", &files).await.is_ok());
}

#[tokio::test]
async fn the_same_file_twice_or_in_another_case_is_refused() {
    for (first, second) in [("a", "a"), ("a.bin", "A.BIN"), ("d", "d/e"), ("d/e", "D")] {
        let error = refused(&[(first, b"1"), (second, b"2")]).await;
        assert_eq!(error.code(), "duplicate_file", "{first} {second}");
        assert!(
            error.to_string().contains(first) && error.to_string().contains(second),
            "{error}"
        );
    }
}

#[tokio::test]
async fn sizes_and_numbers_are_bounded_while_they_stream() {
    let fixture = Fixture::new().await;
    let limits = UploadLimits {
        max_total_bytes: 100,
        max_part_bytes: 60,
        max_parts: 3,
    };
    let begin = || fixture.registry.begin_upload(name("m"), limits);

    let mut upload = begin().await.unwrap();
    let error = send(&mut upload, "a", &[0; 61]).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("file_too_large", ErrorKind::TooLarge)
    );
    drop(upload);

    let mut upload = begin().await.unwrap();
    send(&mut upload, "a", &[0; 60]).await.unwrap();
    let error = send(&mut upload, "b", &[0; 41]).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("package_too_large", ErrorKind::TooLarge)
    );
    drop(upload);

    let mut upload = begin().await.unwrap();
    for path in ["a", "b", "c"] {
        send(&mut upload, path, b"1").await.unwrap();
    }
    let error = upload.part("d").await.err().unwrap();
    assert_eq!(
        (error.code(), error.kind()),
        ("too_many_files", ErrorKind::TooLarge)
    );
    drop(upload);

    let mut upload = fixture
        .registry
        .begin_upload(name("m"), UploadLimits::default())
        .await
        .unwrap();
    let error = send(&mut upload, "model.toml", &vec![b'#'; 10_000_000])
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("manifest_too_large", ErrorKind::TooLarge)
    );
    drop(upload);
    fixture.staging_is_empty().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_part_name_reaches_outside_staging(path in "(\\.\\./|/|\\./|[a-c]/|\\\\|\0|C:){0,4}[a-c.]{0,3}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new().await;
            let before = std::fs::read_dir(fixture.folder.path()).unwrap().count();
            let mut upload = fixture.registry.begin_upload(name("m"), UploadLimits::default()).await.unwrap();
            match send(&mut upload, &path, b"x").await {
                Ok(()) => assert!(fixture.files("work/staging")[0].ends_with(&path)),
                Err(error) => {
                    assert_eq!((error.code(), error.kind()), ("invalid_file_name", ErrorKind::BadRequest));
                    assert!(fixture.files("work/staging").is_empty());
                }
            }
            assert_eq!(std::fs::read_dir(fixture.folder.path()).unwrap().count(), before);
        });
    }
}
