//! The pure-Rust engine that is compiled in: serves where nothing is installed.

use super::{Backend, Network};
use crate::graph::{BackendKind, GraphSpec};
use crate::runtime::BackendStatus;

/// The embedded engine.
pub(crate) struct Embedded;

impl Backend for Embedded {
    fn status(&self) -> BackendStatus {
        BackendStatus {
            kind: BackendKind::Embedded,
            available: false,
            version: None,
            detail: "not compiled in yet".to_owned(),
        }
    }

    fn open(&self, _spec: &GraphSpec) -> Result<Box<dyn Network>, String> {
        Err(self.status().detail)
    }
}
