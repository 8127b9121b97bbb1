//! The commands, one file each.

pub(crate) mod diff;
pub(crate) mod gc;
pub(crate) mod history;
pub(crate) mod inspect;
pub(crate) mod loadtest;
pub(crate) mod models;
pub(crate) mod new;
pub(crate) mod predict;
pub(crate) mod promote;
pub(crate) mod push;
pub(crate) mod rm;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod sign;
pub(crate) mod simulate;
pub(crate) mod slo;
pub(crate) mod token;
pub(crate) mod traffic;
pub(crate) mod tune;
pub(crate) mod worker;

mod bodies;
mod package;
mod status_line;
mod stop;

use std::{io::Write as _, process::ExitCode};

/// The status of a command that has one of its own for having come to nothing.
fn or_exit(ended: anyhow::Result<ExitCode>, nothing: u8) -> ExitCode {
    ended.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "aegis: {error:#}");
        ExitCode::from(nothing)
    })
}
