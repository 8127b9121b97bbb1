//! `aegis loadtest`: drives a running server as its users would, and judges it by the SLO.

mod judged;
mod progress;
mod simulated;
mod table;

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use aegis_autoscale::slo::Slo;
use aegis_loadtest::{
    arrivals::Arrival,
    cluster::Deployment,
    csv, html,
    objective::Verdict,
    plan::{Connections, Loads, Plan, SEED_USERS, SEED_WORKERS, Think, Timing},
    replicas::Origin,
    run::LoadTest,
    span,
    target::Target,
};
use anyhow::Context as _;
use clap::ValueEnum;

use self::{judged::Judged, progress::Progress, simulated::Simulated};
use super::{
    bodies, slo,
    stop::{STOPPED, stop_on_signal},
};
use crate::client::{Server, print};

/// Over the SLO.
const FAILED: u8 = 1;
/// Nothing was tested: flags or files that make no sense, no server, no rights.
const NOT_TESTED: u8 = 2;

/// Drive a running server as its users would, and judge it by the SLO.
///
/// Each number of users (or each rate) is driven with each number of workers: a cell. Status 0: every
/// cell passed or warned. 1: one failed the SLO. 2: nothing was tested. 130: stopped early.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The model to ask.
    #[arg(long, value_name = "NAME", required_unless_present = "url")]
    model: Option<String>,
    /// The version to ask, instead of the one that answers everyone.
    #[arg(long, value_name = "N", requires = "model")]
    version: Option<u64>,
    /// Ask this URL instead of a model on --server.
    #[arg(long, value_name = "URL", conflicts_with = "model")]
    url: Option<String>,
    /// A file with a body; with several, requests take them in turn.
    #[arg(long, short, value_name = "FILE", num_args = 1.., required_unless_present = "data")]
    file: Vec<PathBuf>,
    /// A body itself.
    #[arg(long, short, value_name = "TEXT", conflicts_with = "file")]
    data: Option<String>,
    /// The bodies' media type; else told by each file's ending, or by whether it is JSON.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,

    /// How many users, for each cell.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = SEED_USERS)]
    users: Vec<u32>,
    /// Client threads that drive the users, each with connections of its own, for each cell.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = SEED_WORKERS)]
    workers: Vec<u32>,
    /// How long each cell is measured.
    #[arg(long, value_name = "TIME", default_value = "240s", value_parser = span::parse)]
    duration: Duration,
    /// How long a user thinks between an answer and the next request: a time, or the ends of a
    /// range in which it is evenly spread.
    #[arg(long, value_name = "TIME[..TIME]", default_value = "1s..3s", value_parser = think)]
    think: Think,
    /// Users arrive, or the rate rises, evenly during this time. Not measured.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = span::parse)]
    ramp_up: Duration,
    /// Full load after the ramp and before the measurement. Not measured.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = span::parse)]
    warm_up: Duration,
    /// Send nothing for this long between cells, as for replicas to go down again.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = span::parse)]
    pause: Duration,

    /// Open loop: requests come on a clock of their own, whether earlier ones are answered or not,
    /// one per user and mean thought; latency counts from when a request was due.
    #[arg(long)]
    open: bool,
    /// Open loop at these many arrivals a second, for each cell, in place of --users.
    #[arg(long, value_name = "R,…", value_delimiter = ',', conflicts_with_all = ["users", "think"])]
    rate: Vec<f64>,
    /// How arrivals of an open loop lie in time [default: poisson].
    #[arg(long, value_enum, value_name = "HOW")]
    arrivals: Option<Arrivals>,
    /// Open loop: the most requests under way at once; what is due beyond them waits, and the wait
    /// counts. Each takes a file of this process (`ulimit -n`).
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_outstanding: u32,
    /// The same seed gives the same arrivals and thoughts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// How long a request may take, to the end of its answer.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span::parse)]
    timeout: Duration,
    /// End when no request succeeds for this long; 0: never [default: three timeouts].
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    give_up: Option<Duration>,
    /// Open a new connection for every request.
    #[arg(long)]
    no_keep_alive: bool,
    /// Give up connections and open new ones this often, so that a Kubernetes Service, which balances
    /// connections and not requests, sends some to new pods; 0: never.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = span::parse)]
    reconnect: Duration,

    #[command(flatten)]
    judged: Judged,

    /// Simulate the replica columns: what the autoscaler of --hpa, or of the SLO, would have done to
    /// a service as --service has it. For a server that runs alone; reports say that it is simulated.
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        requires = "service",
        conflicts_with = "kubeconfig"
    )]
    replicas: Option<Replicas>,
    /// The simulated service, as `aegis simulate --fit … --save-service FILE` writes it.
    #[arg(long, value_name = "FILE.toml", requires = "replicas")]
    service: Option<PathBuf>,
    /// The simulated manifest, instead of the one that the SLO renders.
    #[arg(long, value_name = "FILE", requires = "replicas")]
    hpa: Option<PathBuf>,
    /// Read the replica columns of --deployment from the cluster of this kubeconfig.
    #[arg(long, value_name = "FILE", requires = "deployment")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context [default: its current one].
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    context: Option<String>,
    /// The Deployment's namespace [default: the context's].
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    namespace: Option<String>,
    /// The Deployment whose replicas to read.
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    deployment: Option<String>,

    /// Write the rows to this file too, each when its cell ends.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write a report with plots to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
    /// For people, for programs, or the rows of --csv.
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Readable by people.
    Text,
    /// Everything that was found, with the points of the plots.
    Json,
    /// The seeds' columns.
    Csv,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Replicas {
    /// By the model of `aegis simulate`.
    Simulate,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arrivals {
    /// At even distances.
    Fixed,
    /// Independent of each other, as unrelated callers come.
    Poisson,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    Ok(super::or_exit(drive(&args).await, NOT_TESTED))
}

async fn drive(args: &Args) -> anyhow::Result<ExitCode> {
    let slo = slo::read_or_default(args.judged.slo.as_deref())?;
    let objective = args.judged.objective(&slo)?;
    let plan = plan(args)?;
    let target = Arc::new(target(args)?);
    let replicas = replicas(args, &slo).await?;
    // Made before the load: forty minutes later is late to learn that a folder is not there.
    let page = args.html.as_deref().map(create).transpose()?;
    let rows = args.csv.as_deref().map(create).transpose()?;
    let simulated = replicas
        .as_ref()
        .is_some_and(|origin| origin.told().is_simulated());
    let mut progress = Progress::new(plan.longest(), rows, simulated)?;
    let test = LoadTest {
        plan,
        target,
        objective,
        replicas,
    };
    let report = test.run(&mut progress, &stop_on_signal()?).await?;
    match args.output {
        Output::Text => print(&table::text(&report))?,
        Output::Json => print(&serde_json::to_string_pretty(&report)?)?,
        Output::Csv => print(&csv::table(&report))?,
    }
    // After what was found is told, so that a full disk does not take that too.
    if let Some((mut file, path)) = page.zip(args.html.as_deref()) {
        file.write_all(html::page(&report).as_bytes())
            .with_context(|| path.display().to_string())?;
    }
    progress.ended()?;
    Ok(if report.stopped() {
        ExitCode::from(STOPPED)
    } else if report.verdict() == Verdict::Fail {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

fn plan(args: &Args) -> anyhow::Result<Plan> {
    let open = args.open || !args.rate.is_empty();
    if !open && args.arrivals.is_some() {
        anyhow::bail!("--arrivals is of the open loop; give --open or --rate with it");
    }
    let arrival = match args.arrivals {
        Some(Arrivals::Fixed) => Arrival::Fixed,
        Some(Arrivals::Poisson) | None => Arrival::Poisson,
    };
    let (users, think) = (args.users.clone(), args.think);
    let loads = match (open, args.rate.is_empty()) {
        (false, _) => Loads::Closed { users, think },
        (true, true) => Loads::OpenUsers {
            users,
            think,
            arrival,
        },
        (true, false) => Loads::OpenRates {
            rates: args.rate.clone(),
            arrival,
        },
    };
    let timing = Timing {
        duration: args.duration,
        ramp_up: args.ramp_up,
        warm_up: args.warm_up,
        pause: args.pause,
        timeout: args.timeout,
        give_up: args.give_up.unwrap_or(args.timeout * 3),
    };
    let connections = Connections {
        keep_alive: !args.no_keep_alive,
        reconnect: args.reconnect,
        max_outstanding: args.max_outstanding,
    };
    Ok(Plan::new(
        loads,
        &args.workers,
        timing,
        connections,
        args.seed,
    )?)
}

fn target(args: &Args) -> anyhow::Result<Target> {
    let url = match (&args.url, &args.model) {
        (Some(url), _) => url.clone(),
        (None, model) => {
            let model = model.as_deref().unwrap_or_default();
            Target::predict_url(&args.server.base, model, args.version)?
        }
    };
    let (data, content_type) = (args.data.as_deref(), args.content_type.as_deref());
    let bodies = bodies::read(&args.file, data, content_type)?;
    Ok(Target::new(&url, args.server.headers(&url)?, bodies)?)
}

async fn replicas(args: &Args, slo: &Slo) -> anyhow::Result<Option<Origin>> {
    if let Some((Replicas::Simulate, service)) = args.replicas.zip(args.service.as_deref()) {
        let (slo_file, hpa) = (args.judged.slo.as_deref(), args.hpa.as_deref());
        let model = Simulated::new(slo, slo_file, service, hpa)?;
        return Ok(Some(Origin::Modelled(Arc::new(model))));
    }
    let Some((kubeconfig, name)) = args.kubeconfig.as_deref().zip(args.deployment.as_deref())
    else {
        return Ok(None);
    };
    let (context, namespace) = (args.context.as_deref(), args.namespace.as_deref());
    let deployment = Deployment::new(kubeconfig, context, namespace, name).await?;
    Ok(Some(Origin::Watched(Arc::new(deployment))))
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| path.display().to_string())
}

/// `2s` or `1s..3s`.
fn think(text: &str) -> Result<Think, span::SpanError> {
    let (min, max) = text.split_once("..").unwrap_or((text, text));
    Ok(Think {
        min: span::parse(min)?,
        max: span::parse(max)?,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(flags: &str) -> Result<Args, String> {
        let words = ["loadtest"].into_iter().chain(flags.split_whitespace());
        Line::try_parse_from(words)
            .map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_more_than_a_model_and_a_body_it_is_the_seeds_matrix() {
        let plan = plan(&args("--model digits --data 1").unwrap()).unwrap();
        assert_eq!(plan.cells().len(), SEED_USERS.len() * SEED_WORKERS.len());
        assert_eq!(plan.timing().duration, aegis_loadtest::plan::SEED_DURATION);
        assert_eq!(plan.timing().give_up, Duration::from_secs(30));
    }

    #[test]
    fn flags_that_do_not_fit_are_refused() {
        for (flags, word) in [
            ("--data 1", "--model"),
            ("--model digits", "--file"),
            ("--model m --data 1 --kubeconfig k", "--deployment"),
            ("--model m --data 1 --deployment d", "--kubeconfig"),
            ("--model m --data 1 --replicas simulate", "--service"),
            ("--model m --data 1 --service s.toml", "--replicas"),
            ("--model m --data 1 --hpa h.yaml", "--replicas"),
            (
                "--model m --data 1 --replicas simulate --service s --kubeconfig k --deployment d",
                "cannot be used with",
            ),
            ("--model m --data 1 --rate 5 --users 5", "--users"),
            ("--model m --data 1 --duration soon", "`soon` is no span"),
        ] {
            let told = args(flags).unwrap_err();
            assert!(told.contains(word), "{flags}: {told}");
        }
        let closed = args("--model m --data 1 --arrivals fixed").unwrap();
        assert!(plan(&closed).unwrap_err().to_string().contains("--open"));
    }

    #[test]
    fn a_range_of_thought_is_read_from_both_ends() {
        let read = think("500ms..2s").unwrap();
        assert_eq!(
            (read.min, read.max),
            (Duration::from_millis(500), Duration::from_secs(2))
        );
        assert_eq!(think("2s").unwrap().min, think("2s").unwrap().max);
        assert!(think("1s..").is_err());
    }
}
