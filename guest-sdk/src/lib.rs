//! What the author of an Aegis handler depends on.
//!
//! A **handler** is the code around a model's networks: it reads a request, runs one
//! **graph** or several, and writes the answer. It is compiled to a WebAssembly component,
//! and the host runs it in a sandbox, in a fresh instance for each request.
//!
//! # A handler is a function and one macro
//!
//! ```
//! use aegis_guest::{Context, Failure, Json, Tensor, check};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Input {
//!     pixels: Vec<f32>,
//! }
//!
//! #[derive(Serialize)]
//! struct Output {
//!     digit: usize,
//! }
//!
//! fn predict(ctx: &Context, Json(input): Json<Input>) -> Result<Json<Output>, Failure> {
//!     check::length("/pixels", &input.pixels, 64, "numbers")?;
//!     check::range("/pixels", &input.pixels, 0.0, 16.0)?;
//!
//!     let outputs = ctx.graph("digits")?.run(&[("input", Tensor::new(&[1, 64], &input.pixels))])?;
//!     let probabilities = outputs.get::<f32>("probabilities")?;
//!
//!     let best = probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
//!     let (digit, probability) = best.ok_or("the network gave no probabilities")?;
//!     ctx.record("probability", f64::from(*probability));
//!     Ok(Json(Output { digit }))
//! }
//!
//! aegis_guest::handler!(predict);
//! ```
//!
//! The crate is a `cdylib` built for `wasm32-wasip2`; with `crate-type = ["cdylib", "rlib"]`
//! it is also an ordinary library, so its tests run natively.
//!
//! # What goes in and out
//!
//! | parameter or answer | body |
//! |---|---|
//! | [`Json<T>`] | JSON, by serde |
//! | [`Text<T>`] | text; coming in, `Text<&str>` or `Text<String>` |
//! | [`Either<A, B>`] | one of two, by content type |
//! | `&`[`Request`], `&[u8]` | anything, as it is |
//! | a type of your own | implement [`FromRequest`] or [`IntoResponse`] |
//! | [`Response`] | any answer, with headers |
//!
//! An input that cannot be read never reaches the function: the caller gets a 415 with
//! the types that are read, or a 422 with a JSON pointer to the place and what would be
//! right there. [`Failure`] has a case and a constructor for every other thing that an
//! HTTP API says, and `?` makes one of the common errors.
//!
//! # The host's services
//!
//! [`Context::graph`] opens a graph and [`Graph::run`] runs it on typed [`Tensor`]s;
//! [`Context::config`] reads the manifest's `[config]`; [`Context::flag`] raises a safety
//! flag and [`Context::record`] puts a value into the request's log line;
//! [`Context::session`] keeps bytes between the requests of a session. What the handler
//! prints becomes log lines too.
//!
//! # Work that is done once
//!
//! Tokenizers, label maps and tables are made by an `init` function. It runs at upload,
//! and the memory it leaves is where every instance starts: see [`handler!`].
//!
//! # Tests
//!
//! A handler is tested like any function, against a [`testing::FakeHost`] whose graphs are
//! closures:
//!
//! ```
//! # use aegis_guest::{Context, Failure, Json, Tensor};
//! # fn predict(ctx: &Context, Json(pixels): Json<Vec<f32>>) -> Result<Json<usize>, Failure> {
//! #     let outputs = ctx.graph("digits")?.run(&[("input", Tensor::new(&[1, 64], &pixels))])?;
//! #     let p = outputs.get::<f32>("probabilities")?;
//! #     let best = p.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
//! #     Ok(Json(best.ok_or("nothing")?.0))
//! # }
//! use aegis_guest::testing::FakeHost;
//!
//! let host = FakeHost::new().graph("digits", |inputs| {
//!     assert_eq!(inputs.shape("input")?, [1, 64]);
//!     let mut probabilities = vec![0.0_f32; 10];
//!     probabilities[3] = 1.0;
//!     Ok(vec![("probabilities", Tensor::from_vec(&[1, 10], probabilities))])
//! });
//! assert_eq!(predict(&host.context(), Json(vec![0.0; 64])), Ok(Json(3)));
//!
//! let answer = host.post("application/json", r#"[1, "x"]"#).answer(predict);
//! assert_eq!(aegis_guest::testing::problem(&answer).unwrap().field.as_deref(), Some("/1"));
//! ```

// The generated code names the crate as its users do.
extern crate self as aegis_guest;

#[doc(hidden)]
pub mod bindings;
pub mod check;
mod context;
mod extract;
mod failure;
mod graph;
mod host;
mod infer;
mod json;
mod macros;
mod request;
mod response;
mod session;
mod state;
mod tensor;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use half::{bf16, f16};

pub use crate::{
    context::{Context, Startup},
    extract::{Either, FromRequest, Json, Text},
    failure::{Failure, Problem},
    graph::{ErrorCode, Graph, GraphError, Tensors},
    infer::{InferenceRequest, InferenceResponse, NamedTensor, Parameter},
    request::Request,
    response::{IntoResponse, Response},
    session::{Session, SessionError},
    tensor::{Datatype, Element, GraphElement, Tensor, TensorType, Values},
};
