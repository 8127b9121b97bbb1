//! `aegis promote NAME VERSION`: makes a version the one that answers.

use serde_json::json;

use crate::client::{Connection, Output, print, print_json};

/// Make a version of a model the one that answers. Requests in flight end on the version
/// where they began.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The model.
    name: String,
    /// The version.
    version: u64,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let url = args
        .connection
        .url(&format!("/v1/models/{}/traffic", args.name));
    let request = args
        .connection
        .client()?
        .put(url)
        .json(&json!({ "stable": args.version }));
    let answer = args.connection.json(request).await?;
    match args.connection.output {
        Output::Json => print_json(&answer),
        Output::Text => print(&format!(
            "{} version {} answers requests now",
            args.name, args.version
        )),
    }
}
