//! Questions, put to Prometheus through promtool.

use std::{collections::BTreeMap, error::Error, process::Command};

use serde::Deserialize;

use crate::dashboard::Target;

/// Whom to ask, and over which time, in seconds since 1970.
pub(crate) struct Prometheus {
    pub(crate) url: String,
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) step: f64,
}

/// What was said to one question.
pub(crate) struct Answer {
    pub(crate) series: Vec<Series>,
    /// Nobody said anything, and only a cluster could.
    pub(crate) wants_cluster: bool,
}

pub(crate) struct Series {
    pub(crate) name: String,
    /// The upper bound of a bucket, of a series that is one.
    pub(crate) bucket: Option<f64>,
    /// Minutes since the start, and value. What is no number is not there.
    pub(crate) points: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct Found {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

impl Prometheus {
    pub(crate) fn ask(&self, target: &Target) -> Result<Answer, Box<dyn Error>> {
        let output = Command::new("promtool")
            .args(["query", "range", "--format=json"])
            .arg(format!("--start={:.3}", self.start))
            .arg(format!("--end={:.3}", self.end))
            .arg(format!("--step={}ms", (self.step * 1e3).round()))
            .args([&self.url, &target.expr])
            .output()
            .map_err(|error| format!("promtool (scripts/k8s-tools.sh brings it): {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: {}", target.expr, said.trim()).into());
        }
        let found: Vec<Found> = serde_json::from_slice(&output.stdout)?;
        let series: Vec<Series> = found
            .iter()
            .map(|found| self.series(target, found))
            .collect();
        Ok(Answer {
            wants_cluster: series.is_empty() && target.needs_cluster(),
            series,
        })
    }

    fn series(&self, target: &Target, found: &Found) -> Series {
        let mut name = target.legend_format.clone();
        for (label, value) in &found.metric {
            name = name.replace(&format!("{{{{{label}}}}}"), value);
        }
        let number = |text: &String| text.parse::<f64>().ok().filter(|value| !value.is_nan());
        let points = found.values.iter().filter_map(|(time, value)| {
            number(value).map(|value| ((time - self.start) / 60.0, value))
        });
        Series {
            name: name.trim().to_owned(),
            bucket: found.metric.get("le").and_then(number),
            points: points.collect(),
        }
    }

    /// The minutes of the picture.
    pub(crate) fn minutes(&self) -> f64 {
        (self.end - self.start) / 60.0
    }
}
