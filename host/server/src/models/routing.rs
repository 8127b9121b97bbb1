//! Requests go to versions by the model's traffic rule, and the rule is changed beside them.

use std::{sync::Arc, time::Instant};

use aegis_registry::{ModelName, RegistryError, Traffic, TrafficEdit, Version};
use aegis_telemetry::{UnloadReason, in_this_trace};

use super::{Entry, Models, ModelsError, RETRY_LOAD};
use crate::{
    load::PackageLoadError,
    traffic::{Part, Rule},
    version::LoadedVersion,
};

/// Where a request goes.
pub(crate) struct Routed {
    pub(crate) version: Arc<LoadedVersion>,
    pub(crate) part: Part,
    /// Who gets a copy of it.
    pub(crate) shadow: Option<Arc<LoadedVersion>>,
}

impl Models {
    /// Where a request for `name`, or for a certain `version` of it, goes; `key` is what the caller is known by. Versions
    /// are loaded if need be. Loading goes on when the request's time runs out or its caller goes away: the next one
    /// finds it done.
    pub(crate) async fn route(
        &self,
        name: &ModelName,
        version: Option<Version>,
        key: &[u8],
        deadline: Instant,
    ) -> Result<Routed, ModelsError> {
        let entry = self.inner.entries.read().get(name).cloned();
        let entry = entry.ok_or_else(|| RegistryError::ModelNotFound { name: name.clone() })?;
        if let Some(version) = version {
            return Ok(Routed {
                version: self.ready(&entry, version, deadline).await?,
                part: Part::Named,
                shadow: None,
            });
        }
        let rule = entry.state.read().rule;
        let shadow = rule
            .shadow(name, key)
            .and_then(|version| entry.state.read().find(version));
        let mut line = rule.line(name, key).peekable();
        while let Some((part, version)) = line.next() {
            match self.ready(&entry, version, deadline).await {
                Ok(version) => {
                    return Ok(Routed {
                        version,
                        part,
                        shadow,
                    });
                }
                Err(error) if line.peek().is_none() => return Err(error),
                // The next in line answers; why this one does not is in the log.
                Err(_) => {}
            }
        }
        Err(ModelsError::NoStableVersion { name: name.clone() })
    }

    /// A version that can answer, loaded if it was not.
    async fn ready(
        &self,
        entry: &Arc<Entry>,
        version: Version,
        deadline: Instant,
    ) -> Result<Arc<LoadedVersion>, ModelsError> {
        {
            let state = entry.state.read();
            if let Some(loaded) = state.find(version) {
                loaded.last_use.note();
                return Ok(loaded);
            }
            if let Some(failure) = &state.failure
                && failure.version == version
                && failure.at.elapsed() < RETRY_LOAD
            {
                return Err(ModelsError::NotLoaded {
                    name: entry.name.clone(),
                    version,
                    message: failure.message.clone(),
                    code: failure.code,
                });
            }
        }
        let (models, of) = (self.clone(), Arc::clone(entry));
        let load = async move { models.load(&of, version).await };
        let loading = tokio::spawn(in_this_trace(load));
        match tokio::time::timeout_at(deadline.into(), loading).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => {
                Err(PackageLoadError::Host(format!("the task of a load failed: {error}")).into())
            }
            Err(_) => Err(ModelsError::StillLoading {
                name: entry.name.clone(),
            }),
        }
    }

    /// Changes a model's traffic rule: versions that get a part are loaded first, then the rule is stored, then requests
    /// go by it. Those in flight end where they began.
    pub async fn change_traffic(
        &self,
        name: &ModelName,
        edit: TrafficEdit,
        who: Option<&str>,
    ) -> Result<Traffic, ModelsError> {
        for version in edit.versions() {
            // The registry knows whether there is such a version; entries follow it.
            self.inner.registry.version(name, version).await?;
            self.load(&self.entry_or_new(name), version).await?;
        }
        let registry = &self.inner.registry;
        self.changing(name, async || registry.edit(name, edit, who).await)
            .await
    }

    /// Makes the version stable again that was before the present one; any canary's trial ends.
    pub async fn rollback(
        &self,
        name: &ModelName,
        who: Option<&str>,
    ) -> Result<Traffic, ModelsError> {
        let registry = &self.inner.registry;
        if let Some(before) = registry.traffic(name).await?.stable_before() {
            self.load(&self.entry_or_new(name), before).await?;
        }
        self.changing(name, async || registry.rollback(name, who).await)
            .await
    }

    /// Makes `version` the one that answers.
    pub async fn promote(
        &self,
        name: &ModelName,
        version: Version,
        who: Option<&str>,
    ) -> Result<(), ModelsError> {
        let mut edit = TrafficEdit::default();
        edit.stable = Some(version);
        self.change_traffic(name, edit, who).await.map(drop)
    }

    /// Stores a change of the rule, and has requests go by it.
    async fn changing(
        &self,
        name: &ModelName,
        change: impl AsyncFnOnce() -> Result<Traffic, RegistryError>,
    ) -> Result<Traffic, ModelsError> {
        let entry = self.inner.entries.read().get(name).cloned();
        let Some(entry) = entry else {
            // Only the registry knows of it, or nobody.
            return Ok(change().await?);
        };
        let _changing = entry.changing.lock().await;
        let traffic = change().await?;
        self.let_go(entry.obey(Rule::from(&traffic)), UnloadReason::Replaced);
        Ok(traffic)
    }
}
