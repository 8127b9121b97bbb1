//! The registry's working folder: where uploads are staged and versions are laid out as files. It
//! may be lost at any time without losing a model; everything in it can be made again.
//!
//! ```text
//! staging/<random>/.lock     held by the process that made the folder, as long as it lives
//! staging/<random>/<random>  one upload, or one version being laid out
//! versions/<hex>/…           the files of a version under their own names, by content digest
//! ```

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::blocking::blocking;
use crate::digest::Digest;
use crate::error::{RegistryError, Result};

/// The folder, and this process's place in it.
pub(crate) struct Workdir {
    root: PathBuf,
    /// Where this process stages. Declared before the lock: removed while the lock is still held.
    staging: TempDir,
    _alive: File,
}

/// A folder of its own under staging; removed when dropped.
pub(crate) struct StagingDir {
    folder: Option<TempDir>,
    /// Staging as a whole goes only after everything in it.
    _workdir: Arc<Workdir>,
}

impl Workdir {
    /// Opens the folder, makes it if needed, and removes what processes that are no more left in
    /// staging. Blocks.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let doing = || format!("opening the working folder {}", root.display());
        Self::try_open(root).map_err(RegistryError::io(doing()))
    }

    fn try_open(root: &Path) -> io::Result<Self> {
        let staging = root.join("staging");
        std::fs::create_dir_all(&staging)?;
        std::fs::create_dir_all(root.join("versions"))?;
        let root = root.canonicalize()?;
        // One opening at a time: a folder that is made but not yet locked looks abandoned.
        let opening = lock_file(&staging)?;
        opening.lock()?;
        remove_abandoned(&staging)?;
        let own = TempDir::new_in(root.join("staging"))?;
        let alive = lock_file(own.path())?;
        alive.lock()?;
        Ok(Self {
            root,
            staging: own,
            _alive: alive,
        })
    }

    /// Where the version of that content is laid out.
    pub(crate) fn version(&self, digest: &Digest) -> PathBuf {
        self.root.join("versions").join(digest.hex())
    }

    /// The contents that are laid out. Blocks.
    pub(crate) fn versions(&self) -> io::Result<Vec<Digest>> {
        let entries = std::fs::read_dir(self.root.join("versions"))?;
        let digest = |entry: io::Result<std::fs::DirEntry>| {
            Digest::from_hex(entry.ok()?.file_name().to_str()?).ok()
        };
        Ok(entries.filter_map(digest).collect())
    }

    /// A new folder under staging.
    pub(crate) async fn stage(self: &Arc<Self>) -> Result<StagingDir> {
        let workdir = Arc::clone(self);
        blocking(move || {
            let made = TempDir::new_in(workdir.staging.path());
            let folder = made.map_err(RegistryError::io("making a folder to stage files in"))?;
            Ok(StagingDir {
                folder: Some(folder),
                _workdir: workdir,
            })
        })
        .await?
    }
}

impl StagingDir {
    pub(crate) fn path(&self) -> &Path {
        // The folder is there until drop; an empty path would fail every use of it.
        self.folder.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// Removes it, and ends when it is gone: of many that go in turn none takes a thread of its own while the others
    /// are still being removed.
    pub(crate) async fn close(mut self) {
        if let Some(folder) = self.folder.take() {
            let workdir = Arc::clone(&self._workdir);
            let _ = blocking(move || remove(folder, workdir)).await;
        }
    }
}

impl Drop for StagingDir {
    /// Removing gigabytes takes a while, so not on a thread of the executor if there is one.
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else {
            return;
        };
        let workdir = Arc::clone(&self._workdir);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || remove(folder, workdir))),
            Err(_) => remove(folder, workdir),
        }
    }
}

fn remove(folder: TempDir, _workdir: Arc<Workdir>) {
    let path = folder.path().to_owned();
    if let Err(error) = folder.close() {
        tracing::warn!(folder = %path.display(), %error, "a staging folder could not be removed; the next start will");
    }
}

fn lock_file(folder: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(".lock"))
}

fn remove_abandoned(staging: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(staging)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let folder = entry.path();
        match lock_file(&folder).map(|file| file.try_lock()) {
            Ok(Ok(())) => {
                tracing::info!(folder = %folder.display(), "removing what an earlier process left unfinished");
                std::fs::remove_dir_all(&folder)?;
            }
            Ok(Err(TryLockError::WouldBlock)) => {}
            Ok(Err(TryLockError::Error(error))) | Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
        let root = tempfile::tempdir().unwrap();
        let dead = root.path().join("staging/dead");
        std::fs::create_dir_all(&dead).unwrap();
        std::fs::write(dead.join("half"), "half").unwrap();

        let living = Workdir::open(root.path()).unwrap();
        assert!(!dead.exists());
        std::fs::write(living.staging.path().join("file"), "file").unwrap();

        let second = Workdir::open(root.path()).unwrap();
        assert!(living.staging.path().join("file").exists());
        drop((living, second));
        let left = std::fs::read_dir(root.path().join("staging"))
            .unwrap()
            .flatten();
        assert!(
            left.into_iter()
                .all(|entry| entry.file_type().unwrap().is_file())
        );
    }
}
