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
mod breaker;
mod chaos;
mod cli;
mod drain;
mod efficientnet;
mod embeddings;
mod examples;
mod guard;
mod harness;
mod health;
mod hostile;
mod inspect;
mod isolation;
mod limits;
mod load;
mod loadtest;
mod looked_for;
mod metrics;
mod new;
mod nn_faults;
mod nn_misuse;
mod patience;
mod predict_refused;
mod refusal_by_handler;
mod registry;
mod residency;
mod restart;
mod retry;
mod rollouts;
mod sample;
mod sessions;
mod slo;
mod snapshot;
mod telemetry;
mod telemetry_away;
mod traffic;
mod tune;
mod upload;
mod upload_broken;
mod upload_crash;
mod upload_crash_s3;
mod upload_hostile;
mod upload_pressed;
mod upload_refused;
mod vad;
mod wire;
