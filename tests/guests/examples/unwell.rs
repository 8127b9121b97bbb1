//! A version that is as well as its `[config]` says, so that one version is better than another. It answers twice the
//! number in the body, and its `name`. Of the numbers, one in `fail_one_in` fails, one in `trap_one_in` traps, and one in
//! `slow_one_in` waits `wait_ms`; 0, the default, is none.

use aegis_guest::{Context, Failure, Json, Startup, Text};
use serde::Serialize;

struct Health {
    name: String,
    fail_one_in: u64,
    trap_one_in: u64,
    slow_one_in: u64,
    wait_ms: u64,
}

#[derive(Serialize)]
struct Answer<'a> {
    name: &'a str,
    twice: u64,
}

fn load(startup: &Startup) -> Result<Health, Failure> {
    Ok(Health {
        name: startup.config("name")?.unwrap_or_default(),
        fail_one_in: startup.config_parse("fail_one_in", 0)?,
        trap_one_in: startup.config_parse("trap_one_in", 0)?,
        slow_one_in: startup.config_parse("slow_one_in", 0)?,
        wait_ms: startup.config_parse("wait_ms", 0)?,
    })
}

#[expect(clippy::panic, reason = "what is asked for")]
fn predict<'a>(
    _: &Context,
    health: &'a Health,
    Text(number): Text<&str>,
) -> Result<Json<Answer<'a>>, Failure> {
    let number: u64 = number.parse()?;
    let is_one_in = |among: u64| among > 0 && number.is_multiple_of(among);
    if is_one_in(health.slow_one_in) {
        std::thread::sleep(std::time::Duration::from_millis(health.wait_ms));
    }
    if is_one_in(health.trap_one_in) {
        panic!("{number} is one of those that trap");
    }
    if is_one_in(health.fail_one_in) {
        return Err(Failure::Internal(format!("{number} fails")));
    }
    Ok(Json(Answer {
        name: &health.name,
        twice: 2 * number,
    }))
}

aegis_guest::handler! { init: load, predict: predict }
