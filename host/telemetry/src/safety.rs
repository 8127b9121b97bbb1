//! Which reasons a model's safety flags may be counted under. Reasons are a guest's own words, so a
//! hostile or careless handler could make a series of every request; here the first
//! [`MAX_REASONS`] of a model get their own and the rest share `other`.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::label;

/// Distinct reasons a model may have, over all its versions, `other` not counted.
pub(crate) const MAX_REASONS: usize = 32;

/// The reasons one model has used so far.
#[derive(Debug, Default)]
pub(crate) struct Reasons(Mutex<BTreeSet<String>>);

impl Reasons {
    /// The label value to count `word` under.
    pub(crate) fn admit(&self, word: &str) -> String {
        let reason = label::reason(word);
        if reason == label::OTHER {
            return reason;
        }
        let mut known = self.0.lock();
        if known.contains(&reason) {
            reason
        } else if known.len() < MAX_REASONS {
            known.insert(reason.clone());
            reason
        } else {
            label::OTHER.to_owned()
        }
    }
}
