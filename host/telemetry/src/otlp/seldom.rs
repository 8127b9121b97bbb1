//! Complaints that come at most once in a while, however often there is reason for them.

use std::time::{Duration, Instant};

/// How long a complaint is not repeated.
const PAUSE: Duration = Duration::from_secs(60);

/// When something was last complained of, and how much has come together since.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    last: Option<Instant>,
    kept_back: u64,
}

impl Seldom {
    /// `more` came up now: what to complain of, if it is time to.
    pub(super) fn add(&mut self, more: u64, now: Instant) -> Option<u64> {
        self.kept_back += more;
        let quiet = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < PAUSE);
        if quiet || self.kept_back == 0 {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_once_a_minute() {
        let begun = Instant::now();
        let mut seldom = Seldom::default();
        assert_eq!(seldom.add(0, begun), None);
        assert_eq!(seldom.add(3, begun), Some(3));
        for second in 1..60 {
            assert_eq!(seldom.add(2, begun + Duration::from_secs(second)), None);
        }
        assert_eq!(seldom.add(0, begun + PAUSE), Some(2 * 59));
        assert_eq!(seldom.add(0, begun + 3 * PAUSE), None);
    }
}
