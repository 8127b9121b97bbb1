//! The inside of the sandbox, for the fuzz targets only: host functions called as a guest
//! calls them, without a guest. Not part of the crate's interface.
//!
//! wasmtime sees to it that a guest can only name handles that it owns. What is called here
//! is one step behind that: any number may come as a handle, and the host must stand.

use wasmtime::component::Resource;

use aegis_inference::TensorType;

use crate::{
    bindings::wasi::nn::{
        errors::HostError,
        graph::{ExecutionTarget, GraphEncoding, Host as _, HostGraph},
        inference::HostGraphExecutionContext,
        tensor::HostTensor,
    },
    component::Outline,
    guest_memory::GuestMemory,
    handler::{HandlerContext, HandlerSpec},
    host::nn,
    instance::GuestState,
};

/// What a tensor counts against the budget beside its bytes.
pub const TENSOR_OVERHEAD: usize = nn::TENSOR_OVERHEAD;

/// A resource's number in the host's table.
pub type Handle = u32;

/// The guest would have been trapped: why.
#[derive(Debug)]
pub struct Trapped(pub String);

/// What a host function answers: a value, or the handle of an `error`; or a trap.
pub type Answer<T> = Result<Result<T, Handle>, Trapped>;

/// What is counted against a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Usable tensors.
    pub tensors: usize,
    /// Their bytes and overhead, and the bytes of networks loaded from bytes.
    pub tensor_bytes: usize,
    /// Execution contexts.
    pub contexts: usize,
    /// Networks loaded from bytes.
    pub graphs: usize,
}

/// One instance's host side, without the instance.
pub struct Guest(GuestState);

impl Guest {
    /// A guest of such a handler.
    pub fn new(spec: HandlerSpec) -> Guest {
        Guest(GuestState::new(
            HandlerContext::new(spec, GuestMemory::unbounded()).into(),
        ))
    }

    /// What is counted against the guest.
    pub fn usage(&self) -> Usage {
        let nn::Usage {
            tensors,
            tensor_bytes,
            contexts,
            graphs,
        } = self.0.nn;
        Usage {
            tensors,
            tensor_bytes,
            contexts,
            graphs,
        }
    }

    /// Whether the guest holds nothing.
    pub fn holds_nothing(&self) -> bool {
        self.0.table.is_empty()
    }

    /// `tensor.constructor`
    pub fn tensor(
        &mut self,
        dimensions: Vec<u32>,
        ty: TensorType,
        data: Vec<u8>,
    ) -> Result<Handle, Trapped> {
        let made = HostTensor::new(&mut self.0, dimensions, ty.into(), data);
        Ok(made.map_err(trapped)?.rep())
    }

    /// `tensor.dimensions`
    pub fn dimensions(&mut self, tensor: Handle) -> Result<Vec<u32>, Trapped> {
        self.0
            .dimensions(Resource::new_borrow(tensor))
            .map_err(trapped)
    }

    /// `tensor.ty`
    pub fn ty(&mut self, tensor: Handle) -> Result<TensorType, Trapped> {
        let ty = self.0.ty(Resource::new_borrow(tensor)).map_err(trapped)?;
        Ok(ty.into())
    }

    /// `tensor.data`
    pub fn tensor_data(&mut self, tensor: Handle) -> Result<Vec<u8>, Trapped> {
        HostTensor::data(&mut self.0, Resource::new_borrow(tensor)).map_err(trapped)
    }

    /// Drops a tensor.
    pub fn drop_tensor(&mut self, tensor: Handle) -> Result<(), Trapped> {
        HostTensor::drop(&mut self.0, Resource::new_own(tensor)).map_err(trapped)
    }

    /// `load`: encoding and target are chosen by number.
    pub async fn load(&mut self, parts: Vec<Vec<u8>>, encoding: u8, target: u8) -> Answer<Handle> {
        let encoding = match encoding % 7 {
            0 => GraphEncoding::Openvino,
            1 => GraphEncoding::Onnx,
            2 => GraphEncoding::Tensorflow,
            3 => GraphEncoding::Pytorch,
            4 => GraphEncoding::Tensorflowlite,
            5 => GraphEncoding::Ggml,
            _ => GraphEncoding::Autodetect,
        };
        let target = match target % 3 {
            0 => ExecutionTarget::Cpu,
            1 => ExecutionTarget::Gpu,
            _ => ExecutionTarget::Tpu,
        };
        answer(self.0.load(parts, encoding, target).await)
    }

    /// `load-by-name`
    pub fn load_by_name(&mut self, name: String) -> Answer<Handle> {
        answer(self.0.load_by_name(name))
    }

    /// `graph.init-execution-context`
    pub fn context(&mut self, graph: Handle) -> Answer<Handle> {
        answer(self.0.init_execution_context(Resource::new_borrow(graph)))
    }

    /// Drops a graph.
    pub fn drop_graph(&mut self, graph: Handle) -> Result<(), Trapped> {
        HostGraph::drop(&mut self.0, Resource::new_own(graph)).map_err(trapped)
    }

    /// `graph-execution-context.compute`
    pub async fn compute(
        &mut self,
        context: Handle,
        inputs: Vec<(String, Handle)>,
    ) -> Answer<Vec<(String, Handle)>> {
        let inputs = inputs
            .into_iter()
            .map(|(name, tensor)| (name, Resource::new_own(tensor)))
            .collect();
        let computed = self.0.compute(Resource::new_borrow(context), inputs).await;
        Ok(match computed.map_err(trapped)? {
            Ok(outputs) => Ok(outputs
                .into_iter()
                .map(|(name, tensor)| (name, tensor.rep()))
                .collect()),
            Err(error) => Err(error.rep()),
        })
    }

    /// Drops an execution context.
    pub fn drop_context(&mut self, context: Handle) -> Result<(), Trapped> {
        HostGraphExecutionContext::drop(&mut self.0, Resource::new_own(context)).map_err(trapped)
    }

    /// `error.code`, by its variant's name.
    pub fn error_code(&mut self, error: Handle) -> Result<String, Trapped> {
        let code = self.0.code(Resource::new_borrow(error)).map_err(trapped)?;
        let name = format!("{code:?}");
        Ok(name.trim_start_matches("ErrorCode::").to_owned())
    }

    /// `error.data`
    pub fn error_data(&mut self, error: Handle) -> Result<String, Trapped> {
        HostError::data(&mut self.0, Resource::new_borrow(error)).map_err(trapped)
    }

    /// Drops an error.
    pub fn drop_error(&mut self, error: Handle) -> Result<(), Trapped> {
        HostError::drop(&mut self.0, Resource::new_own(error)).map_err(trapped)
    }
}

/// A component's outside, as an upload is first looked at: exports, imports and, of these,
/// those that are denied. An error says why it is refused.
#[expect(clippy::type_complexity, reason = "three lists, for one caller")]
pub fn outline(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>, Vec<String>), String> {
    let outline = Outline::read(bytes).map_err(|error| error.to_string())?;
    let denied = outline.denied_imports();
    Ok((outline.exports, outline.imports, denied))
}

fn trapped(error: wasmtime::Error) -> Trapped {
    Trapped(format!("{error:#}"))
}

fn answer<T: 'static, E: 'static>(
    result: wasmtime::Result<Result<Resource<T>, Resource<E>>>,
) -> Answer<Handle> {
    Ok(match result.map_err(trapped)? {
        Ok(value) => Ok(value.rep()),
        Err(error) => Err(error.rep()),
    })
}
