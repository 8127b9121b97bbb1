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
pub(crate) mod worker;

mod package;
