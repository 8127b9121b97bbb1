//! The one home of every limit that a handler runs under.
//!
//! The registry parses what a manifest asks for and the server applies the operator's
//! ceilings; what arrives here holds. The memory limiter is here too, as it is the only
//! limit that wasmtime asks about while a guest runs.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// What one instance of a handler may use, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// WebAssembly linear memory of one instance, in bytes.
    pub memory_bytes: usize,
    /// Wall time of one request, WebAssembly and native compute together.
    pub timeout: Duration,
    /// Wall time of `lifecycle.init`, once, at upload.
    pub init_timeout: Duration,
    /// Host memory held by one instance's tensors, in bytes. They live outside
    /// WebAssembly memory, so `memory_bytes` does not see them.
    pub tensor_bytes: usize,
    /// What one request may write to standard output and error together, in bytes. What
    /// goes beyond is dropped, with one line that says so.
    pub log_bytes: usize,
    /// The body of one response, in bytes.
    pub response_bytes: usize,
    /// Resource handles (tensors, graphs, contexts, streams) that one instance may hold.
    pub handles: usize,
    /// Tensors that one instance may hold.
    pub tensors: usize,
    /// Execution contexts that one instance may hold.
    pub contexts: usize,
    /// Elements of one WebAssembly table.
    pub table_elements: usize,
    /// WebAssembly tables of one instance.
    pub tables: usize,
    /// WebAssembly memories of one instance.
    pub memories: usize,
    /// Core instances that one instance is made of.
    pub core_instances: usize,
    /// Bytes of one graph that a handler loads from its own bytes, where that is allowed.
    pub graph_bytes: usize,
    /// Wall time to compile the component.
    pub compile_time: Duration,
    /// Memory of the process that compiles the component, in bytes.
    pub compile_bytes: u64,
}

impl Default for Limits {
    /// The defaults of a manifest that says nothing.
    fn default() -> Self {
        Limits {
            memory_bytes: 256 << 20,
            timeout: Duration::from_millis(1500),
            init_timeout: Duration::from_secs(10),
            tensor_bytes: 256 << 20,
            log_bytes: 64 << 10,
            response_bytes: 16 << 20,
            handles: 4096,
            tensors: 1024,
            contexts: 64,
            table_elements: 65_536,
            tables: 12,
            memories: 4,
            core_instances: 24,
            graph_bytes: 2 << 30,
            compile_time: Duration::from_secs(60),
            compile_bytes: 2 << 30,
        }
    }
}

/// Holds an instance to its memory and remembers that it asked for more: a guest whose
/// allocation is refused nearly always traps next, and the caller of that trap should be
/// told about the memory.
pub(crate) struct MemoryLimiter {
    max_bytes: usize,
    max_table_elements: usize,
    used: usize,
    denied: bool,
}

impl MemoryLimiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        MemoryLimiter {
            max_bytes: limits.memory_bytes,
            max_table_elements: limits.table_elements,
            used: 0,
            denied: false,
        }
    }

    /// Whether the guest has asked for more than it may have.
    pub(crate) fn denied(&self) -> bool {
        self.denied
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // A component may have several memories: the limit is on their sum.
        let total = self.used.saturating_sub(current).saturating_add(desired);
        if total > self.max_bytes {
            self.denied = true;
            return Ok(false);
        }
        self.used = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.max_table_elements {
            self.denied = true;
            return Ok(false);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn memories_are_limited_by_their_sum() {
        let mut limiter = MemoryLimiter::new(&Limits {
            memory_bytes: 100,
            ..Limits::default()
        });
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(!limiter.denied());
        assert!(!limiter.memory_growing(40, 41, None).unwrap());
        assert!(limiter.denied());
    }
}
