//! Replicas of `aegis simulate`'s: what the autoscaler would have done to a service with the figures
//! of a file, under the load that a cell drove.

use std::path::Path;

use aegis_autoscale::{
    hpa::Hpa,
    report::hpa_of,
    simulate::{Config, LoadKind, Profile, simulate},
    slo::Slo,
};
use aegis_loadtest::replicas::{Driven, DrivenKind, ReplicaError, ReplicaModel};

use crate::commands::{service::Figures, simulate::manifest};

/// A service and its autoscaler.
pub(super) struct Simulated {
    config: Config,
    hpa: Hpa,
    about: String,
}

impl Simulated {
    /// The figures of the file `service` under the manifest `hpa`, or else the one that the SLO
    /// renders. What cannot be simulated is refused here, before any load.
    pub(super) fn new(
        slo: &Slo,
        slo_file: Option<&Path>,
        service: &Path,
        hpa_file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut config = Config::of(slo)?;
        Figures::read(service)?.apply(&mut config)?;
        let (hpa, source) = match (hpa_file, slo_file) {
            (Some(path), _) => (manifest(path)?, path.display().to_string()),
            (None, Some(path)) => (hpa_of(slo)?, path.display().to_string()),
            (None, None) => (hpa_of(slo)?, "the built-in SLO".to_owned()),
        };
        let about = format!(
            "the HPA of {source} ({} to {} replicas, beginning at rest with the fewest) on a service \
             as {} has it",
            hpa.min_replicas(),
            hpa.max_replicas(),
            service.display()
        );
        let trial = Profile::every_second("trial", LoadKind::RequestsPerSecond, &[0.0])?;
        config.check(&hpa, &trial)?;
        Ok(Self { config, hpa, about })
    }
}

impl ReplicaModel for Simulated {
    fn about(&self) -> String {
        self.about.clone()
    }

    fn replicas(&self, driven: &Driven) -> Result<Vec<u32>, ReplicaError> {
        let mut config = self.config.clone();
        let kind = match driven.kind {
            DrivenKind::Users { think } => {
                // The simulator wants some thought: with none its users would ask without end.
                config.think = think.as_secs_f64().max(0.01);
                LoadKind::Users
            }
            DrivenKind::Requests => LoadKind::RequestsPerSecond,
        };
        let failed = |error: &dyn std::fmt::Display| ReplicaError(error.to_string());
        let profile = Profile::every_second("the load that was driven", kind, &driven.each_second)
            .map_err(|error| failed(&error))?;
        let run = simulate(&config, &self.hpa, &profile).map_err(|error| failed(&error))?;
        let seconds = 1..=driven.each_second.len();
        Ok(seconds
            .map(|second| u32::try_from(run.replicas_at(second as f64)).unwrap_or_default())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::time::Duration;

    use aegis_autoscale::fit::SIMULATED;

    use super::*;

    fn simulated(figures: &str, hpa: Option<&str>) -> anyhow::Result<Simulated> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let service = path("service.toml", figures);
        let hpa = hpa.map(|text| path("hpa.yaml", text));
        Simulated::new(&Slo::default(), None, &service, hpa.as_deref())
    }

    fn users(count: f64) -> Driven {
        Driven {
            kind: DrivenKind::Users {
                think: Duration::from_secs(1),
            },
            each_second: vec![count; 240],
        }
    }

    #[test]
    fn a_load_that_one_pod_bears_changes_nothing_and_a_heavy_one_scales() {
        let model = simulated("service_ms = 100\nconcurrency = 4", None).unwrap();
        let calm = model.replicas(&users(10.0)).unwrap();
        assert_eq!(calm, vec![3; 240]);
        let heavy = model.replicas(&users(400.0)).unwrap();
        assert_eq!(heavy.first(), Some(&3));
        assert!(heavy.last().is_some_and(|last| *last > 8), "{heavy:?}");
        // A faster service needs less.
        let fast = simulated("service_ms = 5\nconcurrency = 4", None).unwrap();
        let fast = fast.replicas(&users(400.0)).unwrap();
        assert!(fast.last() < heavy.last(), "{fast:?}");
    }

    #[test]
    fn a_measured_rate_is_a_load_too() {
        let model = simulated("service_ms = 100", None).unwrap();
        let driven = Driven {
            kind: DrivenKind::Requests,
            each_second: vec![200.0; 240],
        };
        let replicas = model.replicas(&driven).unwrap();
        assert!(replicas.last() > replicas.first(), "{replicas:?}");
        assert_eq!(replicas, model.replicas(&driven).unwrap());
    }

    #[test]
    fn what_cannot_be_simulated_is_refused_before_any_load() {
        let told = |figures, hpa| {
            let refused = simulated(figures, hpa).err();
            refused
                .map(|error| format!("{error:#}"))
                .unwrap_or_default()
        };
        assert!(told("concurrency = 0", None).contains("concurrency of a pod is 0"));
        assert!(told("latency = 5", None).contains("unknown field `latency`"));
        assert!(told("", Some("kind: Pod")).contains("hpa.yaml"));
    }

    #[test]
    fn the_mark_of_simulated_rows_is_the_one_that_a_fit_knows() {
        assert_eq!(SIMULATED, aegis_loadtest::csv::SIMULATED);
    }
}
