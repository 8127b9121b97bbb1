//! Collecting what nobody needs any more: deletions that were cut off are ended, blobs that no
//! record names are removed once they are older than a grace, and so are laid-out versions that
//! are gone and not in use.
//!
//! Why no upload loses a blob: storing a blob makes it young, a commit writes its record well within
//! the grace, and the records are listed after the blobs, so a blob that is old when it is listed
//! and unnamed afterwards belongs to no upload under way.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::blocking::{blocking, to_the_end};
use crate::digest::Digest;
use crate::error::Result;
use crate::name::ModelName;
use crate::records::{Entry, live};
use crate::registry::{Inner, Registry};
use crate::traffic::TrafficAction;

/// What a collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs that were removed.
    pub blobs: usize,
    /// Laid-out versions that were removed.
    pub laid_out: usize,
}

impl Registry {
    /// Collects now. `grace` is how young an unnamed blob may be and be kept; anything much below
    /// [`Registry::GRACE`] is safe only while nobody uploads.
    pub async fn collect_garbage(&self, grace: Duration) -> Result<Collected> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move { inner.collect(grace).await }).await
    }

    /// Collects without making anyone wait; for the start. It ends by itself.
    pub(crate) fn collect_in_background(&self) {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.collect_or_warn(Self::GRACE).await });
    }
}

impl Inner {
    /// Collects; a failure is logged, since whatever stays is collected the next time.
    pub(crate) async fn collect_or_warn(&self, grace: Duration) {
        match self.collect(grace).await {
            Ok(collected) if collected == Collected::default() => {}
            Ok(Collected { blobs, laid_out }) => {
                tracing::info!(blobs, laid_out, "removed what nobody needs")
            }
            Err(error) => {
                tracing::warn!(%error, "old files could not be collected; the next deletion or start will")
            }
        }
    }

    async fn collect(&self, grace: Duration) -> Result<Collected> {
        let blobs = self.store.blobs().await?;
        // First what is laid out, then the records: a version made in between is not taken for gone.
        let workdir = Arc::clone(&self.workdir);
        let laid_out = blocking(move || workdir.versions())
            .await?
            .unwrap_or_default();
        let all = self.records.all(&self.store).await?;
        for name in all.keys() {
            self.end_cut_off_deletes(name).await?;
        }
        let all = self.records.all(&self.store).await?;

        let mut collected = Collected::default();
        let records = || all.values().flat_map(live);
        let contents: HashSet<Digest> = records().map(|record| record.digest).collect();
        for digest in laid_out {
            if !contents.contains(&digest) && self.remove_laid_out(digest).await? {
                collected.laid_out += 1;
            }
        }
        if all
            .values()
            .flat_map(|entries| entries.values())
            .any(|entry| matches!(entry, Entry::Unreadable(_)))
        {
            // Which blobs it names cannot be known, so none can be said to be unnamed.
            tracing::warn!(
                "a version record cannot be read; no blob is removed until it is deleted or repaired"
            );
            return Ok(collected);
        }
        let named: HashSet<Digest> = records()
            .flat_map(|record| &record.files)
            .map(|file| file.digest)
            .collect();
        let now = SystemTime::now();
        for blob in blobs {
            let age = now.duration_since(blob.written).unwrap_or_default();
            if !named.contains(&blob.digest) && age >= grace {
                self.store.delete_blob(&blob).await?;
                collected.blobs += 1;
            }
        }
        Ok(collected)
    }

    async fn end_cut_off_deletes(&self, name: &ModelName) -> Result<()> {
        let (traffic, _) = self.read_traffic(name).await?;
        if traffic.deleting.is_empty() {
            return Ok(());
        }
        let versions: Vec<_> = traffic.deleting.into_iter().collect();
        self.end_delete(name, &versions, TrafficAction::DeleteVersion, None)
            .await
    }
}
