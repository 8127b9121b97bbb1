//! The words that metrics use for how something ended or stands. Each is a closed list, so a label
//! can take no other value. Which HTTP status an outcome becomes is the server's affair.

/// Declares an enum of label values with `ALL`, `as_str` and `Display`.
macro_rules! label_values {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$inner])* $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

label_values! {
    /// A runtime of the process (label `runtime` of `tokio_…`).
    RuntimeName {
        /// The one that serves requests.
        Executor => "executor",
        /// The one in which calls that compute long go on.
        Lane => "lane",
    }
}

label_values! {
    /// How a prediction ended (label `outcome` of `aegis_inference_requests_total`).
    Outcome {
        /// The handler answered.
        Ok => "ok",
        /// The handler, or the shape of the tensors, refused the input.
        InvalidInput => "invalid_input",
        /// The handler does not read this content type.
        UnsupportedMediaType => "unsupported_media_type",
        /// The body was over its limit.
        TooLarge => "too_large",
        /// The version was not loaded, or its handler said it is not ready.
        NotReady => "not_ready",
        /// The model's queue was full.
        Overloaded => "overloaded",
        /// Refused before it ran for another reason: draining, or an open circuit breaker.
        Rejected => "rejected",
        /// The deadline passed, waiting or running.
        Timeout => "timeout",
        /// The handler trapped.
        Trap => "trap",
        /// The handler went over its memory limit.
        OutOfMemory => "out_of_memory",
        /// The handler answered with its own internal failure, or with something unusable.
        HandlerError => "handler_error",
        /// The backend failed to run the graph.
        BackendError => "backend_error",
        /// The caller went away.
        Cancelled => "cancelled",
        /// A fault of the host's own.
        Internal => "internal",
    }
}

impl Outcome {
    /// Whether the prediction got as far as running, so that its time says something about the
    /// model. Those turned away at the door, and those their caller left, have no latency.
    pub const fn ran(self) -> bool {
        !matches!(
            self,
            Self::TooLarge | Self::NotReady | Self::Overloaded | Self::Rejected | Self::Cancelled
        )
    }
}

label_values! {
    /// What stopped a handler (label `reason` of `aegis_handler_traps_total`).
    TrapReason {
        /// `unreachable`: a panic or abort in the guest.
        Unreachable => "unreachable",
        /// A load or store outside the guest's memory.
        MemoryOutOfBounds => "memory_out_of_bounds",
        /// Too deep a recursion.
        StackOverflow => "stack_overflow",
        /// Division by zero, overflow, or a number that does not convert.
        Arithmetic => "arithmetic",
        /// A bad indirect call or table access.
        Table => "table",
        /// The guest called `exit`.
        Exit => "exit",
        /// A host function refused the call.
        HostRefused => "host_refused",
        /// Stopped at its time limit.
        TimeLimit => "time_limit",
        /// Stopped at its memory limit.
        MemoryLimit => "memory_limit",
        /// Any other trap.
        Other => "other",
    }
}

label_values! {
    /// A limit that something was refused for (label `limit` of `aegis_limit_refusals_total`).
    Limit {
        /// WebAssembly memory of an instance.
        Memory => "memory",
        /// Elements of a WebAssembly table.
        TableElements => "table_elements",
        /// Memories, tables and core instances that a component is made of.
        Parts => "parts",
        /// WebAssembly's stack.
        Stack => "stack",
        /// Wall time of a request.
        Timeout => "timeout",
        /// Wall time of `lifecycle.init`, or of a start function.
        InitTimeout => "init_timeout",
        /// Tensors that an instance holds.
        Tensors => "tensors",
        /// Bytes of tensors that an instance holds.
        TensorBytes => "tensor_bytes",
        /// Execution contexts that an instance holds.
        Contexts => "contexts",
        /// Resource handles that an instance holds.
        Handles => "handles",
        /// Bytes handed to the host in one call.
        CallBytes => "call_bytes",
        /// Standard output and error of a request.
        LogBytes => "log_bytes",
        /// What a handler keeps of one session.
        SessionBytes => "session_bytes",
        /// A response.
        ResponseBytes => "response_bytes",
        /// A request's body.
        RequestBytes => "request_bytes",
        /// Bodies of all requests and answers in memory.
        Bodies => "bodies",
        /// Graphs of a model, or networks that an instance loads from bytes.
        Graphs => "graphs",
        /// Files of one graph.
        GraphBytes => "graph_bytes",
        /// Time to load one graph at upload.
        GraphLoadTime => "graph_load_time",
        /// Memory to load one graph at upload.
        GraphLoadMemory => "graph_load_memory",
        /// Time to compile a handler.
        CompileTime => "compile_time",
        /// Memory to compile a handler.
        CompileMemory => "compile_memory",
        /// Requests that wait: for the model, or for one of its graphs.
        Queue => "queue",
        /// WebAssembly memory and tensors of all models together.
        GuestMemory => "guest_memory",
        /// Instances of all models together.
        Instances => "instances",
        /// Uploads under way.
        Uploads => "uploads",
        /// Files and bytes of a package.
        PackageBytes => "package_bytes",
    }
}

label_values! {
    /// Why a session was let go (label `reason` of `aegis_session_evictions_total`).
    SessionEviction {
        /// It was not used for so long.
        Expired => "expired",
        /// It was the least recently used, and there were as many as may be.
        Sessions => "sessions",
        /// It was the least recently used, and all together held as many bytes as they may.
        Bytes => "bytes",
    }
}

label_values! {
    /// Why a version was unloaded (label `reason` of `aegis_model_unloads_total`).
    UnloadReason {
        /// The least recently used, and all together were over the memory budget.
        Budget => "budget",
        /// Other versions of its model took its place.
        Replaced => "replaced",
        /// It was deleted, or its model was.
        Deleted => "deleted",
    }
}

label_values! {
    /// What became of a canary that goes on by itself (label `change` of `aegis_rollout_changes_total`).
    RolloutChange {
        /// It took its next step.
        Advanced => "advanced",
        /// It ended: the version is stable, or keeps the last step's share.
        Ended => "ended",
        /// The version was worse than stable, and gets nothing now.
        Withdrawn => "withdrawn",
    }
}

label_values! {
    /// What became of a request's copy (label `result` of `aegis_shadow_requests_total`).
    ShadowResult {
        /// It was answered as the caller was, byte for byte, or refused for the same kind of reason.
        Same => "same",
        /// Numbers in its JSON are a little apart.
        Close => "close",
        /// It was answered otherwise.
        Different => "different",
        /// The shadow trapped or ran out of time or memory.
        Failed => "failed",
        /// The caller went away before its own answer was there.
        NotCompared => "not_compared",
        /// The shadow had no place free, and was not asked.
        LeftOut => "left_out",
    }
}

/// Where a version's circuit breaker stands, as `aegis_circuit_state` counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum CircuitState {
    /// Traffic flows.
    #[default]
    Closed = 0,
    /// A few requests probe whether the version is well again.
    HalfOpen = 1,
    /// Traffic goes to other versions.
    Open = 2,
}

impl CircuitState {
    /// The word in `/health` and in answers' headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}
