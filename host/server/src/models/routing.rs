//! Requests go to versions by the model's traffic rule, and the rule is changed beside them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_registry::{ModelName, RegistryError, Traffic, TrafficEdit, Version};
use aegis_telemetry::{CircuitState, Outcome, UnloadReason, in_this_trace};

use super::{Entry, Models, ModelsError, RETRY_LOAD};
use crate::{
    breaker::{Breaker, Open, Passage},
    load::PackageLoadError,
    traffic::{NobodyAnswers, Part, Passed},
    version::LoadedVersion,
};

/// Where a request goes.
pub(crate) struct Routed {
    pub(crate) version: Arc<LoadedVersion>,
    pub(crate) part: Part,
    /// Who gets a copy of it.
    pub(crate) shadow: Option<Arc<LoadedVersion>>,
    /// The breakers that were not closed, of those in line up to this version.
    pub(crate) circuits: Vec<(Version, CircuitState)>,
    /// Who may run it again if this version fails it.
    behind: Vec<Version>,
    way: Way,
}

/// What a version's breaker has to say about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// All of it.
    Asked,
    /// It may take the request for a probe, not refuse it: nobody else answers.
    LastResort,
    /// Nothing: the caller named the version. Who does may be trying out what is wrong with it, so that neither is it
    /// held against the version.
    Named,
}

impl Routed {
    /// Leave to go to the version, without which it goes uncounted. To be asked for when nothing but the version itself
    /// keeps the request any more, as this may be the probe that all others wait for.
    pub(crate) fn admit(&mut self) -> Result<Option<Passage>, Open> {
        let Some(breaker) = self.version.breaker.as_ref() else {
            return Ok(None);
        };
        let passage = match self.way {
            Way::Named => return Ok(None),
            Way::Asked => Some(breaker.admit()?),
            Way::LastResort => breaker.admit().ok(),
        };
        let stands = match &passage {
            Some(passage) if passage.is_probe() => CircuitState::HalfOpen,
            Some(_) => return Ok(passage),
            None => breaker.state(),
        };
        self.circuits.push((self.version.version, stands));
        Ok(passage)
    }

    /// What a caller is told who was not admitted and has nowhere else to go.
    pub(crate) fn refusal(&self, open: Open) -> ModelsError {
        refused(NobodyAnswers {
            version: Arc::clone(&self.version),
            retry_after: open.retry_after,
        })
    }
}

impl Models {
    /// Where a request for `name`, or for a certain `version` of it, goes; `key` is what the caller is known by. Versions
    /// are loaded if need be, looked for in the store if they are not known, and passed by while their breakers are open. Loading goes on when the request's time runs
    /// out or its caller goes away: the next one finds it done.
    pub(crate) async fn route(
        &self,
        name: &ModelName,
        version: Option<Version>,
        key: &[u8],
        deadline: Instant,
    ) -> Result<Routed, ModelsError> {
        let known = || self.inner.entries.read().get(name).cloned();
        let entry = match known() {
            Some(entry) => entry,
            None => {
                self.look(deadline).await;
                known().ok_or_else(|| RegistryError::ModelNotFound { name: name.clone() })?
            }
        };
        if let Some(version) = version {
            let unknown = || !entry.knows(version);
            if unknown() && self.look(deadline).await && unknown() {
                let name = name.clone();
                return Err(RegistryError::VersionNotFound { name, version }.into());
            }
            return Ok(Routed {
                version: self.ready(&entry, version, deadline).await?,
                part: Part::Named,
                shadow: None,
                circuits: Vec::new(),
                behind: Vec::new(),
                way: Way::Named,
            });
        }
        let mut rule = entry.state.read().rule;
        if rule.stable.is_none() && self.look(deadline).await {
            rule = entry.state.read().rule;
        }
        let shadow = rule
            .shadow(name, key)
            .and_then(|version| entry.state.read().find(version));
        let routed = |(part, version), circuits, behind, way| Routed {
            version,
            part,
            shadow,
            circuits,
            behind,
            way,
        };
        let (mut passed, mut circuits) = (Passed::default(), Vec::new());
        let mut failed = None;
        let mut line = rule.line(name, key);
        while let Some((part, version)) = line.next() {
            match self.ready(&entry, version, deadline).await {
                Ok(version) => {
                    let Some((breaker, open)) = shut(&version) else {
                        let behind = line.filter(|_| version.idempotent);
                        let behind = behind.map(|(_, behind)| behind).collect();
                        return Ok(routed((part, version), circuits, behind, Way::Asked));
                    };
                    circuits.push((version.version, breaker.state()));
                    passed.note(part, Arc::clone(&version), breaker, open);
                }
                // The next in line answers; why this one does not is in the log.
                Err(error) => failed = Some(error),
            }
        }
        match (passed.last_resort(), failed) {
            (Some(Ok((part, version))), _) => {
                // It says again how it stands when the request goes in.
                circuits.retain(|(number, _)| *number != version.version);
                Ok(routed(
                    (part, version),
                    circuits,
                    Vec::new(),
                    Way::LastResort,
                ))
            }
            (Some(Err(nobody)), _) => Err(refused(nobody)),
            (None, Some(error)) => Err(error),
            (None, None) => Err(ModelsError::NoStableVersion { name: name.clone() }),
        }
    }

    /// Has the store looked at for what is not known here; whether it was.
    async fn look(&self, deadline: Instant) -> bool {
        self.inner.store.looks.fresh(deadline.into()).await
    }

    /// Who runs a request again that a version failed, and its leave to: the first behind that version that is ready and
    /// lets it in. Nobody where the version's manifest does not say that this is safe.
    pub(crate) async fn stand_in(
        &self,
        failed: &Routed,
        deadline: Instant,
    ) -> Option<(Routed, Option<Passage>)> {
        if failed.behind.is_empty() {
            return None;
        }
        let entry = self
            .inner
            .entries
            .read()
            .get(&failed.version.name)
            .cloned()?;
        for version in &failed.behind {
            let Ok(version) = self.ready(&entry, *version, deadline).await else {
                continue;
            };
            let mut stand_in = Routed {
                version,
                part: Part::Fallback,
                shadow: None,
                circuits: failed.circuits.clone(),
                behind: Vec::new(),
                way: Way::Asked,
            };
            if let Ok(passage) = stand_in.admit() {
                return Some((stand_in, passage));
            }
        }
        None
    }

    /// A version that can answer, loaded if it was not.
    pub(super) async fn ready(
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
            if let Some(failure) = state.failed_lately(version, RETRY_LOAD) {
                return Err(failure.error(&entry.name));
            }
        }
        let (models, of) = (self.clone(), Arc::clone(entry));
        let load = async move { models.load(&of, version).await };
        let loading = tokio::spawn(in_this_trace(load));
        match tokio::time::timeout_at(deadline.into(), loading).await {
            // To manage such a version is a conflict; to ask it, a state of the server.
            Ok(Ok(Err(ModelsError::Registry(error @ RegistryError::UntrustedVersion { .. })))) => {
                Err(ModelsError::NotLoaded {
                    name: entry.name.clone(),
                    version,
                    message: error.to_string(),
                    code: error.code(),
                })
            }
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
    pub(super) async fn changing(
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
        self.let_go(entry.obey(&traffic), UnloadReason::Replaced);
        self.inner.store.note_change();
        Ok(traffic)
    }
}

/// The breaker of a version that does not let a request in, and until when.
fn shut(version: &LoadedVersion) -> Option<(&Breaker, Open)> {
    let breaker = version.breaker.as_deref()?;
    breaker.lets_in().err().map(|open| (breaker, open))
}

/// Nobody answers: counted where it would have gone.
fn refused(nobody: NobodyAnswers<Arc<LoadedVersion>>) -> ModelsError {
    let NobodyAnswers {
        version,
        retry_after,
    } = nobody;
    version.metrics.request(Outcome::Rejected, Duration::ZERO);
    let why = version
        .breaker
        .as_ref()
        .and_then(|breaker| breaker.status().why);
    ModelsError::CircuitOpen {
        name: version.name.clone(),
        version: version.version,
        why: why.map_or_else(|| "it is being probed".to_owned(), |why| why.to_string()),
        retry_after,
    }
}
