//! Recording rules for what is asked again and again: latencies, in-flight, queue and rates, of
//! each pod and of the service, and how often handlers raise safety flags.

use aegis_telemetry::metric;

use super::{Group, Recording, read};
use crate::{
    render::promql::{
        self, PER_POD, Scope, TOO_MANY, WHOLE, by, duration, failed_share, in_flight, is, latency,
        number, queue_depth, rate, requests, share,
    },
    slo::Slo,
};

/// What recordings are called.
pub(crate) mod names {
    use aegis_telemetry::metric;

    use super::duration;
    use crate::slo::Slo;

    /// A quantile of latency: `level` is `pod` or `service`, `quantile` `p95`.
    pub(crate) fn latency(level: &str, quantile: &str) -> String {
        format!("{level}:{}:{quantile}", metric::HTTP_REQUEST_DURATION.name)
    }

    /// Requests in flight.
    pub(crate) fn in_flight(level: &str) -> String {
        format!("{level}:{}:sum", metric::HTTP_REQUESTS_IN_FLIGHT.name)
    }

    /// Requests waiting.
    pub(crate) fn queue_depth(level: &str) -> String {
        format!("{level}:{}:sum", metric::INFERENCE_QUEUE_DEPTH.name)
    }

    /// Requests a second.
    pub(crate) fn requests(level: &str, slo: &Slo) -> String {
        format!("{level}:http_requests:rate{}", window(slo))
    }

    /// The share of requests that fail.
    pub(crate) fn failed(slo: &Slo) -> String {
        format!("service:http_requests_failed:ratio_rate{}", window(slo))
    }

    /// The share of requests that a full queue refuses.
    pub(crate) fn refused(slo: &Slo) -> String {
        format!("service:http_requests_refused:ratio_rate{}", window(slo))
    }

    /// Safety flags for each prediction.
    pub(crate) fn flags(window: u32) -> String {
        format!("model:aegis_safety_flags:ratio_rate{}", duration(window))
    }

    /// What is usual of them.
    pub(crate) const FLAGS_BASELINE: &str = "model:aegis_safety_flags:baseline";

    /// What a model was asked, over the time in which its usual flags are looked for.
    pub(crate) fn asked() -> String {
        let window = duration(super::FLAGS_USUAL);
        format!("model:aegis_inference_requests:increase{window}")
    }

    fn window(slo: &Slo) -> String {
        duration(slo.metrics.rate_window_seconds)
    }
}

/// Over this a spike of safety flags is looked for …
pub(crate) const FLAGS_NOW: u32 = 600;
/// … and over this what is usual.
const FLAGS_USUAL: u32 = 86_400;
/// A model, and what it is called.
pub(super) const PER_MODEL: &[&str] = &[crate::render::outside::NAMESPACE, "model"];

/// The groups.
pub(super) fn groups(slo: &Slo) -> Vec<Group> {
    let interval = slo.metrics.scrape_seconds;
    let group = |name: &str, recordings| Group {
        name: format!("{}-{name}", slo.service.name),
        interval,
        recordings,
        alerts: Vec::new(),
    };
    vec![
        group("pods", level(slo, "pod", PER_POD)),
        group("service", service(slo)),
        group("safety", safety(slo)),
    ]
}

fn plain(name: String, expression: String) -> Recording {
    Recording {
        name,
        labels: Vec::new(),
        expression,
    }
}

/// What is recorded of pods and of the service alike.
fn level(slo: &Slo, level: &str, labels: &[&str]) -> Vec<Recording> {
    let scope = Scope::service(slo);
    let (by, window) = (by(labels), slo.metrics.rate_window_seconds);
    let gauges = slo.metrics.gauge_window_seconds;
    let quantiles = slo.latency().map(|objective| {
        plain(
            names::latency(level, objective.name),
            number(&latency(objective.quantile, &scope, &by, window)),
        )
    });
    let mut recordings = Vec::from(quantiles);
    recordings.push(plain(
        names::in_flight(level),
        in_flight(&scope, &by, gauges),
    ));
    recordings.push(plain(
        names::queue_depth(level),
        queue_depth(&scope, &by, gauges),
    ));
    recordings.push(plain(
        names::requests(level, slo),
        requests(&scope, &by, window, &[]),
    ));
    recordings
}

fn service(slo: &Slo) -> Vec<Recording> {
    let scope = Scope::service(slo);
    let (whole, window) = (by(WHOLE), slo.metrics.rate_window_seconds);
    let refused = requests(&scope, &whole, window, &[is("status", TOO_MANY)]);
    let all = requests(&scope, &whole, window, &[]);
    let mut recordings = level(slo, "service", WHOLE);
    recordings.push(plain(names::failed(slo), failed_share(&scope, window)));
    recordings.push(plain(names::refused(slo), share(&refused, &all)));
    recordings
}

fn safety(slo: &Slo) -> Vec<Recording> {
    let scope = Scope::service(slo);
    let by = by(PER_MODEL);
    let flags = |window| {
        let of = |spec| rate(&promql::series(&scope, spec, &[]), &by, window);
        plain(
            names::flags(window),
            share(&of(&metric::SAFETY_FLAGS), &of(&metric::INFERENCE_REQUESTS)),
        )
    };
    let asked = promql::series(&scope, &metric::INFERENCE_REQUESTS, &[]);
    let asked = promql::increase(&asked, &by, FLAGS_USUAL);
    let (now, usual) = (names::flags(FLAGS_NOW), names::flags(FLAGS_USUAL));
    vec![
        flags(FLAGS_NOW),
        flags(FLAGS_USUAL),
        plain(names::asked(), asked),
        // What a model did until the time that is looked at: in that time a spike is no longer
        // unusual. One that is new has done nothing yet.
        plain(
            names::FLAGS_BASELINE.to_owned(),
            format!(
                "clamp_min(\n  ({} offset {}) or ({} * 0),\n  {}\n)",
                read(&usual, slo),
                duration(FLAGS_NOW),
                read(&now, slo),
                slo.safety.baseline_percent.share()
            ),
        ),
    ]
}
