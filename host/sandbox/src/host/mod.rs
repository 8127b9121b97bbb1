//! What a guest can import: one file a capability.
//!
//! The serving linker has everything that is granted. The init linker, used while
//! `lifecycle.init` runs at upload, has only what may be frozen into a snapshot.

pub(crate) mod config;
pub(crate) mod deny;
pub(crate) mod log;
pub(crate) mod nn;
mod sessions;
pub(crate) mod signals;
mod wasi;

use wasmtime::{
    Engine,
    component::{Component, HasSelf, Linker},
};

use crate::{bindings, instance::GuestState, prepare::InitGrant};

/// Everything a handler is granted while it serves.
pub(crate) fn serving_linker(engine: &Engine) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    wasi::add_always(&mut linker)?;
    wasi::add_clocks(&mut linker)?;
    wasi::add_secure_random(&mut linker)?;
    add_config(&mut linker)?;
    bindings::wasi::nn::tensor::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |s| s)?;
    bindings::wasi::nn::graph::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |s| s)?;
    bindings::wasi::nn::inference::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |s| s)?;
    bindings::wasi::nn::errors::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |s| s)?;
    bindings::aegis::inference::signals::add_to_linker::<_, HasSelf<GuestState>>(
        &mut linker,
        |s| s,
    )?;
    bindings::aegis::inference::sessions::add_to_linker::<_, HasSelf<GuestState>>(
        &mut linker,
        |s| s,
    )?;
    Ok(linker)
}

/// What `component` is granted during `lifecycle.init`; everything else it imports traps
/// with the import's name.
pub(crate) fn init_linker(
    engine: &Engine,
    component: &Component,
    grants: &[InitGrant],
) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    wasi::add_always(&mut linker)?;
    if grants.contains(&InitGrant::WallClock) {
        wasi::add_clocks(&mut linker)?;
    }
    if grants.contains(&InitGrant::SecureRandom) {
        wasi::add_secure_random(&mut linker)?;
    }
    add_config(&mut linker)?;
    deny::others(&mut linker, component, |import| in_init(import, grants))?;
    Ok(linker)
}

/// Whether `init` may use an import that requests may: not what a snapshot would freeze, and
/// not what belongs to a request.
pub(crate) fn in_init(import: &str, grants: &[InitGrant]) -> bool {
    let interface = import
        .split_once('@')
        .map_or(import, |(name, _version)| name);
    match interface {
        "aegis:inference/signals" | "aegis:inference/sessions" => false,
        "wasi:random/random" | "wasi:random/insecure" => grants.contains(&InitGrant::SecureRandom),
        name if name.starts_with("wasi:clocks/") => grants.contains(&InitGrant::WallClock),
        name => !name.starts_with("wasi:nn/"),
    }
}

/// Whether `init` may use an import if a manifest asks.
pub(crate) fn can_be_granted(import: &str) -> bool {
    in_init(import, &[InitGrant::SecureRandom, InitGrant::WallClock])
}

fn add_config(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    bindings::wasi::config::store::add_to_linker::<_, HasSelf<GuestState>>(linker, |s| s)
}
