//! Laying a version out as files: each under its own name in one folder, since an OpenVINO network
//! wants its weights beside it and ONNX may name files of its own. Every file is verified each time
//! a version is asked for, and so is its signature where one is asked for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blocking::{blocking, to_the_end};
use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::package::{Keep, PackageDir};
use crate::record::{FileRecord, VersionRecord};
use crate::registry::{Inner, Registry};
use crate::store::{Fetched, verify};

impl Registry {
    /// The files of a version in a local folder, each verified against its digest just now. What
    /// was laid out earlier is used again if it is still right, and made anew if not; a file that
    /// is wrong in the store itself is [`RegistryError::CorruptBlob`].
    ///
    /// From a folder store the files are links to the blobs, so nobody may write to them.
    pub async fn materialise(&self, record: &VersionRecord) -> Result<PackageDir> {
        let (inner, record) = (Arc::clone(&self.0), record.clone());
        to_the_end(async move { inner.materialise(&record).await }).await
    }
}

impl Inner {
    async fn materialise(&self, record: &VersionRecord) -> Result<PackageDir> {
        let lease = self.lease(record.digest);
        let root = self.workdir.version(&record.digest);
        {
            let _one_at_a_time = lease.building.lock().await;
            if let Some(wrong) = self.first_wrong(record, &root).await? {
                tracing::info!(model = %record.name, version = %record.version, file = %wrong.path, "laying the version out");
                self.lay_out(record, &root).await?;
                self.make_local_room(record.digest).await?;
            }
            self.note_use(record.digest).await?;
        }
        let (manifest, text) = (record.manifest.clone(), record.manifest_text.clone());
        let dir = PackageDir::new(
            root,
            manifest,
            text,
            record.files.clone(),
            Keep::Version { _lease: lease },
        );
        self.hold_to_signature(record, &dir).await?;
        Ok(dir)
    }

    /// The first file that is not there or not right.
    async fn first_wrong<'r>(
        &self,
        record: &'r VersionRecord,
        root: &Path,
    ) -> Result<Option<&'r FileRecord>> {
        for file in &record.files {
            if verify(file.digest, &file.path.under(root)).await? != Fetched::Verified {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Fetches every file into a folder of its own, which then takes its place in one step: nobody
    /// ever sees a version half laid out.
    async fn lay_out(&self, record: &VersionRecord, root: &Path) -> Result<()> {
        let staging = self.workdir.stage().await?;
        let fresh = staging.path().join("version");
        for file in &record.files {
            let target = file.path.under(&fresh);
            let parent = target.parent().map(Path::to_owned).unwrap_or_default();
            let made = blocking(move || std::fs::create_dir_all(parent)).await?;
            made.map_err(RegistryError::io(format!(
                "making a folder for {}",
                file.path
            )))?;
            let fetched = self.store.fetch_blob(file.digest, &target).await?;
            refuse_wrong(record, file, fetched)?;
        }
        let (old, place) = (staging.path().join("old"), root.to_owned());
        let placed = blocking(move || place_folder(&fresh, &place, &old)).await?;
        placed.map_err(RegistryError::io(format!(
            "placing version {} of {}",
            record.version, record.name
        )))?;
        // Where another process was faster, its folder is the one there: it must be right too.
        match self.first_wrong(record, root).await? {
            None => Ok(()),
            Some(file) => refuse_wrong(
                record,
                file,
                verify(file.digest, &file.path.under(root)).await?,
            ),
        }
    }

    /// Removes a laid-out version unless somebody uses it; whether it did.
    pub(crate) async fn remove_laid_out(&self, digest: Digest) -> Result<bool> {
        if self.is_leased(digest) {
            return Ok(false);
        }
        let staging = self.workdir.stage().await?;
        let (place, aside) = (self.workdir.version(&digest), staging.path().join("old"));
        let moved = blocking(move || std::fs::rename(place, aside)).await?;
        staging.close().await;
        match moved {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(RegistryError::io("removing a laid-out version")(error)),
        }
    }
}

/// Puts the folder `fresh` at `place`, moving aside to `old` what is there.
fn place_folder(fresh: &PathBuf, place: &PathBuf, old: &PathBuf) -> io::Result<()> {
    match std::fs::rename(place, old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match std::fs::rename(fresh, place) {
        // Another process placed the same version between the two renames.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
            ) =>
        {
            Ok(())
        }
        done => done,
    }
}

fn refuse_wrong(record: &VersionRecord, file: &FileRecord, fetched: Fetched) -> Result<()> {
    let (name, version) = (record.name.clone(), record.version);
    let (path, expected) = (file.path.clone(), file.digest);
    match fetched {
        Fetched::Verified => Ok(()),
        Fetched::Missing => Err(RegistryError::MissingBlob {
            name,
            version,
            path,
            expected,
        }),
        Fetched::Corrupt { found, bytes } => Err(RegistryError::CorruptBlob {
            name,
            version,
            path,
            expected,
            found,
            found_bytes: bytes,
        }),
    }
}
