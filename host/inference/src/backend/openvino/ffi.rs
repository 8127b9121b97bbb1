//! The part of OpenVINO's C interface that is used here, as safe types that free what they own.
//!
//! The `openvino` crate wraps the same functions, but copies every input into memory of its own, sets properties for a
//! whole device rather than one graph, and asserts in places; so this goes to `openvino-sys` directly. Nothing here
//! chooses settings or types: `super` does.

use std::ffi::{CStr, CString, c_char, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::slice;

use openvino_sys as ov;
use smallvec::SmallVec;

use crate::tensor::{Shape, TensorType};

/// Dimensions as OpenVINO writes them.
type Dims = SmallVec<[i64; 8]>;

/// OpenVINO's code for an element type. A number and not the crate's enum: a newer library may well know more.
pub(super) type ElementCode = u32;

/// An input or output of a model. A dimension is `None` where it is dynamic; `dims` where even the rank is.
pub(super) struct PortInfo {
    pub(super) name: String,
    pub(super) element: ElementCode,
    pub(super) dims: Option<Vec<Option<i64>>>,
}

/// Loads the library for the whole process; does nothing if one is loaded already.
pub(super) fn load_library(path: &Path) -> Result<(), String> {
    ov::library::load_from(path)
}

/// The library's version, as `2026.4.1-22982-…`.
pub(super) fn version() -> Result<String, String> {
    let mut version = ov::ov_version_t {
        buildNumber: ptr::null(),
        description: ptr::null(),
    };
    // SAFETY: `version` outlives the call, which fills it.
    check(unsafe { ov::ov_get_openvino_version(&raw mut version) })?;
    // SAFETY: the call succeeded, so the field points to a string that lives until it is freed below.
    let number = unsafe { text(version.buildNumber) };
    // SAFETY: filled by the library, freed once.
    unsafe { ov::ov_version_free(&raw mut version) };
    Ok(number)
}

/// Declares an owning pointer that is freed on drop.
macro_rules! owned {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $free:path) => {
        $(#[$doc])*
        pub(super) struct $name(NonNull<$raw>);

        impl $name {
            fn take(pointer: *mut $raw) -> Result<Self, String> {
                NonNull::new(pointer)
                    .map(Self)
                    .ok_or_else(|| concat!("OpenVINO gave no ", stringify!($name), " and no error").to_owned())
            }

            fn as_ptr(&self) -> *mut $raw {
                self.0.as_ptr()
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the pointer came from the library, is owned by this value alone and is freed once.
                unsafe { $free(self.0.as_ptr()) }
            }
        }
    };
}

owned!(
    /// The library's registry of devices and formats.
    Core, ov::ov_core_t, ov::ov_core_free
);
owned!(
    /// A model as read from its files.
    Model, ov::ov_model_t, ov::ov_model_free
);
owned!(
    /// A model compiled for a device.
    Compiled, ov::ov_compiled_model_t, ov::ov_compiled_model_free
);
owned!(
    /// One run's state. Used by one thread at a time.
    Request, ov::ov_infer_request_t, ov::ov_infer_request_free
);
owned!(
    Port,
    ov::ov_output_const_port_t,
    ov::ov_output_const_port_free
);
owned!(Tensor, ov::ov_tensor_t, ov::ov_tensor_free);

// SAFETY: `ov::Core` and `ov::CompiledModel` are documented to be usable from several threads at once; reading a
// model, compiling it and making requests, which is all that is done here, take their own locks.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}
// SAFETY: as above.
unsafe impl Send for Compiled {}
// SAFETY: as above.
unsafe impl Sync for Compiled {}
// SAFETY: a request has no ties to the thread that made it; it is not `Sync`, so one thread uses it at a time.
unsafe impl Send for Request {}

impl Core {
    pub(super) fn new() -> Result<Self, String> {
        let mut core = ptr::null_mut();
        // SAFETY: `core` outlives the call.
        check(unsafe { ov::ov_core_create(&raw mut core) })?;
        Self::take(core)
    }

    /// The devices there are, as `CPU` and `GPU.0`.
    pub(super) fn devices(&self) -> Result<Vec<String>, String> {
        let mut list = ov::ov_available_devices_t {
            devices: ptr::null_mut(),
            size: 0,
        };
        // SAFETY: `self` is alive and `list` outlives the call.
        check(unsafe { ov::ov_core_get_available_devices(self.as_ptr(), &raw mut list) })?;
        let devices = (0..list.size)
            // SAFETY: the library filled `size` pointers to strings that live until the list is freed below.
            .map(|index| unsafe { text(*list.devices.add(index)) })
            .collect();
        // SAFETY: filled by the library, freed once.
        unsafe { ov::ov_available_devices_free(&raw mut list) };
        Ok(devices)
    }

    /// Reads a model. `weights` is the IR's second file.
    pub(super) fn read(&self, model: &Path, weights: Option<&Path>) -> Result<Model, String> {
        let model = path_text(model)?;
        let weights = weights.map(path_text).transpose()?;
        let mut read = ptr::null_mut();
        // SAFETY: the strings and `read` outlive the call; a null weights path means none.
        check(unsafe {
            ov::ov_core_read_model(
                self.as_ptr(),
                model.as_ptr(),
                weights.as_ref().map_or(ptr::null(), |path| path.as_ptr()),
                &raw mut read,
            )
        })?;
        Model::take(read)
    }

    /// Compiles a model for a device, with properties that hold for this model alone.
    pub(super) fn compile(
        &self,
        model: &Model,
        device: &CStr,
        properties: &[(&CStr, CString)],
    ) -> Result<Compiled, String> {
        let properties: Vec<ov::ov_property_t> = properties
            .iter()
            .map(|(key, value)| ov::ov_property_t {
                key: key.as_ptr(),
                value: value.as_ptr().cast(),
            })
            .collect();
        let mut compiled = ptr::null_mut();
        // SAFETY: all that is pointed to outlives the call, and the count is the array's length.
        check(unsafe {
            ov::ov_core_compile_model_props(
                self.as_ptr(),
                model.as_ptr(),
                device.as_ptr(),
                properties.len(),
                properties.as_ptr(),
                &raw mut compiled,
            )
        })?;
        Compiled::take(compiled)
    }
}

impl Model {
    /// The inputs, in the model's order.
    pub(super) fn inputs(&self) -> Result<Vec<PortInfo>, String> {
        let mut count = 0;
        // SAFETY: `self` is alive and `count` outlives the call.
        check(unsafe { ov::ov_model_inputs_size(self.as_ptr(), &raw mut count) })?;
        (0..count)
            .map(|index| {
                let mut port = ptr::null_mut();
                // SAFETY: `self` is alive, the index is in range and `port` outlives the call.
                check(unsafe {
                    ov::ov_model_const_input_by_index(self.as_ptr(), index, &raw mut port)
                })?;
                Port::take(port)?.info()
            })
            .collect()
    }

    /// The outputs, in the model's order.
    pub(super) fn outputs(&self) -> Result<Vec<PortInfo>, String> {
        let mut count = 0;
        // SAFETY: `self` is alive and `count` outlives the call.
        check(unsafe { ov::ov_model_outputs_size(self.as_ptr(), &raw mut count) })?;
        (0..count)
            .map(|index| {
                let mut port = ptr::null_mut();
                // SAFETY: `self` is alive, the index is in range and `port` outlives the call.
                check(unsafe {
                    ov::ov_model_const_output_by_index(self.as_ptr(), index, &raw mut port)
                })?;
                Port::take(port)?.info()
            })
            .collect()
    }
}

impl Port {
    fn info(&self) -> Result<PortInfo, String> {
        let mut element: ElementCode = 0;
        // SAFETY: `self` is alive; `element` outlives the call and has the C enum's size and alignment, and as an
        // integer may hold whatever the library writes.
        check(unsafe { ov::ov_port_get_element_type(self.as_ptr(), (&raw mut element).cast()) })?;
        Ok(PortInfo {
            name: self.name()?,
            element,
            dims: self.dims()?,
        })
    }

    fn name(&self) -> Result<String, String> {
        let mut name: *mut c_char = ptr::null_mut();
        // SAFETY: `self` is alive and `name` outlives the call.
        check(unsafe { ov::ov_port_get_any_name(self.as_ptr(), &raw mut name) })?;
        // SAFETY: the call succeeded, so `name` is a string that lives until it is freed below.
        let owned = unsafe { text(name) };
        // SAFETY: allocated by the library for the caller, freed once.
        unsafe { ov::ov_free(name) };
        Ok(owned)
    }

    fn dims(&self) -> Result<Option<Vec<Option<i64>>>, String> {
        let mut shape = ov::ov_partial_shape_t {
            rank: ov::ov_dimension_t { min: 0, max: 0 },
            dims: ptr::null_mut(),
        };
        // SAFETY: `self` is alive and `shape` outlives the call.
        check(unsafe { ov::ov_port_get_partial_shape(self.as_ptr(), &raw mut shape) })?;
        let fixed =
            |dim: ov::ov_dimension_t| (dim.min == dim.max && dim.min >= 0).then_some(dim.min);
        let dims = fixed(shape.rank).map(|rank| {
            (0..usize::try_from(rank).unwrap_or(0))
                // SAFETY: for a static rank the library filled that many dimensions, alive until freed below.
                .map(|index| fixed(unsafe { *shape.dims.add(index) }))
                .collect()
        });
        // SAFETY: filled by the library, freed once.
        unsafe { ov::ov_partial_shape_free(&raw mut shape) };
        Ok(dims)
    }
}

impl Compiled {
    pub(super) fn request(&self) -> Result<Request, String> {
        let mut request = ptr::null_mut();
        // SAFETY: `self` is alive and `request` outlives the call.
        check(unsafe {
            ov::ov_compiled_model_create_infer_request(self.as_ptr(), &raw mut request)
        })?;
        Request::take(request)
    }
}

/// Elements that a run reads where they lie.
pub(super) struct HostTensor<'a> {
    tensor: Tensor,
    elements: PhantomData<&'a [u8]>,
}

impl<'a> HostTensor<'a> {
    /// Lends `elements` to OpenVINO.
    ///
    /// # Errors
    /// When they lie misaligned for the type or are not as many bytes as type and shape ask for.
    pub(super) fn new(
        ty: TensorType,
        element: ov::ov_element_type_e,
        shape: &Shape,
        elements: &'a [u8],
    ) -> Result<Self, String> {
        if elements.len() != shape.bytes(ty) || elements.as_ptr().align_offset(ty.size()) != 0 {
            return Err(format!(
                "{} misplaced bytes for {ty} {shape}",
                elements.len()
            ));
        }
        let mut dims: Dims = shape.dims().iter().map(|dim| i64::from(*dim)).collect();
        let shape = ov::ov_shape_t {
            rank: dims.len() as i64,
            dims: dims.as_mut_ptr(),
        };
        let mut tensor = ptr::null_mut();
        // SAFETY: `shape` points to `rank` dimensions that outlive the call, which copies them. The elements are as
        // many and as aligned as type and shape ask for, outlive this value by its lifetime and are only read:
        // OpenVINO does not write into a request's inputs.
        check(unsafe {
            ov::ov_tensor_create_from_host_ptr(
                element,
                shape,
                elements.as_ptr().cast::<c_void>().cast_mut(),
                &raw mut tensor,
            )
        })?;
        Ok(Self {
            tensor: Tensor::take(tensor)?,
            elements: PhantomData,
        })
    }
}

impl Request {
    /// Runs with exactly these inputs, one for each of the model's, in its order.
    ///
    /// On a thread of OpenVINO's, though that costs 18 µs more: a run on the caller's own thread that ends with an error
    /// stays behind as a task of that thread, and a later one, even of another model, begins with it, its objects gone
    /// by then. A caller who gets a network to fail would end the process (2026.4.1, one thread and one stream).
    pub(super) fn infer(&mut self, inputs: &[HostTensor<'_>]) -> Result<(), String> {
        for (index, input) in inputs.iter().enumerate() {
            // SAFETY: both are alive. The request keeps a pointer to the elements past this call, but reads them in
            // `infer` only, and every `infer` is preceded by setting all inputs anew.
            check(unsafe {
                ov::ov_infer_request_set_input_tensor_by_index(
                    self.as_ptr(),
                    index,
                    input.tensor.as_ptr(),
                )
            })?;
        }
        // SAFETY: `self` is alive, and `inputs` outlives the run: it is waited for below, and there is none if it could
        // not be started.
        check(unsafe { ov::ov_infer_request_start_async(self.as_ptr()) })?;
        // SAFETY: `self` is alive; the call returns when the run is over, however it ended.
        check(unsafe { ov::ov_infer_request_wait(self.as_ptr()) })
    }

    /// Shows an output of the last run to `read`: its element type, dimensions and bytes.
    pub(super) fn output<T>(
        &mut self,
        index: usize,
        read: impl FnOnce(ElementCode, &[i64], &[u8]) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut tensor = ptr::null_mut();
        // SAFETY: `self` is alive and `tensor` outlives the call.
        check(unsafe {
            ov::ov_infer_request_get_output_tensor_by_index(self.as_ptr(), index, &raw mut tensor)
        })?;
        let tensor = Tensor::take(tensor)?;

        let mut element: ElementCode = 0;
        // SAFETY: `tensor` is alive; `element` outlives the call and may hold whatever the library writes.
        check(unsafe {
            ov::ov_tensor_get_element_type(tensor.as_ptr(), (&raw mut element).cast())
        })?;

        let mut shape = ov::ov_shape_t {
            rank: 0,
            dims: ptr::null_mut(),
        };
        // SAFETY: `tensor` is alive and `shape` outlives the call.
        let status = unsafe { ov::ov_tensor_get_shape(tensor.as_ptr(), &raw mut shape) };
        // The C interface makes no shape of no dimensions, and says so by this; the reader sees whether the bytes are
        // those of one element.
        let is_scalar = status == ov::ov_status_e::INVALID_C_PARAM;
        if !is_scalar {
            check(status)?;
        }
        let dims: Dims = match usize::try_from(shape.rank) {
            // SAFETY: the library filled `rank` dimensions, alive until freed below.
            Ok(rank) if rank > 0 && !shape.dims.is_null() => {
                unsafe { slice::from_raw_parts(shape.dims, rank) }.into()
            }
            _ => Dims::new(),
        };
        if !is_scalar {
            // SAFETY: filled by the library, freed once; the dimensions have been copied.
            unsafe { ov::ov_shape_free(&raw mut shape) };
        }

        if element == ov::ov_element_type_e::STRING as ElementCode {
            // Its memory is C++ strings, and its size in bytes is refused: only the type is of use.
            return read(element, &dims, &[]);
        }
        let mut size = 0;
        // SAFETY: `tensor` is alive and `size` outlives the call.
        check(unsafe { ov::ov_tensor_get_byte_size(tensor.as_ptr(), &raw mut size) })?;
        if size == 0 {
            return read(element, &dims, &[]);
        }
        let mut data = ptr::null_mut();
        // SAFETY: `tensor` is alive and `data` outlives the call.
        check(unsafe { ov::ov_tensor_data(tensor.as_ptr(), &raw mut data) })?;
        if data.is_null() {
            return Err("OpenVINO gave no memory for it and no error".to_owned());
        }
        // SAFETY: the tensor, alive until the end of this function, owns `size` bytes at `data`; the run that wrote
        // them is over, and `&mut self` keeps another from starting while `read` looks.
        read(element, &dims, unsafe {
            slice::from_raw_parts(data.cast::<u8>(), size)
        })
    }
}

/// Turns a status into the library's words.
fn check(status: ov::ov_status_e) -> Result<(), String> {
    if status == ov::ov_status_e::OK {
        return Ok(());
    }
    // SAFETY: the pointer is null or a string of the calling thread that lives until its next error.
    let said = unsafe { text(ov::ov_get_last_err_msg()) };
    let said = said.trim();
    if said.is_empty() {
        return Err(format!("OpenVINO failed without a word: {status:?}"));
    }
    Err(said.to_owned())
}

/// # Safety
/// `pointer` is null or points to a string that ends in a zero byte and is not changed during the call.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: by this function's own contract.
    unsafe { CStr::from_ptr(pointer) }
        .to_string_lossy()
        .into_owned()
}

fn path_text(path: &Path) -> Result<CString, String> {
    path.to_str()
        .and_then(|path| CString::new(path).ok())
        .ok_or_else(|| format!("OpenVINO takes paths in UTF-8 only: {}", path.display()))
}
