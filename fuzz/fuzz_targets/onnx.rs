//! A network: any bytes, as far as they are looked at before an engine reads them.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aegis_properties::onnx(input));
