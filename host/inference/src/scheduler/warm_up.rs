//! The first runs of a graph, on made-up input: they pay what first runs pay (allocation, code, caches) before a caller
//! would, and show whether runs are short enough to be made in place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use half::{bf16, f16};

use crate::backend::Session;
use crate::graph::Signature;
use crate::tensor::{NamedTensor, Shape, Tensor, TensorType};

/// Measured runs. The median of nine is steady within a few percent on a busy machine.
const RUNS: usize = 9;

/// Past this, more runs only delay the start: the graph is not a short one.
const TIME: Duration = Duration::from_millis(20);

/// Made-up input larger than this is not worth its memory.
const MOST_BYTES: usize = 256 << 20;

/// A graph's warm-up, shared by its sessions: all run, the first is measured.
pub(super) struct WarmUp {
    /// As [`made_up`]; `None` where they cannot be made or the graph refuses them.
    inputs: Option<Vec<NamedTensor>>,
    bytes: usize,
    median: Option<Duration>,
}

impl WarmUp {
    pub(super) fn of(signature: &Signature) -> Self {
        let inputs = made_up(signature);
        Self {
            bytes: inputs
                .iter()
                .flatten()
                .map(|input| input.tensor.byte_len())
                .sum(),
            inputs,
            median: None,
        }
    }

    /// Warms up a session; `None` if it panicked. An error is no obstacle: zeros need not mean anything to a graph.
    pub(super) fn run(&mut self, mut session: Box<dyn Session>) -> Option<Box<dyn Session>> {
        let Some(inputs) = &self.inputs else {
            return Some(session);
        };
        let measured = self.median.is_none();
        let begin = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            session.run(inputs)?;
            let mut times = Vec::with_capacity(RUNS);
            while measured && times.len() < RUNS && begin.elapsed() < TIME {
                let start = Instant::now();
                session.run(inputs)?;
                times.push(start.elapsed());
            }
            times.sort_unstable();
            Ok::<_, crate::error::ComputeError>(times.get(times.len() / 2).copied())
        }));
        match outcome {
            Ok(Ok(median)) => {
                self.median = self.median.or(median).or_else(|| Some(begin.elapsed()))
            }
            Ok(Err(words)) => {
                tracing::debug!(%words, "the warm-up's made-up input was refused");
                self.inputs = None;
            }
            Err(_) => {
                self.inputs = None;
                super::discard(session);
                return None;
            }
        }
        Some(session)
    }

    /// The median of the measured runs.
    pub(super) fn median(&self) -> Option<Duration> {
        self.median
    }

    /// How many bytes of input a run is expected to take in less than `bound`; `None` if even the warm-up's took longer.
    /// Time is taken to grow with the input, from the warm-up's up.
    pub(super) fn bytes_within(&self, bound: Duration) -> Option<usize> {
        let median = self.median?;
        if median >= bound {
            return None;
        }
        let times = bound.as_nanos() / median.as_nanos().max(1);
        // A scalar's few bytes say nothing about how time grows.
        Some(
            self.bytes
                .max(64)
                .saturating_mul(usize::try_from(times).ok()?),
        )
    }
}

/// Zeros for every input, with every dynamic dimension 1; but ones for scalars and vectors, which may be sizes or steps:
/// OpenVINO divides by some of them, and a process does not survive that by zero.
fn made_up(signature: &Signature) -> Option<Vec<NamedTensor>> {
    let mut total = 0_usize;
    signature
        .inputs
        .iter()
        .map(|port| {
            let (ty, shape) = (port.ty?, port.smallest()?);
            total = total.checked_add(shape.bytes(ty))?;
            let tensor = |shape: Shape| match shape.rank() {
                0 | 1 => ones(ty, shape),
                _ => Some(Tensor::zeros(ty, shape)),
            };
            (total <= MOST_BYTES)
                .then(|| tensor(shape))
                .flatten()
                .map(|tensor| NamedTensor::new(port.name.clone(), tensor))
        })
        .collect()
}

fn ones(ty: TensorType, shape: Shape) -> Option<Tensor> {
    let one = match ty {
        TensorType::Fp16 => f16::ONE.to_le_bytes().to_vec(),
        TensorType::Bf16 => bf16::ONE.to_le_bytes().to_vec(),
        TensorType::Fp32 => 1_f32.to_le_bytes().to_vec(),
        TensorType::Fp64 => 1_f64.to_le_bytes().to_vec(),
        TensorType::U8 => vec![1],
        TensorType::I32 => 1_i32.to_le_bytes().to_vec(),
        TensorType::I64 => 1_i64.to_le_bytes().to_vec(),
    };
    Tensor::new(ty, shape, one.repeat(shape.elements())).ok()
}
