//! What the handlers of one version keep between requests: bytes by key, in the memory of
//! this process, with a bound on everything.
//!
//! A session's time begins anew whenever it is used, so the order of use is the order of
//! expiry too: one list serves both, and its end is always what goes first. Every operation
//! lets go of what has expired; a task does so when nobody comes, while there is anything.
//!
//! One lock, held for a look-up and never for a copy of a value.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use lru::LruCache;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::{runtime::Handle, time::Instant};

use crate::guest_memory::{GuestMemory, Share};

/// The longest key, in bytes. A caller's name for its session fits; its whole state does not.
const MAX_KEY: usize = 256;

/// What a session counts beside its key and value, so that empty ones have a price.
const OVERHEAD: usize = 128;

/// How much one version may keep, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionBounds {
    /// The largest value, in bytes.
    pub value_bytes: usize,
    /// Sessions at a time.
    pub sessions: usize,
    /// All of them together, keys and 128 bytes each included, in bytes.
    pub bytes: usize,
    /// How long one is kept unused.
    pub time_to_live: Duration,
}

/// How many sessions were let go by the store itself, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LetGo {
    /// Unused for too long.
    pub expired: u64,
    /// The least recently used of too many.
    pub sessions: u64,
    /// The least recently used of too large a lot.
    pub bytes: u64,
}

/// Told of what was let go; called without the store's lock.
type Told = Box<dyn Fn(LetGo) + Send + Sync>;

/// The sessions of one version.
pub struct SessionStore {
    bounds: SessionBounds,
    kept: Mutex<Kept>,
    told: Told,
    /// Where what has expired is looked for when no request comes.
    runtime: Option<Handle>,
    this: Weak<SessionStore>,
}

struct Kept {
    /// Without a capacity of its own: bounds are on bytes as well, and counted here.
    sessions: LruCache<Box<str>, Session>,
    bytes: usize,
    last_revision: u64,
    /// What they take of the memory of all guests.
    share: Share,
    /// Whether a task looks for what has expired.
    swept: bool,
}

struct Session {
    value: Arc<[u8]>,
    revision: u64,
    used: Instant,
}

/// A value as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) value: Arc<[u8]>,
    pub(crate) revision: u64,
}

/// When something may be kept or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Absent,
    Revision(u64),
}

/// Why something was not kept.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refused {
    #[error("a session's key has 1 to {MAX_KEY} bytes, not {bytes}")]
    Key { bytes: usize },
    #[error("{bytes} bytes of one session, over the limit of {limit} (limits.session_kib)")]
    TooLarge { bytes: usize, limit: usize },
    #[error(
        "a session of {bytes} bytes, key included, where all sessions together have {limit} (limits.session_mib)"
    )]
    TooLargeForAll { bytes: usize, limit: usize },
    #[error("the session changed meanwhile")]
    Conflict { current: Option<u64> },
    #[error(
        "all handlers together hold the {} MiB of memory that this host has for them",
        limit_bytes >> 20
    )]
    NoRoom { limit_bytes: usize },
}

impl SessionStore {
    /// An empty store, a part of whose host's `memory` it takes. Inside a tokio runtime,
    /// what expires goes by itself; elsewhere when the store is next used.
    pub(crate) fn new(
        bounds: SessionBounds,
        memory: &Arc<GuestMemory>,
        told: impl Fn(LetGo) + Send + Sync + 'static,
    ) -> Arc<SessionStore> {
        Arc::new_cyclic(|this| SessionStore {
            bounds,
            kept: Mutex::new(Kept {
                sessions: LruCache::unbounded(),
                bytes: 0,
                last_revision: 0,
                share: memory.share(),
                swept: false,
            }),
            told: Box::new(told),
            runtime: Handle::try_current().ok(),
            this: Weak::clone(this),
        })
    }

    /// How many sessions there are, and what they hold in bytes.
    pub fn size(&self) -> (usize, usize) {
        let kept = self.kept.lock();
        (kept.sessions.len(), kept.bytes)
    }

    /// What is kept under a key. Its time begins anew.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Found>, Refused> {
        check_key(key)?;
        Ok(self.with(|kept, now, _| {
            let session = kept.sessions.get_mut(key)?;
            session.used = now;
            Some(Found {
                value: Arc::clone(&session.value),
                revision: session.revision,
            })
        }))
    }

    /// Keeps a value, for which others may have to go, and gives its revision.
    pub(crate) fn set(&self, key: &str, value: Vec<u8>, when: When) -> Result<u64, Refused> {
        check_key(key)?;
        let (bytes, limit) = (value.len(), self.bounds.value_bytes);
        if bytes > limit {
            return Err(Refused::TooLarge { bytes, limit });
        }
        let (bytes, limit) = (size_of(key, bytes), self.bounds.bytes);
        if bytes > limit {
            return Err(Refused::TooLargeForAll { bytes, limit });
        }
        let value = Arc::from(value);
        self.with(|kept, now, gone| {
            kept.check(key, when)?;
            let wanted = kept.bytes.saturating_add(bytes).min(limit);
            if !kept.share.cover(wanted) {
                return Err(Refused::NoRoom {
                    limit_bytes: kept.share.limit(),
                });
            }
            gone.values.extend(kept.take(key));
            while kept.sessions.len() >= self.bounds.sessions.max(1) && kept.let_go(gone) {
                gone.count.sessions += 1;
            }
            while kept.bytes.saturating_add(bytes) > limit && kept.let_go(gone) {
                gone.count.bytes += 1;
            }
            kept.last_revision += 1;
            let revision = kept.last_revision;
            let session = Session {
                value,
                revision,
                used: now,
            };
            kept.sessions.put(Box::from(key), session);
            kept.bytes += bytes;
            self.sweep_later(kept);
            Ok(revision)
        })
    }

    /// Deletes what is kept under a key.
    pub(crate) fn delete(&self, key: &str, when: When) -> Result<(), Refused> {
        check_key(key)?;
        self.with(|kept, _, gone| {
            kept.check(key, when)?;
            gone.values.extend(kept.take(key));
            Ok(())
        })
    }

    /// Does this with what is left when the expired have gone.
    fn with<T>(&self, act: impl FnOnce(&mut Kept, Instant, &mut Gone) -> T) -> T {
        let now = Instant::now();
        let mut gone = Gone::default();
        let done = {
            let mut kept = self.kept.lock();
            while kept
                .oldest()
                .is_some_and(|used| now.saturating_duration_since(used) >= self.bounds.time_to_live)
                && kept.let_go(&mut gone)
            {
                gone.count.expired += 1;
            }
            let done = act(&mut kept, now, &mut gone);
            let bytes = kept.bytes;
            kept.share.shrink(bytes);
            done
        };
        if gone.count != LetGo::default() {
            (self.told)(gone.count);
        }
        done
    }

    /// Has a task let go of what expires, unless one does already. It ends when nothing is
    /// left, or with the store.
    fn sweep_later(&self, kept: &mut Kept) {
        let Some(runtime) = self.runtime.as_ref().filter(|_| !kept.swept) else {
            return;
        };
        kept.swept = true;
        let (store, pause) = (Weak::clone(&self.this), self.bounds.time_to_live);
        runtime.spawn(async move {
            // The first cannot expire before. Later ones go up to a tenth of their time after it
            // is up (a second at least), so that one wake-up serves many.
            let mut wait = pause;
            loop {
                tokio::time::sleep(wait).await;
                let Some(store) = store.upgrade() else {
                    return;
                };
                let left = store.with(|kept, now, _| {
                    let left = kept
                        .oldest()
                        .map(|used| (used + pause).saturating_duration_since(now));
                    kept.swept = left.is_some();
                    left
                });
                let Some(left) = left else {
                    return;
                };
                wait = left.max(pause / 10).max(Duration::from_secs(1).min(pause));
            }
        });
    }
}

impl fmt::Debug for SessionStore {
    /// Without what is kept, which is its callers'.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore")
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

/// What leaves the store in one operation: dropped after the lock is.
#[derive(Default)]
struct Gone {
    count: LetGo,
    values: Vec<Session>,
}

impl Kept {
    fn check(&self, key: &str, when: When) -> Result<(), Refused> {
        let current = self.sessions.peek(key).map(|session| session.revision);
        let holds = match when {
            When::Always => true,
            When::Absent => current.is_none(),
            When::Revision(revision) => current == Some(revision),
        };
        if holds {
            Ok(())
        } else {
            Err(Refused::Conflict { current })
        }
    }

    fn take(&mut self, key: &str) -> Option<Session> {
        let session = self.sessions.pop(key)?;
        self.forget(key, &session);
        Some(session)
    }

    /// Lets go of the least recently used; `false` if there is none.
    fn let_go(&mut self, gone: &mut Gone) -> bool {
        let Some((key, session)) = self.sessions.pop_lru() else {
            return false;
        };
        self.forget(&key, &session);
        gone.values.push(session);
        true
    }

    fn forget(&mut self, key: &str, session: &Session) {
        let bytes = size_of(key, session.value.len());
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// When the least recently used was used.
    fn oldest(&self) -> Option<Instant> {
        self.sessions.peek_lru().map(|(_, session)| session.used)
    }
}

fn check_key(key: &str) -> Result<(), Refused> {
    match key.len() {
        1..=MAX_KEY => Ok(()),
        bytes => Err(Refused::Key { bytes }),
    }
}

fn size_of(key: &str, value: usize) -> usize {
    key.len().saturating_add(value).saturating_add(OVERHEAD)
}

#[cfg(test)]
mod tests;
