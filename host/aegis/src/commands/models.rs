//! `aegis models [NAME]`: what the server has.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use super::{
    history::{self, Change, or_dash},
    traffic::Rule,
};
use crate::client::{Connection, Output, columns, print, print_json};

/// List models, or show one with its versions.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Show this model's versions.
    name: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Deserialize)]
struct Listing {
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
    traffic: Traffic,
    loaded: bool,
    loaded_versions: Vec<u64>,
    graphs: Vec<Graph>,
    versions: Vec<Version>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Traffic {
    #[serde(flatten)]
    rule: Rule,
    #[serde(default)]
    history: Vec<Change>,
}

#[derive(Deserialize)]
struct Graph {
    name: String,
    backend: String,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
    digest: String,
    created_at: String,
    #[serde(default)]
    created_by: Option<String>,
    bytes: u64,
    #[serde(default)]
    signature: Signature,
}

/// Whose signature a version has; nothing from a server that does not say.
#[derive(Default, Deserialize)]
struct Signature {
    #[serde(default)]
    state: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let path = match &args.name {
        None => "/v1/models".to_owned(),
        Some(name) => format!("/v1/models/{name}"),
    };
    let request = args.connection.client()?.get(args.connection.url(&path));
    let answer: Value = args.connection.json(request).await?;
    if args.connection.output == Output::Json {
        return print_json(&answer);
    }
    let unexpected = "the server's answer is of another version of Aegis";
    match &args.name {
        None => print(&list(&serde_json::from_value(answer).context(unexpected)?)),
        Some(_) => print(&show(&serde_json::from_value(answer).context(unexpected)?)),
    }
}

fn list(listing: &Listing) -> String {
    if listing.models.is_empty() {
        return "no models yet; upload one with: aegis push DIR".to_owned();
    }
    let head = ["NAME", "VERSION", "LOADED", "BACKENDS", "VERSIONS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(listing.models.iter().map(|model| {
        vec![
            model.name.clone(),
            stable(&model.traffic),
            yes_or_no(model.loaded),
            backends(model),
            model.versions.len().to_string(),
        ]
    }));
    let mut text = columns(&rows);
    for model in &listing.models {
        if let Some(error) = &model.error {
            text.push_str(&format!("\n{}: {error}", model.name));
        }
    }
    text
}

fn show(model: &Model) -> String {
    let head = [
        "VERSION", "SERVES", "LOADED", "CREATED", "BY", "SIGNED", "BYTES", "DIGEST",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(model.versions.iter().map(|version| {
        let parts = model.traffic.rule.parts_of(version.version);
        vec![
            version.version.to_string(),
            or_dash(Some(parts).filter(|parts| !parts.is_empty())),
            yes_or_no(model.loaded_versions.contains(&version.version)),
            version.created_at.clone(),
            or_dash(version.created_by.clone()),
            signed(&version.signature),
            version.bytes.to_string(),
            version.digest.clone(),
        ]
    }));
    let mut error = model
        .error
        .as_ref()
        .map_or_else(String::new, |error| format!("\nnot loaded: {error}"));
    for version in &model.versions {
        if let Some(reason) = &version.signature.reason {
            error.push_str(&format!("\nversion {}: {reason}", version.version));
        }
    }
    format!(
        "{} ({})\n{}\n\n{}{}{error}",
        model.name,
        backends(model),
        model.traffic.rule.sentence(),
        columns(&rows),
        last_changes(&model.traffic.history)
    )
}

/// The changes shown of a model's traffic; `--output json` has them all.
const CHANGES: usize = 10;

/// Who changed which version answers, and when: the last changes, the newest first.
fn last_changes(changes: &[Change]) -> String {
    if changes.is_empty() {
        return String::new();
    }
    format!("\n\n{}", history::told(changes.iter().rev().take(CHANGES)))
}

/// By whom, or why not.
fn signed(signature: &Signature) -> String {
    match (signature.state.as_str(), &signature.name) {
        ("verified", Some(name)) => format!("by {name}"),
        ("" | "unsigned", _) => "-".to_owned(),
        (state, _) => state.replace('_', " "),
    }
}

fn stable(traffic: &Traffic) -> String {
    or_dash(traffic.rule.stable.map(|version| version.to_string()))
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn backends(model: &Model) -> String {
    if model.graphs.is_empty() {
        return "-".to_owned();
    }
    let graphs: Vec<String> = model
        .graphs
        .iter()
        .map(|graph| format!("{}:{}", graph.name, graph.backend))
        .collect();
    graphs.join(",")
}
