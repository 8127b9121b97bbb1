//! A bound on what laid-out versions take of this machine's disk. Beyond it the least recently used
//! go, but none that is in use: it is fetched again when it is wanted. Of a store that is a folder
//! they are links and take nothing, so there is no bound.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::blocking::blocking;
use crate::digest::Digest;
use crate::error::Result;
use crate::registry::{Inner, Registry};

/// A laid-out version as it stands on disk.
struct LaidOut {
    digest: Digest,
    bytes: u64,
    used: SystemTime,
}

impl Registry {
    /// From now on versions that are laid out and not in use take `bytes` at most, with those in
    /// use. To be said before the registry is used, and once.
    pub fn with_local_bytes(self, bytes: u64) -> Self {
        let _ = self.0.local_bytes.set(bytes);
        self
    }
}

impl Inner {
    /// Notes that a version is used now; a folder's time says when it was.
    pub(crate) async fn note_use(&self, digest: Digest) -> Result<()> {
        let folder = self.workdir.version(&digest);
        // Without it, it only seems older than it is.
        let touch = move || std::fs::File::open(folder)?.set_modified(SystemTime::now());
        let _ = blocking(touch).await?;
        Ok(())
    }

    /// Removes what is beyond the bound; never `newest`, for whose sake it is asked.
    pub(crate) async fn make_local_room(&self, newest: Digest) -> Result<()> {
        let Some(most) = self.local_bytes.get().copied() else {
            return Ok(());
        };
        if self.store.is_folder() {
            return Ok(());
        }
        let workdir = Arc::clone(&self.workdir);
        let found = blocking(move || {
            let digests = workdir.versions().unwrap_or_default();
            let look = |digest: Digest| look(digest, &workdir.version(&digest));
            digests.into_iter().filter_map(look).collect::<Vec<_>>()
        });
        let mut laid_out = found.await?;
        laid_out.sort_by_key(|version| version.used);
        let mut total: u64 = laid_out.iter().map(|version| version.bytes).sum();
        for version in laid_out {
            if total <= most {
                break;
            }
            if version.digest != newest && self.remove_laid_out(version.digest).await? {
                tracing::info!(digest = %version.digest, bytes = version.bytes, "removed a local copy beyond the bound");
                total = total.saturating_sub(version.bytes);
            }
        }
        Ok(())
    }
}

/// Blocks.
fn look(digest: Digest, folder: &Path) -> Option<LaidOut> {
    let used = std::fs::metadata(folder).ok()?.modified().ok()?;
    Some(LaidOut {
        digest,
        bytes: size(folder),
        used,
    })
}

fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
