//! A request that a package brings with it, and what it should come to.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_inference::Priority;
use aegis_registry::{PackageDir, manifest::EffectiveLimits};
use aegis_sandbox::{Call, Failure, Request, Response};
use aegis_telemetry::Trace;

use super::{PackageLoadError, spec::MIB};
use crate::{predictor::Predictor, traffic::likeness};

/// The id that a handler and its log see.
const ID: &str = "sample";

/// As much of a wrong answer is shown, in bytes.
const SHOWN: usize = 512;

/// A sample with its bytes.
pub(super) struct Sample {
    file: String,
    request: Arc<Request>,
    /// The answer's file and bytes, if the manifest says what it is.
    answer: Option<(String, Vec<u8>)>,
    limits: EffectiveLimits,
}

impl Sample {
    /// The sample of a package, if it has one.
    pub(super) async fn read(
        package: &PackageDir,
        limits: &EffectiveLimits,
    ) -> Result<Option<Sample>, PackageLoadError> {
        let Some(sample) = &package.manifest().sample else {
            return Ok(None);
        };
        let body = read(package.file(&sample.file)).await?;
        let answer = match &sample.answer {
            Some(path) => Some((path.to_string(), read(package.file(path)).await?)),
            None => None,
        };
        Ok(Some(Sample {
            file: sample.file.to_string(),
            request: Arc::new(Request {
                id: ID.to_owned(),
                content_type: Some(sample.content_type.clone()),
                headers: Vec::new(),
                query: Vec::new(),
                body,
            }),
            answer,
            limits: *limits,
        }))
    }

    /// Asks it once.
    pub(super) async fn ask(&self, predictor: &Predictor) -> Result<(), PackageLoadError> {
        let (bytes, most) = (self.request.body.len(), self.limits.request_mib);
        if bytes > most as usize * MIB {
            return Err(self.wrong(format!(
                "does not take {bytes} bytes; a request may have {most} MiB (limits.request_mib)"
            )));
        }
        let timeout = Duration::from_millis(self.limits.timeout_ms.into());
        let call = Call {
            request_id: Arc::from(ID),
            deadline: Some(Instant::now() + timeout),
            priority: Priority::Low,
            trace: Trace::default(),
        };
        let ended = predictor.predict(&call, Arc::clone(&self.request)).await;
        match ended.result {
            Ok(Ok(response)) => self.compare(&response),
            Ok(Err(failure)) => Err(self.wrong(refused(failure))),
            Err(fault) => Err(self.wrong(format!("did not come to an answer: {fault}"))),
        }
    }

    fn compare(&self, response: &Response) -> Result<(), PackageLoadError> {
        match &self.answer {
            Some((file, wanted)) if !likeness::bodies(wanted, &response.body).is_alike() => {
                let found = String::from_utf8_lossy(&response.body);
                let shown = found
                    .get(..found.floor_char_boundary(SHOWN))
                    .unwrap_or_default();
                Err(self.wrong(format!("answered otherwise than `{file}` has it: {shown}")))
            }
            _ => Ok(()),
        }
    }

    fn wrong(&self, problem: String) -> PackageLoadError {
        PackageLoadError::Sample {
            file: self.file.clone(),
            problem,
        }
    }
}

/// What the handler said, for whoever uploads it: also what callers are not told.
fn refused(failure: Failure) -> String {
    match failure {
        Failure::InvalidInput(problem) => match problem.field {
            Some(field) => format!("found it invalid at `{field}`: {}", problem.message),
            None => format!("found it invalid: {}", problem.message),
        },
        Failure::UnsupportedMediaType(message) => {
            format!("does not take its media type (sample.content_type): {message}")
        }
        Failure::TooLarge(message) => format!("found it too large: {message}"),
        Failure::Overloaded(message) => format!("was overloaded: {message}"),
        Failure::NotReady(message) => format!("was not ready: {message}"),
        Failure::Timeout(message) => format!("ran out of time: {message}"),
        Failure::Internal(message) => format!("reported an error of its own: {message}"),
    }
}

async fn read(path: PathBuf) -> Result<Vec<u8>, PackageLoadError> {
    tokio::fs::read(&path)
        .await
        .map_err(|source| PackageLoadError::Read { path, source })
}
