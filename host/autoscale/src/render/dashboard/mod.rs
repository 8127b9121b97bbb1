//! The Grafana dashboard: its rows, and where in Grafana's grid their panels stand. Its questions are
//! in one list, so that a test can ask a live Prometheus each of them. What the panels ask is in one
//! file for each subject; how one is written is in `panel.rs`.

mod load;
mod models;
mod objectives;
mod panel;

use self::panel::{HEIGHT, Panel, position};
use super::node::{Node, list, map};
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

struct Row {
    title: &'static str,
    panels: Vec<Panel>,
}

fn rows(slo: &Slo) -> Vec<Row> {
    vec![
        Row {
            title: "Objectives",
            panels: objectives::kept(slo),
        },
        Row {
            title: "Latency",
            panels: objectives::latency(slo),
        },
        Row {
            title: "Load",
            panels: load::by_pod(slo),
        },
        Row {
            title: "Scaling",
            panels: load::scaling(slo),
        },
        Row {
            title: "Models",
            panels: models::by_version(slo),
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
            panels.push(panel.written(id, x, y));
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
