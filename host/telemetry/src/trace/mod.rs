//! Traces: which requests are recorded, where a request stands in its trace, and its spans.
//!
//! A [`Tracer`] begins a request's [`Span`] from its headers; from a span comes the [`Trace`] that
//! is handed along to whoever does a part of the work. It is handed along as a value, and not kept
//! in the task or thread, since a request's work moves: to the sandbox's lane, to a session's
//! thread. Of a request that is not recorded there are no more than its ids, in place, so that
//! a span that nobody will see costs a branch.
//!
//! Spans are made here and given to the exporter as they are. The SDK's own tracer would do the
//! same behind a lock and several allocations a span, sampled or not.

mod context;
mod current;
mod sampler;
mod span;
mod tracer;

pub use context::SpanIds;
pub(crate) use current::current;
pub use current::{doing_in_this_trace, in_this_trace};
pub use sampler::{Sampler, SamplerKind};
pub use span::{Span, Trace};
pub use tracer::Tracer;

#[cfg(test)]
mod tests;
