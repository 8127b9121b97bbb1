//! Handlers that misbehave, and a few that behave, for the tests of the sandbox and the
//! server. Each file in `examples/` is one component, built by `scripts/handlers.sh guests`
//! into `target/guests/`; `wat/` has components that no toolchain would make.
//!
//! | guest | what it is for |
//! |---|---|
//! | `hostile` | does what the query parameter `do` says; its docs list the words |
//! | `counter` | answers how often its memory was used before: 0 unless state leaks |
//! | `vocabulary` | a good `init`: 100,000 entries, made once and looked up by requests |
//! | `unwell` | a version that fails, traps or is slow as its configuration says |
//! | `init_fails` | an `init` that gives up with a message |
//! | `init_random`, `init_clock` | an `init` that wants what is denied unless granted |
//! | `init_hostile` | an `init` that misbehaves as its configuration says |
//! | `sockets` | imports `wasi:sockets`, which no handler is granted |
//! | `tensors` | `infer` only: gives its tensors back, or runs a graph on them |
//! | `conformance` | `infer` only: runs a graph by `wasi:nn`'s bare bindings |
//!
//! `wat/raw.wat` does what no compiler would let out: every trap there is, and the canonical
//! ABI broken. `hostile.txt` and `raw.txt` list what those two are asked to do and how that
//! must end, for the tests and for the bench.
//!
//! This library is empty: guests share nothing.
