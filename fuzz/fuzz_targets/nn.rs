//! The wasi:nn host: any calls.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: aegis_properties::forgive_guarded_panics(),
    |input: &[u8]| aegis_properties::nn(input)
);
