//! The Aegis command line: thin, as everything it starts lives in the rooms below.

mod settings;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use settings::ServeArgs;

/// Serves models with their own sandboxed code.
#[derive(Parser)]
#[command(name = "aegis", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve models over HTTP.
    Serve(ServeArgs),
}

fn main() -> ExitCode {
    let Cli {
        command: Command::Serve(args),
    } = Cli::parse();
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "aegis: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let resolved = args.resolve(std::env::vars_os())?;
    for warning in &resolved.warnings {
        writeln!(std::io::stderr(), "aegis: {warning}")?;
    }
    if args.print_config {
        std::io::stdout().write_all(resolved.to_toml().as_bytes())?;
        return Ok(());
    }
    anyhow::bail!("only --print-config is there yet")
}
