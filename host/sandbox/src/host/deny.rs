//! Imports that are denied for a while: there, so that a component links, and a trap with
//! the import's name when they are called.
//!
//! wasmtime's own `define_unknown_imports_as_traps` compares versions exactly, so it would
//! deny `wasi:cli/stdout@0.2.6` to a component although the linker has 0.2.12 of it.

use thiserror::Error;
use wasmtime::component::{Component, Linker, ResourceType, types::ComponentItem};

use crate::instance::GuestState;

/// What a guest is stopped with when it calls a denied import, named `interface#function`.
#[derive(Clone, Debug, Error)]
#[error("{0} is not granted")]
pub(crate) struct Denied(pub(crate) String);

/// Denies `component` every imported interface that is not `granted`.
pub(super) fn others(
    linker: &mut Linker<GuestState>,
    component: &Component,
    granted: impl Fn(&str) -> bool,
) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    let ty = component.component_type();
    let mut owned = Vec::new();
    let mut denied = Vec::new();
    for (name, import) in ty.imports(&engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            continue;
        };
        if !granted(name) {
            denied.push((name, interface));
            continue;
        }
        for (_, export) in interface.exports(&engine) {
            if let ComponentItem::Resource(resource) = export.ty {
                owned.push(resource);
            }
        }
    }
    for (name, interface) in &denied {
        let mut stub = linker.instance(name)?;
        for (export_name, export) in interface.exports(&engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => {
                    let import = format!("{name}#{export_name}");
                    stub.func_new(export_name, move |_, _, _, _| {
                        Err(Denied(import.clone()).into())
                    })?;
                }
                // One that a granted interface has (`use`) is that interface's.
                ComponentItem::Resource(resource) if !owned.contains(&resource) => {
                    stub.resource(export_name, ResourceType::host::<()>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}
