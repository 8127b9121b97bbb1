//! A recorded series: what a controller saw at each of its syncs, as JSON. `docs/simulate.md` has
//! the format.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::hpa::{Input, Phase, Pod, Quantity, Ready, ReadyCondition, Time, Usage};

/// metrics-server's own window when a recording does not tell.
const DEFAULT_WINDOW: Time = Time::seconds(15);

/// Why a series cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// It is no JSON, or has a key or a type that a series does not have.
    #[error("the series cannot be read: {0}")]
    Json(String),
    /// There is nothing in it.
    #[error(
        "the series has no ticks: it needs `{{\"ticks\": [...]}}` with one object for each sync"
    )]
    Empty,
    /// Times do not rise.
    #[error("tick {index}, at {time} s, does not come after the one before, at {before} s")]
    Unsorted {
        /// The tick, from 0.
        index: usize,
        /// Its time, in seconds.
        time: String,
        /// The time before.
        before: String,
    },
    /// A tick says something impossible.
    #[error("tick {index}: {reason}")]
    Tick {
        /// The tick, from 0.
        index: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

/// A series, checked.
#[derive(Clone, Debug)]
pub struct Series {
    pub(super) ticks: Vec<(Time, Input)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeries {
    ticks: Vec<Tick>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Tick {
    time: Time,
    replicas: i32,
    status_replicas: Option<i32>,
    #[serde(default)]
    pods: Vec<RawPod>,
    #[serde(default)]
    external: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    objects: BTreeMap<String, Quantity>,
    #[serde(default)]
    failing: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a quantity such as \"350m\", or a list of them")]
enum OneOrMore {
    One(Quantity),
    More(Vec<Quantity>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawPod {
    name: String,
    #[serde(default)]
    phase: Phase,
    #[serde(default)]
    deleted: bool,
    start_time: Option<Time>,
    ready: Option<ReadyWord>,
    ready_since: Option<Time>,
    #[serde(default)]
    requests: BTreeMap<String, Quantity>,
    #[serde(default)]
    usage: BTreeMap<String, Quantity>,
    usage_time: Option<Time>,
    usage_window: Option<Time>,
    #[serde(default)]
    metrics: BTreeMap<String, Quantity>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(
    untagged,
    expecting = "true, false, \"True\", \"False\" or \"Unknown\""
)]
enum ReadyWord {
    Bool(bool),
    Word(Ready),
}

impl Series {
    /// Reads a series.
    ///
    /// # Errors
    /// With the line that is wrong, or the tick.
    pub fn from_json(text: &str) -> Result<Self, SeriesError> {
        let raw: RawSeries =
            serde_json::from_str(text).map_err(|error| SeriesError::Json(error.to_string()))?;
        if raw.ticks.is_empty() {
            return Err(SeriesError::Empty);
        }
        let mut ticks: Vec<(Time, Input)> = Vec::with_capacity(raw.ticks.len());
        for (index, tick) in raw.ticks.into_iter().enumerate() {
            if let Some((before, _)) = ticks.last()
                && tick.time <= *before
            {
                return Err(SeriesError::Unsorted {
                    index,
                    time: tick.time.as_f64().to_string(),
                    before: before.as_f64().to_string(),
                });
            }
            let time = tick.time;
            let input = tick
                .check()
                .map_err(|reason| SeriesError::Tick { index, reason })?;
            ticks.push((time, input));
        }
        Ok(Self { ticks })
    }
}

fn milli(quantities: BTreeMap<String, Quantity>) -> BTreeMap<String, i64> {
    quantities
        .into_iter()
        .map(|(name, quantity)| (name, quantity.milli()))
        .collect()
}

impl Tick {
    fn check(self) -> Result<Input, String> {
        let status_replicas = self.status_replicas.unwrap_or(self.replicas);
        if self.replicas < 0 || status_replicas < 0 {
            return Err(format!(
                "replicas are {} and statusReplicas {status_replicas}; neither can be below 0",
                self.replicas
            ));
        }
        let mut pods: Vec<Pod> = Vec::with_capacity(self.pods.len());
        for pod in self.pods {
            if pods.iter().any(|other| other.name == pod.name) {
                return Err(format!("there are two pods named `{}`", pod.name));
            }
            pods.push(pod.check(self.time)?);
        }
        Ok(Input {
            spec_replicas: self.replicas,
            status_replicas,
            pods,
            external: self
                .external
                .into_iter()
                .map(|(name, values)| {
                    let values = match values {
                        OneOrMore::One(value) => vec![value.milli()],
                        OneOrMore::More(values) => values.iter().map(|v| v.milli()).collect(),
                    };
                    (name, values)
                })
                .collect(),
            objects: milli(self.objects),
            failing: self.failing,
        })
    }
}

impl RawPod {
    fn check(self, now: Time) -> Result<Pod, String> {
        if self.ready_since.is_some() && self.ready.is_none() {
            return Err(format!(
                "pod `{}` has readySince and no ready: since when what?",
                self.name
            ));
        }
        let status = self.ready.map(|ready| match ready {
            ReadyWord::Bool(true) => Ready::True,
            ReadyWord::Bool(false) => Ready::False,
            ReadyWord::Word(ready) => ready,
        });
        let timestamp = self.usage_time.unwrap_or(now);
        let window = self.usage_window.unwrap_or(DEFAULT_WINDOW);
        Ok(Pod {
            name: self.name,
            phase: self.phase,
            deleted: self.deleted,
            start_time: self.start_time,
            ready: status.map(|status| ReadyCondition {
                status,
                since: self.ready_since.unwrap_or(Time::ZERO),
            }),
            requests: milli(self.requests),
            usage: milli(self.usage)
                .into_iter()
                .map(|(name, milli)| {
                    let usage = Usage {
                        milli,
                        timestamp,
                        window,
                    };
                    (name, usage)
                })
                .collect(),
            metrics: milli(self.metrics),
        })
    }
}
