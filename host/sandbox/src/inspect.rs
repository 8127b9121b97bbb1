//! What a component is and would be granted, for people who want to know before they upload
//! it. Nothing is compiled or run here; [`crate::Sandbox::prepare`] does that.

use serde::Serialize;
use wasmparser::{Parser, Payload};

use crate::{
    component::{Outline, grant_of},
    host,
    limits::Limits,
    make::check,
    prepare::{InitGrant, PrepareError},
};

/// A component's outside and its sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The worlds of `aegis:inference` that its exports make; none if it makes none.
    pub worlds: Vec<&'static str>,
    /// Every export, by name.
    pub exports: Vec<String>,
    /// Every import, by name.
    pub imports: Vec<Import>,
    /// What it is made of.
    pub sizes: Sizes,
    /// Why it would be refused before anything of it is compiled, if it would.
    #[serde(skip)]
    pub refused: Option<PrepareError>,
}

/// One import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Its name.
    pub name: String,
    /// Whether a handler gets it.
    pub granted: bool,
    /// Whether it gets it during `lifecycle.init` too.
    pub granted_in_init: bool,
    /// What it gets, or why not.
    pub why: String,
}

/// What a component is made of, its nested modules and components included. Bytes, but for
/// the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// The file.
    pub file: u64,
    /// Functions' bodies.
    pub code: u64,
    /// Initial content of memories.
    pub data: u64,
    /// Sections that are not run: names, debug information.
    pub custom: u64,
    /// How many core modules.
    pub core_modules: u32,
    /// How many functions have a body.
    pub functions: u64,
    /// Every memory.
    pub memories: Vec<Extent>,
    /// Every table, in elements.
    pub tables: Vec<Extent>,
}

/// Where something that may grow begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// At the start.
    pub initial: u64,
    /// At most; `None`: as much as its address takes, or the model's limits allow.
    pub maximum: Option<u64>,
}

/// Looks at a component that would run with these grants during `init`.
///
/// # Errors
/// What is no valid component is not looked into: [`PrepareError`] says what it is.
pub fn inspect(bytes: &[u8], grants: &[InitGrant]) -> Result<Inspection, PrepareError> {
    let outline = Outline::read(bytes)?;
    let contract = outline.contract();
    let worlds = [
        ("handler", contract.predict),
        (
            "handler-with-lifecycle",
            contract.predict && contract.lifecycle,
        ),
        ("tensor-handler", contract.infer),
        (
            "full-handler",
            contract.predict && contract.infer && contract.lifecycle,
        ),
    ];
    let imports = outline
        .imports
        .iter()
        .map(|name| import(name, grants))
        .collect();
    Ok(Inspection {
        worlds: worlds
            .into_iter()
            .filter_map(|(world, fits)| fits.then_some(world))
            .collect(),
        refused: check(&outline, &Limits::default()).err(),
        exports: outline.exports,
        imports,
        sizes: sizes(bytes)?,
    })
}

fn import(name: &str, grants: &[InitGrant]) -> Import {
    let grant = grant_of(name);
    let granted_in_init = grant.is_some() && host::in_init(name, grants);
    let why = match grant {
        None => "no handler is granted it".to_owned(),
        Some(what) if granted_in_init => what.to_owned(),
        Some(what) if host::can_be_granted(name) => {
            format!("{what}; during init only if the manifest's init_grants asks")
        }
        Some(what) => format!("{what}; not during init, as it belongs to a request"),
    };
    Import {
        name: name.to_owned(),
        granted: grant.is_some(),
        granted_in_init,
        why,
    }
}

fn sizes(bytes: &[u8]) -> Result<Sizes, PrepareError> {
    let mut sizes = Sizes {
        file: bytes.len() as u64,
        ..Sizes::default()
    };
    let invalid = |error: wasmparser::BinaryReaderError| PrepareError::Invalid {
        message: error.to_string(),
    };
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::ModuleSection { .. } => sizes.core_modules += 1,
            Payload::CodeSectionStart { count, size, .. } => {
                sizes.code += u64::from(size);
                sizes.functions += u64::from(count);
            }
            Payload::DataSection(section) => sizes.data += section.range().len() as u64,
            Payload::CustomSection(section) => sizes.custom += section.data().len() as u64,
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory.map_err(invalid)?;
                    let page = 1_u64 << memory.page_size_log2.unwrap_or(16);
                    sizes.memories.push(Extent {
                        initial: memory.initial.saturating_mul(page),
                        maximum: memory.maximum.map(|pages| pages.saturating_mul(page)),
                    });
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let ty = table.map_err(invalid)?.ty;
                    sizes.tables.push(Extent {
                        initial: ty.initial,
                        maximum: ty.maximum,
                    });
                }
            }
            _ => {}
        }
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn an_import_says_what_it_gets_and_when() {
        let of = |name: &str, grants: &[InitGrant]| {
            let import = import(name, grants);
            (import.granted, import.granted_in_init)
        };
        assert_eq!(of("wasi:io/poll@0.2.6", &[]), (true, true));
        assert_eq!(of("wasi:sockets/tcp@0.2.6", &[]), (false, false));
        assert_eq!(of("wasi:clocks/wall-clock@0.2.6", &[]), (true, false));
        assert_eq!(
            of("wasi:clocks/wall-clock@0.2.6", &[InitGrant::WallClock]),
            (true, true)
        );
        assert_eq!(
            of("wasi:nn/graph@0.2.0-rc-2024-10-28", &[InitGrant::WallClock]),
            (true, false)
        );
    }

    #[test]
    fn nested_modules_are_counted() {
        let component = wat::parse_str(
            r#"(component
                (core module (memory 2 3) (table 5 funcref) (func) (data (i32.const 0) "abc"))
                (component (core module (memory 1) (func) (func))))"#,
        )
        .unwrap();
        let inspection = inspect(&component, &[]).unwrap();
        let sizes = &inspection.sizes;
        assert_eq!((sizes.core_modules, sizes.functions), (2, 3));
        assert_eq!(
            sizes.memories,
            [
                Extent {
                    initial: 2 << 16,
                    maximum: Some(3 << 16)
                },
                Extent {
                    initial: 1 << 16,
                    maximum: None
                }
            ]
        );
        assert_eq!(
            sizes.tables,
            [Extent {
                initial: 5,
                maximum: None
            }]
        );
        assert!(matches!(
            inspection.refused,
            Some(PrepareError::MissingExport { .. })
        ));
    }
}
