//! The yardstick: ONNX Runtime handed whole batches, and nothing else.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_inference::{Dim, NamedTensor, Shape, Signature, Tensor, TensorType};
use anyhow::bail;
use ort::{
    session::{Session, SessionInputValue},
    value::TensorRef,
};

use super::TOKENS;
use crate::bare;

/// ONNX Runtime alone, one thread, the same rows over and over; outputs are copied out as every caller must.
pub(super) struct BareLoop {
    session: Session,
    signature: Signature,
}

impl BareLoop {
    pub(super) fn open(file: &Path, signature: &Signature) -> anyhow::Result<BareLoop> {
        let session = bare::session(file)?;
        Ok(BareLoop {
            session,
            signature: signature.clone(),
        })
    }

    /// One run: what each output has, copied out.
    pub(super) fn run(&mut self, inputs: &[NamedTensor]) -> anyhow::Result<Vec<Vec<f32>>> {
        let dims = |input: &NamedTensor| -> Vec<i64> {
            let dims = input.tensor.shape().dims();
            dims.iter().map(|dim| i64::from(*dim)).collect()
        };
        let values = inputs
            .iter()
            .map(|input| {
                let bytes = input.tensor.bytes();
                Ok(match input.tensor.ty() {
                    TensorType::Fp32 => {
                        let values = bytemuck::cast_slice::<u8, f32>(bytes);
                        SessionInputValue::from(TensorRef::from_array_view((dims(input), values))?)
                    }
                    _ => {
                        let values = bytemuck::cast_slice::<u8, i64>(bytes);
                        SessionInputValue::from(TensorRef::from_array_view((dims(input), values))?)
                    }
                })
            })
            .collect::<ort::Result<Vec<_>>>()?;
        let outputs = self.session.run(values.as_slice())?;
        let copied = outputs.values().map(|output| {
            let (_, values) = output.try_extract_tensor::<f32>()?;
            Ok(values.to_vec())
        });
        copied.collect()
    }

    pub(super) fn rows_per_second(&mut self, rows: u32, window: Duration) -> anyhow::Result<f64> {
        let inputs = inputs(&self.signature, rows)?;
        let mut begun = Instant::now();
        let (mut runs, mut warm) = (0_u64, false);
        loop {
            std::hint::black_box(self.run(&inputs)?);
            runs += 1;
            let passed = begun.elapsed();
            if !warm && passed > window / 10 {
                (begun, runs, warm) = (Instant::now(), 0, true);
            } else if warm && passed >= window {
                return Ok(runs as f64 * f64::from(rows) / passed.as_secs_f64());
            }
        }
    }

    /// At a mean batch between two whole sizes: of the two, in proportion of the time that a row takes.
    pub(super) fn at(&mut self, batch: f64, window: Duration) -> anyhow::Result<f64> {
        let below = batch.floor().max(1.0);
        let slower = self.rows_per_second(below as u32, window / 4)?;
        let part = batch - below;
        if part < 0.05 {
            return Ok(slower);
        }
        let quicker = self.rows_per_second(below as u32 + 1, window / 4)?;
        Ok(1.0 / ((1.0 - part) / slower + part / quicker))
    }
}

/// Made-up rows: numbers between 0 and 1, or ones for what counts tokens.
pub(super) fn inputs(signature: &Signature, rows: u32) -> anyhow::Result<Vec<NamedTensor>> {
    signature
        .inputs
        .iter()
        .map(|port| {
            let dims: Vec<u32> = port
                .shape
                .iter()
                .enumerate()
                .map(|(axis, dim)| match dim {
                    _ if axis == 0 => rows,
                    Dim::Fixed(size) => *size,
                    Dim::Dynamic => TOKENS,
                })
                .collect();
            let count = Shape::new(&dims)?.elements();
            let tensor = match port.ty {
                Some(TensorType::Fp32) => {
                    let values: Vec<f32> = (0..count).map(|at| (at % 17) as f32 / 16.0).collect();
                    Tensor::from_slice(&dims, &values)?
                }
                Some(TensorType::I64) => Tensor::from_slice(&dims, &vec![1_i64; count])?,
                other => bail!("input `{}` is of type {other:?}", port.name),
            };
            Ok(NamedTensor::new(Arc::clone(&port.name), tensor))
        })
        .collect()
}
