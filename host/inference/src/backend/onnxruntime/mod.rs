//! ONNX Runtime through the `ort` crate: the library is found and loaded at run time, its telemetry is off, and its log
//! lines become `tracing` events.
//!
//! On the CPU one session of ONNX Runtime's serves all sessions of a network, so that they share its weights.

#[expect(unsafe_code, reason = "a door to a C interface")]
mod ffi;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider};
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{TensorElementType, ValueType};
use parking_lot::Mutex;
use smallvec::SmallVec;

use self::ffi::{Runnable, Value};
use super::discover::{Library, version_in_name};
use super::library::{InProcess, Loaded, NativeLibrary};
use super::{Backend, Network, Session, about, guarded};
use crate::error::ComputeError;
use crate::graph::{BackendKind, Dim, GraphFiles, GraphSpec, Port, Signature, Target};
use crate::runtime::BackendStatus;
use crate::tensor::{AlignedBytes, NamedTensor, Tensor, TensorType};

const LIBRARY: Library = Library {
    title: "ONNX Runtime",
    stem: "onnxruntime",
    folder: "onnxruntime",
    usual: &["/opt/onnxruntime/lib"],
};

/// The library and its environment. ONNX Runtime allows one environment a process, and freeing it at exit races with
/// its own threads, so it is kept for good.
static LOADED: InProcess<Environment> = Mutex::new(None);

/// The ONNX Runtime backend.
pub(crate) struct OnnxRuntime(NativeLibrary<Environment>);

impl OnnxRuntime {
    pub(crate) fn new(explicit: Option<PathBuf>, search: Vec<PathBuf>) -> Self {
        Self(NativeLibrary::new(
            &LIBRARY,
            &LOADED,
            environment,
            explicit,
            search,
        ))
    }
}

impl Backend for OnnxRuntime {
    fn status(&self) -> BackendStatus {
        let (available, version, detail) = match self.0.loaded() {
            Ok(loaded) => (
                true,
                version_in_name(&loaded.path),
                loaded.path.display().to_string(),
            ),
            Err(words) => (false, None, words.clone()),
        };
        BackendStatus {
            kind: BackendKind::OnnxRuntime,
            available,
            version,
            detail,
        }
    }

    fn opened_with(&self, spec: &GraphSpec) -> Option<String> {
        // On a GPU each session is a load of its own as it is.
        (spec.target == Target::Cpu).then(|| format!("{} threads", spec.intra_op_threads))
    }

    fn open(&self, spec: &GraphSpec) -> Result<Box<dyn Network>, String> {
        let loaded = self.0.loaded().map_err(Clone::clone)?;
        let GraphFiles::Onnx(path) = &spec.files else {
            return Err(
                "it reads ONNX files only: OpenVINO's .xml and .bin need the backend openvino"
                    .to_owned(),
            );
        };
        if spec.target == Target::Gpu {
            cuda_is_there(&loaded.path)?;
        }
        let mut network = OrtNetwork {
            loaded: Arc::clone(loaded),
            file: path.clone(),
            target: spec.target,
            intra_op_threads: spec.intra_op_threads,
            signature: Arc::default(),
            first: Mutex::new(None),
        };
        let session = network.commit()?;
        network.signature = Arc::new(signature(&session));
        network.first = Mutex::new(Some(Arc::new(Runnable::new(&session)?)));
        Ok(Box::new(network))
    }
}

/// ONNX Runtime's environment of this process, once a [`crate::Runtime`] has loaded the library: for a program that calls
/// `ort` beside this crate, as the benchmark does. There can be no second one.
#[must_use]
pub fn onnxruntime_environment() -> Option<Environment> {
    LOADED.lock().as_ref().map(|loaded| loaded.engine.clone())
}

fn environment(path: &Path) -> Result<Environment, String> {
    guarded(|| {
        ort::init_from(path)
            .map_err(|error| error.to_string())?
            .with_name("aegis")
            .with_telemetry(false)
            .with_logger(Arc::new(log))
            .build()
            .map_err(|error| error.to_string())
    })
}

/// ONNX Runtime's own log lines, at the levels it gives them but one lower: what it calls information is noise here.
fn log(level: LogLevel, category: &str, id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::trace!(category, id, location, "{message}"),
        LogLevel::Warning => tracing::debug!(category, id, location, "{message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::warn!(category, id, location, "{message}"),
    }
}

fn cuda_is_there(library: &Path) -> Result<(), String> {
    match CUDA::is_available() {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "target gpu needs the CUDA execution provider, and {} is built without it: install ONNX Runtime's GPU build",
            library.display()
        )),
        Err(error) => Err(format!(
            "asking for the CUDA execution provider failed: {error}"
        )),
    }
}

struct OrtNetwork {
    loaded: Arc<Loaded<Environment>>,
    file: PathBuf,
    target: Target,
    intra_op_threads: usize,
    signature: Arc<Signature>,
    /// The session that was made to read the signature: on a GPU until the first [`Network::session`] takes it, on the
    /// CPU for all of them.
    first: Mutex<Option<Arc<Runnable>>>,
}

impl OrtNetwork {
    fn commit(&self) -> Result<ort::session::Session, String> {
        guarded(|| {
            self.builder()
                .and_then(|mut builder| builder.commit_from_file(&self.file))
                .map_err(|error| error.to_string())
        })
    }

    fn builder(&self) -> ort::Result<SessionBuilder> {
        let builder = SessionBuilder::new(&self.loaded.engine)?
            .with_log_level(LogLevel::Warning)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(self.intra_op_threads)?
            .with_inter_threads(1)?
            // Spinning threads win microseconds on an idle machine and lose far more on one shared by sessions.
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?;
        match self.target {
            Target::Cpu => Ok(builder),
            Target::Gpu => {
                Ok(builder
                    .with_execution_providers([CUDA::default().build().error_on_failure()])?)
            }
        }
    }
}

impl Network for OrtNetwork {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self) -> Result<Box<dyn Session>, String> {
        let runnable = match self.target {
            Target::Cpu => self.first.lock().clone(),
            // What a GPU's provider has beside the weights is not known to bear two runs at once.
            Target::Gpu => self.first.lock().take(),
        };
        let runnable = match runnable {
            Some(runnable) => runnable,
            None => Arc::new(Runnable::new(&self.commit()?)?),
        };
        Ok(Box::new(OrtSession {
            runnable,
            signature: Arc::clone(&self.signature),
        }))
    }
}

fn signature(session: &ort::session::Session) -> Signature {
    let ports = |outlets: &[ort::value::Outlet]| outlets.iter().map(port).collect::<Vec<_>>();
    Signature {
        inputs: ports(session.inputs()),
        outputs: ports(session.outputs()),
    }
}

fn port(outlet: &ort::value::Outlet) -> Port {
    let (ty, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (
            tensor_type(*ty),
            shape.iter().map(|dim| dim_of(*dim)).collect(),
        ),
        _ => (None, Vec::new()),
    };
    Port {
        name: outlet.name().into(),
        ty,
        shape,
    }
}

/// A negative dimension is ONNX Runtime's sign for an unknown one.
fn dim_of(dim: i64) -> Dim {
    u32::try_from(dim).map_or(Dim::Dynamic, Dim::Fixed)
}

fn tensor_type(ty: TensorElementType) -> Option<TensorType> {
    Some(match ty {
        TensorElementType::Float16 => TensorType::Fp16,
        TensorElementType::Float32 => TensorType::Fp32,
        TensorElementType::Float64 => TensorType::Fp64,
        TensorElementType::Bfloat16 => TensorType::Bf16,
        TensorElementType::Uint8 => TensorType::U8,
        TensorElementType::Int32 => TensorType::I32,
        TensorElementType::Int64 => TensorType::I64,
        _ => return None,
    })
}

struct OrtSession {
    runnable: Arc<Runnable>,
    signature: Arc<Signature>,
}

/// Graphs in use take one to four tensors; that many are passed without an allocation.
const USUAL_INPUTS: usize = 4;

impl Session for OrtSession {
    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ComputeError> {
        // The caller's bytes themselves where they lie aligned, else a copy: alive until the run is over.
        let elements: SmallVec<[AlignedBytes<'_>; USUAL_INPUTS]> = inputs
            .iter()
            .map(|input| input.tensor.aligned_bytes())
            .collect();
        let lent = inputs
            .iter()
            .zip(&elements)
            .map(|(input, elements)| {
                self.runnable
                    .lend(input.tensor.ty(), input.tensor.shape(), elements.as_slice())
                    .map_err(|words| about("input", &input.name, &format!("was refused: {words}")))
            })
            .collect::<Result<SmallVec<[Value<'_>; USUAL_INPUTS]>, ComputeError>>()?;
        let outputs = self.runnable.run(&lent).map_err(ComputeError::Backend)?;
        self.signature
            .outputs
            .iter()
            .zip(&outputs)
            .map(|(port, value)| {
                // Copied out, as ONNX Runtime's memory goes with the value.
                let tensor = value
                    .show(|output| {
                        Tensor::new(output.ty, output.shape, output.bytes.to_vec())
                            .map_err(|error| format!("cannot be carried: {error}"))
                    })
                    .map_err(|words| about("output", &port.name, &words))?;
                Ok(NamedTensor {
                    name: Arc::clone(&port.name),
                    tensor,
                })
            })
            .collect()
    }
}
