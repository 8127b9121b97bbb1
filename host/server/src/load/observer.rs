//! What the schedulers of graphs report, as metrics.

use std::sync::{Arc, OnceLock};

use aegis_inference::{BackendKind, Observer, RunReport};
use aegis_telemetry::{GraphMetrics, Telemetry};

/// Turns the scheduler's reports into metrics. The handle is made at the first report, as
/// only then is it known which backend serves.
pub(super) struct GraphObserver {
    telemetry: Arc<Telemetry>,
    model: String,
    metrics: OnceLock<GraphMetrics>,
}

impl GraphObserver {
    pub(super) fn new(telemetry: Arc<Telemetry>, model: &str) -> GraphObserver {
        GraphObserver {
            telemetry,
            model: model.to_owned(),
            metrics: OnceLock::new(),
        }
    }

    /// The backend is known once the graph is loaded.
    pub(super) fn metrics(&self, graph: &str, backend: BackendKind) -> &GraphMetrics {
        self.metrics.get_or_init(|| {
            let inference = self.telemetry.inference();
            inference.graph(&self.model, graph, backend.name())
        })
    }
}

impl Observer for GraphObserver {
    fn ran(&self, report: RunReport<'_>) {
        self.metrics(report.graph, report.backend).ran(
            report.batch_size,
            report.queue,
            report.compute,
        );
    }
}
