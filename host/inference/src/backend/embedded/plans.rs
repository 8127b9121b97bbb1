//! What the embedded engine runs: a plan for every set of input shapes that comes often enough, and one for all others.
//!
//! A plan for fixed shapes runs many times faster than one with symbolic dimensions where convolutions or recurrences
//! are involved (EfficientNet-Lite0: 203 ms symbolic), and costs milliseconds to seconds to make.

use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tract_onnx::prelude::{
    InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, TDim, TVec, ToDim,
    TypedRunnableModel,
};
use tract_onnx::tract_hir::infer::Factoid;

use crate::graph::{Dim, Port, Signature};
use crate::tensor::{NamedTensor, Shape};

/// A plan: runs any number of callers at once, and keeps nothing of them.
type Plan = Arc<TypedRunnableModel>;

/// The shapes of a run's inputs.
type Key = SmallVec<[Shape; 4]>;

/// At most so many plans for fixed shapes, and at most so many bytes of weights in them: each plan holds its own, packed
/// for its kernels.
const MOST_PLANS: usize = 16;
const MOST_BYTES: usize = 512 << 20;

/// The plans of one network, shared by its sessions.
pub(super) struct Plans {
    model: InferenceModel,
    /// Serves shapes that have no plan of their own; `None` where the model cannot be planned without sizes.
    symbolic: Option<Plan>,
    most: usize,
    /// The most recently used first.
    fixed: Mutex<Vec<(Key, Plan)>>,
    /// Held while a plan is made, so that sessions that want the same one make it once.
    making: Mutex<()>,
}

impl Plans {
    /// Plans the model, which is also the test whether tract takes it.
    ///
    /// # Errors
    /// tract's words, when it can plan the model neither with symbolic dimensions nor with every one of them 1.
    pub(super) fn new(
        mut model: InferenceModel,
        signature: &Signature,
        bytes: usize,
    ) -> Result<Self, String> {
        for (index, port) in signature.inputs.iter().enumerate() {
            name_free_dimensions(&mut model, index, port)?;
        }
        let symbolic = plan(model.clone());
        let plans = Self {
            symbolic: symbolic.as_ref().ok().cloned(),
            most: (MOST_BYTES / bytes.max(1)).clamp(1, MOST_PLANS),
            fixed: Mutex::default(),
            making: Mutex::new(()),
            model,
        };
        if let Err(words) = symbolic {
            // Some models say how they are made up only once the sizes are known.
            match signature
                .inputs
                .iter()
                .map(Port::smallest)
                .collect::<Option<Vec<_>>>()
            {
                Some(shapes) => plans.make(&shapes).map(drop).map_err(|_| words)?,
                None => return Err(words),
            }
        }
        Ok(plans)
    }

    /// Whether a run with these inputs starts at once, without making a plan first.
    pub(super) fn is_ready_for(&self, inputs: &[NamedTensor]) -> bool {
        let fixed = self.fixed.lock();
        fixed.iter().any(|(known, _)| same(known, inputs))
            || (fixed.len() >= self.most && self.symbolic.is_some())
    }

    /// The plan for these inputs, made if need be.
    pub(super) fn plan_for(&self, inputs: &[NamedTensor]) -> Result<Plan, String> {
        if let Some(plan) = self.ready(inputs) {
            return Ok(plan);
        }
        let _making = self.making.lock();
        if let Some(plan) = self.ready(inputs) {
            return Ok(plan);
        }
        let shapes: Key = inputs.iter().map(|input| *input.tensor.shape()).collect();
        match (self.make(&shapes), &self.symbolic) {
            (Ok(plan), _) => Ok(plan),
            // What cannot be planned for these sizes may still run, or else says best why it does not.
            (Err(_), Some(symbolic)) => Ok(Arc::clone(symbolic)),
            (Err(words), None) => Err(words),
        }
    }

    /// A plan that is there: for these shapes; else, when no more are to be made, the symbolic one.
    fn ready(&self, inputs: &[NamedTensor]) -> Option<Plan> {
        let mut fixed = self.fixed.lock();
        let Some(index) = fixed.iter().position(|(known, _)| same(known, inputs)) else {
            return self.symbolic.clone().filter(|_| fixed.len() >= self.most);
        };
        // Keeps the order of use; a no-op for the one used last.
        fixed.get_mut(..=index)?.rotate_right(1);
        fixed.first().map(|(_, plan)| Arc::clone(plan))
    }

    /// Makes the plan for these shapes and keeps it, in place of the one unused for longest if there are too many.
    fn make(&self, shapes: &[Shape]) -> Result<Plan, String> {
        let mut model = self.model.clone();
        for (index, shape) in shapes.iter().enumerate() {
            let dims: TVec<TDim> = shape
                .dims()
                .iter()
                .map(|dim| i64::from(*dim).to_dim())
                .collect();
            set_dims(&mut model, index, dims)?;
        }
        let plan = plan(model)?;
        let mut fixed = self.fixed.lock();
        fixed.truncate(self.most - 1);
        fixed.insert(0, (shapes.into(), Arc::clone(&plan)));
        Ok(plan)
    }
}

fn same(shapes: &[Shape], inputs: &[NamedTensor]) -> bool {
    shapes.len() == inputs.len()
        && shapes
            .iter()
            .zip(inputs)
            .all(|(shape, input)| shape == input.tensor.shape())
}

fn plan(model: InferenceModel) -> Result<Plan, String> {
    model
        .into_optimized()
        .and_then(|model| model.into_runnable())
        .map_err(|error| format!("{error:#}"))
}

/// Gives each dimension without a size or a name a symbol of its own: tract takes it for one to be worked out, and then
/// cannot.
fn name_free_dimensions(
    model: &mut InferenceModel,
    index: usize,
    port: &Port,
) -> Result<(), String> {
    let fact = model
        .input_fact(index)
        .map_err(|error| format!("{error:#}"))?;
    if port.shape.is_empty() || fact.shape.is_concrete() {
        return Ok(());
    }
    let declared: Vec<Option<TDim>> = fact.shape.dims().map(|dim| dim.concretize()).collect();
    let dims = port
        .shape
        .iter()
        .enumerate()
        .map(|(axis, dim)| match (declared.get(axis), dim) {
            (Some(Some(known)), _) => known.clone(),
            (_, Dim::Fixed(size)) => i64::from(*size).to_dim(),
            (_, Dim::Dynamic) => model.symbols.sym(&format!("free_{index}_{axis}")).to_dim(),
        })
        .collect();
    set_dims(model, index, dims)
}

fn set_dims(model: &mut InferenceModel, index: usize, dims: TVec<TDim>) -> Result<(), String> {
    let fact = model
        .input_fact(index)
        .map_err(|error| format!("{error:#}"))?;
    let ty = fact.datum_type.concretize();
    let fact = match ty {
        Some(ty) => InferenceFact::dt_shape(ty, dims),
        None => InferenceFact::shape(dims),
    };
    model
        .set_input_fact(index, fact)
        .map_err(|error| format!("{error:#}"))
}
