//! From a package to a version. The order makes it safe to die anywhere in between: blobs, then the
//! record that names them, then the rule that names the record. What is cut off leaves blobs that
//! nobody names, which the collector removes, or a version that serves nothing, which the same
//! upload, repeated, puts right.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;

use crate::blocking::to_the_end;
use crate::error::{RegistryError, Result};
use crate::package::Package;
use crate::record::{FileRecord, VersionRecord};
use crate::records::live;
use crate::registry::{Inner, Registry};
use crate::rules::{ATTEMPTS, pause};
use crate::store::{Store, to_json};
use crate::traffic::{Done, TrafficAction};
use crate::version::Version;

/// How many files are stored at once. Each holds one part of 8 MiB in memory.
const PUTS: usize = 4;

/// What is known of an upload beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitMeta {
    /// Who uploads, where that is known.
    pub who: Option<String>,
}

/// What a commit gave.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Commit {
    /// The version.
    pub record: Arc<VersionRecord>,
    /// False if the model already had a version of exactly this content: then that is the version,
    /// so that an upload repeated after a lost answer makes nothing new.
    pub created: bool,
}

impl Registry {
    /// Makes a package the next version of its model. The first version of a model serves at once;
    /// a later one serves when it is given a role.
    pub async fn commit(&self, package: Package, meta: CommitMeta) -> Result<Commit> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move { inner.commit(&package, meta).await }).await
    }
}

impl Inner {
    async fn commit(&self, package: &Package, meta: CommitMeta) -> Result<Commit> {
        self.put_files(package, package.dir().files()).await?;
        let commit = self.put_record(package, meta.who.clone()).await?;
        self.put_files_again_if_wrong(package).await?;
        self.serve_if_first(&commit.record, meta.who.as_deref())
            .await?;
        Ok(commit)
    }

    async fn put_files(&self, package: &Package, files: &[FileRecord]) -> Result<()> {
        let puts = files.iter().map(|file| async move {
            let found = self
                .store
                .put_blob(file.digest, &package.dir().file(&file.path))
                .await?;
            if found != file.digest {
                let (path, expected) = (file.path.clone(), file.digest);
                return Err(RegistryError::StagedFileChanged {
                    path,
                    expected,
                    found,
                });
            }
            Ok(())
        });
        let puts: Vec<_> = puts.collect();
        stream::iter(puts)
            .buffer_unordered(PUTS)
            .try_collect()
            .await
    }

    /// Takes the next number. Two commits cannot both create the record of one number; the one that
    /// comes second looks again, and so also finds that the first had the same content.
    async fn put_record(&self, package: &Package, who: Option<String>) -> Result<Commit> {
        let manifest = package.manifest();
        let name = &manifest.name;
        for attempt in 0..ATTEMPTS {
            let entries = self.records.of(&self.store, name).await?;
            if let Some(existing) = live(&entries).find(|record| record.digest == package.digest())
            {
                return Ok(Commit {
                    record: Arc::clone(existing),
                    created: false,
                });
            }
            let version = entries
                .keys()
                .next_back()
                .map_or(Version::FIRST, |last| last.next());
            let record = VersionRecord {
                name: name.clone(),
                version,
                digest: package.digest(),
                // Whole seconds: the JSON is read by people, and two uploads are told apart by number.
                created_at: now(),
                created_by: who.clone(),
                manifest_text: package.dir().manifest_text().to_owned(),
                manifest: manifest.clone(),
                files: package.dir().files().to_vec(),
            };
            let key = Store::version_key(name, version);
            if self.store.create(&key, to_json(&key, &record)?).await? {
                tracing::info!(model = %name, %version, digest = %record.digest, "version created");
                return Ok(Commit {
                    record: Arc::new(record),
                    created: true,
                });
            }
            pause(attempt).await;
        }
        let key = format!("models/{name}/versions");
        Err(RegistryError::Contended {
            key,
            attempts: ATTEMPTS,
        })
    }

    /// A collector that looked at the records before this one was there may have taken a blob that
    /// was old and unused until now. (Storing a blob makes it young, so that takes a commit longer
    /// than the grace.) From here on the record protects them. A store that kept less than it was
    /// given is found out too: here, and not when the version is wanted.
    async fn put_files_again_if_wrong(&self, package: &Package) -> Result<()> {
        for file in package.dir().files() {
            if self.store.blob_size(&file.digest).await? == Some(file.size) {
                continue;
            }
            self.put_files(package, std::slice::from_ref(file)).await?;
            let kept = self.store.blob_size(&file.digest).await?;
            if kept != Some(file.size) {
                return Err(RegistryError::NotKept {
                    path: file.path.clone(),
                    size: file.size,
                    kept: kept.unwrap_or_default(),
                });
            }
        }
        Ok(())
    }

    async fn serve_if_first(&self, record: &VersionRecord, who: Option<&str>) -> Result<()> {
        let version = record.version;
        self.change_traffic(&record.name, who, |traffic| {
            if traffic.stable.is_some() {
                return Ok(None);
            }
            traffic.make_stable(version);
            Ok(Some(Done::new(TrafficAction::FirstVersion, Some(version))))
        })
        .await
        .map(drop)
    }
}

/// The time, in whole seconds of UTC.
pub(crate) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}
