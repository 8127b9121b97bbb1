//! The automatic canary: what was [`observed`] of two versions since a step began, and the
//! [`rule`] that says whether the canary goes on to the next step. Who asks, when, and what is
//! then done to the traffic is for others.

pub(crate) mod observed;
pub(crate) mod rule;

mod fisher;
#[cfg(test)]
mod simulation;
