//! Names that others own: kube-state-metrics, dcgm-exporter, Prometheus itself and the labels that
//! the Prometheus Operator gives to what it scrapes. Aegis' own are in `aegis_telemetry`'s table.

/// Prometheus: 1 when a scrape succeeded.
pub(crate) const UP: &str = "up";
/// kube-state-metrics: replicas that a Deployment should have.
pub(crate) const DEPLOYMENT_SPEC_REPLICAS: &str = "kube_deployment_spec_replicas";
/// kube-state-metrics: replicas that a Deployment has.
pub(crate) const DEPLOYMENT_REPLICAS: &str = "kube_deployment_status_replicas";
/// kube-state-metrics: replicas that are ready.
pub(crate) const DEPLOYMENT_READY: &str = "kube_deployment_status_replicas_ready";
/// kube-state-metrics: conditions of an HPA, by `condition` and `status`.
pub(crate) const HPA_CONDITION: &str = "kube_horizontalpodautoscaler_status_condition";
/// kube-state-metrics: replicas that an HPA asks for.
pub(crate) const HPA_DESIRED: &str = "kube_horizontalpodautoscaler_status_desired_replicas";
/// dcgm-exporter: utilisation of a GPU, 0 to 100.
pub(crate) const GPU_UTILIZATION: &str = "DCGM_FI_DEV_GPU_UTIL";

/// What the above are called, for tests that know every name.
#[cfg(test)]
pub(crate) const ALL: &[&str] = &[
    UP,
    DEPLOYMENT_SPEC_REPLICAS,
    DEPLOYMENT_REPLICAS,
    DEPLOYMENT_READY,
    HPA_CONDITION,
    HPA_DESIRED,
    GPU_UTILIZATION,
];

/// The namespace of a scraped pod.
pub(crate) const NAMESPACE: &str = "namespace";
/// A scraped pod.
pub(crate) const POD: &str = "pod";
/// The Service through which it was found.
pub(crate) const SERVICE: &str = "service";
/// What was scraped; here the name of the service, canary included.
pub(crate) const JOB: &str = "job";
