//! rten: four tensor types (f32, i32, i8, u8), so that f16, f64 and i64 go in and out converted, and bf16 not at all.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use half::f16;
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::prelude::*;

use super::Session;
use crate::{
    onnx::Signature,
    tensor::{DType, Tensor, elements, to_bytes},
};

struct Rten {
    model: Model,
    options: RunOptions,
    inputs: Vec<NodeId>,
    outputs: Vec<(NodeId, DType)>,
}

pub(super) fn load(
    model: &[u8],
    signature: &Signature,
    optimise: bool,
    prepack: bool,
) -> Result<impl Session + use<>> {
    let mut options = ModelOptions::with_all_ops();
    options
        .enable_optimization(optimise)
        .prepack_weights(prepack);
    let model = options.load(model.to_vec())?;
    let node = |name: &str| {
        model
            .find_node(name)
            .with_context(|| format!("rten lost {name:?}"))
    };
    let inputs = signature
        .inputs
        .iter()
        .map(|port| node(&port.name))
        .collect::<Result<_>>()?;
    let outputs = signature
        .outputs
        .iter()
        .map(|port| {
            Ok((
                node(&port.name)?,
                port.dtype.context("an output's type is not wasi:nn's")?,
            ))
        })
        .collect::<Result<_>>()?;
    let options = RunOptions::default().with_thread_pool(Some(pool().clone()));
    Ok(Rten {
        model,
        options,
        inputs,
        outputs,
    })
}

fn to_value(tensor: &Tensor) -> Result<Value> {
    let (shape, bytes) = (&tensor.shape[..], &tensor.bytes);
    Ok(match tensor.dtype {
        DType::F32 => Value::from_shape(shape, elements(bytes, f32::from_le_bytes))?,
        DType::F16 => {
            Value::from_shape(shape, elements(bytes, |b| f16::from_le_bytes(b).to_f32()))?
        }
        DType::F64 => Value::from_shape(shape, elements(bytes, |b| f64::from_le_bytes(b) as f32))?,
        DType::I32 => Value::from_shape(shape, elements(bytes, i32::from_le_bytes))?,
        DType::U8 => Value::from_shape(shape, bytes.clone())?,
        DType::I64 => {
            let narrow = elements(bytes, i64::from_le_bytes)
                .into_iter()
                .map(i32::try_from)
                .collect::<Result<Vec<_>, _>>();
            Value::from_shape(
                shape,
                narrow.context("an i64 input does not fit rten's i32")?,
            )?
        }
        DType::Bf16 => bail!("rten has no bf16"),
    })
}

fn to_tensor(value: Value, declared: DType) -> Result<Tensor> {
    let (shape, bytes) = match (value, declared) {
        (Value::FloatTensor(t), DType::F32) => (
            t.shape().to_vec(),
            to_bytes(&t.into_data(), f32::to_le_bytes),
        ),
        (Value::FloatTensor(t), DType::F16) => (
            t.shape().to_vec(),
            to_bytes(&t.into_data(), |v| f16::from_f32(v).to_le_bytes()),
        ),
        (Value::FloatTensor(t), DType::F64) => (
            t.shape().to_vec(),
            to_bytes(&t.into_data(), |v| f64::from(v).to_le_bytes()),
        ),
        (Value::Int32Tensor(t), DType::I32) => (
            t.shape().to_vec(),
            to_bytes(&t.into_data(), i32::to_le_bytes),
        ),
        (Value::Int32Tensor(t), DType::I64) => (
            t.shape().to_vec(),
            to_bytes(&t.into_data(), |v| i64::from(v).to_le_bytes()),
        ),
        (Value::UInt8Tensor(t), DType::U8) => (t.shape().to_vec(), t.into_data()),
        (other, declared) => bail!("rten gave {} for {declared:?}", other.dtype()),
    };
    Ok(Tensor {
        dtype: declared,
        shape,
        bytes,
    })
}

impl Session for Rten {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let inputs = self
            .inputs
            .iter()
            .zip(inputs)
            .map(|(&node, tensor)| Ok((node, ValueOrView::from(to_value(tensor)?))))
            .collect::<Result<Vec<_>>>()?;
        let nodes: Vec<NodeId> = self.outputs.iter().map(|(node, _)| *node).collect();
        let values = self.model.run(inputs, &nodes, Some(self.options.clone()))?;
        values
            .into_iter()
            .zip(&self.outputs)
            .map(|(value, (_, dtype))| to_tensor(value, *dtype))
            .collect()
    }
}

/// The pool of one thread that all sessions here share: rten always computes in a pool.
pub(crate) fn pool() -> &'static Arc<ThreadPool> {
    static POOL: OnceLock<Arc<ThreadPool>> = OnceLock::new();
    POOL.get_or_init(|| Arc::new(ThreadPool::with_num_threads(1)))
}
