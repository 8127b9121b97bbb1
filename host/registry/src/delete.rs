//! Deleting versions and models, in three steps that can each be the last before a crash: the rule
//! says that the version is going (from then on it can be given no role), its record becomes a
//! tombstone (from then on it is gone), the rule forgets about it. The collector ends what was cut
//! off, and removes the blobs.

use std::sync::Arc;

use crate::blocking::to_the_end;
use crate::commit::now;
use crate::error::{RegistryError, Result};
use crate::name::ModelName;
use crate::record::Tombstone;
use crate::records::{Entry, live_version};
use crate::registry::{Inner, Registry};
use crate::store::{Store, to_json};
use crate::traffic::{Done, TrafficAction};
use crate::version::Version;

impl Registry {
    /// Deletes a version that has no role in the traffic rule. Its number is not given again; its
    /// files go when no other version uses them.
    pub async fn delete_version(
        &self,
        name: &ModelName,
        version: Version,
        who: Option<&str>,
    ) -> Result<()> {
        let inner = Arc::clone(&self.0);
        let (name, who) = (name.clone(), who.map(str::to_owned));
        to_the_end(async move {
            inner.begin_delete(&name, version).await?;
            inner
                .end_delete(
                    &name,
                    &[version],
                    TrafficAction::DeleteVersion,
                    who.as_deref(),
                )
                .await?;
            inner.collect_soon();
            Ok(())
        })
        .await
    }

    /// Deletes a model: it stops serving, then all its versions go. A later upload of that name goes
    /// on counting where this one ended.
    pub async fn delete_model(&self, name: &ModelName, who: Option<&str>) -> Result<()> {
        let inner = Arc::clone(&self.0);
        let (name, who) = (name.clone(), who.map(str::to_owned));
        to_the_end(async move {
            let versions = inner.begin_delete_all(&name).await?;
            inner
                .end_delete(&name, &versions, TrafficAction::DeleteModel, who.as_deref())
                .await?;
            inner.collect_soon();
            Ok(())
        })
        .await
    }
}

impl Inner {
    async fn begin_delete(&self, name: &ModelName, version: Version) -> Result<()> {
        self.edit_traffic(name, |traffic, entries| {
            match live_version(name, version, entries) {
                // A record that cannot be read may be deleted: that is how to be rid of it.
                Ok(_) | Err(RegistryError::CorruptRecord { .. }) => {}
                Err(error) => return Err(error),
            }
            if let Some((role, remedy)) = traffic.role(version) {
                return Err(RegistryError::VersionInUse {
                    name: name.clone(),
                    version,
                    role,
                    remedy,
                });
            }
            // Already there if an earlier deletion was cut off; then this one ends it.
            Ok(traffic.deleting.insert(version))
        })
        .await
        .map(drop)
    }

    async fn begin_delete_all(&self, name: &ModelName) -> Result<Vec<Version>> {
        let traffic = self
            .edit_traffic(name, |traffic, entries| {
                let there = entries
                    .iter()
                    .filter(|(_, entry)| !matches!(entry, Entry::Deleted));
                traffic.deleting.extend(there.map(|(version, _)| *version));
                if traffic.deleting.is_empty() {
                    return Err(RegistryError::ModelNotFound { name: name.clone() });
                }
                (traffic.stable, traffic.canary, traffic.fallback) = (None, None, None);
                (traffic.shadow, traffic.rollout) = (None, None);
                Ok(true)
            })
            .await?;
        Ok(traffic.deleting.into_iter().collect())
    }

    /// The second and third step, for versions that the rule says are going.
    pub(crate) async fn end_delete(
        &self,
        name: &ModelName,
        versions: &[Version],
        action: TrafficAction,
        who: Option<&str>,
    ) -> Result<()> {
        for version in versions {
            let key = Store::version_key(name, *version);
            let entry = self.records.one(&self.store, name, *version).await?;
            let digest = match entry {
                Some(Entry::Live(record)) => Some(record.digest),
                Some(Entry::Deleted) => continue,
                Some(Entry::Unreadable(_)) | None => None,
            };
            let tombstone = Tombstone::new(
                name.clone(),
                *version,
                digest,
                now(),
                who.map(str::to_owned),
            );
            self.store
                .overwrite(&key, to_json(&key, &tombstone)?)
                .await?;
            tracing::info!(model = %name, %version, "version deleted");
        }
        let only = match versions {
            [only] => Some(*only),
            _ => None,
        };
        self.edit_traffic(name, |traffic, _| {
            let before = traffic.deleting.len();
            traffic
                .deleting
                .retain(|version| !versions.contains(version));
            if traffic.deleting.len() == before {
                return Ok(false);
            }
            let version = only.filter(|_| action == TrafficAction::DeleteVersion);
            traffic.note(Done::new(action, version), now(), who);
            Ok(true)
        })
        .await
        .map(drop)
    }
}
