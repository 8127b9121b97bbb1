//! The comparison `aegis simulate` makes unless told otherwise: the seeds' two scenarios and a day,
//! under CPU alone and under the SLO.

use super::{Report, Scenario};
use crate::{
    hpa::{Hpa, ManifestError},
    render::{RenderError, hpa_manifest},
    simulate::{Config, ConfigError, Profile, simulate},
    slo::Slo,
};

/// The manifest before: CPU at 70 %.
const BEFORE: &str = include_str!("../../hpa/before.yaml");

/// Why the HPA of an SLO cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum HpaOfSloError {
    /// It cannot be rendered.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// What is rendered is no HPA that Kubernetes would take.
    #[error("what the SLO renders is no HPA: {0}")]
    Manifest(#[from] ManifestError),
}

/// The HPA that `aegis slo render` makes of an SLO, read back from the very bytes that are applied.
///
/// # Errors
/// Where it cannot be rendered, or Kubernetes would refuse it.
pub fn hpa_of(slo: &Slo) -> Result<Hpa, HpaOfSloError> {
    Ok(Hpa::from_yaml(&hpa_manifest(slo)?.text)?)
}

/// What is compared unless told otherwise, by name: CPU alone, and the SLO's HPA.
///
/// # Errors
/// As [`hpa_of`].
pub fn hpas(slo: &Slo) -> Result<Vec<(String, Hpa)>, HpaOfSloError> {
    Ok(vec![
        ("before".to_owned(), Hpa::from_yaml(BEFORE)?),
        ("after".to_owned(), hpa_of(slo)?),
    ])
}

/// The profiles by their titles: the seeds' scenarios, and the day whose summary is their table of
/// success metrics.
pub fn standard_profiles() -> Vec<(String, Profile)> {
    vec![
        ("Scenario 1: gradual".to_owned(), Profile::gradual()),
        ("Scenario 2: surge".to_owned(), Profile::surge()),
        ("A day".to_owned(), Profile::day()),
    ]
}

/// Every profile under every HPA, beside the targets of an SLO.
///
/// # Errors
/// If the configuration makes no sense, or a manifest scales on what cannot be simulated.
pub fn compare(
    config: &Config,
    slo: &Slo,
    hpas: &[(String, Hpa)],
    profiles: &[(String, Profile)],
) -> Result<Report, ConfigError> {
    let scenarios = profiles
        .iter()
        .map(|(title, profile)| {
            let runs = hpas
                .iter()
                .map(|(name, hpa)| Ok((name.clone(), simulate(config, hpa, profile)?)))
                .collect::<Result<_, ConfigError>>()?;
            Ok(Scenario {
                title: title.clone(),
                runs,
            })
        })
        .collect::<Result<_, ConfigError>>()?;
    Ok(Report {
        config: config.clone(),
        slo: slo.clone(),
        scenarios,
    })
}
