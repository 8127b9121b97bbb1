//! What one request might leave for the next, or share with its siblings.
//!
//! | `do` | what happens |
//! |---|---|
//! | `secret` | fills `n` (16) MiB of memory with a secret |
//! | `scan` | takes `n` (32) MiB more memory and looks for the secret in all of it |
//! | `random` | answers 32 secure random bytes |

use std::hint::black_box;

use aegis_guest::{Failure, Response};
use serde_json::json;

pub(crate) fn act(what: &str, n: Option<u64>) -> Option<Result<Response, Failure>> {
    Some(match what {
        "secret" => write_secret(n.unwrap_or(16)),
        "scan" => scan(n.unwrap_or(32)),
        "random" => {
            let bytes = wasip2::random::random::get_random_bytes(32);
            super::answer(json!({ "random": bytes }))
        }
        _ => return None,
    })
}

/// Never in the binary as such, or the scan would find it there.
fn secret() -> u64 {
    black_box(0x5ec4_e7a1_1badu64).rotate_left(17) ^ black_box(0x0123_4567_89ab_cdefu64)
}

fn write_secret(mebibytes: u64) -> Result<Response, Failure> {
    let words = usize::try_from(mebibytes)? << 17;
    black_box(vec![secret(); words]);
    super::answer(json!({ "written": words }))
}

/// Four in a row: one alone is this function's own.
const RUN: usize = 4;

fn scan(mebibytes: u64) -> Result<Response, Failure> {
    let wanted = secret();
    let (mut found, mut row) = (0_u64, 0);
    let words = memory::words(usize::try_from(mebibytes)? << 4);
    let scanned = words.clone().count();
    for word in words {
        row = if word == wanted { row + 1 } else { 0 };
        found += u64::from(row >= RUN);
    }
    super::answer(json!({ "found": found, "scanned": scanned }))
}

#[cfg(target_arch = "wasm32")]
mod memory {
    //! All of memory, as the machine has it.
    #![expect(unsafe_code, reason = "what is asked for")]

    use std::arch::wasm32::{memory_grow, memory_size};

    /// Every aligned word of memory, of `pages` more pages too.
    pub(super) fn words(pages: usize) -> impl Iterator<Item = u64> + Clone {
        memory_grow::<0>(pages);
        let end = memory_size::<0>() << 16;
        (8..end).step_by(8).map(|address| {
            // SAFETY: all of it is this instance's memory, and only read.
            unsafe { (address as *const u64).read_volatile() }
        })
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod memory {
    //! Natively there is nothing to look at.

    pub(super) fn words(_: usize) -> impl Iterator<Item = u64> + Clone {
        std::iter::empty()
    }
}
