//! Tensors in, tensors out: typed access to the requests and responses of the Open
//! Inference Protocol.

use crate::{
    Element, Failure, Tensor, Values,
    tensor::{Datatype, TensorType},
};

pub use crate::bindings::{
    infer::exports::aegis::inference::infer::{InferenceRequest, InferenceResponse},
    predict::aegis::inference::types::{NamedTensor, Parameter},
};

impl InferenceRequest {
    /// The input of this name.
    ///
    /// # Errors
    /// [`Failure::InvalidInput`] if the caller did not send it.
    pub fn input(&self, name: &str) -> Result<&NamedTensor, Failure> {
        self.inputs
            .iter()
            .find(|tensor| tensor.name == name)
            .ok_or_else(|| {
                let there: Vec<&str> = self
                    .inputs
                    .iter()
                    .map(|tensor| tensor.name.as_str())
                    .collect();
                Failure::invalid_field(
                    name,
                    format!("the input `{name}` is missing; given: {}", there.join(", ")),
                )
            })
    }

    /// Whether the caller wants this output: it named it, or none.
    #[must_use]
    pub fn wants(&self, output: &str) -> bool {
        self.outputs.is_empty() || self.outputs.iter().any(|name| name == output)
    }

    /// A parameter of the request.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }
}

impl InferenceResponse {
    /// A response of these outputs, without parameters.
    #[must_use]
    pub fn new(outputs: Vec<NamedTensor>) -> Self {
        Self {
            outputs,
            parameters: Vec::new(),
        }
    }
}

impl NamedTensor {
    /// A tensor of numbers.
    #[must_use]
    pub fn new<T: Element>(name: impl Into<String>, shape: &[u64], values: &[T]) -> Self {
        Self {
            name: name.into(),
            datatype: T::DATATYPE,
            shape: shape.to_vec(),
            data: T::as_bytes(values).to_vec(),
        }
    }

    /// A tensor of byte strings.
    #[must_use]
    pub fn of_bytes<B: AsRef<[u8]>>(name: impl Into<String>, shape: &[u64], values: &[B]) -> Self {
        let mut data = Vec::new();
        for value in values.iter().map(AsRef::as_ref) {
            // The host bounds a tensor far below 4 GiB.
            let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(value);
        }
        Self {
            name: name.into(),
            datatype: Datatype::Bytes,
            shape: shape.to_vec(),
            data,
        }
    }

    /// The elements, in place if they are aligned.
    ///
    /// # Errors
    /// [`Failure::InvalidInput`] if they are not `T`.
    pub fn values<T: Element>(&self) -> Result<Values<T>, Failure> {
        if self.datatype != T::DATATYPE {
            return Err(self.wrong_type(T::DATATYPE));
        }
        Values::new(self.data.clone()).ok_or_else(|| self.cut_off())
    }

    /// The elements of a `BOOL` tensor.
    ///
    /// # Errors
    /// [`Failure::InvalidInput`] if they are of another type.
    pub fn bools(&self) -> Result<Vec<bool>, Failure> {
        if self.datatype != Datatype::Bool {
            return Err(self.wrong_type(Datatype::Bool));
        }
        Ok(self.data.iter().map(|byte| *byte != 0).collect())
    }

    /// The elements of a `BYTES` tensor.
    ///
    /// # Errors
    /// [`Failure::InvalidInput`] if they are of another type, or a length is wrong.
    pub fn bytes(&self) -> Result<Vec<&[u8]>, Failure> {
        if self.datatype != Datatype::Bytes {
            return Err(self.wrong_type(Datatype::Bytes));
        }
        let mut elements = Vec::new();
        let mut rest = self.data.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let (element, after) = after
                .split_at_checked(length)
                .ok_or_else(|| self.cut_off())?;
            elements.push(element);
            rest = after;
        }
        if rest.is_empty() {
            Ok(elements)
        } else {
            Err(self.cut_off())
        }
    }

    /// The same tensor for a graph, its bytes not copied.
    ///
    /// # Errors
    /// [`Failure::InvalidInput`] if wasi:nn has no such type or no such large dimension.
    pub fn to_graph(&self) -> Result<Tensor<'_>, Failure> {
        let element = match self.datatype {
            Datatype::Uint8 => TensorType::U8,
            Datatype::Int32 => TensorType::I32,
            Datatype::Int64 => TensorType::I64,
            Datatype::Fp16 => TensorType::Fp16,
            Datatype::Bf16 => TensorType::Bf16,
            Datatype::Fp32 => TensorType::Fp32,
            Datatype::Fp64 => TensorType::Fp64,
            other => {
                return Err(Failure::invalid_field(
                    &self.name,
                    format!("graphs take no {other:?} tensors"),
                ));
            }
        };
        let shape = self
            .shape
            .iter()
            .map(|size| u32::try_from(*size))
            .collect::<Result<_, _>>();
        match shape {
            Ok(shape) => Ok(Tensor::from_bytes(shape, element, &self.data)),
            Err(_) => Err(Failure::invalid_field(
                &self.name,
                format!(
                    "the shape {:?} has a dimension over {}",
                    self.shape,
                    u32::MAX
                ),
            )),
        }
    }

    #[cold]
    fn wrong_type(&self, wanted: Datatype) -> Failure {
        Failure::invalid_field(
            &self.name,
            format!(
                "the tensor `{}` is {:?}: {wanted:?} is wanted",
                self.name, self.datatype
            ),
        )
    }

    #[cold]
    fn cut_off(&self) -> Failure {
        Failure::invalid_field(
            &self.name,
            format!(
                "the data of the tensor `{}` ends inside an element ({} bytes of {:?})",
                self.name,
                self.data.len(),
                self.datatype
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn request(inputs: Vec<NamedTensor>) -> InferenceRequest {
        InferenceRequest {
            id: String::new(),
            inputs,
            outputs: Vec::new(),
            parameters: Vec::new(),
        }
    }

    #[test]
    fn a_missing_input_and_a_wrong_type_are_the_callers() {
        let request = request(vec![NamedTensor::new("x", &[2], &[1_u16, 2])]);
        let values = request.input("x").unwrap().values::<u16>().unwrap();
        assert_eq!(*values, [1, 2]);
        for failure in [
            request.input("y").unwrap_err(),
            request.input("x").unwrap().values::<f32>().unwrap_err(),
            request.input("x").unwrap().to_graph().unwrap_err(),
        ] {
            assert!(matches!(failure, Failure::InvalidInput(problem) if problem.field.is_some()));
        }
    }

    #[test]
    fn byte_strings_go_there_and_back_and_a_false_length_is_refused() {
        let mut tensor = NamedTensor::of_bytes("text", &[2], &["héllo", ""]);
        assert_eq!(tensor.bytes().unwrap(), ["héllo".as_bytes(), b""]);
        tensor.data.pop();
        assert!(tensor.bytes().is_err());
        tensor.data = vec![255; 6];
        assert!(tensor.bytes().is_err());
    }

    #[test]
    fn all_outputs_are_wanted_unless_some_are_named() {
        let mut request = request(Vec::new());
        assert!(request.wants("y"));
        request.outputs = vec!["x".into()];
        assert!(!request.wants("y"));
    }
}
