//! The table of metrics: the one place where a name, a label, a bucket boundary or a help text is
//! written. Instruments, `docs/metrics.md` and, later, alert and scaling rules are made from it.
//! How a value gets recorded is left to [`crate::http`], [`crate::inference`] and [`crate::gauge`].

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only ever grows; rules take its rate.
    Counter,
    /// A value of this moment.
    Gauge,
    /// Counts by bucket, with a sum and a count.
    Histogram,
}

impl MetricKind {
    /// The word of Prometheus' `# TYPE` line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct MetricSpec {
    /// Exactly as it stands in `/metrics`, `_total` and unit included.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// UCUM unit (`s`, `1`); it is told to OTLP and never added to the name.
    pub unit: &'static str,
    /// The label keys each series has, in the table's order.
    pub labels: &'static [&'static str],
    /// Upper bounds of a histogram's buckets, rising, without `+Inf`; empty for other kinds.
    pub buckets: &'static [f64],
    /// One sentence or two; the `# HELP` line.
    pub help: &'static str,
}

/// What callers feel. The boundaries of the SLO are among these, as a quantile or a share is only
/// exact at a boundary: 0.2 (P50), 0.35 and 0.4 (P95 and its warning), 1.5 (P99). Below 10 ms they
/// are fine enough to tell a sandboxed digit (some 100 µs) from one that waited.
const LATENCY: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.4, 0.5,
    0.75, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0,
];

/// A step inside a request: from a small network's run (4.5 µs) up to a deadline.
const STEP: &[f64] = &[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// A fresh instance takes about 14 µs, or 80 µs with a snapshot; what takes 0.1 s is an incident.
const INSTANTIATE: &[f64] = &[
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_015,
    0.000_025,
    0.000_05,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.005,
    0.01,
    0.1,
    1.0,
];

/// Batch sizes people configure, and the steps between.
const BATCH: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0,
];

const BY_VERSION: &[&str] = &["model", "model_version"];
const BY_GRAPH: &[&str] = &["model", "graph", "backend"];
const RUNTIME: &[&str] = &["runtime"];

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> MetricSpec {
    MetricSpec {
        name,
        kind: MetricKind::Counter,
        unit: "1",
        labels,
        buckets: &[],
        help,
    }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> MetricSpec {
    MetricSpec {
        name,
        kind: MetricKind::Gauge,
        unit: "1",
        labels,
        buckets: &[],
        help,
    }
}

const fn histogram(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    buckets: &'static [f64],
    help: &'static str,
) -> MetricSpec {
    MetricSpec {
        name,
        kind: MetricKind::Histogram,
        unit,
        labels,
        buckets,
        help,
    }
}

/// The rows by themselves, for code that wants one of them (an instrument, a scaling rule).
pub mod metric {
    use super::*;

    /// `http_request_duration_seconds`
    pub const HTTP_REQUEST_DURATION: MetricSpec = histogram(
        "http_request_duration_seconds",
        "s",
        &["method", "endpoint", "status"],
        LATENCY,
        "Time from a request's head to the end of its answer. Status 499: the caller went away first.",
    );
    /// `http_requests_in_flight`
    pub const HTTP_REQUESTS_IN_FLIGHT: MetricSpec = gauge(
        "http_requests_in_flight",
        &["method", "endpoint"],
        "Requests being answered now, waiting ones included.",
    );
    /// `http_requests_total`
    pub const HTTP_REQUESTS: MetricSpec = counter(
        "http_requests_total",
        &["method", "endpoint", "status"],
        "Requests answered.",
    );
    /// `http_request_errors_total`
    pub const HTTP_REQUEST_ERRORS: MetricSpec = counter(
        "http_request_errors_total",
        &["method", "endpoint", "error_type"],
        "Requests answered with a status of 400 or more (error_type http_404 and so on), or left by their caller (cancelled).",
    );
    /// `aegis_inference_requests_total`
    pub const INFERENCE_REQUESTS: MetricSpec = counter(
        "aegis_inference_requests_total",
        &["model", "model_version", "outcome"],
        "Predictions asked of a version, by how they ended.",
    );
    /// `aegis_inference_latency_seconds`
    pub const INFERENCE_LATENCY: MetricSpec = histogram(
        "aegis_inference_latency_seconds",
        "s",
        BY_VERSION,
        LATENCY,
        "Time from admission asked to answer made, of the predictions that ran; those refused before they ran are left out, as their haste would hide an overload.",
    );
    /// `aegis_inference_queue_depth`
    pub const INFERENCE_QUEUE_DEPTH: MetricSpec = gauge(
        "aegis_inference_queue_depth",
        &["model"],
        "Requests that wait for one of the model's places.",
    );
    /// `aegis_inference_batch_size`
    pub const INFERENCE_BATCH_SIZE: MetricSpec = histogram(
        "aegis_inference_batch_size",
        "1",
        BY_GRAPH,
        BATCH,
        "Requests answered by one run of the graph.",
    );
    /// `aegis_inference_queue_seconds`
    pub const INFERENCE_QUEUE: MetricSpec = histogram(
        "aegis_inference_queue_seconds",
        "s",
        BY_GRAPH,
        STEP,
        "Time the longest-waiting request of a run waited for its session.",
    );
    /// `aegis_inference_compute_seconds`
    pub const INFERENCE_COMPUTE: MetricSpec = histogram(
        "aegis_inference_compute_seconds",
        "s",
        BY_GRAPH,
        STEP,
        "Time one run of the graph took in its backend.",
    );
    /// `aegis_safety_flags_total`
    pub const SAFETY_FLAGS: MetricSpec = counter(
        "aegis_safety_flags_total",
        &["model", "model_version", "reason"],
        "Safety flags raised by handlers. At most 32 reasons a model; further ones count as other.",
    );
    /// `aegis_handler_traps_total`
    pub const HANDLER_TRAPS: MetricSpec = counter(
        "aegis_handler_traps_total",
        &["model", "reason"],
        "Handlers that trapped or were stopped by a limit.",
    );
    /// `aegis_limit_refusals_total`
    pub const LIMIT_REFUSALS: MetricSpec = counter(
        "aegis_limit_refusals_total",
        &["model", "limit"],
        "What was refused for a limit (docs/limits.md), also where the handler went on. Model -: an upload of a model that there is not yet.",
    );
    /// `aegis_sessions`
    pub const SESSIONS: MetricSpec = gauge(
        "aegis_sessions",
        BY_VERSION,
        "Sessions that the version's handler has kept in this replica, of handlers that can.",
    );
    /// `aegis_session_bytes`
    pub const SESSION_BYTES: MetricSpec = MetricSpec {
        unit: "By",
        ..gauge(
            "aegis_session_bytes",
            BY_VERSION,
            "What those sessions hold, keys included.",
        )
    };
    /// `aegis_session_evictions_total`
    pub const SESSION_EVICTIONS: MetricSpec = counter(
        "aegis_session_evictions_total",
        &["model", "model_version", "reason"],
        "Sessions let go: unused for session_ttl_s (expired), or the least recently used beyond the limit on their number (sessions) or on their size (bytes).",
    );
    /// `aegis_handler_instantiate_seconds`
    pub const HANDLER_INSTANTIATE: MetricSpec = histogram(
        "aegis_handler_instantiate_seconds",
        "s",
        &["model"],
        INSTANTIATE,
        "Time to make a fresh instance of a handler, on the request's path or ahead of it.",
    );
    /// `aegis_model_loaded`
    pub const MODEL_LOADED: MetricSpec = gauge(
        "aegis_model_loaded",
        BY_VERSION,
        "1 when the version is loaded and warm, 0 when it should be and is not. A version that waits for its first request, or was unloaded for the memory budget, has no series: its next request loads it.",
    );
    /// `aegis_models_resident_bytes`
    pub const MODELS_RESIDENT: MetricSpec = MetricSpec {
        unit: "By",
        ..gauge(
            "aegis_models_resident_bytes",
            &[],
            "Memory that the loaded versions take together, as the memory budget estimates it.",
        )
    };
    /// `aegis_model_unloads_total`
    pub const MODEL_UNLOADS: MetricSpec = counter(
        "aegis_model_unloads_total",
        &["reason"],
        "Versions unloaded: least used beyond the memory budget (budget), superseded by others of their model (replaced), or deleted.",
    );
    /// `aegis_store_reachable`
    pub const STORE_REACHABLE: MetricSpec = gauge(
        "aegis_store_reachable",
        &[],
        "1 while the store of models answers, 0 since it did not. What is loaded goes on serving; uploads, changes and loads fail.",
    );
    /// `aegis_concurrency_limit`
    pub const CONCURRENCY_LIMIT: MetricSpec = gauge(
        "aegis_concurrency_limit",
        BY_VERSION,
        "How many requests of the version may run at once: what its limits say, or what an adaptive limit has found below that.",
    );
    /// `aegis_circuit_state`
    pub const CIRCUIT_STATE: MetricSpec = gauge(
        "aegis_circuit_state",
        BY_VERSION,
        "The version's circuit breaker: 0 closed (traffic flows), 1 half open (probing), 2 open (traffic goes to other versions).",
    );
    /// `aegis_circuit_opened_total`
    pub const CIRCUIT_OPENED: MetricSpec = counter(
        "aegis_circuit_opened_total",
        BY_VERSION,
        "How often the version's circuit breaker opened: for what its requests came to, or again after a probe that failed.",
    );
    /// `aegis_traffic_weight`
    pub const TRAFFIC_WEIGHT: MetricSpec = gauge(
        "aegis_traffic_weight",
        BY_VERSION,
        "Share of the model's traffic that the traffic rule gives to the version, 0 to 1; there while the version is loaded.",
    );
    /// `aegis_rollout_changes_total`
    pub const ROLLOUT_CHANGES: MetricSpec = counter(
        "aegis_rollout_changes_total",
        &["model", "change"],
        "What this replica did as the driver of a rollout: moved it on (advanced), brought it to its end (ended), or withdrew a version that was worse than stable (withdrawn).",
    );
    /// `aegis_shadow_requests_total`
    pub const SHADOW_REQUESTS: MetricSpec = counter(
        "aegis_shadow_requests_total",
        &["model", "model_version", "result"],
        "Copies of requests that went to the version as a shadow, by how its answer compares with the caller's.",
    );
    /// `aegis_shadow_latency_seconds`
    pub const SHADOW_LATENCY: MetricSpec = histogram(
        "aegis_shadow_latency_seconds",
        "s",
        BY_VERSION,
        LATENCY,
        "Time the version took as a shadow for a copy of a request.",
    );
    /// `aegis_otlp_spans_total`
    pub const OTLP_SPANS: MetricSpec = counter(
        "aegis_otlp_spans_total",
        &["outcome"],
        "Recorded spans: sent to the collector, failed to be, or dropped as too many waited for it.",
    );
    /// `aegis_otlp_metric_exports_total`
    pub const OTLP_METRIC_EXPORTS: MetricSpec = counter(
        "aegis_otlp_metric_exports_total",
        &["outcome"],
        "Exports of these metrics to the collector, sent or failed.",
    );
    /// `aegis_build_info`
    pub const BUILD_INFO: MetricSpec = gauge(
        "aegis_build_info",
        &["version", "profile", "arch"],
        "Always 1; what runs is in the labels.",
    );
    /// `tokio_workers`
    pub const TOKIO_WORKERS: MetricSpec =
        gauge("tokio_workers", RUNTIME, "Threads that run tasks.");
    /// `tokio_alive_tasks`
    pub const TOKIO_TASKS: MetricSpec = gauge(
        "tokio_alive_tasks",
        RUNTIME,
        "Tasks that have begun and not ended: connections, and calls in the lane.",
    );
    /// `tokio_global_queue_depth`
    pub const TOKIO_QUEUE: MetricSpec = gauge(
        "tokio_global_queue_depth",
        RUNTIME,
        "Tasks that could go on and wait for a thread, those in threads' own queues left out.",
    );
    /// `process_cpu_seconds_total`
    pub const PROCESS_CPU: MetricSpec = MetricSpec {
        unit: "s",
        ..counter(
            "process_cpu_seconds_total",
            &[],
            "Processor time of the process, user and system.",
        )
    };
    /// `process_resident_memory_bytes`
    pub const PROCESS_MEMORY: MetricSpec = MetricSpec {
        unit: "By",
        ..gauge(
            "process_resident_memory_bytes",
            &[],
            "Memory of the process that is in RAM.",
        )
    };
    /// `process_open_fds`
    pub const PROCESS_OPEN_FDS: MetricSpec =
        gauge("process_open_fds", &[], "File descriptors that are open.");
    /// `process_max_fds`
    pub const PROCESS_MAX_FDS: MetricSpec =
        gauge("process_max_fds", &[], "File descriptors that may be open.");
    /// `process_start_time_seconds`
    pub const PROCESS_START: MetricSpec = MetricSpec {
        unit: "s",
        ..gauge(
            "process_start_time_seconds",
            &[],
            "When the process began, in seconds since 1970.",
        )
    };
    /// `process_threads`
    pub const PROCESS_THREADS: MetricSpec =
        gauge("process_threads", &[], "Threads of the process.");
}

/// Every metric Aegis exports, in the order of `docs/metrics.md`.
pub const METRICS: &[MetricSpec] = &[
    metric::HTTP_REQUEST_DURATION,
    metric::HTTP_REQUESTS_IN_FLIGHT,
    metric::HTTP_REQUESTS,
    metric::HTTP_REQUEST_ERRORS,
    metric::INFERENCE_REQUESTS,
    metric::INFERENCE_LATENCY,
    metric::INFERENCE_QUEUE_DEPTH,
    metric::INFERENCE_BATCH_SIZE,
    metric::INFERENCE_QUEUE,
    metric::INFERENCE_COMPUTE,
    metric::SAFETY_FLAGS,
    metric::HANDLER_TRAPS,
    metric::LIMIT_REFUSALS,
    metric::SESSIONS,
    metric::SESSION_BYTES,
    metric::SESSION_EVICTIONS,
    metric::HANDLER_INSTANTIATE,
    metric::MODEL_LOADED,
    metric::MODELS_RESIDENT,
    metric::MODEL_UNLOADS,
    metric::STORE_REACHABLE,
    metric::CONCURRENCY_LIMIT,
    metric::CIRCUIT_STATE,
    metric::CIRCUIT_OPENED,
    metric::TRAFFIC_WEIGHT,
    metric::ROLLOUT_CHANGES,
    metric::SHADOW_REQUESTS,
    metric::SHADOW_LATENCY,
    metric::OTLP_SPANS,
    metric::OTLP_METRIC_EXPORTS,
    metric::BUILD_INFO,
    metric::TOKIO_WORKERS,
    metric::TOKIO_TASKS,
    metric::TOKIO_QUEUE,
    metric::PROCESS_CPU,
    metric::PROCESS_MEMORY,
    metric::PROCESS_OPEN_FDS,
    metric::PROCESS_MAX_FDS,
    metric::PROCESS_START,
    metric::PROCESS_THREADS,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Aegis' own, and those that others have agreed on: what callers feel, what a process takes,
    /// and the runtime it has its tasks from.
    const PREFIXES: [&str; 4] = ["aegis_", "http_", "process_", "tokio_"];

    #[test]
    fn names_are_unique_and_follow_prometheus_naming() {
        for (index, spec) in METRICS.iter().enumerate() {
            assert!(
                METRICS
                    .iter()
                    .skip(index + 1)
                    .all(|other| other.name != spec.name),
                "{}",
                spec.name
            );
            assert!(
                PREFIXES.iter().any(|prefix| spec.name.starts_with(prefix)),
                "{}",
                spec.name
            );
            assert!(
                spec.name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c == '_'),
                "{}",
                spec.name
            );
            assert_eq!(
                spec.kind == MetricKind::Counter,
                spec.name.ends_with("_total"),
                "{}",
                spec.name
            );
            let quantity = spec.name.strip_suffix("_total").unwrap_or(spec.name);
            for (unit, ending) in [("s", "_seconds"), ("By", "_bytes")] {
                assert_eq!(
                    spec.unit == unit,
                    quantity.ends_with(ending),
                    "{}",
                    spec.name
                );
            }
            assert!(
                spec.help.ends_with('.') && !spec.help.contains('\n'),
                "{}",
                spec.name
            );
        }
    }

    #[test]
    fn buckets_rise_and_only_histograms_have_them() {
        for spec in METRICS {
            assert_eq!(
                spec.kind == MetricKind::Histogram,
                !spec.buckets.is_empty(),
                "{}",
                spec.name
            );
            assert!(spec.buckets.is_sorted_by(|a, b| a < b), "{}", spec.name);
        }
    }

    #[test]
    fn every_objective_of_the_slo_is_a_bucket_boundary() {
        let agreed = [
            0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0,
        ];
        let slo = [0.2, 0.35, 0.4, 1.5];
        let finer = [0.0005, 0.001, 0.0025, 0.005];
        for bound in agreed.iter().chain(&slo).chain(&finer) {
            assert!(
                metric::HTTP_REQUEST_DURATION.buckets.contains(bound),
                "{bound}"
            );
            assert!(metric::INFERENCE_LATENCY.buckets.contains(bound), "{bound}");
        }
    }
}
