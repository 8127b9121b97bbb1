//! What Kubernetes' API server refuses, and what it fills in.

use super::{
    DOWNSCALE_STABILIZATION_SECONDS, MAX_PERIOD_SECONDS, MAX_WINDOW_SECONDS, ManifestError,
    shape::{
        ExternalSource, Manifest, Metric, ObjectSource, PodsSource, RawBehavior, RawPolicy,
        RawRules, ResourceSource, Target,
    },
};
use crate::hpa::spec::{
    Behavior, Hpa, MetricSpec, Policy, PolicyKind, ResourceTarget, ScalingRules, SelectPolicy,
    Tolerances, ValueTarget,
};

fn refuse<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, ManifestError> {
    Err(ManifestError::Field {
        field: field.into(),
        reason: reason.into(),
    })
}

impl Manifest {
    pub(super) fn check(self) -> Result<Hpa, ManifestError> {
        if self.kind != "HorizontalPodAutoscaler" {
            return refuse(
                "kind",
                format!("it is `{}`, and must be HorizontalPodAutoscaler", self.kind),
            );
        }
        if self.api_version != "autoscaling/v2" {
            return refuse(
                "apiVersion",
                format!(
                    "it is `{}`, and must be autoscaling/v2, which every Kubernetes since 1.23 serves",
                    self.api_version
                ),
            );
        }
        let spec = self.spec;
        let min_replicas = spec.min_replicas.unwrap_or(1);
        if min_replicas < 1 {
            return refuse(
                "spec.minReplicas",
                format!(
                    "{min_replicas} is below 1; zero needs the gate HPAScaleToZero, which is off by default"
                ),
            );
        }
        if spec.max_replicas < min_replicas {
            return refuse(
                "spec.maxReplicas",
                format!("{} is below minReplicas, {min_replicas}", spec.max_replicas),
            );
        }
        for (field, text) in [
            ("spec.scaleTargetRef.kind", &spec.scale_target_ref.kind),
            ("spec.scaleTargetRef.name", &spec.scale_target_ref.name),
        ] {
            check_name(field, text)?;
        }
        let metrics = match spec.metrics {
            // The API server's default.
            None => vec![cpu_at_80()],
            Some(metrics) if metrics.is_empty() => vec![cpu_at_80()],
            Some(metrics) => metrics
                .into_iter()
                .enumerate()
                .map(|(index, metric)| metric.check(&format!("spec.metrics[{index}]")))
                .collect::<Result<_, _>>()?,
        };
        let (behavior, tolerances) = spec.behavior.unwrap_or_default().check()?;
        Ok(Hpa {
            name: self.metadata.name,
            target: format!(
                "{}/{}",
                spec.scale_target_ref.kind, spec.scale_target_ref.name
            ),
            min_replicas,
            max_replicas: spec.max_replicas,
            metrics,
            behavior,
            tolerances,
        })
    }
}

pub(super) fn cpu_at_80() -> MetricSpec {
    MetricSpec::Resource {
        name: "cpu".to_owned(),
        target: ResourceTarget::AverageUtilization(80),
    }
}

fn check_name(field: impl Into<String>, text: &str) -> Result<(), ManifestError> {
    if text.is_empty() {
        return refuse(field, "it is empty, and must name something");
    }
    if text == "." || text == ".." || text.contains(['/', '%']) {
        return refuse(
            field,
            format!("`{text}` may not be `.` or `..`, nor contain `/` or `%`"),
        );
    }
    Ok(())
}

impl Metric {
    fn check(self, path: &str) -> Result<MetricSpec, ManifestError> {
        let sources = [
            ("pods", "Pods", self.pods.is_some()),
            ("resource", "Resource", self.resource.is_some()),
            ("object", "Object", self.object.is_some()),
            ("external", "External", self.external.is_some()),
            (
                "containerResource",
                "ContainerResource",
                self.container_resource.is_some(),
            ),
        ];
        let Some((expected, ..)) = sources.iter().find(|(_, kind, _)| *kind == self.kind) else {
            return refuse(
                format!("{path}.type"),
                format!(
                    "`{}` is no type of metric; there are Pods, Resource, Object, External and ContainerResource",
                    self.kind
                ),
            );
        };
        if let Some((other, ..)) = sources
            .iter()
            .find(|(field, _, there)| *there && field != expected)
        {
            return refuse(
                format!("{path}.{other}"),
                format!("a metric of type {} has `{expected}` only", self.kind),
            );
        }
        let missing = || {
            refuse(
                format!("{path}.{expected}"),
                format!(
                    "it is missing: a metric of type {} is described there",
                    self.kind
                ),
            )
        };
        if let Some(PodsSource { metric, target }) = self.pods {
            check_name(format!("{path}.pods.metric.name"), &metric.name)?;
            let path = format!("{path}.pods.target");
            target.check(&path)?;
            let Some(average_value) = target.average_value else {
                return refuse(
                    format!("{path}.averageValue"),
                    "it is missing, and the one kind of target a Pods metric has",
                );
            };
            return Ok(MetricSpec::Pods {
                name: metric.name,
                average_value,
            });
        }
        if let Some(ResourceSource { name, target }) = self.resource {
            check_name(format!("{path}.resource.name"), &name)?;
            let path = format!("{path}.resource.target");
            target.check(&path)?;
            let target = match (target.average_utilization, target.average_value) {
                (Some(percent), None) => ResourceTarget::AverageUtilization(percent),
                (None, Some(value)) => ResourceTarget::AverageValue(value),
                (None, None) => {
                    return refuse(
                        format!("{path}.averageUtilization"),
                        "either it or averageValue must be set",
                    );
                }
                (Some(_), Some(_)) => {
                    return refuse(
                        format!("{path}.averageValue"),
                        "it may not be set beside averageUtilization",
                    );
                }
            };
            return Ok(MetricSpec::Resource { name, target });
        }
        if let Some(ObjectSource {
            described_object,
            metric,
            target,
        }) = self.object
        {
            check_name(format!("{path}.object.metric.name"), &metric.name)?;
            check_name(
                format!("{path}.object.describedObject.name"),
                &described_object.name,
            )?;
            return Ok(MetricSpec::Object {
                name: metric.name,
                kind: described_object.kind,
                target: target.total(&format!("{path}.object.target"))?,
            });
        }
        if let Some(ExternalSource { metric, target }) = self.external {
            check_name(format!("{path}.external.metric.name"), &metric.name)?;
            return Ok(MetricSpec::External {
                name: metric.name,
                target: target.total(&format!("{path}.external.target"))?,
            });
        }
        if self.container_resource.is_some() {
            return refuse(
                format!("{path}.containerResource"),
                "Kubernetes takes it, and this simulator knows whole pods only: use type Resource",
            );
        }
        missing()
    }
}

impl Target {
    fn check(&self, path: &str) -> Result<(), ManifestError> {
        if !matches!(self.kind.as_str(), "Utilization" | "Value" | "AverageValue") {
            return refuse(
                format!("{path}.type"),
                format!(
                    "`{}` is none of Utilization, Value and AverageValue",
                    self.kind
                ),
            );
        }
        for (field, value) in [("value", self.value), ("averageValue", self.average_value)] {
            if let Some(value) = value
                && value.milli() <= 0
            {
                return refuse(
                    format!("{path}.{field}"),
                    format!("{value} is not above zero"),
                );
            }
        }
        match self.average_utilization {
            Some(percent) if percent < 1 => refuse(
                format!("{path}.averageUtilization"),
                format!("{percent} % is below 1 %"),
            ),
            _ => Ok(()),
        }
    }

    /// The target of an Object or External metric. The controller goes by which value is set, not
    /// by `type`.
    fn total(&self, path: &str) -> Result<ValueTarget, ManifestError> {
        self.check(path)?;
        match (self.value, self.average_value) {
            (Some(value), None) => Ok(ValueTarget::Value(value)),
            (None, Some(value)) => Ok(ValueTarget::AverageValue(value)),
            (None, None) => refuse(
                format!("{path}.averageValue"),
                "either it or value must be set",
            ),
            (Some(_), Some(_)) => refuse(
                format!("{path}.value"),
                "it may not be set beside averageValue",
            ),
        }
    }
}

impl RawBehavior {
    fn check(self) -> Result<(Option<Behavior>, Tolerances), ManifestError> {
        let tolerance = |rules: &Option<RawRules>, half: &str| match rules
            .as_ref()
            .and_then(|rules| rules.tolerance)
        {
            None => Ok(Tolerances::DEFAULT),
            Some(tolerance) if tolerance.milli() < 0 => refuse(
                format!("spec.behavior.{half}.tolerance"),
                format!("{tolerance} is below zero"),
            ),
            Some(tolerance) => Ok(tolerance.as_f64()),
        };
        let tolerances = Tolerances {
            scale_up: tolerance(&self.scale_up, "scaleUp")?,
            scale_down: tolerance(&self.scale_down, "scaleDown")?,
        };
        if self.scale_up.is_none() && self.scale_down.is_none() {
            return Ok((None, tolerances));
        }
        let policy = |kind, value| Policy {
            kind,
            value,
            period_seconds: 15,
        };
        let scale_up = self.scale_up.unwrap_or_default().check(
            "spec.behavior.scaleUp",
            0,
            vec![
                policy(PolicyKind::Pods, 4),
                policy(PolicyKind::Percent, 100),
            ],
        )?;
        let scale_down = self.scale_down.unwrap_or_default().check(
            "spec.behavior.scaleDown",
            DOWNSCALE_STABILIZATION_SECONDS,
            vec![policy(PolicyKind::Percent, 100)],
        )?;
        Ok((
            Some(Behavior {
                scale_up,
                scale_down,
            }),
            tolerances,
        ))
    }
}

impl RawRules {
    fn check(
        self,
        path: &str,
        window: i32,
        policies: Vec<Policy>,
    ) -> Result<ScalingRules, ManifestError> {
        let window = self.stabilization_window_seconds.unwrap_or(window);
        if !(0..=MAX_WINDOW_SECONDS).contains(&window) {
            return refuse(
                format!("{path}.stabilizationWindowSeconds"),
                format!("{window} is not within 0 and {MAX_WINDOW_SECONDS}"),
            );
        }
        let select = match self.select_policy.as_deref() {
            None | Some("Max") => SelectPolicy::Max,
            Some("Min") => SelectPolicy::Min,
            Some("Disabled") => SelectPolicy::Disabled,
            Some(other) => {
                return refuse(
                    format!("{path}.selectPolicy"),
                    format!("`{other}` is none of Max, Min and Disabled"),
                );
            }
        };
        let policies = match self.policies {
            None => policies,
            Some(given) if given.is_empty() => {
                return refuse(
                    format!("{path}.policies"),
                    "the list is empty: leave it out for the defaults, or write one policy at least",
                );
            }
            Some(given) => given
                .into_iter()
                .enumerate()
                .map(|(index, policy)| policy.check(&format!("{path}.policies[{index}]")))
                .collect::<Result<_, _>>()?,
        };
        Ok(ScalingRules {
            stabilization_window_seconds: window,
            select,
            policies,
        })
    }
}

impl RawPolicy {
    fn check(self, path: &str) -> Result<Policy, ManifestError> {
        let kind = match self.kind.as_str() {
            "Pods" => PolicyKind::Pods,
            "Percent" => PolicyKind::Percent,
            other => {
                return refuse(
                    format!("{path}.type"),
                    format!("`{other}` is neither Pods nor Percent"),
                );
            }
        };
        if self.value <= 0 {
            return refuse(
                format!("{path}.value"),
                format!("{} is not above zero", self.value),
            );
        }
        if !(1..=MAX_PERIOD_SECONDS).contains(&self.period_seconds) {
            return refuse(
                format!("{path}.periodSeconds"),
                format!(
                    "{} is not within 1 and {MAX_PERIOD_SECONDS}",
                    self.period_seconds
                ),
            );
        }
        Ok(Policy {
            kind,
            value: self.value,
            period_seconds: self.period_seconds,
        })
    }
}
