//! The registry on real folders, on S3's interface over HTTP, and on a store that fails where it is
//! told to.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod crashes;
mod deletes;
mod faults;
mod fleet;
mod integrity;
mod rollouts;
mod s3;
mod signatures;
mod support;
mod tools;
mod traffic;
mod uploads;
mod versions;
