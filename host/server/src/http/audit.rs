//! The audit trail: one line for every management call, allowed or not, under the target
//! `aegis::audit`.

use std::{fmt, sync::Arc, time::Instant};

use axum::http::StatusCode;

use super::{access::ANONYMOUS, manage::Action};
use crate::{access::Principal, listener::Peer};

/// The most characters of a caller's word that a line repeats.
const SHOWN: usize = 80;

/// What a call ends with whose caller went away: nginx's word for it, in no RFC. What it had
/// begun may come about all the same; then the version's record says who it was.
const CLIENT_CLOSED: u16 = 499;

/// A management call, to be written down when it ends, however it ends.
pub(crate) struct Entry {
    action: Action,
    peer: Peer,
    request_id: Arc<str>,
    start: Instant,
    pub(crate) who: Option<Arc<Principal>>,
    /// As the caller wrote it, or as the server understood it: escaped, and cut short.
    model: Option<String>,
    version: Option<String>,
    ended: bool,
}

impl Entry {
    pub(crate) fn begin(action: Action, peer: Peer, request_id: &Arc<str>) -> Entry {
        Entry {
            action,
            peer,
            request_id: Arc::clone(request_id),
            start: Instant::now(),
            who: None,
            model: None,
            version: None,
            ended: false,
        }
    }

    /// Which model the call is about; what the caller wrote need not be a name.
    pub(crate) fn model(&mut self, model: &str) {
        self.model = shown(model);
    }

    /// Which version the call is about, likewise.
    pub(crate) fn version(&mut self, version: impl fmt::Display) {
        self.version = shown(&version.to_string());
    }

    /// The name of who called, for the registry's records.
    pub(crate) fn name(&self) -> Option<String> {
        self.who.as_ref().map(|who| who.name.to_string())
    }

    /// Writes the line. `code` is the error's, or `ok`.
    pub(crate) fn end(mut self, status: StatusCode, code: &str) {
        self.write(status.as_u16(), code);
    }

    fn write(&mut self, status: u16, code: &str) {
        self.ended = true;
        tracing::info!(
            target: "aegis::audit",
            who = self.who.as_ref().map_or(ANONYMOUS, |who| who.name.as_str()),
            peer = %self.peer,
            action = self.action.name(),
            model = self.model.as_deref(),
            version = self.version.as_deref(),
            status,
            code,
            request_id = &*self.request_id,
            duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
            "management"
        );
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.ended {
            self.write(CLIENT_CLOSED, "cancelled");
        }
    }
}

/// A caller's word so that it can neither forge a line nor fill one. Blanks are escaped too:
/// in a line of text they would begin another field.
fn shown(word: &str) -> Option<String> {
    if word.is_empty() {
        return None;
    }
    let mut out = String::new();
    for c in word.chars().take(SHOWN) {
        match c {
            ' ' | '=' | '"' => out.extend(c.escape_unicode()),
            c if c.is_ascii_graphic() && c != '\\' => out.push(c),
            c => out.extend(c.escape_default()),
        }
    }
    if word.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_that_would_forge_a_line_is_escaped() {
        assert_eq!(
            shown("a\nwho=root status=200").unwrap(),
            "a\\nwho\\u{3d}root\\u{20}status\\u{3d}200"
        );
        assert_eq!(shown("digits.v-2").unwrap(), "digits.v-2");
        assert_eq!(shown(""), None);
    }

    proptest! {
        #[test]
        fn whatever_a_caller_writes_is_one_short_word(word in any::<String>()) {
            let shown = shown(&word).unwrap_or_default();
            prop_assert!(shown.chars().all(|c| c.is_ascii_graphic() || c == '…'));
            prop_assert!(shown.chars().count() <= SHOWN * 10 + 1);
        }
    }
}
