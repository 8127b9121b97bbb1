//! What happens when a limit is exceeded, limit by limit: what the handler sees, what the
//! caller is answered, what is counted. `docs/limits.md` is made from it, beside the table of
//! what a manifest may ask for (`aegis_registry::manifest::Limits::TABLE`) and the operator's
//! settings.

use aegis_telemetry::Limit;

/// What going over a limit comes to.
#[derive(Clone, Copy, Debug)]
pub struct LimitOutcome {
    /// The keys of a manifest's `[limits]`, or of settings, that set it.
    pub keys: &'static [&'static str],
    /// What the handler sees and can act on; empty where there is no handler yet, or none
    /// that runs on.
    pub handler: &'static str,
    /// Status and code of the answer, when it shows in the answer.
    pub answer: &'static str,
    /// What it is counted as (label `limit` of `aegis_limit_refusals_total`), where it is.
    pub counted: Option<Limit>,
}

const fn row(
    keys: &'static [&'static str],
    handler: &'static str,
    answer: &'static str,
    counted: Limit,
) -> LimitOutcome {
    LimitOutcome {
        keys,
        handler,
        answer,
        counted: Some(counted),
    }
}

/// What limits that are not counted one by one come to.
const fn uncounted(keys: &'static [&'static str], answer: &'static str) -> LimitOutcome {
    LimitOutcome {
        keys,
        handler: "",
        answer,
        counted: None,
    }
}

/// Every limit: a manifest's in its table's order, then the operator's own.
pub const LIMIT_OUTCOMES: &[LimitOutcome] = &[
    row(
        &["memory_mib"],
        "`memory.grow` gives -1; most languages then abort",
        "500 `handler_out_of_memory` if it ends there; at upload 422 `initial_memory_too_large`, `init_failed` or `start_failed`",
        Limit::Memory,
    ),
    row(
        &["memories", "core_instances", "tables"],
        "",
        "at upload 422 `too_many_parts`",
        Limit::Parts,
    ),
    row(
        &["table_elements"],
        "`table.grow` gives -1",
        "500 `handler_trap` if it ends there; at upload 422 `initial_table_too_large`",
        Limit::TableElements,
    ),
    row(
        &["timeout_ms", "request_timeout_ms"],
        "`compute` and `load` give `timeout`; else the handler is stopped",
        "504 `timeout`; 408 `request_timeout` if the body was not there by then",
        Limit::Timeout,
    ),
    row(
        &["init_timeout_ms"],
        "stopped",
        "at upload 422 `init_failed` or `start_failed`",
        Limit::InitTimeout,
    ),
    row(
        &["tensor_mib"],
        "`compute` and `load` give `too-large`",
        "the handler's",
        Limit::TensorBytes,
    ),
    row(
        &["tensors"],
        "`compute` gives `too-large`",
        "the handler's",
        Limit::Tensors,
    ),
    row(
        &["contexts"],
        "`init-execution-context` gives `too-large`",
        "the handler's",
        Limit::Contexts,
    ),
    row(
        &["handles"],
        "a trap: a constructor has no error to give",
        "500 `handler_trap`, reason `host_refused`",
        Limit::Handles,
    ),
    row(
        &["request_mib", "max_body_mib"],
        "",
        "413 `body_too_large`",
        Limit::RequestBytes,
    ),
    row(
        &["response_mib"],
        "",
        "500 `response_too_large`; so for headers over 32 KiB together",
        Limit::ResponseBytes,
    ),
    row(
        &["log_kib"],
        "nothing: the rest is dropped, with one line that says so",
        "the handler's",
        Limit::LogBytes,
    ),
    row(
        &["session_kib"],
        "`sessions.set` gives `too-large`, so for what is larger than `session_mib` by itself",
        "the handler's",
        Limit::SessionBytes,
    ),
    uncounted(
        &["sessions", "session_mib"],
        "none: the least recently used sessions go (`aegis_session_evictions_total`)",
    ),
    uncounted(
        &["session_ttl_s"],
        "none: the session is gone (`aegis_session_evictions_total`)",
    ),
    row(
        &["graphs"],
        "where `allow_graph_bytes` is on, `load` gives `too-large` beyond so many of an instance's own",
        "at upload 422 `too_many_graphs`",
        Limit::Graphs,
    ),
    row(
        &["graph_mib"],
        "where `allow_graph_bytes` is on, `load` gives `too-large`",
        "at upload 422 `graph_too_large`",
        Limit::GraphBytes,
    ),
    row(
        &["graph_load_ms"],
        "",
        "at upload 422 `graph_timeout`",
        Limit::GraphLoadTime,
    ),
    row(
        &["graph_load_mib"],
        "",
        "at upload 422 `graph_memory`",
        Limit::GraphLoadMemory,
    ),
    row(
        &["compile_ms"],
        "",
        "at upload 422 `compile_timeout`",
        Limit::CompileTime,
    ),
    row(
        &["compile_mib"],
        "",
        "at upload 422 `compile_memory`",
        Limit::CompileMemory,
    ),
    uncounted(
        &["max_concurrency", "predict_max_concurrency"],
        "none: requests beyond it wait",
    ),
    row(
        &["max_queue", "predict_max_queue"],
        "a graph's own queue, as long as `max_concurrency`: `compute` gives `runtime-error` with `overloaded:`",
        "429 `overloaded`",
        Limit::Queue,
    ),
    row(
        &["max_stack_kib"],
        "a trap",
        "500 `handler_trap`, reason `stack_overflow`",
        Limit::Stack,
    ),
    row(
        &["max_instances"],
        "",
        "503 `no_free_instance`, when none came free in the request's time",
        Limit::Instances,
    ),
    row(
        &["guest_memory_mib"],
        "memory.grow gives -1; wasi:nn `runtime-error` with data `overloaded: …`; `sessions.set` gives `no-room`",
        "503 `no_memory`, or 429 `overloaded` where the handler passes the error on",
        Limit::GuestMemory,
    ),
    row(&["max_bodies_mib"], "", "503 `no_room`", Limit::Bodies),
    row(
        &["max_concurrent_uploads"],
        "",
        "429 `too_many_uploads`",
        Limit::Uploads,
    ),
    row(
        &["max_upload_mib"],
        "",
        "413 `package_too_large` or `file_too_large`; so for `too_many_files` and `manifest_too_large`",
        Limit::PackageBytes,
    ),
    uncounted(&["upload_idle_timeout_ms"], "408 `upload_stalled`"),
    uncounted(&["max_header_kib"], "431"),
    uncounted(&["header_read_timeout_ms"], "the connection is closed"),
    uncounted(&["max_connections"], "none: connections beyond it wait"),
    row(
        &[],
        "a trap: one call handed over more than the larger of `tensor_mib` and `response_mib`, and 1 MiB",
        "500 `handler_trap`, reason `host_refused`",
        Limit::CallBytes,
    ),
];

#[cfg(test)]
mod tests {
    use aegis_registry::manifest::Limits;

    use super::*;

    fn rows_with(key: &str) -> usize {
        let has = |row: &&LimitOutcome| row.keys.contains(&key);
        LIMIT_OUTCOMES.iter().filter(has).count()
    }

    #[test]
    fn every_limit_of_a_manifest_has_one_outcome() {
        for row in Limits::TABLE {
            assert_eq!(rows_with(row.key), 1, "{}", row.key);
        }
    }

    #[test]
    fn every_word_that_refusals_are_counted_as_is_of_one_limit() {
        for limit in Limit::ALL {
            let counted = LIMIT_OUTCOMES
                .iter()
                .filter(|row| row.counted == Some(*limit))
                .count();
            assert_eq!(counted, 1, "{limit}");
        }
    }
}
