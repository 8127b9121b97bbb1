//! The sections of an SLO file, in its order. Every key may be left out; the defaults are the
//! figures that the product was specified with, and `k8s/slo.toml` writes each of them out.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::values::{Millis, Name, Percent, Positive, Quantity};

/// A section: its fields with type and default, and what `serde` needs to fill in what is left out.
macro_rules! section {
    (
        $(#[$about:meta])*
        $name:ident { $( $(#[$doc:meta])* $field:ident : $type:ty = $default:expr, )* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $( $(#[$doc])* pub $field: $type, )* }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }
    };
}

/// A default, through the same door as what people write.
#[expect(
    clippy::panic,
    reason = "the defaults are constants of this file, and a test reads them all"
)]
fn of<T, U: TryFrom<T, Error = String>>(value: T) -> U {
    U::try_from(value).unwrap_or_else(|problem| panic!("a default: {problem}"))
}

fn text<U: TryFrom<String, Error = String>>(value: &str) -> U {
    of(value.to_owned())
}

section! {
    /// What the service is called and where it runs.
    Service {
        /// Of the Deployment, the Service and the HPA.
        name: Name = text("inference"),
        /// The namespace it lives in.
        namespace: Name = text("aegis"),
        /// The container image.
        image: String = "aegis:0.1.0".to_owned(),
        /// The guide, as people reach it: a URL, or its path in their repository. Alerts append
        /// `#alert-name`.
        runbook_url: String = "k8s/SLO_DEPLOYMENT_GUIDE.md".to_owned(),
    }
}

section! {
    /// What callers are promised.
    Objectives {
        /// The time over which the promise is kept, in days.
        window_days: u32 = 30,
        /// Requests that end without a 5xx.
        availability_percent: Percent = of(99.5),
        /// Half of the requests are faster.
        p50_ms: Millis = of(200.0),
        /// 95 of 100 requests are faster.
        p95_ms: Millis = of(350.0),
        /// Up to here a P95 over its objective is a warning.
        p95_warning_ms: Millis = of(400.0),
        /// 99 of 100 requests are faster.
        p99_ms: Millis = of(1500.0),
    }
}

section! {
    /// Between which bounds, and by which signals, replicas are added and removed.
    Scaling {
        /// Never fewer.
        min_replicas: u32 = 3,
        /// Never more.
        max_replicas: u32 = 20,
        /// The P95 at which a pod is as loaded as it should be.
        p95_target_ms: Millis = of(350.0),
        /// Requests in flight at which it is.
        in_flight_per_pod: Positive = of(10.0),
        /// Requests waiting for a model's place at which it is.
        queue_per_pod: Positive = of(4.0),
        /// CPU at which it is, of what the pod requests.
        cpu_percent: Percent = of(80.0),
        /// How fast replicas are added.
        up: Behavior = Behavior::up(),
        /// How fast they are removed.
        down: Behavior = Behavior::down(),
    }
}

/// How fast replicas change in one direction: `behavior.scaleUp` or `behavior.scaleDown`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behavior {
    /// Of all recommendations in this time, the most cautious counts. In seconds.
    pub stabilization_seconds: u32,
    /// Which policy holds, if several do.
    pub select: Select,
    /// The most that may change in a time.
    pub policies: Vec<Policy>,
}

impl Behavior {
    fn up() -> Self {
        Self {
            stabilization_seconds: 60,
            select: Select::Max,
            policies: vec![Policy::pods(2, 30), Policy::percent(50, 30)],
        }
    }

    fn down() -> Self {
        Self {
            stabilization_seconds: 300,
            select: Select::Min,
            policies: vec![Policy::pods(1, 60), Policy::percent(10, 120)],
        }
    }
}

/// Which of several policies holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Select {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest.
    Min,
    /// None: replicas do not change in this direction.
    Disabled,
}

/// The most that may change in a time: `pods` or `percent`, exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// So many pods.
    pub pods: Option<u32>,
    /// So many hundredths of the pods there were.
    pub percent: Option<u32>,
    /// In this many seconds.
    pub period_seconds: u32,
}

impl Policy {
    fn pods(pods: u32, period_seconds: u32) -> Self {
        Self {
            pods: Some(pods),
            percent: None,
            period_seconds,
        }
    }

    fn percent(percent: u32, period_seconds: u32) -> Self {
        Self {
            pods: None,
            percent: Some(percent),
            period_seconds,
        }
    }
}

section! {
    /// When safety flags are more than usual.
    Safety {
        /// Flags for each hundred predictions that are usual.
        baseline_percent: Percent = of(0.1),
        /// So many times the baseline is a spike.
        spike_factor: Positive = of(3.0),
        /// Fewer in ten minutes are no spike, whatever their share.
        minimum_flags: u32 = 5,
        /// A model that was asked less often in the day before has no usual yet, and so no spike.
        minimum_predictions: u32 = 100,
    }
}

section! {
    /// When a symptom is told.
    Alerts {
        /// How long it must last, in minutes.
        for_minutes: u32 = 5,
        /// How long the service may be at its most replicas, in minutes.
        at_maximum_minutes: u32 = 15,
        /// Requests refused for a full queue (429).
        refused_percent: Percent = of(1.0),
    }
}

section! {
    /// What one pod has, and how it starts and stops.
    Pod {
        /// What the scheduler sets aside, and what `cpu_percent` is of.
        cpu_request: Quantity = text("500m"),
        /// Beyond it the pod is throttled.
        cpu_limit: Quantity = text("2000m"),
        /// What the scheduler sets aside.
        memory_request: Quantity = text("2Gi"),
        /// Beyond it the pod is killed.
        memory_limit: Quantity = text("4Gi"),
        /// Compiled handlers and unpacked models.
        data_size: Quantity = text("2Gi"),
        /// `predict_max_concurrency` of the server.
        max_concurrency: u32 = 16,
        /// `predict_max_queue` of the server.
        max_queue: u32 = 64,
        /// `request_timeout_ms` of the server.
        request_timeout_ms: u32 = 30_000,
        /// How long loading every model may take.
        startup_seconds: u32 = 120,
        /// How long a terminating pod goes on as if nothing were.
        pre_stop_seconds: u32 = 5,
        /// `drain_delay_ms` of the server.
        drain_delay_ms: u32 = 5_000,
        /// `grace_period_s` of the server, counted from SIGTERM.
        grace_period_seconds: u32 = 40,
    }
}

impl Pod {
    /// What Kubernetes waits before it kills: the hook runs first, and both clocks are not one.
    pub fn termination_grace_seconds(&self) -> u32 {
        const MARGIN: u32 = 5;
        self.pre_stop_seconds
            .saturating_add(self.grace_period_seconds)
            .saturating_add(MARGIN)
    }
}

section! {
    /// How metrics are collected.
    Metrics {
        /// Time between two looks at `/metrics`.
        scrape_seconds: u32 = 15,
        /// Over which quantiles and rates are taken.
        rate_window_seconds: u32 = 60,
        /// Over which gauges are averaged.
        gauge_window_seconds: u32 = 30,
        /// Where KEDA and prometheus-adapter ask.
        prometheus_url: String = "http://prometheus-operated.monitoring.svc:9090".to_owned(),
        /// What the Prometheus Operator selects rules and monitors by.
        monitor_labels: BTreeMap<String, String> = BTreeMap::from([(
            "release".to_owned(),
            "kube-prometheus-stack".to_owned(),
        )]),
    }
}

section! {
    /// Who may reach the pods.
    Network {
        /// Namespaces whose pods may call, beside the service's own.
        caller_namespaces: Vec<Name> = vec![text("ingress-nginx")],
        /// The namespace that Prometheus runs in.
        monitoring_namespace: Name = text("monitoring"),
    }
}

section! {
    /// The GPU overlay.
    Gpu {
        /// The image with the GPU's runtimes.
        image: String = "aegis:0.1.0-gpu".to_owned(),
        /// GPUs of one pod.
        per_pod: u32 = 1,
        /// GPU utilisation at which a pod is as loaded as it should be.
        utilization_percent: Percent = of(80.0),
        /// Waiting requests at which it is: more than on CPUs, as batches are larger.
        queue_per_pod: Positive = of(8.0),
        /// The label that nodes with a GPU have (`true`).
        node_label: String = "nvidia.com/gpu.present".to_owned(),
        /// The resource, and the key of the taint that such nodes have.
        resource: String = "nvidia.com/gpu".to_owned(),
        /// The label by which dcgm-exporter names the namespace that uses a GPU.
        namespace_label: String = "exported_namespace".to_owned(),
        /// The label by which it names the pod.
        pod_label: String = "exported_pod".to_owned(),
    }
}

section! {
    /// The canary overlays: a second Deployment of another image beside the first.
    Canary {
        /// The image on trial.
        image: String = "aegis:0.1.0-canary".to_owned(),
        /// Its share of requests.
        weight_percent: Percent = of(10.0),
        /// Its pods; nothing scales them.
        replicas: u32 = 1,
        /// The name that callers ask for.
        host: String = "inference.example.com".to_owned(),
        /// The Gateway that the route attaches to.
        gateway: Name = text("public"),
        /// The namespace it is in.
        gateway_namespace: Name = text("gateways"),
        /// The class of the nginx ingress.
        ingress_class: Name = text("nginx"),
    }
}
