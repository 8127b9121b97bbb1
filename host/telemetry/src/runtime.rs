//! Figures of tokio's runtimes, those that tokio calls stable.

use std::fmt;

use opentelemetry::metrics::Meter;
use tokio::runtime::{Handle, RuntimeMetrics};

use crate::gauge::{Fold, GaugeHandle, ObservedGauge};
use crate::label;
use crate::outcome::RuntimeName;
use crate::table::metric;

/// The gauges of all runtimes.
pub(crate) struct RuntimeGauges {
    workers: ObservedGauge,
    tasks: ObservedGauge,
    queue: ObservedGauge,
}

/// Keeps the series of one runtime.
#[must_use = "the runtime's series are gone as soon as their handle is dropped"]
pub struct RuntimeHandle {
    _gauges: [GaugeHandle; 3],
}

impl fmt::Debug for RuntimeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeHandle").finish_non_exhaustive()
    }
}

impl RuntimeGauges {
    pub(crate) fn new(meter: &Meter) -> Self {
        let gauge = |spec| ObservedGauge::new(meter, spec, Fold::Newest);
        Self {
            workers: gauge(&metric::TOKIO_WORKERS),
            tasks: gauge(&metric::TOKIO_TASKS),
            queue: gauge(&metric::TOKIO_QUEUE),
        }
    }

    pub(crate) fn register(&self, name: RuntimeName, runtime: Handle) -> RuntimeHandle {
        let register = |gauge: &ObservedGauge, read: fn(&RuntimeMetrics) -> usize| {
            let metrics = runtime.metrics();
            let labels = label::attributes([("runtime", name.as_str().to_owned())]);
            gauge.register(labels, move || read(&metrics) as f64)
        };
        RuntimeHandle {
            _gauges: [
                register(&self.workers, RuntimeMetrics::num_workers),
                register(&self.tasks, RuntimeMetrics::num_alive_tasks),
                register(&self.queue, RuntimeMetrics::global_queue_depth),
            ],
        }
    }
}
