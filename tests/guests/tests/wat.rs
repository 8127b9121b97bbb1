//! The components in text form are what they claim to be.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::Path;

/// The layer field of the header: 0 for core modules, 1 for components.
fn is_component(binary: &[u8]) -> bool {
    binary.get(4..8) == Some(&[0x0d, 0, 1, 0])
}

#[test]
fn all_assemble_and_all_but_one_are_components() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("wat");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let binary = wat::parse_file(&path).unwrap();
        let valid = wasmparser::validate(&binary).map(drop);
        assert!(valid.is_ok(), "{path:?}: {valid:?}");
        assert_eq!(
            is_component(&binary),
            !path.ends_with("not_a_component.wat"),
            "{path:?}"
        );
    }
}
