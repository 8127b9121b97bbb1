//! A panel: what it asks and how it shows the answers, and how Grafana has that in JSON.

use crate::render::node::{Node, list, map};

/// How high each is, in Grafana's grid.
pub(super) const HEIGHT: i32 = 8;

/// Questions that are shown together.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) about: String,
    pub(super) kind: Kind,
    pub(super) unit: &'static str,
    pub(super) width: i32,
    /// Each with what its series are called.
    pub(super) asks: Vec<(String, &'static str)>,
    /// Where values turn from good to bad: drawn as a line.
    pub(super) bound: Option<f64>,
}

/// How a panel shows its answers.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Lines,
    Number,
    Heatmap,
    /// Bands in the colours of values that have names: value, name, colour.
    States(&'static [(i32, &'static str, &'static str)]),
}

impl Kind {
    /// The names of values.
    fn mappings(self) -> Option<Node> {
        let Self::States(states) = self else {
            return None;
        };
        let shown = |(index, (value, name, color)): (i32, &(i32, &str, &str))| {
            let shown = map! { "text" => *name, "color" => *color, "index" => index };
            (value.to_string(), shown)
        };
        let options = (0..).zip(states).map(shown).collect();
        Some(list![
            map! { "type" => "value", "options" => Node::Map(options) }
        ])
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "timeseries",
            Self::Number => "stat",
            Self::Heatmap => "heatmap",
            Self::States(_) => "state-timeline",
        }
    }
}

impl Panel {
    /// As Grafana imports it, at this place in the grid.
    pub(super) fn written(&self, id: i32, x: i32, y: i32) -> Node {
        let targets = self
            .asks
            .iter()
            .zip('A'..)
            .map(|((expression, legend), letter)| {
                map! {
                    "refId" => letter.to_string(),
                    "datasource" => source(),
                    "expr" => expression,
                    "legendFormat" => *legend,
                    "format" => if self.kind == Kind::Heatmap { "heatmap" } else { "time_series" },
                    "instant" => self.kind == Kind::Number,
                    "range" => self.kind != Kind::Number,
                }
            });
        map! {
            "id" => id,
            "type" => self.kind.as_str(),
            "title" => self.title,
            "description" => &self.about,
            "datasource" => source(),
            "gridPos" => position(x, y, self.width, HEIGHT),
            "targets" => targets.collect::<Vec<_>>(),
            "fieldConfig" => map! {
                "defaults" => self.defaults(),
                "overrides" => list![],
            },
            "options" => options(self.kind),
        }
    }

    fn defaults(&self) -> Node {
        let mut steps = vec![map! { "color" => "green" }];
        // What is left of a budget is good above its bound; all else is good below.
        let budget = self.unit == "percentunit" && self.bound == Some(0.0);
        if budget {
            steps = vec![map! { "color" => "red" }];
        }
        if let Some(bound) = self.bound {
            steps.push(map! { "color" => if budget { "green" } else { "red" }, "value" => bound });
        }
        let drawn = self.bound.is_some() && self.kind == Kind::Lines;
        map! {
            "unit" => self.unit,
            "thresholds" => map! { "mode" => "absolute", "steps" => steps },
        }
        .with("mappings", self.kind.mappings())
        .with(
            "custom",
            drawn.then(|| map! { "thresholdsStyle" => map! { "mode" => "line" } }),
        )
    }
}

/// A panel of lines, half as wide as the dashboard.
pub(super) fn lines(
    title: &'static str,
    unit: &'static str,
    asks: Vec<(String, &'static str)>,
) -> Panel {
    Panel {
        title,
        about: String::new(),
        kind: Kind::Lines,
        unit,
        width: 12,
        asks,
        bound: None,
    }
}

/// A place in the grid.
pub(super) fn position(x: i32, y: i32, width: i32, height: i32) -> Node {
    map! { "x" => x, "y" => y, "w" => width, "h" => height }
}

fn source() -> Node {
    map! { "type" => "prometheus", "uid" => "${datasource}" }
}

fn options(kind: Kind) -> Node {
    match kind {
        Kind::Heatmap => map! {
            "calculate" => false,
            "yAxis" => map! { "unit" => "s" },
            "cellGap" => 1,
            "color" => map! { "mode" => "scheme", "scheme" => "Oranges", "steps" => 64 },
        },
        Kind::Number => map! {
            "reduceOptions" => map! { "calcs" => list!["lastNotNull"], "values" => false },
            "colorMode" => "value",
        },
        Kind::Lines => map! {
            "legend" => map! { "displayMode" => "list", "placement" => "bottom" },
            "tooltip" => map! { "mode" => "multi", "sort" => "desc" },
        },
        Kind::States(_) => map! { "mergeValues" => true, "showValue" => "auto" },
    }
}
