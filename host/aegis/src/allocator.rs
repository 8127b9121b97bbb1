//! The program's allocator.

/// Fewer page faults and system calls than the system's allocator under load, and memory
/// that is used again instead of being handed back and faulted in anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's `mi_option_generic_collect`, which the crate has no name for.
const GENERIC_COLLECT: libmimalloc_sys::mi_option_t = 34;

/// Has each thread look through what it keeps every thousandth of its slower allocations, instead of every ten
/// thousandth: under a light load that is now and then instead of never, and a server whose versions come and go holds a
/// quarter less. That pages go back at once (`MIMALLOC_PURGE_DELAY=0`) does as much, and doubles what requests of
/// megabytes cost. `MIMALLOC_GENERIC_COLLECT` goes before.
///
/// To be called while the process has one thread.
pub(crate) fn set_up() {
    // SAFETY: takes no pointer; nobody reads the option meanwhile, by the contract above.
    unsafe { libmimalloc_sys::mi_option_set_default(GENERIC_COLLECT, 1000) };
}

/// Gives back to the system what is free: what this thread keeps for itself, and all pages that any thread gave up.
/// The allocator itself does so only by the way, every so many of a thread's slower allocations, which in a server at
/// rest is never.
pub(crate) fn give_back() {
    // SAFETY: takes no pointer; any thread may call it at any time.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: takes no pointer. Tests have threads, which at worst read either value.
        let get = || unsafe { libmimalloc_sys::mi_option_get(GENERIC_COLLECT) };
        // As mimalloc 3 has it when nobody says otherwise; no other option is so.
        assert_eq!(get(), 10_000);
        set_up();
        assert_eq!(get(), 1000);
    }
}
