//! Recording rules and alerts, as Prometheus reads them and as the Prometheus Operator does.

pub(super) mod alerts;
pub(super) mod burn;
pub(super) mod recording;

use super::{
    node::{Node, map},
    promql::duration,
};
use crate::slo::Slo;

/// What stands at the head of the file for a Prometheus without the Operator.
pub(super) const ABOUT: &str = "\
The groups of base/inference-slo-rules.yaml, for a Prometheus without the Operator (rule_files), and for promtool.";

/// A series that is computed ahead.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    /// `level:metric:operation`, by Prometheus' convention.
    pub(crate) name: String,
    /// What tells it from others of its name.
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) expression: String,
}

/// A condition that people should know of.
#[derive(Clone, Debug)]
pub(crate) struct Alert {
    /// Also the heading of its section in the guide.
    pub(crate) name: String,
    pub(crate) expression: String,
    /// How long it must hold, in seconds; 0 where the expression says so itself.
    pub(crate) lasts: u32,
    pub(crate) severity: Severity,
    pub(crate) labels: Vec<(&'static str, String)>,
    /// One line; what is wrong.
    pub(crate) summary: String,
    /// What it means, with the value.
    pub(crate) description: String,
}

/// How urgent an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Callers are hurt now; wakes somebody.
    Critical,
    /// They are not yet, or not much; for the working day.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// Rules that are evaluated together, in order.
pub(crate) struct Group {
    pub(crate) name: String,
    /// In seconds.
    pub(crate) interval: u32,
    pub(crate) recordings: Vec<Recording>,
    pub(crate) alerts: Vec<Alert>,
}

/// Every group, recordings before the alerts that read them.
pub(crate) fn groups(slo: &Slo) -> Vec<Group> {
    let mut groups = recording::groups(slo);
    groups.extend(burn::groups(slo));
    groups.push(alerts::group(slo));
    groups
}

/// `{groups: […]}`, which Prometheus and promtool read.
pub(crate) fn file(slo: &Slo) -> Node {
    let groups = groups(slo).into_iter().map(|group| written(slo, &group));
    map! { "groups" => groups.collect::<Vec<_>>() }
}

/// The same for the Prometheus Operator.
pub(crate) fn prometheus_rule(slo: &Slo) -> Node {
    map! {
        "apiVersion" => "monitoring.coreos.com/v1",
        "kind" => "PrometheusRule",
        "metadata" => super::metadata_with(slo, "", super::monitor_labels(slo)),
        "spec" => file(slo),
    }
}

fn written(slo: &Slo, group: &Group) -> Node {
    let recordings = group.recordings.iter().map(|rule| {
        map! { "record" => &rule.name, "expr" => &rule.expression }
            .with("labels", labels(&rule.labels))
    });
    let alerts = group.alerts.iter().map(|alert| {
        let mut with_severity = vec![("severity", alert.severity.as_str().to_owned())];
        with_severity.extend(alert.labels.iter().cloned());
        let lasts = (alert.lasts > 0).then(|| Node::from(duration(alert.lasts)));
        map! { "alert" => &alert.name, "expr" => &alert.expression }
            .with("for", lasts)
            .with("labels", labels(&with_severity))
            .with(
                "annotations",
                Some(map! {
                    "summary" => &alert.summary,
                    "description" => &alert.description,
                    "runbook_url" => runbook(slo, &alert.name),
                }),
            )
    });
    map! {
        "name" => &group.name,
        "interval" => duration(group.interval),
        "rules" => recordings.chain(alerts).collect::<Vec<_>>(),
    }
}

fn labels(labels: &[(&'static str, String)]) -> Option<Node> {
    let entries = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Node::from(value)));
    (!labels.is_empty()).then(|| Node::Map(entries.collect()))
}

/// Where the guide tells of an alert: the anchor that a Markdown heading of its name has.
fn runbook(slo: &Slo, alert: &str) -> String {
    format!("{}#{}", slo.service.runbook_url, alert.to_lowercase())
}

/// What a recording's name is, for those who read it.
pub(crate) fn read(name: &str, slo: &Slo) -> String {
    format!(
        "{name}{{{}=\"{}\"}}",
        super::outside::NAMESPACE,
        slo.service.namespace
    )
}
