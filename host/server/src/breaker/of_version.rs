//! A loaded version's breaker: made as its manifest says, its changes told to the log and the metrics.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use aegis_registry::{ModelName, Version, manifest};
use aegis_telemetry::{CircuitState, VersionMetrics};

use super::{Breaker, Kept, Policy, PolicyError, Why};

/// The breaker that a version's manifest asks for, if it does not do without; it goes on where the version's last one was
/// when that was unloaded. To be called within a tokio runtime.
pub(crate) fn of_version(
    wishes: &manifest::Breaker,
    name: &ModelName,
    version: Version,
    metrics: &Arc<VersionMetrics>,
    kept: &Kept,
) -> Result<Option<Arc<Breaker>>, PolicyError> {
    if wishes.enabled == Some(false) {
        return Ok(None);
    }
    let policy = Policy::new(wishes)?;
    let (name, metrics) = (name.clone(), Arc::clone(metrics));
    let before = kept.of(&name, version);
    let was_open = AtomicBool::new(false);
    // That it is open still was counted when it opened.
    let is_known = AtomicBool::new(before.is_some());
    let breaker = Breaker::new(policy, before, move |state, why| {
        match is_known.swap(false, Ordering::Relaxed) {
            true => metrics.circuit_still(state),
            false => metrics.circuit(state),
        }
        let was_open = was_open.swap(state != CircuitState::Closed, Ordering::Relaxed);
        if was_open || state != CircuitState::Closed {
            tell(&name, version, state, why);
        }
    });
    Ok(Some(breaker))
}

fn tell(name: &ModelName, version: Version, state: CircuitState, why: Option<&Why>) {
    let (version, circuit) = (version.get(), state.name());
    match (state, why) {
        (CircuitState::Open, Some(why)) => tracing::warn!(
            model = %name,
            version,
            circuit,
            "circuit breaker open, requests go to another version where one can answer: {why}"
        ),
        (CircuitState::Closed, _) => {
            tracing::info!(model = %name, version, circuit, "circuit breaker closed: the version is well again");
        }
        _ => {
            tracing::info!(model = %name, version, circuit, "circuit breaker half open: a request probes the version")
        }
    }
}
