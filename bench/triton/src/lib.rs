//! A backend for Triton that hands what Triton gives it to ONNX Runtime, and does no more than that takes: no checks of
//! shapes or types, no statistics, no other memory than the processor's. Triton's own backend for ONNX Runtime is in no
//! package registry, and does all of that besides; so Triton should hardly be slower with this one (not measured).
//!
//! For networks with one input and one output of 32-bit floats, both with their rows along the first axis. The library is
//! the one that `AEGIS_ONNXRUNTIME` names; the network is `model.onnx` in the version's folder.
//!
//! <https://github.com/triton-inference-server/core/blob/main/include/triton/core/tritonbackend.h> says what each
//! function is.

mod triton;

use std::{
    ffi::{CString, c_void},
    ptr, slice,
    sync::{Mutex, PoisonError},
};

use ort::{
    environment::Environment,
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};
use triton::{Error, Instance, Model, Request, Response, Words, said};

/// One instance of a model: Triton calls it from one thread at a time.
struct State {
    session: Session,
    /// Of the network's output, as C has it.
    output: CString,
    /// The rows of a batch, one after the other.
    rows: Vec<f32>,
}

/// There is one a process, and it stays for good.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

impl State {
    fn new(model: Model) -> Result<State, Words> {
        let file = triton::folder_of(model)?.join("model.onnx");
        let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
        if environment.is_none() {
            let library = std::env::var_os("AEGIS_ONNXRUNTIME")
                .ok_or("AEGIS_ONNXRUNTIME does not say where libonnxruntime.so is")?;
            *environment = Some(ort::init_from(library)?.with_telemetry(false).build()?);
        }
        let environment = environment.as_ref().ok_or("no environment")?;
        // As Aegis has it.
        let session = Session::builder(environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .commit_from_file(&file)?;
        let output = session
            .outputs()
            .first()
            .ok_or("the network has no output")?;
        Ok(State {
            output: CString::new(output.name())?,
            session,
            rows: Vec::new(),
        })
    }

    /// Runs all requests as one batch, and answers each with its rows.
    fn execute(&mut self, requests: &[Request]) -> Result<(), Words> {
        self.rows.clear();
        let mut ends = Vec::with_capacity(requests.len());
        let mut width = 1;
        for request in requests {
            let input = triton::input_of(*request)?;
            width = input.dims.get(1..).unwrap_or_default().iter().product();
            for part in &input.parts {
                // Not aligned, where the request has it in binary.
                let (values, _) = part.as_chunks();
                self.rows
                    .extend(values.iter().map(|bytes| f32::from_ne_bytes(*bytes)));
            }
            ends.push(self.rows.len());
        }
        let width = usize::try_from(width)?.max(1);
        let count = self.rows.len() / width;
        let dims = [i64::try_from(count)?, i64::try_from(width)?];
        let input = TensorRef::from_array_view((dims, self.rows.as_slice()))?;
        let outputs = self.session.run(ort::inputs![input])?;
        let output = outputs.values().next().ok_or("no output")?;
        let (_, values) = output.try_extract_tensor::<f32>()?;
        let answer = values.len() / count.max(1);
        let mut begin = 0;
        for (request, end) in requests.iter().zip(ends) {
            let rows = begin / width..end / width;
            begin = end;
            let dims = [i64::try_from(rows.len())?, i64::try_from(answer)?];
            let own = values
                .get(rows.start * answer..rows.end * answer)
                .ok_or("an output that is too short")?;
            let response = Response::new(*request)?;
            response.put(&self.output, &dims, bytemuck::cast_slice(own))?;
            response.send()?;
        }
        Ok(())
    }
}

/// Triton asks for this once for each instance.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "a C interface")]
extern "C" fn TRITONBACKEND_ModelInstanceInitialize(instance: Instance) -> Error {
    said((|| {
        let state = Box::new(State::new(triton::model_of(instance)?)?);
        triton::set_state(instance, Box::into_raw(state).cast::<c_void>())
    })())
}

/// And for this once it has no more use for the instance.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "a C interface")]
extern "C" fn TRITONBACKEND_ModelInstanceFinalize(instance: Instance) -> Error {
    said((|| {
        let state = triton::state_of(instance)?.cast::<State>();
        if !state.is_null() {
            // SAFETY: it is what `ModelInstanceInitialize` made, and Triton asks for its end once.
            drop(unsafe { Box::from_raw(state) });
        }
        triton::set_state(instance, ptr::null_mut())
    })())
}

/// And for this with each batch.
///
/// # Safety
/// `requests` points to `count` requests.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "a C interface")]
unsafe extern "C" fn TRITONBACKEND_ModelInstanceExecute(
    instance: Instance,
    requests: *const Request,
    count: u32,
) -> Error {
    // SAFETY: by this function's own terms.
    let requests = unsafe { slice::from_raw_parts(requests, count as usize) };
    said((|| {
        let state = triton::state_of(instance)?.cast::<State>();
        // SAFETY: made by `ModelInstanceInitialize`; Triton calls an instance from one thread at a time.
        let state = unsafe { state.as_mut() }.ok_or("an instance without state")?;
        // A request that was answered is released; Triton answers all of a batch that an error is returned for, so one
        // that breaks off halfway would be answered twice. It ends a benchmark, which sees it.
        state.execute(requests)?;
        requests
            .iter()
            .try_for_each(|request| triton::release(*request))
    })())
}
