//! The registry on real folders and on a store that fails where it is told to.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod crashes;
mod deletes;
mod integrity;
mod support;
mod traffic;
mod uploads;
mod versions;
