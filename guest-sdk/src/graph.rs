//! Running a graph: tensors in by name, tensors out by name, and errors that say which
//! graph and which tensor.

use crate::{
    Element, Failure, GraphElement, NamedTensor, Tensor, Values, host,
    tensor::{TensorType, size_of_type},
};

pub use crate::bindings::host::wasi::nn::errors::ErrorCode;

/// One of the model's graphs, opened by [`Context::graph`](crate::Context::graph).
///
/// Opening costs two calls to the host, so keep it when a request runs the graph more
/// than once.
#[derive(Debug)]
pub struct Graph {
    name: String,
    inner: host::Graph,
}

impl Graph {
    pub(crate) fn open(host: &host::Host, name: &str) -> Result<Self, GraphError> {
        match host::Graph::open(host, name) {
            Ok(inner) => Ok(Self {
                name: name.to_owned(),
                inner,
            }),
            Err((code, message)) => Err(GraphError::Host {
                graph: name.to_owned(),
                code,
                message,
            }),
        }
    }

    /// Runs the graph on these inputs and waits for the answer.
    ///
    /// # Errors
    /// [`GraphError::Input`] if a tensor's shape and its number of elements differ, else
    /// what the host says.
    pub fn run(&self, inputs: &[(&str, Tensor<'_>)]) -> Result<Tensors, GraphError> {
        for (name, tensor) in inputs {
            if tensor.wanted_bytes() != Some(tensor.bytes().len()) {
                return Err(self.bad_input(name, tensor));
            }
        }
        match self.inner.run(inputs) {
            Ok(tensors) => Ok(Tensors { tensors }),
            Err((code, message)) => Err(GraphError::Host {
                graph: self.name.clone(),
                code,
                message,
            }),
        }
    }

    #[cold]
    fn bad_input(&self, name: &str, tensor: &Tensor<'_>) -> GraphError {
        let size = size_of_type(tensor.element());
        GraphError::Input {
            graph: self.name.clone(),
            name: name.to_owned(),
            shape: tensor.shape().to_vec(),
            wanted: tensor.wanted_bytes().map(|bytes| bytes / size),
            given: tensor.bytes().len() / size,
        }
    }
}

/// Named tensors: what a graph gave, or what a fake graph of a test was given.
#[derive(Debug)]
pub struct Tensors {
    pub(crate) tensors: Vec<(String, host::Tensor)>,
}

impl Tensors {
    /// The elements of the tensor of this name. Only what is asked for is copied out of
    /// the host.
    ///
    /// # Errors
    /// [`GraphError::NoTensor`] if there is none of this name, [`GraphError::WrongType`]
    /// if its elements are not `T`.
    pub fn get<T: GraphElement>(&self, name: &str) -> Result<Values<T>, GraphError> {
        let tensor = self.find(name)?;
        let element = tensor.ty();
        let values = if element == T::TYPE {
            Values::new(tensor.data())
        } else {
            None
        };
        values.ok_or_else(|| GraphError::WrongType {
            name: name.to_owned(),
            holds: element,
            asked: T::TYPE,
        })
    }

    /// The shape of the tensor of this name, outermost dimension first.
    ///
    /// # Errors
    /// [`GraphError::NoTensor`] if there is none of this name.
    pub fn shape(&self, name: &str) -> Result<Vec<u32>, GraphError> {
        self.find(name).map(|tensor| tensor.dimensions())
    }

    /// The names of the tensors, in the graph's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// The tensor as `infer` answers it, whatever its type.
    ///
    /// # Errors
    /// [`GraphError::NoTensor`] if there is none of this name.
    pub fn named(&self, name: &str) -> Result<NamedTensor, GraphError> {
        let tensor = self.find(name)?;
        Ok(NamedTensor {
            name: name.to_owned(),
            datatype: match tensor.ty() {
                TensorType::U8 => u8::DATATYPE,
                TensorType::I32 => i32::DATATYPE,
                TensorType::I64 => i64::DATATYPE,
                TensorType::Fp16 => half::f16::DATATYPE,
                TensorType::Bf16 => half::bf16::DATATYPE,
                TensorType::Fp32 => f32::DATATYPE,
                TensorType::Fp64 => f64::DATATYPE,
            },
            shape: tensor.dimensions().into_iter().map(u64::from).collect(),
            data: tensor.data(),
        })
    }

    fn find(&self, name: &str) -> Result<&host::Tensor, GraphError> {
        match self.tensors.iter().find(|(given, _)| given == name) {
            Some((_, tensor)) => Ok(tensor),
            None => Err(GraphError::NoTensor {
                name: name.to_owned(),
                there: self
                    .names()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }
}

/// Why a graph did not answer, or not with what was asked of it.
///
/// `?` makes a [`Failure`] of it: a timeout stays a timeout and a full queue an overload;
/// everything else is the handler's own fault, since the caller knows no tensors. Match on
/// it first where the caller's input can be the reason.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// The host's answer: the graph could not be opened or run.
    #[error("graph `{graph}`: {message} ({code:?})")]
    Host {
        /// The graph's name.
        graph: String,
        /// wasi:nn's code.
        code: ErrorCode,
        /// The host's words.
        message: String,
    },
    /// An input's shape and its number of elements differ.
    #[error(
        "graph `{graph}`: input `{name}` of shape {shape:?} wants {} elements and has {given}",
        .wanted.map_or("uncountably many".to_owned(), |wanted| wanted.to_string())
    )]
    Input {
        /// The graph's name.
        graph: String,
        /// The input's name.
        name: String,
        /// The shape it was given.
        shape: Vec<u32>,
        /// The elements of such a shape.
        wanted: Option<usize>,
        /// The elements it was given.
        given: usize,
    },
    /// There is no tensor of this name.
    #[error("there is no tensor `{name}`: there is {there}")]
    NoTensor {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        there: String,
    },
    /// The tensor's elements are of another type.
    #[error("tensor `{name}` holds {holds:?}, not {asked:?}")]
    WrongType {
        /// The tensor's name.
        name: String,
        /// What it holds.
        holds: TensorType,
        /// What it was asked for as.
        asked: TensorType,
    },
}

/// How the host's message begins when it refused a run because too much was waiting:
/// wasi:nn has no code for it.
const OVERLOADED: &str = "overloaded:";

impl From<GraphError> for Failure {
    fn from(error: GraphError) -> Self {
        match &error {
            GraphError::Host {
                code: ErrorCode::Timeout,
                message,
                ..
            } => Self::timeout(message),
            GraphError::Host { message, .. } if message.starts_with(OVERLOADED) => {
                Self::overloaded(message.trim_start_matches(OVERLOADED).trim_start())
            }
            _ => Self::internal(error),
        }
    }
}
