//! `aegis simulate`: what an HPA would do to a service under a load, before it is applied; and
//! `aegis simulate replay`, what it does with a recorded series. All of it is `aegis-autoscale`'s.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use aegis_autoscale::{
    fit::{Fit, fit, read_results},
    hpa::Hpa,
    replay::{Series, json_lines, replay},
    report,
    simulate::{Config, Engine, Profile, Signal},
    slo::Slo,
};
use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};

use super::{service::Figures, slo};
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
    /// The SLO file whose HPA is tried, and whose objectives and metrics hold; without it, the
    /// built-in SLO.
    #[arg(long, value_name = "FILE")]
    slo: Option<PathBuf>,
    /// The manifest to try, instead of the one that the SLO renders.
    #[arg(long, value_name = "FILE")]
    hpa: Option<PathBuf>,
    /// The manifest to compare it with, instead of the built-in one with CPU at 70 %.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Find service time, concurrency and think time from these load-test results, and use them.
    #[arg(long, value_name = "RESULTS.csv")]
    fit: Option<PathBuf>,
    /// How many replicas the load test ran against, where its results do not tell.
    #[arg(long, value_name = "N", requires = "fit")]
    replicas: Option<u32>,
    /// Write what was fitted, with the figures of the flags, to this file, for --service.
    #[arg(long, value_name = "FILE.toml", requires = "fit")]
    save_service: Option<PathBuf>,
    /// The service's figures from this file; flags come before it.
    #[arg(long, value_name = "FILE.toml")]
    service: Option<PathBuf>,
    #[command(flatten)]
    figures: Figures,
    /// Between two scrapes, in seconds [default: the SLO's].
    #[arg(long, value_name = "SECONDS")]
    scrape: Option<f64>,
    /// The window of rates, in seconds [default: the SLO's].
    #[arg(long, value_name = "SECONDS")]
    rate_window: Option<f64>,
    /// How old what the adapter answers is, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    adapter_lag: f64,
    /// What a metric of the manifest measures, where its name is not one of ours:
    /// s0-prometheus=in_flight. There are p50, p90, p95, p99, in_flight, queue_depth and rps.
    #[arg(long, value_name = "NAME=SIGNAL", value_parser = signal)]
    metric: Vec<(String, Signal)>,
    /// The objective for the P95, in milliseconds: above it is a breach [default: the SLO's].
    #[arg(long, value_name = "MS")]
    objective_ms: Option<f64>,
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
        Ok(Made { text, svg, service }) => {
            for (path, text) in [(&args.svg, svg), (&args.save_service, service)] {
                if let Some((path, text)) = path.as_ref().zip(text) {
                    std::fs::write(path, text)
                        .with_context(|| format!("writing {}", path.display()))?;
                }
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
    service: Option<String>,
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

pub(super) fn manifest(path: &Path) -> anyhow::Result<Hpa> {
    Hpa::from_yaml(&read(path)?).with_context(|| path.display().to_string())
}

fn replayed(args: &ReplayArgs) -> anyhow::Result<Made> {
    let hpa = manifest(&args.hpa)?;
    let series = Series::from_json(&read(&args.series)?)
        .with_context(|| args.series.display().to_string())?;
    Ok(Made {
        text: json_lines(&replay(&hpa, &series)),
        svg: None,
        service: None,
    })
}

fn simulated(args: &Args) -> anyhow::Result<Made> {
    let slo = slo::read_or_default(args.slo.as_deref())?;
    let mut config = config(args, &slo)?;
    let fitted = match &args.fit {
        Some(path) => Some(fitted(args, path, &mut config)?),
        None => None,
    };
    let service = match (&args.save_service, &fitted) {
        (Some(_), Some(fit)) => Some(service_file(fit, &config)?),
        _ => None,
    };
    let mut hpas = report::hpas(&slo)?;
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
    let report = report::compare(&config, &slo, &hpas, &profiles)?;
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
    Ok(Made { text, svg, service })
}

/// Fits the service to results and puts it into the configuration.
fn fitted(args: &Args, path: &Path, config: &mut Config) -> anyhow::Result<Fit> {
    let found = args.figures.fitted();
    if !found.is_empty() {
        bail!(
            "--fit finds what {} says; leave one of them away",
            found.join(" and ")
        );
    }
    let named = || path.display().to_string();
    let rows = read_results(&read(path)?).with_context(named)?;
    let fit = fit(&rows, args.replicas, config).with_context(named)?;
    if fit.think_s.is_some() && args.figures.knows_thought() {
        bail!(
            "{}: its users say how long they think; leave --think away",
            named()
        );
    }
    fit.apply(config)?;
    Ok(fit)
}

/// The file of a fitted service.
fn service_file(fit: &Fit, config: &Config) -> anyhow::Result<String> {
    let figures = Figures::of(config).written()?;
    Ok(format!(
        "# Fitted by `aegis simulate --fit`, off by {:.1} % on average. service_ms, service_cv and concurrency\n\
         # are measured{}; the rest is what the flags and the SLO said.\n{figures}",
        fit.rms_percent,
        if fit.think_s.is_some() {
            ", and think"
        } else {
            ""
        },
    ))
}

fn profile(name: &str) -> anyhow::Result<Profile> {
    if name.ends_with(".csv") {
        let text = read(Path::new(name))?;
        Profile::from_csv(name, &text).context(name.to_owned())
    } else {
        Ok(name.parse()?)
    }
}

fn config(args: &Args, slo: &Slo) -> anyhow::Result<Config> {
    let mut config = Config::of(slo)?;
    let file = args.service.as_deref().map(Figures::read).transpose()?;
    let figures = args.figures.clone().or(file.unwrap_or_default());
    figures.apply(&mut config)?;
    config.scrape = args.scrape.unwrap_or(config.scrape);
    config.rate_window = args.rate_window.unwrap_or(config.rate_window);
    config.adapter_lag = args.adapter_lag;
    config.signals = args.metric.iter().cloned().collect();
    if let Some(ms) = args.objective_ms {
        config.objective = ms / 1e3;
    }
    config.pod_hour = args.pod_cost;
    config.seed = args.seed;
    config.engine = match args.engine {
        EngineName::Auto => Engine::Auto,
        EngineName::Exact => Engine::Exact,
        EngineName::Aggregate => Engine::Aggregate,
    };
    Ok(config)
}
