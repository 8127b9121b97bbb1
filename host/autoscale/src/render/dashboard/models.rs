//! Models and their versions, beside one another.

use aegis_telemetry::{CircuitState, MetricSpec, metric};

use super::panel::{Kind, Panel, lines};
use crate::{
    render::{
        promql::{self, LE, Scope, by},
        rules::{
            read,
            recording::{FLAGS_NOW, names},
        },
    },
    slo::Slo,
};

/// How versions fare, what they flag, and whether they are there.
pub(super) fn by_version(slo: &Slo) -> Vec<Panel> {
    let scope = Scope::service(slo);
    let window = slo.metrics.rate_window_seconds;
    let version = by(&["model", "model_version"]);
    let with_le = by(&["model", "model_version", LE]);
    let buckets = scope.of(&format!("{}_bucket", metric::INFERENCE_LATENCY.name), &[]);
    let requests = |more: &[String]| {
        let series = scope.of(metric::INFERENCE_REQUESTS.name, more);
        promql::rate(&series, &version, window)
    };
    let gauge = |operation: &str, spec: &MetricSpec| {
        format!("{operation} by ({version}) ({})", scope.of(spec.name, &[]))
    };
    const VERSION: &str = "{{model}} {{model_version}}";
    vec![
        lines(
            "P95 by version",
            "s",
            vec![(
                format!(
                    "histogram_quantile(0.95, {})",
                    promql::rate(&buckets, &with_le, window)
                ),
                VERSION,
            )],
        ),
        lines(
            "Predictions a second by version",
            "reqps",
            vec![(requests(&[]), VERSION)],
        ),
        lines(
            "Predictions that did not succeed, by version",
            "percentunit",
            vec![(
                promql::share(
                    &requests(&[promql::unlike("outcome", "ok")]),
                    &requests(&[]),
                ),
                VERSION,
            )],
        ),
        lines(
            "Share of traffic by version",
            "percentunit",
            vec![(gauge("avg", &metric::TRAFFIC_WEIGHT), VERSION)],
        ),
        lines(
            "Safety flags for each prediction",
            "percentunit",
            vec![
                (read(&names::flags(FLAGS_NOW), slo), "{{model}}"),
                (read(names::FLAGS_BASELINE, slo), "usual for {{model}}"),
            ],
        ),
        lines(
            "Safety flags a second by reason",
            "short",
            vec![(
                promql::rate(
                    &scope.of(metric::SAFETY_FLAGS.name, &[]),
                    &by(&["model", "reason"]),
                    window,
                ),
                "{{model}} {{reason}}",
            )],
        ),
        Panel {
            kind: Kind::States(&[
                (CircuitState::Closed as i32, "closed", "green"),
                (CircuitState::HalfOpen as i32, "half open", "yellow"),
                (CircuitState::Open as i32, "open", "red"),
            ]),
            about: "The worst of all pods.".to_owned(),
            ..lines(
                "Circuit breaker",
                "none",
                vec![(gauge("max", &metric::CIRCUIT_STATE), VERSION)],
            )
        },
        Panel {
            kind: Kind::States(&[(1, "loaded", "green"), (0, "not loaded", "red")]),
            about: "Not loaded: in some pod it should be, and is not.".to_owned(),
            ..lines(
                "Loaded",
                "none",
                vec![(gauge("min", &metric::MODEL_LOADED), VERSION)],
            )
        },
    ]
}
