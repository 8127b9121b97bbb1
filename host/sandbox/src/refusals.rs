//! What was refused for a limit, counted: a guest may swallow a refusal, and its operator
//! should know of it all the same.

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident => $word:literal,)+) => {
        /// The limits that a handler can run into, at upload or while it serves.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum Limit { $($(#[doc = $doc])+ $name,)+ }

        impl Limit {
            /// Every limit, in the order of declaration.
            pub const ALL: &'static [Limit] = &[$(Limit::$name,)+];

            /// The value of the metric label `limit`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Limit::$name => $word,)+ }
            }
        }

        /// How many limits there are.
        const LIMITS: usize = [$(Limit::$name,)+].len();
    };
}

limits! {
    /// WebAssembly memory.
    Memory => "memory",
    /// WebAssembly memory and tensors of all guests together.
    GuestMemory => "guest_memory",
    /// Elements of a WebAssembly table.
    TableElements => "table_elements",
    /// Memories, tables and core instances that a component is made of.
    Parts => "parts",
    /// WebAssembly's part of the stack.
    Stack => "stack",
    /// Wall time of a request.
    Timeout => "timeout",
    /// Wall time of `lifecycle.init`, or of a start function.
    InitTimeout => "init_timeout",
    /// Tensors held at a time.
    Tensors => "tensors",
    /// Bytes of tensors, and of networks loaded from bytes.
    TensorBytes => "tensor_bytes",
    /// Execution contexts held at a time.
    Contexts => "contexts",
    /// Resource handles held at a time.
    Handles => "handles",
    /// Bytes handed to the host in one call.
    CallBytes => "call_bytes",
    /// Standard output and error.
    LogBytes => "log_bytes",
    /// The value kept of one session.
    SessionBytes => "session_bytes",
    /// The response.
    ResponseBytes => "response_bytes",
    /// Networks loaded from bytes.
    Graphs => "graphs",
    /// Bytes of one network loaded from bytes.
    GraphBytes => "graph_bytes",
    /// The queue before a graph's sessions.
    Queue => "queue",
    /// Instances of all handlers together.
    Instances => "instances",
    /// Wall time of compilation.
    CompileTime => "compile_time",
    /// Memory of compilation.
    CompileMemory => "compile_memory",
}

/// How often each limit refused something. Small and flat: one is part of every answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u32; LIMITS]);

impl Refusals {
    /// Counts refusals.
    pub fn add(&mut self, limit: Limit, times: u32) {
        if let Some(count) = self.0.get_mut(limit as usize) {
            *count = count.saturating_add(times);
        }
    }

    /// Counts what ended a call, unless the same was counted on the way there.
    pub fn ended_by(&mut self, limit: Limit) {
        if let Some(count) = self.0.get_mut(limit as usize) {
            *count = (*count).max(1);
        }
    }

    /// The limits that refused something, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Limit, u32)> + '_ {
        Limit::ALL
            .iter()
            .zip(self.0)
            .filter(|(_, times)| *times > 0)
            .map(|(limit, times)| (*limit, times))
    }

    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        *self == Refusals::default()
    }

    /// In words for a log line: `tensors (3), contexts (1)`.
    pub(crate) fn words(&self) -> String {
        let words: Vec<_> = self
            .iter()
            .map(|(limit, times)| format!("{} ({times})", limit.as_str()))
            .collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_call_is_counted_once() {
        let mut refusals = Refusals::default();
        assert!(refusals.is_empty());
        refusals.add(Limit::Timeout, 1);
        refusals.ended_by(Limit::Timeout);
        refusals.ended_by(Limit::Memory);
        let counted: Vec<_> = refusals.iter().collect();
        assert_eq!(counted, [(Limit::Memory, 1), (Limit::Timeout, 1)]);
        assert_eq!(refusals.words(), "memory (1), timeout (1)");
    }
}
