//! Which traces are recorded, by OpenTelemetry's standard samplers and their names.

use std::fmt;

use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::trace::{Sampler as SdkSampler, SamplingDecision, ShouldSample as _};

/// A standard sampler, by the words of `OTEL_TRACES_SAMPLER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerKind {
    /// Every trace.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A share of them, whatever the caller says.
    TraceIdRatio,
    /// What the caller's trace says; every trace that begins here.
    ParentBasedAlwaysOn,
    /// What the caller's trace says; none that begins here.
    ParentBasedAlwaysOff,
    /// What the caller's trace says; a share of those that begin here.
    ParentBasedTraceIdRatio,
}

impl SamplerKind {
    /// Every sampler.
    pub const ALL: &'static [Self] = &[
        Self::ParentBasedTraceIdRatio,
        Self::ParentBasedAlwaysOn,
        Self::ParentBasedAlwaysOff,
        Self::TraceIdRatio,
        Self::AlwaysOn,
        Self::AlwaysOff,
    ];

    /// The word that names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlwaysOn => "always_on",
            Self::AlwaysOff => "always_off",
            Self::TraceIdRatio => "traceidratio",
            Self::ParentBasedAlwaysOn => "parentbased_always_on",
            Self::ParentBasedAlwaysOff => "parentbased_always_off",
            Self::ParentBasedTraceIdRatio => "parentbased_traceidratio",
        }
    }
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decides which traces are recorded.
#[derive(Clone, Debug)]
pub struct Sampler {
    heeds_parent: bool,
    root: SdkSampler,
}

impl Sampler {
    /// A sampler of this kind. `ratio` is the share of traces, 0 to 1, for those that take one.
    pub fn new(kind: SamplerKind, ratio: f64) -> Self {
        use SamplerKind::{
            AlwaysOff, AlwaysOn, ParentBasedAlwaysOff, ParentBasedAlwaysOn,
            ParentBasedTraceIdRatio, TraceIdRatio,
        };
        Self {
            heeds_parent: matches!(
                kind,
                ParentBasedAlwaysOn | ParentBasedAlwaysOff | ParentBasedTraceIdRatio
            ),
            root: match kind {
                AlwaysOn | ParentBasedAlwaysOn => SdkSampler::AlwaysOn,
                AlwaysOff | ParentBasedAlwaysOff => SdkSampler::AlwaysOff,
                TraceIdRatio | ParentBasedTraceIdRatio => SdkSampler::TraceIdRatioBased(ratio),
            },
        }
    }

    /// Whether a trace is recorded; `parent` is what the caller said of it.
    pub(super) fn samples(&self, trace_id: TraceId, parent: Option<bool>) -> bool {
        if let Some(sampled) = parent.filter(|_| self.heeds_parent) {
            return sampled;
        }
        let result = self
            .root
            .should_sample(None, trace_id, "", &SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }
}
