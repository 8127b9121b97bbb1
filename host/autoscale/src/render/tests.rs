//! Claims about what is rendered, whatever tools there are.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;

use aegis_telemetry::{METRICS, MetricKind};
use proptest::prelude::*;

use super::*;

/// Every expression of rules, adapter, KEDA and dashboard.
fn expressions(slo: &Slo) -> Vec<String> {
    let mut found: Vec<String> = queries(slo)
        .into_iter()
        .map(|query| query.expression)
        .collect();
    for group in rules::groups(slo) {
        found.extend(group.recordings.into_iter().map(|rule| rule.expression));
        found.extend(group.alerts.into_iter().map(|rule| rule.expression));
    }
    for node in [keda::scaled_object(slo), adapter::gpu_values(slo)] {
        collect(&node, &mut found);
    }
    found
}

/// What stands under the keys that hold PromQL.
fn collect(node: &Node, found: &mut Vec<String>) {
    match node {
        Node::List(items) => items.iter().for_each(|item| collect(item, found)),
        Node::Map(entries) => {
            for (key, value) in entries {
                match value {
                    Node::Text(text)
                        if ["query", "metricsQuery", "seriesQuery"].contains(&key.as_str()) =>
                    {
                        found.push(text.clone());
                    }
                    other => collect(other, found),
                }
            }
        }
        _ => {}
    }
}

/// The selectors of an expression: name and the labels between braces.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (open, _) in expression.match_indices('{') {
        let name: String = expression[..open]
            .chars()
            .rev()
            .take_while(|c| c.is_ascii_alphanumeric() || "_:".contains(*c))
            .collect();
        let name = name.chars().rev().collect();
        let inside = expression[open + 1..].split('}').next().unwrap();
        let labels = inside
            .split(',')
            .filter(|matcher| !matcher.starts_with("<<"))
            .map(|matcher| {
                let end = matcher.find(['=', '!']).unwrap_or(matcher.len());
                matcher[..end].to_owned()
            })
            .collect();
        found.push((name, labels));
    }
    found
}

#[test]
fn every_name_and_label_is_of_the_table_or_of_those_who_own_it() {
    let slo = Slo::default();
    let recorded: BTreeSet<String> = rules::groups(&slo)
        .into_iter()
        .flat_map(|group| group.recordings)
        .map(|rule| rule.name)
        .collect();
    let scraped = ["namespace", "job", "service", "pod"];
    for expression in expressions(&slo) {
        let selectors = selectors(&expression);
        assert!(!selectors.is_empty(), "{expression}");
        for (name, labels) in selectors {
            if recorded.contains(&name) || outside::ALL.contains(&name.as_str()) {
                continue;
            }
            let spec = METRICS.iter().find(|spec| match spec.kind {
                MetricKind::Histogram => ["bucket", "count", "sum"]
                    .iter()
                    .any(|part| name == format!("{}_{part}", spec.name)),
                _ => name == spec.name,
            });
            let spec = spec.unwrap_or_else(|| unreachable!("{name} is no metric: {expression}"));
            for label in labels {
                let known = spec.labels.contains(&label.as_str())
                    || scraped.contains(&label.as_str())
                    || (label == "le" && name.ends_with("_bucket"));
                assert!(known, "{name} has no label {label}: {expression}");
            }
        }
    }
}

#[test]
fn what_the_scrape_adds_hides_no_label_of_a_metric_but_the_one_that_is_dropped() {
    // The Operator's own: of these, only `endpoint` is also a label of ours.
    for spec in METRICS {
        for label in [
            "namespace",
            "pod",
            "service",
            "job",
            "instance",
            "container",
        ] {
            assert!(!spec.labels.contains(&label), "{} {label}", spec.name);
        }
    }
}

#[test]
fn the_bucket_of_a_whole_number_is_found_by_old_and_new_prometheus() {
    assert_eq!(promql::boundary(0.35), "0[.]35");
    assert_eq!(promql::boundary(2.0), "2([.]0)?");
}

#[test]
fn durations_are_written_in_the_largest_unit_that_fits() {
    let written = [30, 60, 90, 3600, 86_400, 2_592_000].map(promql::duration);
    assert_eq!(written, ["30s", "1m", "90s", "1h", "1d", "30d"]);
}

#[test]
fn amounts_are_written_in_thousandths_where_they_are_no_whole() {
    assert_eq!(quantity(0.35), "350m");
    assert_eq!(quantity(10.0), "10");
    assert_eq!(quantity(2.5), "2500m");
}

#[test]
fn every_panel_that_was_asked_for_is_there() {
    let panels: BTreeSet<String> = queries(&Slo::default())
        .into_iter()
        .map(|q| q.panel)
        .collect();
    for panel in [
        "Error budget left",
        "Latency of requests",
        "Latency percentiles",
        "Requests in flight by pod",
        "Requests waiting by pod",
        "Batch size, on average",
        "Replicas against the target",
        "Scaling events in five minutes",
        "Safety flags for each prediction",
        "P95 by version",
        "Circuit breaker",
    ] {
        assert!(panels.contains(panel), "{panel}");
    }
}

#[test]
fn panels_lie_side_by_side_and_never_on_each_other() {
    let Node::Map(entries) = dashboard::dashboard(&Slo::default()) else {
        unreachable!("a map");
    };
    let (_, Node::List(panels)) = entries.iter().find(|(key, _)| key == "panels").unwrap() else {
        unreachable!("a list");
    };
    let mut taken = BTreeSet::new();
    for panel in panels {
        let json = serde_json::to_value(panel).unwrap();
        let at = |key: &str| json["gridPos"][key].as_i64().unwrap();
        for x in at("x")..at("x") + at("w") {
            assert!(x < 24);
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} at {x}, {y}", json["title"]);
            }
        }
    }
}

#[test]
fn the_same_slo_gives_the_same_bytes() {
    assert_eq!(all(&Slo::default()).unwrap(), all(&Slo::default()).unwrap());
}

/// Reads a value back as JSON has it.
fn read_back(node: &Node) -> serde_json::Value {
    let file = write_yaml("x.yaml", "", std::slice::from_ref(node)).unwrap();
    serde_saphyr::from_str(&file.text).unwrap()
}

proptest! {
    /// Strings that look like something else (`yes`, `1e3`, `~`, `- a`), and such of several lines.
    #[test]
    fn what_is_written_is_read_back_as_it_was(text in "\\PC{0,20}(\n\\PC{0,20}){0,3}", number in any::<i32>()) {
        let node = map! { "text" => text.as_str(), "list" => node::list![number, text.as_str()] };
        let expected = serde_json::json!({ "text": text, "list": [number, text] });
        prop_assert_eq!(read_back(&node), expected);
    }
}

#[test]
fn words_that_yaml_takes_for_something_else_are_quoted() {
    for word in [
        "350m", "10", "true", "no", "on", "0.35", "1e3", "~", "null", "0x10", "12:30", "", "a: b",
        "# a",
    ] {
        assert_eq!(
            read_back(&Node::from(word)),
            serde_json::json!(word),
            "{word}"
        );
    }
}
