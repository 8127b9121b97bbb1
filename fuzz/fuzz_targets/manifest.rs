//! `model.toml`: any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aegis_properties::manifest(input));
