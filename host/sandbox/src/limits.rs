//! The one home of every limit that a handler runs under.
//!
//! The registry parses what a manifest asks for and the server applies the operator's
//! ceilings; what arrives here holds. The limiter that wasmtime asks while it instantiates
//! and while a guest runs is here too.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::ResourceLimiter;

use crate::{
    guest_memory::Share,
    refusals::{Limit, Refusals},
};

/// What one instance of a handler may use, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Graphs that one instance may load from its own bytes, where that is allowed.
    pub graphs: usize,
    /// Bytes of one graph that a handler loads from its own bytes, where that is allowed.
    pub graph_bytes: usize,
    /// Wall time to compile the component.
    pub compile_time: Duration,
    /// Memory of the process that compiles the component, in bytes.
    pub compile_bytes: u64,
}

impl Limits {
    /// What a guest may hand to the host in one call, in bytes: the largest thing that it may
    /// give, and 1 MiB for what stands beside it. Strings and lists may lie over one another
    /// in a guest's memory and are copied as often as they are named, so its memory's size
    /// bounds no call.
    pub(crate) fn call_bytes(&self) -> usize {
        let largest = self.tensor_bytes.min(self.memory_bytes);
        largest.max(self.response_bytes).saturating_add(1 << 20)
    }
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
            graphs: 16,
            graph_bytes: 2 << 30,
            compile_time: Duration::from_secs(60),
            compile_bytes: 2 << 30,
        }
    }
}

/// Holds an instance to its memories, tables and core instances, and remembers that it asked
/// for more memory: a guest whose allocation is refused nearly always traps next, and the
/// caller of that trap should be told about the memory.
pub(crate) struct MemoryLimiter {
    max_bytes: usize,
    max_table_elements: usize,
    max_memories: usize,
    max_tables: usize,
    max_core_instances: usize,
    used: usize,
    share: Share,
    denied: u32,
    denied_by_host: u32,
    denied_table: u32,
}

/// Why a guest was refused memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It asked for more than its own limit.
    Own,
    /// All guests together hold as much as they may.
    Host {
        /// That bound, in bytes.
        limit_bytes: usize,
    },
}

impl MemoryLimiter {
    pub(crate) fn new(limits: &Limits, share: Share) -> Self {
        MemoryLimiter {
            share,
            denied_by_host: 0,
            max_bytes: limits.memory_bytes,
            max_table_elements: limits.table_elements,
            max_memories: limits.memories,
            max_tables: limits.tables,
            max_core_instances: limits.core_instances,
            used: 0,
            denied: 0,
            denied_table: 0,
        }
    }

    /// What the instance's memories take together, in bytes.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Whether the guest was refused memory, and why.
    pub(crate) fn denied(&self) -> Option<Denied> {
        if self.denied > 0 {
            Some(Denied::Own)
        } else if self.denied_by_host > 0 {
            Some(Denied::Host {
                limit_bytes: self.share.limit(),
            })
        } else {
            None
        }
    }

    /// Moves what was refused to `refusals`.
    pub(crate) fn report(&mut self, refusals: &mut Refusals) {
        refusals.add(Limit::Memory, std::mem::take(&mut self.denied));
        refusals.add(Limit::GuestMemory, std::mem::take(&mut self.denied_by_host));
        refusals.add(Limit::TableElements, std::mem::take(&mut self.denied_table));
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
            self.denied = self.denied.saturating_add(1);
            return Ok(false);
        }
        if !self.share.cover(total) {
            self.denied_by_host = self.denied_by_host.saturating_add(1);
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
            self.denied_table = self.denied_table.saturating_add(1);
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.max_core_instances
    }

    fn tables(&self) -> usize {
        self.max_tables
    }

    fn memories(&self) -> usize {
        self.max_memories
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::guest_memory::GuestMemory;

    #[test]
    fn memories_are_limited_by_their_sum() {
        let mut limiter = MemoryLimiter::new(
            &Limits {
                memory_bytes: 100,
                ..Limits::default()
            },
            GuestMemory::unbounded().share(),
        );
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert_eq!(limiter.denied(), None);
        assert!(!limiter.memory_growing(40, 41, None).unwrap());
        assert_eq!(limiter.denied(), Some(Denied::Own));

        let mut refusals = Refusals::default();
        limiter.report(&mut refusals);
        assert_eq!(refusals.iter().collect::<Vec<_>>(), [(Limit::Memory, 1)]);
        assert_eq!(limiter.denied(), None);
    }

    #[test]
    fn a_table_has_its_own_limit() {
        let mut limiter = MemoryLimiter::new(
            &Limits {
                table_elements: 10,
                ..Limits::default()
            },
            GuestMemory::unbounded().share(),
        );
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(10, 11, None).unwrap());
        assert_eq!(limiter.denied(), None, "that was no memory");
    }

    #[test]
    fn a_guest_within_its_limit_may_find_the_hosts_memory_taken() {
        let memory = GuestMemory::new(8 << 20);
        let mut first = MemoryLimiter::new(&Limits::default(), memory.share());
        let mut second = MemoryLimiter::new(&Limits::default(), memory.share());
        assert!(first.memory_growing(0, 6 << 20, None).unwrap());
        assert!(!second.memory_growing(0, 3 << 20, None).unwrap());
        let limit_bytes = 8 << 20;
        assert_eq!(second.denied(), Some(Denied::Host { limit_bytes }));
        drop(first);
        assert!(second.memory_growing(0, 3 << 20, None).unwrap());
    }
}
