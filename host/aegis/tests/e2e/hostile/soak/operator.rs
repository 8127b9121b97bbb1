//! Somebody who uploads versions of a model, has them answer, and deletes those before; and
//! who uploads now and then what is refused.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::asks::scale_by;
use crate::harness::{Package, Server};

/// Between two swaps: a team that deploys in a panic, and enough for the load to see each
/// version.
const PERIOD: Duration = Duration::from_millis(1500);

/// Every so many swaps something is uploaded that is refused.
const REFUSED_EVERY: usize = 4;

/// Versions that stay beside the one that answers: requests that were given one must end.
pub(super) const KEPT: usize = 2;

/// The model `live`, and what each of its versions multiplies by.
#[derive(Default)]
pub(super) struct Live {
    factors: Mutex<BTreeMap<u64, f32>>,
    pub(super) swaps: AtomicUsize,
    pub(super) refused: AtomicUsize,
    pub(super) deleted: AtomicUsize,
}

impl Live {
    pub(super) fn factor(&self, version: u64) -> Option<f32> {
        self.factors.lock().unwrap().get(&version).copied()
    }

    /// Uploads the next version; the first one answers at once.
    pub(super) async fn upload(&self, server: &Server) -> u64 {
        // Whole numbers, so that products are exact, and never the same content twice.
        let factor = 1 + self.factors.lock().unwrap().len();
        let network = scale_by(factor as f32);
        let package = Package::nn("live", &[])
            .graph("scale", "batching = { max_batch_size = 32 }\n", network)
            .and("[limits]\ntimeout_ms = 20000");
        let version = server.upload(&package).await.is(201).json();
        let version = version["version"].as_u64().unwrap();
        let before = self.factors.lock().unwrap().insert(version, factor as f32);
        assert_eq!(before, None, "a version's number is not given twice");
        version
    }

    /// Swaps until told to end.
    pub(super) async fn swap(&self, server: &Server, end: impl Fn() -> bool) {
        while !end() {
            tokio::time::sleep(PERIOD).await;
            let version = self.upload(server).await;
            server.promote("live", version).await.is(200);
            let swaps = 1 + self.swaps.fetch_add(1, Ordering::Relaxed);
            let old = {
                let factors = self.factors.lock().unwrap();
                factors.keys().rev().nth(KEPT + 1).copied()
            };
            if let Some(old) = old {
                let path = format!("/v1/models/live/versions/{old}");
                server.delete(&path).await.is(204);
                self.deleted.fetch_add(1, Ordering::Relaxed);
            }
            if swaps.is_multiple_of(REFUSED_EVERY) {
                let broken = Package::nn("live", &[]).graph("scale", "", b"no network".to_vec());
                server.upload(&broken).await.is(422);
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
