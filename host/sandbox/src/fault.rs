//! How a call can end without an answer from the handler: the named outcomes that the
//! server turns into status codes and the metrics into labels.

use std::time::Duration;

use thiserror::Error;
use wasmtime::{Trap, WasmBacktrace, component::ResourceTableError};

use crate::{
    limits::Denied,
    refusals::{Limit, Refusals},
    text::cut,
};

/// Why a handler gave no answer. None of these says anything about the host: the instance
/// is gone and the next request gets another.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// The guest trapped.
    #[error("the handler trapped: {message}")]
    Trap {
        /// The kind of trap, one of a bounded set.
        reason: TrapReason,
        /// wasmtime's words, or the host function's that refused.
        message: String,
        /// The guest's stack, innermost frame first; empty if there was none.
        backtrace: String,
    },
    /// The guest needed more WebAssembly memory than its limit and could not go on.
    #[error("the handler needs more than its limit of {} MiB of memory", limit_bytes >> 20)]
    OutOfMemory {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// The guest is within its limit, but all guests together hold as much as they may.
    #[error("all handlers together hold the {} MiB of memory that this host has for them", limit_bytes >> 20)]
    HostMemory {
        /// That bound, in bytes.
        limit_bytes: usize,
    },
    /// Time ran out, in the guest or in native compute.
    #[error("no answer within {} ms", limit.as_millis())]
    Timeout {
        /// The time the call was given.
        limit: Duration,
    },
    /// The response was larger than the limit.
    #[error("the handler's response has {bytes} bytes of {part}, over the limit of {limit_bytes}")]
    ResponseTooLarge {
        /// What of it: `body`, `headers`, `tensors`.
        part: &'static str,
        /// The size of that part.
        bytes: usize,
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// Every instance slot of the host was taken until the deadline.
    #[error("no free instance: all {slots} slots of the host are in use")]
    NoFreeInstance {
        /// How many instances the host can hold.
        slots: usize,
    },
    /// The handler has no such export.
    #[error("this model's handler does not export `{export}`")]
    NoSuchExport {
        /// The interface that was called.
        export: &'static str,
    },
}

/// The kinds of trap: a metric label, so a bounded set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrapReason {
    /// `unreachable`: how Rust's panics and aborts end.
    Unreachable,
    /// A load or store outside memory.
    MemoryOutOfBounds,
    /// The stack was used up, usually by recursion.
    StackOverflow,
    /// Integer division by zero, overflow or a bad conversion.
    Arithmetic,
    /// A bad indirect call or table access.
    Table,
    /// The guest called `exit`.
    Exit,
    /// A host function refused the call: a bad handle, too many handles.
    HostRefused,
    /// Anything else.
    Other,
}

impl TrapReason {
    /// Every reason, for metrics that exist from the start.
    pub const ALL: [TrapReason; 8] = [
        TrapReason::Unreachable,
        TrapReason::MemoryOutOfBounds,
        TrapReason::StackOverflow,
        TrapReason::Arithmetic,
        TrapReason::Table,
        TrapReason::Exit,
        TrapReason::HostRefused,
        TrapReason::Other,
    ];

    /// The value of the metric label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            TrapReason::Unreachable => "unreachable",
            TrapReason::MemoryOutOfBounds => "memory_out_of_bounds",
            TrapReason::StackOverflow => "stack_overflow",
            TrapReason::Arithmetic => "arithmetic",
            TrapReason::Table => "table",
            TrapReason::Exit => "exit",
            TrapReason::HostRefused => "host_refused",
            TrapReason::Other => "other",
        }
    }
}

/// The longest message and backtrace that are kept, in bytes: both may quote names that a
/// guest chose, which may be 100,000 bytes long each.
const MAX_MESSAGE: usize = 2 << 10;
const MAX_BACKTRACE: usize = 8 << 10;

/// Raised from the epoch callback when a request's time is over.
#[derive(Clone, Copy, Debug, Error)]
#[error("the request's time is over")]
pub(crate) struct DeadlinePassed;

/// Raised by a host function that cannot say no with an error value.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// How wasmtime words what it refuses a guest at the component's boundary, where its errors
/// have no types of their own, and the limit that this is about.
const BOUNDARY: [(&str, Option<Limit>); 6] = [
    ("store handle limit exceeded", Some(Limit::Handles)),
    (
        "fuel allocated for hostcalls has been exhausted",
        Some(Limit::CallBytes),
    ),
    // A handle that was given away, dropped, never there, or is another resource's by now.
    ("unknown handle index", None),
    ("used with the wrong type", None),
    ("is not a resource", None),
    ("is not an own resource", None),
];

/// Whether wasmtime refused the guest something at the boundary, and for which limit.
fn refused_at_boundary(error: &wasmtime::Error) -> Option<Option<Limit>> {
    if let Some(error) = error.downcast_ref::<ResourceTableError>() {
        return Some(matches!(error, ResourceTableError::Full).then_some(Limit::Handles));
    }
    let words = error.root_cause().to_string();
    BOUNDARY
        .iter()
        .find(|(known, _)| words.contains(known))
        .map(|(_, limit)| *limit)
}

/// Counts the limit that ended a call with `error`, if wasmtime enforces it at the boundary.
pub(crate) fn count_boundary(error: &wasmtime::Error, refusals: &mut Refusals) {
    if let Some(Some(limit)) = refused_at_boundary(error) {
        refusals.ended_by(limit);
    }
}

impl Fault {
    /// One word for it, of a bounded set: what a span failed for.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Fault::Trap { reason, .. } => reason.as_str(),
            Fault::OutOfMemory { .. } => "out_of_memory",
            Fault::HostMemory { .. } => "host_memory",
            Fault::Timeout { .. } => "timeout",
            Fault::ResponseTooLarge { .. } => "response_too_large",
            Fault::NoFreeInstance { .. } => "no_free_instance",
            Fault::NoSuchExport { .. } => "no_such_export",
        }
    }

    /// The limit that this fault is about, if it is about one.
    pub(crate) fn limit(&self) -> Option<Limit> {
        match self {
            Fault::Trap {
                reason: TrapReason::StackOverflow,
                ..
            } => Some(Limit::Stack),
            Fault::OutOfMemory { .. } => Some(Limit::Memory),
            Fault::HostMemory { .. } => Some(Limit::GuestMemory),
            Fault::Timeout { .. } => Some(Limit::Timeout),
            Fault::ResponseTooLarge { .. } => Some(Limit::ResponseBytes),
            Fault::NoFreeInstance { .. } => Some(Limit::Instances),
            Fault::Trap { .. } | Fault::NoSuchExport { .. } => None,
        }
    }
}

/// What a failed call was about. `denied` says that the guest was refused memory.
pub(crate) fn classify(
    error: &wasmtime::Error,
    denied_memory: Option<Denied>,
    memory_limit: usize,
    time_limit: Duration,
) -> Fault {
    if error.is::<DeadlinePassed>() {
        return Fault::Timeout { limit: time_limit };
    }
    let (reason, message) = if let Some(trap) = error.downcast_ref::<Trap>() {
        (trap_reason(*trap), trap.to_string())
    } else if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        (
            TrapReason::Exit,
            format!("called exit with status {}", exit.0),
        )
    } else if error.is::<Refused>() || refused_at_boundary(error).is_some() {
        (TrapReason::HostRefused, error.root_cause().to_string())
    } else {
        (TrapReason::Other, error.root_cause().to_string())
    };
    // An allocator that gets no memory aborts, or (if its language has exceptions) fails in
    // ways of its own. A stack overflow is not one of them.
    if reason != TrapReason::StackOverflow {
        match denied_memory {
            Some(Denied::Own) => {
                return Fault::OutOfMemory {
                    limit_bytes: memory_limit,
                };
            }
            Some(Denied::Host { limit_bytes }) => return Fault::HostMemory { limit_bytes },
            None => {}
        }
    }
    let backtrace = error
        .downcast_ref::<WasmBacktrace>()
        .map(|trace| trace.to_string())
        .unwrap_or_default();
    Fault::Trap {
        reason,
        message: cut(message, MAX_MESSAGE),
        backtrace: cut(backtrace, MAX_BACKTRACE),
    }
}

fn trap_reason(trap: Trap) -> TrapReason {
    match trap {
        Trap::UnreachableCodeReached => TrapReason::Unreachable,
        Trap::MemoryOutOfBounds | Trap::HeapMisaligned => TrapReason::MemoryOutOfBounds,
        Trap::StackOverflow => TrapReason::StackOverflow,
        Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger => {
            TrapReason::Arithmetic
        }
        Trap::TableOutOfBounds | Trap::IndirectCallToNull | Trap::BadSignature => TrapReason::Table,
        _ => TrapReason::Other,
    }
}
