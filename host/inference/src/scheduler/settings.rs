//! How a graph is scheduled: what its users may set, and what a request may ask for.

use std::time::{Duration, Instant};

/// A run expected to be shorter than this is made on the caller's thread. Handing it to another thread and back costs
/// 10 to 30 µs of wake-ups, and up to about 100 µs a task may hold an executor's thread without others noticing.
pub const IN_PLACE_BOUND: Duration = Duration::from_micros(100);

/// The most requests' bytes that wait for one graph, unless said otherwise.
const QUEUE_BYTES: usize = 256 << 20;

/// How a graph is scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Sessions that run side by side, each with a thread of its own.
    pub sessions: usize,
    /// Requests that may wait.
    pub queue_capacity: usize,
    /// Bytes of input that may wait.
    pub queue_bytes: usize,
    /// Runs expected to be shorter are made on the caller's thread; zero sends every run to a session thread.
    pub in_place_bound: Duration,
    /// Threads that one run uses, of those that all graphs share.
    pub threads: usize,
    /// How requests share runs.
    pub batching: Batching,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sessions: 1,
            queue_capacity: 64,
            queue_bytes: QUEUE_BYTES,
            in_place_bound: IN_PLACE_BOUND,
            threads: 1,
            batching: Batching::default(),
        }
    }
}

/// How requests share runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batching {
    /// Whether they do.
    pub mode: BatchingMode,
    /// The most rows in one run. A request with more is cut if the mode is [`BatchingMode::On`], else it runs alone.
    pub max_rows: u32,
    /// How long the oldest request waits for others while a session is free. Zero: not at all, batches form while
    /// the runs before them are under way.
    pub max_wait: Duration,
    /// Sizes to run at where there is a choice; empty for none. The largest that the waiting rows fill is run at once,
    /// and what fills none waits for `max_wait`.
    pub preferred_rows: Vec<u32>,
    /// Inputs whose batch axis is this one, or that have none (`None`), for whatever the model does not tell.
    pub axes: Vec<(String, Option<usize>)>,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            mode: BatchingMode::Off,
            max_rows: 32,
            max_wait: Duration::ZERO,
            preferred_rows: Vec::new(),
            axes: Vec::new(),
        }
    }
}

/// Whether requests share runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchingMode {
    /// Each runs alone.
    Off,
    /// They do where a trial at load shows that answers do not depend on the company and that it gains time, up to the
    /// number of rows that gains most of it.
    Auto,
    /// They do, as long as their rows can be counted; a trial that shows dependence is a warning.
    On,
}

/// What became of a graph's batching when it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchingState {
    /// The most rows in one run; 1 where requests run alone.
    pub max_rows: u32,
    /// How long the oldest request waits for others.
    pub max_wait: Duration,
    /// Why requests run alone though it was asked otherwise, or because their answers would depend on their company, or
    /// why they should.
    pub warning: Option<String>,
}

/// Which requests go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody is waiting and cannot wait long.
    High,
    /// As most.
    #[default]
    Normal,
    /// Work that can wait: it goes when nothing else does, and now and then otherwise.
    Low,
}

impl Priority {
    /// All, first to go first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The name in requests and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// On what terms a request waits. A deadline alone, or none, converts to the rest's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// When the answer stops being of use.
    pub deadline: Option<Instant>,
    /// Before whom it goes.
    pub priority: Priority,
}

impl From<Option<Instant>> for Terms {
    fn from(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            priority: Priority::default(),
        }
    }
}
