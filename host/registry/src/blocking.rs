//! The two ways in which the registry hands work to others: file work to threads that may block,
//! and changes to tasks that outlive their caller.

use std::future::Future;

use aegis_telemetry::{doing_in_this_trace, in_this_trace};

use crate::error::{RegistryError, Result};

/// Runs `work` where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(doing_in_this_trace(work))
        .await
        .map_err(|_| RegistryError::Interrupted)
}

/// Runs a change to its end, also when the caller is dropped meanwhile (a client that hangs up
/// must not leave half a commit, nor give a lock back while the write under it goes on).
pub(crate) async fn to_the_end<T, F>(change: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    tokio::spawn(in_this_trace(change))
        .await
        .map_err(|_| RegistryError::Interrupted)?
}
