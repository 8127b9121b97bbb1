//! `aegis:inference/signals`: what a handler says about a prediction beside the answer.
//! Kept with the instance and handed to the server with the outcome.

use crate::{bindings::aegis::inference::signals, instance::GuestState, text::cut};

/// Flags, and named values, that one request may raise. More are dropped: both end in logs
/// and metrics, where a guest must not decide the size.
const MAX_PER_REQUEST: usize = 32;

/// The longest reason or name that is kept, in bytes.
const MAX_NAME: usize = 64;

impl signals::Host for GuestState {
    fn flag(&mut self, reason: String) -> wasmtime::Result<()> {
        if self.signals.flags.len() < MAX_PER_REQUEST {
            self.signals.flags.push(cut(reason, MAX_NAME));
        }
        Ok(())
    }

    fn record_value(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        if self.signals.values.len() < MAX_PER_REQUEST {
            self.signals.values.push((cut(name, MAX_NAME), value));
        }
        Ok(())
    }
}
