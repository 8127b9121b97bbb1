//! OpenVINO, loaded at run time. Reads ONNX and its own IR; one compiled model serves all sessions of a network.

#[expect(unsafe_code, reason = "the crate's one door to a C interface")]
mod ffi;
mod refused;

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openvino_sys::ov_element_type_e;
use parking_lot::Mutex;
use smallvec::SmallVec;

use self::ffi::{Compiled, Core, ElementCode, HostTensor, PortInfo, Request};
use super::discover::Library;
use super::library::{InProcess, Loaded, NativeLibrary};
use super::{Backend, Network, Session, about, guarded, shape_of, untransportable};
use crate::error::ComputeError;
use crate::graph::{BackendKind, Dim, GraphFiles, GraphSpec, Port, Precision, Signature, Target};
use crate::precheck;
use crate::runtime::BackendStatus;
use crate::tensor::{AlignedBytes, NamedTensor, Tensor, TensorType};

const LIBRARY: Library = Library {
    title: "OpenVINO",
    stem: "openvino_c",
    folder: "openvino",
    usual: &[
        "/opt/intel/openvino/runtime/lib/intel64",
        "/opt/intel/openvino/runtime/lib/aarch64",
    ],
};

/// The library, kept for good: it holds thread pools and plugins that do not survive being unloaded.
static LOADED: InProcess<Engine> = Mutex::new(None);

struct Engine {
    version: String,
    core: Core,
}

/// The OpenVINO backend.
pub(crate) struct OpenVino(NativeLibrary<Engine>);

impl OpenVino {
    pub(crate) fn new(explicit: Option<PathBuf>, search: Vec<PathBuf>) -> Self {
        Self(NativeLibrary::new(
            &LIBRARY, &LOADED, engine, explicit, search,
        ))
    }
}

impl Backend for OpenVino {
    fn status(&self) -> BackendStatus {
        let (available, version, detail) = match self.0.loaded() {
            Ok(loaded) => (
                true,
                Some(loaded.engine.version.clone()),
                loaded.path.display().to_string(),
            ),
            Err(words) => (false, None, words.clone()),
        };
        BackendStatus {
            kind: BackendKind::OpenVino,
            available,
            version,
            detail,
        }
    }

    fn opened_with(&self, spec: &GraphSpec) -> Option<String> {
        let properties = properties(spec).ok()?;
        Some(format!("{} {properties:?}", spec.target))
    }

    fn open(&self, spec: &GraphSpec) -> Result<Box<dyn Network>, String> {
        let loaded = self.0.loaded().map_err(Clone::clone)?;
        let core = &loaded.engine.core;
        refused::check(&spec.files)?;
        guarded(|| {
            let device = device(core, spec.target)?;
            let model = match &spec.files {
                GraphFiles::Onnx(path) => core.read(path, None),
                GraphFiles::OpenVinoIr { xml, bin } => core.read(xml, Some(bin)),
            }?;
            let inputs: Vec<Port> = model.inputs()?.into_iter().map(port).collect();
            let declared = match &spec.files {
                GraphFiles::Onnx(path) => {
                    precheck::declared(path)
                        .map_err(|refusal| refusal.to_string())?
                        .inputs
                }
                GraphFiles::OpenVinoIr { .. } => inputs.clone(),
            };
            let (inputs, taken) = as_declared(inputs, declared);
            let signature = Signature {
                inputs,
                outputs: model.outputs()?.into_iter().map(port).collect(),
            };
            computes_as_told(&signature, spec.precision)?;
            let compiled = core.compile(&model, device, &properties(spec)?)?;
            Ok(Box::new(OvNetwork {
                compiled,
                signature: Arc::new(signature),
                taken: taken.into(),
                _library: Arc::clone(loaded),
            }) as Box<dyn Network>)
        })
    }
}

fn engine(path: &Path) -> Result<Engine, String> {
    guarded(|| {
        ffi::load_library(path)?;
        Ok(Engine {
            version: ffi::version()?,
            core: Core::new()?,
        })
    })
}

fn device(core: &Core, target: Target) -> Result<&'static CStr, String> {
    match target {
        Target::Cpu => Ok(c"CPU"),
        Target::Gpu => {
            let devices = core.devices()?;
            if devices.iter().any(|device| device.starts_with("GPU")) {
                return Ok(c"GPU");
            }
            Err(format!(
                "target gpu needs a device that OpenVINO's GPU plugin can drive, and there is none: it lists {}",
                devices.join(", ")
            ))
        }
    }
}

/// The inputs as the network's file declares them, and which of them each input of OpenVINO's model is. One that it gave
/// another name (an input that comes straight out again has the output's) is known by its place among those; one that
/// it folded away, as it has no elements, is asked for all the same and not handed on.
fn as_declared(inputs: Vec<Port>, declared: Vec<Port>) -> (Vec<Port>, Vec<usize>) {
    let place = |name: &str| declared.iter().position(|port| *port.name == *name);
    // What is folded away has no elements, and no name among OpenVINO's.
    let mut nameless = declared.iter().enumerate().filter(|(index, port)| {
        !port.shape.contains(&Dim::Fixed(0))
            && !inputs
                .iter()
                .any(|input| place(&input.name) == Some(*index))
    });
    let taken: Option<Vec<usize>> = inputs
        .iter()
        .map(|input| place(&input.name).or_else(|| nameless.next().map(|(index, _)| index)))
        .collect();
    let Some(taken) = taken else {
        // More than the file declares: then OpenVINO's own words are all there is.
        let all = (0..inputs.len()).collect();
        return (inputs, all);
    };
    let mut ports = declared;
    for (input, index) in inputs.into_iter().zip(&taken) {
        if let Some(port) = ports.get_mut(*index) {
            // What OpenVINO worked out of types and dimensions may be more than is declared.
            *port = Port {
                name: Arc::clone(&port.name),
                ..input
            };
        }
    }
    (ports, taken)
}

/// OpenVINO takes and gives fp64, but computes it in fp32: near, but not what the graph says.
fn computes_as_told(signature: &Signature, precision: Precision) -> Result<(), String> {
    let mut ports = signature.inputs.iter().chain(&signature.outputs);
    match ports.find(|port| port.ty == Some(TensorType::Fp64)) {
        Some(port) if precision == Precision::F32 => Err(format!(
            "`{}` is fp64, which OpenVINO computes in fp32: use onnxruntime, or allow it with precision \
             backend-default",
            port.name
        )),
        _ => Ok(()),
    }
}

fn properties(spec: &GraphSpec) -> Result<Vec<(&'static CStr, CString)>, String> {
    let mut properties = vec![(c"PERFORMANCE_HINT", "LATENCY".to_owned())];
    if spec.precision == Precision::F32 {
        properties.push((c"INFERENCE_PRECISION_HINT", "f32".to_owned()));
    }
    if spec.target == Target::Cpu {
        properties.extend([
            // Sessions share the compiled model, and a stream is what runs one of them: as many of one as of the other.
            (c"NUM_STREAMS", spec.sessions.to_string()),
            (
                c"INFERENCE_NUM_THREADS",
                spec.sessions
                    .saturating_mul(spec.intra_op_threads)
                    .to_string(),
            ),
            // Pinned threads of several graphs end up on the same cores.
            (c"ENABLE_CPU_PINNING", "NO".to_owned()),
        ]);
    }
    properties
        .into_iter()
        .map(|(key, value)| Ok((key, CString::new(value).map_err(|error| error.to_string())?)))
        .collect()
}

fn port(info: PortInfo) -> Port {
    Port {
        name: info.name.into(),
        ty: tensor_type(info.element),
        shape: info
            .dims
            .unwrap_or_default()
            .into_iter()
            .map(|dim| {
                dim.and_then(|dim| u32::try_from(dim).ok())
                    .map_or(Dim::Dynamic, Dim::Fixed)
            })
            .collect(),
    }
}

fn element(ty: TensorType) -> ov_element_type_e {
    match ty {
        TensorType::Fp16 => ov_element_type_e::F16,
        TensorType::Fp32 => ov_element_type_e::F32,
        TensorType::Fp64 => ov_element_type_e::F64,
        TensorType::Bf16 => ov_element_type_e::BF16,
        TensorType::U8 => ov_element_type_e::U8,
        TensorType::I32 => ov_element_type_e::I32,
        TensorType::I64 => ov_element_type_e::I64,
    }
}

fn tensor_type(code: ElementCode) -> Option<TensorType> {
    TensorType::ALL
        .into_iter()
        .find(|ty| element(*ty) as ElementCode == code)
}

/// OpenVINO's own name for a type outside the seven.
fn element_name(code: ElementCode) -> &'static str {
    const NAMES: [(ov_element_type_e, &str); 11] = [
        (ov_element_type_e::DYNAMIC, "dynamic"),
        (ov_element_type_e::OV_BOOLEAN, "boolean"),
        (ov_element_type_e::I4, "i4"),
        (ov_element_type_e::I8, "i8"),
        (ov_element_type_e::I16, "i16"),
        (ov_element_type_e::U1, "u1"),
        (ov_element_type_e::U4, "u4"),
        (ov_element_type_e::U16, "u16"),
        (ov_element_type_e::U32, "u32"),
        (ov_element_type_e::U64, "u64"),
        (ov_element_type_e::STRING, "string"),
    ];
    NAMES
        .iter()
        .find(|(element, _)| *element as ElementCode == code)
        .map_or("a rare one", |(_, name)| name)
}

struct OvNetwork {
    // Fields drop in order: the model before the library's core.
    compiled: Compiled,
    signature: Arc<Signature>,
    taken: Arc<[usize]>,
    _library: Arc<Loaded<Engine>>,
}

impl Network for OvNetwork {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(OvSession {
            request: self.compiled.request()?,
            signature: Arc::clone(&self.signature),
            taken: Arc::clone(&self.taken),
        }))
    }
}

struct OvSession {
    request: Request,
    signature: Arc<Signature>,
    /// For each input of the model as OpenVINO has it, which of the signature's it is.
    taken: Arc<[usize]>,
}

/// Graphs in use take one to four tensors; that many are passed without an allocation.
const USUAL_INPUTS: usize = 4;

impl Session for OvSession {
    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ComputeError> {
        for input in inputs {
            fits_32_bits(&input.tensor).map_err(|words| about("input", &input.name, &words))?;
        }
        let inputs: SmallVec<[&NamedTensor; USUAL_INPUTS]> = self
            .taken
            .iter()
            .filter_map(|index| inputs.get(*index))
            .collect();
        // The caller's bytes themselves where they lie aligned, else a copy: alive until the run is over.
        let elements: SmallVec<[AlignedBytes<'_>; USUAL_INPUTS]> = inputs
            .iter()
            .map(|input| input.tensor.aligned_bytes())
            .collect();
        let lent = inputs
            .iter()
            .zip(&elements)
            .map(|(input, elements)| {
                let tensor = &input.tensor;
                HostTensor::new(
                    tensor.ty(),
                    element(tensor.ty()),
                    tensor.shape(),
                    elements.as_slice(),
                )
                .map_err(|words| about("input", &input.name, &words))
            })
            .collect::<Result<SmallVec<[HostTensor<'_>; USUAL_INPUTS]>, ComputeError>>()?;
        self.request.infer(&lent).map_err(ComputeError::Backend)?;
        let request = &mut self.request;
        self.signature
            .outputs
            .iter()
            .enumerate()
            .map(|(index, port)| {
                let tensor = request
                    .output(index, output_tensor)
                    .map_err(|words| about("output", &port.name, &words))?;
                Ok(NamedTensor {
                    name: Arc::clone(&port.name),
                    tensor,
                })
            })
            .collect()
    }
}

/// OpenVINO takes i64 but computes it in i32, cutting larger values silently to something else.
fn fits_32_bits(tensor: &Tensor) -> Result<(), String> {
    if tensor.ty() != TensorType::I64 {
        return Ok(());
    }
    let elements = tensor.aligned::<i64>().map_err(|error| error.to_string())?;
    match elements
        .iter()
        .find(|element| i32::try_from(**element).is_err())
    {
        None => Ok(()),
        Some(element) => Err(format!(
            "holds {element}: OpenVINO computes i64 in 32 bits, use onnxruntime for values beyond"
        )),
    }
}

/// Copies an output out of the request, which reuses its memory.
fn output_tensor(code: ElementCode, dims: &[i64], bytes: &[u8]) -> Result<Tensor, String> {
    let ty = tensor_type(code).ok_or_else(|| untransportable(element_name(code)))?;
    Tensor::new(ty, shape_of(dims)?, bytes.to_vec())
        .map_err(|error| format!("cannot be carried: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(names: &[&str]) -> Vec<Port> {
        let port = |name: &&str| Port {
            name: (*name).into(),
            ty: Some(TensorType::Fp32),
            shape: Vec::new(),
        };
        names.iter().map(port).collect()
    }

    #[test]
    fn inputs_have_the_names_of_the_file_and_those_folded_away_are_asked_for() {
        let mut folded = ports(&["input", "x"]);
        if let Some(port) = folded.first_mut() {
            port.shape = vec![Dim::Fixed(0)];
        }
        let expected = (folded.clone(), vec![1]);
        assert_eq!(as_declared(ports(&["y"]), folded), expected);
        for (given, declared, names, taken) in [
            (
                &["a", "b"][..],
                &["a", "b"][..],
                &["a", "b"][..],
                &[0, 1][..],
            ),
            (&["b", "a"], &["a", "b"], &["a", "b"], &[1, 0]),
            (&["y"], &["x"], &["x"], &[0]),
            (&["y", "b"], &["a", "b"], &["a", "b"], &[0, 1]),
            (&["split"], &["input", "split"], &["input", "split"], &[1]),
            (&["a", "b"], &["a"], &["a", "b"], &[0, 1]),
        ] {
            let expected = (ports(names), taken.to_vec());
            assert_eq!(as_declared(ports(given), ports(declared)), expected);
        }
    }
}
