//! `aegis history NAME`: who did what to a model, and when.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::json;

use super::traffic::Share;
use crate::client::{Connection, Output, columns, print, print_json};

/// Show who uploaded, promoted and deleted versions of a model, and when; the newest first.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The model.
    name: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Deserialize)]
struct Model {
    traffic: Traffic,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Traffic {
    #[serde(default)]
    history: Vec<Change>,
}

/// One change of a model, as the server tells of it.
#[derive(Deserialize)]
pub(super) struct Change {
    at: String,
    #[serde(default)]
    by: Option<String>,
    action: String,
    #[serde(default)]
    version: Option<u64>,
    /// The canary's share after it.
    #[serde(default)]
    canary: Option<Share>,
    #[serde(default)]
    why: Option<String>,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
    created_at: String,
    #[serde(default)]
    created_by: Option<String>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let path = format!("/v1/models/{}", args.name);
    let request = args.connection.client()?.get(args.connection.url(&path));
    let answer = args.connection.json(request).await?;
    let model: Model = serde_json::from_value(answer)
        .context("the server's answer is of another version of Aegis")?;
    let events = events(model);
    match args.connection.output {
        Output::Json => {
            let event = |event: &Change| json!({ "at": event.at, "by": event.by, "action": event.action, "version": event.version, "why": event.why });
            print_json(&events.iter().map(event).collect())
        }
        Output::Text => print(&told(&events)),
    }
}

/// Uploads and changes of the rule together, the newest first.
fn events(model: Model) -> Vec<Change> {
    let uploads = model.versions.into_iter().map(|version| Change {
        at: version.created_at,
        by: version.created_by,
        action: "upload".to_owned(),
        version: Some(version.version),
        canary: None,
        why: None,
    });
    let mut events: Vec<_> = uploads.chain(model.traffic.history).collect();
    // Times of one form, to the second and in UTC, so their text sorts as they do. Of one second, an
    // upload comes before what is done with it.
    events.sort_by(|a, b| a.at.cmp(&b.at));
    events.reverse();
    events
}

/// Changes as a table, in the order given.
pub(super) fn told<'c>(events: impl IntoIterator<Item = &'c Change>) -> String {
    let mut rows = vec![
        ["WHEN", "BY", "WHAT", "VERSION", "CANARY", "WHY"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(events.into_iter().map(|event| {
        vec![
            event.at.clone(),
            or_dash(event.by.clone()),
            event.action.clone(),
            or_dash(event.version.map(|version| version.to_string())),
            or_dash(
                event
                    .canary
                    .as_ref()
                    .map(|canary| format!("{} %", canary.weight)),
            ),
            or_dash(event.why.clone()),
        ]
    }));
    columns(&rows)
}

/// What stands in a table for what there is not.
pub(super) fn or_dash(word: Option<String>) -> String {
    word.unwrap_or_else(|| "-".to_owned())
}
