//! `aegis simulate`: what an HPA would do to a service under a load, before it is applied; and
//! `aegis simulate replay`, what it does with a recorded series. All of it is `aegis-autoscale`'s.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use aegis_autoscale::{
    fit::{fit, read_results},
    hpa::Hpa,
    replay::{Series, json_lines, replay},
    report,
    simulate::{Config, Engine, Profile, ServiceTime, Signal},
};
use anyhow::{Context as _, anyhow};
use clap::{Subcommand, ValueEnum};

use crate::client::print;

/// Show what autoscaling would do: the seeds' scenarios and a day, under CPU alone and under the
/// SLO, or your own load, service and manifest. Ends with 0, with 2 if what it was given makes no
/// sense, with 1 if the result cannot be written.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The load: step, ramp, spike, day, gradual, surge, or a CSV with the columns time,users or
    /// time,rps. May be given more than once; without it, the seeds' scenarios and a day.
    #[arg(long, value_name = "NAME|FILE.csv")]
    profile: Vec<String>,
    /// The manifest to try, instead of the built-in one with the seeds' SLO.
    #[arg(long, value_name = "FILE")]
    hpa: Option<PathBuf>,
    /// The manifest to compare it with, instead of the built-in one with CPU at 70 %.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Find service time, concurrency and think time from these load-test results, and use them.
    #[arg(long, value_name = "RESULTS.csv", conflicts_with_all = ["service_ms", "service_times", "service_cv", "concurrency", "think"])]
    fit: Option<PathBuf>,
    /// How many replicas the load test ran against, where its results do not tell.
    #[arg(long, value_name = "N", requires = "fit")]
    replicas: Option<u32>,
    /// Mean service time of a request, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 100.0)]
    service_ms: f64,
    /// Its coefficient of variation.
    #[arg(long, value_name = "CV", default_value_t = 0.5)]
    service_cv: f64,
    /// Measured service times instead, one a line, in seconds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["service_ms", "service_cv"])]
    service_times: Option<PathBuf>,
    /// Requests a pod answers at once.
    #[arg(long, value_name = "N", default_value_t = 4)]
    concurrency: u32,
    /// Requests at most in a batch.
    #[arg(long, value_name = "N", default_value_t = 1)]
    max_batch: u32,
    /// What each further request of a batch adds to its time, as a share of the first.
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    batch_marginal: f64,
    /// Requests that may wait in a pod before it answers 429.
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_queue: u32,
    /// Cores that one request in work uses.
    #[arg(long, value_name = "CORES", default_value_t = 0.15)]
    cores: f64,
    /// A pod's CPU request, in thousandths of a core.
    #[arg(long, value_name = "MILLICORES", default_value_t = 500)]
    cpu_request: i64,
    /// How long a user thinks between an answer and the next request, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.2)]
    think: f64,
    /// From a container's start until its pod is ready, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    startup: f64,
    /// Between two scrapes, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 15.0)]
    scrape: f64,
    /// The window of rates, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    rate_window: f64,
    /// How old what the adapter answers is, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    adapter_lag: f64,
    /// What a metric of the manifest measures, where its name is not one of ours:
    /// s0-prometheus=in_flight. There are p50, p90, p95, p99, in_flight, queue_depth and rps.
    #[arg(long, value_name = "NAME=SIGNAL", value_parser = signal)]
    metric: Vec<(String, Signal)>,
    /// The objective for the P95, in milliseconds: above it is a breach.
    #[arg(long, value_name = "MS", default_value_t = 350.0)]
    objective_ms: f64,
    /// What a pod costs an hour, in dollars.
    #[arg(long, value_name = "DOLLARS", default_value_t = 0.10)]
    pod_cost: f64,
    /// The seed of all that is drawn: the same gives the same run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Follow every request, or reckon in bulk; auto takes bulk from four million requests on.
    #[arg(long, value_enum, default_value = "auto")]
    engine: EngineName,
    /// Draw load, P95 and replicas into this file as well.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Tables for people, every sync as CSV, or everything as JSON.
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Decide each tick of a recorded series as the manifest's controller would, as JSON lines.
    Replay(ReplayArgs),
}

#[derive(clap::Args, Debug)]
struct ReplayArgs {
    /// The manifest.
    #[arg(long, value_name = "MANIFEST.yaml")]
    hpa: PathBuf,
    /// The series.
    #[arg(value_name = "SERIES.json")]
    series: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
    Csv,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EngineName {
    Auto,
    Exact,
    Aggregate,
}

fn signal(text: &str) -> Result<(String, Signal), String> {
    let (name, word) = text.split_once('=').ok_or("write NAME=SIGNAL")?;
    let signal = word.parse().map_err(|error| format!("{error}"))?;
    Ok((name.to_owned(), signal))
}

/// The status of a command that was given what makes no sense.
const BAD_INPUT: u8 = 2;

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let made = match &args.command {
        Some(Command::Replay(args)) => replayed(args),
        None => simulated(args),
    };
    match made {
        Ok(Made { text, svg }) => {
            if let (Some(path), Some(svg)) = (&args.svg, svg) {
                std::fs::write(path, svg).with_context(|| format!("writing {}", path.display()))?;
            }
            print(text.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "aegis: {error:#}");
            Ok(ExitCode::from(BAD_INPUT))
        }
    }
}

/// What is to be written.
struct Made {
    text: String,
    svg: Option<String>,
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn manifest(path: &Path) -> anyhow::Result<Hpa> {
    Hpa::from_yaml(&read(path)?).with_context(|| path.display().to_string())
}

fn replayed(args: &ReplayArgs) -> anyhow::Result<Made> {
    let hpa = manifest(&args.hpa)?;
    let series = Series::from_json(&read(&args.series)?)
        .with_context(|| args.series.display().to_string())?;
    Ok(Made {
        text: json_lines(&replay(&hpa, &series)),
        svg: None,
    })
}

fn simulated(args: &Args) -> anyhow::Result<Made> {
    let mut config = config(args)?;
    let mut fitted = None;
    if let Some(path) = &args.fit {
        let rows = read_results(&read(path)?).with_context(|| path.display().to_string())?;
        let fit = fit(&rows, args.replicas, &config).with_context(|| path.display().to_string())?;
        fit.apply(&mut config)?;
        fitted = Some(fit);
    }
    let mut hpas = report::embedded()?;
    for ((_, hpa), path) in hpas.iter_mut().zip([&args.before, &args.hpa]) {
        if let Some(path) = path {
            *hpa = manifest(path)?;
        }
    }
    let profiles = if args.profile.is_empty() {
        report::standard_profiles()
    } else {
        args.profile
            .iter()
            .map(|name| Ok((name.clone(), profile(name)?)))
            .collect::<anyhow::Result<_>>()?
    };
    let report = report::compare(&config, &hpas, &profiles)?;
    let svg = match &args.svg {
        Some(_) => Some(report::svg(&report)?),
        None => None,
    };
    let text = match args.output {
        Format::Text => {
            let tables = report::text(&report);
            match &fitted {
                Some(fit) => format!("{}\n\n{tables}", report::fit_text(fit)),
                None => tables,
            }
        }
        Format::Csv => report::csv(&report),
        Format::Json => report::json(&report, fitted.as_ref()),
    };
    Ok(Made { text, svg })
}

fn profile(name: &str) -> anyhow::Result<Profile> {
    if name.ends_with(".csv") {
        let text = read(Path::new(name))?;
        Profile::from_csv(name, &text).context(name.to_owned())
    } else {
        Ok(name.parse()?)
    }
}

fn config(args: &Args) -> anyhow::Result<Config> {
    let mut config = Config::example()?;
    config.service.time = match &args.service_times {
        None => ServiceTime::log_normal(args.service_ms / 1e3, args.service_cv)?,
        Some(path) => {
            let times = read(path)?
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim().is_empty())
                .map(|(index, line)| {
                    line.trim().parse::<f64>().map_err(|_| {
                        anyhow!(
                            "{}: line {}: `{line}` is no time in seconds",
                            path.display(),
                            index + 1
                        )
                    })
                })
                .collect::<anyhow::Result<_>>()?;
            ServiceTime::measured(times).with_context(|| path.display().to_string())?
        }
    };
    config.service.concurrency = args.concurrency;
    config.service.max_batch = args.max_batch;
    config.service.batch_marginal = args.batch_marginal;
    config.service.max_queue = args.max_queue;
    config.service.cores_per_place = args.cores;
    config.service.cpu_request_milli = args.cpu_request;
    config.think = args.think;
    config.startup = args.startup;
    config.scrape = args.scrape;
    config.rate_window = args.rate_window;
    config.adapter_lag = args.adapter_lag;
    config.signals = args.metric.iter().cloned().collect();
    config.objective = args.objective_ms / 1e3;
    config.pod_hour = args.pod_cost;
    config.seed = args.seed;
    config.engine = match args.engine {
        EngineName::Auto => Engine::Auto,
        EngineName::Exact => Engine::Exact,
        EngineName::Aggregate => Engine::Aggregate,
    };
    Ok(config)
}
