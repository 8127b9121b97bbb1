//! The Grafana dashboard. Its questions are in one list, so that a test can ask a live Prometheus
//! each of them.

use aegis_telemetry::{MetricSpec, metric};

use super::{
    node::{Node, list, map},
    outside::{
        DEPLOYMENT_READY, DEPLOYMENT_REPLICAS, DEPLOYMENT_SPEC_REPLICAS, HPA_DESIRED, NAMESPACE,
    },
    promql::{self, LE, Scope, by, duration},
    rules::{
        burn, read,
        recording::{FLAGS_NOW, names},
    },
};
use crate::slo::Slo;

/// A question that a panel asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The panel's title.
    pub panel: String,
    /// In PromQL.
    pub expression: String,
    /// Whether it is answered by others than Aegis and Prometheus: kube-state-metrics.
    pub needs_cluster: bool,
}

/// Every question of the dashboard, in the order of its panels.
pub fn queries(slo: &Slo) -> Vec<Query> {
    let mut queries = Vec::new();
    for panel in rows(slo).into_iter().flat_map(|row| row.panels) {
        for (expression, _) in panel.asks {
            queries.push(Query {
                panel: panel.title.to_owned(),
                needs_cluster: expression.contains("kube_"),
                expression,
            });
        }
    }
    queries
}

/// Grafana's grid is so wide.
const WIDTH: i32 = 24;
const HEIGHT: i32 = 8;

struct Row {
    title: &'static str,
    panels: Vec<Panel>,
}

struct Panel {
    title: &'static str,
    about: String,
    kind: Kind,
    unit: &'static str,
    width: i32,
    /// Each with what its series are called.
    asks: Vec<(String, &'static str)>,
    /// Where values turn from good to bad: drawn as a line.
    bound: Option<f64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Lines,
    Number,
    Heatmap,
    States,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "timeseries",
            Self::Number => "stat",
            Self::Heatmap => "heatmap",
            Self::States => "state-timeline",
        }
    }
}

fn lines(title: &'static str, unit: &'static str, asks: Vec<(String, &'static str)>) -> Panel {
    Panel {
        title,
        about: String::new(),
        kind: Kind::Lines,
        unit,
        width: 12,
        asks,
        bound: None,
    }
}

fn rows(slo: &Slo) -> Vec<Row> {
    vec![
        Row {
            title: "Objectives",
            panels: objectives(slo),
        },
        Row {
            title: "Latency",
            panels: latency(slo),
        },
        Row {
            title: "Load",
            panels: load(slo),
        },
        Row {
            title: "Scaling",
            panels: scaling(slo),
        },
        Row {
            title: "Models",
            panels: models(slo),
        },
    ]
}

fn objectives(slo: &Slo) -> Vec<Panel> {
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

fn latency(slo: &Slo) -> Vec<Panel> {
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

fn load(slo: &Slo) -> Vec<Panel> {
    let scope = Scope::service(slo);
    let window = slo.metrics.rate_window_seconds;
    let graph_quantile = |spec: &MetricSpec, quantile: f64| {
        let buckets = scope.of(&format!("{}_bucket", spec.name), &[]);
        format!(
            "histogram_quantile({quantile}, {})",
            promql::rate(&buckets, &by(&["model", "graph", LE]), window)
        )
    };
    let batch = &metric::INFERENCE_BATCH_SIZE;
    let part = |part: &str| {
        let series = scope.of(&format!("{}_{part}", batch.name), &[]);
        promql::rate(&series, &by(&["model", "graph"]), window)
    };
    vec![
        Panel {
            bound: Some(slo.scaling.in_flight_per_pod.get()),
            ..lines(
                "Requests in flight by pod",
                "short",
                vec![(read(&names::in_flight("pod"), slo), "{{pod}}")],
            )
        },
        Panel {
            bound: Some(slo.scaling.queue_per_pod.get()),
            ..lines(
                "Requests waiting by pod",
                "short",
                vec![(read(&names::queue_depth("pod"), slo), "{{pod}}")],
            )
        },
        lines(
            "Batch size, on average",
            "short",
            vec![(
                format!("{} / {}", part("sum"), part("count")),
                "{{model}} {{graph}}",
            )],
        ),
        lines(
            "A run of a graph, P95",
            "s",
            vec![
                (
                    graph_quantile(&metric::INFERENCE_QUEUE, 0.95),
                    "waited {{model}} {{graph}}",
                ),
                (
                    graph_quantile(&metric::INFERENCE_COMPUTE, 0.95),
                    "computed {{model}} {{graph}}",
                ),
            ],
        ),
    ]
}

fn scaling(slo: &Slo) -> Vec<Panel> {
    let (name, namespace) = (&slo.service.name, &slo.service.namespace);
    let deployment =
        |metric: &str| format!("{metric}{{{NAMESPACE}=\"{namespace}\",deployment=\"{name}\"}}");
    let desired = format!(
        "{HPA_DESIRED}{{{NAMESPACE}=\"{namespace}\",horizontalpodautoscaler=~\"(keda-hpa-)?{name}\"}}"
    );
    let per_pod = |total: String, target: f64| format!("ceil({total} / {target})");
    let total = read(&names::in_flight("service"), slo);
    vec![
        Panel {
            bound: Some(slo.scaling.max_replicas.into()),
            about: "What the autoscaler wants, what the Deployment should have, and what is ready."
                .to_owned(),
            ..lines(
                "Replicas against the target",
                "short",
                vec![
                    (desired, "wanted"),
                    (deployment(DEPLOYMENT_SPEC_REPLICAS), "should be"),
                    (deployment(DEPLOYMENT_READY), "ready"),
                    (
                        per_pod(total, slo.scaling.in_flight_per_pod.get()),
                        "asked for by in-flight",
                    ),
                ],
            )
        },
        lines(
            "Scaling events in five minutes",
            "short",
            vec![(
                format!(
                    "changes({}[{}])",
                    deployment(DEPLOYMENT_REPLICAS),
                    duration(300)
                ),
                "changes",
            )],
        ),
    ]
}

fn models(slo: &Slo) -> Vec<Panel> {
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
            kind: Kind::States,
            about: "0 closed, 1 half open, 2 open; the worst of all pods.".to_owned(),
            ..lines(
                "Circuit breaker",
                "none",
                vec![(gauge("max", &metric::CIRCUIT_STATE), VERSION)],
            )
        },
        Panel {
            kind: Kind::States,
            about: "0: in some pod it should be loaded and is not.".to_owned(),
            ..lines(
                "Loaded",
                "none",
                vec![(gauge("min", &metric::MODEL_LOADED), VERSION)],
            )
        },
    ]
}

/// The dashboard as Grafana imports it.
pub(super) fn dashboard(slo: &Slo) -> Node {
    let mut panels = Vec::new();
    let (mut x, mut y, mut id) = (0, 0, 0);
    for row in rows(slo) {
        if x > 0 {
            (x, y) = (0, y + HEIGHT);
        }
        id += 1;
        panels.push(map! {
            "id" => id,
            "type" => "row",
            "title" => row.title,
            "collapsed" => false,
            "gridPos" => position(0, y, WIDTH, 1),
            "panels" => list![],
        });
        y += 1;
        for panel in row.panels {
            if x + panel.width > WIDTH {
                (x, y) = (0, y + HEIGHT);
            }
            id += 1;
            panels.push(written(&panel, id, x, y));
            x += panel.width;
        }
    }
    map! {
        "uid" => format!("{}-slo", slo.service.name),
        "title" => format!("Aegis: {} against its SLO", slo.service.name),
        "description" => "Rendered by `aegis slo render` from slo.toml.",
        "tags" => list!["aegis", "slo"],
        "schemaVersion" => 39,
        "version" => 1,
        "editable" => false,
        "graphTooltip" => 1,
        "timezone" => "browser",
        "refresh" => "30s",
        "time" => map! { "from" => "now-6h", "to" => "now" },
        "templating" => map! {
            "list" => list![map! {
                "name" => "datasource",
                "label" => "Prometheus",
                "type" => "datasource",
                "query" => "prometheus",
                "refresh" => 1,
            }],
        },
        "annotations" => map! { "list" => list![] },
        "panels" => panels,
    }
}

fn position(x: i32, y: i32, width: i32, height: i32) -> Node {
    map! { "x" => x, "y" => y, "w" => width, "h" => height }
}

fn source() -> Node {
    map! { "type" => "prometheus", "uid" => "${datasource}" }
}

fn written(panel: &Panel, id: i32, x: i32, y: i32) -> Node {
    let targets = panel
        .asks
        .iter()
        .zip('A'..)
        .map(|((expression, legend), letter)| {
            map! {
                "refId" => letter.to_string(),
                "datasource" => source(),
                "expr" => expression,
                "legendFormat" => *legend,
                "format" => if panel.kind == Kind::Heatmap { "heatmap" } else { "time_series" },
                "instant" => panel.kind == Kind::Number,
                "range" => panel.kind != Kind::Number,
            }
        });
    map! {
        "id" => id,
        "type" => panel.kind.as_str(),
        "title" => panel.title,
        "description" => &panel.about,
        "datasource" => source(),
        "gridPos" => position(x, y, panel.width, HEIGHT),
        "targets" => targets.collect::<Vec<_>>(),
        "fieldConfig" => map! {
            "defaults" => defaults(panel),
            "overrides" => list![],
        },
        "options" => options(panel.kind),
    }
}

fn defaults(panel: &Panel) -> Node {
    let mut steps = vec![map! { "color" => "green" }];
    // What is left of a budget is good above its bound; all else is good below.
    let budget = panel.unit == "percentunit" && panel.bound == Some(0.0);
    if budget {
        steps = vec![map! { "color" => "red" }];
    }
    if let Some(bound) = panel.bound {
        steps.push(map! { "color" => if budget { "green" } else { "red" }, "value" => bound });
    }
    let drawn = panel.bound.is_some() && panel.kind == Kind::Lines;
    map! {
        "unit" => panel.unit,
        "thresholds" => map! { "mode" => "absolute", "steps" => steps },
    }
    .with(
        "custom",
        drawn.then(|| map! { "thresholdsStyle" => map! { "mode" => "line" } }),
    )
}

fn options(kind: Kind) -> Node {
    match kind {
        Kind::Heatmap => map! {
            "calculate" => false,
            "yAxis" => map! { "unit" => "s" },
            "cellGap" => 1,
            "color" => map! { "mode" => "scheme", "scheme" => "Oranges", "steps" => 64 },
        },
        Kind::Number => map! {
            "reduceOptions" => map! { "calcs" => list!["lastNotNull"], "values" => false },
            "colorMode" => "value",
        },
        Kind::Lines => map! {
            "legend" => map! { "displayMode" => "list", "placement" => "bottom" },
            "tooltip" => map! { "mode" => "multi", "sort" => "desc" },
        },
        Kind::States => map! { "mergeValues" => true, "showValue" => "auto" },
    }
}
