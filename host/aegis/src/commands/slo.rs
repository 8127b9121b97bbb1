//! `aegis slo`: the folder `k8s/` from the SLO file, and whether they still agree. What is rendered
//! is decided in `aegis-autoscale`.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use aegis_autoscale::{
    render::{self, Difference, Differs},
    slo::{Slo, SloError},
};
use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::client::{Output, print, print_json};

/// The folder differs from what the file makes of it.
const DIFFERS: u8 = 1;
/// The file is no SLO; as clap's own for a wrong flag.
const BAD_INPUT: u8 = 2;

/// From one SLO file to the rules, autoscaler, manifests and dashboard of a Kubernetes cluster.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write everything that the SLO file gives. Ends with 0, or 2 when the file is wrong.
    Render(Files),
    /// Say whether the folder is what the SLO file gives. Ends with 0 if it is, 1 if they have
    /// parted, 2 when the file is wrong.
    Check(Files),
}

/// The SLO of a file, or the built-in one, whose figures are those of `k8s/slo.toml` as it came.
pub(crate) fn read_or_default(path: Option<&Path>) -> anyhow::Result<Slo> {
    let Some(path) = path else {
        return Ok(Slo::default());
    };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Slo::parse(&text).with_context(|| path.display().to_string())
}

#[derive(clap::Args, Debug)]
struct Files {
    /// The SLO file.
    #[arg(long, value_name = "FILE", default_value = "k8s/slo.toml")]
    slo: PathBuf,
    /// The folder of manifests.
    #[arg(long, value_name = "DIR", default_value = "k8s")]
    out: PathBuf,
    /// For people, or for programs.
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Output,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (files, check) = match &args.what {
        What::Render(files) => (files, false),
        What::Check(files) => (files, true),
    };
    let text = match std::fs::read_to_string(&files.slo) {
        Ok(text) => text,
        Err(error) => {
            let problem = json!({ "line": null, "key": "", "message": error.to_string() });
            return wrong(files, &error.to_string(), &[problem]);
        }
    };
    match Slo::parse(&text) {
        Err(error) => wrong(files, &error.to_string(), &problems(&error)),
        Ok(slo) if check => compare(files, &slo),
        Ok(slo) => write(files, &slo),
    }
}

/// Tells what is wrong with the file.
fn wrong(files: &Files, said: &str, problems: &[Value]) -> anyhow::Result<ExitCode> {
    let name = files.slo.display();
    match files.output {
        Output::Json => print_json(&json!({ "slo": name.to_string(), "problems": problems }))?,
        Output::Text => {
            let mut stderr = std::io::stderr().lock();
            for line in said.lines() {
                writeln!(stderr, "aegis: {name}: {line}")?;
            }
        }
    }
    Ok(ExitCode::from(BAD_INPUT))
}

fn problems(error: &SloError) -> Vec<Value> {
    let problem = |problem: &aegis_autoscale::slo::Problem| json!({ "line": problem.line, "key": problem.key, "message": problem.message });
    error.problems.iter().map(problem).collect()
}

fn write(files: &Files, slo: &Slo) -> anyhow::Result<ExitCode> {
    let written = render::write(&files.out, slo).context("rendering")?;
    let paths: Vec<String> = written.iter().map(|path| shown(&files.out, path)).collect();
    match files.output {
        Output::Json => print_json(&json!({ "written": paths }))?,
        Output::Text if paths.is_empty() => print("nothing to change")?,
        Output::Text => print(&paths.join("\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(files: &Files, slo: &Slo) -> anyhow::Result<ExitCode> {
    let differences = render::check(&files.out, slo).context("comparing")?;
    match files.output {
        Output::Json => {
            let differences: Vec<Value> = differences.iter().map(as_json).collect();
            print_json(&json!({ "differences": differences }))?;
        }
        Output::Text if differences.is_empty() => {
            let (folder, file) = (files.out.display(), files.slo.display());
            print(&format!("{folder} is what {file} gives"))?;
        }
        Output::Text => {
            let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
            let again = format!(
                "run: aegis slo render --slo {} --out {}",
                files.slo.display(),
                files.out.display()
            );
            print(&format!("{}\n{again}", lines.join("\n")))?;
        }
    }
    Ok(if differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERS)
    })
}

fn as_json(difference: &Difference) -> Value {
    let (what, line) = match difference.what {
        Differs::Missing => ("missing", None),
        Differs::Line(line) => ("differs", Some(line)),
        Differs::Stale => ("stale", None),
    };
    json!({ "path": difference.path.display().to_string(), "what": what, "line": line })
}

fn shown(folder: &Path, path: &Path) -> String {
    folder.join(path).display().to_string()
}
