//! What must hold between the values of an SLO file, and against the buckets that measure it and
//! the API that takes the manifests. Values by themselves are checked in `values.rs`.

use aegis_telemetry::metric;

use super::{Behavior, Millis, Policy, Problem, Slo};

/// Kubernetes' own bounds (`pkg/apis/autoscaling/validation`).
const MAX_STABILIZATION_SECONDS: u32 = 3600;
const MAX_PERIOD_SECONDS: u32 = 1800;

/// What does not go together; lines are filled in by the caller.
pub(super) fn problems(slo: &Slo) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    objectives(slo, &mut found);
    scaling(slo, &mut found);
    behavior("scaling.up", &slo.scaling.up, false, &mut found);
    behavior("scaling.down", &slo.scaling.down, true, &mut found);
    alerts(slo, &mut found);
    pod(slo, &mut found);
    metrics(slo, &mut found);
    rest(slo, &mut found);
    found.0
}

struct Found(Vec<Problem>);

impl Found {
    fn refuse(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            line: None,
            key: key.into(),
            message: message.into(),
        });
    }

    fn within(&mut self, key: &str, value: u32, from: u32, to: u32) {
        if !(from..=to).contains(&value) {
            self.refuse(key, format!("{value} must be from {from} to {to}"));
        }
    }
}

fn objectives(slo: &Slo, found: &mut Found) {
    let given = &slo.objectives;
    let times = [
        ("objectives.p50_ms", given.p50_ms),
        ("objectives.p95_ms", given.p95_ms),
        ("objectives.p95_warning_ms", given.p95_warning_ms),
        ("objectives.p99_ms", given.p99_ms),
        ("scaling.p95_target_ms", slo.scaling.p95_target_ms),
    ];
    for (key, time) in times {
        if let Err(message) = boundary(time) {
            found.refuse(key, message);
        }
    }
    if given.p50_ms > given.p95_ms {
        found.refuse(
            "objectives.p50_ms",
            format!(
                "{} is more than p95_ms, {}: half of the requests cannot be slower than 95 of 100",
                given.p50_ms, given.p95_ms
            ),
        );
    }
    if given.p95_warning_ms < given.p95_ms {
        found.refuse(
            "objectives.p95_warning_ms",
            format!(
                "{} is below p95_ms, {}: a warning goes up to here from the objective on",
                given.p95_warning_ms, given.p95_ms
            ),
        );
    }
    if given.p95_warning_ms > given.p99_ms {
        found.refuse(
            "objectives.p99_ms",
            format!(
                "{} is below what the P95 may take, {}",
                given.p99_ms, given.p95_warning_ms
            ),
        );
    }
    if given.availability_percent.rest() <= 0.0 {
        found.refuse(
            "objectives.availability_percent",
            "100 leaves no budget to burn, so no alert could say how fast it burns; at most 99.999 would do",
        );
    }
    // The burn rates of the alerts are shares of this time: below four weeks the slowest would tell
    // of a budget that is being kept, beyond forty days the fastest, of the P95's budget of 5 %,
    // would need more slow requests than there are.
    found.within("objectives.window_days", given.window_days, 28, 40);
}

/// Whether a time is a bucket boundary; else which boundaries are near.
fn boundary(time: Millis) -> Result<(), String> {
    let spec = metric::HTTP_REQUEST_DURATION;
    let seconds = time.seconds();
    let same = |bound: &&f64| (**bound - seconds).abs() < 1e-9;
    if spec.buckets.iter().any(|bound| same(&bound)) {
        return Ok(());
    }
    let below = spec.buckets.iter().rev().find(|bound| **bound < seconds);
    let above = spec.buckets.iter().find(|bound| **bound > seconds);
    let near: Vec<String> = [below, above]
        .into_iter()
        .flatten()
        .map(|bound| format!("{} ms", (bound * 1e9).round() / 1e6))
        .collect();
    Err(format!(
        "{time} is no bucket boundary of {}, so how many requests are faster would be a guess; near are {}",
        spec.name,
        near.join(" and ")
    ))
}

fn scaling(slo: &Slo, found: &mut Found) {
    let scaling = &slo.scaling;
    if scaling.p95_target_ms.millis().fract() != 0.0 {
        found.refuse(
            "scaling.p95_target_ms",
            format!(
                "{} is finer than the HPA counts, in thousandths of a second; a whole number would be right",
                scaling.p95_target_ms
            ),
        );
    }
    if scaling.min_replicas == 0 {
        found.refuse(
            "scaling.min_replicas",
            "0 is refused by Kubernetes (the gate HPAScaleToZero is off), and the first caller would wait for a start; at least 1",
        );
    }
    if scaling.min_replicas > scaling.max_replicas {
        found.refuse(
            "scaling.min_replicas",
            format!(
                "{} is more than max_replicas, {}",
                scaling.min_replicas, scaling.max_replicas
            ),
        );
    }
    // A pod holds no more than this of one model, so a higher target would never be reached.
    let room = f64::from(slo.pod.max_concurrency) + f64::from(slo.pod.max_queue);
    if scaling.in_flight_per_pod.get() >= room {
        found.refuse(
            "scaling.in_flight_per_pod",
            format!(
                "{} is never reached by one model: a pod takes {} at once and lets {} wait (pod.max_concurrency, pod.max_queue)",
                scaling.in_flight_per_pod.get(),
                slo.pod.max_concurrency,
                slo.pod.max_queue
            ),
        );
    }
    for (key, target) in [
        ("scaling.queue_per_pod", scaling.queue_per_pod),
        ("gpu.queue_per_pod", slo.gpu.queue_per_pod),
    ] {
        if target.get() >= f64::from(slo.pod.max_queue) {
            found.refuse(
                key,
                format!(
                    "{} is reached only when requests are refused already: pod.max_queue is {}",
                    target.get(),
                    slo.pod.max_queue
                ),
            );
        }
    }
}

fn behavior(key: &str, behavior: &Behavior, down: bool, found: &mut Found) {
    found.within(
        &format!("{key}.stabilization_seconds"),
        behavior.stabilization_seconds,
        0,
        MAX_STABILIZATION_SECONDS,
    );
    if behavior.policies.is_empty() {
        found.refuse(
            format!("{key}.policies"),
            "Kubernetes refuses an empty list; name at least one policy, or set select = \"disabled\"",
        );
    }
    for (index, policy) in behavior.policies.iter().enumerate() {
        let at = format!("{key}.policies[{index}]");
        one_policy(&at, policy, down, found);
        let same = |other: &Policy| other.pods.is_some() == policy.pods.is_some();
        if behavior.policies.iter().take(index).any(same) {
            found.refuse(
                at,
                "a second policy of one kind: one for `pods` and one for `percent` is what there is to say",
            );
        }
    }
}

fn one_policy(at: &str, policy: &Policy, down: bool, found: &mut Found) {
    match (policy.pods, policy.percent) {
        (Some(0), None) | (None, Some(0)) => {
            found.refuse(at, "0 is refused by Kubernetes; to stop scaling in this direction, set select = \"disabled\"");
        }
        (None, Some(percent)) if down && percent > 100 => {
            found.refuse(
                format!("{at}.percent"),
                format!("{percent} percent of the pods cannot be removed; at most 100"),
            );
        }
        (Some(_), None) | (None, Some(_)) => {}
        _ => found.refuse(at, "a policy has `pods` or `percent`, exactly one of them"),
    }
    found.within(
        &format!("{at}.period_seconds"),
        policy.period_seconds,
        1,
        MAX_PERIOD_SECONDS,
    );
}

fn alerts(slo: &Slo, found: &mut Found) {
    found.within("alerts.for_minutes", slo.alerts.for_minutes, 1, 60);
    found.within(
        "alerts.at_maximum_minutes",
        slo.alerts.at_maximum_minutes,
        1,
        1440,
    );
    // A burn rate times the budget is a share of requests; a share over 1 is never reached.
    let fastest = crate::render::fastest_burn(slo.objectives.window_days);
    let budget = slo.objectives.availability_percent.rest();
    if budget > 0.0 && fastest * budget >= 1.0 {
        found.refuse(
            "objectives.availability_percent",
            format!(
                "{} leaves a budget of {} %, and the fastest alert fires at {fastest} times that: more errors than requests; at least {} would do",
                slo.objectives.availability_percent.percent(),
                budget * 100.0,
                (100.0 - 100.0 / fastest).ceil()
            ),
        );
    }
}

fn pod(slo: &Slo, found: &mut Found) {
    let pod = &slo.pod;
    for (what, request, limit) in [
        ("cpu", &pod.cpu_request, &pod.cpu_limit),
        ("memory", &pod.memory_request, &pod.memory_limit),
    ] {
        if request.amount() > limit.amount() {
            found.refuse(
                format!("pod.{what}_request"),
                format!(
                    "{} is more than {what}_limit, {}",
                    request.as_str(),
                    limit.as_str()
                ),
            );
        }
    }
    // The bounds of the server's own settings (docs/configuration.md).
    found.within("pod.max_concurrency", pod.max_concurrency, 1, 10_000);
    found.within("pod.max_queue", pod.max_queue, 0, 100_000);
    found.within(
        "pod.request_timeout_ms",
        pod.request_timeout_ms,
        1,
        3_600_000,
    );
    found.within("pod.startup_seconds", pod.startup_seconds, 1, 3600);
    found.within("pod.pre_stop_seconds", pod.pre_stop_seconds, 1, 600);
    found.within("pod.drain_delay_ms", pod.drain_delay_ms, 0, 600_000);
    found.within(
        "pod.grace_period_seconds",
        pod.grace_period_seconds,
        1,
        3600,
    );
    let needed = (pod.drain_delay_ms.saturating_add(pod.request_timeout_ms)).div_ceil(1000);
    if pod.grace_period_seconds < needed {
        found.refuse(
            "pod.grace_period_seconds",
            format!(
                "{} is less than drain_delay_ms and request_timeout_ms together, {needed} s: the slowest request would be cut off at every roll-out",
                pod.grace_period_seconds
            ),
        );
    }
    let timeout = f64::from(pod.request_timeout_ms);
    if slo.objectives.p99_ms.millis() > timeout {
        found.refuse(
            "objectives.p99_ms",
            format!(
                "{} is more than pod.request_timeout_ms, {timeout} ms: what is slower is not answered at all",
                slo.objectives.p99_ms
            ),
        );
    }
}

fn metrics(slo: &Slo, found: &mut Found) {
    let metrics = &slo.metrics;
    found.within("metrics.scrape_seconds", metrics.scrape_seconds, 1, 120);
    // A rate needs two samples, also when one scrape fails.
    for (key, window, samples) in [
        (
            "metrics.rate_window_seconds",
            metrics.rate_window_seconds,
            4,
        ),
        (
            "metrics.gauge_window_seconds",
            metrics.gauge_window_seconds,
            2,
        ),
    ] {
        let least = metrics.scrape_seconds.saturating_mul(samples);
        if window < least {
            found.refuse(
                key,
                format!(
                    "{window} is less than {samples} scrapes (scrape_seconds is {}); at least {least}, or a pod has no value after one failed scrape, and the HPA does not scale down",
                    metrics.scrape_seconds
                ),
            );
        }
    }
    if !is_http_url(&metrics.prometheus_url) {
        found.refuse(
            "metrics.prometheus_url",
            format!(
                "`{}` is not the address of a Prometheus; http://NAME.NAMESPACE.svc:9090 would be",
                metrics.prometheus_url
            ),
        );
    }
}

fn rest(slo: &Slo, found: &mut Found) {
    let runbook = &slo.service.runbook_url;
    if !(is_http_url(runbook) || is_relative_path(runbook)) || runbook.contains('#') {
        found.refuse(
            "service.runbook_url",
            format!(
                "`{runbook}` is neither a URL (http:// or https://) nor a path in the repository (k8s/SLO_DEPLOYMENT_GUIDE.md), without a #, as alerts add theirs"
            ),
        );
    }
    for (key, image) in [
        ("service.image", &slo.service.image),
        ("gpu.image", &slo.gpu.image),
        ("canary.image", &slo.canary.image),
    ] {
        // What a tag would otherwise be, `latest`, changes under a running Deployment.
        let last = image.rsplit('/').next().unwrap_or_default();
        let tagged = last.contains(':') || image.contains("@sha256:");
        if image.contains(char::is_whitespace) || !tagged || last.ends_with(":latest") {
            found.refuse(
                key,
                format!("`{image}` must name a tag that stays what it is, as aegis:0.1.0 does, or a digest"),
            );
        }
    }
    found.within("gpu.per_pod", slo.gpu.per_pod, 1, 16);
    found.within("canary.replicas", slo.canary.replicas, 1, 100);
    if slo.canary.weight_percent.percent().fract() != 0.0 {
        found.refuse(
            "canary.weight_percent",
            format!(
                "{} must be a whole number: routers take no fractions",
                slo.canary.weight_percent.percent()
            ),
        );
    }
}

fn is_http_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
}

/// A path from a repository's root on: no scheme, nothing above the root, no spaces.
fn is_relative_path(text: &str) -> bool {
    let strange = |c: char| c.is_whitespace() || c == ':' || c == '\\';
    !text.contains(strange) && text.split('/').all(|part| !["", ".", ".."].contains(&part))
}
