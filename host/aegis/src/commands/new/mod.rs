//! `aegis new NAME`: a handler project that is tested, built and pushed as it stands.
//!
//! `sdk` holds the SDK that goes into it, `project` its files, `graph` the handler of a
//! network that is there already.

mod graph;
mod project;
mod sdk;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aegis_registry::ModelName;
use anyhow::{Context as _, bail};
use serde_json::json;

use self::{graph::Network, project::Project};
use crate::client::{Output, print, print_json};

/// Write a handler project: tested, built and pushed as it stands.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The model's name.
    name: ModelName,
    /// A network to put into it: the handler is written for its inputs and outputs.
    #[arg(long, value_name = "FILE.onnx")]
    graph: Option<PathBuf>,
    /// Where to write it: a folder that is empty or not there [default: ./NAME].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// For people, or for programs.
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Output,
}

/// What makes the project a model, in order.
const STEPS: [&str; 3] = [
    "cargo test",
    "cargo build --release --target wasm32-wasip2",
    "aegis push .",
];

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let folder = args
        .dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(args.name.as_str()));
    let there = take(&folder)?;
    let files = write(&args, &folder).inspect_err(|_| give_back(&folder, there))?;
    match args.output {
        Output::Json => print_json(&json!({
            "name": args.name.as_str(),
            "folder": folder,
            "files": files,
            "next": STEPS,
        })),
        Output::Text => print(&format!(
            "{} is in {}\nnext:\n  cd {}\n  {}",
            args.name,
            folder.display(),
            folder.display(),
            STEPS.join("\n  ")
        )),
    }
}

/// Takes a folder that has nothing to lose; says whether it was there.
fn take(folder: &Path) -> anyhow::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(true),
            Some(_) => bail!(
                "{} is not empty, and nothing in it is overwritten: name another with --dir, or \
                 remove it",
                folder.display()
            ),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| folder.display().to_string()),
    }
}

/// Leaves the folder as it was found, as far as that goes: empty, or not there.
fn give_back(folder: &Path, there: bool) {
    let entries = fs::read_dir(folder).into_iter().flatten();
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let _ = if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
    }
    if !there {
        let _ = fs::remove_dir(folder);
    }
}

/// Writes the project and says which files it has, apart from the SDK's.
fn write(args: &Args, folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut own = Vec::new();
    let network = match &args.graph {
        None => None,
        Some(file) => {
            let name = format!("{}.onnx", args.name);
            let network = Network::copy(file, args.name.as_str(), &folder.join(&name))?;
            own.push(name);
            Some(network)
        }
    };
    for (path, text) in Project::new(&args.name, network).files() {
        put(folder, path, &text)?;
        own.push(path.to_owned());
    }
    for (path, text) in sdk::files()? {
        put(folder, &path, &text)?;
    }
    own.sort();
    Ok(own)
}

fn put(folder: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(path);
    let told = || path.display().to_string();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(told)?;
    }
    fs::write(&path, text).with_context(told)
}
