//! `aegis push DIR`: uploads a package, streaming its files.

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use reqwest::{
    Body,
    multipart::{Form, Part},
};
use serde_json::Value;
use tokio_util::io::ReaderStream;

use super::package::Folder;
use crate::client::{Connection, Output, print, print_json};

/// Upload a model package. The first version of a model answers at once; later ones when
/// promoted.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The package: a folder with a model.toml. Only the files it names are sent.
    dir: PathBuf,
    /// Make the version the one that answers.
    #[arg(long)]
    promote: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let folder = Folder::read(&args.dir)?;
    let name = folder.manifest.name.as_str();
    let (form, total) = form(&folder).await?;
    let promote = if args.promote { "?promote=true" } else { "" };
    let url = args
        .connection
        .url(&format!("/v1/models/{name}/versions{promote}"));
    let client = args.connection.client()?;
    let answer = args
        .connection
        .json(client.post(url).multipart(form))
        .await
        .with_context(|| format!("pushing {}", args.dir.display()))?;
    for warning in answer
        .get("warnings")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        writeln!(std::io::stderr(), "aegis: warning: {}", plain(warning))?;
    }
    match args.connection.output {
        Output::Json => print_json(&answer),
        Output::Text => print(&told(&answer, total)),
    }
}

fn told(answer: &Value, bytes: u64) -> String {
    let text = |key: &str| answer.get(key).map(plain).unwrap_or_default();
    let is = |key: &str| answer.get(key).and_then(Value::as_bool).unwrap_or(false);
    let (name, version) = (text("name"), text("version"));
    let what = if is("created") {
        format!("{name} version {version} uploaded ({bytes} bytes)")
    } else {
        format!("{name} version {version} has this very content already")
    };
    let next = if is("serving") {
        "it answers requests now".to_owned()
    } else {
        format!("promote it with: aegis promote {name} {version}")
    };
    format!("{what}\n{}\n{next}", text("digest"))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The package as a multipart form that reads the files as it is sent.
async fn form(folder: &Folder) -> anyhow::Result<(Form, u64)> {
    let mut form = Form::new();
    let mut files = Vec::new();
    let mut total = 0;
    for (name, path) in folder.files() {
        let file = tokio::fs::File::open(&path)
            .await
            .with_context(|| path.display().to_string())?;
        let length = file.metadata().await?.len();
        total += length;
        files.push((name, file, length));
    }
    let progress = Progress::new(total);
    for (name, file, length) in files {
        let progress = progress.clone();
        let stream = ReaderStream::with_capacity(file, 256 << 10)
            .inspect_ok(move |bytes| progress.advance(bytes.len() as u64));
        let part = Part::stream_with_length(Body::wrap_stream(stream), length).file_name(name);
        form = form.part("file", part);
    }
    Ok((form, total))
}

/// How much has been sent, on a terminal.
#[derive(Clone)]
struct Progress {
    sent: Arc<AtomicU64>,
    total: u64,
    shown: bool,
}

/// Uploads smaller than this are over before anyone could read a progress line.
const WORTH_SHOWING: u64 = 4 << 20;

impl Progress {
    fn new(total: u64) -> Progress {
        Progress {
            sent: Arc::default(),
            total,
            shown: total >= WORTH_SHOWING && std::io::stderr().is_terminal(),
        }
    }

    fn advance(&self, bytes: u64) {
        let sent = self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if !self.shown {
            return;
        }
        let end = if sent >= self.total { "\n" } else { "" };
        let _ = write!(
            std::io::stderr(),
            "\rsent {} of {} MiB{end}",
            sent >> 20,
            self.total >> 20
        );
    }
}
