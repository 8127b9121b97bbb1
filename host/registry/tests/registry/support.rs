//! Packages to upload, and folders to upload them to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aegis_registry::{
    Canary, Commit, CommitMeta, ModelName, Package, Registry, RegistryError, Traffic, TrafficEdit,
    Upload, UploadLimits, Version,
};
use bytes::Bytes;

/// Changes of one part of a rule.
pub(crate) trait Edits {
    fn edited(
        &self,
        name: &ModelName,
        who: Option<&str>,
        edit: impl FnOnce(&mut TrafficEdit),
    ) -> impl Future<Output = Result<Traffic, RegistryError>> + Send;

    fn set_stable(
        &self,
        name: &ModelName,
        version: Version,
        who: Option<&str>,
    ) -> impl Future<Output = Result<Traffic, RegistryError>> + Send {
        self.edited(name, who, move |edit| edit.stable = Some(version))
    }

    fn set_canary(
        &self,
        name: &ModelName,
        canary: Option<Canary>,
        who: Option<&str>,
    ) -> impl Future<Output = Result<Traffic, RegistryError>> + Send {
        self.edited(name, who, move |edit| edit.canary = Some(canary))
    }

    fn set_fallback(
        &self,
        name: &ModelName,
        version: Option<Version>,
        who: Option<&str>,
    ) -> impl Future<Output = Result<Traffic, RegistryError>> + Send {
        self.edited(name, who, move |edit| edit.fallback = Some(version))
    }
}

impl Edits for Registry {
    fn edited(
        &self,
        name: &ModelName,
        who: Option<&str>,
        change: impl FnOnce(&mut TrafficEdit),
    ) -> impl Future<Output = Result<Traffic, RegistryError>> + Send {
        let mut edit = TrafficEdit::default();
        change(&mut edit);
        self.edit(name, edit, who)
    }
}

/// A registry in a folder of its own, removed at the end.
pub(crate) struct Fixture {
    pub(crate) registry: Registry,
    pub(crate) folder: tempfile::TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            registry: Registry::open_local(folder.path()).await.unwrap(),
            folder,
        }
    }

    /// All files below a folder of the registry, as paths from there; lock files left out.
    pub(crate) fn files(&self, under: &str) -> Vec<String> {
        let root = self.folder.path().join(under);
        let mut files = Vec::new();
        walk(&root, &mut files);
        let relative = |path: PathBuf| {
            path.strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        let mut files: Vec<_> = files
            .into_iter()
            .map(relative)
            .filter(|path| !path.ends_with(".lock"))
            .collect();
        files.sort();
        files
    }

    /// Waits until staging is empty: folders are removed on another thread.
    pub(crate) async fn staging_is_empty(&self) {
        for _ in 0..200 {
            if self.files("work/staging").is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("still staged: {:?}", self.files("work/staging"));
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path(), files),
            false => files.push(entry.path()),
        }
    }
}

pub(crate) fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

pub(crate) fn version(number: u64) -> Version {
    Version::new(number).unwrap()
}

pub(crate) fn by(who: &str) -> CommitMeta {
    CommitMeta {
        who: Some(who.to_owned()),
    }
}

/// A manifest with a handler and an OpenVINO graph in a folder.
pub(crate) fn manifest(model: &str) -> String {
    format!(
        "name = \"{model}\"\nhandler = \"h.wasm\"\n[[graph]]\nname = \"g\"\nfile = \"net/g.xml\"\n"
    )
}

/// The files of a small complete package; `content` makes one differ from another.
pub(crate) fn files(model: &str, content: &str) -> Vec<(String, Vec<u8>)> {
    vec![
        ("model.toml".to_owned(), manifest(model).into_bytes()),
        (
            "h.wasm".to_owned(),
            format!("handler {content}").into_bytes(),
        ),
        ("net/g.xml".to_owned(), b"network".to_vec()),
        ("net/g.bin".to_owned(), vec![7; 300_000]),
    ]
}

/// Sends one file in pieces.
pub(crate) async fn send(
    upload: &mut Upload,
    path: &str,
    bytes: &[u8],
) -> Result<(), RegistryError> {
    let mut part = upload.part(path).await?;
    for piece in bytes.chunks(10_000) {
        part.write(Bytes::copy_from_slice(piece)).await?;
    }
    part.finish().await.map(drop)
}

/// An upload of those files, up to its check.
pub(crate) async fn try_stage(
    registry: &Registry,
    model: &str,
    files: &[(String, Vec<u8>)],
) -> Result<Package, RegistryError> {
    let mut upload = registry
        .begin_upload(name(model), UploadLimits::default())
        .await?;
    for (path, bytes) in files {
        send(&mut upload, path, bytes).await?;
    }
    upload.finish().await
}

pub(crate) async fn stage(registry: &Registry, model: &str, content: &str) -> Package {
    try_stage(registry, model, &files(model, content))
        .await
        .unwrap()
}

/// A whole upload.
pub(crate) async fn push(registry: &Registry, model: &str, content: &str) -> Commit {
    let package = stage(registry, model, content).await;
    registry.commit(package, by("ann")).await.unwrap()
}
