//! The automatic canary: what was [`observed`] of two versions since a step began, and the
//! [`rule`] that says whether the canary goes on to the next step. Who asks, and when,
//! is the [`driver`]; what several replicas saw of a step comes together in `watch`.

pub(crate) mod driver;
pub(crate) mod observed;
pub(crate) mod rule;

mod fisher;
mod seen;
#[cfg(test)]
mod simulation;
mod watch;
