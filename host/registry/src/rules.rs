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
use crate::store::{Store, Tag, to_json};
use crate::traffic::{Canary, Traffic, TrafficAction};
use crate::version::Version;

/// How often a change is tried against others. In each round at least one writer succeeds, so this
/// many must be at one model at once before one of them is told to try again.
pub(crate) const ATTEMPTS: u32 = 64;

impl Registry {
    /// Makes a version the one that serves. A canary of that version ends with it.
    pub async fn set_stable(
        &self,
        name: &ModelName,
        version: Version,
        who: Option<&str>,
    ) -> Result<Traffic> {
        self.change(name, who, Some(version), move |traffic| {
            traffic.make_stable(version);
            Ok(Some(TrafficAction::SetStable))
        })
        .await
    }

    /// Puts a version on trial with a share of the requests, or ends the trial.
    pub async fn set_canary(
        &self,
        name: &ModelName,
        canary: Option<Canary>,
        who: Option<&str>,
    ) -> Result<Traffic> {
        self.change(
            name,
            who,
            canary.map(|canary| canary.version),
            move |traffic| {
                if let Some(canary) = canary.filter(|canary| traffic.stable == Some(canary.version))
                {
                    let version = canary.version;
                    let problem =
                        format!("version {version} is stable already; a canary is another version");
                    return Err(RegistryError::InvalidTraffic(problem));
                }
                traffic.canary = canary;
                Ok(Some(TrafficAction::SetCanary))
            },
        )
        .await
    }

    /// Names the version that takes over while the one chosen is unhealthy, or none.
    pub async fn set_fallback(
        &self,
        name: &ModelName,
        version: Option<Version>,
        who: Option<&str>,
    ) -> Result<Traffic> {
        self.change(name, who, version, move |traffic| {
            traffic.fallback = version;
            Ok(Some(TrafficAction::SetFallback))
        })
        .await
    }

    async fn change<F>(
        &self,
        name: &ModelName,
        who: Option<&str>,
        version: Option<Version>,
        edit: F,
    ) -> Result<Traffic>
    where
        F: Fn(&mut Traffic) -> Result<Option<TrafficAction>> + Send + Sync + 'static,
    {
        let inner = Arc::clone(&self.0);
        let (name, who) = (name.clone(), who.map(str::to_owned));
        to_the_end(async move {
            inner
                .change_traffic(&name, who.as_deref(), version, edit)
                .await
        })
        .await
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

    /// Changes the rule by `edit`, which says what it did, or `None` for nothing. `version`, if one
    /// is given, is to get a role: it must exist and not be on its way out.
    pub(crate) async fn change_traffic(
        &self,
        name: &ModelName,
        who: Option<&str>,
        version: Option<Version>,
        edit: impl Fn(&mut Traffic) -> Result<Option<TrafficAction>>,
    ) -> Result<Traffic> {
        self.edit_traffic(name, |traffic, entries| {
            match version {
                Some(version) if traffic.deleting.contains(&version) => {
                    return Err(RegistryError::VersionNotFound {
                        name: name.clone(),
                        version,
                    });
                }
                Some(version) => drop(live_version(name, version, entries)?),
                None => expect_model(name, entries)?,
            }
            let before = (traffic.stable, traffic.canary, traffic.fallback);
            let Some(action) = edit(traffic)? else {
                return Ok(false);
            };
            // Asked twice is done once, and stands in the history once.
            if before == (traffic.stable, traffic.canary, traffic.fallback) {
                return Ok(false);
            }
            traffic.note(action, version, now(), who);
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
        for attempt in 0..ATTEMPTS {
            let (mut traffic, tag) = self.read_traffic(name).await?;
            let entries = self.records.of(&self.store, name).await?;
            if !edit(&mut traffic, &entries)? {
                return Ok(traffic);
            }
            let json = to_json(&key, &traffic)?;
            if self.store.put_tagged(&key, &tag, json).await? {
                let (stable, canary) = (
                    traffic.stable.map(Version::get),
                    traffic.canary.map(|it| it.version.get()),
                );
                tracing::info!(model = %name, stable, canary, "traffic rule changed");
                return Ok(traffic);
            }
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
