//! Alerts on symptoms: what callers feel, what stands before they do, and what would leave us blind.
//! Those on error budgets are in `burn.rs`.

use aegis_telemetry::{CircuitState, metric};

use super::{
    Alert, Group, Severity, burn, read,
    recording::{FLAGS_NOW, PER_MODEL, names},
};
use crate::{
    render::{
        outside::{self, JOB, NAMESPACE},
        promql::{self, ENDPOINT, PREDICT, Scope, by, duration, is},
    },
    slo::Slo,
};

/// Alerts are looked at as often as their recordings change.
pub(super) fn group(slo: &Slo) -> Group {
    let mut alerts = latency(slo);
    alerts.extend(load(slo));
    alerts.extend(models(slo));
    alerts.extend(scaling(slo));
    alerts.extend(blindness(slo));
    alerts.extend(burn::alerts(slo));
    Group {
        name: format!("{}-alerts", slo.service.name),
        interval: slo.metrics.scrape_seconds,
        recordings: Vec::new(),
        alerts,
    }
}

/// A symptom that must last as long as the file says.
fn symptom(
    slo: &Slo,
    severity: Severity,
    name: &str,
    expression: String,
    summary: impl Into<String>,
    description: impl Into<String>,
) -> Alert {
    Alert {
        name: name.to_owned(),
        expression,
        lasts: slo.alerts.for_minutes * 60,
        severity,
        labels: Vec::new(),
        summary: summary.into(),
        description: description.into(),
    }
}

fn latency(slo: &Slo) -> Vec<Alert> {
    let [p50, p95, p99] = slo.latency();
    let worst = slo.objectives.p95_warning_ms.seconds();
    let over = |name: &str, seconds: f64| {
        format!(
            "{} > {seconds}",
            read(&names::latency("service", name), slo)
        )
    };
    let minutes = slo.alerts.for_minutes;
    let told = |what: &str, objective: f64| {
        format!(
            "{what} of /predict has been above {objective} s for {minutes} minutes; it is {{{{ $value | humanizeDuration }}}}."
        )
    };
    vec![
        symptom(
            slo,
            Severity::Warning,
            "AegisLatencyObjectiveBreached",
            over(p95.name, p95.seconds),
            "P95 latency is over its objective",
            told("The P95", p95.seconds),
        ),
        symptom(
            slo,
            Severity::Critical,
            "AegisLatencyBeyondWarning",
            over(p95.name, worst),
            "P95 latency is far over its objective",
            told("The P95", worst),
        ),
        symptom(
            slo,
            Severity::Warning,
            "AegisLatencyP50Breached",
            over(p50.name, p50.seconds),
            "Half of the requests are slower than they should be",
            told("The P50", p50.seconds),
        ),
        symptom(
            slo,
            Severity::Warning,
            "AegisLatencyP99Breached",
            over(p99.name, p99.seconds),
            "P99 latency is over its objective",
            told("The P99", p99.seconds),
        ),
    ]
}

fn load(slo: &Slo) -> Vec<Alert> {
    let queue = slo.scaling.queue_per_pod.get();
    let refused = slo.alerts.refused_percent;
    vec![
        symptom(
            slo,
            Severity::Warning,
            "AegisQueueDepthHigh",
            format!(
                "max by ({NAMESPACE}) ({}) > {queue}",
                read(&names::queue_depth("pod"), slo)
            ),
            "Requests pile up before a model",
            format!(
                "More than {queue} requests have been waiting for a model's place in one pod for {} minutes; they are {{{{ $value | humanize }}}}.",
                slo.alerts.for_minutes
            ),
        ),
        symptom(
            slo,
            Severity::Critical,
            "AegisRequestsRefused",
            format!("{} > {}", read(&names::refused(slo), slo), refused.share()),
            "Requests are refused for full queues",
            format!(
                "More than {} % of requests have been answered 429 for {} minutes; it is {{{{ $value | humanizePercentage }}}}.",
                refused.percent(),
                slo.alerts.for_minutes
            ),
        ),
    ]
}

fn models(slo: &Slo) -> Vec<Alert> {
    let scope = Scope::service(slo);
    let open = CircuitState::Open as u8;
    let by_model = by(PER_MODEL);
    let by_version = format!("{NAMESPACE}, model, model_version");
    let now = names::flags(FLAGS_NOW);
    let flags = promql::series(&scope, &metric::SAFETY_FLAGS, &[]);
    vec![
        Alert {
            // Two looks: a spike may be over before five minutes are.
            lasts: slo.metrics.scrape_seconds * 2,
            ..symptom(
                slo,
                Severity::Warning,
                "AegisSafetyFlagSpike",
                format!(
                    "{} > {} * {}\nand\n{} >= {}\nand\n{} offset {} >= {}",
                    read(&now, slo),
                    slo.safety.spike_factor.get(),
                    read(names::FLAGS_BASELINE, slo),
                    promql::increase(&flags, &by_model, FLAGS_NOW),
                    slo.safety.minimum_flags,
                    // Before that, nothing was usual that this could be more than.
                    read(&names::asked(), slo),
                    duration(FLAGS_NOW),
                    slo.safety.minimum_predictions
                ),
                "Model {{ $labels.model }} raises unusually many safety flags",
                format!(
                    "In the last {} its handler raised {{{{ $value | humanizePercentage }}}} as many safety flags as there were predictions: more than {} times what is usual (the day before, and at least {} %).",
                    duration(FLAGS_NOW),
                    slo.safety.spike_factor.get(),
                    slo.safety.baseline_percent.percent()
                ),
            )
        },
        Alert {
            lasts: 60,
            ..symptom(
                slo,
                Severity::Critical,
                "AegisCircuitOpen",
                format!(
                    "count by ({by_version}) ({} == {open}) > 0",
                    promql::series(&scope, &metric::CIRCUIT_STATE, &[])
                ),
                "The circuit breaker of {{ $labels.model }} version {{ $labels.model_version }} is open",
                "In {{ $value }} pods the version failed or was slow so often that its requests go to another version, where one can answer.",
            )
        },
        symptom(
            slo,
            Severity::Critical,
            "AegisModelNotLoaded",
            format!(
                "count by ({by_version}) ({} == 0) > 0",
                promql::series(&scope, &metric::MODEL_LOADED, &[])
            ),
            "Model {{ $labels.model }} version {{ $labels.model_version }} is not loaded",
            "In {{ $value }} pods the version should serve and does not; those pods are not ready.",
        ),
    ]
}

fn scaling(slo: &Slo) -> Vec<Alert> {
    let (name, namespace) = (&slo.service.name, &slo.service.namespace);
    let deployment = format!(
        "{}{{{NAMESPACE}=\"{namespace}\",deployment=\"{name}\"}}",
        outside::DEPLOYMENT_SPEC_REPLICAS
    );
    let max = slo.scaling.max_replicas;
    vec![
        Alert {
            lasts: slo.alerts.at_maximum_minutes * 60,
            ..symptom(
                slo,
                Severity::Warning,
                "AegisScaledToMaximum",
                format!("{deployment} >= {max}"),
                "The service is at its most replicas",
                format!(
                    "It has had {max} replicas for {} minutes: whatever comes now is not met with more.",
                    slo.alerts.at_maximum_minutes
                ),
            )
        },
        symptom(
            slo,
            Severity::Critical,
            "AegisScalerNotWorking",
            format!(
                "{}{{{NAMESPACE}=\"{namespace}\",horizontalpodautoscaler=~\"(keda-hpa-)?{name}\",condition=\"ScalingActive\",status=\"false\"}} == 1",
                outside::HPA_CONDITION
            ),
            "The autoscaler cannot decide",
            "The HPA {{ $labels.horizontalpodautoscaler }} says that it is not active: none of its metrics can be read, so replicas stay what they are.",
        ),
        symptom(
            slo,
            Severity::Warning,
            "AegisReplicasUnknown",
            format!("absent({deployment})"),
            "Nobody says how many replicas there are",
            format!(
                "kube-state-metrics has no series of the Deployment {name}: alerts on its replicas and its HPA cannot fire."
            ),
        ),
    ]
}

fn blindness(slo: &Slo) -> Vec<Alert> {
    let scope = Scope::service(slo);
    let in_flight = scope.of(
        metric::HTTP_REQUESTS_IN_FLIGHT.name,
        &[is(ENDPOINT, PREDICT)],
    );
    vec![
        symptom(
            slo,
            Severity::Critical,
            "AegisMetricsMissing",
            format!("absent({in_flight})"),
            "Nothing is known of the service",
            format!(
                "No pod has had a series of {} for {PREDICT}: either no pod is scraped or its labels are not as they should be. The HPA sees nothing, and neither do the other alerts.",
                metric::HTTP_REQUESTS_IN_FLIGHT.name
            ),
        ),
        symptom(
            slo,
            Severity::Warning,
            "AegisScrapeFailing",
            format!(
                "count by ({NAMESPACE}, {JOB}) ({} == 0) > 0",
                scope.of(outside::UP, &[])
            ),
            "Pods are not scraped",
            "{{ $value }} pods do not answer /metrics. A pod without values keeps the HPA from scaling down.",
        ),
    ]
}
