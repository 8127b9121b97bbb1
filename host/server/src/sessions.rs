//! Which store of sessions a version has: its own, from when it is first loaded until it is
//! deleted. What one version kept no other reads, as only its own code knows what it means: a
//! promotion begins every session anew, and a way back finds what was left, if its time is
//! not up. A version that is unloaded for want of memory keeps its sessions.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use aegis_registry::{ModelName, Version};
use aegis_sandbox::{LetGo, Sandbox, SessionBounds, SessionStore};
use aegis_telemetry::{SessionEviction, SessionMetrics, Telemetry};
use parking_lot::Mutex;

/// The stores of all versions. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Sessions {
    stores: Arc<Mutex<HashMap<(ModelName, Version), OfVersion>>>,
}

struct OfVersion {
    store: Arc<SessionStore>,
    /// There once it is known that the version's handler keeps sessions.
    metrics: Arc<OnceLock<SessionMetrics>>,
}

impl Sessions {
    /// The store of a version, which is new unless the version was loaded before.
    pub(crate) fn of(
        &self,
        sandbox: &Sandbox,
        name: &ModelName,
        version: Version,
        bounds: SessionBounds,
    ) -> Arc<SessionStore> {
        let mut stores = self.stores.lock();
        // Of versions that are not loaded, those that hold nothing are nothing.
        stores.retain(|_, of| Arc::strong_count(&of.store) > 1 || of.store.size().0 > 0);
        let of = stores.entry((name.clone(), version)).or_insert_with(|| {
            let metrics = Arc::new(OnceLock::new());
            let told = Arc::clone(&metrics);
            OfVersion {
                store: sandbox.session_store(bounds, move |gone| count(&told, gone)),
                metrics,
            }
        });
        Arc::clone(&of.store)
    }

    /// Tells of a version's sessions from here on, at zero from the start.
    pub(crate) fn watch(&self, telemetry: &Telemetry, name: &ModelName, version: Version) {
        let stores = self.stores.lock();
        let Some(of) = stores.get(&(name.clone(), version)) else {
            return;
        };
        of.metrics.get_or_init(|| {
            let store = Arc::downgrade(&of.store);
            let read = move || {
                let size = store.upgrade().map(|store| store.size());
                let (sessions, bytes) = size.unwrap_or_default();
                (sessions as u64, bytes as u64)
            };
            let inference = telemetry.inference();
            inference.sessions(name.as_str(), version.get(), read)
        });
    }

    /// Lets go of what a version kept, or all versions of a model: they are deleted.
    pub(crate) fn forget(&self, name: &ModelName, version: Option<Version>) {
        let gone: Vec<_> = {
            let mut stores = self.stores.lock();
            let deleted = |of: &(ModelName, Version)| {
                of.0 == *name && version.is_none_or(|version| version == of.1)
            };
            stores.extract_if(|of, _| deleted(of)).collect()
        };
        drop(gone);
    }
}

/// Counts what a store let go.
fn count(metrics: &OnceLock<SessionMetrics>, gone: LetGo) {
    let Some(metrics) = metrics.get() else {
        return;
    };
    for (reason, sessions) in [
        (SessionEviction::Expired, gone.expired),
        (SessionEviction::Sessions, gone.sessions),
        (SessionEviction::Bytes, gone.bytes),
    ] {
        if sessions > 0 {
            metrics.evicted(reason, sessions);
        }
    }
}
