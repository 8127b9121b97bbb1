//! `aegis worker`: what the server starts to compile and parse what is uploaded, in a process
//! of its own. Nobody else has a use for it.

use std::process::ExitCode;

use aegis_sandbox::worker::{WorkerCommand, compile_child};
use aegis_server::graph_child;
use clap::{Args as ClapArgs, ValueEnum};

/// What to do with what standard input brings.
#[derive(ClapArgs)]
pub(crate) struct Args {
    kind: Kind,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Prepare a component.
    Compile,
    /// Parse and warm up a graph.
    Graph,
}

/// How the server starts one.
pub(crate) fn command() -> WorkerCommand {
    WorkerCommand::this_program(&["worker"])
}

pub(crate) fn run(args: &Args) -> ExitCode {
    match args.kind {
        Kind::Compile => compile_child(),
        Kind::Graph => graph_child(),
    }
}
