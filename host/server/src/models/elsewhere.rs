//! What others changed in the store is made to hold here.

use std::{sync::Arc, time::Duration};

use aegis_registry::{ErrorKind, ModelName, RegistryError, Traffic};
use aegis_telemetry::UnloadReason;

use super::{Entry, Models, ModelsError};
use crate::{
    follow::{StoreStatus, follow},
    traffic::Rule,
};

/// How long after a version that was promoted elsewhere did not load here it is tried again. What
/// was stable before goes on serving.
const RETRY_CHANGE: Duration = Duration::from_secs(60);

impl Models {
    /// Follows for ever what others change in the store.
    pub(crate) async fn follow(&self, interval: Duration) {
        let (registry, store) = (self.inner.registry.clone(), Arc::clone(&self.inner.store));
        follow(registry, self.clone(), store, interval).await;
    }

    /// How the store is, as far as is known.
    pub fn store_status(&self) -> StoreStatus {
        self.inner.store.status()
    }

    /// Makes what the store says of a model hold here: its versions are loaded, then requests go by its rule; what was
    /// deleted goes. What is right already stays as it is.
    pub(crate) async fn catch_up(&self, name: &ModelName) -> Result<(), ModelsError> {
        loop {
            let model = match self.inner.registry.model(name).await {
                Ok(model) => model,
                Err(RegistryError::ModelNotFound { .. }) => {
                    self.forget(name).await;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            let entry = self.entry_or_new(name);
            let rule = Rule::from(&model.traffic);
            let just_met = std::mem::take(&mut entry.state.write().just_met);
            if self.is_new(&entry, &model.traffic).await || just_met {
                self.load_parts(&entry, rule).await?;
            }
            if !entry.state.read().is_as(&model.traffic) {
                if entry.state.read().rule != rule {
                    self.load_parts(&entry, rule).await?;
                }
                let _changing = entry.changing.lock().await;
                // Whoever changed it meanwhile, here or elsewhere, came later.
                let now = self.inner.registry.traffic(name).await?;
                if Rule::from(&now) != rule {
                    continue;
                }
                if entry.state.read().rule != rule {
                    tracing::info!(model = %name, "the traffic rule was changed elsewhere");
                }
                self.let_go(entry.obey(&now), UnloadReason::Replaced);
            }
            let there: Vec<_> = model.versions.iter().map(|record| record.version).collect();
            for version in entry.missing(&there) {
                // One that was uploaded after the others were listed is not gone.
                let found = self.inner.registry.version(name, version).await;
                if found.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                    self.let_go(entry.unload(version), UnloadReason::Deleted);
                    self.inner.loader.forget(name, Some(version));
                }
            }
            entry.learn(there);
            return Ok(());
        }
    }

    /// Takes in what the store has of a model, without loading it: who asks for it from here on need not wait for what
    /// else has changed. The rest is [`Models::catch_up`]'s, which also tells what does not go well.
    pub(crate) async fn meet(&self, name: &ModelName) {
        let Ok(model) = self.inner.registry.model(name).await else {
            return;
        };
        let entry = self.entry_or_new(name);
        entry.learn(model.versions.iter().map(|record| record.version));
        let may_be_new = entry.state.read().rule == Rule::default();
        if may_be_new && self.is_new(&entry, &model.traffic).await {
            entry.state.write().just_met = true;
        }
    }

    /// Whether a model has not been known here until now. From here on who asks for it waits until it is loaded.
    async fn is_new(&self, entry: &Entry, traffic: &Traffic) -> bool {
        let _changing = entry.changing.lock().await;
        let is_new = entry.state.read().rule == Rule::default();
        if is_new {
            self.let_go(entry.obey(traffic), UnloadReason::Replaced);
        }
        is_new
    }

    /// Loads the versions that have a part in a rule which was made elsewhere. Without its stable version the rule
    /// cannot hold; without another, requests pass by it.
    async fn load_parts(&self, entry: &Arc<Entry>, rule: Rule) -> Result<(), ModelsError> {
        // What nobody has asked for here is loaded when somebody does, if so configured.
        let wanted = self.inner.prewarm || !entry.state.read().loaded.is_empty();
        if !wanted {
            return Ok(());
        }
        for version in rule.versions() {
            let loaded = match entry.state.read().failed_lately(version, RETRY_CHANGE) {
                Some(failure) => Err(failure.error(&entry.name)),
                None => Ok(()),
            };
            let loaded = match loaded {
                Ok(()) => self.load(entry, version).await.map(drop),
                Err(error) => Err(error),
            };
            if rule.stable == Some(version) {
                loaded?;
            }
        }
        Ok(())
    }

    /// Lets go of a model that is no more.
    pub(super) async fn forget(&self, name: &ModelName) {
        let entry = self.inner.entries.write().remove(name);
        if let Some(entry) = entry {
            let _changing = entry.changing.lock().await;
            let gone = std::mem::take(&mut entry.state.write().loaded);
            self.let_go(gone, UnloadReason::Deleted);
        }
        self.inner.loader.forget(name, None);
    }
}
