//! Collecting what nobody needs any more: deletions that were cut off are ended, blobs that no
//! record names are removed once they are older than a grace, and so are laid-out versions that
//! are gone and not in use.
//!
//! Why no upload loses a blob: storing a blob makes it young, a commit writes its record well within
//! the grace, and the records are listed after the blobs, so a blob that is old when it is listed
//! and unnamed afterwards belongs to no upload under way. One that an upload stores again after the
//! listing is seen to be younger just before it would be removed. What is left is an upload that
//! stores a blob, writes its record and looks whether all is there, all of it between that look and
//! the removal after it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::Instant;

use crate::blocking::{blocking, to_the_end};
use crate::digest::Digest;
use crate::error::Result;
use crate::name::ModelName;
use crate::records::{Entry, live};
use crate::registry::{Inner, Registry};
use crate::traffic::TrafficAction;

/// What a collection did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Collected {
    /// Blobs that no version names.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files of this machine in which versions that are gone were laid out.
    pub laid_out: usize,
    /// Deletions of versions that were cut off and are now ended.
    pub deletions: usize,
    /// Partly written objects that a crash left: in a folder, or as parts in a cloud.
    pub partial: usize,
    /// What replicas told of rollouts that have long ended.
    pub reports: usize,
    /// Blobs that no version names and that are younger than the grace: they may be those of an
    /// upload under way, and stay.
    pub young: usize,
}

/// The least time from the beginning of one collection to the next one that nobody waits for: each looks at all
/// models and blobs, which in a large store takes longer than the deletion that asks for it, and in a bucket is paid
/// for by the request.
const APART: Duration = Duration::from_secs(60);

/// When collections that nobody waits for are made.
#[derive(Debug, Default)]
pub(crate) struct Collections {
    /// When the last one began, or is to begin.
    last: Option<Instant>,
}

impl Collections {
    /// When the collection that is asked for now is to begin; `None` if one is to begin already.
    fn plan(&mut self, now: Instant) -> Option<Instant> {
        let at = match self.last {
            Some(last) if last > now => return None,
            Some(last) => now.max(last + APART),
            None => now,
        };
        self.last = Some(at);
        Some(at)
    }
}

/// What a collection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Remove what nobody needs.
    Remove,
    /// Say what would be removed.
    Look,
}

impl Registry {
    /// Collects now. `grace` is how young an unnamed blob may be and be kept; anything much below
    /// [`Registry::GRACE`] is safe only while nobody uploads.
    pub async fn collect_garbage(&self, grace: Duration) -> Result<Collected> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move { inner.collect(grace, Mode::Remove).await }).await
    }

    /// What [`collect_garbage`](Self::collect_garbage) would do now. It changes nothing.
    pub async fn find_garbage(&self, grace: Duration) -> Result<Collected> {
        self.0.collect(grace, Mode::Look).await
    }
}

impl Inner {
    /// Collects without making anyone wait, now or when the last collection is long enough ago.
    pub(crate) fn collect_soon(self: &Arc<Self>) {
        let Some(at) = self.collections.lock().plan(Instant::now()) else {
            return;
        };
        let inner = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            if let Some(inner) = inner.upgrade() {
                inner.collect_or_warn(Registry::GRACE).await;
            }
        });
    }

    /// Collects; a failure is logged, since whatever stays is collected the next time.
    async fn collect_or_warn(&self, grace: Duration) {
        match self.collect(grace, Mode::Remove).await {
            Ok(collected) => {
                let Collected {
                    blobs, laid_out, ..
                } = collected;
                if blobs + laid_out > 0 {
                    tracing::info!(blobs, laid_out, "removed what nobody needs");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "old files could not be collected; the next deletion or start will")
            }
        }
    }

    async fn collect(&self, grace: Duration, mode: Mode) -> Result<Collected> {
        let mut collected = Collected::default();
        let store = self.store.clone();
        collected.partial = blocking(move || match mode {
            Mode::Remove => store.sweep_partial_puts(grace),
            Mode::Look => store.partial_puts(grace).len(),
        })
        .await?;
        for note in self.store.cut_off_uploads(grace).await? {
            let ended = mode == Mode::Look || self.store.end_cut_off_upload(&note).await?;
            collected.partial += usize::from(ended);
        }
        collected.reports = match mode {
            Mode::Remove => self.remove_reports(None, grace).await?,
            Mode::Look => self.old_reports(None, grace).await?.len(),
        };
        let blobs = self.store.blobs().await?;
        // First what is laid out, then the records: a version made in between is not taken for gone.
        let workdir = Arc::clone(&self.workdir);
        let laid_out = blocking(move || workdir.versions())
            .await?
            .unwrap_or_default();
        let all = self.records.all(&self.store).await?;
        for name in all.keys() {
            collected.deletions += self.end_cut_off_deletes(name, mode).await?;
        }
        let all = self.records.all(&self.store).await?;

        let records = || all.values().flat_map(live);
        let contents: HashSet<Digest> = records().map(|record| record.digest).collect();
        for digest in laid_out {
            if contents.contains(&digest) || self.is_leased(digest) {
                continue;
            }
            if mode == Mode::Look || self.remove_laid_out(digest).await? {
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
            if named.contains(&blob.digest) {
                continue;
            }
            let age = now.duration_since(blob.written).unwrap_or_default();
            if age < grace {
                collected.young += 1;
                continue;
            }
            if mode == Mode::Remove && !self.store.delete_blob(&blob).await? {
                continue;
            }
            collected.blobs += 1;
            collected.bytes += blob.size;
        }
        Ok(collected)
    }

    /// How many there were.
    async fn end_cut_off_deletes(&self, name: &ModelName, mode: Mode) -> Result<usize> {
        let (traffic, _) = self.read_traffic(name).await?;
        let versions: Vec<_> = traffic.deleting.into_iter().collect();
        if mode == Mode::Remove && !versions.is_empty() {
            self.end_delete(name, &versions, TrafficAction::DeleteVersion, None)
                .await?;
        }
        Ok(versions.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_that_are_asked_for_one_is_made_at_once_and_one_when_the_first_is_long_enough_ago() {
        let (start, mut collections) = (Instant::now(), Collections::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(collections.plan(start), Some(start));
        // The deletions of the minute are all in the one at its end.
        assert_eq!(collections.plan(after(5)), Some(start + APART));
        assert_eq!(collections.plan(after(6)), None);
        assert_eq!(collections.plan(after(59)), None);
        // That one has begun: what is deleted now it may have passed.
        assert_eq!(collections.plan(after(60)), Some(after(120)));
        assert_eq!(collections.plan(after(1000)), Some(after(1000)));
    }
}
