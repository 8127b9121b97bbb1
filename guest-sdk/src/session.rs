//! What a handler keeps of a session between requests: read when it is opened, kept only if
//! nobody else kept something meanwhile.

use crate::{Failure, host::Host};

use crate::bindings::host::aegis::inference::sessions::{Condition, Error};

/// What the host keeps for one session, opened by [`Context::session`](crate::Context::session).
///
/// It is a cache with a bound: what is kept goes when it is not used for the model's
/// `session_ttl_s`, when others want the room, with the server, and it is seen by the same
/// version of the model in the same replica only. So a handler begins anew where
/// [`Session::state`] is `None`, and says so to a caller who may mind.
///
/// ```
/// use aegis_guest::{Context, Failure, Text, testing::FakeHost};
///
/// /// Counts the requests of each session.
/// fn count(ctx: &Context, Text(name): Text<&str>) -> Result<Text<String>, Failure> {
///     let mut session = ctx.session(name)?;
///     let before = session.state().map_or(0, |state| state[0]);
///     session.keep(&[before + 1])?;
///     Ok(Text(before.to_string()))
/// }
///
/// let host = FakeHost::new();
/// for answer in ["0", "1"] {
///     let response = host.post("text/plain", "ann").answer(count).unwrap();
///     assert_eq!(response.body, answer.as_bytes());
/// }
/// assert_eq!(host.post("text/plain", "bob").answer(count).unwrap().body, b"0");
/// ```
#[derive(Debug)]
pub struct Session<'c> {
    host: &'c Host,
    key: String,
    state: Option<Vec<u8>>,
    revision: Option<u64>,
}

impl<'c> Session<'c> {
    pub(crate) fn open(host: &'c Host, key: &str) -> Result<Self, SessionError> {
        let found = host.session(key).map_err(|error| told(key, error))?;
        let (state, revision) = found.map(|found| (found.value, found.revision)).unzip();
        Ok(Self {
            host,
            key: key.to_owned(),
            state,
            revision,
        })
    }

    /// What is kept: what an earlier request kept, or this one by now.
    #[must_use]
    pub fn state(&self) -> Option<&[u8]> {
        self.state.as_deref()
    }

    /// Keeps this instead, if what was read is still what is there.
    ///
    /// # Errors
    /// [`SessionError::Conflict`] if it is not: two requests of one session were under way
    /// at once. What [`Session::state`] gives then is no longer there.
    pub fn keep(&mut self, state: &[u8]) -> Result<(), SessionError> {
        let kept = self.host.keep_session(&self.key, state, self.as_read());
        self.revision = Some(kept.map_err(|error| told(&self.key, error))?);
        self.state = Some(state.to_vec());
        Ok(())
    }

    /// Deletes what is kept, if it is what was read.
    ///
    /// # Errors
    /// As [`Session::keep`].
    pub fn forget(&mut self) -> Result<(), SessionError> {
        let deleted = self.host.forget_session(&self.key, self.as_read());
        deleted.map_err(|error| told(&self.key, error))?;
        (self.state, self.revision) = (None, None);
        Ok(())
    }

    fn as_read(&self) -> Condition {
        self.revision.map_or(Condition::Absent, Condition::Revision)
    }
}

/// Why a session was not read or kept.
///
/// `?` makes a [`Failure`] of it: a bad key and a conflict are the caller's to put right
/// (422), want of room is an overload (429), and a state that is too large is the handler's
/// own fault (500).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A key that is none.
    #[error("session `{key}`: {message}")]
    InvalidKey {
        /// The key, or its beginning.
        key: String,
        /// The host's words.
        message: String,
    },
    /// More than may be kept of one session.
    #[error("session `{key}`: {message}")]
    TooLarge {
        /// The key.
        key: String,
        /// The host's words.
        message: String,
    },
    /// Another request of the session kept or deleted something meanwhile, or the host let
    /// go of it.
    #[error(
        "session `{key}` changed while this request ran, so nothing of this request was kept: \
         send a session's requests one after the other, each when the one before is answered"
    )]
    Conflict {
        /// The key.
        key: String,
    },
    /// The host has no room now.
    #[error("session `{key}`: {message}")]
    NoRoom {
        /// The key.
        key: String,
        /// The host's words.
        message: String,
    },
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::InvalidKey { .. } | SessionError::Conflict { .. } => {
                Self::invalid_input(error)
            }
            SessionError::TooLarge { .. } => Self::internal(error),
            SessionError::NoRoom { .. } => Self::overloaded(error),
        }
    }
}

/// The longest part of a key that a message repeats, in characters.
const QUOTED: usize = 64;

fn told(key: &str, error: Error) -> SessionError {
    let key: String = key.chars().take(QUOTED).collect();
    match error {
        Error::InvalidKey(message) => SessionError::InvalidKey { key, message },
        Error::TooLarge(message) => SessionError::TooLarge { key, message },
        Error::Conflict(_) => SessionError::Conflict { key },
        Error::NoRoom(message) => SessionError::NoRoom { key, message },
    }
}
