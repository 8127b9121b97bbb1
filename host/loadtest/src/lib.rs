//! Drives a running server as its users would and judges it by the SLO.
//!
//! A [`plan`] is a matrix of load × workers. Its load is a closed loop, users who wait for an answer
//! and think, or an open one, arrivals that wait for nobody, whose latency counts from when each was
//! due. [`run`] drives it, cell by cell, against a [`target`]; a [`report`] has what was found, and is
//! written as the seeds' [`csv`] or as a page ([`html`]). Replicas are read from a [`cluster`], or told
//! by a [`replicas::ReplicaModel`] that somebody hands in.
//!
//! It knows nothing of the server but HTTP, and nothing of models.

pub mod arrivals;
pub mod chart;
pub mod cluster;
pub mod csv;
pub mod failure;
pub mod html;
pub mod objective;
pub mod plan;
pub mod probe;
pub mod record;
pub mod replicas;
pub mod report;
pub mod run;
pub mod span;
pub mod target;

mod cell;
mod exchange;
mod load;
mod measured;
#[cfg(test)]
mod sample;
mod worker;
