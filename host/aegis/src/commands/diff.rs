//! `aegis diff NAME V1 V2`: what is different between two versions.

use anyhow::Context as _;
use serde::Deserialize;

use crate::client::{Connection, Output, columns, print, print_json};

/// Show what is different in a version, compared with an earlier one: keys of its manifest, and
/// files by their digests.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The model.
    name: String,
    /// The version to compare with.
    from: u64,
    /// The version to compare.
    to: u64,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Deserialize)]
struct Diff {
    manifest: Vec<Key>,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct Key {
    key: String,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Deserialize)]
struct File {
    path: String,
    from: Option<Content>,
    to: Option<Content>,
}

#[derive(Deserialize)]
struct Content {
    digest: String,
    size: u64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { name, from, to, .. } = &args;
    let path = format!("/v1/models/{name}/diff?from={from}&to={to}");
    let request = args.connection.client()?.get(args.connection.url(&path));
    let answer = args.connection.json(request).await?;
    if args.connection.output == Output::Json {
        return print_json(&answer);
    }
    let diff: Diff = serde_json::from_value(answer)
        .context("the server's answer is of another version of Aegis")?;
    print(&told(&diff, *from, *to))
}

fn told(diff: &Diff, from: u64, to: u64) -> String {
    if diff.files.is_empty() {
        return format!("versions {from} and {to} have the same content");
    }
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let heads = |what: &str| {
        vec![
            what.to_owned(),
            format!("VERSION {from}"),
            format!("VERSION {to}"),
        ]
    };
    let mut parts = Vec::new();
    if !diff.manifest.is_empty() {
        let mut rows = vec![heads("MANIFEST")];
        let keys = diff.manifest.iter();
        rows.extend(keys.map(|key| vec![key.key.clone(), value(&key.from), value(&key.to)]));
        parts.push(columns(&rows));
    }
    let content = |content: &Option<Content>| match content {
        Some(content) => format!("{} ({} bytes)", short(&content.digest), content.size),
        None => "-".to_owned(),
    };
    let mut rows = vec![heads("FILE")];
    let files = diff.files.iter();
    rows.extend(files.map(|file| vec![file.path.clone(), content(&file.from), content(&file.to)]));
    parts.push(columns(&rows));
    parts.join("\n\n")
}

/// Enough of a digest to tell two apart; `--output json` has all of it.
fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}
