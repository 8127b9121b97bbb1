//! The benchmark: what a sandboxed prediction costs over a bare one, in one table of one run.
//!
//! README.md says what each row means. This file reads the command line and puts the parts in
//! order; `batching`, `density`, `neighbours`, `swap` and `telemetry` are runs of their own, and the hidden subcommands are the
//! processes that the benchmark starts of itself, a server and a load generator, so that neither's processor time is
//! counted as the other's.

mod bare;
mod batching;
mod cases;
mod density;
mod fixture;
mod http;
mod in_process;
mod load;
mod machine;
mod native;
mod neighbours;
mod onnx;
mod over_http;
mod plan;
mod program;
mod report;
mod serve;
mod start;
mod stats;
mod steady;
mod swap;
mod telemetry;

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

use crate::{fixture::Fixture, plan::Plan, program::Checkout, report::Report};

/// The allocator that `aegis` has: the server is measured in this program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what the sandbox costs: in process, over HTTP, at start and at upload.
#[derive(Parser)]
#[command(name = "aegis-bench", version)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(clap::Args)]
struct RunArgs {
    /// A few seconds: sees that everything runs and answers right. Its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// For people, or for programs.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
    /// Measure only this network. May be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    #[command(flatten)]
    checkout: Checkout,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Part {
    /// What requests gain that share runs, and what the scheduler takes of it.
    Batching(batching::Args),
    /// A thousand models in one server: memory, start, bringing back what was unloaded.
    Density(density::Args),
    /// A model's latency beside a hostile one.
    Neighbours(neighbours::Args),
    /// Latency while a model's version is swapped over and over, and memory over many swaps.
    Swap(swap::Args),
    /// What metrics and traces cost that are sent to a collector.
    Telemetry(telemetry::Args),
    /// The server of the HTTP rows; started by the benchmark.
    #[command(hide = true)]
    Serve(serve::Args),
    /// The load generator of the HTTP rows; started by the benchmark.
    #[command(hide = true)]
    Load(load::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.part {
        Some(Part::Batching(args)) => batching::run(&args),
        Some(Part::Density(args)) => density::run(&args),
        Some(Part::Neighbours(args)) => neighbours::run(&args),
        Some(Part::Swap(args)) => swap::run(&args),
        Some(Part::Telemetry(args)) => telemetry::run(&args),
        Some(Part::Serve(args)) => serve::run(&args),
        Some(Part::Load(args)) => load::run(args),
        None => run(&cli.run),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Progress and warnings: beside the table, not in it.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "aegis-bench: {line}");
}

fn run(args: &RunArgs) -> anyhow::Result<()> {
    std::env::set_current_dir(&args.checkout.root)
        .with_context(|| format!("the checkout {}", args.checkout.root.display()))?;
    let plan = Plan::new(args.quick);
    let aegis = program::find(args.checkout.aegis.clone())?;
    let machine = machine::Machine::read();
    for warning in machine.warnings() {
        say(&warning);
    }
    let runtime = bare::runtime(args.checkout.onnxruntime.clone())?;
    let fixture = Fixture::make(&args.only)?;
    let mut report = Report::new(machine, bare::version(&runtime), args.quick);
    for network in &fixture.networks {
        say(&format!("{}: in process", network.name));
        let measured = in_process::measure(&runtime, &fixture, network, &plan)
            .with_context(|| format!("{}, in process", network.name))?;
        report.in_process.push(measured);
    }
    report.over_http = over_http::measure(&fixture, args.checkout.onnxruntime.as_deref(), &plan)?;
    say("start and upload");
    report.start = Some(start::measure(
        &aegis,
        &fixture,
        args.checkout.onnxruntime.as_deref(),
        &plan,
    )?);
    let text = match args.output {
        Output::Text => report.table(),
        Output::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
