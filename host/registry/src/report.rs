//! [`RolloutReport`]: what a replica tells of a rollout. Each writes one object of its own, over and over, and whoever
//! drives the rollout reads all of them, so that a version is judged by what it did on every replica. Reports stand apart
//! from the models: nobody who follows those looks at them.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::Result;
use crate::name::ModelName;
use crate::registry::{Inner, Registry};
use crate::rollout::Rollout;
use crate::store::{Store, to_json};
use crate::version::Version;

/// Reports read of one rollout. A fleet has no more replicas than that; what is beyond is passed over.
const MOST: usize = 1024;

/// How many are read at once.
const AT_ONCE: usize = 16;

/// What a replica saw of a rollout's step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutReport {
    /// Who tells it.
    pub replica: String,
    /// The version that is rolled out.
    pub version: Version,
    /// The step.
    pub step: usize,
    /// Since when the rollout is at it: the one thing that no other step, of this rollout or another, has too.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// What was seen. What it means is the business of who judges.
    pub figures: serde_json::Value,
}

impl RolloutReport {
    /// Whether it is about the step that a rollout is at.
    #[must_use]
    pub fn is_of(&self, rollout: &Rollout) -> bool {
        (self.version, self.step, self.since) == (rollout.plan.version, rollout.step, rollout.since)
    }
}

impl Registry {
    /// Tells of the step that a rollout is at, in place of what the same replica told before.
    pub async fn report_rollout(&self, name: &ModelName, report: &RolloutReport) -> Result<()> {
        let key = Store::report_key(name, &report.replica);
        let json = to_json(&key, report)?;
        self.0.store.overwrite(&key, json).await
    }

    /// What has been told of the step that a rollout is at, by replicas that are gone too. A report that cannot be read,
    /// such as a later Aegis', is passed over.
    pub async fn rollout_reports(
        &self,
        name: &ModelName,
        rollout: &Rollout,
    ) -> Result<Vec<RolloutReport>> {
        let store = &self.0.store;
        let keys = store.reports(Some(name)).await?.into_iter().take(MOST);
        let read = async |key| {
            let (bytes, _) = store.get(&key).await.ok()??;
            let report: RolloutReport = serde_json::from_slice(&bytes).ok()?;
            report.is_of(rollout).then_some(report)
        };
        let reports = stream::iter(keys.map(|(key, _)| key))
            .map(read)
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready);
        Ok(reports.collect().await)
    }

    /// Removes what was told of a model's rollouts: there is none any more.
    pub async fn forget_rollout_reports(&self, name: &ModelName) -> Result<()> {
        self.0.remove_reports(Some(name), Duration::ZERO).await?;
        Ok(())
    }
}

impl Inner {
    /// Removes reports that are older than this, of one model or of all; how many.
    pub(crate) async fn remove_reports(
        &self,
        name: Option<&ModelName>,
        older_than: Duration,
    ) -> Result<usize> {
        let mut removed = 0;
        for key in self.old_reports(name, older_than).await? {
            removed += usize::from(self.store.remove(&key).await?);
        }
        Ok(removed)
    }

    /// The keys of reports that are older than this.
    pub(crate) async fn old_reports(
        &self,
        name: Option<&ModelName>,
        older_than: Duration,
    ) -> Result<Vec<object_store::path::Path>> {
        let now = SystemTime::now();
        let old = |written| now.duration_since(written).unwrap_or_default() >= older_than;
        let reports = self.store.reports(name).await?.into_iter();
        Ok(reports
            .filter(|(_, written)| old(*written))
            .map(|(key, _)| key)
            .collect())
    }
}
