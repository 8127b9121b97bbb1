//! Standard WASI, asked for what no honest guest would ask.
//!
//! | `do` | what happens |
//! |---|---|
//! | `random-all` | asks for 2^64-1 random bytes |
//! | `random-much` | asks for `n` (64 MiB) random bytes |
//! | `zeroes` | writes 2^64-1 zeroes to standard output |
//! | `oversize` | writes and flushes 1 MiB at once where 4 KiB are allowed |
//! | `unasked` | writes `n` (64 MiB) bytes without asking whether it may |
//! | `read-all`, `splice-all` | reads 2^64-1 bytes of standard input; passes them on |
//! | `poll-none` | waits for nothing |
//! | `poll-many` | waits for one thing `n` (1,000,000) times in one call |
//! | `pollables`, `streams` | opens so many that it is refused |
//! | `yields` | sleeps for no time, for ever |
//! | `sleep-most` | sleeps for 2^64-1 ns |
//! | `clock` | asks for the time, for ever |
//! | `recurse-host` | calls the host at every depth of a recursion without end |
//! | `config-key` | asks for a configuration whose name has `n` (64 MiB) bytes |

use std::hint::black_box;

use aegis_guest::{__private::bindings::host::wasi::config::store, Failure, Response};
use wasip2::{
    cli::{stdin::get_stdin, stdout::get_stdout},
    clocks::monotonic_clock::{now, subscribe_duration},
    io::poll::poll,
    random::random::get_random_bytes,
};

pub(crate) fn act(what: &str, n: Option<u64>) -> Option<Result<Response, Failure>> {
    let bytes = n.unwrap_or(64 << 20);
    let long = || "k".repeat(usize::try_from(bytes).unwrap_or(usize::MAX));
    match what {
        "random-all" => drop(get_random_bytes(u64::MAX)),
        "random-much" => drop(get_random_bytes(bytes)),
        "zeroes" => drop(get_stdout().write_zeroes(u64::MAX)),
        "oversize" => drop(get_stdout().blocking_write_and_flush(&vec![b'x'; 1 << 20])),
        "unasked" => drop(get_stdout().write(long().as_bytes())),
        "read-all" => drop(get_stdin().blocking_read(u64::MAX)),
        "splice-all" => drop(get_stdout().blocking_splice(&get_stdin(), u64::MAX)),
        "poll-none" => drop(poll(&[])),
        "poll-many" => {
            let one = subscribe_duration(1);
            let many = usize::try_from(n.unwrap_or(1_000_000)).unwrap_or(0);
            drop(poll(&vec![&one; many]));
        }
        "pollables" => keep_all(|| subscribe_duration(u64::MAX)),
        "streams" => keep_all(get_stdout),
        "yields" => loop {
            subscribe_duration(0).block();
        },
        "sleep-most" => subscribe_duration(u64::MAX).block(),
        "clock" => loop {
            black_box(now());
        },
        "recurse-host" => drop(black_box(recurse(0))),
        "config-key" => drop(store::get(&long())),
        _ => return None,
    }
    Some(super::done())
}

fn keep_all<T>(mut make: impl FnMut() -> T) -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(make());
    }
}

#[expect(unconditional_recursion, reason = "what is asked for")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([now().wrapping_add(depth); 64]);
    recurse(depth + 1) + frame.iter().sum::<u64>()
}
