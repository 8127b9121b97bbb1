//! A recorded series through a manifest's controller, tick by tick: what a real controller saw, and
//! what Kubernetes' algorithm makes of it. The recording says how many replicas there were; the
//! controller here remembers its own decisions, as the real one did.

mod line;
mod series;

pub use line::{Line, ProposalLine, Reasons};
pub use series::{Series, SeriesError};

use crate::hpa::{Controller, Hpa};

/// Every tick's decision, in order.
pub fn replay(hpa: &Hpa, series: &Series) -> Vec<Line> {
    let mut controller = Controller::new(hpa.clone());
    series
        .ticks
        .iter()
        .map(|(time, input)| Line::new(*time, &controller.sync(*time, input)))
        .collect()
}

/// As JSON lines, each with its end.
pub fn json_lines(lines: &[Line]) -> String {
    lines
        .iter()
        .map(|line| {
            // Plain structs of numbers and text: there is nothing in them that JSON could not say.
            let json = serde_json::to_string(line).unwrap_or_default();
            json + "\n"
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )]

    use serde_json::{Value, json};

    use super::*;
    use crate::{report::hpa_of, slo::Slo};

    fn pod(name: &str, p95: &str, in_flight: &str) -> Value {
        json!({
            "name": name, "ready": true, "readySince": -100, "startTime": -200,
            "requests": {"cpu": "500m"}, "usage": {"cpu": "200m"},
            "metrics": {
                "http_request_duration_p95": p95,
                "http_requests_in_flight": in_flight,
                "aegis_inference_queue_depth": 0,
            },
        })
    }

    fn tick(time: Value, replicas: i32, in_flight: &str) -> Value {
        let pods: Vec<_> = (0..replicas)
            .map(|index| pod(&format!("p{index}"), "150m", in_flight))
            .collect();
        json!({"time": time, "replicas": replicas, "pods": pods})
    }

    fn lines(ticks: Vec<Value>) -> Vec<Value> {
        let series = Series::from_json(&json!({ "ticks": ticks }).to_string()).unwrap();
        let hpa = hpa_of(&Slo::default()).unwrap();
        json_lines(&replay(&hpa, &series))
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn refused(ticks: Value) -> String {
        Series::from_json(&json!({ "ticks": ticks }).to_string())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_tick_tells_every_proposal_the_steps_and_the_reasons() {
        let told = lines(vec![
            tick(json!(0), 3, "4"),
            tick(json!(15.02), 3, "28"),
            tick(json!(75.1), 3, "28"),
        ]);
        assert_eq!(
            told[1],
            json!({
                "time": 15.02, "current": 3,
                "proposals": [
                    {"metric": "pods metric http_request_duration_p95", "target": "350m", "value": "150m", "proposal": 2},
                    {"metric": "pods metric http_requests_in_flight", "target": "10", "value": "28", "proposal": 9},
                    {"metric": "pods metric aegis_inference_queue_depth", "target": "4", "value": "0", "proposal": 0},
                    {"metric": "cpu resource utilization (percentage of request)", "target": "80%", "value": "40%", "proposal": 2},
                ],
                "want": 9, "stabilized": 3, "desired": 3,
                "reasons": {
                    "scalingActive": "ValidMetricFound",
                    "ableToScale": "ScaleUpStabilized",
                    "scalingLimited": "DesiredWithinRange",
                },
            })
        );
        assert_eq!(told[2]["desired"], 5);
        assert_eq!(told[2]["reasons"]["scalingLimited"], "ScaleUpLimit");
        assert_eq!(
            told[2]["rescale"],
            "pods metric http_requests_in_flight above target"
        );
    }

    #[test]
    fn times_may_be_those_of_a_log() {
        let told = lines(vec![
            tick(json!("2024-01-15T10:00:00Z"), 3, "4"),
            tick(json!("2024-01-15T11:00:15.25+01:00"), 3, "4"),
        ]);
        assert_eq!(told[1]["time"], 1_705_312_815.25);
    }

    #[test]
    fn a_failing_metric_is_told_and_holds_it_up() {
        let mut calm = tick(json!(0), 5, "1");
        calm["failing"] = json!({"http_request_duration_p95": "the adapter is away"});
        let told = lines(vec![calm]);
        assert_eq!(told[0]["desired"], 5);
        assert_eq!(told[0]["reasons"]["scalingActive"], "FailedGetPodsMetric");
        assert_eq!(
            told[0]["proposals"][0]["error"],
            "unable to get http_request_duration_p95: the adapter is away"
        );
        assert!(
            told[0]["message"]
                .as_str()
                .unwrap()
                .contains("1 invalid out of 4")
        );
    }

    #[test]
    fn a_series_that_makes_no_sense_is_refused_with_its_tick() {
        assert!(refused(json!([])).contains("no ticks"));
        let told = refused(json!([tick(json!(15), 3, "4"), tick(json!(15), 3, "4")]));
        assert!(told.contains("tick 1, at 15 s"), "{told}");
        let told = refused(json!([{"time": 0, "replicas": -1}]));
        assert!(
            told.contains("tick 0") && told.contains("below 0"),
            "{told}"
        );
        let told =
            refused(json!([{"time": 0, "replicas": 1, "pods": [{"name": "a"}, {"name": "a"}]}]));
        assert!(told.contains("two pods named `a`"), "{told}");
        let told = refused(json!([{"time": 0, "replicas": 1, "pod": []}]));
        assert!(
            told.contains("unknown field `pod`") && told.contains("line 1"),
            "{told}"
        );
        let told =
            refused(json!([{"time": 0, "replicas": 1, "pods": [{"name": "a", "phase": "Ready"}]}]));
        assert!(told.contains("unknown variant `Ready`"), "{told}");
        let told = refused(
            json!([{"time": 0, "replicas": 1, "pods": [{"name": "a", "metrics": {"x": "fast"}}]}]),
        );
        assert!(told.contains("`fast` is no quantity"), "{told}");
        let told = refused(json!([{"time": "yesterday", "replicas": 1}]));
        assert!(told.contains("`yesterday` is no time"), "{told}");
    }
}
