//! The version records in the store, read through a cache. A record changes once in its life, to a
//! tombstone, so a listing's ETags say exactly which ones must be read again: showing a thousand
//! models costs one listing, not a thousand reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;

use crate::error::{RegistryError, Result};
use crate::name::ModelName;
use crate::record::{Stored, VersionRecord};
use crate::store::{Listed, Store};
use crate::version::Version;

/// How many records are read at once: enough to hide a remote store's delay, few enough not to be
/// throttled by it.
pub(crate) const READS: usize = 16;

/// What stands under a version's number.
#[derive(Clone)]
pub(crate) enum Entry {
    Live(Arc<VersionRecord>),
    Deleted,
    /// There is something, but not a record; its number is taken all the same.
    Unreadable(Arc<str>),
}

/// All numbers of one model that were ever given, as far as the store still shows them.
pub(crate) type Entries = BTreeMap<Version, Entry>;

#[derive(Default)]
pub(crate) struct Records {
    cache: Mutex<HashMap<(ModelName, Version), (String, Entry)>>,
}

impl Records {
    /// The numbers of one model; none if there is no such model.
    pub(crate) async fn of(&self, store: &Store, name: &ModelName) -> Result<Entries> {
        let mut all = self
            .read_listed(store, store.list(Some(name)).await?)
            .await?;
        Ok(all.remove(name).unwrap_or_default())
    }

    /// The numbers of every model. A model with a traffic rule and no numbers is there too.
    pub(crate) async fn all(&self, store: &Store) -> Result<BTreeMap<ModelName, Entries>> {
        let all = self.read_listed(store, store.list(None).await?).await?;
        self.cache.lock().retain(|(name, version), _| {
            all.get(name)
                .is_some_and(|entries| entries.contains_key(version))
        });
        Ok(all)
    }

    /// One number, read from the store; `None` if it was never given.
    pub(crate) async fn one(
        &self,
        store: &Store,
        name: &ModelName,
        version: Version,
    ) -> Result<Option<Entry>> {
        let Some((json, known_by)) = store.get(&Store::version_key(name, version)).await? else {
            return Ok(None);
        };
        let entry = match Stored::from_json(name, version, &json) {
            Ok(Stored::Live(record)) => Entry::Live(record),
            Ok(Stored::Deleted) => Entry::Deleted,
            Err(problem) => {
                tracing::warn!(%name, %version, %problem, "a version record cannot be read");
                Entry::Unreadable(problem.into())
            }
        };
        if let Some(tag) = known_by.e_tag {
            self.cache
                .lock()
                .insert((name.clone(), version), (tag, entry.clone()));
        }
        Ok(Some(entry))
    }

    async fn read_listed(
        &self,
        store: &Store,
        listed: Vec<Listed>,
    ) -> Result<BTreeMap<ModelName, Entries>> {
        let mut all: BTreeMap<ModelName, Entries> = BTreeMap::new();
        let mut unknown = Vec::new();
        for object in listed {
            match object {
                Listed::Traffic { name, .. } => drop(all.entry(name).or_default()),
                Listed::Version { name, version, tag } => match self.cached(&name, version, tag) {
                    Some(entry) => drop(all.entry(name).or_default().insert(version, entry)),
                    None => unknown.push((name, version)),
                },
            }
        }
        let reads = unknown.into_iter().map(|(name, version)| async move {
            let entry = self.one(store, &name, version).await?;
            Ok::<_, RegistryError>((name, version, entry))
        });
        let reads: Vec<_> = reads.collect();
        let mut reads = stream::iter(reads).buffer_unordered(READS);
        while let Some((name, version, entry)) = reads.try_next().await? {
            if let Some(entry) = entry {
                all.entry(name).or_default().insert(version, entry);
            }
        }
        Ok(all)
    }

    fn cached(&self, name: &ModelName, version: Version, tag: Option<String>) -> Option<Entry> {
        let cache = self.cache.lock();
        let (known, entry) = cache.get(&(name.clone(), version))?;
        (Some(known) == tag.as_ref()).then(|| entry.clone())
    }
}

/// The records that are there and readable, lowest version first.
pub(crate) fn live(entries: &Entries) -> impl DoubleEndedIterator<Item = &Arc<VersionRecord>> {
    entries.values().filter_map(|entry| match entry {
        Entry::Live(record) => Some(record),
        Entry::Deleted | Entry::Unreadable(_) => None,
    })
}

/// The record of a version; the error tells a model that is not there from a version that is not.
pub(crate) fn live_version<'e>(
    name: &ModelName,
    version: Version,
    entries: &'e Entries,
) -> Result<&'e Arc<VersionRecord>> {
    match entries.get(&version) {
        Some(Entry::Live(record)) => Ok(record),
        Some(Entry::Unreadable(problem)) => {
            let key = Store::version_key(name, version).to_string();
            Err(RegistryError::CorruptRecord {
                key,
                problem: problem.to_string(),
            })
        }
        Some(Entry::Deleted) | None => {
            expect_model(name, entries)?;
            Err(RegistryError::VersionNotFound {
                name: name.clone(),
                version,
            })
        }
    }
}

/// A model is there as long as one of its versions is.
pub(crate) fn expect_model(name: &ModelName, entries: &Entries) -> Result<()> {
    match live(entries).next() {
        Some(_) => Ok(()),
        None => Err(RegistryError::ModelNotFound { name: name.clone() }),
    }
}
