//! ONNX Runtime called directly through `ort`, with the settings that Aegis gives it and none
//! of Aegis's code around the call: the yardstick.

use std::path::{Path, PathBuf};

use aegis_inference::{BackendKind, Runtime, RuntimeConfig, backend::onnxruntime_environment};
use anyhow::{Context as _, bail};
use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};

/// Finds ONNX Runtime and loads it into this process, for Aegis and for [`Bare`].
pub(crate) fn runtime(library: Option<PathBuf>) -> anyhow::Result<Runtime> {
    let runtime = Runtime::new(RuntimeConfig {
        onnxruntime: library,
        ..RuntimeConfig::default()
    });
    let status = onnxruntime(&runtime);
    match status {
        Some(status) if status.available => Ok(runtime),
        status => bail!(
            "the benchmark compares with ONNX Runtime, which is not there; scripts/runtimes.sh brings it into .runtimes ({})",
            status.map(|status| status.detail).unwrap_or_default()
        ),
    }
}

/// ONNX Runtime's version.
pub(crate) fn version(runtime: &Runtime) -> String {
    onnxruntime(runtime)
        .and_then(|status| status.version)
        .unwrap_or_else(|| "of unknown version".to_owned())
}

/// Where the library is.
pub(crate) fn library(runtime: &Runtime) -> anyhow::Result<PathBuf> {
    let status = onnxruntime(runtime).filter(|status| status.available);
    Ok(status.context("ONNX Runtime is not loaded")?.detail.into())
}

fn onnxruntime(runtime: &Runtime) -> Option<aegis_inference::BackendStatus> {
    runtime
        .backends()
        .into_iter()
        .find(|status| status.kind == BackendKind::OnnxRuntime)
}

/// A session with the settings that Aegis gives one. Call [`runtime`] first: there is one environment a process, and
/// Aegis makes it.
pub(crate) fn session(file: &Path) -> anyhow::Result<Session> {
    let environment = onnxruntime_environment().context("ONNX Runtime is not loaded yet")?;
    (|| {
        Session::builder(&environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .commit_from_file(file)
    })()
    .map_err(|error: ort::Error| anyhow::anyhow!("{}: {error}", file.display()))
}

/// One session of a network.
pub(crate) struct Bare(Session);

impl Bare {
    /// As [`session`] makes it.
    pub(crate) fn open(file: &Path) -> anyhow::Result<Bare> {
        Ok(Bare(session(file)?))
    }

    /// The probabilities, copied out as every caller must: ONNX Runtime uses their memory again.
    pub(crate) fn run(&mut self, pixels: &[f32]) -> anyhow::Result<Vec<f32>> {
        let input = TensorRef::from_array_view(([1_i64, 64], pixels))?;
        let outputs = self.0.run(ort::inputs![input])?;
        let output = outputs
            .values()
            .next()
            .context("the network gave nothing")?;
        let (_, probabilities) = output.try_extract_tensor::<f32>()?;
        Ok(probabilities.to_vec())
    }
}
