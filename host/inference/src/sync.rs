//! What the scheduler locks, waits and starts threads with: `parking_lot` and the standard library, or, with the feature
//! `shuttle`, stand-ins whose every step a model checker orders as it likes (`tests/shuttle.rs`).
//!
//! Kept apart so that no line of the scheduler knows which it is.

#[cfg(not(feature = "shuttle"))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::{sync::atomic, thread};

#[cfg(feature = "shuttle")]
pub(crate) use checked::{Condvar, Mutex, MutexGuard};
#[cfg(feature = "shuttle")]
pub(crate) use shuttle::{sync::atomic, thread};

/// `parking_lot`'s interface, as far as it is used here, over Shuttle's locks.
#[cfg(feature = "shuttle")]
mod checked {
    use std::ops::{Deref, DerefMut};
    use std::sync::PoisonError;
    use std::time::Instant;

    use shuttle::sync;

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    pub(crate) struct MutexGuard<'a, T> {
        mutex: &'a Mutex<T>,
        /// There but while its lock is let go of.
        held: Option<sync::MutexGuard<'a, T>>,
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(sync::Condvar);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard {
                mutex: self,
                held: Some(self.take()),
            }
        }

        fn take(&self) -> sync::MutexGuard<'_, T> {
            // As `parking_lot` has it, a panic of who held the lock is none of the next one's business.
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[expect(clippy::expect_used, reason = "of a build that only checks models")]
    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.held.as_ref().expect("the lock is held")
        }
    }

    #[expect(clippy::expect_used, reason = "of a build that only checks models")]
    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.held.as_mut().expect("the lock is held")
        }
    }

    impl<T> MutexGuard<'_, T> {
        pub(crate) fn unlocked<R>(guard: &mut Self, body: impl FnOnce() -> R) -> R {
            guard.held = None;
            let result = body();
            guard.held = Some(guard.mutex.take());
            result
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.held = guard
                .held
                .take()
                .map(|held| self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
        }

        /// There is no time here: it is always up.
        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _until: Instant) {
            MutexGuard::unlocked(guard, shuttle::thread::yield_now);
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
