//! An upload on its way in: parts are streamed to files in a staging folder and hashed as they
//! come, never whole in memory, and together become a [`Package`]. Nothing here touches the store.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;

use crate::blocking::blocking;
use crate::digest::Hasher;
use crate::error::{PackageError, RegistryError, Result};
use crate::manifest::{Manifest, ManifestError};
use crate::name::ModelName;
use crate::package::{Keep, Package, PackageDir};
use crate::path::{PackagePath, clash};
use crate::record::FileRecord;
use crate::signature::{self, TrustedKeys, is_signature};
use crate::workdir::StagingDir;

/// How much one upload may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadLimits {
    /// Bytes of all files together.
    pub max_total_bytes: u64,
    /// Bytes of one file.
    pub max_part_bytes: u64,
    /// Files.
    pub max_parts: usize,
}

impl Default for UploadLimits {
    /// 8 GiB in all, 4 GiB a file, 256 files.
    fn default() -> Self {
        Self {
            max_total_bytes: 8 << 30,
            max_part_bytes: 4 << 30,
            max_parts: 256,
        }
    }
}

/// An upload that is under way. Dropped before [`finish`](Self::finish), it leaves nothing.
pub struct Upload {
    name: ModelName,
    limits: UploadLimits,
    folder: StagingDir,
    /// The parts that came whole.
    files: Vec<FileRecord>,
    /// The part that has begun and not ended; it stays if its writer is dropped.
    unfinished: Option<PackagePath>,
    total: u64,
    /// One of whom must have signed it, if they are set.
    trusted: Option<TrustedKeys>,
}

/// Writes one file of an upload.
pub struct PartWriter<'u> {
    upload: &'u mut Upload,
    path: PackagePath,
    /// `None` after a failed or cancelled write: what is on disk is then unknown.
    open: Option<OpenPart>,
    /// What came and is not yet written. A network gives small pieces; a hand-over to a thread
    /// that may block is worth more than one of them.
    pending: Vec<Bytes>,
    pending_bytes: usize,
    size: u64,
}

struct OpenPart {
    file: File,
    hasher: Hasher,
}

/// How much is gathered before it is written.
const WRITE_BYTES: usize = 256 * 1024;

impl Upload {
    pub(crate) fn new(
        name: ModelName,
        limits: UploadLimits,
        folder: StagingDir,
        trusted: Option<TrustedKeys>,
    ) -> Self {
        Self {
            name,
            limits,
            folder,
            files: Vec::new(),
            unfinished: None,
            total: 0,
            trusted,
        }
    }

    /// The model the upload is to.
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    /// Begins the file `file_name`, its path in the package.
    pub async fn part(&mut self, file_name: &str) -> Result<PartWriter<'_>> {
        let path: PackagePath = file_name.parse()?;
        self.all_ended()?;
        if self.files.len() >= self.limits.max_parts {
            return Err(PackageError::TooManyFiles {
                max: self.limits.max_parts,
            }
            .into());
        }
        let earlier = self.files.iter().map(|file| &file.path);
        if let Some((one, other)) = clash(earlier.chain([&path])) {
            let earlier = if *one == path {
                other.clone()
            } else {
                one.clone()
            };
            return Err(PackageError::DuplicateFile { earlier, path }.into());
        }
        let target = path.under(self.folder.path());
        let file = blocking(move || create(&target))
            .await?
            .map_err(RegistryError::io(format!("staging {path}")))?;
        self.unfinished = Some(path.clone());
        let open = Some(OpenPart {
            file,
            hasher: Hasher::default(),
        });
        Ok(PartWriter {
            upload: self,
            path,
            open,
            pending: Vec::new(),
            pending_bytes: 0,
            size: 0,
        })
    }

    /// Checks that the files are a package: a manifest of this model, each file it names, and no
    /// other but a signature; and, where keys are trusted, that one of them signed it.
    pub async fn finish(mut self) -> Result<Package> {
        self.all_ended()?;
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        let text = self.manifest_text().await?;
        let manifest = Manifest::parse(&text)?;
        if manifest.name != self.name {
            return Err(PackageError::NameMismatch {
                given: self.name,
                manifest: manifest.name,
            }
            .into());
        }
        check_files(&manifest, &self.files)?;
        let root = self.folder.path().to_owned();
        let keep = Keep::Staged {
            _folder: self.folder,
        };
        let dir = PackageDir::new(root, manifest, text, self.files, keep);
        let signer = match &self.trusted {
            None => None,
            Some(trusted) => {
                let signature = dir.signature().await?;
                Some(trusted.verify(signature.as_deref(), dir.manifest(), dir.files())?)
            }
        };
        Ok(Package::new(dir, signer))
    }

    async fn manifest_text(&self) -> Result<String> {
        let is_manifest = |file: &&FileRecord| file.path.as_str() == Manifest::FILE_NAME;
        let file = self
            .files
            .iter()
            .find(is_manifest)
            .ok_or(PackageError::MissingManifest)?;
        let staged = file.path.under(self.folder.path());
        let bytes = blocking(move || std::fs::read(staged))
            .await?
            .map_err(RegistryError::io("reading model.toml"))?;
        let offset = |error: std::string::FromUtf8Error| error.utf8_error().valid_up_to();
        Ok(
            String::from_utf8(bytes).map_err(|error| ManifestError::NotUtf8 {
                offset: offset(error),
            })?,
        )
    }

    fn all_ended(&self) -> Result<()> {
        match &self.unfinished {
            Some(path) => Err(PackageError::Incomplete(path.clone()).into()),
            None => Ok(()),
        }
    }
}

impl PartWriter<'_> {
    /// Adds bytes to the file.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let added = bytes.len() as u64;
        self.size = self.size.saturating_add(added);
        self.upload.total = self.upload.total.saturating_add(added);
        self.check_size()?;
        self.pending_bytes += bytes.len();
        self.pending.push(bytes);
        if self.pending_bytes >= WRITE_BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Ends the file.
    pub async fn finish(mut self) -> Result<FileRecord> {
        self.flush().await?;
        let open = self
            .open
            .take()
            .ok_or_else(|| PackageError::Incomplete(self.path.clone()))?;
        let (digest, size) = open.hasher.finish();
        let file = FileRecord {
            path: self.path,
            digest,
            size,
        };
        self.upload.files.push(file.clone());
        self.upload.unfinished = None;
        Ok(file)
    }

    fn check_size(&self) -> Result<()> {
        let limits = &self.upload.limits;
        if self.path.as_str() == Manifest::FILE_NAME && self.size > Manifest::MAX_BYTES {
            return Err(ManifestError::TooLarge {
                size: self.size,
                max: Manifest::MAX_BYTES,
            }
            .into());
        }
        if is_signature(&self.path) && self.size > signature::MAX_BYTES {
            return Err(PackageError::FileTooLarge {
                path: self.path.clone(),
                max: signature::MAX_BYTES,
            }
            .into());
        }
        if self.size > limits.max_part_bytes {
            return Err(PackageError::FileTooLarge {
                path: self.path.clone(),
                max: limits.max_part_bytes,
            }
            .into());
        }
        if self.upload.total > limits.max_total_bytes {
            return Err(PackageError::PackageTooLarge {
                max: limits.max_total_bytes,
            }
            .into());
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let mut open = self
            .open
            .take()
            .ok_or_else(|| PackageError::Incomplete(self.path.clone()))?;
        let written = blocking(move || {
            for bytes in pending {
                open.file.write_all(&bytes)?;
                open.hasher.update(&bytes);
            }
            Ok(open)
        });
        self.open = Some(
            written
                .await?
                .map_err(RegistryError::io(format!("staging {}", self.path)))?,
        );
        Ok(())
    }
}

fn create(target: &Path) -> io::Result<File> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::create_new(target)
}

fn check_files(manifest: &Manifest, files: &[FileRecord]) -> Result<(), PackageError> {
    let named = manifest.files();
    let is_there = |path: &PackagePath| files.iter().any(|file| file.path == *path);
    let missing: Vec<_> = named
        .iter()
        .filter(|path| !is_there(path))
        .map(|path| (*path).clone())
        .collect();
    if !missing.is_empty() {
        return Err(PackageError::MissingFiles(missing));
    }
    let is_known = |path: &PackagePath| {
        path.as_str() == Manifest::FILE_NAME || is_signature(path) || named.contains(&path)
    };
    let unknown: Vec<_> = files
        .iter()
        .map(|file| &file.path)
        .filter(|path| !is_known(path))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        return Err(PackageError::UnknownFiles(unknown));
    }
    // Weights may be empty: OpenVINO writes an empty `.bin` for a network without constants.
    let mut with_content = manifest
        .handler
        .iter()
        .chain(manifest.graphs.iter().map(|graph| &graph.file));
    let is_empty = |path: &&PackagePath| {
        files
            .iter()
            .any(|file| file.path == **path && file.size == 0)
    };
    match with_content.find(is_empty) {
        Some(path) => Err(PackageError::EmptyFile(path.clone())),
        None => Ok(()),
    }
}
