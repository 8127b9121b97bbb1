//! ONNX Runtime as the product loads it: the library named by ORT_DYLIB_PATH, telemetry off, one thread.

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use half::{bf16, f16};
use ort::{
    environment::Environment,
    session::{Session as OrtSession, SessionInputValue},
    value::{Tensor as OrtTensor, TensorElementType},
};

use super::Session;
use crate::tensor::{DType, Tensor, elements, to_bytes};

fn environment() -> Result<&'static Environment> {
    static ENVIRONMENT: OnceLock<Result<Environment, String>> = OnceLock::new();
    let build = || -> Result<Environment> {
        let library = std::env::var("ORT_DYLIB_PATH")
            .context("ORT_DYLIB_PATH must name libonnxruntime.so")?;
        Ok(ort::init_from(library)?.with_telemetry(false).build()?)
    };
    ENVIRONMENT
        .get_or_init(|| build().map_err(|e| format!("{e:#}")))
        .as_ref()
        .map_err(|e| anyhow!("{e}"))
}

struct Ort(OrtSession);

pub(super) fn load(model: &[u8]) -> Result<impl Session + use<>> {
    let builder = OrtSession::builder(environment()?)?;
    let builder = builder.with_intra_threads(1).map_err(|e| anyhow!("{e}"))?;
    let mut builder = builder.with_inter_threads(1).map_err(|e| anyhow!("{e}"))?;
    Ok(Ort(builder.commit_from_memory(model)?))
}

fn to_value(tensor: &Tensor) -> Result<SessionInputValue<'static>> {
    let (shape, bytes) = (tensor.shape.clone(), &tensor.bytes);
    Ok(match tensor.dtype {
        DType::F32 => OrtTensor::from_array((shape, elements(bytes, f32::from_le_bytes)))?.into(),
        DType::F64 => OrtTensor::from_array((shape, elements(bytes, f64::from_le_bytes)))?.into(),
        DType::F16 => OrtTensor::from_array((shape, elements(bytes, f16::from_le_bytes)))?.into(),
        DType::Bf16 => OrtTensor::from_array((shape, elements(bytes, bf16::from_le_bytes)))?.into(),
        DType::U8 => OrtTensor::from_array((shape, bytes.clone()))?.into(),
        DType::I32 => OrtTensor::from_array((shape, elements(bytes, i32::from_le_bytes)))?.into(),
        DType::I64 => OrtTensor::from_array((shape, elements(bytes, i64::from_le_bytes)))?.into(),
    })
}

impl Session for Ort {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let inputs = inputs.iter().map(to_value).collect::<Result<Vec<_>>>()?;
        let outputs = self.0.run(&inputs[..])?;
        (0..outputs.len())
            .map(|index| {
                let value = &outputs[index];
                let ty = value
                    .dtype()
                    .tensor_type()
                    .context("an output is not a tensor")?;
                macro_rules! take {
                    ($dtype:expr, $t:ty) => {{
                        let (shape, data) = value.try_extract_tensor::<$t>()?;
                        let shape = shape
                            .iter()
                            .map(|&size| Ok(usize::try_from(size)?))
                            .collect::<Result<_>>()?;
                        Tensor {
                            dtype: $dtype,
                            shape,
                            bytes: to_bytes(data, <$t>::to_le_bytes),
                        }
                    }};
                }
                Ok(match ty {
                    TensorElementType::Float32 => take!(DType::F32, f32),
                    TensorElementType::Float64 => take!(DType::F64, f64),
                    TensorElementType::Float16 => take!(DType::F16, f16),
                    TensorElementType::Bfloat16 => take!(DType::Bf16, bf16),
                    TensorElementType::Uint8 => take!(DType::U8, u8),
                    TensorElementType::Int32 => take!(DType::I32, i32),
                    TensorElementType::Int64 => take!(DType::I64, i64),
                    other => bail!("ONNX Runtime gave {other:?}, which wasi:nn lacks"),
                })
            })
            .collect()
    }
}
