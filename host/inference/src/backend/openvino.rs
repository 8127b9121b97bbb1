//! OpenVINO.

use std::path::PathBuf;

use super::{Backend, Network};
use crate::graph::{BackendKind, GraphSpec};
use crate::runtime::BackendStatus;

/// OpenVINO.
pub(crate) struct OpenVino {}

impl OpenVino {
    pub(crate) fn new(_explicit: Option<PathBuf>, _search: Vec<PathBuf>) -> Self {
        Self {}
    }
}

impl Backend for OpenVino {
    fn status(&self) -> BackendStatus {
        BackendStatus {
            kind: BackendKind::OpenVino,
            available: false,
            version: None,
            detail: "not compiled in yet".to_owned(),
        }
    }

    fn open(&self, _spec: &GraphSpec) -> Result<Box<dyn Network>, String> {
        Err(self.status().detail)
    }
}
