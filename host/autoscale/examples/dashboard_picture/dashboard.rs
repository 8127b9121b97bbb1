//! What of Grafana's JSON a picture needs.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Dashboard {
    pub(crate) title: String,
    pub(crate) panels: Vec<Panel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Panel {
    pub(crate) title: String,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) grid_pos: Place,
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
    #[serde(default)]
    pub(crate) field_config: FieldConfig,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Row,
    Timeseries,
    Stat,
    Heatmap,
    StateTimeline,
}

/// In cells of the grid.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Place {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) w: u32,
    pub(crate) h: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Target {
    pub(crate) expr: String,
    pub(crate) legend_format: String,
}

impl Target {
    /// Whether kube-state-metrics has the answer, and nobody else.
    pub(crate) fn needs_cluster(&self) -> bool {
        self.expr.contains("kube_")
    }
}

#[derive(Default, Deserialize)]
pub(crate) struct FieldConfig {
    pub(crate) defaults: Defaults,
}

#[derive(Default, Deserialize)]
pub(crate) struct Defaults {
    pub(crate) unit: String,
    #[serde(default)]
    pub(crate) thresholds: Thresholds,
    #[serde(default)]
    pub(crate) mappings: Vec<Mapping>,
    /// Says, where it is there, that the threshold is drawn as a line.
    #[serde(default)]
    pub(crate) custom: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Thresholds {
    pub(crate) steps: Vec<Step>,
}

/// From this value on (from the beginning, without one) a value has this colour.
#[derive(Deserialize)]
pub(crate) struct Step {
    pub(crate) value: Option<f64>,
    pub(crate) color: String,
}

#[derive(Deserialize)]
pub(crate) struct Mapping {
    pub(crate) options: BTreeMap<String, Shown>,
}

/// How one value is shown.
#[derive(Clone, Deserialize)]
pub(crate) struct Shown {
    pub(crate) text: String,
    pub(crate) color: String,
}

impl Panel {
    pub(crate) fn unit(&self) -> &str {
        &self.field_config.defaults.unit
    }

    /// The bound that is drawn as a line.
    pub(crate) fn bound(&self) -> Option<f64> {
        let defaults = &self.field_config.defaults;
        defaults.custom.as_ref()?;
        defaults.thresholds.steps.iter().find_map(|step| step.value)
    }

    /// What a value is called, if it has a name, and its colour.
    pub(crate) fn shown(&self, value: f64) -> (Option<String>, String) {
        let defaults = &self.field_config.defaults;
        let named = defaults
            .mappings
            .iter()
            .find_map(|mapping| mapping.options.get(&value.to_string()));
        if let Some(named) = named {
            return (Some(named.text.clone()), named.color.clone());
        }
        let reached = |step: &&Step| step.value.is_none_or(|from| value >= from);
        let step = defaults.thresholds.steps.iter().rev().find(reached);
        (
            None,
            step.map_or_else(|| "green".to_owned(), |step| step.color.clone()),
        )
    }
}
