//! A handler: any bytes, as far as they are looked at before they are compiled.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| aegis_properties::component(input));
