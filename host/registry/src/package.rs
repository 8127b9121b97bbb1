//! A package as files in a local folder: [`PackageDir`], which whoever compiles the handler or
//! loads the graphs reads, and [`Package`], an upload that is complete and checked but not yet
//! committed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blocking::blocking;
use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::manifest::{Graph, Manifest};
use crate::path::PackagePath;
use crate::record::{FileRecord, content_digest};
use crate::signature::{Signer, is_signature};
use crate::workdir::StagingDir;

/// A package whose every file is in one folder under its own name, verified when it was put there.
/// The folder stays while any clone of this is alive. Nobody may write to it.
#[derive(Clone)]
pub struct PackageDir(Arc<Contents>);

struct Contents {
    root: PathBuf,
    manifest: Manifest,
    manifest_text: String,
    files: Vec<FileRecord>,
    digest: Digest,
    _keep: Keep,
}

/// What keeps the folder where it is.
pub(crate) enum Keep {
    /// It is an upload's staging folder.
    Staged { _folder: StagingDir },
    /// It is a version laid out in the working folder.
    Version { _lease: Arc<Lease> },
}

/// Held by whoever uses a laid-out version, and by whoever lays it out.
#[derive(Default)]
pub(crate) struct Lease {
    /// One at a time lays out.
    pub(crate) building: tokio::sync::Mutex<()>,
}

/// A complete and checked upload, not yet a version: compile its handler and load its graphs from
/// [`Package::dir`], then commit it. Dropped instead, its files are removed.
#[derive(Debug)]
pub struct Package {
    dir: PackageDir,
    signer: Option<Signer>,
}

impl PackageDir {
    pub(crate) fn new(
        root: PathBuf,
        manifest: Manifest,
        manifest_text: String,
        files: Vec<FileRecord>,
        keep: Keep,
    ) -> Self {
        let digest = content_digest(&files);
        Self(Arc::new(Contents {
            root,
            manifest,
            manifest_text,
            files,
            digest,
            _keep: keep,
        }))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0.root
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// The manifest as it was written.
    pub fn manifest_text(&self) -> &str {
        &self.0.manifest_text
    }

    /// All files, `model.toml` among them, in order of path.
    pub fn files(&self) -> &[FileRecord] {
        &self.0.files
    }

    /// The digest of the content; see [`content_digest`].
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Where a file of the package is.
    pub fn file(&self, path: &PackagePath) -> PathBuf {
        path.under(&self.0.root)
    }

    /// Where the handler is, if the model has one.
    pub fn handler(&self) -> Option<PathBuf> {
        self.0.manifest.handler.as_ref().map(|path| self.file(path))
    }

    /// The digest of the handler's bytes, which is what compiled code is kept by.
    pub fn handler_digest(&self) -> Option<Digest> {
        let handler = self.0.manifest.handler.as_ref()?;
        self.0
            .files
            .iter()
            .find(|file| file.path == *handler)
            .map(|file| file.digest)
    }

    /// The content of the signature file, if there is one.
    pub(crate) async fn signature(&self) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.0.files.iter().find(|file| is_signature(&file.path)) else {
            return Ok(None);
        };
        let path = self.file(&file.path);
        let read = blocking(move || std::fs::read(path)).await?;
        let doing = format!("reading {}", file.path);
        Ok(Some(read.map_err(RegistryError::io(doing))?))
    }

    /// Where the network of a graph is.
    pub fn graph(&self, graph: &Graph) -> PathBuf {
        self.file(&graph.file)
    }

    /// Where the weights of a graph are, if they are a file apart.
    pub fn weights(&self, graph: &Graph) -> Option<PathBuf> {
        graph.weights.as_ref().map(|path| self.file(path))
    }
}

impl fmt::Debug for PackageDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackageDir")
            .field("path", &self.0.root)
            .field("digest", &self.0.digest)
            .finish_non_exhaustive()
    }
}

impl Package {
    pub(crate) fn new(dir: PackageDir, signer: Option<Signer>) -> Self {
        Self { dir, signer }
    }

    /// Who signed it; `None` where nobody need have.
    pub fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref()
    }

    /// The package's folder. A clone keeps the folder also after the commit.
    pub fn dir(&self) -> &PackageDir {
        &self.dir
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        self.dir.manifest()
    }

    /// The digest of the content, which will be the version's.
    pub fn digest(&self) -> Digest {
        self.dir.digest()
    }
}
