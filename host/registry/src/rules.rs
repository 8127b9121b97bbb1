//! Changing a traffic rule: read, check, edit, and put on the condition that nobody changed it
//! meanwhile; else again. Deleting a version is written into the same object first, so that giving
//! a version a role and deleting it cannot both succeed.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::blocking::to_the_end;
use crate::commit::now;
use crate::error::{RegistryError, Result};
use crate::name::ModelName;
use crate::records::{Entries, expect_model, live_version};
use crate::registry::{Inner, Registry};
use crate::store::{Put, Store, Tag, to_json};
use crate::traffic::{Done, Traffic, TrafficAction, TrafficChange, TrafficEdit};
use crate::version::Version;

/// How often a change is tried against others. In each round at least one writer succeeds, so this
/// many must be at one model at once before one of them is told to try again.
pub(crate) const ATTEMPTS: u32 = 64;

impl Registry {
    /// Changes the rule as is asked, all of it or nothing.
    pub async fn edit(
        &self,
        name: &ModelName,
        edit: TrafficEdit,
        who: Option<&str>,
    ) -> Result<Traffic> {
        self.change(name, who, move |traffic| {
            traffic.edit(&edit).map_err(RegistryError::InvalidTraffic)
        })
        .await
    }

    /// Makes the version stable again that was before the present one, and ends the trial of a canary.
    ///
    /// # Errors
    /// [`RegistryError::InvalidTraffic`] where the history knows no other.
    pub async fn rollback(&self, name: &ModelName, who: Option<&str>) -> Result<Traffic> {
        let model = name.clone();
        self.change(name, who, move |traffic| {
            let before = traffic.stable_before().ok_or_else(|| {
                RegistryError::InvalidTraffic(format!(
                    "model `{model}` has had no other stable version; `aegis promote` makes one stable"
                ))
            })?;
            traffic.make_stable(before);
            traffic.canary = None;
            traffic.settle();
            Ok(Some(Done::new(TrafficAction::Rollback, Some(before))))
        })
        .await
    }

    pub(crate) async fn change<F>(
        &self,
        name: &ModelName,
        who: Option<&str>,
        edit: F,
    ) -> Result<Traffic>
    where
        F: Fn(&mut Traffic) -> Result<Option<Done>> + Send + Sync + 'static,
    {
        let inner = Arc::clone(&self.0);
        let (name, who) = (name.clone(), who.map(str::to_owned));
        to_the_end(async move { inner.change_traffic(&name, who.as_deref(), edit).await }).await
    }
}

impl Inner {
    /// The rule and its tag. A model whose rule was never written has an empty one.
    pub(crate) async fn read_traffic(&self, name: &ModelName) -> Result<(Traffic, Tag)> {
        let key = Store::traffic_key(name);
        let (json, tag) = self.store.read_tagged(&key).await?;
        let Some(json) = json else {
            return Ok((Traffic::default(), tag));
        };
        let unreadable = |error: serde_json::Error| RegistryError::CorruptRecord {
            key: key.to_string(),
            problem: error.to_string(),
        };
        Ok((serde_json::from_slice(&json).map_err(unreadable)?, tag))
    }

    /// Changes the rule by `edit`, which says what it did and to which version, or `None` for nothing. Every version
    /// that is in the rule then must exist and not be on its way out.
    pub(crate) async fn change_traffic(
        &self,
        name: &ModelName,
        who: Option<&str>,
        edit: impl Fn(&mut Traffic) -> Result<Option<Done>>,
    ) -> Result<Traffic> {
        self.edit_traffic(name, |traffic, entries| {
            expect_model(name, entries)?;
            let before: Vec<Version> = traffic.versions().collect();
            // Asked twice is done once, and stands in the history once.
            let Some(done) = edit(traffic)? else {
                return Ok(false);
            };
            for version in traffic.versions().filter(|it| !before.contains(it)) {
                if traffic.deleting.contains(&version) {
                    let name = name.clone();
                    return Err(RegistryError::VersionNotFound { name, version });
                }
                live_version(name, version, entries)?;
            }
            traffic.note(done, now(), who);
            Ok(true)
        })
        .await
    }

    /// Reads the rule, then the model's versions, lets `edit` change the rule, and stores it if
    /// `edit` says so and nobody was faster; else does it all again. In that order, because a
    /// deletion that begins after the rule was read changes the rule, and one that ended before has
    /// left its tombstone among the versions: either way `edit` cannot give it a role.
    pub(crate) async fn edit_traffic(
        &self,
        name: &ModelName,
        edit: impl Fn(&mut Traffic, &Entries) -> Result<bool>,
    ) -> Result<Traffic> {
        let key = Store::traffic_key(name);
        let mut noted: Option<TrafficChange> = None;
        for attempt in 0..ATTEMPTS {
            let (mut traffic, tag) = self.read_traffic(name).await?;
            // The put was done after all, and others went on from there: made again, a rollback
            // would go back twice.
            if noted.is_some_and(|noted| traffic.history.contains(&noted)) {
                return Ok(traffic);
            }
            let last = traffic.history.last().cloned();
            let entries = self.records.of(&self.store, name).await?;
            if !edit(&mut traffic, &entries)? {
                return Ok(traffic);
            }
            let json = to_json(&key, &traffic)?;
            let put = self.store.put_tagged(&key, &tag, json).await?;
            if put == Put::Done {
                tracing::info!(
                    model = %name,
                    stable = traffic.stable.map(Version::get),
                    canary = traffic.canary.map(|it| it.version.get()),
                    canary_percent = traffic.canary.map(|it| it.weight.percent()),
                    shadow = traffic.shadow.map(|it| it.version.get()),
                    fallback = traffic.fallback.map(Version::get),
                    "traffic rule changed"
                );
                return Ok(traffic);
            }
            let may_be_done = put == Put::Overtaken;
            noted = traffic.history.pop();
            noted = noted.filter(|it| may_be_done && Some(it) != last.as_ref());
            pause(attempt).await;
        }
        Err(RegistryError::Contended {
            key: key.to_string(),
            attempts: ATTEMPTS,
        })
    }
}

/// Waits before another attempt: at random, so that writers fall out of step, and up to 50 ms.
pub(crate) async fn pause(attempt: u32) {
    let most = 1_u64 << attempt.min(6);
    // Two of std's hash maps have different keys; that is random enough to fall out of step.
    let random = RandomState::new().build_hasher().finish();
    tokio::time::sleep(Duration::from_micros(random % (most.min(50) * 1000))).await;
}
