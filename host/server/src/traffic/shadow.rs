//! Copies of requests go to a version on trial whose answers nobody sees: they are compared with those that the callers
//! got, counted and timed. A copy gives way where it can: where the version has no place free, or the bodies in memory no
//! room, it is left out, and its networks go last. The time of its handler's own code it takes from
//! the same processors as everyone's.

use std::{sync::Arc, time::Instant};

use aegis_inference::Priority;
use aegis_sandbox::{Call, Failure, Fault, Request, Response};
use aegis_telemetry::{ShadowResult, Trace};
use tokio::sync::oneshot;

use super::likeness::{self, Likeness};
use crate::{http::Held, version::LoadedVersion};

/// A copy that is under way. Dropped without a word, as when the caller goes away, it is counted as not compared.
pub(crate) struct Copied(Option<oneshot::Sender<Answer>>);

/// What became of a request, as far as it is compared.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Response {
        content_type: String,
        body: Vec<u8>,
    },
    /// A refusal by the handler, by its kind.
    Refused(std::mem::Discriminant<Failure>),
    /// The handler's end before it answered.
    Fault,
}

impl Answer {
    fn of(result: &Result<Result<Response, Failure>, Fault>) -> Answer {
        match result {
            Ok(Ok(response)) => Answer::Response {
                content_type: response.content_type.clone(),
                body: response.body.clone(),
            },
            Ok(Err(failure)) => Answer::Refused(std::mem::discriminant(failure)),
            Err(_) => Answer::Fault,
        }
    }
}

/// Sends a copy of a request to `version`, if that has a place free and `room` is enough for the body, which the copy
/// may need for longer than the request.
pub(crate) fn send(
    version: Arc<LoadedVersion>,
    call: &Call,
    request: &Arc<Request>,
    mut room: Held,
) -> Copied {
    let permit = version.admission.try_enter();
    let Some(permit) = permit.filter(|_| room.grow_to(request.body.len()).is_ok()) else {
        version.metrics.shadow(ShadowResult::LeftOut);
        return Copied(None);
    };
    let call = Call {
        request_id: Arc::clone(&call.request_id),
        deadline: Some(Instant::now() + version.timeout),
        priority: Priority::Low,
        trace: Trace::default(),
    };
    let request = Arc::clone(request);
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let begun = Instant::now();
        let ended = version.predictor.predict(&call, request).await;
        version.metrics.shadow_took(begun.elapsed());
        drop((permit, room));
        let result = match told.await {
            Ok(right) => compare(&right, &Answer::of(&ended.result)),
            Err(_) => ShadowResult::NotCompared,
        };
        version.metrics.shadow(result);
        if result == ShadowResult::Different {
            tracing::debug!(
                model = %version.name,
                version = version.version.get(),
                request_id = %call.request_id,
                "the shadow answers otherwise"
            );
        }
    });
    Copied(Some(tell))
}

impl Copied {
    /// Says what the caller is answered.
    pub(crate) fn compare_with(self, result: &Result<Result<Response, Failure>, Fault>) {
        if let Some(tell) = self.0 {
            // The copy's task ends with the server only.
            let _ = tell.send(Answer::of(result));
        }
    }
}

fn compare(right: &Answer, shadow: &Answer) -> ShadowResult {
    match (right, shadow) {
        (right, shadow) if right == shadow => ShadowResult::Same,
        (_, Answer::Fault) => ShadowResult::Failed,
        (
            Answer::Response {
                content_type: one,
                body: right,
            },
            Answer::Response {
                content_type: other,
                body: shadow,
            },
        ) if one == other => match likeness::bodies(right, shadow) {
            Likeness::Same => ShadowResult::Same,
            Likeness::Close => ShadowResult::Close,
            Likeness::Different => ShadowResult::Different,
        },
        _ => ShadowResult::Different,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(body: &str) -> Answer {
        Answer::Response {
            content_type: "application/json".to_owned(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn answers_are_the_same_close_or_different() {
        let right = json(r#"{"digit": 4, "p": [0.5, 1e-9]}"#);
        for (other, wanted) in [
            (right.clone(), ShadowResult::Same),
            (json(r#"{"p":[0.5004,0],"digit":4}"#), ShadowResult::Close),
            (json(r#"{"digit":4,"p":[0.51,0]}"#), ShadowResult::Different),
            (json(r#"{"digit":5,"p":[0.5,0]}"#), ShadowResult::Different),
            (json(r#"{"digit":4,"p":[0.5]}"#), ShadowResult::Different),
            (json(r#"{"digit":4,"q":[0.5,0]}"#), ShadowResult::Different),
            (json("no"), ShadowResult::Different),
            (Answer::Fault, ShadowResult::Failed),
        ] {
            assert_eq!(compare(&right, &other), wanted, "{other:?}");
        }
        let refused = |failure: Failure| Answer::Refused(std::mem::discriminant(&failure));
        let late = || refused(Failure::Timeout("late".to_owned()));
        let internal = refused(Failure::Internal("no".to_owned()));
        assert_eq!(compare(&late(), &late()), ShadowResult::Same);
        assert_eq!(compare(&late(), &internal), ShadowResult::Different);
        assert_eq!(compare(&Answer::Fault, &Answer::Fault), ShadowResult::Same);
    }
}
