//! `aegis:inference/sessions`: what a handler keeps between requests, in its version's
//! [`SessionStore`](crate::SessionStore).

use crate::{
    bindings::aegis::inference::sessions::{Condition, Error, Host, Session},
    instance::GuestState,
    refusals::Limit,
    sessions::{Refused, SessionStore, When},
};

impl GuestState {
    /// What `of` gives of the version's store, and a refusal as the contract says it.
    fn in_sessions<T>(
        &mut self,
        of: impl FnOnce(&SessionStore) -> Result<T, Refused>,
    ) -> wasmtime::Result<Result<T, Error>> {
        let Some(store) = &self.handler.sessions else {
            return Ok(Err(Error::NoRoom("nothing is kept here".to_owned())));
        };
        Ok(of(store).map_err(|refused| {
            let message = refused.to_string();
            match refused {
                Refused::Key { .. } => Error::InvalidKey(message),
                Refused::TooLarge { .. } | Refused::TooLargeForAll { .. } => {
                    self.refusals.add(Limit::SessionBytes, 1);
                    Error::TooLarge(message)
                }
                Refused::Conflict { current } => Error::Conflict(current),
                Refused::NoRoom { .. } => {
                    self.refusals.add(Limit::GuestMemory, 1);
                    Error::NoRoom(message)
                }
            }
        }))
    }
}

impl Host for GuestState {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Session>, Error>> {
        let found = self.in_sessions(|store| store.get(&key))?;
        // The one copy is made here, where nobody else waits for it.
        Ok(found.map(|found| {
            found.map(|kept| Session {
                value: kept.value.to_vec(),
                revision: kept.revision,
            })
        }))
    }

    fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        condition: Condition,
    ) -> wasmtime::Result<Result<u64, Error>> {
        self.in_sessions(|store| store.set(&key, value, when(condition)))
    }

    fn delete(&mut self, key: String, condition: Condition) -> wasmtime::Result<Result<(), Error>> {
        self.in_sessions(|store| store.delete(&key, when(condition)))
    }
}

fn when(condition: Condition) -> When {
    match condition {
        Condition::Always => When::Always,
        Condition::Absent => When::Absent,
        Condition::Revision(revision) => When::Revision(revision),
    }
}
