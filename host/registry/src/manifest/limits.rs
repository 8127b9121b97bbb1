//! The limits of a model: every key, its default, its range and its meaning, in one table. The
//! parser, the defaults, an operator's ceilings and the documentation are made from it.

/// What one limit is, for documentation and error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitInfo {
    /// The key in the manifest's `[limits]`; its last word is the unit where there is one.
    pub key: &'static str,
    /// What holds when neither manifest nor operator says otherwise.
    pub default: u32,
    /// The least value a manifest may give.
    pub min: u32,
    /// The greatest value a manifest may give.
    pub max: u32,
    /// What a manifest gets at most where the operator has set no ceiling of their own.
    pub ceiling: u32,
    /// What it bounds.
    pub doc: &'static str,
}

macro_rules! limits {
    ($($key:ident: $default:literal in $min:literal..=$max:literal, ceiling $ceiling:literal, $doc:literal;)+) => {
        /// Limits as written: `None` where nothing was. In a manifest they are wishes; in an
        /// operator's hands they are ceilings.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Limits {
            $(#[doc = $doc] #[serde(default, skip_serializing_if = "Option::is_none")] pub $key: Option<u32>,)+
        }

        /// Limits as they hold: manifest, defaults and ceilings taken together.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
        pub struct EffectiveLimits {
            $(#[doc = $doc] pub $key: u32,)+
        }

        impl Limits {
            /// The table.
            pub const TABLE: &[LimitInfo] = &[
                $(LimitInfo { key: stringify!($key), default: $default, min: $min, max: $max, ceiling: $ceiling, doc: $doc },)+
            ];

            /// The keys of the table, as the parser wants them.
            pub(super) const KEYS: &[&str] = &[$(stringify!($key)),+];

            /// What holds: each value of this manifest, or its default, but never over the
            /// operator's ceiling, which is the table's where the operator says nothing.
            pub fn effective(&self, ceilings: &Limits) -> EffectiveLimits {
                EffectiveLimits {
                    $($key: self.$key.unwrap_or($default).min(ceilings.$key.unwrap_or($ceiling)),)+
                }
            }

            /// The values of this manifest that the operator's ceilings cut, as key, wish and
            /// what is given instead.
            pub fn cut_by(&self, ceilings: &Limits) -> Vec<(&'static str, u32, u32)> {
                let mut cut = Vec::new();
                $(if let Some(wish) = self.$key {
                    let ceiling = ceilings.$key.unwrap_or($ceiling);
                    if wish > ceiling { cut.push((stringify!($key), wish, ceiling)); }
                })+
                cut
            }

            /// Sets the limit `key`; `false` if there is none of that name.
            pub fn set(&mut self, key: &str, value: u32) -> bool {
                match key {
                    $(stringify!($key) => self.$key = Some(value),)+
                    _ => return false,
                }
                true
            }

            /// What is set, by key, in the table's order.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, u32)> {
                [$((stringify!($key), self.$key)),+]
                    .into_iter()
                    .filter_map(|(key, value)| value.map(|value| (key, value)))
            }

            /// Whether nothing is set.
            pub fn is_empty(&self) -> bool {
                *self == Self::default()
            }

            /// Reads every limit through `read`, which is given the table's row.
            pub(super) fn read<E>(mut read: impl FnMut(&LimitInfo) -> Result<Option<u32>, E>) -> Result<Self, E> {
                let mut limits = Self::default();
                let mut rows = Self::TABLE.iter();
                $(if let Some(row) = rows.next() { limits.$key = read(row)?; })+
                Ok(limits)
            }
        }
    };
}

limits! {
    memory_mib: 256 in 1..=4096, ceiling 1024, "Wasm memory of one instance, in MiB (4096 is all that 32-bit wasm can address).";
    memories: 4 in 1..=4, ceiling 4, "Wasm memories of one instance.";
    core_instances: 24 in 1..=24, ceiling 24, "Core wasm instances that one instance is made of.";
    tables: 12 in 0..=12, ceiling 12, "Wasm tables of one instance.";
    table_elements: 65536 in 0..=65536, ceiling 65536, "Elements of one wasm table.";
    timeout_ms: 1500 in 1..=3600000, ceiling 60000, "Wall time of one request, wasm and native together, in milliseconds.";
    init_timeout_ms: 10000 in 1..=600000, ceiling 60000, "Wall time of `lifecycle.init` at upload, and of a start function, in milliseconds.";
    tensor_mib: 256 in 1..=65536, ceiling 1024, "Tensors that one instance holds in the host, outside its wasm memory, in MiB.";
    tensors: 1024 in 1..=65536, ceiling 4096, "Tensors that one instance holds at a time.";
    contexts: 64 in 1..=4096, ceiling 1024, "Execution contexts that one instance holds at a time.";
    handles: 4096 in 16..=65536, ceiling 16384, "Resource handles of any kind (tensors, graphs, contexts, errors, streams) that one instance holds.";
    request_mib: 16 in 1..=4096, ceiling 4096, "Body of one request, in MiB; the server's `max_body_mib` holds too.";
    response_mib: 16 in 1..=1024, ceiling 256, "Body of one response, in MiB.";
    log_kib: 64 in 0..=65536, ceiling 1024, "Standard output and error kept of one request, in KiB; the rest is dropped, with one line that says so.";
    session_kib: 64 in 1..=16384, ceiling 1024, "What the handler keeps of one session between requests, in KiB.";
    sessions: 10000 in 1..=10000000, ceiling 1000000, "Sessions kept of one version; beyond them the least recently used goes.";
    session_mib: 64 in 1..=65536, ceiling 1024, "Sessions kept of one version, all together and keys included, in MiB; beyond it the least recently used goes.";
    session_ttl_s: 600 in 1..=2592000, ceiling 86400, "Time that a session is kept unused, in seconds.";
    graphs: 16 in 1..=64, ceiling 64, "Graphs of this model.";
    graph_mib: 2048 in 1..=65536, ceiling 8192, "Files of one graph, weights included, in MiB.";
    graph_load_ms: 60000 in 100..=3600000, ceiling 600000, "Wall time to parse and warm up one graph when it is checked at upload, in milliseconds.";
    graph_load_mib: 8192 in 64..=1048576, ceiling 16384, "Memory of the process that parses one graph when it is checked at upload, in MiB.";
    compile_ms: 60000 in 100..=3600000, ceiling 300000, "Wall time to compile the handler, in milliseconds.";
    compile_mib: 2048 in 64..=65536, ceiling 4096, "Memory of the process that compiles the handler, in MiB.";
    max_concurrency: 16 in 1..=10000, ceiling 10000, "Requests of this model that run at once, each in an instance of its own.";
    max_queue: 64 in 0..=100000, ceiling 100000, "Requests of this model that wait while `max_concurrency` run; more are told at once (429).";
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_default_is_in_its_own_range() {
        for row in Limits::TABLE {
            assert!((row.min..=row.max).contains(&row.default), "{row:?}");
            assert!((row.default..=row.max).contains(&row.ceiling), "{row:?}");
        }
    }

    #[test]
    fn nothing_said_means_the_defaults() {
        let effective = Limits::default().effective(&Limits::default());
        assert_eq!(
            (
                effective.memory_mib,
                effective.timeout_ms,
                effective.max_concurrency
            ),
            (256, 1500, 16)
        );
        assert_eq!(
            (
                effective.max_queue,
                effective.init_timeout_ms,
                effective.tensor_mib
            ),
            (64, 10000, 256)
        );
        assert_eq!((effective.log_kib, effective.response_mib), (64, 16));
    }

    #[test]
    fn each_row_reads_its_own_key() {
        let limits = Limits::read(|row| Ok::<_, ()>(Some(row.max))).unwrap();
        let written = serde_json::to_value(limits).unwrap();
        for row in Limits::TABLE {
            assert_eq!(written.get(row.key).unwrap(), row.max, "{}", row.key);
        }
    }

    #[test]
    fn a_limit_is_set_by_its_key_and_read_back() {
        for row in Limits::TABLE {
            let mut limits = Limits::default();
            assert!(limits.set(row.key, row.max));
            assert_eq!(limits.entries().collect::<Vec<_>>(), [(row.key, row.max)]);
        }
        assert!(!Limits::default().set("nothing", 1));
    }

    proptest! {
        #[test]
        fn a_ceiling_always_wins(wish in proptest::option::of(any::<u32>()), ceiling in proptest::option::of(any::<u32>())) {
            let wishes = Limits { memory_mib: wish, ..Limits::default() };
            let ceilings = Limits { memory_mib: ceiling, ..Limits::default() };
            let effective = wishes.effective(&ceilings).memory_mib;
            let ceiling = ceiling.unwrap_or(1024);
            prop_assert!(effective <= ceiling);
            prop_assert!(effective == wish.unwrap_or(256) || effective == ceiling);
            let cut = wishes.cut_by(&ceilings);
            prop_assert_eq!(cut.is_empty(), wish.is_none_or(|wish| wish <= ceiling));
        }
    }
}
