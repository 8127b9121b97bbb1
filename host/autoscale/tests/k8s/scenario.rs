//! What two pods tell Prometheus in situations that rules must get right, and promtool's test files
//! made of it. A look every 15 seconds, from minute 0 on.

use serde_json::{Value, json};

/// Looks in a minute.
const A_MINUTE: u32 = 4;
/// How long a scenario lasts, in looks.
const LENGTH: u32 = 40 * A_MINUTE;

/// A situation.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    series: Vec<(String, String)>,
}

/// What requests of one pod do between two looks.
#[derive(Clone, Copy)]
pub(crate) struct Traffic {
    /// Answered 200, 500 and 429.
    statuses: [u32; 3],
    /// How many of 60 that ran took at most 0.1, 0.2, 0.35, 0.4, 0.5, 1.5 and 2 seconds.
    latencies: [u32; 7],
}

/// Half within 0.1 s, all within 0.35 s, nothing fails.
pub(crate) const CALM: Traffic = Traffic {
    statuses: [100, 0, 0],
    latencies: [30, 54, 60, 60, 60, 60, 60],
};
/// Half slower than half a second, a fifth slower than 1.5 s, a tenth fails, a tenth is refused.
pub(crate) const BAD: Traffic = Traffic {
    statuses: [80, 10, 10],
    latencies: [6, 6, 12, 12, 30, 48, 60],
};
/// Slower than the objective, within the warning: the P95 is 0.39 s.
pub(crate) const SLOWISH: Traffic = Traffic {
    statuses: [100, 0, 0],
    latencies: [0, 36, 52, 58, 60, 60, 60],
};
/// Nobody asks.
pub(crate) const NONE: Traffic = Traffic {
    statuses: [0; 3],
    latencies: [0; 7],
};

const BOUNDS: [&str; 8] = ["0.1", "0.2", "0.35", "0.4", "0.5", "1.5", "2", "+Inf"];

/// How a counter that grows by `step` goes on.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Life {
    /// To the end.
    Whole,
    /// The process starts anew at minute 15.
    Restarts,
    /// The pod is gone from minute 15 on.
    Leaves,
}

impl Life {
    fn counter(self, step: u32) -> String {
        let before = 15 * A_MINUTE - 1;
        let after = LENGTH - 15 * A_MINUTE;
        match self {
            Self::Whole => format!("0+{step}x{LENGTH}"),
            Self::Restarts => format!("0+{step}x{before} {step}+{step}x{after}"),
            Self::Leaves => format!("0+{step}x{before} stale"),
        }
    }

    fn gauge(self, value: &str) -> String {
        match self {
            Self::Whole | Self::Restarts => format!("{value}x{LENGTH}"),
            Self::Leaves => format!("{value}x{} stale", 15 * A_MINUTE - 1),
        }
    }
}

impl Scenario {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            series: Vec::new(),
        }
    }

    /// A series of the pod, with labels beside those that every scraped series has.
    fn of(&mut self, pod: &str, name: &str, labels: &str, values: String) {
        let comma = if labels.is_empty() { "" } else { "," };
        self.series.push((
            format!(
                "{name}{{namespace=\"aegis\",job=\"inference\",service=\"inference\",pod=\"{pod}\"{comma}{labels}}}"
            ),
            values,
        ));
    }

    /// A pod with this traffic, in-flight requests and queue.
    pub(crate) fn pod(
        mut self,
        pod: &str,
        life: Life,
        traffic: Traffic,
        in_flight: u32,
        queue: u32,
    ) -> Self {
        const PREDICT: &str = "method=\"POST\",endpoint=\"/predict\"";
        for (status, step) in ["200", "500", "429"].iter().zip(traffic.statuses) {
            let labels = format!("{PREDICT},status=\"{status}\"");
            self.of(pod, "http_requests_total", &labels, life.counter(step));
        }
        let [.., all] = traffic.latencies;
        for (bound, step) in BOUNDS
            .iter()
            .zip(traffic.latencies.into_iter().chain([all]))
        {
            let labels = format!("{PREDICT},status=\"200\",le=\"{bound}\"");
            self.of(
                pod,
                "http_request_duration_seconds_bucket",
                &labels,
                life.counter(step),
            );
            // A thousand refusals, each answered at once: they must not make latency look good.
            let labels = format!("{PREDICT},status=\"429\",le=\"{bound}\"");
            let refusals = life.counter(1000);
            self.of(
                pod,
                "http_request_duration_seconds_bucket",
                &labels,
                refusals,
            );
        }
        let labels = format!("{PREDICT},status=\"200\"");
        self.of(
            pod,
            "http_request_duration_seconds_count",
            &labels,
            life.counter(all),
        );
        let labels = format!("{PREDICT},status=\"429\"");
        self.of(
            pod,
            "http_request_duration_seconds_count",
            &labels,
            life.counter(1000),
        );
        self.of(
            pod,
            "http_requests_in_flight",
            PREDICT,
            life.gauge(&in_flight.to_string()),
        );
        // Who scrapes is in flight too, and no reason to scale.
        let metrics = "method=\"GET\",endpoint=\"/metrics\"";
        self.of(pod, "http_requests_in_flight", metrics, life.gauge("1"));
        for model in ["m", "n"] {
            let labels = format!("model=\"{model}\"");
            let half = life.gauge(&(f64::from(queue) / 2.0).to_string());
            self.of(pod, "aegis_inference_queue_depth", &labels, half);
        }
        let labels = "model=\"m\",model_version=\"1\",outcome=\"ok\"";
        let asked = if all == 0 { 0 } else { 60 };
        self.of(
            pod,
            "aegis_inference_requests_total",
            labels,
            life.counter(asked),
        );
        self.of(pod, "up", "", life.gauge("1"));
        self
    }

    /// Safety flags that model `m` raises in a pod; `values` in promtool's notation.
    pub(crate) fn flags(mut self, pod: &str, values: &str) -> Self {
        let labels = "model=\"m\",model_version=\"1\",reason=\"toxic\"";
        self.of(pod, "aegis_safety_flags_total", labels, values.to_owned());
        self
    }

    /// Predictions asked of another model in a pod, and the flags that it raises.
    pub(crate) fn model_with_flags(
        mut self,
        pod: &str,
        model: &str,
        asked: &str,
        flags: &str,
    ) -> Self {
        let labels = format!("model=\"{model}\",model_version=\"1\"");
        for (name, label, values) in [
            ("aegis_inference_requests_total", "outcome=\"ok\"", asked),
            ("aegis_safety_flags_total", "reason=\"spam\"", flags),
        ] {
            self.of(pod, name, &format!("{labels},{label}"), values.to_owned());
        }
        self
    }

    /// Whether version 1 of model `m` is loaded in a pod, and the state of its breaker.
    pub(crate) fn model(mut self, pod: &str, life: Life, loaded: u32, circuit: u32) -> Self {
        let labels = "model=\"m\",model_version=\"1\"";
        self.of(
            pod,
            "aegis_model_loaded",
            labels,
            life.gauge(&loaded.to_string()),
        );
        self.of(
            pod,
            "aegis_circuit_state",
            labels,
            life.gauge(&circuit.to_string()),
        );
        self
    }

    /// A pod that does not answer.
    pub(crate) fn unanswered(mut self, pod: &str, life: Life) -> Self {
        self.of(pod, "up", "", life.gauge("0"));
        self
    }

    /// What kube-state-metrics says.
    pub(crate) fn cluster(mut self, replicas: u32, scaler_dead: bool) -> Self {
        self.series.push((
            "kube_deployment_spec_replicas{namespace=\"aegis\",deployment=\"inference\"}"
                .to_owned(),
            format!("{replicas}x{LENGTH}"),
        ));
        // Another's Deployment at its maximum is nothing to us.
        self.series.push((
            "kube_deployment_spec_replicas{namespace=\"other\",deployment=\"inference\"}"
                .to_owned(),
            format!("50x{LENGTH}"),
        ));
        self.series.push((
            "kube_horizontalpodautoscaler_status_condition{namespace=\"aegis\",horizontalpodautoscaler=\"inference\",condition=\"ScalingActive\",status=\"false\"}".to_owned(),
            format!("{}x{LENGTH}", u32::from(scaler_dead)),
        ));
        self
    }

    /// promtool's test of this scenario.
    pub(crate) fn test(&self, questions: Vec<Value>, alerts: Vec<Value>) -> Value {
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|(series, values)| json!({ "series": series, "values": values }))
            .collect();
        json!({
            "name": self.name,
            "interval": "15s",
            "input_series": series,
            "promql_expr_test": questions,
            "alert_rule_test": alerts,
        })
    }
}

/// A question, when it is asked, and the samples that must answer it: labels and value.
pub(crate) fn question(expression: &str, minute: u32, answers: &[(String, f64)]) -> Value {
    let samples: Vec<Value> = answers
        .iter()
        .map(|(labels, value)| json!({ "labels": labels, "value": value }))
        .collect();
    json!({ "expr": expression, "eval_time": format!("{minute}m"), "exp_samples": samples })
}
