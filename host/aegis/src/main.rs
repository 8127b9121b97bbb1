//! The Aegis command line: thin, as everything it starts or asks lives in the other rooms.

#[expect(unsafe_code, reason = "a door to the allocator")]
mod allocator;
mod client;
mod commands;
mod credential;
#[cfg(test)]
mod limits_page;
mod machine;
mod settings;

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};

use commands::{
    diff, gc, history, inspect, loadtest, models, new, predict, promote, push, rm, serve, sign,
    simulate, slo, token, traffic, tune, worker,
};

/// Serves models with their own sandboxed code.
#[derive(Parser)]
// `predict` and `promote` have a version of their own, a model's: the program's is here only.
#[command(name = "aegis", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve models over HTTP.
    Serve(Box<settings::ServeArgs>),
    /// Write a handler project that is tested, built and pushed as it stands.
    New(new::Args),
    /// Upload a model package, a folder with a model.toml.
    Push(push::Args),
    /// Ask a model for a prediction.
    Predict(predict::Args),
    /// List models, or show one.
    Models(models::Args),
    /// Make a version of a model the one that answers.
    Promote(promote::Args),
    /// Put a version on trial with a share of the requests.
    Canary(traffic::CanaryArgs),
    /// Send a version copies of requests, and compare its answers.
    Shadow(traffic::ShadowArgs),
    /// Name the version that takes over from an unhealthy one.
    Fallback(traffic::FallbackArgs),
    /// Make the version stable again that was before.
    Rollback(traffic::RollbackArgs),
    /// Show what is different between two versions of a model.
    Diff(diff::Args),
    /// Show who did what to a model, and when.
    History(history::Args),
    /// Delete a version, or a model.
    Rm(rm::Args),
    /// Remove from the store what no version needs.
    Gc(gc::Args),
    /// Sign a model package.
    Sign(sign::Args),
    /// Make tokens, for servers that ask for them.
    Token(token::Args),
    /// Show what a handler is, what it would be granted, and what an upload would make of it.
    Inspect(inspect::Args),
    /// Drive a server as its users would, and judge it by the SLO.
    Loadtest(Box<loadtest::Args>),
    /// Show what an autoscaler would do to a service, before it is applied.
    Simulate(Box<simulate::Args>),
    /// Find the batching, sessions and threads with which a graph serves most within its objective.
    Tune(Box<tune::Args>),
    /// Make the rules, autoscaler and manifests of a cluster from one SLO file.
    Slo(slo::Args),
    /// Do one piece of the server's work in this process.
    #[command(hide = true)]
    Worker(worker::Args),
    /// Serve until whoever started this is gone.
    #[command(hide = true, name = tune::server::COMMAND)]
    ServeForParent(Box<settings::ServeArgs>),
}

/// The status of a command that has told all it has to tell.
fn told(ended: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    ended.map(|()| ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::New(args) => told(new::run(args)),
        Command::Token(args) => token::run(args),
        Command::Push(args) => told(client::block_on(push::run(args))),
        Command::Predict(args) => told(client::block_on(predict::run(args))),
        Command::Models(args) => told(client::block_on(models::run(args))),
        Command::Promote(args) => told(client::block_on(promote::run(args))),
        Command::Canary(args) => told(client::block_on(traffic::canary(args))),
        Command::Shadow(args) => told(client::block_on(traffic::shadow(args))),
        Command::Fallback(args) => told(client::block_on(traffic::fallback(args))),
        Command::Rollback(args) => told(client::block_on(traffic::rollback(args))),
        Command::Diff(args) => told(client::block_on(diff::run(args))),
        Command::History(args) => told(client::block_on(history::run(args))),
        Command::Rm(args) => told(client::block_on(rm::run(args))),
        Command::Gc(args) => told(client::block_on(gc::run(args))),
        Command::Sign(args) => told(sign::run(&args)),
        Command::Inspect(args) => client::block_on(inspect::run(args)),
        Command::Loadtest(args) => client::block_on(loadtest::run(*args)),
        Command::Simulate(args) => simulate::run(&args),
        Command::Tune(args) => client::block_on(tune::run(*args)),
        Command::Slo(args) => slo::run(args),
        Command::ServeForParent(args) => tune::server::run(&args),
        Command::Worker(args) => Ok(worker::run(&args)),
    };
    ended.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "aegis: {error:#}");
        ExitCode::FAILURE
    })
}
