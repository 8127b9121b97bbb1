//! `aegis gc`: removes from the store what nobody needs.

use anyhow::Context as _;
use serde::Deserialize;

use crate::client::{Connection, Output, print, print_json};

/// Remove what no version needs: files of uploads that were cut off and of versions that were
/// deleted. A server does so by itself at its start and after each deletion.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// How young a file that no version names may be and stay, in seconds: an upload under way may
    /// have brought it. Less than the default is safe only while nobody uploads.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    grace: u64,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Deserialize)]
struct Collected {
    blobs: u64,
    bytes: u64,
    laid_out: u64,
    deletions: u64,
    partial: u64,
    #[serde(default)]
    reports: u64,
    young: u64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let path = format!("/v1/gc?dry_run={}&grace_s={}", args.dry_run, args.grace);
    let request = args.connection.client()?.post(args.connection.url(&path));
    let answer = args.connection.json(request).await?;
    if args.connection.output == Output::Json {
        return print_json(&answer);
    }
    let collected: Collected = serde_json::from_value(answer)
        .context("the server's answer is of another version of Aegis")?;
    print(&told(&collected, args.dry_run))
}

fn told(collected: &Collected, dry_run: bool) -> String {
    let Collected {
        blobs,
        bytes,
        laid_out,
        deletions,
        partial,
        reports,
        young,
    } = collected;
    let removed = if dry_run { "would remove" } else { "removed" };
    let mut text = format!("{removed} {blobs} files that no version names ({bytes} bytes)");
    for (count, what) in [
        (laid_out, "local copies of versions that are gone"),
        (partial, "files that were partly written"),
        (deletions, "versions whose deletion was cut off"),
        (reports, "reports of rollouts that have ended"),
    ] {
        if *count > 0 {
            text.push_str(&format!("\n{removed} {count} {what}"));
        }
    }
    if *young > 0 {
        text.push_str(&format!(
            "\nkept {young} files that no version names yet: they are younger than the grace"
        ));
    }
    text
}
