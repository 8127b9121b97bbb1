//! The part of Triton's C interface that is used here.

#![expect(unsafe_code, reason = "a C interface")]

use std::{
    ffi::{CStr, CString, OsStr, c_char, c_void},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    ptr, slice,
};

/// What went wrong.
pub(crate) type Words = Box<dyn std::error::Error>;

macro_rules! handles {
    ($($name:ident),*) => {$(
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub(crate) struct $name(*mut c_void);
    )*};
}
handles!(Error, Instance, Model, Request, RawResponse, Input, Output);

/// `TRITONSERVER_ERROR_INTERNAL`.
const INTERNAL: i32 = 1;
/// `TRITONSERVER_TYPE_FP32`.
const FP32: i32 = 11;
/// `TRITONSERVER_MEMORY_CPU`.
const CPU: i32 = 0;
/// `TRITONSERVER_RESPONSE_COMPLETE_FINAL`.
const FINAL: u32 = 1;
/// `TRITONSERVER_REQUEST_RELEASE_ALL`.
const ALL: u32 = 1;

// Found in the process that loads this library, `tritonserver`.
unsafe extern "C" {
    fn TRITONSERVER_ErrorNew(code: i32, words: *const c_char) -> Error;
    fn TRITONSERVER_ErrorMessage(error: Error) -> *const c_char;
    fn TRITONSERVER_ErrorDelete(error: Error);
    fn TRITONBACKEND_ModelRepository(
        model: Model,
        artifact: *mut i32,
        location: *mut *const c_char,
    ) -> Error;
    fn TRITONBACKEND_ModelVersion(model: Model, version: *mut u64) -> Error;
    fn TRITONBACKEND_ModelInstanceModel(instance: Instance, model: *mut Model) -> Error;
    fn TRITONBACKEND_ModelInstanceState(instance: Instance, state: *mut *mut c_void) -> Error;
    fn TRITONBACKEND_ModelInstanceSetState(instance: Instance, state: *mut c_void) -> Error;
    fn TRITONBACKEND_RequestInputByIndex(request: Request, index: u32, input: *mut Input) -> Error;
    fn TRITONBACKEND_RequestRelease(request: Request, flags: u32) -> Error;
    fn TRITONBACKEND_InputProperties(
        input: Input,
        name: *mut *const c_char,
        ty: *mut i32,
        shape: *mut *const i64,
        dims: *mut u32,
        bytes: *mut u64,
        buffers: *mut u32,
    ) -> Error;
    fn TRITONBACKEND_InputBuffer(
        input: Input,
        index: u32,
        buffer: *mut *const c_void,
        bytes: *mut u64,
        memory: *mut i32,
        memory_id: *mut i64,
    ) -> Error;
    fn TRITONBACKEND_ResponseNew(response: *mut RawResponse, request: Request) -> Error;
    fn TRITONBACKEND_ResponseOutput(
        response: RawResponse,
        output: *mut Output,
        name: *const c_char,
        ty: i32,
        shape: *const i64,
        dims: u32,
    ) -> Error;
    fn TRITONBACKEND_ResponseSend(response: RawResponse, flags: u32, error: Error) -> Error;
    fn TRITONBACKEND_OutputBuffer(
        output: Output,
        buffer: *mut *mut c_void,
        bytes: u64,
        memory: *mut i32,
        memory_id: *mut i64,
    ) -> Error;
}

/// As Triton wants to hear of it.
pub(crate) fn said(result: Result<(), Words>) -> Error {
    match result {
        Ok(()) => Error(ptr::null_mut()),
        Err(words) => {
            let words = CString::new(words.to_string()).unwrap_or_default();
            // SAFETY: Triton copies the words.
            unsafe { TRITONSERVER_ErrorNew(INTERNAL, words.as_ptr()) }
        }
    }
}

fn check(error: Error) -> Result<(), Words> {
    if error.0.is_null() {
        return Ok(());
    }
    // SAFETY: an error of Triton's is its caller's to read and to delete.
    let words = unsafe {
        let words = CStr::from_ptr(TRITONSERVER_ErrorMessage(error))
            .to_string_lossy()
            .into_owned();
        TRITONSERVER_ErrorDelete(error);
        words
    };
    Err(words.into())
}

pub(crate) fn model_of(instance: Instance) -> Result<Model, Words> {
    let mut model = Model(ptr::null_mut());
    // SAFETY: Triton gave the instance, and fills in its model.
    check(unsafe { TRITONBACKEND_ModelInstanceModel(instance, &raw mut model) })?;
    Ok(model)
}

/// Where the files of the model's version are.
pub(crate) fn folder_of(model: Model) -> Result<PathBuf, Words> {
    let (mut artifact, mut location, mut version) = (0, ptr::null(), 0);
    // SAFETY: Triton gave the model; the path is the model's and is copied.
    let folder = unsafe {
        check(TRITONBACKEND_ModelRepository(
            model,
            &raw mut artifact,
            &raw mut location,
        ))?;
        check(TRITONBACKEND_ModelVersion(model, &raw mut version))?;
        PathBuf::from(OsStr::from_bytes(CStr::from_ptr(location).to_bytes()))
    };
    Ok(folder.join(version.to_string()))
}

pub(crate) fn state_of(instance: Instance) -> Result<*mut c_void, Words> {
    let mut state = ptr::null_mut();
    // SAFETY: Triton gave the instance.
    check(unsafe { TRITONBACKEND_ModelInstanceState(instance, &raw mut state) })?;
    Ok(state)
}

pub(crate) fn set_state(instance: Instance, state: *mut c_void) -> Result<(), Words> {
    // SAFETY: Triton gave the instance, and keeps the pointer without following it.
    check(unsafe { TRITONBACKEND_ModelInstanceSetState(instance, state) })
}

/// A request's only input.
pub(crate) struct Tensor<'a> {
    pub(crate) dims: &'a [i64],
    pub(crate) parts: Vec<&'a [u8]>,
}

/// It lives as long as the request, which the caller has not released yet.
pub(crate) fn input_of<'a>(request: Request) -> Result<Tensor<'a>, Words> {
    let mut input = Input(ptr::null_mut());
    let (mut name, mut shape) = (ptr::null(), ptr::null());
    let (mut ty, mut dims, mut bytes, mut buffers) = (0, 0, 0, 0);
    // SAFETY: Triton gave the request, and what it says of it stays until the request is released.
    unsafe {
        check(TRITONBACKEND_RequestInputByIndex(
            request,
            0,
            &raw mut input,
        ))?;
        check(TRITONBACKEND_InputProperties(
            input,
            &raw mut name,
            &raw mut ty,
            &raw mut shape,
            &raw mut dims,
            &raw mut bytes,
            &raw mut buffers,
        ))?;
    }
    let parts = (0..buffers).map(|index| {
        let (mut buffer, mut bytes) = (ptr::null(), 0);
        let (mut memory, mut memory_id) = (CPU, 0);
        // SAFETY: the buffer has so many bytes, and stays until the request is released.
        unsafe {
            check(TRITONBACKEND_InputBuffer(
                input,
                index,
                &raw mut buffer,
                &raw mut bytes,
                &raw mut memory,
                &raw mut memory_id,
            ))?;
            Ok(slice::from_raw_parts(
                buffer.cast::<u8>(),
                usize::try_from(bytes)?,
            ))
        }
    });
    let parts = parts.collect::<Result<Vec<_>, Words>>()?;
    // SAFETY: the shape has so many dimensions, and stays until the request is released.
    let dims = unsafe { slice::from_raw_parts(shape, dims as usize) };
    Ok(Tensor { dims, parts })
}

pub(crate) fn release(request: Request) -> Result<(), Words> {
    // SAFETY: Triton gave the request, and it has been answered.
    check(unsafe { TRITONBACKEND_RequestRelease(request, ALL) })
}

/// An answer under way.
pub(crate) struct Response(RawResponse);

impl Response {
    pub(crate) fn new(request: Request) -> Result<Response, Words> {
        let mut response = RawResponse(ptr::null_mut());
        // SAFETY: Triton gave the request.
        check(unsafe { TRITONBACKEND_ResponseNew(&raw mut response, request) })?;
        Ok(Response(response))
    }

    /// Its only output.
    pub(crate) fn put(&self, name: &CStr, dims: &[i64], bytes: &[u8]) -> Result<(), Words> {
        let mut output = Output(ptr::null_mut());
        let mut buffer = ptr::null_mut();
        let (mut memory, mut memory_id) = (CPU, 0);
        // SAFETY: Triton copies name and shape, and gives a buffer of as many bytes as it was asked for.
        unsafe {
            check(TRITONBACKEND_ResponseOutput(
                self.0,
                &raw mut output,
                name.as_ptr(),
                FP32,
                dims.as_ptr(),
                u32::try_from(dims.len())?,
            ))?;
            check(TRITONBACKEND_OutputBuffer(
                output,
                &raw mut buffer,
                bytes.len() as u64,
                &raw mut memory,
                &raw mut memory_id,
            ))?;
            if memory != CPU {
                return Err("memory that is not the processor's".into());
            }
            ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast::<u8>(), bytes.len());
        }
        Ok(())
    }

    pub(crate) fn send(self) -> Result<(), Words> {
        // SAFETY: made by `new`, and sent once.
        check(unsafe { TRITONBACKEND_ResponseSend(self.0, FINAL, Error(ptr::null_mut())) })
    }
}
