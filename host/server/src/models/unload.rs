//! Letting go of versions: those that the memory budget has no room for, those that no rule names any more, and their
//! memory.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aegis_telemetry::UnloadReason;
use tokio::runtime::Handle;

use super::Models;
use crate::version::LoadedVersion;

/// How long after finding everything in use that is over the memory budget it is looked at
/// again: requests are over by then, most of them.
const TRIM_AGAIN: Duration = Duration::from_millis(100);

/// How long after a version is let go memory is given back once more. By then the requests that held it are over,
/// and so is the upload that took its place, which left more behind.
const GIVE_BACK_AGAIN: Duration = Duration::from_secs(1);

impl Models {
    /// Unloads the least recently used versions while all together are over the memory budget.
    /// One that a request holds stays, and so does the one just loaded, for its caller: they
    /// are looked at again.
    pub(super) fn make_room(&self) {
        if self.within_budget() || self.inner.trimming.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TRIM_AGAIN).await;
                let Some(inner) = inner.upgrade() else {
                    return;
                };
                let models = Models { inner };
                if models.within_budget() {
                    models.inner.trimming.store(false, Ordering::Release);
                    return;
                }
            }
        });
    }

    /// Unloads what can be spared, and says whether that is enough.
    fn within_budget(&self) -> bool {
        let mut gone = Vec::new();
        let enough = self.inner.residency.make_room(
            || self.inner.candidates(),
            |(entry, version)| {
                let given_up = entry.give_up(version);
                let done = given_up.is_some();
                gone.extend(given_up);
                done
            },
        );
        self.let_go(gone, UnloadReason::Budget);
        enough
    }

    /// Counts versions that were unloaded and drops them: on a thread of their own, as native
    /// libraries take their time. Those that requests hold live until these end.
    pub(super) fn let_go(&self, gone: Vec<Arc<LoadedVersion>>, reason: UnloadReason) {
        if gone.is_empty() {
            return;
        }
        for version in &gone {
            if let Some(breaker) = &version.breaker {
                let kept = &self.inner.loader.breakers;
                kept.keep(&version.name, version.version, breaker);
            }
            version.metrics.loaded(false);
            self.inner.loader.telemetry.inference().unloaded(reason);
            tracing::info!(
                model = %version.name,
                version = version.version.get(),
                %reason,
                "version unloaded"
            );
        }
        let Ok(runtime) = Handle::try_current() else {
            drop(gone);
            return;
        };
        let give_back = self.inner.give_back;
        runtime.spawn_blocking(move || {
            drop(gone);
            // Here, as an allocator may keep a part for the thread that freed it.
            if let Some(give_back) = give_back {
                give_back();
            }
        });
        self.give_back_again(&runtime);
    }

    /// However many versions are let go meanwhile, once.
    fn give_back_again(&self, runtime: &Handle) {
        let Some(give_back) = self.inner.give_back else {
            return;
        };
        if self.inner.giving_back.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::downgrade(&self.inner);
        runtime.spawn(async move {
            tokio::time::sleep(GIVE_BACK_AGAIN).await;
            if let Some(inner) = inner.upgrade() {
                inner.giving_back.store(false, Ordering::Release);
                tokio::task::spawn_blocking(give_back);
            }
        });
    }
}
