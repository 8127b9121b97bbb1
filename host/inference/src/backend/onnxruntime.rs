//! ONNX Runtime through the `ort` crate: the library is found and loaded at run time, its telemetry is off, and its log
//! lines become `tracing` events.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use half::{bf16, f16};
use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider};
use ort::logging::LogLevel;
use ort::session::SessionInputValue;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{
    DynValue, PrimitiveTensorElementType, Shape as OrtShape, Tensor as OrtTensor,
    TensorElementType, TensorRef, ValueType,
};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::discover::{Library, Places, version_in_name};
use super::{Backend, Network, Session, guarded, untransportable};
use crate::error::ComputeError;
use crate::graph::{BackendKind, Dim, GraphFiles, GraphSpec, Port, Signature, Target};
use crate::runtime::BackendStatus;
use crate::tensor::{Element, MAX_RANK, NamedTensor, Tensor, TensorError, TensorType};

const LIBRARY: Library = Library {
    title: "ONNX Runtime",
    stem: "onnxruntime",
    folder: "onnxruntime",
    usual: &["/opt/onnxruntime/lib"],
};

/// The library and its environment. ONNX Runtime allows one environment a process, and freeing it at exit races with
/// its own threads, so it is kept for good.
static LOADED: Mutex<Option<Arc<Loaded>>> = Mutex::new(None);

struct Loaded {
    path: PathBuf,
    environment: Environment,
}

/// The ONNX Runtime backend.
pub(crate) struct OnnxRuntime {
    explicit: Option<PathBuf>,
    search: Vec<PathBuf>,
    /// The outcome of looking, kept: a library that appears later asks for a restart.
    loaded: OnceLock<Result<Arc<Loaded>, String>>,
}

impl OnnxRuntime {
    pub(crate) fn new(explicit: Option<PathBuf>, search: Vec<PathBuf>) -> Self {
        Self {
            explicit,
            search,
            loaded: OnceLock::new(),
        }
    }

    fn loaded(&self) -> Result<&Arc<Loaded>, &String> {
        self.loaded
            .get_or_init(|| load(&Places::here(self.explicit.as_deref(), &self.search)))
            .as_ref()
    }
}

impl Backend for OnnxRuntime {
    fn status(&self) -> BackendStatus {
        let (available, version, detail) = match self.loaded() {
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

    fn open(&self, spec: &GraphSpec) -> Result<Box<dyn Network>, String> {
        let loaded = self.loaded().map_err(Clone::clone)?;
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
        network.first = Mutex::new(Some(session));
        Ok(Box::new(network))
    }
}

fn load(places: &Places<'_>) -> Result<Arc<Loaded>, String> {
    let mut process = LOADED.lock();
    if let Some(loaded) = &*process {
        return Ok(Arc::clone(loaded));
    }
    let (path, environment) = LIBRARY.load(places, environment)?;
    let loaded = Arc::new(Loaded { path, environment });
    *process = Some(Arc::clone(&loaded));
    Ok(loaded)
}

/// ONNX Runtime's environment of this process, once a [`crate::Runtime`] has loaded the library: for a program that calls
/// `ort` beside this crate, as the benchmark does. There can be no second one.
#[must_use]
pub fn onnxruntime_environment() -> Option<Environment> {
    LOADED
        .lock()
        .as_ref()
        .map(|loaded| loaded.environment.clone())
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
    loaded: Arc<Loaded>,
    file: PathBuf,
    target: Target,
    intra_op_threads: usize,
    signature: Arc<Signature>,
    /// The session that was made to read the signature, until the first [`Network::session`] takes it.
    first: Mutex<Option<ort::session::Session>>,
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
        let builder = SessionBuilder::new(&self.loaded.environment)?
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
        let first = self.first.lock().take();
        let session = match first {
            Some(session) => session,
            None => self.commit()?,
        };
        Ok(Box::new(OrtSession {
            session,
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
    session: ort::session::Session,
    signature: Arc<Signature>,
}

/// Graphs in use take one to four tensors; that many are passed without an allocation.
const USUAL_INPUTS: usize = 4;

impl Session for OrtSession {
    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ComputeError> {
        let values = inputs
            .iter()
            .map(|input| input_value(&input.tensor).map_err(|words| words.of("input", &input.name)))
            .collect::<Result<SmallVec<[SessionInputValue<'_>; USUAL_INPUTS]>, ComputeError>>()?;
        let outputs = self
            .session
            .run(values.as_slice())
            .map_err(|error| ComputeError::Backend(error.to_string()))?;
        self.signature
            .outputs
            .iter()
            .zip(outputs.values())
            .map(|(port, value)| {
                Ok(NamedTensor {
                    name: Arc::clone(&port.name),
                    tensor: output_tensor(&value)
                        .map_err(|words| words.of("output", &port.name))?,
                })
            })
            .collect()
    }
}

/// What is wrong with one port's tensor, until the port's name is put before it.
struct Words(String);

impl Words {
    fn of(self, what: &str, name: &str) -> ComputeError {
        ComputeError::Backend(format!("{what} `{name}` {}", self.0))
    }
}

impl From<ort::Error> for Words {
    fn from(error: ort::Error) -> Self {
        Self(format!("was refused: {error}"))
    }
}

impl From<TensorError> for Words {
    fn from(error: TensorError) -> Self {
        Self(format!("cannot be carried: {error}"))
    }
}

fn input_value(tensor: &Tensor) -> Result<SessionInputValue<'_>, Words> {
    match tensor.ty() {
        TensorType::Fp16 => input_of::<f16>(tensor),
        TensorType::Fp32 => input_of::<f32>(tensor),
        TensorType::Fp64 => input_of::<f64>(tensor),
        TensorType::Bf16 => input_of::<bf16>(tensor),
        TensorType::U8 => input_of::<u8>(tensor),
        TensorType::I32 => input_of::<i32>(tensor),
        TensorType::I64 => input_of::<i64>(tensor),
    }
}

/// The caller's bytes themselves where they lie aligned, else a copy.
fn input_of<T>(tensor: &Tensor) -> Result<SessionInputValue<'_>, Words>
where
    T: Element + PrimitiveTensorElementType + fmt::Debug,
{
    let dims: OrtShape = tensor
        .shape()
        .dims()
        .iter()
        .map(|dim| i64::from(*dim))
        .collect();
    Ok(match tensor.aligned::<T>()? {
        Cow::Borrowed(elements) => TensorRef::from_array_view((dims, elements))?.into(),
        Cow::Owned(elements) => OrtTensor::from_array((dims, elements))?.into(),
    })
}

fn output_tensor(value: &DynValue) -> Result<Tensor, Words> {
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err(Words(format!(
            "is not a tensor but {}: it cannot be carried",
            value.dtype()
        )));
    };
    match tensor_type(*ty) {
        Some(TensorType::Fp16) => output_of::<f16>(value),
        Some(TensorType::Fp32) => output_of::<f32>(value),
        Some(TensorType::Fp64) => output_of::<f64>(value),
        Some(TensorType::Bf16) => output_of::<bf16>(value),
        Some(TensorType::U8) => output_of::<u8>(value),
        Some(TensorType::I32) => output_of::<i32>(value),
        Some(TensorType::I64) => output_of::<i64>(value),
        None => Err(Words(untransportable(&ty.to_string().to_lowercase()))),
    }
}

/// Copies the elements out: ONNX Runtime reuses their memory.
fn output_of<T: Element + PrimitiveTensorElementType>(value: &DynValue) -> Result<Tensor, Words> {
    let (shape, elements) = value.try_extract_tensor::<T>()?;
    let dims = shape
        .iter()
        .map(|dim| u32::try_from(*dim))
        .collect::<Result<SmallVec<[u32; MAX_RANK]>, _>>()
        .map_err(|_| {
            Words(format!(
                "has a dimension outside 0 to {}: {shape:?}",
                u32::MAX
            ))
        })?;
    Ok(Tensor::from_slice(&dims, elements)?)
}
