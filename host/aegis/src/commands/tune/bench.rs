//! Measures settings for the search: the package with the setting in its manifest, on a private
//! server, driven as `aegis loadtest` drives one.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_loadtest::{
    arrivals::Arrival,
    objective::Objective,
    plan::{Connections, Loads, Plan, Think, Timing},
    report::{CellResult, Ended},
    run::{LoadTest, Phase, Tick, Watcher},
    target::{Body, Target},
};
use aegis_registry::Manifest;
use aegis_tune::{
    measure::{Load, Measure, Run, Unmeasured},
    setting::Setting,
};
use anyhow::Context as _;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{edit, progress::Progress, server::Server};
use crate::commands::package::Folder;

/// How long each measurement is, and how it is driven.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timings {
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
    pub(super) timeout: Duration,
    pub(super) workers: u32,
}

impl Timings {
    /// What a measurement takes, and about what a server takes to start.
    pub(super) fn cell(&self) -> Duration {
        self.warm_up + self.duration + Duration::from_millis(500)
    }
}

/// Serves and drives.
pub(super) struct Bench {
    /// Before the folder, so that it ends before that is taken away.
    serving: Option<(Setting, Server)>,
    model: String,
    graph: String,
    manifest: String,
    /// The threads that its server has.
    cores: u32,
    /// The package as it is served, and the server's data.
    folder: TempDir,
    bodies: Vec<Body>,
    timings: Timings,
    objective: Objective,
    stop: CancellationToken,
    progress: Rc<RefCell<Progress>>,
    client: reqwest::Client,
}

/// What `/health` says of graphs.
#[derive(Deserialize)]
struct Health {
    models: Vec<Served>,
}

#[derive(Deserialize)]
struct Served {
    graphs: Vec<ServedGraph>,
}

#[derive(Deserialize)]
struct ServedGraph {
    name: String,
    backend: String,
}

impl Bench {
    /// A bench for the graph `graph` of a package whose manifest is the text `manifest`.
    pub(super) fn new(
        package: &Folder,
        (manifest, graph): (&str, &str),
        cores: u32,
        bodies: Vec<Body>,
        (timings, p99_ms): (Timings, f64),
        stop: CancellationToken,
        progress: Rc<RefCell<Progress>>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("aegis-tune-")
            .tempdir()
            .context("a temporary folder")?;
        let served = folder.path().join("package");
        for (name, file) in package.files() {
            if name != Manifest::FILE_NAME {
                link(&file, &served.join(name))?;
            }
        }
        Ok(Self {
            model: package.manifest.name.to_string(),
            graph: graph.to_owned(),
            manifest: manifest.to_owned(),
            cores,
            folder,
            bodies,
            timings,
            // Nothing is judged by it here: the load test asks for one.
            objective: Objective::new(p99_ms, p99_ms, 100.0)?,
            stop,
            progress,
            serving: None,
            client: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    /// The folders of the server's data and of the package.
    pub(super) fn folders(&self) -> (PathBuf, PathBuf) {
        let within = |name| self.folder.path().join(name);
        (within("data"), within("package"))
    }

    /// What computes the graph with `setting`; none where it was stopped.
    pub(super) async fn backend(&mut self, setting: &Setting) -> anyhow::Result<Option<String>> {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            served = self.serve(setting) => served?,
        }
        let Some((_, server)) = &self.serving else {
            return Ok(None);
        };
        let health = self.client.get(format!("{}/health", server.url));
        let health: Health = health.send().await?.json().await?;
        let mut graphs = health.models.into_iter().flat_map(|model| model.graphs);
        let backend = graphs
            .find(|graph| graph.name == self.graph)
            .map(|graph| graph.backend);
        Ok(Some(backend.unwrap_or_else(|| "unknown".to_owned())))
    }

    /// Ends the server, if one runs.
    pub(super) async fn end(&mut self) {
        if let Some((_, server)) = self.serving.take() {
            server.end().await;
        }
    }

    /// A server with `setting`: the one that runs, or a new one.
    async fn serve(&mut self, setting: &Setting) -> anyhow::Result<()> {
        if let Some((served, _)) = &self.serving
            && served == setting
        {
            return Ok(());
        }
        self.end().await;
        self.progress.borrow_mut().starts();
        let (data, package) = self.folders();
        let text = edit::edited(&self.manifest, &self.graph, setting, self.cores)?;
        std::fs::create_dir_all(&package)?;
        std::fs::write(package.join(Manifest::FILE_NAME), text)?;
        let server = Server::start(&data, &package).await?;
        self.serving = Some((*setting, server));
        Ok(())
    }

    /// Requests and runs of the graph so far.
    async fn batches(&self) -> Option<(f64, f64)> {
        let (_, server) = self.serving.as_ref()?;
        let metrics = self.client.get(format!("{}/metrics", server.url));
        let text = metrics.send().await.ok()?.text().await.ok()?;
        let graph = format!("graph=\"{}\"", self.graph);
        let of = |name: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(name) && line.contains(&graph))?;
            line.rsplit(' ').next()?.parse::<f64>().ok()
        };
        Some((
            of("aegis_inference_batch_size_sum{")?,
            of("aegis_inference_batch_size_count{")?,
        ))
    }

    fn load_test(&self, load: Load) -> anyhow::Result<LoadTest> {
        let (_, server) = self.serving.as_ref().context("no server runs")?;
        let url = Target::predict_url(&server.url, &self.model, None)?;
        let target = Target::new(&url, HeaderMap::new(), self.bodies.clone())?;
        let Timings {
            warm_up,
            duration,
            timeout,
            workers,
        } = self.timings;
        let timing = Timing {
            duration,
            ramp_up: Duration::ZERO,
            warm_up,
            pause: Duration::ZERO,
            timeout,
            give_up: Duration::ZERO,
        };
        let connections = Connections {
            keep_alive: true,
            reconnect: Duration::ZERO,
            max_outstanding: 512,
        };
        let (loads, workers) = match load {
            Load::Users(users) => {
                let think = Think {
                    min: Duration::ZERO,
                    max: Duration::ZERO,
                };
                let users_of = vec![users];
                let loads = Loads::Closed {
                    users: users_of,
                    think,
                };
                (loads, workers.min(users))
            }
            Load::Rate(rate) => {
                let arrival = Arrival::Poisson;
                let rates = vec![rate];
                (Loads::OpenRates { rates, arrival }, workers)
            }
        };
        Ok(LoadTest {
            plan: Plan::new(loads, &[workers], timing, connections, 1)?,
            target: Arc::new(target),
            objective: self.objective,
            replicas: None,
        })
    }

    async fn drive(&mut self, setting: &Setting, load: Load) -> anyhow::Result<Option<Run>> {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            served = self.serve(setting) => served?,
        }
        let test = self.load_test(load)?;
        let before = self.batches().await;
        let mut ticks = Ticks(Rc::clone(&self.progress));
        let ended = test.run(&mut ticks, &self.stop).await;
        // What the load test says of a server that is gone is less than what that said itself.
        if let Some((_, server)) = &mut self.serving
            && let Some(why) = server.ended()
        {
            self.serving = None;
            anyhow::bail!(why);
        }
        let report = ended?;
        let Some(cell) = report.cells.into_iter().next() else {
            return Ok(None);
        };
        if cell.ended == Ended::Stopped {
            return Ok(None);
        }
        let after = self.batches().await;
        Ok(Some(run(cell, before, after)))
    }
}

impl Measure for Bench {
    async fn measure(&mut self, setting: &Setting, load: Load) -> Result<Run, Unmeasured> {
        let begun = Instant::now();
        match self.drive(setting, load).await {
            Ok(Some(run)) => Ok(Run {
                took: begun.elapsed(),
                ..run
            }),
            Ok(None) => Err(Unmeasured::Stopped),
            Err(error) => Err(Unmeasured::Refused {
                why: format!("{error:#}"),
                took: begun.elapsed(),
            }),
        }
    }
}

fn run(cell: CellResult, before: Option<(f64, f64)>, after: Option<(f64, f64)>) -> Run {
    let mean_batch = before.zip(after).and_then(|(before, after)| {
        let runs = after.1 - before.1;
        (runs > 0.0).then(|| (after.0 - before.0) / runs)
    });
    Run {
        rps: cell.rps * (1.0 - cell.failure_percent / 100.0),
        p50_ms: cell.p50_ms,
        p95_ms: cell.p95_ms,
        p99_ms: cell.p99_ms,
        failure_percent: cell.failure_percent,
        requests: cell.requests,
        mean_batch,
        repeat: false,
        took: Duration::ZERO,
    }
}

/// Hands the load test's progress on.
struct Ticks(Rc<RefCell<Progress>>);

impl Watcher for Ticks {
    fn tick(&mut self, tick: &Tick) {
        let phase = match tick.phase {
            Phase::WarmUp => "warming up",
            Phase::Measuring => "measuring",
            Phase::LastAnswers => "last answers",
        };
        self.0.borrow_mut().tick(phase, tick);
    }
}

/// A file of the package where the server finds it. A link: networks are large.
fn link(file: &Path, at: &Path) -> anyhow::Result<()> {
    if let Some(folder) = at.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = std::fs::canonicalize(file).with_context(|| file.display().to_string())?;
    std::os::unix::fs::symlink(&file, at).with_context(|| at.display().to_string())
}
