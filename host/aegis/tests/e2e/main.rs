//! Claims about the whole of Aegis, held against the program itself: a process that serves
//! HTTP, real models, real handlers and a few hostile ones. What a room does inside is held
//! by its own tests. One crate, so that it links once.
//!
//! The components come from `scripts/handlers.sh`, the native runtimes from
//! `scripts/runtimes.sh`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod access;
mod audit;
mod backends;
mod batching;
mod cli;
mod drain;
mod embeddings;
mod examples;
mod harness;
mod health;
mod hostile;
mod inspect;
mod isolation;
mod limits;
mod load;
mod loadtest;
mod metrics;
mod new;
mod nn_faults;
mod nn_misuse;
mod predict_refused;
mod refusal_by_handler;
mod registry;
mod residency;
mod restart;
mod slo;
mod snapshot;
mod telemetry;
mod telemetry_away;
mod upload;
mod upload_broken;
mod upload_crash;
mod upload_hostile;
mod upload_pressed;
mod upload_refused;
mod wire;
