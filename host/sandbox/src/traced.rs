//! Running a graph as a part of a traced request. `inference` knows no traces: it says when things
//! were, and the spans are made here.

use aegis_inference::{ComputeError, Graph, NamedTensor, Terms};
use aegis_telemetry::Trace;

/// As [`Graph::compute`], with the spans `queue` and `compute` in `trace`. A run in place has
/// waited for nothing, and its `queue` is as long.
///
/// # Errors
/// Those of [`Graph::compute`].
pub async fn compute_traced(
    graph: &Graph,
    inputs: Vec<NamedTensor>,
    terms: Terms,
    trace: &Trace,
) -> Result<Vec<NamedTensor>, ComputeError> {
    if !trace.is_recorded() {
        return graph.compute(inputs, terms).await;
    }
    let mut queue = trace.span("queue");
    queue.text("aegis.graph", graph.name());
    let (answer, times) = graph.compute_timed(inputs, terms).await;
    let failed = answer.as_ref().err().map(word);
    let Some(times) = times else {
        if let Some(word) = failed {
            queue.fail(word);
        }
        return answer;
    };
    queue.end_at(times.started);
    let mut compute = trace.span_from("compute", times.started);
    compute.text("aegis.graph", graph.name());
    compute.word("aegis.backend", graph.backend().name());
    compute.number("aegis.batch_size", times.batch_size);
    compute.flag("aegis.in_place", times.in_place);
    if let Some(word) = failed {
        compute.fail(word);
    }
    compute.end_at(times.ended);
    answer
}

/// Why nothing was computed, in the words of the metrics' outcomes where they have one.
fn word(error: &ComputeError) -> &'static str {
    match error {
        ComputeError::InvalidInput(_) => "invalid_input",
        ComputeError::QueueFull { .. } => "overloaded",
        ComputeError::DeadlineExceeded => "timeout",
        ComputeError::Panicked(_) => "panicked",
        ComputeError::Closed => "closed",
        _ => "backend_error",
    }
}
