//! Handles without end: what a guest can have the host keep for it.
//!
//! | `do` | what happens |
//! |---|---|
//! | `graphs`, `contexts`, `errors` | opens so many that it is refused |
//! | `empty-tensors` | makes tensors of no bytes until it is refused |
//! | `dims` | makes `n` (8) tensors of a million dimensions each, and runs one |
//! | `same-tensor` | runs `digits` on one tensor under two names |
//! | `bad-handle` | uses a handle that it was never given |
//! | `keep` | keeps a tensor of `n` (300) KiB beyond the request, and fails if it got none |
//! | `computes` | runs `digits` for ever, whatever is said |

use std::sync::{Mutex, PoisonError};

use aegis_guest::{
    __private::bindings::host::wasi::nn::{
        errors::Error,
        graph::{self, Graph},
        tensor::Tensor,
    },
    Context, Failure, Response, TensorType,
};
use serde_json::json;

pub(crate) fn act(what: &str, ctx: &Context, n: Option<u64>) -> Option<Result<Response, Failure>> {
    Some(match what {
        "graphs" => until_refused(|| graph::load_by_name("digits")),
        "contexts" => digits().and_then(|graph| until_refused(|| graph.init_execution_context())),
        "errors" => until_refused(|| match graph::load_by_name("nowhere") {
            Ok(_) => Err(None),
            Err(error) => Ok::<Error, Option<Error>>(error),
        }),
        "empty-tensors" => {
            until_refused(|| Ok::<_, Option<Error>>(Tensor::new(&[0], TensorType::Fp32, &[])))
        }
        "dims" => dims(n.unwrap_or(8)),
        "same-tensor" => same_tensor(),
        "bad-handle" => bad::handle(),
        "keep" => keep(n.unwrap_or(300)),
        "computes" => loop {
            let _ = super::digits(ctx, 1);
        },
        _ => return None,
    })
}

fn until_refused<T, E: Into<Option<Error>>>(
    mut make: impl FnMut() -> Result<T, E>,
) -> Result<Response, Failure> {
    let mut kept = Vec::new();
    loop {
        match make() {
            Ok(made) => kept.push(made),
            Err(error) => {
                let said = error.into().map(|error| said(&error));
                return Err(Failure::internal(said.unwrap_or_default()));
            }
        }
    }
}

fn said(error: &Error) -> String {
    format!("{:?}: {}", error.code(), error.data())
}

fn digits() -> Result<Graph, Failure> {
    graph::load_by_name("digits").map_err(|error| Failure::internal(said(&error)))
}

fn run(inputs: Vec<(String, Tensor)>) -> Result<Response, Failure> {
    digits()?
        .init_execution_context()
        .and_then(|context| context.compute(inputs))
        .map_err(|error| Failure::internal(said(&error)))?;
    super::done()
}

fn dims(tensors: u64) -> Result<Response, Failure> {
    let many = vec![1_u32; 1_000_000];
    let mut kept: Vec<_> = (0..tensors)
        .map(|_| Tensor::new(&many, TensorType::U8, &[0]))
        .collect();
    match kept.pop() {
        Some(last) => run(vec![("input".to_owned(), last)]),
        None => super::done(),
    }
}

fn same_tensor() -> Result<Response, Failure> {
    let tensor = Tensor::new(&[1, 64], TensorType::Fp32, &[0; 256]);
    let again = bad::same(&tensor);
    run(vec![
        ("input".to_owned(), tensor),
        ("other".to_owned(), again),
    ])
}

static KEPT: Mutex<Vec<Tensor>> = Mutex::new(Vec::new());

fn keep(kib: u64) -> Result<Response, Failure> {
    let bytes = vec![0; usize::try_from(kib)? << 10];
    let shape = [u32::try_from(bytes.len())?];
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let tensor = Tensor::new(&shape, TensorType::U8, &bytes);
    if tensor.data().len() != bytes.len() {
        return Err(Failure::internal("there is no room for another tensor"));
    }
    kept.push(tensor);
    super::answer(json!({ "kept": kept.len() }))
}

mod bad {
    //! Handles that are not the guest's to use.
    #![expect(unsafe_code, reason = "what is asked for")]

    use aegis_guest::{__private::bindings::host::wasi::nn::tensor::Tensor, Failure, Response};

    pub(super) fn handle() -> Result<Response, Failure> {
        // SAFETY: there is none. The host must know its handles.
        let tensor = unsafe { Tensor::from_handle(123_456) };
        tensor.data();
        crate::done()
    }

    pub(super) fn same(tensor: &Tensor) -> Tensor {
        // SAFETY: as above: one handle, given away twice.
        unsafe { Tensor::from_handle(tensor.handle()) }
    }
}
