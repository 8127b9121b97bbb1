//! `aegis tune`: measures on a private server with which batching, sessions and threads a graph
//! serves most within its objective, and writes that into the manifest if it is asked to.

mod bench;
mod edit;
mod progress;
pub(crate) mod server;
mod table;

use std::{
    cell::RefCell,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use aegis_loadtest::{span, target::Body};
use aegis_registry::{
    Manifest,
    manifest::{Batching, Graph, GraphTarget},
};
use aegis_tune::{
    goal::Goal,
    measure::Load,
    page,
    proposal::Proposal,
    report::Report,
    search::{Asked, Ended, search},
    space::Space,
};
use anyhow::{Context as _, bail};
use clap::Parser as _;

use self::{
    bench::{Bench, Timings},
    progress::{Progress, Watching},
};
use super::{
    bodies,
    package::Folder,
    serve, slo,
    status_line::span as in_words,
    stop::{STOPPED, stop_on_signal},
};
use crate::{
    client::{Output, print},
    settings::{ServeArgs, ServeSettings},
};

/// Loads from a lone caller to more than most models bear.
const USERS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// No setting meets the objective.
const NOTHING_MEETS: u8 = 1;
/// Nothing was measured: flags or files that make no sense, a model that is not served. Or what was
/// found could not be written.
const NOT_TUNED: u8 = 2;

/// Find the batching, sessions and threads with which a graph serves most within its objective.
///
/// The model is served privately on this machine and driven with rising load, setting by setting; the
/// best are repeated beside the one in force. Status 0: done, whether or not a change is proposed. 1:
/// no setting meets the objective. 2: nothing was measured, or could not be written. 130: stopped
/// early.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The model's package: a folder with a model.toml.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The graph to tune [default: the first].
    #[arg(long, value_name = "NAME")]
    graph: Option<String>,
    /// A file with a body; with several, requests take them in turn [default: one of each kind in
    /// the package's folder `samples`].
    #[arg(long, short, value_name = "FILE", num_args = 1..)]
    file: Vec<PathBuf>,
    /// A body itself.
    #[arg(long, short, value_name = "TEXT", conflicts_with = "file")]
    data: Option<String>,
    /// The bodies' media type; else told by each file's ending, or by whether it is JSON.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,

    /// P99 of at most this many milliseconds [default: the SLO's objectives.p99_ms].
    #[arg(long, value_name = "MS")]
    slo_p99_ms: Option<f64>,
    /// At most this percent of the requests fail [default: what the SLO's
    /// objectives.availability_percent leaves].
    #[arg(long, value_name = "PERCENT")]
    max_failure_percent: Option<f64>,
    /// The SLO file; without it the built-in SLO, whose figures are those of k8s/slo.toml as it came.
    #[arg(long, value_name = "FILE")]
    slo: Option<PathBuf>,
    /// Propose a change only for this many percent more requests a second.
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0)]
    min_gain_percent: f64,

    /// The loads, rising: so many callers, each of whom asks again when answered.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = USERS)]
    users: Vec<u32>,
    /// The loads in place of --users, rising: so many arrivals a second, independent of each other;
    /// latency counts from when a request was due.
    #[arg(
        long,
        value_name = "R,…",
        value_delimiter = ',',
        conflicts_with = "users"
    )]
    rate: Vec<f64>,
    /// Client threads [default: as many as cores].
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// How long each load is measured.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = span::parse)]
    duration: Duration,
    /// Full load before each measurement, not measured.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = span::parse)]
    warm_up: Duration,
    /// How long a request may take, to the end of its answer.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span::parse)]
    timeout: Duration,
    /// How often the best settings and the one in force are measured again at the end, by turns.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=50))]
    repeats: u32,
    /// How long all of it may take.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span::parse)]
    time_budget: Duration,

    /// Write the proposed setting into the package's model.toml.
    #[arg(long)]
    write: bool,
    /// Write a report with plots to this file: a page (.html), or the plots alone (.svg).
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// For people, or for programs.
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Output,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    Ok(super::or_exit(tune(&args).await, NOT_TUNED))
}

async fn tune(args: &Args) -> anyhow::Result<ExitCode> {
    let package = Folder::read(&args.model)?;
    let file = args.model.join(Manifest::FILE_NAME);
    let manifest = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let graph = graph(&package.manifest, args.graph.as_deref())?;
    let bodies = bodies(args, &package)?;
    let goal = goal(args)?;
    let loads = loads(args)?;
    let timings = timings(args)?;
    // Made before the load: ten minutes later is late to learn that a folder is not there.
    let picture = args.report.as_deref().map(Picture::create).transpose()?;
    if args.write {
        tempfile::NamedTempFile::new_in(&args.model)
            .with_context(|| format!("--write cannot write in {}", args.model.display()))?;
    }

    let progress = Rc::new(RefCell::new(Progress::new(args.time_budget, goal.p99_ms())));
    let stop = stop_on_signal()?;
    let settings = server_settings(&args.model)?;
    let cores = cores(&settings);
    let baseline = edit::setting_of(graph, cores);
    let mut bench = Bench::new(
        &package,
        (&manifest, &graph.name),
        cores,
        bodies.clone(),
        (timings, goal.p99_ms()),
        stop,
        Rc::clone(&progress),
    )?;
    let Some(backend) = bench
        .backend(&baseline)
        .await
        .context("the model as it is set is not served")?
    else {
        bench.end().await;
        return Ok(ExitCode::from(STOPPED));
    };
    let space = space(&package.manifest, graph, &settings, &backend, cores);
    let asked = Asked {
        baseline,
        goal,
        loads,
        budget: args.time_budget,
        cell: timings.cell(),
        repeats: args.repeats,
        space,
    };
    introduce(&progress, args, &package, graph, &backend, &asked);
    let found = search(&asked, &mut bench, &mut Watching(Rc::clone(&progress))).await;
    bench.end().await;
    let report = Report {
        model: package.manifest.name.to_string(),
        graph: graph.name.clone(),
        backend,
        target: graph.target.to_string(),
        cores: asked.space.cores,
        bodies: bodies.into_iter().map(|body| body.name).collect(),
        goal,
        measured_seconds: args.duration.as_secs_f64(),
        found: found?,
    };
    match args.output {
        Output::Text => print(&table::text(&report))?,
        Output::Json => print(&serde_json::to_string_pretty(&report)?)?,
    }
    // After what was found is told, so that a full disk does not take that too.
    if let Some(picture) = picture {
        picture.write(&report)?;
    }
    let stopped = report.found.ended == Ended::Stopped;
    if let Some(setting) = report.found.proposal.change() {
        let edited = || edit::edited(&manifest, &graph.name, &setting, cores);
        settle(args, (&file, &manifest), edited, stopped)?;
    }
    Ok(match (stopped, &report.found.proposal) {
        (true, _) => ExitCode::from(STOPPED),
        (false, Proposal::Nothing { .. }) => ExitCode::from(NOTHING_MEETS),
        _ => ExitCode::SUCCESS,
    })
}

/// The graph that is named, or the first.
fn graph<'m>(manifest: &'m Manifest, named: Option<&str>) -> anyhow::Result<&'m Graph> {
    let names = || {
        let names = manifest.graphs.iter().map(|graph| graph.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    match named {
        Some(name) => manifest
            .graphs
            .iter()
            .find(|graph| graph.name == name)
            .with_context(|| {
                format!(
                    "{} has no graph `{name}`; it has {}",
                    manifest.name,
                    names()
                )
            }),
        None => manifest.graphs.first().with_context(|| {
            format!(
                "{} has no graph, so there is nothing to tune",
                manifest.name
            )
        }),
    }
}

fn bodies(args: &Args, package: &Folder) -> anyhow::Result<Vec<Body>> {
    let given = !args.file.is_empty() || args.data.is_some();
    let files = if given {
        args.file.clone()
    } else {
        package.samples()
    };
    let bodies = bodies::read(&files, args.data.as_deref(), args.content_type.as_deref())?;
    if bodies.is_empty() {
        bail!(
            "{} has no folder `samples` with bodies to send; give --file FILE or --data TEXT",
            package.path.display()
        );
    }
    Ok(bodies)
}

fn goal(args: &Args) -> anyhow::Result<Goal> {
    let promised = slo::read_or_default(args.slo.as_deref())?.objectives;
    Ok(Goal::new(
        args.slo_p99_ms.unwrap_or(promised.p99_ms.millis()),
        args.max_failure_percent
            .unwrap_or(promised.availability_percent.rest() * 100.0),
        args.min_gain_percent,
    )?)
}

fn loads(args: &Args) -> anyhow::Result<Vec<Load>> {
    let mut loads: Vec<Load> = if args.rate.is_empty() {
        args.users.iter().map(|users| Load::Users(*users)).collect()
    } else {
        args.rate.iter().map(|rate| Load::Rate(*rate)).collect()
    };
    if let Some(wrong) = loads
        .iter()
        .find(|load| !(load.size().is_finite() && load.size() > 0.0))
    {
        bail!("a load of {wrong}: give numbers above 0");
    }
    loads.sort_by(|a, b| a.size().total_cmp(&b.size()));
    loads.dedup();
    Ok(loads)
}

fn timings(args: &Args) -> anyhow::Result<Timings> {
    let timings = Timings {
        warm_up: args.warm_up,
        duration: args.duration,
        timeout: args.timeout,
        workers: args
            .workers
            .unwrap_or(u32::try_from(available_cores()).unwrap_or(u32::MAX)),
    };
    if args.duration < Duration::from_secs(1) {
        bail!(
            "--duration {:?}: measure for at least a second",
            args.duration
        );
    }
    // The setting in force, something else, and each again.
    let least = timings.cell().saturating_mul(4);
    if args.time_budget < least {
        bail!(
            "--time-budget {} is less than four measurements take ({}); give more, or a shorter --duration",
            in_words(args.time_budget),
            in_words(least)
        );
    }
    Ok(timings)
}

/// The threads that all graphs of the private server compute on.
fn cores(settings: &ServeSettings) -> u32 {
    let threads = match settings.inference_threads {
        0 => available_cores(),
        threads => threads,
    };
    u32::try_from(threads).unwrap_or(u32::MAX)
}

fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What holds for the private server, by the environment that it will have, wherever its folders are.
fn server_settings(anywhere: &Path) -> anyhow::Result<ServeSettings> {
    let words = std::iter::once("serve".into()).chain(server::flags(anywhere, anywhere));
    let resolved = PrivateServer::try_parse_from(words)?
        .args
        .resolve(server::environment())?;
    Ok(resolved.settings)
}

/// The private server's flags, read as it will read them.
#[derive(clap::Parser)]
struct PrivateServer {
    #[command(flatten)]
    args: ServeArgs,
}

/// Where settings may lie for this graph on this machine.
fn space(
    manifest: &Manifest,
    graph: &Graph,
    settings: &ServeSettings,
    backend: &str,
    cores: u32,
) -> Space {
    let (axes, preferred) = match &graph.batching {
        Some(Batching::On(on)) => (on.axes.len(), on.preferred_batch_sizes.as_slice()),
        _ => (0, [].as_slice()),
    };
    let limits = manifest.limits.effective(&serve::ceilings(settings));
    Space {
        cores,
        threads: backend != "embedded" && graph.target == GraphTarget::Cpu,
        concurrency: limits.max_concurrency,
        plain_batching: axes == 0 && preferred.is_empty(),
        least_batch: preferred.iter().copied().max().unwrap_or(1),
    }
}

/// Says what is going to be done.
fn introduce(
    progress: &RefCell<Progress>,
    args: &Args,
    package: &Folder,
    graph: &Graph,
    backend: &str,
    asked: &Asked,
) {
    let mut progress = progress.borrow_mut();
    let name = &package.manifest.name;
    let others = package.manifest.graphs.len() - 1;
    if args.graph.is_none() && others > 0 {
        progress.says(&format!(
            "aegis: {name} has {} graphs; `{}`, the first, is tuned (--graph names another)",
            others + 1,
            graph.name
        ));
    }
    if graph.target == GraphTarget::Gpu {
        progress.says(
            "aegis: the graph asks for a GPU: figures are of what it runs on here, and threads are not tried",
        );
    }
    progress.says(&format!(
        "aegis: graph `{}` of {name} on {backend}, {} threads to compute on; P99 within {} ms; up to {}; \
         ctrl-c ends it with what was measured",
        graph.name,
        asked.space.cores,
        asked.goal.p99_ms(),
        in_words(asked.budget)
    ));
}

/// Writes a change into the manifest, or says how to.
fn settle(
    args: &Args,
    (file, manifest): (&Path, &str),
    edited: impl FnOnce() -> anyhow::Result<String>,
    stopped: bool,
) -> anyhow::Result<()> {
    let say = |words: &str| {
        let _ = writeln!(std::io::stderr(), "aegis: {words}");
    };
    if !args.write {
        say("--write puts this into the manifest");
        return Ok(());
    }
    if stopped {
        say("it was stopped: nothing is written");
        return Ok(());
    }
    write_manifest(file, manifest, &edited()?)?;
    say(&format!("{} has it now", file.display()));
    Ok(())
}

/// Puts `edited` in the place of what `file` was when it was read, in one step.
fn write_manifest(file: &Path, read: &str, edited: &str) -> anyhow::Result<()> {
    let within = || format!("writing {}", file.display());
    // Where the manifest is a link, what it points to is written.
    let file = std::fs::canonicalize(file).with_context(within)?;
    if std::fs::read_to_string(&file).with_context(within)? != read {
        bail!(
            "{} was changed while its model was tuned; nothing is written",
            file.display()
        );
    }
    let folder = file.parent().context("a file is in a folder")?;
    let mut new = tempfile::NamedTempFile::new_in(folder).with_context(within)?;
    new.write_all(edited.as_bytes()).with_context(within)?;
    let rights = std::fs::metadata(&file).with_context(within)?.permissions();
    new.as_file().set_permissions(rights).with_context(within)?;
    new.persist(&file).with_context(within)?;
    Ok(())
}

/// The file of --report.
struct Picture<'a> {
    file: File,
    path: &'a Path,
    render: fn(&Report) -> String,
}

impl<'a> Picture<'a> {
    fn create(path: &'a Path) -> anyhow::Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let render: fn(&Report) -> String = match ending {
            Some("html" | "htm") => page::html,
            Some("svg") => page::svg,
            _ => bail!(
                "--report {}: its name ends in .html for a page, or in .svg for the plots alone",
                path.display()
            ),
        };
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self { file, path, render })
    }

    fn write(mut self, report: &Report) -> anyhow::Result<()> {
        self.file
            .write_all((self.render)(report).as_bytes())
            .with_context(|| self.path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(flags: &str) -> Args {
        let words = ["tune", "m"].into_iter().chain(flags.split_whitespace());
        Line::try_parse_from(words).unwrap().args
    }

    #[test]
    fn loads_rise_and_are_of_one_kind() {
        let users = loads(&args("--users 8,1,8")).unwrap();
        assert_eq!(users, [Load::Users(1), Load::Users(8)]);
        let rates = loads(&args("--rate 100,50")).unwrap();
        assert_eq!(rates, [Load::Rate(50.0), Load::Rate(100.0)]);
        for wrong in ["--users 0", "--rate NaN", "--rate 0"] {
            assert!(loads(&args(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_objective_is_the_slos_unless_a_flag_says_otherwise() {
        let of = |flags| goal(&args(flags)).map(|goal| (goal.p99_ms(), goal.max_failure_percent()));
        assert_eq!(of("").unwrap(), (1500.0, 0.5));
        assert_eq!(
            of("--slo-p99-ms 20 --max-failure-percent 1").unwrap(),
            (20.0, 1.0)
        );
        assert!(of("--slo-p99-ms 0").is_err());
    }

    #[test]
    fn a_budget_in_which_nothing_can_be_repeated_is_refused() {
        let told = |flags| timings(&args(flags)).unwrap_err().to_string();
        assert!(told("--time-budget 10s").contains("less than four measurements take (18 s)"));
        assert!(told("--duration 500ms").contains("at least a second"));
        assert!(timings(&args("--time-budget 18s")).is_ok());
    }

    #[test]
    fn a_graph_is_found_by_its_name_and_another_is_told_which_there_are() {
        let text = "name = \"m\"\nhandler = \"h\"\n[[graph]]\nname = \"a\"\nfile = \"f\"\n[[graph]]\nname = \"b\"\nfile = \"f\"";
        let two = Manifest::parse(text).unwrap();
        assert_eq!(graph(&two, None).unwrap().name, "a");
        assert_eq!(graph(&two, Some("b")).unwrap().name, "b");
        let told = graph(&two, Some("c")).unwrap_err().to_string();
        assert!(told.contains("no graph `c`; it has a, b"), "{told}");
        let none = Manifest::parse("name = \"m\"\nhandler = \"h\"").unwrap();
        assert!(
            graph(&none, None)
                .unwrap_err()
                .to_string()
                .contains("nothing to tune")
        );
    }

    #[test]
    fn a_manifest_that_somebody_else_changed_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.toml");
        std::fs::write(&file, "theirs").unwrap();
        let refused = write_manifest(&file, "read", "mine")
            .unwrap_err()
            .to_string();
        assert!(refused.contains("was changed while"), "{refused}");
        write_manifest(&file, "theirs", "mine").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_reports_kind_is_told_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let told = |name: &str| Picture::create(&folder.path().join(name)).err();
        assert!(told("a.html").is_none() && told("a.svg").is_none());
        assert!(told("a.pdf").unwrap().to_string().contains(".svg"));
    }
}
