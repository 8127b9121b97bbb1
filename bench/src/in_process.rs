//! Rows (a), (b0) and (b): one request after another in this process, with nothing of HTTP.
//!
//! Paced requests show what a caller waits for: between two of them there is time to make the
//! next instance, as there is on a server that is not at its limit. They are asked from a task
//! on the executor, as the server's are, and the task yields while it waits for its time.
//! Processor time is measured with as many requests at once as the machine takes, so that what
//! is done beside the requests' path is counted too.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aegis_inference::{BackendChoice, BackendKind, Graph, GraphFiles, GraphSpec, Runtime};
use aegis_sandbox::{Call, Handler, HandlerSpec, Limits, Request, Sandbox, SandboxConfig};
use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    bare::Bare,
    cases::{Case, Digit},
    fixture::{Fixture, MAX_CONCURRENCY, Network, TIMEOUT_MS},
    machine::CpuTime,
    native::NativeDigits,
    plan::{PERIOD, Plan},
    stats::{Samples, Summary, median},
};

/// Every so many answers are read and held to the right digit; all must be answers.
const CHECK_EVERY: usize = 16;

/// What was measured of one network.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct InProcess {
    pub(crate) network: &'static str,
    /// Requests of each paced row.
    pub(crate) requests: usize,
    /// (a) in a tight loop.
    pub(crate) bare_loop: Summary,
    /// (a) paced like the rows below.
    pub(crate) bare: Summary,
    /// (b0)
    pub(crate) native: Summary,
    /// (b)
    pub(crate) sandboxed: Summary,
    /// (b) - (a), the median of the rounds' differences.
    pub(crate) over_bare: Summary,
    /// (b) - (b0), the same way.
    pub(crate) over_native: Summary,
    /// Share of the paced requests that had to make their instance themselves.
    pub(crate) made_on_path: f64,
    /// Share of Aegis's runs of the network, (b0) and (b), that were made on the caller's own
    /// thread; the others were handed to a session's thread and back.
    pub(crate) in_place: f64,
    pub(crate) saturated: Saturated,
}

/// At the machine's limit: processor time of the whole process for each request.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Saturated {
    pub(crate) native: Throughput,
    pub(crate) sandboxed: Throughput,
    /// Microseconds of processor time that the sandbox adds to a request, the median of the
    /// rounds' differences.
    pub(crate) sandbox_cpu: f64,
    /// Share of the requests that had to make their instance themselves.
    pub(crate) made_on_path: f64,
}

/// One side at the machine's limit, the medians of the rounds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Throughput {
    pub(crate) requests_per_second: f64,
    /// Microseconds for each request, outside the kernel.
    pub(crate) cpu_user: f64,
    /// And inside.
    pub(crate) cpu_system: f64,
}

impl Throughput {
    pub(crate) fn cpu(&self) -> f64 {
        self.cpu_user + self.cpu_system
    }

    pub(crate) fn median_of(rounds: &[Throughput]) -> Throughput {
        let of = |figure: fn(&Throughput) -> f64| median(rounds.iter().map(figure));
        Throughput {
            requests_per_second: of(|round| round.requests_per_second),
            cpu_user: of(|round| round.cpu_user),
            cpu_system: of(|round| round.cpu_system),
        }
    }
}

/// Measures one network. Blocks until it is done.
pub(crate) fn measure(
    runtime: &Runtime,
    fixture: &Fixture,
    network: &Network,
    plan: &Plan,
) -> anyhow::Result<InProcess> {
    let executor = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    executor.block_on(async {
        let bench = Bench::open(runtime, fixture, network).await?;
        let handler = bench.handler.clone();
        let bare = Bare::open(&network.onnx())?;
        // From here on the executor's own threads ask, as they do in the server.
        let (sides, rounds) = tokio::spawn(paced_rounds(bench.clone(), bare, plan.clone()))
            .await
            .context("the paced requests ended early")??;
        let made_on_path = sides.made_on_path;
        let runs = bench.graph.stats();
        let saturated = saturated_rounds(&bench, &handler, plan).await?;
        Ok(InProcess {
            network: network.name,
            requests: sides.sandboxed.len(),
            bare_loop: sides.bare_loop.summary(),
            bare: sides.bare.summary(),
            native: sides.native.summary(),
            sandboxed: sides.sandboxed.summary(),
            over_bare: Summary::median_of(&rounds.over_bare),
            over_native: Summary::median_of(&rounds.over_native),
            made_on_path,
            in_place: share(runs.in_place_runs, runs.runs),
            saturated,
        })
    })
}

/// What both sides ask and answer with.
#[derive(Clone)]
struct Bench {
    graph: Graph,
    handler: Handler,
    native: NativeDigits,
    asked: Arc<Vec<Asked>>,
}

/// A case as the sandbox and its native twin are asked it.
struct Asked {
    digit: Digit,
    case: Case,
    request: Arc<Request>,
}

impl Bench {
    async fn open(
        runtime: &Runtime,
        fixture: &Fixture,
        network: &Network,
    ) -> anyhow::Result<Bench> {
        let timeout = Duration::from_millis(TIMEOUT_MS);
        let graph = load(runtime, network)?;
        let code = fixture.folder("code");
        let sandbox = Sandbox::new(SandboxConfig::new(code))?;
        let spec = HandlerSpec {
            model: network.name.to_owned(),
            version: 1,
            graphs: BTreeMap::from([("digits".to_owned(), graph.clone())]),
            graph_loader: None,
            sessions: None,
            config: BTreeMap::new(),
            limits: Limits {
                timeout,
                ..Limits::default()
            },
            reuse: false,
        };
        let component = std::fs::read(network.handler())?;
        let (handler, _) = sandbox.load(component, spec, Vec::new()).await?;
        let asked = network.digits.iter().map(|digit| {
            let case = digit.case();
            let request = Arc::new(Request {
                // As long as the ids that the server makes.
                id: "0198c0de-0000-7000-8000-000000000000".to_owned(),
                content_type: Some("application/json".to_owned()),
                headers: Vec::new(),
                query: Vec::new(),
                body: case.question.body.clone(),
            });
            Asked {
                digit: digit.clone(),
                case,
                request,
            }
        });
        Ok(Bench {
            handler,
            native: NativeDigits::new(graph.clone(), timeout),
            graph,
            asked: Arc::new(asked.collect()),
        })
    }

    fn asked(&self, index: usize) -> anyhow::Result<&Asked> {
        let index = index % self.asked.len().max(1);
        self.asked.get(index).context("there are no cases")
    }
}

fn load(runtime: &Runtime, network: &Network) -> anyhow::Result<Graph> {
    let mut spec = GraphSpec::new("digits", GraphFiles::Onnx(network.onnx()));
    spec.backend = BackendChoice::Is(BackendKind::OnnxRuntime);
    spec.queue_capacity = MAX_CONCURRENCY;
    Ok(runtime.load(&spec)?)
}

/// Who answers.
enum Side<'a> {
    Bare(&'a mut Bare),
    Native(&'a NativeDigits),
    Sandboxed(&'a Handler),
}

enum Answer {
    Probabilities(Vec<f32>),
    Body(Vec<u8>),
}

impl Side<'_> {
    async fn answer(&mut self, call: &Call, asked: &Asked) -> anyhow::Result<Answer> {
        let answered = match self {
            Side::Bare(bare) => return Ok(Answer::Probabilities(bare.run(&asked.digit.pixels)?)),
            Side::Native(native) => native.answer(call, &asked.request).await,
            Side::Sandboxed(handler) => {
                handler
                    .predict(call, Arc::clone(&asked.request))
                    .await
                    .result?
            }
        };
        match answered {
            Ok(response) => Ok(Answer::Body(response.body)),
            Err(failure) => bail!("the handler refused: {failure:?}"),
        }
    }

    /// One request and how long it took.
    async fn ask(&mut self, bench: &Bench, index: usize) -> anyhow::Result<Duration> {
        let asked = bench.asked(index)?;
        let call = call();
        let start = Instant::now();
        let answer = self.answer(&call, asked).await?;
        let took = start.elapsed();
        if index.is_multiple_of(CHECK_EVERY) {
            match answer {
                Answer::Probabilities(all) => asked.digit.check(&all)?,
                Answer::Body(body) => asked.case.check(&body)?,
            }
        }
        Ok(took)
    }

    /// One request every [`PERIOD`], or as fast as they are answered.
    async fn paced(
        &mut self,
        bench: &Bench,
        requests: usize,
        period: Duration,
    ) -> anyhow::Result<Samples> {
        let mut samples = Samples::with_capacity(requests);
        for index in 0..requests {
            let begun = Instant::now();
            samples.push(self.ask(bench, index).await?);
            while begun.elapsed() < period {
                // What was put off gets its turn, as on a server that waits for requests.
                tokio::task::yield_now().await;
            }
        }
        Ok(samples)
    }
}

fn call() -> Call {
    Call {
        priority: aegis_inference::Priority::default(),
        request_id: Arc::from("0198c0de-0000-7000-8000-000000000000"),
        deadline: Some(Instant::now() + Duration::from_millis(TIMEOUT_MS)),
        trace: Default::default(),
    }
}

/// The paced requests of all rounds.
#[derive(Default)]
struct Sides {
    bare_loop: Samples,
    bare: Samples,
    native: Samples,
    sandboxed: Samples,
    made_on_path: f64,
}

/// The differences of each round.
#[derive(Default)]
struct Rounds {
    over_bare: Vec<Summary>,
    over_native: Vec<Summary>,
}

async fn paced_rounds(bench: Bench, mut bare: Bare, plan: Plan) -> anyhow::Result<(Sides, Rounds)> {
    let (warm_up, requests) = (plan.warm_up_requests, plan.paced_requests);
    let (mut sides, mut rounds) = (Sides::default(), Rounds::default());
    Side::Bare(&mut bare)
        .paced(&bench, warm_up, Duration::ZERO)
        .await?;
    Side::Native(&bench.native)
        .paced(&bench, warm_up, PERIOD)
        .await?;
    Side::Sandboxed(&bench.handler)
        .paced(&bench, warm_up, PERIOD)
        .await?;
    let before = bench.handler.stats();
    for _ in 0..plan.rounds {
        let tight = Side::Bare(&mut bare)
            .paced(&bench, requests, Duration::ZERO)
            .await?;
        let bare = Side::Bare(&mut bare)
            .paced(&bench, requests, PERIOD)
            .await?;
        let native = Side::Native(&bench.native)
            .paced(&bench, requests, PERIOD)
            .await?;
        let sandboxed = Side::Sandboxed(&bench.handler)
            .paced(&bench, requests, PERIOD)
            .await?;
        let took = sandboxed.summary();
        rounds.over_bare.push(took.minus(bare.summary()));
        rounds.over_native.push(took.minus(native.summary()));
        sides.bare_loop.extend(&tight);
        sides.bare.extend(&bare);
        sides.native.extend(&native);
        sides.sandboxed.extend(&sandboxed);
    }
    let after = bench.handler.stats();
    sides.made_on_path = share(
        after.made_on_path - before.made_on_path,
        sides.sandboxed.len() as u64,
    );
    Ok((sides, rounds))
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

async fn saturated_rounds(
    bench: &Bench,
    handler: &Handler,
    plan: &Plan,
) -> anyhow::Result<Saturated> {
    let (mut native, mut sandboxed, mut extra) = (Vec::new(), Vec::new(), Vec::new());
    let before = handler.stats();
    let mut asked = 0;
    for _ in 0..plan.rounds {
        let (without, _) = saturate(bench, false, plan.saturated).await?;
        let (with, requests) = saturate(bench, true, plan.saturated).await?;
        asked += requests;
        extra.push(with.cpu() - without.cpu());
        native.push(without);
        sandboxed.push(with);
    }
    let made_on_path = share(handler.stats().made_on_path - before.made_on_path, asked);
    Ok(Saturated {
        native: Throughput::median_of(&native),
        sandboxed: Throughput::median_of(&sandboxed),
        sandbox_cpu: median(extra),
        made_on_path,
    })
}

/// Requests at once for each core.
const TASKS_PER_CORE: usize = 4;

/// As many requests as the machine takes for so long.
async fn saturate(
    bench: &Bench,
    sandboxed: bool,
    time: Duration,
) -> anyhow::Result<(Throughput, u64)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let answered = Arc::new(AtomicU64::new(0));
    let cpu = CpuTime::own()?;
    let start = Instant::now();
    let tasks: Vec<_> = (0..cores * TASKS_PER_CORE)
        .map(|task| {
            let (bench, answered) = (bench.clone(), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut side = if sandboxed {
                    Side::Sandboxed(&bench.handler)
                } else {
                    Side::Native(&bench.native)
                };
                let mut index = task;
                while start.elapsed() < time {
                    side.ask(&bench, index).await?;
                    index += 1;
                    answered.fetch_add(1, Ordering::Relaxed);
                    // A server's tasks wait for their connections here.
                    tokio::task::yield_now().await;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let (took, requests) = (start.elapsed(), answered.load(Ordering::Relaxed));
    let cpu = CpuTime::own()?.since(cpu).per(requests);
    let throughput = Throughput {
        requests_per_second: requests as f64 / took.as_secs_f64(),
        cpu_user: cpu.user,
        cpu_system: cpu.system,
    };
    Ok((throughput, requests))
}
