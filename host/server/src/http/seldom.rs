//! [`Seldom`]: a log line that callers can cause is said at most once in a while, with how
//! often it was not said.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The least time between two lines: at most some 9,000 lines a day, a few megabytes.
const EVERY: Duration = Duration::from_secs(10);

/// When something was last said.
pub(crate) struct Seldom(Mutex<Said>);

struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    pub(crate) fn new() -> Seldom {
        Seldom(Mutex::new(Said {
            last: None,
            unsaid: 0,
        }))
    }

    /// Whether to say it now; then with how often it was not said since the last time.
    pub(crate) fn now(&self) -> Option<u64> {
        let now = Instant::now();
        let mut said = self.0.lock();
        if said.last.is_some_and(|last| now - last < EVERY) {
            said.unsaid += 1;
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_one_line_and_a_count() {
        let seldom = Seldom::new();
        assert_eq!(seldom.now(), Some(0));
        for _ in 0..1000 {
            assert_eq!(seldom.now(), None);
        }
        tokio::time::sleep(EVERY).await;
        assert_eq!(seldom.now(), Some(1000));
        assert_eq!(seldom.now(), None);
    }
}
