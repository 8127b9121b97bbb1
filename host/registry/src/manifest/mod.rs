//! The manifest, `model.toml`: what a model is made of and what it asks for. [`Manifest::parse`]
//! is the only way to one, so whoever holds a manifest holds a valid one. Whether its files exist
//! is the package's business; what its words mean to a backend or a sandbox is theirs.

mod breaker;
mod choice;
mod document;
mod error;
mod limits;
mod parse;

use std::collections::BTreeMap;

use serde::Serialize;

pub use breaker::Breaker;
pub use choice::{GraphBackend, GraphTarget, InitGrant, Precision};
pub use error::{Location, ManifestError};
pub use limits::{EffectiveLimits, LimitInfo, Limits};

use crate::name::ModelName;
use crate::path::PackagePath;

/// A valid manifest. Serialized with serde it takes the form of `model.toml` again.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Manifest {
    /// The model's name.
    pub name: ModelName,
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The handler, a WASI component; without one the graph is served directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<PackagePath>,
    /// Whether a request that it failed may run again, on another version. False unless said.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
    /// The graphs, in the manifest's order; none only where there is a handler.
    #[serde(rename = "graph", skip_serializing_if = "Vec::is_empty")]
    pub graphs: Vec<Graph>,
    /// A request that it answers, asked before anybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// What it may use; see [`Limits::effective`].
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// How its handler is run.
    pub sandbox: Sandbox,
    /// How its requests are let in.
    #[serde(skip_serializing_if = "Admission::is_empty")]
    pub admission: Admission,
    /// When its callers are kept from it.
    #[serde(skip_serializing_if = "Breaker::is_empty")]
    pub breaker: Breaker,
    /// What the handler reads through `wasi:config`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// One network of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Graph {
    /// What the handler opens it by: 1 to 64 characters of `A-Z a-z 0-9 . _ -`; unique in the model.
    pub name: String,
    /// The network: ONNX, or OpenVINO IR (`.xml`).
    pub file: PackagePath,
    /// The file of the weights, where they are apart from the network: what the manifest says, or
    /// for an `.xml` the `.bin` beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PackagePath>,
    /// What runs it; `auto` unless said.
    pub backend: GraphBackend,
    /// Where it runs; `cpu` unless said.
    pub target: GraphTarget,
    /// Whether the processor will do where a `gpu` is not there. False unless said: loading then fails.
    pub fallback: bool,
    /// How many batches may run at once; 1 to 64. `None`: as many as the host has threads for, on a GPU one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// How many threads one run computes on, where the backend can use several; 1 to 64, 1 unless said.
    pub threads: u32,
    /// How requests share runs; `None`: where a trial at load finds that they safely can and gain by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batching: Option<Batching>,
    /// In what precision it may be computed; `f32` unless said.
    pub precision: Precision,
}

/// Whether and how requests to one graph share runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batching {
    /// `false`: each request runs alone.
    Off,
    /// `true`, or a table of settings: they share runs.
    On(BatchSettings),
}

/// How requests share runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BatchSettings {
    /// The most rows in one run; 1 to 4096, 32 unless said.
    pub max_batch_size: u32,
    /// How long a free session waits for more, in milliseconds; 0 to 60,000. 0, also if not said:
    /// never, batches form while the previous one runs.
    pub max_latency_ms: u32,
    /// Sizes to run at where there is a choice; none unless said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferred_batch_sizes: Vec<u32>,
    /// The batch axis of inputs and outputs that the network does not tell, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub axes: BTreeMap<String, BatchAxis>,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            max_batch_size: 32,
            max_latency_ms: 0,
            preferred_batch_sizes: Vec::new(),
            axes: BTreeMap::new(),
        }
    }
}

/// Along which axis an input or output has its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchAxis {
    /// This one, counted from 0; at most 7.
    At(u32),
    /// `"shared"`: along none, it is one value for all rows of a run.
    Shared,
}

impl Serialize for Batching {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On(settings) => settings.serialize(serializer),
        }
    }
}

impl Serialize for BatchAxis {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(axis) => serializer.serialize_u32(*axis),
            Self::Shared => serializer.serialize_str("shared"),
        }
    }
}

/// A request that a package brings with it: an upload must answer it, and each version does before it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sample {
    /// The file with the request's body.
    pub file: PackagePath,
    /// The media type of the body; unless said, by the file's ending.
    pub content_type: String,
    /// The file with the answer, compared as a shadow's is: byte for byte, or as JSON with numbers a thousandth apart
    /// at most. `None`: any answer will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<PackagePath>,
}

/// How a handler is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sandbox {
    /// Whether an instance may answer one request after another, and so carry state from caller to
    /// caller. False unless said: each request has a fresh instance.
    pub reuse: bool,
    /// What `lifecycle.init` may draw on beyond the insecure seed; nothing unless said.
    pub init_grants: Vec<InitGrant>,
}

/// How requests are let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Admission {
    /// Whether the number of requests that run at once is found from how long they take, with `max_concurrency` as its
    /// ceiling. False unless said: it is `max_concurrency`.
    pub adaptive: bool,
}

impl Admission {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Manifest {
    /// The file's name in every package.
    pub const FILE_NAME: &str = "model.toml";

    /// The largest manifest, in bytes.
    pub const MAX_BYTES: u64 = 256 * 1024;

    /// The most graphs of one model. A bound on what one upload can make a host load.
    pub const MAX_GRAPHS: usize = 64;

    /// The longest description, in bytes.
    pub const MAX_DESCRIPTION: usize = 4096;

    /// Reads a manifest and checks all of it: unknown keys, types, ranges, names, and that its
    /// files can live together in one folder.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        parse::manifest(text)
    }

    /// Reads a manifest from bytes that may not be text.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let text = str::from_utf8(bytes).map_err(|error| ManifestError::NotUtf8 {
            offset: error.valid_up_to(),
        })?;
        Self::parse(text)
    }

    /// Every file a package of this manifest has beside `model.toml`, each once, in order of path.
    pub fn files(&self) -> Vec<&PackagePath> {
        let graphs = self
            .graphs
            .iter()
            .flat_map(|graph| std::iter::once(&graph.file).chain(&graph.weights));
        let samples = self
            .sample
            .iter()
            .flat_map(|sample| std::iter::once(&sample.file).chain(&sample.answer));
        let mut files: Vec<_> = self.handler.iter().chain(graphs).chain(samples).collect();
        files.sort();
        files.dedup();
        files
    }
}
