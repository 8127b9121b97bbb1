//! What callers were promised, and what they feel.

use super::panel::{Kind, Panel, lines};
use crate::{
    render::{
        promql::{self, LE, Scope},
        rules::{burn, read, recording::names},
    },
    slo::Slo,
};
use aegis_telemetry::metric;

/// Whether the objectives are kept, and how much of their budgets is left.
pub(super) fn kept(slo: &Slo) -> Vec<Panel> {
    let days = slo.objectives.window_days;
    let remaining = read(&burn::remaining_name(slo), slo);
    let hour = read(&burn::rate_name(3600), slo);
    let [_, p95, _] = slo.latency();
    vec![
        Panel {
            about: format!("What is left of each objective's budget over {days} days."),
            kind: Kind::Number,
            bound: Some(0.0),
            ..lines(
                "Error budget left",
                "percentunit",
                vec![(remaining, "{{slo}}")],
            )
        },
        Panel {
            about: "1 uses the budget up exactly in time.".to_owned(),
            bound: Some(1.0),
            ..lines("Burn rate over an hour", "none", vec![(hour, "{{slo}}")])
        },
        Panel {
            about: format!("The objective is {} s.", p95.seconds),
            kind: Kind::Number,
            width: 8,
            bound: Some(p95.seconds),
            ..lines(
                "P95 now",
                "s",
                vec![(read(&names::latency("service", p95.name), slo), "P95")],
            )
        },
        Panel {
            kind: Kind::Number,
            width: 8,
            bound: Some(slo.objectives.availability_percent.rest()),
            ..lines(
                "Failing requests now",
                "percentunit",
                vec![(read(&names::failed(slo), slo), "5xx")],
            )
        },
        Panel {
            kind: Kind::Number,
            width: 8,
            ..lines(
                "Requests a second now",
                "reqps",
                vec![(read(&names::requests("service", slo), slo), "requests")],
            )
        },
    ]
}

/// How long requests take.
pub(super) fn latency(slo: &Slo) -> Vec<Panel> {
    let scope = Scope::service(slo);
    let window = slo.metrics.rate_window_seconds;
    let buckets = scope.of(
        &format!("{}_bucket", metric::HTTP_REQUEST_DURATION.name),
        &[promql::is(promql::ENDPOINT, promql::PREDICT)],
    );
    let quantile = |level, name| read(&names::latency(level, name), slo);
    let [_, p95, _] = slo.latency();
    vec![
        Panel {
            kind: Kind::Heatmap,
            ..lines(
                "Latency of requests",
                "s",
                vec![(promql::rate(&buckets, LE, window), "{{le}}")],
            )
        },
        Panel {
            bound: Some(p95.seconds),
            ..lines(
                "Latency percentiles",
                "s",
                vec![
                    (quantile("service", "p50"), "P50"),
                    (quantile("service", "p95"), "P95"),
                    (quantile("service", "p99"), "P99"),
                ],
            )
        },
        Panel {
            bound: Some(slo.scaling.p95_target_ms.seconds()),
            about: "What the HPA compares with its target, pod by pod.".to_owned(),
            ..lines("P95 by pod", "s", vec![(quantile("pod", "p95"), "{{pod}}")])
        },
        lines(
            "Answers by status",
            "reqps",
            vec![(
                promql::requests(&scope, "status", window, &[]),
                "{{status}}",
            )],
        ),
    ]
}
