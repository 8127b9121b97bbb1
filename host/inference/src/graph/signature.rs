//! What a graph takes and gives, and the check of a request against it, made before the request may queue.

use std::fmt;
use std::sync::Arc;

use crate::error::ComputeError;
use crate::tensor::{NamedTensor, Shape, Tensor, TensorType};

/// One dimension of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Always this size.
    Fixed(u32),
    /// Any size: a batch, a sequence, an unnamed dimension.
    Dynamic,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(f),
            Self::Dynamic => f.write_str("?"),
        }
    }
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The name the model gives it.
    pub name: Arc<str>,
    /// The element type; `None` when it is none of the seven or the backend does not say.
    pub ty: Option<TensorType>,
    /// The dimensions. None at all: a scalar, or a rank the backend does not say (ONNX Runtime shows both alike), which
    /// is then left to the backend to check.
    pub shape: Vec<Dim>,
}

impl Port {
    /// The dimensions as `[?, 64]`.
    fn dims(&self) -> String {
        let dims: Vec<String> = self.shape.iter().map(Dim::to_string).collect();
        format!("[{}]", dims.join(", "))
    }

    /// The dimensions with every dynamic one 1: the smallest input that is sure to hold something.
    pub(crate) fn smallest(&self) -> Option<Shape> {
        let dims: Vec<u32> = self
            .shape
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(size) => *size,
                Dim::Dynamic => 1,
            })
            .collect();
        Shape::new(&dims).ok()
    }

    fn takes(&self, shape: &Shape) -> bool {
        let same = |(want, got): (&Dim, &u32)| *want == Dim::Dynamic || *want == Dim::Fixed(*got);
        self.shape.is_empty()
            || (self.shape.len() == shape.rank() && self.shape.iter().zip(shape.dims()).all(same))
    }
}

/// The inputs a graph takes and the outputs it gives, in the model's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// What must be given, all of it.
    pub inputs: Vec<Port>,
    /// What is answered.
    pub outputs: Vec<Port>,
}

impl Signature {
    /// Checks `given` against the inputs and brings it into their order.
    ///
    /// # Errors
    /// [`ComputeError::InvalidInput`], naming the input, what it was and what it should be: an unknown, missing or
    /// twice-given name; a wrong element type, rank or fixed dimension.
    pub fn check(&self, given: &mut [NamedTensor]) -> Result<(), ComputeError> {
        for (index, port) in self.inputs.iter().enumerate() {
            // Usually the caller has the order right and this finds it at once.
            let Some(found) = given
                .iter()
                .skip(index)
                .position(|input| input.name == port.name)
            else {
                return Err(self.naming_problem(given));
            };
            given.swap(index, index + found);
            if let Some(input) = given.get(index) {
                check_tensor(port, &input.tensor)?;
            }
        }
        if given.len() > self.inputs.len() {
            return Err(self.naming_problem(given));
        }
        Ok(())
    }

    /// Why the names given are not the names wanted. Called only once it is known that they are not.
    fn naming_problem(&self, given: &[NamedTensor]) -> ComputeError {
        let wanted = || {
            let names: Vec<String> = self
                .inputs
                .iter()
                .map(|port| format!("`{}`", port.name))
                .collect();
            match names.len() {
                0 => "no inputs".to_owned(),
                _ => names.join(", "),
            }
        };
        for (index, input) in given.iter().enumerate() {
            if !self.inputs.iter().any(|port| port.name == input.name) {
                return ComputeError::InvalidInput(format!(
                    "input `{}` is unknown: the graph takes {}",
                    input.name,
                    wanted()
                ));
            }
            if given
                .iter()
                .take(index)
                .any(|earlier| earlier.name == input.name)
            {
                return ComputeError::InvalidInput(format!(
                    "input `{}` is given twice",
                    input.name
                ));
            }
        }
        let missing = self
            .inputs
            .iter()
            .find(|port| !given.iter().any(|input| input.name == port.name))
            .map_or_else(String::new, |port| format!("`{}`", port.name));
        ComputeError::InvalidInput(format!(
            "input {missing} is missing: the graph takes {}",
            wanted()
        ))
    }
}

fn check_tensor(port: &Port, tensor: &Tensor) -> Result<(), ComputeError> {
    let Some(want) = port.ty else {
        return Err(ComputeError::InvalidInput(format!(
            "input `{}` is of a type that no tensor here can have: wasi:nn knows fp16, fp32, fp64, bf16, u8, i32 and i64",
            port.name
        )));
    };
    if tensor.ty() != want {
        return Err(ComputeError::InvalidInput(format!(
            "input `{}` is {}: the graph takes {want}",
            port.name,
            tensor.ty(),
        )));
    }
    if !port.takes(tensor.shape()) {
        return Err(ComputeError::InvalidInput(format!(
            "input `{}` has shape {}: the graph takes {}",
            port.name,
            tensor.shape(),
            port.dims()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )]

    use proptest::prelude::*;

    use super::*;

    fn port(name: &str, ty: TensorType, shape: &[Dim]) -> Port {
        Port {
            name: name.into(),
            ty: Some(ty),
            shape: shape.to_vec(),
        }
    }

    fn signature() -> Signature {
        Signature {
            inputs: vec![
                port("image", TensorType::Fp32, &[Dim::Dynamic, Dim::Fixed(4)]),
                port("rate", TensorType::I64, &[]),
            ],
            outputs: vec![],
        }
    }

    fn image(dims: &[u32]) -> NamedTensor {
        NamedTensor::new(
            "image",
            Tensor::zeros(TensorType::Fp32, Shape::new(dims).unwrap()),
        )
    }

    fn rate() -> NamedTensor {
        NamedTensor::new(
            "rate",
            Tensor::zeros(TensorType::I64, Shape::new(&[]).unwrap()),
        )
    }

    fn message(mut given: Vec<NamedTensor>) -> String {
        signature().check(&mut given).unwrap_err().to_string()
    }

    #[test]
    fn inputs_are_brought_into_the_graphs_order() {
        let mut given = vec![rate(), image(&[3, 4])];
        signature().check(&mut given).unwrap();
        assert_eq!(&*given[0].name, "image");
        assert_eq!(&*given[1].name, "rate");
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        let stray = NamedTensor::new("picture", image(&[1, 4]).tensor);
        let told = "input `picture` is unknown: the graph takes `image`, `rate`";
        assert_eq!(message(vec![stray.clone(), rate()]), told);
        assert_eq!(message(vec![image(&[1, 4]), rate(), stray]), told);
    }

    #[test]
    fn a_missing_and_a_repeated_name_are_told_apart() {
        assert_eq!(
            message(vec![image(&[1, 4])]),
            "input `rate` is missing: the graph takes `image`, `rate`"
        );
        assert_eq!(
            message(vec![image(&[1, 4]), image(&[1, 4])]),
            "input `image` is given twice"
        );
        assert_eq!(
            message(vec![image(&[1, 4]), rate(), rate()]),
            "input `rate` is given twice"
        );
    }

    #[test]
    fn a_wrong_type_says_which_is_right() {
        let wrong = NamedTensor::new(
            "image",
            Tensor::zeros(TensorType::U8, Shape::new(&[1, 4]).unwrap()),
        );
        assert_eq!(
            message(vec![wrong, rate()]),
            "input `image` is u8: the graph takes fp32"
        );
    }

    #[test]
    fn a_wrong_rank_or_fixed_dimension_says_which_is_right() {
        assert_eq!(
            message(vec![image(&[4]), rate()]),
            "input `image` has shape [4]: the graph takes [?, 4]"
        );
        assert_eq!(
            message(vec![image(&[2, 5]), rate()]),
            "input `image` has shape [2, 5]: the graph takes [?, 4]"
        );
    }

    #[test]
    fn a_port_without_dimensions_leaves_the_rank_to_the_backend() {
        let mut given = vec![
            image(&[1, 4]),
            NamedTensor::new(
                "rate",
                Tensor::zeros(TensorType::I64, Shape::new(&[1]).unwrap()),
            ),
        ];
        signature().check(&mut given).unwrap();
    }

    #[test]
    fn a_graph_without_inputs_takes_none() {
        let none = Signature::default();
        none.check(&mut []).unwrap();
        assert_eq!(
            none.check(&mut [rate()]).unwrap_err().to_string(),
            "input `rate` is unknown: the graph takes no inputs"
        );
    }

    proptest! {
        /// The check agrees with a plain reading of the rule, whatever is given in whatever order.
        #[test]
        fn the_check_accepts_exactly_the_right_inputs(
            given in prop::collection::vec((0_usize..4, 0_usize..3, 0_u32..6), 0..5)
        ) {
            let names = ["image", "rate", "other", ""];
            let types = [TensorType::Fp32, TensorType::I64, TensorType::U8];
            let tensors: Vec<NamedTensor> = given
                .iter()
                .map(|(name, ty, last)| {
                    NamedTensor::new(names[*name], Tensor::zeros(types[*ty], Shape::new(&[1, *last]).unwrap()))
                })
                .collect();
            let once = |name: &str| tensors.iter().filter(|t| &*t.name == name).count() == 1;
            let right = tensors.len() == 2
                && once("image")
                && once("rate")
                && tensors.iter().all(|t| match &*t.name {
                    "image" => t.tensor.ty() == TensorType::Fp32 && t.tensor.shape().dims() == [1, 4],
                    _ => t.tensor.ty() == TensorType::I64,
                });
            let mut checked = tensors.clone();
            prop_assert_eq!(signature().check(&mut checked).is_ok(), right);
        }
    }
}
