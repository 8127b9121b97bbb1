//! From a component's bytes to native code: checked, initialised, compiled. The heavy part
//! of preparation, written once for this process and for a worker of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_telemetry::doing_in_this_trace;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use wasmtime::Engine;

use crate::{
    component::{Exports, Outline},
    limits::Limits,
    parts,
    prepare::{PrepareError, PrepareReport, PrepareSpec},
    snapshot,
};

/// Native code and what making it took.
pub(crate) struct Made {
    pub(crate) code: Vec<u8>,
    pub(crate) facts: Facts,
}

/// What is known of native code beside its bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) report: PrepareReport,
    /// The last few KiB that `init` wrote.
    pub(crate) output: String,
}

/// Makes native code for an engine that is compatible with `compiling`; `init` runs on
/// `building`.
///
/// Compilation has the time that the limits say, and `init` its own. Dropped, or out of
/// time, the compiler's thread goes on to its end: only a process of its own can be ended.
pub(crate) async fn make(
    compiling: &Engine,
    building: &Engine,
    bytes: Vec<u8>,
    spec: &PrepareSpec,
) -> Result<Made, PrepareError> {
    let stopwatch = Arc::new(Stopwatch::running());
    stopwatch
        .hold(spec.limits.compile_time, async {
            let limits = spec.limits.clone();
            let (bytes, exports) = apart(move || {
                let exports = check(&Outline::read(&bytes)?, &limits)?;
                Ok((bytes, exports))
            })
            .await?;
            let (bytes, snapshot) = if exports.lifecycle {
                let taken = snapshot::take(building, bytes, spec, &stopwatch).await?;
                (taken.component, Some((taken.report, taken.output)))
            } else {
                (bytes, None)
            };
            let engine = compiling.clone();
            let (code, compile) = apart(move || compile(&engine, &bytes)).await?;
            let (snapshot, output) = snapshot.unzip();
            let report = PrepareReport {
                compile_ms: compile.as_secs_f64() * 1e3,
                code_bytes: code.len() as u64,
                snapshot,
                cached: false,
            };
            let output = output.unwrap_or_default();
            Ok(Made {
                code,
                facts: Facts { report, output },
            })
        })
        .await
}

fn compile(engine: &Engine, bytes: &[u8]) -> Result<(Vec<u8>, Duration), PrepareError> {
    let start = Instant::now();
    let code = engine
        .precompile_component(bytes)
        .map_err(|error| PrepareError::Compile {
            message: format!("{error:#}"),
        })?;
    Ok((code, start.elapsed()))
}

/// What a component must and must not have, before anything of it is compiled or run.
pub(crate) fn check(outline: &Outline, limits: &Limits) -> Result<Exports, PrepareError> {
    let denied = outline.denied_imports();
    if !denied.is_empty() {
        return Err(PrepareError::DeniedImports { names: denied });
    }
    let exports = outline.contract();
    if !exports.predict && !exports.infer {
        return Err(PrepareError::MissingExport {
            found: outline.exports.clone(),
        });
    }
    parts::check_sizes(outline.initial_memory, outline.initial_table, limits)?;
    Ok(exports)
}

/// Runs `work`, which computes on hostile bytes, off the executor's threads. A panic is the
/// component's doing.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    tokio::task::spawn_blocking(doing_in_this_trace(work))
        .await
        .unwrap_or_else(|error| {
            Err(PrepareError::CompileCrashed {
                how: error.to_string(),
            })
        })
}

/// Time spent compiling: stopped while `init` runs, which has a limit of its own.
pub(crate) struct Stopwatch {
    spent: Mutex<(Duration, Option<Instant>)>,
}

impl Stopwatch {
    fn running() -> Stopwatch {
        Stopwatch {
            spent: Mutex::new((Duration::ZERO, Some(Instant::now()))),
        }
    }

    pub(crate) fn stop(&self) {
        let mut spent = self.spent.lock();
        if let Some(since) = spent.1.take() {
            spent.0 += since.elapsed();
        }
    }

    pub(crate) fn go_on(&self) {
        self.spent.lock().1.get_or_insert_with(Instant::now);
    }

    fn spent(&self) -> Duration {
        let spent = self.spent.lock();
        spent.0 + spent.1.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Waits for `work` until `limit` is spent.
    async fn hold<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, PrepareError>>,
    ) -> Result<T, PrepareError> {
        // Between looks at a watch that is stopped.
        const TICK: Duration = Duration::from_millis(10);
        let mut work = std::pin::pin!(work);
        loop {
            let left = limit.saturating_sub(self.spent());
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(left.max(TICK)) => {}
            }
            if self.spent() >= limit {
                return Err(PrepareError::CompileTimeout {
                    limit_ms: limit.as_millis() as u64,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_time_of_init_is_not_the_compilers() {
        let watch = Stopwatch::running();
        let limit = Duration::from_millis(200);
        let held = watch
            .hold(limit, async {
                watch.stop();
                tokio::time::sleep(limit * 2).await;
                watch.go_on();
                Ok(())
            })
            .await;
        assert_eq!(held, Ok(()));
        let held: Result<(), _> = watch.hold(limit, std::future::pending()).await;
        assert_eq!(held, Err(PrepareError::CompileTimeout { limit_ms: 200 }));
    }
}
