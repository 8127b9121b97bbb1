//! Why a model does not answer or does not change.

use std::time::Duration;

use aegis_registry::{ErrorKind, ModelName, RegistryError, Version};
use thiserror::Error;

use crate::load::PackageLoadError;

/// Why a model does not answer or does not change.
#[derive(Debug, Error)]
pub enum ModelsError {
    /// The registry's word.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A package that does not work.
    #[error(transparent)]
    Package(#[from] PackageLoadError),
    /// The model is there and no version of it is stable.
    #[error("model `{name}` has no stable version; promote one, or ask for a version")]
    NoStableVersion {
        /// The model.
        name: ModelName,
    },
    /// The version did not load and it is too soon to try again.
    #[error("version {version} of model `{name}` is not loaded: {message}")]
    NotLoaded {
        /// The model.
        name: ModelName,
        /// The version.
        version: Version,
        /// Why it did not load.
        message: String,
        /// The code of that reason.
        code: &'static str,
    },
    /// The circuit breakers of all versions that might answer are open.
    #[error(
        "version {version} of model `{name}` gets no requests for now, and no other can answer: {why}; try again later"
    )]
    CircuitOpen {
        /// The model.
        name: ModelName,
        /// The version that is asked again first.
        version: Version,
        /// Why its breaker is open.
        why: String,
        /// When it is.
        retry_after: Duration,
    },
    /// The request's time ran out while the version was being loaded, which goes on.
    #[error(
        "model `{name}` was still being loaded when the request's time ran out; it is loaded for the next"
    )]
    StillLoading {
        /// The model.
        name: ModelName,
    },
}

impl ModelsError {
    /// The stable code of the error in HTTP answers.
    pub fn code(&self) -> &'static str {
        match self {
            ModelsError::Registry(error) => error.code(),
            ModelsError::Package(error) => error.code(),
            ModelsError::NoStableVersion { .. } => "no_stable_version",
            ModelsError::NotLoaded { .. } => "not_loaded",
            ModelsError::CircuitOpen { .. } => "circuit_open",
            ModelsError::StillLoading { .. } => "timeout",
        }
    }

    /// The version that should have answered, where that is known.
    pub(crate) fn version(&self) -> Option<Version> {
        match self {
            ModelsError::NotLoaded { version, .. } | ModelsError::CircuitOpen { version, .. } => {
                Some(*version)
            }
            ModelsError::Registry(_)
            | ModelsError::Package(_)
            | ModelsError::NoStableVersion { .. }
            | ModelsError::StillLoading { .. } => None,
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, ModelsError::Registry(error) if error.kind() == ErrorKind::NotFound)
    }
}
