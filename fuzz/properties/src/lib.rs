//! What must hold for any bytes that come from outside, one function a way in. A property that
//! does not hold panics, with what was seen.
//!
//! libFuzzer calls them with bytes it makes up (`fuzz/fuzz_targets`); the tests call them with the
//! committed corpus (`tests/corpus.rs`), so that what was once found stays found without a fuzzer.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a property says that it does not hold by panicking"
)]

mod component;
mod manifest;
mod multipart;
mod nn;
mod onnx;
mod request;
mod server;

pub use component::component;
pub use manifest::manifest;
pub use multipart::multipart;
pub use nn::nn;
pub use onnx::onnx;
pub use request::request;

/// A property: panics if it does not hold for these bytes.
pub type Property = fn(&[u8]);

/// Every property, by the name of its fuzz target and of its folder in `fuzz/corpus`.
pub const ALL: [(&str, Property); 6] = [
    ("component", component),
    ("manifest", manifest),
    ("multipart", multipart),
    ("nn", nn),
    ("onnx", onnx),
    ("request", request),
];

/// Panics that the host catches are no finding: engines panic on some honest-looking inputs, and
/// `aegis_inference` makes an error of it. To be called after the panic hook is set that would end
/// the process.
pub fn forgive_guarded_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let trace = std::backtrace::Backtrace::force_capture().to_string();
        if !trace.contains("aegis_inference::backend::guarded") {
            told(panic);
        }
    }));
}
