//! A run by ONNX Runtime's C interface, as safe types that free what they own.
//!
//! Everything else goes through `ort`. Its `run` wants a session for itself alone, so that two runs at once would need
//! the weights twice, and makes C strings of all names and an allocator for each value anew. ONNX Runtime's own `Run` on
//! the CPU may be called by any number of threads at once (`core/session/inference_session.h`: "Multiple threads are
//! allowed to run this function; hence its thread-safe").

use std::ffi::{CString, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use ort::AsPointer;
use ort::session::SharedSessionInner;
use ort::sys;
use smallvec::SmallVec;

use super::super::{shape_of, untransportable};
use crate::tensor::{Shape, TensorType};

/// Graphs in use have one to four inputs and outputs; that many need no allocation.
const USUAL_PORTS: usize = 4;

/// Dimensions as ONNX Runtime writes them.
type Dims = SmallVec<[i64; 8]>;

/// ONNX Runtime's code for an element type. A number and not the crate's enum: a newer library may well know more.
type ElementCode = i32;

/// A session with the names of its ports, to be run by many threads at once where its devices allow that.
pub(super) struct Runnable {
    session: Arc<SharedSessionInner>,
    inputs: Names,
    outputs: Names,
    cpu: CpuMemory,
}

/// Port names as C has them.
struct Names {
    pointers: Vec<*const c_char>,
    _owned: Vec<CString>,
}

// SAFETY: the pointers lead to strings that are owned beside them and never changed.
unsafe impl Send for Names {}
// SAFETY: as above.
unsafe impl Sync for Names {}

impl Names {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Result<Names, String> {
        let owned = names
            .map(|name| {
                CString::new(name)
                    .map_err(|_| format!("the port {name:?} has a NUL character in its name"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Names {
            pointers: owned.iter().map(|name| name.as_ptr()).collect(),
            _owned: owned,
        })
    }
}

/// What tells ONNX Runtime that elements lie in the program's own memory.
struct CpuMemory(NonNull<sys::OrtMemoryInfo>);

// SAFETY: a description that nothing changes after it is made.
unsafe impl Send for CpuMemory {}
// SAFETY: as above.
unsafe impl Sync for CpuMemory {}

impl CpuMemory {
    fn new() -> Result<CpuMemory, String> {
        let mut info = ptr::null_mut();
        // SAFETY: `info` outlives the call, which fills it.
        check(unsafe {
            (ort::api().CreateCpuMemoryInfo)(
                sys::OrtAllocatorType::OrtDeviceAllocator,
                sys::OrtMemType::OrtMemTypeDefault,
                &raw mut info,
            )
        })?;
        NonNull::new(info).map(CpuMemory).ok_or_else(nothing)
    }
}

impl Drop for CpuMemory {
    fn drop(&mut self) {
        // SAFETY: made by the library, freed once.
        unsafe { (ort::api().ReleaseMemoryInfo)(self.0.as_ptr()) }
    }
}

/// A value of ONNX Runtime's that may point into memory that lives for `'a`.
pub(super) struct Value<'a> {
    value: NonNull<sys::OrtValue>,
    elements: PhantomData<&'a [u8]>,
}

impl Drop for Value<'_> {
    fn drop(&mut self) {
        // SAFETY: made by the library, freed once.
        unsafe { (ort::api().ReleaseValue)(self.value.as_ptr()) }
    }
}

/// An output where ONNX Runtime has it.
pub(super) struct Elements<'a> {
    pub(super) ty: TensorType,
    pub(super) shape: Shape,
    pub(super) bytes: &'a [u8],
}

impl Runnable {
    /// # Errors
    /// A name that C cannot have.
    pub(super) fn new(session: &ort::session::Session) -> Result<Runnable, String> {
        Ok(Runnable {
            inputs: Names::new(session.inputs().iter().map(ort::value::Outlet::name))?,
            outputs: Names::new(session.outputs().iter().map(ort::value::Outlet::name))?,
            cpu: CpuMemory::new()?,
            session: session.inner(),
        })
    }

    /// Lends elements to a run.
    ///
    /// # Errors
    /// The library's words, among them that they are not as many bytes as type and shape ask for.
    pub(super) fn lend<'a>(
        &self,
        ty: TensorType,
        shape: &Shape,
        elements: &'a [u8],
    ) -> Result<Value<'a>, String> {
        let dims: Dims = shape.dims().iter().map(|dim| i64::from(*dim)).collect();
        let mut value = ptr::null_mut();
        // SAFETY: `dims` outlives the call, which copies it. ONNX Runtime holds the bytes' number against type and
        // shape. They outlive the value by its lifetime and are only read: a run writes to its outputs alone.
        check(unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                self.cpu.0.as_ptr(),
                elements.as_ptr().cast::<c_void>().cast_mut(),
                elements.len(),
                dims.as_ptr(),
                dims.len(),
                code(ty),
                &raw mut value,
            )
        })?;
        Value::take(value)
    }

    /// Runs the network on its inputs in their order; its outputs in theirs.
    ///
    /// # Errors
    /// The library's words; or that there are not as many inputs as the network has.
    pub(super) fn run(
        &self,
        inputs: &[Value<'_>],
    ) -> Result<SmallVec<[Value<'static>; USUAL_PORTS]>, String> {
        if inputs.len() != self.inputs.pointers.len() {
            return Err(format!(
                "{} inputs for a network of {}",
                inputs.len(),
                self.inputs.pointers.len()
            ));
        }
        let values: SmallVec<[*const sys::OrtValue; USUAL_PORTS]> = inputs
            .iter()
            .map(|input| input.value.as_ptr().cast_const())
            .collect();
        let mut outputs: SmallVec<[*mut sys::OrtValue; USUAL_PORTS]> =
            SmallVec::from_elem(ptr::null_mut(), self.outputs.pointers.len());
        // SAFETY: each list has as many entries as is said, and all that they lead to is alive. The session may be run
        // by several threads at once, as this file's head has it; the caller keeps one that may not to one thread.
        let status = unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                ptr::null(),
                self.inputs.pointers.as_ptr(),
                values.as_ptr(),
                values.len(),
                self.outputs.pointers.as_ptr(),
                outputs.len(),
                outputs.as_mut_ptr(),
            )
        };
        let ended = check(status);
        // Whatever was made is freed, also by a run that failed.
        let outputs: SmallVec<[Result<Value<'static>, String>; USUAL_PORTS]> =
            outputs.into_iter().map(Value::take).collect();
        ended?;
        outputs.into_iter().collect()
    }
}

impl Value<'_> {
    fn take<'a>(value: *mut sys::OrtValue) -> Result<Value<'a>, String> {
        let value = NonNull::new(value).ok_or_else(nothing)?;
        Ok(Value {
            value,
            elements: PhantomData,
        })
    }

    /// Shows a tensor's elements.
    ///
    /// # Errors
    /// That it is no tensor, or one of another type or shape than can be carried; else the library's words.
    pub(super) fn show<T>(
        &self,
        show: impl FnOnce(Elements<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let api = ort::api();
        let mut is_tensor = 0;
        // SAFETY: the value is alive and `is_tensor` outlives the call.
        check(unsafe { (api.IsTensor)(self.value.as_ptr(), &raw mut is_tensor) })?;
        if is_tensor == 0 {
            return Err("is not a tensor: it cannot be carried".to_owned());
        }
        let mut info = ptr::null_mut();
        // SAFETY: the value is alive and `info` outlives the call.
        check(unsafe { (api.GetTensorTypeAndShape)(self.value.as_ptr(), &raw mut info) })?;
        let info = TypeAndShape(info);
        let mut code: ElementCode = 0;
        // SAFETY: `info` is alive; what is written has the size of `code`, which may hold any number.
        check(unsafe { (api.GetTensorElementType)(info.0, (&raw mut code).cast()) })?;
        let ty = element_type(code)?;
        let mut rank = 0;
        // SAFETY: both outlive the call.
        check(unsafe { (api.GetDimensionsCount)(info.0, &raw mut rank) })?;
        let mut dims: Dims = SmallVec::from_elem(0, rank);
        // SAFETY: there is room for as many dimensions as are said.
        check(unsafe { (api.GetDimensions)(info.0, dims.as_mut_ptr(), dims.len()) })?;
        let shape = shape_of(&dims)?;
        let mut start = ptr::null_mut();
        // SAFETY: the value is alive. Asking for what could be written to is the only way to ask; it is read.
        check(unsafe { (api.GetTensorMutableData)(self.value.as_ptr(), &raw mut start) })?;
        let bytes: &[u8] = match shape.bytes(ty) {
            0 => &[],
            // SAFETY: a tensor of plain numbers has its elements side by side, as many as its dimensions make, and
            // keeps them for as long as the value lives, which is borrowed while they are shown.
            len => unsafe { slice::from_raw_parts(start.cast_const().cast(), len) },
        };
        show(Elements { ty, shape, bytes })
    }
}

fn code(ty: TensorType) -> sys::ONNXTensorElementDataType {
    use sys::ONNXTensorElementDataType as Code;
    match ty {
        TensorType::Fp16 => Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        TensorType::Fp32 => Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        TensorType::Fp64 => Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        TensorType::Bf16 => Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        TensorType::U8 => Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        TensorType::I32 => Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        TensorType::I64 => Code::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
    }
}

fn element_type(found: ElementCode) -> Result<TensorType, String> {
    TensorType::ALL
        .into_iter()
        .find(|ty| code(*ty) as ElementCode == found)
        .ok_or_else(|| untransportable(element_name(found)))
}

/// Of the types that are not carried, those that networks have.
fn element_name(code: ElementCode) -> &'static str {
    match code {
        3 => "i8",
        4 => "u16",
        5 => "i16",
        8 => "string",
        9 => "bool",
        12 => "u32",
        13 => "u64",
        14 => "complex64",
        15 => "complex128",
        17 => "f8e4m3fn",
        18 => "f8e4m3fnuz",
        19 => "f8e5m2",
        20 => "f8e5m2fnuz",
        21 => "u4",
        22 => "i4",
        _ => "unknown",
    }
}

struct TypeAndShape(*mut sys::OrtTensorTypeAndShapeInfo);

impl Drop for TypeAndShape {
    fn drop(&mut self) {
        // SAFETY: made by the library, freed once.
        unsafe { (ort::api().ReleaseTensorTypeAndShapeInfo)(self.0) }
    }
}

fn check(status: sys::OrtStatusPtr) -> Result<(), String> {
    // SAFETY: a status that the library gave, handed over once.
    unsafe { ort::Error::<()>::result_from_status(status) }.map_err(|error| error.to_string())
}

fn nothing() -> String {
    "ONNX Runtime answered with nothing and no error".to_owned()
}
