//! What a component is, from its bytes and before any compilation: what it exports, what
//! it imports, and which imports would be refused.

use std::collections::BTreeSet;

use wasmparser::{
    ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload, Validator, WasmFeatures,
};

use crate::prepare::PrepareError;

/// Interfaces (and whole packages) a handler may import. Versions follow WASI's rule that
/// 0.2.x stays compatible; a version the host does not have is refused when linking.
pub const GRANTED: &[(&str, &str)] = &[
    ("wasi:nn/", "networks: the model's own graphs, by name"),
    ("wasi:config/store", "the manifest's [config]"),
    (
        "aegis:inference/",
        "signals, sessions and the contract's types",
    ),
    ("wasi:io/", "streams and polling"),
    ("wasi:clocks/", "monotonic and wall clock"),
    ("wasi:random/", "random numbers"),
    ("wasi:cli/stdin", "always at its end"),
    ("wasi:cli/stdout", "becomes log lines"),
    ("wasi:cli/stderr", "becomes log lines"),
    ("wasi:cli/terminal-", "never a terminal"),
    ("wasi:cli/environment", "empty"),
    ("wasi:cli/exit", "ends the instance"),
    ("wasi:filesystem/", "empty: no folder is open"),
];

/// The interfaces of the contract that a component exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// `aegis:inference/predict@0.1.x`
    pub predict: bool,
    /// `aegis:inference/infer@0.1.x`
    pub infer: bool,
    /// `aegis:inference/lifecycle@0.1.x`
    pub lifecycle: bool,
}

impl Exports {
    /// The contract's interfaces among the names of a component's exports.
    pub(crate) fn among<'a>(names: impl Iterator<Item = &'a str>) -> Exports {
        let mut exports = Exports::default();
        for name in names {
            exports.predict |= is_interface(name, PREDICT);
            exports.infer |= is_interface(name, INFER);
            exports.lifecycle |= is_interface(name, LIFECYCLE);
        }
        exports
    }
}

pub(crate) const PREDICT: &str = "aegis:inference/predict";
pub(crate) const INFER: &str = "aegis:inference/infer";
pub(crate) const LIFECYCLE: &str = "aegis:inference/lifecycle";

/// The interface that a handler keeps something between requests by.
pub(crate) const SESSIONS: &str = "aegis:inference/sessions";

/// The size of a page of WebAssembly memory, as a power of two.
const PAGE_LOG2: u32 = 16;

/// A component's outside, by name, and what it begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) exports: Vec<String>,
    pub(crate) imports: Vec<String>,
    /// What the largest memory of a core module begins with, in bytes.
    pub(crate) initial_memory: u64,
    /// What the largest table of a core module begins with, in elements.
    pub(crate) initial_table: u64,
}

impl Outline {
    /// Reads and validates `bytes`. Says what they are if they are not a component.
    pub(crate) fn read(bytes: &[u8]) -> Result<Outline, PrepareError> {
        let is_wasm = bytes.starts_with(b"\0asm");
        if !is_wasm {
            let head = bytes.get(..bytes.len().min(4)).unwrap_or_default();
            return Err(PrepareError::NotWasm {
                found: describe_head(head),
            });
        }
        let mut outline = Outline::default();
        let mut depth = 0usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(invalid)? {
                Payload::Version {
                    encoding: Encoding::Module,
                    ..
                } if depth == 0 => return Err(PrepareError::CoreModule),
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::MemorySection(section) => {
                    for memory in section {
                        let memory = memory.map_err(invalid)?;
                        let page =
                            1_u64 << memory.page_size_log2.unwrap_or(PAGE_LOG2).min(PAGE_LOG2);
                        let bytes = memory.initial.saturating_mul(page);
                        outline.initial_memory = outline.initial_memory.max(bytes);
                    }
                }
                Payload::TableSection(section) => {
                    for table in section {
                        let elements = table.map_err(invalid)?.ty.initial;
                        outline.initial_table = outline.initial_table.max(elements);
                    }
                }
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import.map_err(invalid)?;
                        // Types that a world names (`use`) are imports without behaviour.
                        if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                            outline.imports.push(import.name.name.to_owned());
                        }
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export.map_err(invalid)?;
                        if export.kind != ComponentExternalKind::Type {
                            outline.exports.push(export.name.name.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        Validator::new_with_features(WasmFeatures::default())
            .validate_all(bytes)
            .map_err(invalid)?;
        Ok(outline)
    }

    /// The contract's interfaces among the exports.
    pub(crate) fn contract(&self) -> Exports {
        Exports::among(self.exports.iter().map(String::as_str))
    }

    /// The imports that no handler is granted, sorted.
    pub(crate) fn denied_imports(&self) -> Vec<String> {
        self.imports
            .iter()
            .filter(|name| grant_of(name).is_none())
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }
}

/// What a handler gets of the import `name`, if it gets it.
pub(crate) fn grant_of(name: &str) -> Option<&'static str> {
    GRANTED
        .iter()
        .find(|(granted, _)| covers(granted, name))
        .map(|(_, what)| *what)
}

fn invalid(error: wasmparser::BinaryReaderError) -> PrepareError {
    PrepareError::Invalid {
        message: error.to_string(),
    }
}

/// Whether `name` is `interface` at a compatible version of the contract.
fn is_interface(name: &str, interface: &str) -> bool {
    match name.strip_prefix(interface) {
        Some(rest) => rest.is_empty() || rest.starts_with("@0.1."),
        None => false,
    }
}

/// Whether the grant of a package (ending in `/`), a family (ending in `-`) or one
/// interface covers the import `name`.
fn covers(granted: &str, name: &str) -> bool {
    match name.strip_prefix(granted) {
        Some(rest) => granted.ends_with(['/', '-']) || rest.is_empty() || rest.starts_with('@'),
        None => false,
    }
}

fn describe_head(head: &[u8]) -> String {
    match head {
        [] => "an empty file".to_owned(),
        [0x7f, b'E', b'L', b'F'] => "a native program (ELF)".to_owned(),
        [b'P', b'K', ..] => "a zip archive".to_owned(),
        [0x1f, 0x8b, ..] => "a gzip archive".to_owned(),
        head if head.starts_with(b"(") => "WebAssembly text; build it to binary".to_owned(),
        head => format!("a file that begins with {}", hex::encode(head)),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_grant_covers_its_package_and_nothing_that_merely_looks_like_it() {
        assert!(covers("wasi:io/", "wasi:io/streams@0.2.6"));
        assert!(covers("wasi:cli/exit", "wasi:cli/exit@0.2.0"));
        assert!(!covers("wasi:cli/exit", "wasi:cli/exit-hatch@0.2.0"));
        assert!(!covers("wasi:io/", "wasi:iox/streams"));
        assert!(!covers("wasi:io/", "evil:wasi:io/streams"));
    }

    #[test]
    fn a_module_is_told_from_a_component_and_from_noise() {
        let module = wat("(module)");
        assert!(matches!(
            Outline::read(&module),
            Err(PrepareError::CoreModule)
        ));
        assert!(matches!(
            Outline::read(b"PK\x03\x04"),
            Err(PrepareError::NotWasm { .. })
        ));
        let component = wat("(component (core module))");
        assert_eq!(Outline::read(&component).unwrap(), Outline::default());
    }

    #[test]
    fn what_the_largest_memory_and_table_begin_with_is_read() {
        let component = wat(r#"(component
                (core module (memory 3) (table 7 funcref))
                (component (core module (memory 5) (table 2 funcref))))"#);
        let outline = Outline::read(&component).unwrap();
        assert_eq!(outline.initial_memory, 5 << 16);
        assert_eq!(outline.initial_table, 7);
    }

    #[test]
    fn imports_that_nobody_granted_are_named() {
        let component = wat(r#"(component
                (import "wasi:sockets/tcp@0.2.0" (instance))
                (import "wasi:io/poll@0.2.0" (instance)))"#);
        let outline = Outline::read(&component).unwrap();
        assert_eq!(outline.denied_imports(), ["wasi:sockets/tcp@0.2.0"]);
    }

    fn wat(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Outline::read(&bytes);
            let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
            wasm.append(&mut bytes);
            let _ = Outline::read(&wasm);
        }
    }
}
