//! Gauges that are read when somebody looks. Whoever knows a value registers how to read it and
//! keeps a [`GaugeHandle`]; the series is there while the handle lives and gone at the next scrape
//! after it is dropped. (A gauge that is written instead can never be taken back: OpenTelemetry
//! would export its last value for ever, and a deleted version would look loaded.)

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use parking_lot::Mutex;

use crate::table::MetricSpec;

/// What to make of two sources with the same labels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fold {
    /// They hold parts of one amount (queues of two versions of a model).
    Sum,
    /// The later one replaces the earlier (a version that was loaded again).
    Newest,
}

struct Source {
    labels: Vec<KeyValue>,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
}

#[derive(Default)]
struct Sources {
    next: u64,
    /// Ordered by age, so that "newest" is "last".
    by_id: BTreeMap<u64, Source>,
}

/// One gauge of the table and those who know its values.
#[derive(Clone)]
pub(crate) struct ObservedGauge {
    sources: Arc<Mutex<Sources>>,
}

impl ObservedGauge {
    pub(crate) fn new(meter: &Meter, spec: &MetricSpec, fold: Fold) -> Self {
        let sources = Arc::new(Mutex::new(Sources::default()));
        let read = Arc::clone(&sources);
        // The meter keeps the callback; the instrument itself is only a token.
        let _token = meter
            .f64_observable_gauge(spec.name)
            .with_description(spec.help)
            .with_unit(spec.unit)
            .with_callback(move |observer| {
                let sources = read.lock();
                let mut values: HashMap<&[KeyValue], f64> = HashMap::new();
                for source in sources.by_id.values() {
                    let value = (source.read)();
                    let entry = values.entry(&source.labels).or_insert(0.0);
                    *entry = match fold {
                        Fold::Sum => *entry + value,
                        Fold::Newest => value,
                    };
                }
                for (labels, value) in values {
                    observer.observe(value, labels);
                }
            })
            .build();
        Self { sources }
    }

    pub(crate) fn register(
        &self,
        labels: Vec<KeyValue>,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> GaugeHandle {
        let mut sources = self.sources.lock();
        let id = sources.next;
        sources.next += 1;
        sources.by_id.insert(
            id,
            Source {
                labels,
                read: Box::new(read),
            },
        );
        GaugeHandle {
            id,
            sources: Arc::clone(&self.sources),
        }
    }
}

/// Keeps one source of a gauge registered; dropping it takes the source away.
#[must_use = "the gauge's series is gone as soon as its handle is dropped"]
pub struct GaugeHandle {
    id: u64,
    sources: Arc<Mutex<Sources>>,
}

impl fmt::Debug for GaugeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GaugeHandle")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Drop for GaugeHandle {
    fn drop(&mut self) {
        let source = self.sources.lock().by_id.remove(&self.id);
        // What the closure holds may do anything when dropped: not under our lock.
        drop(source);
    }
}
