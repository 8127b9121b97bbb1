//! The comparison `aegis simulate` makes unless told otherwise: the seeds' two scenarios and a day,
//! under CPU alone and under the SLO.

use super::{Report, Scenario};
use crate::{
    hpa::{Hpa, ManifestError},
    simulate::{Config, ConfigError, Profile, simulate},
};

/// The manifest before: CPU at 70 %.
pub const BEFORE: &str = include_str!("../../hpa/before.yaml");
/// The manifest after: the seeds' SLO.
pub const AFTER: &str = include_str!("../../hpa/after.yaml");

/// The embedded manifests by their names.
///
/// # Errors
/// None: a test reads them.
pub fn embedded() -> Result<Vec<(String, Hpa)>, ManifestError> {
    Ok(vec![
        ("before".to_owned(), Hpa::from_yaml(BEFORE)?),
        ("after".to_owned(), Hpa::from_yaml(AFTER)?),
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

/// Every profile under every HPA.
///
/// # Errors
/// If the configuration makes no sense, or a manifest scales on what cannot be simulated.
pub fn compare(
    config: &Config,
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
        scenarios,
    })
}
