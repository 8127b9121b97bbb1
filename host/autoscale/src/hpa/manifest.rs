//! From the text of an `autoscaling/v2` manifest to a checked [`Hpa`]: unknown keys are refused,
//! what Kubernetes' API server refuses is refused, and what it fills in is filled in
//! (`pkg/apis/autoscaling/validation` and `pkg/apis/autoscaling/v2/defaults.go`).

mod check;
mod shape;

use super::spec::Hpa;

/// The longest `periodSeconds` Kubernetes takes.
pub const MAX_PERIOD_SECONDS: i32 = 1800;
/// The longest `stabilizationWindowSeconds` Kubernetes takes.
pub const MAX_WINDOW_SECONDS: i32 = 3600;
/// The controller's `--horizontal-pod-autoscaler-downscale-stabilization`, in seconds.
pub const DOWNSCALE_STABILIZATION_SECONDS: i32 = 300;

/// Why a manifest is no HPA that Kubernetes would take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no YAML, or has a key or a type that an HPA does not have.
    #[error("the manifest cannot be read: {0}")]
    Yaml(String),
    /// A field has a value that Kubernetes refuses.
    #[error("{field}: {reason}")]
    Field {
        /// The field's path, as Kubernetes writes it.
        field: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl Hpa {
    /// Reads one manifest.
    ///
    /// # Errors
    /// With the place in the text where it is no HPA, or the field Kubernetes would refuse.
    pub fn from_yaml(text: &str) -> Result<Self, ManifestError> {
        let manifest: shape::Manifest = serde_saphyr::from_str(text)
            .map_err(|error| ManifestError::Yaml(error.without_snippet().to_string()))?;
        manifest.check()
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
