//! The object store behind the registry: where each object stands, and the few things done to it.
//! Blobs are in `blobs`, what is stored in parts in `parts`, what is put on a condition in `conditional`; `location`
//! opens a store by its URL, and `watched` holds it to its word. What the objects mean is decided elsewhere.
//!
//! ```text
//! blobs/sha256/<hex>                    the files of versions, write once
//! models/<name>/versions/<n>.json       the record of a version, or its tombstone
//! models/<name>/traffic.json            the traffic rule
//! rollouts/<name>/<replica>.json        what a replica tells of a rollout under way
//! uploads/<hex>.json                    a blob that is being stored in parts, in a cloud
//! ```

mod blobs;
mod conditional;
mod http;
mod location;
mod parts;
mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, UpdateVersion};
use serde::Serialize;
use tokio::time::Instant;

pub(crate) use blobs::{Fetched, verify};
pub(crate) use conditional::{Put, Tag};
pub use location::{InvalidStoreUrl, StoreUrl};

use location::Bucket;
use parts::Parts;
use watched::Watched;

use crate::error::{RegistryError, Result};
use crate::name::ModelName;
use crate::rules::pause;
use crate::version::Version;

/// An object store, and the folder it is in if it is a folder of this machine.
#[derive(Clone)]
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Of a cloud that keeps parts until it is told what to do with them.
    parts: Option<Arc<Parts>>,
    local: Option<Arc<Local>>,
}

/// What a folder lets us do beyond the common interface: link instead of copy, and lock.
struct Local {
    files: LocalFileSystem,
    root: PathBuf,
}

/// An object as listed.
pub(crate) enum Listed {
    Version {
        name: ModelName,
        version: Version,
        tag: Option<String>,
    },
    Traffic {
        name: ModelName,
        tag: Option<String>,
    },
}

impl Store {
    /// A store shared by a fleet, each of whose calls may take so long. It must support
    /// `PutMode::Create` and `PutMode::Update`.
    pub(crate) fn shared(objects: Arc<dyn ObjectStore>, patience: Duration) -> Self {
        Self {
            objects: Arc::new(Watched::new(objects, patience)),
            parts: None,
            local: None,
        }
    }

    /// The same of a bucket, where what was stored in parts and cut off can be found again.
    pub(crate) fn bucket(bucket: Bucket, patience: Duration) -> Self {
        let Bucket { objects, parts } = bucket;
        Self {
            parts: parts.map(|parts| Arc::new(Parts::new(parts, patience))),
            ..Self::shared(objects, patience)
        }
    }

    /// The folder `root`, made if it is not there. Blocks.
    ///
    /// Written files and their folders are fsynced before a put returns: a version that was
    /// answered with 201 is there after a power cut. Deletions are not: an undone one is done again.
    pub(crate) fn folder(root: &Path) -> Result<Self> {
        let doing = || format!("opening the registry folder {}", root.display());
        std::fs::create_dir_all(root).map_err(RegistryError::io(doing()))?;
        let root = root.canonicalize().map_err(RegistryError::io(doing()))?;
        let files = LocalFileSystem::new_with_prefix(&root)
            .map_err(RegistryError::store(doing()))?
            .with_fsync(true);
        let objects = Arc::new(files.clone());
        Ok(Self {
            objects,
            parts: None,
            local: Some(Arc::new(Local { files, root })),
        })
    }

    /// Whether it is a folder that this machine sees.
    pub(crate) fn is_folder(&self) -> bool {
        self.local.is_some()
    }

    pub(crate) fn version_key(name: &ModelName, version: Version) -> Key {
        Key::from_iter([
            "models",
            name.as_str(),
            "versions",
            &format!("{version}.json"),
        ])
    }

    pub(crate) fn traffic_key(name: &ModelName) -> Key {
        Key::from_iter(["models", name.as_str(), "traffic.json"])
    }

    pub(crate) fn report_key(name: &ModelName, replica: &str) -> Key {
        Key::from_iter(["rollouts", name.as_str(), &format!("{replica}.json")])
    }

    /// The object's bytes and what they are known by; `None` if there is no such object.
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<(Bytes, UpdateVersion)>> {
        for attempt in 1.. {
            match self.try_get(key).await {
                Ok(found) => return Ok(Some(found)),
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(error) if attempt < READS && may_pass(&error) => pause(attempt).await,
                Err(error) => {
                    let doing = format!("reading `{key}` from the store");
                    return Err(RegistryError::store(doing)(error));
                }
            }
        }
        Ok(None)
    }

    async fn try_get(&self, key: &Key) -> object_store::Result<(Bytes, UpdateVersion)> {
        let found = self.objects.get(key).await?;
        let known_by = UpdateVersion {
            e_tag: found.meta.e_tag.clone(),
            version: found.meta.version.clone(),
        };
        Ok((found.bytes().await?, known_by))
    }

    /// Writes the object, whatever was there.
    pub(crate) async fn overwrite(&self, key: &Key, bytes: Vec<u8>) -> Result<()> {
        let put = self.objects.put(key, bytes.into()).await;
        put.map(drop).map_err(RegistryError::store(format!(
            "writing `{key}` to the store"
        )))
    }

    /// The records and traffic rules of one model, or of all. Foreign objects are passed over.
    pub(crate) async fn list(&self, name: Option<&ModelName>) -> Result<Vec<Listed>> {
        let objects = self.list_under(prefix_of("models", name)).await?;
        Ok(objects.into_iter().filter_map(listed).collect())
    }

    /// What replicas have told of the rollouts of one model, or of all, and when each was written.
    pub(crate) async fn reports(&self, name: Option<&ModelName>) -> Result<Vec<(Key, SystemTime)>> {
        let objects = self.list_under(prefix_of("rollouts", name)).await?;
        Ok(objects
            .into_iter()
            .map(|object| (object.location, object.last_modified.into()))
            .collect())
    }

    async fn list_under(&self, prefix: Key) -> Result<Vec<ObjectMeta>> {
        let began = Instant::now();
        for attempt in 1.. {
            match self.objects.list(Some(&prefix)).try_collect().await {
                Ok(objects) => return Ok(objects),
                // Who waits for one that did not come at all has waited long enough.
                Err(error)
                    if attempt < READS && may_pass(&error) && began.elapsed() < LIST_AGAIN =>
                {
                    pause(attempt).await;
                }
                Err(error) => {
                    let doing = format!("listing `{prefix}` in the store");
                    return Err(RegistryError::store(doing)(error));
                }
            }
        }
        Ok(Vec::new())
    }

    /// Removes an object; whether it was there.
    pub(crate) async fn remove(&self, key: &Key) -> Result<bool> {
        match self.objects.delete(key).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(RegistryError::store(format!(
                "deleting `{key}` from the store"
            ))(error)),
        }
    }

    /// Removes what puts that a crash cut short left in a folder; how many. Blocks. Failures are not errors: the next collection tries again.
    pub(crate) fn sweep_partial_puts(&self, older_than: Duration) -> usize {
        let partial = self.partial_puts(older_than);
        let removed = partial.iter().filter(|path| {
            tracing::info!(file = %path.display(), "removing a partly written object");
            std::fs::remove_file(path).is_ok()
        });
        removed.count()
    }

    /// What puts that a crash cut short left in a folder. Blocks.
    pub(crate) fn partial_puts(&self, older_than: Duration) -> Vec<PathBuf> {
        let mut found = Vec::new();
        if let Some(local) = &self.local {
            find_partial(&local.root.join("blobs"), older_than, &mut found);
            find_partial(&local.root.join("models"), older_than, &mut found);
            find_partial(&local.root.join("rollouts"), older_than, &mut found);
        }
        found
    }
}

/// Where the objects of this kind are, of one model or of all.
fn prefix_of(kind: &str, name: Option<&ModelName>) -> Key {
    match name {
        Some(name) => Key::from_iter([kind, name.as_str()]),
        None => Key::from(kind),
    }
}

/// How often a read is tried: an answer that was cut off or did not come says nothing of the next.
/// The stores' clients try again by themselves where no answer came at all.
const READS: u32 = 3;

/// For how long a listing is made again that was cut off.
const LIST_AGAIN: Duration = Duration::from_secs(4);

/// Whether the same call, made again, may end otherwise.
fn may_pass(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { .. })
}

/// The JSON of what is to be stored under `key`.
pub(crate) fn to_json<T: Serialize>(key: &Key, value: &T) -> Result<Vec<u8>> {
    let unwritable = |error: serde_json::Error| RegistryError::CorruptRecord {
        key: key.to_string(),
        problem: format!("it cannot be written as JSON: {error}"),
    };
    serde_json::to_vec_pretty(value).map_err(unwritable)
}

/// What an object under `models/` is, by its key.
fn listed(object: ObjectMeta) -> Option<Listed> {
    let parts: Vec<_> = object.location.parts().collect();
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    match parts.as_slice() {
        ["models", name, "versions", file] => Some(Listed::Version {
            name: name.parse().ok()?,
            version: file.strip_suffix(".json")?.parse().ok()?,
            tag: object.e_tag,
        }),
        ["models", name, "traffic.json"] => Some(Listed::Traffic {
            name: name.parse().ok()?,
            tag: object.e_tag,
        }),
        _ => None,
    }
}

/// `LocalFileSystem` writes to `<name>#<number>` and renames; a crash leaves that file.
fn find_partial(folder: &Path, older_than: Duration, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let path = entry.path();
        if metadata.is_dir() {
            find_partial(&path, older_than, found);
            continue;
        }
        let name = entry.file_name();
        let suffix = name
            .to_str()
            .and_then(|name| name.rsplit_once('#'))
            .map(|(_, suffix)| suffix);
        let is_partial = suffix
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
        // Younger ones may be another process's put in progress.
        let age = metadata
            .modified()
            .ok()
            .and_then(|written| SystemTime::now().duration_since(written).ok());
        if is_partial && age.is_some_and(|age| age >= older_than) {
            found.push(path);
        }
    }
}
