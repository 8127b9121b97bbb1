//! What the driver of rollouts needs of the models: which there are, whose figures to compare, and the changes it makes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_registry::{ModelName, RegistryError, Rollout, RolloutReport};
use aegis_telemetry::{RolloutChange, UnloadReason};

use super::{Models, ModelsError};
use crate::version::LoadedVersion;

/// How long a version that is to be compared may take to load before the rollout is looked at again.
const LOAD: Duration = Duration::from_secs(10);

impl Models {
    /// The models whose canary goes on by itself.
    pub(crate) fn rollouts(&self) -> Vec<(ModelName, Rollout)> {
        let entries = self.inner.entries.read();
        let rollout = |(name, entry): (&ModelName, &Arc<super::Entry>)| {
            let rollout = entry.state.read().rollout.clone()?;
            Some((name.clone(), rollout))
        };
        entries.iter().filter_map(rollout).collect()
    }

    /// The stable version and the one that is rolled out. Versions are loaded if need be.
    ///
    /// # Errors
    /// [`ModelsError::NotLoaded`] names the version that does not load.
    pub(crate) async fn compared(
        &self,
        name: &ModelName,
        rollout: &Rollout,
    ) -> Result<(Arc<LoadedVersion>, Arc<LoadedVersion>), ModelsError> {
        let entry = self.inner.entries.read().get(name).cloned();
        let entry = entry.ok_or_else(|| RegistryError::ModelNotFound { name: name.clone() })?;
        let stable = entry.state.read().rule.stable;
        let stable = stable.ok_or_else(|| ModelsError::NoStableVersion { name: name.clone() })?;
        let deadline = Instant::now() + LOAD;
        let stable = self.ready(&entry, stable, deadline).await?;
        let canary = self.ready(&entry, rollout.plan.version, deadline).await?;
        Ok((stable, canary))
    }

    /// The rollout as the store has it, if `holder` is the one who drives it for the next `span`.
    pub(crate) async fn drive_rollout(
        &self,
        name: &ModelName,
        holder: &str,
        span: Duration,
    ) -> Result<Option<Rollout>, ModelsError> {
        let driven = self.inner.registry.drive_rollout(name, holder, span);
        let Some(traffic) = driven.await? else {
            return Ok(None);
        };
        let entry = self.inner.entries.read().get(name).cloned();
        if let Some(entry) = entry {
            self.let_go(entry.obey(&traffic), UnloadReason::Replaced);
        }
        Ok(traffic.rollout)
    }

    /// Moves a rollout on, if `holder` still drives it.
    pub(crate) async fn advance_rollout(
        &self,
        name: &ModelName,
        holder: &str,
        rollout: &Rollout,
    ) -> Result<(), ModelsError> {
        let (registry, step) = (&self.inner.registry, rollout.step);
        let mut moved = false;
        let advance = async || {
            let (traffic, done) = registry.advance_rollout(name, holder, step).await?;
            moved = done;
            Ok(traffic)
        };
        let traffic = self.changing(name, advance).await?;
        if !moved {
            return Ok(());
        }
        let canary = traffic.canary.map(|canary| canary.weight.percent());
        let stable = traffic.stable == Some(rollout.plan.version);
        let change = match traffic.rollout {
            Some(_) => RolloutChange::Advanced,
            None => RolloutChange::Ended,
        };
        tracing::info!(model = %name, version = %rollout.plan.version, percent = canary, stable, "the rollout goes on: its version is no worse than stable");
        self.note_rollout(name, change);
        Ok(())
    }

    /// Withdraws what was rolled out, if `holder` still drives it.
    pub(crate) async fn withdraw_rollout(
        &self,
        name: &ModelName,
        holder: &str,
        rollout: &Rollout,
        why: &str,
    ) -> Result<(), ModelsError> {
        let (registry, step) = (&self.inner.registry, rollout.step);
        let mut moved = false;
        let withdraw = async || {
            let withdrawn = registry.withdraw_rollout(name, holder, step, why);
            let (traffic, done) = withdrawn.await?;
            moved = done;
            Ok(traffic)
        };
        self.changing(name, withdraw).await?;
        if !moved {
            return Ok(());
        }
        tracing::error!(model = %name, version = %rollout.plan.version, step, why, "the canary is withdrawn");
        self.note_rollout(name, RolloutChange::Withdrawn);
        Ok(())
    }

    /// Tells the other replicas what was seen of a rollout here.
    pub(crate) async fn report_rollout(
        &self,
        name: &ModelName,
        report: &RolloutReport,
    ) -> Result<(), ModelsError> {
        Ok(self.inner.registry.report_rollout(name, report).await?)
    }

    /// What all replicas have told of the step that a rollout is at.
    pub(crate) async fn rollout_reports(
        &self,
        name: &ModelName,
        rollout: &Rollout,
    ) -> Result<Vec<RolloutReport>, ModelsError> {
        Ok(self.inner.registry.rollout_reports(name, rollout).await?)
    }

    /// A rollout is over: what was told of it is not needed any more. What cannot be removed now is collected later.
    pub(crate) async fn forget_rollout_reports(&self, name: &ModelName) {
        if let Err(error) = self.inner.registry.forget_rollout_reports(name).await {
            tracing::debug!(model = %name, %error, "reports of a rollout stay for now");
        }
    }

    fn note_rollout(&self, name: &ModelName, change: RolloutChange) {
        let metrics = self.inner.loader.telemetry.inference();
        metrics.rollout_changed(name.as_str(), change);
    }
}
