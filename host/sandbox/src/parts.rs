//! What a component is made of against what its limits allow: the size its memories and
//! tables begin with is read off its bytes before anything is compiled; how many memories,
//! tables and core instances it has is counted by wasmtime when one instance is made.

use crate::{limits::Limits, prepare::PrepareError};

/// How wasmtime's words for a store's bounds begin (`StoreOpaque::bump_resource_counts`);
/// then comes what there is too much of.
const STORE_BOUND: &str = "resource limit exceeded: ";

/// In wasmtime's words for the pool's bounds (`validate_component_impl`).
const POOL_BOUND: &str = "in the pooling allocator";

/// Refuses a component that could not even begin within its limits.
/// Bytes of its largest memory, elements of its largest table.
pub(crate) fn check_sizes(memory: u64, table: u64, limits: &Limits) -> Result<(), PrepareError> {
    if memory > limits.memory_bytes as u64 {
        return Err(PrepareError::InitialMemory {
            bytes: memory,
            limit_bytes: limits.memory_bytes,
        });
    }
    if table > limits.table_elements as u64 {
        return Err(PrepareError::InitialTable {
            elements: table,
            limit: limits.table_elements,
        });
    }
    Ok(())
}

/// The refusal that this error of an instantiation is, if it is that the component is made of
/// too many parts.
pub(crate) fn too_many(error: &wasmtime::Error, limits: &Limits) -> Option<PrepareError> {
    let words = error
        .chain()
        .map(|cause| cause.to_string())
        .find(|words| words.starts_with(STORE_BOUND) || words.ends_with(POOL_BOUND))?;
    let (part, key, limit) = match words.strip_prefix(STORE_BOUND) {
        Some(what) if what.starts_with("memory") => ("memories", "memories", limits.memories),
        Some(what) if what.starts_with("table") => ("tables", "tables", limits.tables),
        Some(_) => ("core instances", "core_instances", limits.core_instances),
        None => return Some(PrepareError::TooManyParts { message: words }),
    };
    Some(PrepareError::TooManyParts {
        message: format!("it has more than {limit} {part} (limits.{key} = {limit})"),
    })
}
