//! Where `init` leaves what it made: memory that the host keeps, at upload, as the
//! starting point of every instance.

use std::{any::Any, fmt::Display, sync::OnceLock};

use crate::{Failure, Startup};

/// The place of one handler's state; [`handler!`](crate::handler) makes it a static.
#[derive(Debug)]
pub struct Place(OnceLock<Box<dyn Any + Send + Sync>>);

impl Place {
    /// An empty place.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "made by the macro, in a static")]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The state, made now if no one has: by a host that knows lifecycles it was made at
    /// upload.
    ///
    /// # Errors
    /// [`Failure::Internal`] with what `init` said.
    pub fn get<S, E>(
        &self,
        startup: &Startup,
        init: impl FnOnce(&Startup) -> Result<S, E>,
    ) -> Result<&S, Failure>
    where
        S: Send + Sync + 'static,
        E: Display,
    {
        let state = match self.0.get() {
            Some(state) => state,
            None => {
                let state = init(startup)
                    .map_err(|error| Failure::internal(format!("init failed: {error}")))?;
                self.0.get_or_init(|| Box::new(state))
            }
        };
        state
            .downcast_ref()
            .ok_or_else(|| Failure::internal("a second init made another type"))
    }
}
