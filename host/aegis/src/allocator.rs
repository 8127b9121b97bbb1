//! The program's allocator.

/// Fewer page faults and system calls than the system's allocator under load, and memory
/// that is used again instead of being handed back and faulted in anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives back to the system what is free: what this thread keeps for itself, and all pages that any thread gave up.
/// The allocator itself does so only by the way, every ten thousand of a thread's slower allocations, which in a
/// server at rest is never.
pub(crate) fn give_back() {
    // SAFETY: takes no pointer; any thread may call it at any time.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
