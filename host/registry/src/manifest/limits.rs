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
    /// What it bounds.
    pub doc: &'static str,
}

macro_rules! limits {
    ($($key:ident: $default:literal in $min:literal..=$max:literal, $doc:literal;)+) => {
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
                $(LimitInfo { key: stringify!($key), default: $default, min: $min, max: $max, doc: $doc },)+
            ];

            /// The keys of the table, as the parser wants them.
            pub(super) const KEYS: &[&str] = &[$(stringify!($key)),+];

            /// What holds: each value of this manifest, or its default, but never over the
            /// operator's ceiling where there is one.
            pub fn effective(&self, ceiling: &Limits) -> EffectiveLimits {
                EffectiveLimits {
                    $($key: self.$key.unwrap_or($default).min(ceiling.$key.unwrap_or(u32::MAX)),)+
                }
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
    memory_mib: 256 in 1..=4096, "Wasm memory of one instance, in MiB (4096 is all that 32-bit wasm can address).";
    tensor_mib: 256 in 1..=65536, "Tensors that one instance holds in the host, outside its wasm memory, in MiB.";
    timeout_ms: 1500 in 1..=3600000, "Wall time of one request, wasm and native together, in milliseconds.";
    init_timeout_ms: 10000 in 1..=600000, "Wall time of `lifecycle.init` at upload, in milliseconds.";
    max_concurrency: 16 in 1..=10000, "Requests of this model that run at once.";
    max_queue: 64 in 0..=100000, "Requests of this model that wait while `max_concurrency` run; more are told at once (429).";
    log_kib: 64 in 0..=65536, "Standard output and error kept of one request, in KiB; the rest is dropped and counted.";
    response_mib: 16 in 1..=1024, "Body of one response, in MiB.";
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

    proptest! {
        #[test]
        fn a_ceiling_always_wins(wish in proptest::option::of(any::<u32>()), ceiling in proptest::option::of(any::<u32>())) {
            let wishes = Limits { memory_mib: wish, ..Limits::default() };
            let ceilings = Limits { memory_mib: ceiling, ..Limits::default() };
            let effective = wishes.effective(&ceilings).memory_mib;
            prop_assert!(effective <= ceiling.unwrap_or(u32::MAX));
            prop_assert!(effective == wish.unwrap_or(256) || Some(effective) == ceiling);
        }
    }
}
