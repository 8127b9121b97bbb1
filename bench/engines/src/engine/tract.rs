//! tract: parse, infer, optimise, run. The several ways to do so differ much in speed, so each is a mode.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::SimpleState;
use tract_onnx::tract_hir::infer::Factoid;

use super::Session;
use crate::{
    onnx::Signature,
    tensor::{DType, Tensor as Plain},
};

/// How a graph becomes something to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// One optimised plan for all sizes of the symbolic dimensions; a fresh state for each call.
    Symbolic,
    /// The same, with one state for all calls.
    SymbolicReused,
    /// As `into_typed` leaves it: no rewriting, no kernels chosen ahead.
    Plain,
    /// An optimised plan for each set of input shapes that comes, made when it first comes; a fresh state for each call.
    Fixed,
    /// The same, with one state for each plan.
    FixedReused,
}

type State = SimpleState<TypedFact, Box<dyn TypedOp>>;

/// What runs a set of shapes.
enum Runner {
    Fresh(Arc<TypedRunnableModel>),
    Reused(State),
}

impl Runner {
    fn new(graph: TypedModel, mode: Mode) -> Result<Self> {
        let graph = if mode == Mode::Plain {
            graph
        } else {
            graph.into_optimized()?
        };
        let plan = graph.into_runnable()?;
        Ok(match mode {
            Mode::SymbolicReused | Mode::FixedReused => Self::Reused(plan.spawn()?),
            Mode::Symbolic | Mode::Fixed | Mode::Plain => Self::Fresh(plan),
        })
    }

    fn run(&mut self, inputs: TVec<TValue>) -> Result<TVec<TValue>> {
        match self {
            Self::Fresh(plan) => plan.run(inputs),
            Self::Reused(state) => state.run(inputs),
        }
    }
}

struct Tract {
    mode: Mode,
    graph: TypedModel,
    /// By input shapes; symbolic modes have a single entry, under no shapes.
    runners: HashMap<Vec<Vec<usize>>, Runner>,
    outputs: Vec<DatumType>,
}

fn datum_type(dtype: DType) -> Result<DatumType> {
    Ok(match dtype {
        DType::F16 => DatumType::F16,
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::U8 => DatumType::U8,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::Bf16 => anyhow::bail!("tract has no bf16"),
    })
}

fn dtype(datum_type: DatumType) -> Result<DType> {
    Ok(match datum_type {
        DatumType::F16 => DType::F16,
        DatumType::F32 => DType::F32,
        DatumType::F64 => DType::F64,
        DatumType::U8 => DType::U8,
        DatumType::I32 => DType::I32,
        DatumType::I64 => DType::I64,
        other => anyhow::bail!("tract gave {other:?}, which wasi:nn lacks"),
    })
}

pub(super) fn load(
    model: &[u8],
    signature: &Signature,
    mode: Mode,
) -> Result<impl Session + use<>> {
    let mut graph = tract_onnx::onnx().model_for_read(&mut &model[..])?;
    // A dimension without a name is as free as one with a name, but tract reads it as "to be inferred" and then fails:
    // give each a symbol of its own.
    for (index, port) in signature.inputs.iter().enumerate() {
        let (Some(dtype), Some(shape)) = (port.dtype, &port.shape) else {
            continue;
        };
        if graph.input_fact(index)?.shape.is_concrete() {
            continue;
        }
        let declared = graph.input_fact(index)?.shape.clone();
        let shape: TVec<TDim> = declared
            .dims()
            .zip(shape)
            .enumerate()
            .map(|(axis, (dim, size))| match (dim.concretize(), size) {
                (Some(dim), _) => dim,
                (None, Some(size)) => size.to_dim(),
                (None, None) => graph.symbols.sym(&format!("free_{index}_{axis}")).to_dim(),
            })
            .collect();
        graph.set_input_fact(index, InferenceFact::dt_shape(datum_type(dtype)?, shape))?;
    }
    let graph = if mode == Mode::Plain {
        graph.into_typed()?
    } else {
        graph.into_typed()?.into_decluttered()?
    };
    let mut runners = HashMap::new();
    match mode {
        Mode::Fixed | Mode::FixedReused => {}
        _ => drop(runners.insert(Vec::new(), Runner::new(graph.clone(), mode)?)),
    }
    let outputs = signature
        .outputs
        .iter()
        .map(|port| datum_type(port.dtype.context("an output's type is not wasi:nn's")?))
        .collect::<Result<_>>()?;
    Ok(Tract {
        mode,
        graph,
        runners,
        outputs,
    })
}

/// What each symbol of the inputs' declared shapes stands for, given inputs.
fn symbols(graph: &TypedModel, inputs: &[Plain]) -> Result<HashMap<Symbol, TDim>> {
    ensure!(
        graph.inputs.len() == inputs.len(),
        "{} inputs where {} are right",
        inputs.len(),
        graph.inputs.len()
    );
    let mut symbols: HashMap<Symbol, TDim> = HashMap::new();
    for (index, tensor) in inputs.iter().enumerate() {
        let fact = graph.input_fact(index)?;
        let right = || {
            format!(
                "input {index} is {:?} where {fact:?} is right",
                tensor.shape
            )
        };
        ensure!(fact.rank() == tensor.shape.len(), right());
        for (declared, &size) in fact.shape.iter().zip(&tensor.shape) {
            let meant = match declared {
                TDim::Sym(symbol) => symbols
                    .entry(symbol.clone())
                    .or_insert_with(|| size.to_dim())
                    .clone(),
                other => other.clone(),
            };
            ensure!(meant == size.to_dim(), right());
        }
    }
    Ok(symbols)
}

impl Session for Tract {
    fn run(&mut self, inputs: &[Plain]) -> Result<Vec<Plain>> {
        let fixed = matches!(self.mode, Mode::Fixed | Mode::FixedReused);
        let key = if fixed {
            inputs.iter().map(|tensor| tensor.shape.clone()).collect()
        } else {
            Vec::new()
        };
        let runner = match self.runners.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let symbols = symbols(&self.graph, inputs)?;
                entry.insert(Runner::new(self.graph.set_symbols(&symbols)?, self.mode)?)
            }
        };
        let inputs = inputs
            .iter()
            .map(|tensor| {
                let datum_type = datum_type(tensor.dtype)?;
                let elements: usize = tensor.shape.iter().product();
                ensure!(
                    tensor.bytes.len() == elements * datum_type.size_of(),
                    "bytes and shape disagree"
                );
                // SAFETY: every bit pattern is a value of these six types, and the length was just checked.
                let tensor =
                    unsafe { Tensor::from_raw_dt(datum_type, &tensor.shape, &tensor.bytes)? };
                Ok(tensor.into_tvalue())
            })
            .collect::<Result<TVec<TValue>>>()?;
        let outputs = runner.run(inputs)?;
        outputs
            .into_iter()
            .zip(&self.outputs)
            .map(|(value, &declared)| {
                // tract computes shapes as symbolic `TDim`s: cast those back to the declared i64.
                let value = if value.datum_type() == TDim::datum_type() {
                    value.cast_to_dt(declared)?.into_owned()
                } else {
                    value.into_tensor()
                };
                Ok(Plain {
                    dtype: dtype(value.datum_type())?,
                    shape: value.shape().to_vec(),
                    bytes: value.as_bytes().to_vec(),
                })
            })
            .collect()
    }
}
