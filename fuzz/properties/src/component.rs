//! A component as an upload is first looked at, before anything is compiled.

/// The longest refusal, in bytes.
const LONGEST_REFUSAL: usize = 8 << 10;

/// Any bytes as a handler; and as what follows a component's first eight bytes, which a fuzzer
/// need not find anew each time.
pub fn component(bytes: &[u8]) {
    outline(bytes);
    outline(&[b"\0asm\x0d\0\x01\0", bytes].concat());
}

fn outline(bytes: &[u8]) {
    match aegis_sandbox::fuzzing::outline(bytes) {
        Ok((exports, imports, denied)) => {
            let named = exports
                .iter()
                .chain(&imports)
                .map(String::len)
                .sum::<usize>();
            assert!(named <= bytes.len(), "more names than there are bytes");
            for import in &imports {
                let granted = aegis_sandbox::GRANTED
                    .iter()
                    .any(|(granted, _)| import.starts_with(granted));
                assert!(granted || denied.contains(import), "{import} got by");
            }
            assert!(denied.iter().all(|import| imports.contains(import)));
        }
        Err(words) => assert!(words.len() <= LONGEST_REFUSAL, "{words}"),
    }
}
