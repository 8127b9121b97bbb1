//! Finds the settings with which a graph serves most requests within its objective.
//!
//! A [`search`] has settings measured under rising load, one after the other and by what the ones
//! before have shown, repeats the best beside what is set now, and makes a [`proposal`] of that. What
//! serves and drives is behind [`measure::Measure`]: nothing here knows a server, a manifest or a clock.

pub mod goal;
pub mod measure;
pub mod page;
pub mod proposal;
pub mod report;
pub mod search;
pub mod setting;
pub mod space;
pub mod trial;

#[cfg(test)]
mod fake;
