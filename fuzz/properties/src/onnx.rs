//! A network as it is looked at before an engine with a native parser reads it.

use aegis_inference::precheck;

/// The longest refusal, in bytes: it quotes what it refuses, shortened.
const LONGEST_REFUSAL: usize = 4 << 10;

/// Any bytes as an ONNX file.
pub fn onnx(bytes: &[u8]) {
    let Err(refusal) = precheck::onnx_bytes(bytes) else {
        return;
    };
    let words = refusal.to_string();
    assert!(
        !words.is_empty() && words.len() <= LONGEST_REFUSAL,
        "{words}"
    );
    assert!(!words.contains(char::is_control), "{words:?}");
}
