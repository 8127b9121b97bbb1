//! Following the store that a fleet shares: what another replica uploads, promotes or deletes holds
//! here within the poll interval. A store that is away changes nothing of what is loaded; that it is
//! away shows in `/health` and in the metrics.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use aegis_registry::{Follower, ModelName, Registry, RegistryError};
use aegis_telemetry::GaugeHandle;
use parking_lot::RwLock;
use serde::Serialize;
use tokio::sync::Notify;

use crate::{
    looks::Looks,
    models::{Models, ModelsError},
};

/// How the store is, as far as is known.
#[derive(Default)]
pub(crate) struct StoreWatch {
    away: RwLock<Option<Away>>,
    /// Rung after a change that was made here: what came with it is wanted at once.
    changed_here: Notify,
    /// The looks that requests wait for.
    pub(crate) looks: Looks,
    /// The series of `aegis_store_reachable`.
    pub(crate) series: OnceLock<GaugeHandle>,
}

#[derive(Clone)]
struct Away {
    since: SystemTime,
    error: String,
}

/// How the store is, for `/health`.
#[derive(Clone, Debug, Serialize)]
pub struct StoreStatus {
    /// Whether it answered when it was last asked.
    pub reachable: bool,
    /// For how long it has not, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_s: Option<u64>,
    /// What it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl StoreWatch {
    pub(crate) fn status(&self) -> StoreStatus {
        let away = self.away.read().clone();
        let since = |since: SystemTime| since.elapsed().unwrap_or_default().as_secs();
        StoreStatus {
            reachable: away.is_none(),
            away_s: away.as_ref().map(|away| since(away.since)),
            error: away.map(|away| away.error),
        }
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.away.read().is_none()
    }

    /// Asks for a look now.
    pub(crate) fn note_change(&self) {
        self.changed_here.notify_one();
    }

    fn answered(&self) {
        if self.away.write().take().is_some() {
            tracing::info!("the store answers again");
        }
    }

    fn failed(&self, error: &RegistryError) {
        let mut away = self.away.write();
        let error = error.to_string();
        match &mut *away {
            Some(away) => away.error = error,
            None => {
                tracing::error!(%error, "the store does not answer; what is loaded goes on serving");
                let since = SystemTime::now();
                *away = Some(Away { since, error });
            }
        }
    }
}

/// Follows the store for ever.
pub(crate) async fn follow(
    registry: Registry,
    models: Models,
    watch: Arc<StoreWatch>,
    interval: Duration,
) {
    let mut follower = Follower::new(registry);
    watch.looks.follow();
    loop {
        let pause = tokio::time::sleep(jittered(interval));
        tokio::select! {
            () = pause => {}
            () = watch.changed_here.notified() => {}
            () = watch.looks.asked() => {}
        }
        let look = watch.looks.begin();
        // What is there at the start is loaded by the start.
        if !models.started() {
            continue;
        }
        match follower.look().await {
            Ok(changed) => {
                watch.answered();
                if watch.looks.are_wanted() {
                    // Loading takes its time, which those who ask for others need not wait for.
                    for name in &changed {
                        models.meet(name).await;
                    }
                }
                look.end();
                for name in changed {
                    catch_up(&models, &mut follower, &name).await;
                }
            }
            Err(error) => watch.failed(&error),
        }
    }
}

async fn catch_up(models: &Models, follower: &mut Follower, name: &ModelName) {
    match models.catch_up(name).await {
        Ok(()) => {}
        // Said when it was tried; it is too soon to try again.
        Err(ModelsError::NotLoaded { .. }) => follower.forget(name),
        Err(error) => {
            tracing::warn!(model = %name, %error, "a change made elsewhere does not hold here yet; it is tried again");
            follower.forget(name);
        }
    }
}

/// Between four and six fifths of the interval: a fleet that was started together does not ask
/// together.
fn jittered(interval: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness, without jitter.
    let share = match getrandom::fill(&mut random) {
        Ok(()) => f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX),
        Err(_) => 0.5,
    };
    interval.mul_f64(0.8 + 0.4 * share)
}
