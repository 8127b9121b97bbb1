//! One face for the three engines, so that each is asked the same questions in the same words.

mod onnxruntime;
pub(crate) mod rten;
mod tract;

use anyhow::{Result, bail};

use crate::{onnx::Signature, tensor::Tensor};

/// A loaded model, ready to run on one thread.
pub trait Session {
    /// Takes inputs and gives outputs in the model's order, in the types the model declares.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>>;
}

/// An engine and the way it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The reference.
    OnnxRuntime,
    /// One symbolic plan, a fresh state for each call.
    Tract,
    /// One symbolic plan, one state.
    TractReused,
    /// Not optimised.
    TractPlain,
    /// A plan for each set of shapes, a fresh state for each call.
    TractFixed,
    /// A plan for each set of shapes, one state for each plan.
    TractFixedReused,
    /// As it comes, called from a thread that is not in its pool.
    Rten,
    /// With its graph rewriting off.
    RtenPlain,
    /// With weights packed at load, called from its pool's only thread.
    RtenInPool,
}

impl Kind {
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "onnxruntime" => Self::OnnxRuntime,
            "tract" => Self::Tract,
            "tract-reused" => Self::TractReused,
            "tract-plain" => Self::TractPlain,
            "tract-fixed" => Self::TractFixed,
            "tract-fixed-reused" => Self::TractFixedReused,
            "rten" => Self::Rten,
            "rten-plain" => Self::RtenPlain,
            "rten-in-pool" => Self::RtenInPool,
            _ => bail!("{name:?} is no engine here; engine.rs lists them"),
        })
    }

    /// Loads a model for one thread.
    pub fn load(self, model: &[u8], signature: &Signature) -> Result<Box<dyn Session>> {
        Ok(match self {
            Self::OnnxRuntime => Box::new(onnxruntime::load(model)?),
            Self::Tract => Box::new(tract::load(model, signature, tract::Mode::Symbolic)?),
            Self::TractReused => {
                Box::new(tract::load(model, signature, tract::Mode::SymbolicReused)?)
            }
            Self::TractPlain => Box::new(tract::load(model, signature, tract::Mode::Plain)?),
            Self::TractFixed => Box::new(tract::load(model, signature, tract::Mode::Fixed)?),
            Self::TractFixedReused => {
                Box::new(tract::load(model, signature, tract::Mode::FixedReused)?)
            }
            Self::Rten => Box::new(rten::load(model, signature, true, false)?),
            Self::RtenPlain => Box::new(rten::load(model, signature, false, false)?),
            Self::RtenInPool => Box::new(rten::load(model, signature, true, true)?),
        })
    }
}
