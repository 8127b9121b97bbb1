//! One run of a request on one version: its turn, its handler, and what that came to, for the caller, the metrics, the
//! trace and the version's breaker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_inference::Priority;
use aegis_sandbox::{
    Call, Failure, Fault, Outcome as Ended, Request as Prediction, Response as Predicted, Signals,
};
use aegis_telemetry::{Outcome, Trace, TrapReason};
use axum::response::Response;

use super::{app::App, error::ApiError, outgoing::to_http};
use crate::{
    admission::Permit,
    breaker::{Passage, Verdict},
    load::limit_label,
    traffic::shadow,
    version::LoadedVersion,
};

/// What a run came to.
pub(crate) struct Run {
    pub(crate) answer: Result<Response, ApiError>,
    pub(crate) outcome: Outcome,
    pub(crate) end: End,
}

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It had no turn.
    Refused,
    /// The version failed, by no fault of the caller's.
    Failed,
    /// The version answered, or had every right not to.
    Answered,
}

/// What is asked of a version.
pub(crate) struct Asked<'a> {
    pub(crate) app: &'a App,
    pub(crate) id: &'a Arc<str>,
    pub(crate) trace: &'a Trace,
    pub(crate) priority: Priority,
    /// When nobody waits for an answer any more.
    pub(crate) deadline: Instant,
    pub(crate) prediction: Arc<Prediction>,
}

impl Asked<'_> {
    /// Has `version` answer, which the traffic rule `dealt` the request to or did not. `shadow` gets a copy.
    pub(crate) async fn of(
        &self,
        version: &LoadedVersion,
        dealt: bool,
        passage: Option<Passage>,
        shadow: Option<Arc<LoadedVersion>>,
        mut counted: Counted<'_>,
    ) -> Run {
        let came = Instant::now();
        let deadline = self.deadline.min(came + version.timeout);
        let permit = match self.turn(version, deadline).await {
            Ok(permit) => permit,
            Err(error) => {
                count_refusal(version, &error);
                let outcome = refused_outcome(&error);
                counted.end(outcome);
                return Run {
                    answer: Err(error),
                    outcome,
                    end: End::Refused,
                };
            }
        };
        let call = Call {
            request_id: Arc::clone(self.id),
            deadline: Some(deadline),
            priority: self.priority,
            trace: self.trace.clone(),
        };
        let copy = shadow
            .map(|shadow| shadow::send(shadow, &call, &self.prediction, self.app.bodies.hold()));
        let begun = Instant::now();
        let ended = version
            .predictor
            .predict(&call, Arc::clone(&self.prediction))
            .await;
        let took = begun.elapsed();
        if let Some(copy) = copy {
            copy.compare_with(&ended.result);
        }
        tell_metrics(version, self.id, &ended);
        if matches!(ended.result, Ok(Ok(_))) {
            permit.answered();
        }
        let (outcome, answer) = self.answer(version, ended.result);
        let whole = version.timeout.min(self.app.config.request_timeout);
        let verdict = verdict(outcome, took, deadline - begun, whole);
        // Those that the rule dealt out are alike but for the version.
        if dealt && !matches!(verdict, Verdict::NotCounted) {
            let failed = matches!(verdict, Verdict::Failure { .. });
            version.observed.record(failed, came.elapsed());
        }
        if let Some(passage) = passage {
            passage.end(verdict);
        }
        counted.end(outcome);
        let end = match verdict {
            Verdict::Failure { .. } => End::Failed,
            Verdict::Success { .. } | Verdict::NotCounted => End::Answered,
        };
        Run {
            answer,
            outcome,
            end,
        }
    }

    /// Waits for a place in the version.
    async fn turn(&self, version: &LoadedVersion, deadline: Instant) -> Result<Permit, ApiError> {
        let mut span = self.trace.span("admission");
        let admitted = version.admission.enter(deadline).await;
        admitted.map_err(|refusal| {
            let error = ApiError::from(refusal);
            span.fail(error.code);
            error
        })
    }

    /// What a run came to.
    fn answer(
        &self,
        version: &LoadedVersion,
        result: Result<Result<Predicted, Failure>, Fault>,
    ) -> (Outcome, Result<Response, ApiError>) {
        match result {
            Ok(Ok(response)) => match to_http(response, self.app, version, self.id) {
                Ok(response) => (Outcome::Ok, Ok(response)),
                Err(error) if error.code == "no_room" => {
                    count_refusal(version, &error);
                    (Outcome::Overloaded, Err(error))
                }
                Err(error) => (Outcome::HandlerError, Err(error)),
            },
            Ok(Err(failure)) => {
                if let Failure::Internal(message) = &failure {
                    tracing::error!(
                        model = %version.name,
                        version = version.version.get(),
                        request_id = %self.id,
                        "the handler reported: {message}"
                    );
                }
                let outcome = failure_outcome(&failure);
                let mut error = ApiError::from(failure);
                if outcome == Outcome::Overloaded {
                    error = error.retry_after(version.admission.retry_after());
                }
                (outcome, Err(error))
            }
            Err(fault) => {
                if let Some(reason) = trap_reason(&fault) {
                    version.metrics.trap(reason);
                }
                (fault_outcome(&fault), Err(ApiError::from(fault)))
            }
        }
    }
}

/// What a run that ended so says about its version. Running out of time says something only where there was time: at
/// least half of what the version gives a request, not what a queue or a caller in a hurry left of it.
fn verdict(outcome: Outcome, took: Duration, given: Duration, whole: Duration) -> Verdict {
    match outcome {
        Outcome::Ok => Verdict::Success { took },
        Outcome::Trap
        | Outcome::OutOfMemory
        | Outcome::HandlerError
        | Outcome::BackendError
        | Outcome::NotReady
        | Outcome::Internal => Verdict::Failure { took },
        Outcome::Timeout if given >= whole / 2 => Verdict::Failure { took },
        Outcome::Timeout
        | Outcome::InvalidInput
        | Outcome::UnsupportedMediaType
        | Outcome::TooLarge
        | Outcome::Overloaded
        | Outcome::Rejected
        | Outcome::Cancelled => Verdict::NotCounted,
    }
}

fn tell_metrics(version: &LoadedVersion, id: &str, ended: &Ended<Predicted>) {
    if let Some(took) = ended.instantiate {
        version.metrics.instantiated(took);
    }
    for (limit, times) in ended.refusals.iter() {
        version.metrics.refused(limit_label(limit), times);
    }
    report(version, id, &ended.signals);
}

/// Safety flags into metrics, and what was signalled into the log.
fn report(version: &LoadedVersion, id: &str, signals: &Signals) {
    for flag in &signals.flags {
        version.metrics.safety_flag(flag);
    }
    if !signals.flags.is_empty() {
        tracing::info!(
            model = %version.name,
            version = version.version.get(),
            request_id = %id,
            flags = ?signals.flags,
            "safety flags"
        );
    }
    if !signals.values.is_empty() {
        tracing::debug!(
            model = %version.name,
            version = version.version.get(),
            request_id = %id,
            values = ?signals.values,
            "values"
        );
    }
}

/// Counts the limit that turned a request away before its handler saw it.
pub(crate) fn count_refusal(version: &LoadedVersion, error: &ApiError) {
    if let Some(limit) = error.limit {
        version.metrics.refused(limit, 1);
    }
}

/// Counts what a request came to at a version, once; cancelled, which the trace is told too, if its caller goes away first.
pub(crate) struct Counted<'a> {
    version: Arc<LoadedVersion>,
    trace: &'a Trace,
    /// When its body was there.
    arrived: Option<Instant>,
    ended: bool,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(version: &Arc<LoadedVersion>, trace: &'a Trace) -> Counted<'a> {
        Counted {
            version: Arc::clone(version),
            trace,
            arrived: None,
            ended: false,
        }
    }

    /// Its time begins, at this version's door.
    pub(crate) fn arrives(&mut self, version: &Arc<LoadedVersion>) {
        self.version = Arc::clone(version);
        self.arrived = Some(Instant::now());
    }

    /// It is no request of the version's after all.
    pub(crate) fn waive(mut self) {
        self.ended = true;
    }

    pub(crate) fn end(&mut self, outcome: Outcome) {
        self.ended = true;
        let latency = self.arrived.map(|arrived| arrived.elapsed());
        self.version
            .metrics
            .request(outcome, latency.unwrap_or_default());
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.trace.ended(Outcome::Cancelled);
            self.end(Outcome::Cancelled);
        }
    }
}

pub(crate) fn refused_outcome(error: &ApiError) -> Outcome {
    match error.code {
        "body_too_large" => Outcome::TooLarge,
        "overloaded" | "no_room" => Outcome::Overloaded,
        "timeout" | "request_timeout" => Outcome::Timeout,
        "incomplete_body" => Outcome::Cancelled,
        _ => Outcome::Rejected,
    }
}

fn failure_outcome(failure: &Failure) -> Outcome {
    match failure {
        Failure::InvalidInput(_) => Outcome::InvalidInput,
        Failure::UnsupportedMediaType(_) => Outcome::UnsupportedMediaType,
        Failure::TooLarge(_) => Outcome::TooLarge,
        Failure::Overloaded(_) => Outcome::Overloaded,
        Failure::NotReady(_) => Outcome::NotReady,
        Failure::Timeout(_) => Outcome::Timeout,
        Failure::Internal(_) => Outcome::HandlerError,
    }
}

fn fault_outcome(fault: &Fault) -> Outcome {
    match fault {
        Fault::Trap { .. } => Outcome::Trap,
        Fault::OutOfMemory { .. } => Outcome::OutOfMemory,
        Fault::Timeout { .. } => Outcome::Timeout,
        Fault::NoFreeInstance { .. } | Fault::HostMemory { .. } => Outcome::Overloaded,
        Fault::ResponseTooLarge { .. } | Fault::NoSuchExport { .. } => Outcome::HandlerError,
    }
}

/// The sandbox's word for a trap as the metrics'.
fn trap_reason(fault: &Fault) -> Option<TrapReason> {
    let word = match fault {
        Fault::Trap { reason, .. } => reason.as_str(),
        Fault::OutOfMemory { .. } => TrapReason::MemoryLimit.as_str(),
        Fault::Timeout { .. } => TrapReason::TimeLimit.as_str(),
        _ => return None,
    };
    let known = TrapReason::ALL.iter().find(|known| known.as_str() == word);
    Some(*known.unwrap_or(&TrapReason::Other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trap_reason_of_the_sandbox_is_one_of_the_metrics() {
        for reason in aegis_sandbox::TrapReason::ALL {
            assert!(
                TrapReason::ALL
                    .iter()
                    .any(|known| known.as_str() == reason.as_str()),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn every_limit_of_the_sandbox_is_one_of_the_metrics() {
        for limit in aegis_sandbox::Limit::ALL {
            assert_eq!(limit_label(*limit).as_str(), limit.as_str());
        }
    }

    #[test]
    fn only_what_a_version_could_have_done_better_speaks_against_it() {
        let (took, whole) = (Duration::from_millis(3), Duration::from_millis(100));
        for outcome in Outcome::ALL {
            let told = verdict(*outcome, took, whole, whole);
            let wanted = match outcome.as_str() {
                "ok" => Verdict::Success { took },
                "trap" | "out_of_memory" | "handler_error" | "backend_error" | "not_ready"
                | "internal" | "timeout" => Verdict::Failure { took },
                _ => Verdict::NotCounted,
            };
            assert_eq!(told, wanted, "{outcome}");
        }
    }

    #[test]
    fn a_caller_in_a_hurry_is_not_held_against_the_version() {
        let whole = Duration::from_millis(100);
        let given = |given| verdict(Outcome::Timeout, given, given, whole);
        assert_eq!(given(whole / 2), Verdict::Failure { took: whole / 2 });
        assert_eq!(
            given(whole / 2 - Duration::from_nanos(1)),
            Verdict::NotCounted
        );
    }
}
