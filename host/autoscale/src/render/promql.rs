//! The expressions that rules, adapter, KEDA and dashboard have in common: each question is asked in
//! one way, whoever asks. Names are the table's.

use aegis_telemetry::{MetricSpec, metric};

use super::outside::{JOB, NAMESPACE, POD, SERVICE};
use crate::slo::Slo;

/// The label of a route, and the route that callers feel.
pub(crate) const ENDPOINT: &str = "endpoint";
/// See [`ENDPOINT`].
pub(crate) const PREDICT: &str = "/predict";
/// A bucket's upper bound.
pub(crate) const LE: &str = "le";

/// Statuses of requests that were refused before they ran: the caller's own mistakes (400 to 489)
/// and what found no room (503). They are answered in microseconds, and counted as latency they
/// would hide an overload. Left in: 499, whose caller waited and left; 500 and 504, which took time.
pub(crate) const REFUSED: &str = "4[0-8].|503";

/// Statuses that are the service's fault.
pub(crate) const FAILED: &str = "5..";

/// A queue that was full.
pub(crate) const TOO_MANY: &str = "429";

/// A set of series: matchers that every question of one asker has.
#[derive(Clone, Debug)]
pub(crate) struct Scope(String);

impl Scope {
    /// Every pod of the service, canaries included: what callers feel.
    pub(crate) fn service(slo: &Slo) -> Self {
        let (namespace, name) = (&slo.service.namespace, &slo.service.name);
        Self(format!("{NAMESPACE}=\"{namespace}\",{JOB}=\"{name}\""))
    }

    /// The pods of the Deployment that is scaled.
    pub(crate) fn stable(slo: &Slo) -> Self {
        let Self(service) = Self::service(slo);
        Self(format!("{service},{SERVICE}=\"{}\"", slo.service.name))
    }

    /// What stands there when prometheus-adapter fills in its template.
    pub(crate) fn adapter() -> Self {
        Self("<<.LabelMatchers>>".to_owned())
    }

    /// The matchers, without braces.
    pub(crate) fn matchers(&self) -> &str {
        &self.0
    }

    /// The series of a metric in this scope that also match `more` (`endpoint="/predict"`).
    pub(crate) fn of(&self, name: &str, more: &[String]) -> String {
        let mut matchers = vec![self.0.clone()];
        matchers.extend_from_slice(more);
        format!("{name}{{{}}}", matchers.join(","))
    }
}

/// `label="value"`
pub(crate) fn is(label: &str, value: &str) -> String {
    format!("{label}=\"{value}\"")
}

/// `label=~"pattern"`
pub(crate) fn like(label: &str, pattern: &str) -> String {
    format!("{label}=~\"{pattern}\"")
}

/// `label!~"pattern"`
pub(crate) fn unlike(label: &str, pattern: &str) -> String {
    format!("{label}!~\"{pattern}\"")
}

/// A time as PromQL writes it, in the largest unit that fits.
pub(crate) fn duration(seconds: u32) -> String {
    const UNITS: [(u32, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "m")];
    for (unit, letter) in UNITS {
        if seconds >= unit && seconds.is_multiple_of(unit) {
            return format!("{}{letter}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

/// The `le` of a bucket, as a pattern: Prometheus 3 writes `1.0` where Prometheus 2 keeps `1`.
pub(crate) fn boundary(seconds: f64) -> String {
    if seconds.fract() == 0.0 {
        format!("{seconds}([.]0)?")
    } else {
        seconds.to_string().replace('.', "[.]")
    }
}

/// The labels of a grouping, in order.
pub(crate) fn by(labels: &[&str]) -> String {
    labels.join(", ")
}

/// One value a pod.
pub(crate) const PER_POD: &[&str] = &[NAMESPACE, POD];
/// One value for the service.
pub(crate) const WHOLE: &[&str] = &[NAMESPACE];

/// The series of one part of a histogram of `/predict` that ran: `bucket` or `count`.
fn ran(scope: &Scope, part: &str, more: &[String]) -> String {
    let spec = metric::HTTP_REQUEST_DURATION;
    let mut matchers = vec![is(ENDPOINT, PREDICT), unlike("status", REFUSED)];
    matchers.extend_from_slice(more);
    scope.of(&format!("{}_{part}", spec.name), &matchers)
}

/// A quantile of how long requests took, in seconds. With no traffic it is NaN.
pub(crate) fn latency(quantile: f64, scope: &Scope, by: &str, window: u32) -> String {
    let and = if by.is_empty() { "" } else { ", " };
    format!(
        "histogram_quantile({quantile}, sum by ({by}{and}{LE}) (rate({}[{}])))",
        ran(scope, "bucket", &[]),
        duration(window)
    )
}

/// An expression whose NaN is nothing: without traffic there is no quantile, and whoever compares,
/// averages or stores one should not meet NaN (KEDA makes a huge negative number of it).
pub(crate) fn number(expression: &str) -> String {
    format!("{expression} >= 0")
}

/// Requests to `/predict` that are being answered, averaged over a window.
pub(crate) fn in_flight(scope: &Scope, by: &str, window: u32) -> String {
    let series = scope.of(
        metric::HTTP_REQUESTS_IN_FLIGHT.name,
        &[is(ENDPOINT, PREDICT)],
    );
    gauge(&series, by, window)
}

/// Requests that wait for one of a model's places, all models together, averaged over a window.
pub(crate) fn queue_depth(scope: &Scope, by: &str, window: u32) -> String {
    gauge(
        &scope.of(metric::INFERENCE_QUEUE_DEPTH.name, &[]),
        by,
        window,
    )
}

fn gauge(series: &str, by: &str, window: u32) -> String {
    let average = format!("avg_over_time({series}[{}])", duration(window));
    if by.is_empty() {
        format!("sum({average})")
    } else {
        format!("sum by ({by}) ({average})")
    }
}

/// Requests to `/predict` a second.
pub(crate) fn requests(scope: &Scope, by: &str, window: u32, more: &[String]) -> String {
    let mut matchers = vec![is(ENDPOINT, PREDICT)];
    matchers.extend_from_slice(more);
    rate(&scope.of(metric::HTTP_REQUESTS.name, &matchers), by, window)
}

/// A sum of rates, a second.
pub(crate) fn rate(series: &str, by: &str, window: u32) -> String {
    format!("sum by ({by}) (rate({series}[{}]))", duration(window))
}

/// By how much a sum has grown.
pub(crate) fn increase(series: &str, by: &str, window: u32) -> String {
    format!("sum by ({by}) (increase({series}[{}]))", duration(window))
}

/// A share that is 0 where there was nothing to share, and absent where nothing is known.
pub(crate) fn share(part: &str, whole: &str) -> String {
    format!("(\n  {part}\n/\n  ({whole} > 0)\n)\nor\n{whole} * 0")
}

/// The share of requests without a good answer (5xx), over a window.
pub(crate) fn failed_share(scope: &Scope, window: u32) -> String {
    let by = by(WHOLE);
    let failed = requests(scope, &by, window, &[like("status", FAILED)]);
    share(&failed, &requests(scope, &by, window, &[]))
}

/// The share of requests that took longer than a bucket's bound, over a window.
pub(crate) fn slow_share(scope: &Scope, seconds: f64, window: u32) -> String {
    let by = by(WHOLE);
    let all = rate(&ran(scope, "count", &[]), &by, window);
    let quick = rate(
        &ran(scope, "bucket", &[like(LE, &boundary(seconds))]),
        &by,
        window,
    );
    share(&format!("({all} - {quick})"), &all)
}

/// The series of a version's metric, which a model's name narrows down.
pub(crate) fn series(scope: &Scope, spec: &MetricSpec, more: &[String]) -> String {
    scope.of(spec.name, more)
}
