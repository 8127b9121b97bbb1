//! What a caller says about a graph before it is loaded: its files, its backend, its sessions.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use crate::scheduler::Batching;

/// A word from a manifest or a flag that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{word}` is not a {what}: write {known}")]
pub struct ParseWordError {
    word: String,
    what: &'static str,
    known: &'static str,
}

/// The engines that can run a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendKind {
    /// ONNX Runtime, a native library loaded at run time.
    OnnxRuntime,
    /// OpenVINO, a native library loaded at run time.
    OpenVino,
    /// The pure-Rust engine that is compiled in.
    Embedded,
}

impl BackendKind {
    /// All backends, in the order `auto` prefers them for an ONNX file.
    pub const ALL: [Self; 3] = [Self::OnnxRuntime, Self::OpenVino, Self::Embedded];

    /// The name in manifests, metrics and `/health`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime",
            Self::OpenVino => "openvino",
            Self::Embedded => "embedded",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for BackendKind {
    type Err = ParseWordError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == word)
            .ok_or_else(|| ParseWordError {
                word: word.to_owned(),
                what: "backend",
                known: "onnxruntime, openvino or embedded",
            })
    }
}

/// Which backend a graph asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// The best one that is there: the file format's native backend, else the embedded one.
    #[default]
    Auto,
    /// This one or none.
    Is(BackendKind),
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Is(kind) => kind.fmt(f),
        }
    }
}

impl FromStr for BackendChoice {
    type Err = ParseWordError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        if word == "auto" {
            return Ok(Self::Auto);
        }
        word.parse().map(Self::Is).map_err(|error| ParseWordError {
            known: "auto, onnxruntime, openvino or embedded",
            ..error
        })
    }
}

/// The device a graph runs on. A device that is not there is an error, and never silently another device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// The processor.
    #[default]
    Cpu,
    /// CUDA for ONNX Runtime, the GPU plugin for OpenVINO.
    Gpu,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}

impl FromStr for Target {
    type Err = ParseWordError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => Err(ParseWordError {
                word: word.to_owned(),
                what: "target",
                known: "cpu or gpu",
            }),
        }
    }
}

/// The precision a backend may compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// What the graph says. Answers then agree between backends and machines.
    #[default]
    F32,
    /// What the backend prefers on this device: OpenVINO computes f32 graphs in bf16 on processors that have it, which
    /// is faster and moves answers by up to 0.03.
    BackendDefault,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::BackendDefault => "backend-default",
        })
    }
}

impl FromStr for Precision {
    type Err = ParseWordError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "f32" => Ok(Self::F32),
            "backend-default" => Ok(Self::BackendDefault),
            _ => Err(ParseWordError {
                word: word.to_owned(),
                what: "precision",
                known: "f32 or backend-default",
            }),
        }
    }
}

/// Where a graph's network lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraphFiles {
    /// An ONNX file. Its tensors are in it, or in [`GraphSpec::external_data`].
    Onnx(PathBuf),
    /// OpenVINO's intermediate representation.
    OpenVinoIr {
        /// The topology.
        xml: PathBuf,
        /// The weights.
        bin: PathBuf,
    },
}

impl GraphFiles {
    pub(crate) fn paths(&self) -> Vec<&PathBuf> {
        match self {
            Self::Onnx(path) => vec![path],
            Self::OpenVinoIr { xml, bin } => vec![xml, bin],
        }
    }
}

/// All that is needed to load a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphSpec {
    /// The name in errors, logs and metrics.
    pub name: String,
    /// The network.
    pub files: GraphFiles,
    /// The one file beside an ONNX file that its tensors may be read from.
    pub external_data: Option<PathBuf>,
    /// What tells the files' content from any other, such as their digests. Graphs of one content share what is loaded
    /// of it, as far as the engine lets them; without it a graph shares nothing.
    pub content: Option<String>,
    /// The engine.
    pub backend: BackendChoice,
    /// The device.
    pub target: Target,
    /// Whether the processor will do where that device is not there; [`crate::Graph::warnings`] then says so.
    pub fallback: bool,
    /// How many runs there may be side by side, each on a thread of its own. At least 1.
    pub sessions: usize,
    /// How many requests may wait for a session. At least 1.
    pub queue_capacity: usize,
    /// How many threads one run may use. At least 1; more than 1 pays only for large networks and few sessions.
    pub intra_op_threads: usize,
    /// The precision computed in.
    pub precision: Precision,
    /// How requests share runs.
    pub batching: Batching,
}

impl GraphSpec {
    /// One session on the processor, one thread a run, 64 requests waiting at most and running alone, the backend chosen by
    /// what is there.
    pub fn new(name: impl Into<String>, files: GraphFiles) -> Self {
        Self {
            name: name.into(),
            files,
            external_data: None,
            content: None,
            backend: BackendChoice::Auto,
            target: Target::Cpu,
            fallback: false,
            sessions: 1,
            queue_capacity: 64,
            intra_op_threads: 1,
            precision: Precision::F32,
            batching: Batching::default(),
        }
    }

    /// What is wrong with the numbers, if anything is.
    pub(crate) fn problem(&self) -> Option<String> {
        // Bounds that no machine in use reaches: they turn a slip in a manifest into a message, not a dead host.
        const MOST_SESSIONS: usize = 1024;
        const MOST_QUEUED: usize = 1 << 20;
        for (what, value, most) in [
            ("sessions", self.sessions, MOST_SESSIONS),
            ("queue_capacity", self.queue_capacity, MOST_QUEUED),
            ("intra_op_threads", self.intra_op_threads, MOST_SESSIONS),
        ] {
            if value == 0 || value > most {
                return Some(format!(
                    "{what} is {value}: it must be between 1 and {most}"
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn every_word_reads_back() {
        for kind in BackendKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(kind.to_string().parse(), Ok(BackendChoice::Is(kind)));
        }
        assert_eq!("auto".parse(), Ok(BackendChoice::Auto));
        for target in [Target::Cpu, Target::Gpu] {
            assert_eq!(target.to_string().parse(), Ok(target));
        }
        for precision in [Precision::F32, Precision::BackendDefault] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
    }

    #[test]
    fn an_unknown_backend_is_told_the_known_ones() {
        assert_eq!(
            "tensorrt".parse::<BackendChoice>().unwrap_err().to_string(),
            "`tensorrt` is not a backend: write auto, onnxruntime, openvino or embedded"
        );
    }

    #[test]
    fn no_sessions_at_all_is_a_problem() {
        let mut spec = GraphSpec::new("g", GraphFiles::Onnx("g.onnx".into()));
        assert_eq!(spec.problem(), None);
        spec.sessions = 0;
        assert_eq!(
            spec.problem().unwrap(),
            "sessions is 0: it must be between 1 and 1024"
        );
    }
}
