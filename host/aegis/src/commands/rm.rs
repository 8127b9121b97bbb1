//! `aegis rm NAME [VERSION]`: deletes a version, or a model with all its versions.

use anyhow::bail;
use serde_json::json;

use crate::client::{Connection, Output, print, print_json};

/// Delete a version of a model, or a whole model. A version that answers requests is refused.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The model.
    name: String,
    /// The version.
    version: Option<u64>,
    /// Delete the model with all its versions, also the one that answers.
    #[arg(long, conflicts_with = "version")]
    all: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let name = &args.name;
    let (path, told) = match (args.version, args.all) {
        (Some(version), _) => (
            format!("/v1/models/{name}/versions/{version}"),
            format!("{name} version {version} is deleted"),
        ),
        (None, true) => (
            format!("/v1/models/{name}"),
            format!("{name} and all its versions are deleted"),
        ),
        (None, false) => bail!(
            "which version of {name}? name one, or --all to delete the model with all its versions"
        ),
    };
    let request = args.connection.client()?.delete(args.connection.url(&path));
    args.connection.send(request).await?;
    match args.connection.output {
        Output::Json => {
            print_json(&json!({ "deleted": { "name": name, "version": args.version } }))
        }
        Output::Text => print(&told),
    }
}
