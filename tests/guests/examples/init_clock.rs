//! An `init` that reads the wall clock, which a snapshot would stop: refused unless the
//! manifest asks for `wall-clock`. Requests may read it always.

use std::time::{SystemTime, UNIX_EPOCH};

use aegis_guest::{Context, Failure, Startup, Text};

struct Started(u128);

fn now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos())
}

fn load(_: &Startup) -> Result<Started, Failure> {
    Ok(Started(now()))
}

/// Nanoseconds since 1970: at upload, and now.
fn predict(_: &Context, started: &Started, _: &[u8]) -> Result<Text<String>, Failure> {
    Ok(Text(format!("{} {}", started.0, now())))
}

aegis_guest::handler! { init: load, predict: predict }
