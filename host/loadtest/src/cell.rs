//! One cell of the matrix: starts its workers, collects from them once a second, and ends when they
//! have ended, when it is stopped, or when nothing succeeds any more.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::{
    measured::Measured,
    plan::Cell,
    record::Recorder,
    replicas::{Driven, Origin, ReplicaError, ReplicaModel, Replicas, Watch, read},
    report::{CellResult, Ended},
    run::{LoadTest, RunError, Tick, Watcher},
    worker::{Clock, Work, Worker},
};

const SECOND: Duration = Duration::from_secs(1);
/// Time for every worker to have started before the first request is due.
const START: Duration = Duration::from_millis(50);

/// Drives cell `index`. None: it was stopped before anything was measured.
pub(crate) async fn drive(
    test: &LoadTest,
    index: usize,
    watcher: &mut dyn Watcher,
    stop: &CancellationToken,
) -> Result<Option<CellResult>, RunError> {
    let Some(&cell) = test.plan.cells().get(index) else {
        return Ok(None);
    };
    let timing = test.plan.timing();
    let mut cautions = Vec::new();
    let watch = match &test.replicas {
        None | Some(Origin::Modelled(_)) => None,
        Some(Origin::Watched(source)) => match read(source.as_ref()).await {
            Ok(first) => Some(Watch::start(Arc::clone(source), first)),
            Err(error) => {
                cautions.push(format!("no replicas, as the first reading failed: {error}"));
                None
            }
        },
    };
    let began = OffsetDateTime::now_utc();
    let begins = Instant::now() + START;
    let measured_from = begins + timing.ramp_up + timing.warm_up;
    let clock = Clock {
        begins,
        ramp_up: timing.ramp_up,
        measured_from,
        measured_until: measured_from + timing.duration,
    };
    let halt = stop.child_token();
    // Whoever drops this future drops the load as well.
    let _halt_on_drop = halt.clone().drop_guard();
    let (recorders, workers) = start(test, cell, clock, &halt)?;
    let mut all_ended = std::pin::pin!(async {
        let mut well = true;
        for worker in workers {
            well &= worker.ended().await;
        }
        well
    });
    let mut measured = Measured::new(timing, clock, cell.load, recorders);
    let mut ticks = interval_at(begins + SECOND, SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (ended, died) = loop {
        tokio::select! {
            well = &mut all_ended => {
                // A stop ends workers too, and can be seen here first.
                let ended = if stop.is_cancelled() { Ended::Stopped } else { Ended::Whole };
                break (ended, Some(!well));
            }
            () = stop.cancelled() => break (Ended::Stopped, None),
            _ = ticks.tick() => {
                let replicas = watch.as_ref().map(|watch| watch.replicas().last);
                let tick = Tick {
                    cell,
                    number: index + 1,
                    of: test.plan.cells().len(),
                    ..measured.tick(cell, replicas)
                };
                watcher.tick(&tick);
                if measured.dead_for(timing.give_up) {
                    break (Ended::GaveUp, None);
                }
            }
        }
    };
    // Before the workers' end is waited for: what is measured ends here.
    let until = Instant::now().min(clock.measured_until);
    halt.cancel();
    let died = match died {
        Some(died) => died,
        None => !all_ended.await,
    };
    if died {
        return Err(RunError::WorkerDied);
    }
    let mut replicas = watch.as_ref().map(Watch::replicas);
    measured.end(replicas.map(|replicas| replicas.last));
    if let Some(Origin::Modelled(model)) = &test.replicas {
        match modelled(Arc::clone(model), measured.driven()).await {
            Ok(readings) => {
                measured.modelled(&readings);
                replicas = Replicas::of(&readings);
            }
            Err(error) => cautions.push(format!("no replicas: {error}")),
        }
    }
    let seconds = until.saturating_duration_since(measured_from).as_secs_f64();
    if ended == Ended::Stopped && seconds <= 0.0 {
        return Ok(None);
    }
    let result = measured.result(test, (began, cell), ended, seconds, replicas, cautions);
    Ok(Some(result))
}

/// What the model makes of the load that was driven.
async fn modelled(model: Arc<dyn ReplicaModel>, driven: Driven) -> Result<Vec<u32>, ReplicaError> {
    tokio::task::spawn_blocking(move || model.replicas(&driven))
        .await
        .unwrap_or_else(|_| {
            Err(ReplicaError(
                "the simulation ended by a fault of its own".to_owned(),
            ))
        })
}

type Started = (Vec<Arc<Recorder>>, Vec<Worker>);

fn start(
    test: &LoadTest,
    cell: Cell,
    clock: Clock,
    halt: &CancellationToken,
) -> Result<Started, RunError> {
    let timeout = test.plan.timing().timeout;
    let mut started: Started = (Vec::new(), Vec::new());
    for index in 0..cell.workers {
        let recorder = Arc::new(Recorder::new(timeout));
        let work = Work {
            index,
            cell,
            clock,
            timeout,
            connections: *test.plan.connections(),
            seed: test.plan.seed(),
            target: Arc::clone(&test.target),
            recorder: Arc::clone(&recorder),
        };
        let worker = Worker::start(work, halt.clone())
            .map_err(|reason| RunError::Start { index, reason })?;
        started.0.push(recorder);
        started.1.push(worker);
    }
    Ok(started)
}
