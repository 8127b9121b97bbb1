//! `docs/metrics.md`, written from the table. A test compares the committed page with this.

use std::fmt::Write as _;

use crate::outcome::{Outcome, TrapReason};
use crate::table::{METRICS, MetricKind};

/// The page that documents every metric.
pub fn metrics_markdown() -> String {
    let mut page = String::from(HEAD);
    for spec in METRICS {
        let labels: Vec<String> = spec
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            spec.name,
            spec.kind.as_str(),
            labels.join(", "),
            spec.help
        );
    }
    page.push_str(
        "\n## Buckets\n\nUpper bounds, in the metric's unit; `+Inf` is always there.\n\n",
    );
    for spec in METRICS
        .iter()
        .filter(|spec| spec.kind == MetricKind::Histogram)
    {
        let bounds: Vec<String> = spec.buckets.iter().map(f64::to_string).collect();
        let _ = writeln!(page, "- `{}`: {}", spec.name, bounds.join(", "));
    }
    page.push_str("\n## Label values\n\n");
    let outcomes: Vec<&str> = Outcome::ALL
        .iter()
        .map(|outcome| outcome.as_str())
        .collect();
    let reasons: Vec<&str> = TrapReason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .collect();
    let _ = writeln!(
        page,
        "- `outcome` of `aegis_inference_requests_total`: {}.",
        outcomes.join(", ")
    );
    let _ = writeln!(
        page,
        "- `reason` of `aegis_handler_traps_total`: {}.",
        reasons.join(", ")
    );
    page.push_str(LABELS);
    page
}

const HEAD: &str = "\
# Metrics

<!-- Written by `UPDATE_DOCS=1 cargo test -p aegis-telemetry --test docs`. Edit host/telemetry/src/table.rs instead. -->

What `GET /metrics` exports, and what is sent by OTLP (telemetry.md). Names, labels and buckets are a contract: rules, dashboards and
autoscaling depend on them.

| metric | kind | labels | what |
|---|---|---|---|
";

const LABELS: &str = "\
- `reason` of `aegis_safety_flags_total`: the handler's own word, made `[a-z0-9_]{1,32}`; at most 32 a model, then `other`.
- `endpoint`: a route template (`/v1/models/{name}`), never a path; `unmatched` where no route fits.
- `method`: an HTTP method in capitals, or `OTHER`.
- `outcome` of `aegis_otlp_spans_total`: sent, failed, dropped; of `aegis_otlp_metric_exports_total`: sent, failed.
- `runtime`: `executor`, which serves requests, and `lane`, where calls that compute long go on.
- `profile`: `release` or `debug`.
- `status`: the status as a number; 499 when the caller went away before the answer.

## How long series live

What the process takes (`process_…`) is read from `/proc` at each scrape, and absent where there is
none. Series exist at zero from the moment their route or version does, so a rate has a start. Counters
and histograms of a version stay while the version is in the registry, loaded or not, and go as it is
deleted, those of a model with the model; the others stay until the process ends. A gauge goes when
what it measures goes: `aegis_model_loaded` is 0 for a version that should serve and does not, and
absent for one that was deleted, no longer serves, or waits unloaded for its next request.

To a collector (OTLP) what stays is one message of each export, and each model and each version one more.

## How large a scrape is

Every outcome, reason and limit of each model is there from the start, as a rule needs a zero to see
the first one, and so are all buckets: about 15 kB of text for a model with one version and one graph. A scrape is
sent in gzip to those who take it, as Prometheus does by itself, and is a twentieth then: with 200 models
131 kB instead of 3.0 MB (`curl -s --compressed -w '%{size_download}' -o /dev/null …/metrics`).
";
