//! The embedded engine: `tract`, compiled in, so that ONNX files are served where nothing is installed. `bench/engines`
//! has the comparison that chose it.
//!
//! It computes on the calling thread only, whatever `intra_op_threads` says, and has no bf16.

mod plans;

use std::path::Path;
use std::sync::Arc;

use half::f16;
use smallvec::SmallVec;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceModel, IntoTValue, TDim, TValue, Tensor as TractTensor, tvec,
};
use tract_onnx::tract_core::prelude::Datum;

use self::plans::Plans;
use super::{Backend, Network, Session, about, guarded, guarded_run, untransportable};
use crate::error::ComputeError;
use crate::graph::{BackendKind, GraphFiles, GraphSpec, Signature, Target};
use crate::precheck;
use crate::runtime::BackendStatus;
use crate::tensor::{Element, MAX_RANK, NamedTensor, Shape, Tensor, TensorType};

/// The engine's version, as `Cargo.toml` pins it.
const TRACT: &str = "0.23.9";

/// The embedded backend.
pub(crate) struct Embedded;

impl Backend for Embedded {
    fn status(&self) -> BackendStatus {
        BackendStatus {
            kind: BackendKind::Embedded,
            available: true,
            version: Some(TRACT.to_owned()),
            detail: "tract, compiled in".to_owned(),
        }
    }

    fn opened_with(&self, _: &GraphSpec) -> Option<String> {
        Some(String::new())
    }

    fn open(&self, spec: &GraphSpec) -> Result<Box<dyn Network>, String> {
        let GraphFiles::Onnx(path) = &spec.files else {
            return Err(
                "it reads ONNX files only: OpenVINO's .xml and .bin need the backend openvino"
                    .to_owned(),
            );
        };
        if spec.target == Target::Gpu {
            return Err(
                "it computes on the processor only: target gpu needs onnxruntime or openvino"
                    .to_owned(),
            );
        }
        guarded(|| {
            let (model, signature, bytes) = read(path)?;
            let plans = Plans::new(model, &signature, bytes).map_err(|words| {
                format!("{words}: what the embedded engine lacks, onnxruntime or openvino may have")
            })?;
            Ok(Box::new(EmbeddedNetwork {
                signature: Arc::new(signature),
                plans: Arc::new(plans),
            }) as Box<dyn Network>)
        })
    }
}

/// The parsed model, its ports and how many bytes it is.
fn read(path: &Path) -> Result<(InferenceModel, Signature, usize), String> {
    let onnx = tract_onnx::onnx();
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let proto = onnx
        .proto_model_for_read(&mut &*bytes)
        .map_err(|error| format!("this is no ONNX file: {error:#}"))?;
    let signature = precheck::declared(path).map_err(|refusal| refusal.to_string())?;
    let mut ports = signature.inputs.iter().chain(&signature.outputs);
    if let Some(port) = ports.find(|port| port.ty.is_some_and(|ty| datum_type(ty).is_none())) {
        return Err(format!("`{}` {NO_BF16}", port.name));
    }
    // Weights in other files are read from the model's own folder only; tract sees to that.
    let folder = path.parent().and_then(Path::to_str);
    let parsed = onnx
        .parse(&proto, folder)
        .map_err(|error| format!("{error:#}"))?;
    match parsed.unresolved_inputs.as_slice() {
        [] => Ok((parsed.model, signature, bytes.len())),
        unresolved => Err(format!(
            "no node gives what others take: {}",
            unresolved.join(", ")
        )),
    }
}

struct EmbeddedNetwork {
    signature: Arc<Signature>,
    plans: Arc<Plans>,
}

impl Network for EmbeddedNetwork {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(EmbeddedSession {
            signature: Arc::clone(&self.signature),
            plans: Arc::clone(&self.plans),
        }))
    }
}

/// Plans keep nothing between runs, so that sessions differ in nothing but their place in the scheduler.
struct EmbeddedSession {
    signature: Arc<Signature>,
    plans: Arc<Plans>,
}

impl Session for EmbeddedSession {
    fn is_ready_for(&self, inputs: &[NamedTensor]) -> bool {
        self.plans.is_ready_for(inputs)
    }

    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ComputeError> {
        let mut values = tvec!();
        for input in inputs {
            let value =
                input_value(&input.tensor).map_err(|words| about("input", &input.name, &words))?;
            values.push(value);
        }
        // tract panics on some values that other engines refuse, such as an index past the end of a table. Plans are
        // never changed, so the next caller is none the worse for it.
        let outputs = guarded_run(|| {
            let plan = self.plans.plan_for(inputs)?;
            // A fresh state each time: a kept one remembers recurrent state and sizes from one caller to the next.
            plan.run(values).map_err(|error| format!("{error:#}"))
        })?;
        self.signature
            .outputs
            .iter()
            .zip(outputs)
            .map(|(port, value)| {
                Ok(NamedTensor {
                    name: Arc::clone(&port.name),
                    tensor: output_tensor(value)
                        .map_err(|words| about("output", &port.name, &words))?,
                })
            })
            .collect()
    }
}

/// tract's type for ours; it has no bf16.
fn datum_type(ty: TensorType) -> Option<DatumType> {
    Some(match ty {
        TensorType::Fp16 => DatumType::F16,
        TensorType::Fp32 => DatumType::F32,
        TensorType::Fp64 => DatumType::F64,
        TensorType::U8 => DatumType::U8,
        TensorType::I32 => DatumType::I32,
        TensorType::I64 => DatumType::I64,
        TensorType::Bf16 => return None,
    })
}

fn tensor_type(ty: DatumType) -> Option<TensorType> {
    TensorType::ALL
        .into_iter()
        .find(|known| datum_type(*known) == Some(ty))
}

/// tract owns its inputs: one copy, aligned as its kernels want it.
fn input_value(tensor: &Tensor) -> Result<TValue, String> {
    fn of<T: Element + Datum>(tensor: &Tensor) -> Result<TractTensor, String> {
        let dims: SmallVec<[usize; MAX_RANK]> = tensor
            .shape()
            .dims()
            .iter()
            .map(|dim| *dim as usize)
            .collect();
        let elements = tensor.aligned::<T>().map_err(|error| error.to_string())?;
        TractTensor::from_shape(&dims, &elements).map_err(|error| format!("was refused: {error:#}"))
    }
    Ok(match tensor.ty() {
        TensorType::Fp16 => of::<f16>(tensor),
        TensorType::Fp32 => of::<f32>(tensor),
        TensorType::Fp64 => of::<f64>(tensor),
        TensorType::U8 => of::<u8>(tensor),
        TensorType::I32 => of::<i32>(tensor),
        TensorType::I64 => of::<i64>(tensor),
        TensorType::Bf16 => Err(NO_BF16.to_owned()),
    }?
    .into_tvalue())
}

const NO_BF16: &str =
    "is bf16, which the embedded engine does not compute: use onnxruntime or openvino";

fn output_tensor(value: TValue) -> Result<Tensor, String> {
    // What tract computes of shapes it keeps as symbolic dimensions, where ONNX says i64.
    let value = if value.datum_type() == TDim::datum_type() {
        value
            .cast_to::<i64>()
            .map_err(|error| format!("cannot be carried: {error:#}"))?
            .into_owned()
            .into_tvalue()
    } else {
        value
    };
    let ty = tensor_type(value.datum_type())
        .ok_or_else(|| untransportable(&format!("{:?}", value.datum_type()).to_lowercase()))?;
    let dims = value
        .shape()
        .iter()
        .map(|dim| u32::try_from(*dim))
        .collect::<Result<SmallVec<[u32; MAX_RANK]>, _>>()
        .map_err(|_| format!("has a dimension over {}: {:?}", u32::MAX, value.shape()))?;
    Shape::new(&dims)
        .and_then(|shape| Tensor::new(ty, shape, value.as_bytes().to_vec()))
        .map_err(|error| format!("cannot be carried: {error}"))
}
