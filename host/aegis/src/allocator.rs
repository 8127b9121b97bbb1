//! The program's allocator.

/// Fewer page faults and system calls than the system's allocator under load, and memory
/// that is used again instead of being handed back and faulted in anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's `mi_option_purge_delay`, in milliseconds, which the crate has no name for.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has pages that come free go back to the system at once, instead of a second later, when most threads have
/// nothing more to do with the allocator and so never get to it: what stays then depends on which threads there were. A
/// request's own memory does not come to whole pages. `MIMALLOC_PURGE_DELAY` goes before.
///
/// To be called while the process has one thread.
pub(crate) fn set_up() {
    // SAFETY: takes no pointer; nobody reads the option meanwhile, by the contract above.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, 0) };
}

/// Gives back to the system what is free: what this thread keeps for itself, and all pages that any thread gave up.
/// The allocator itself does so only by the way, every ten thousand of a thread's slower allocations, which in a
/// server at rest is never.
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
        let get = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        // As mimalloc 3 has it when nobody says otherwise; no other option is so.
        assert_eq!(get(), 1000);
        set_up();
        assert_eq!(get(), 0);
    }
}
