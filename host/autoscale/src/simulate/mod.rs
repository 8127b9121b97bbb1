//! A service under a load, scaled by an HPA, without a cluster: what `aegis simulate` shows before
//! a manifest is applied. A [`Profile`] brings requests to pods with a [`ServiceModel`]; what their
//! metrics would show goes through scrapes, rate windows and the adapter to the controller of
//! [`crate::hpa`], whose decisions start and end pods. The same seed gives the same run.

mod config;
pub(crate) mod erlang;
mod histogram;
mod pod;
mod profile;
mod queue;
mod run;
mod service;
mod signal;
mod world;

pub use config::{Config, ConfigError, EXACT_REQUESTS, Engine};
pub use profile::{LoadKind, Profile, ProfileError};
pub use run::{Minute, Run, Summary, Tick};
pub use service::{ServiceError, ServiceModel, ServiceTime};
pub use signal::{Signal, SignalError};

use crate::hpa::Hpa;

/// Runs a profile.
///
/// # Errors
/// If the configuration makes no sense, or the manifest scales on what cannot be simulated.
pub fn simulate(config: &Config, hpa: &Hpa, profile: &Profile) -> Result<Run, ConfigError> {
    config.check(hpa, profile)?;
    Ok(world::World::new(config, hpa, profile).run())
}

#[cfg(test)]
mod tests;
