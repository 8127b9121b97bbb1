//! What [`handler!`](crate::handler) expands to, in functions rather than in the macro.

use std::fmt::Display;

pub use wit_bindgen;

pub use crate::{
    bindings::{
        self,
        infer::{export_infer, exports::aegis::inference::infer::Guest as Infer},
        lifecycle::{export_lifecycle, exports::aegis::inference::lifecycle::Guest as Lifecycle},
        predict::{export_predict, exports::aegis::inference::predict::Guest as Predict},
    },
    state::Place,
};

use crate::{Context, Request, Startup, host::Host};

#[cfg(target_arch = "wasm32")]
fn host() -> Host {
    Host
}

/// Natively no one calls the exports; this is for the type checker.
#[cfg(not(target_arch = "wasm32"))]
fn host() -> Host {
    Host::default()
}

/// The context of one call of `predict`.
#[must_use]
pub fn context(request: Request) -> Context {
    Context::new(request, host())
}

/// The context of one call of `infer`: it has the request's id and no more.
#[must_use]
pub fn infer_context(id: &str) -> Context {
    context(Request {
        id: id.to_owned(),
        content_type: None,
        headers: Vec::new(),
        query: Vec::new(),
        body: Vec::new(),
    })
}

/// What `init` is given.
#[must_use]
pub fn startup() -> Startup {
    Startup::new(host())
}

/// Fills the state's place. What goes wrong ends the instance, with a message on standard
/// error: the contract's `init` has no other way to say so, and the host refuses the upload.
pub fn init<S: Send + Sync + 'static, E: Display>(
    place: &Place,
    init: fn(&Startup) -> Result<S, E>,
) {
    if let Err(failure) = place.get(&startup(), init) {
        use std::io::Write;
        // If even this cannot be written, the trap still tells that something was wrong.
        let _ = writeln!(std::io::stderr(), "{failure}");
        #[cfg(target_arch = "wasm32")]
        std::arch::wasm32::unreachable();
    }
}
