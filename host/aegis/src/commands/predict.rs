//! `aegis predict NAME`: one prediction, the body from a flag, a file or standard input.

use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::client::{Connection, Output, print_json};

/// Ask a model for a prediction and print its answer.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The model.
    name: String,
    /// The version to ask, instead of the one that answers everyone.
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// The body itself. Else it is read from --file, or from standard input.
    #[arg(long, short, value_name = "TEXT", conflicts_with = "file")]
    data: Option<String>,
    /// A file with the body.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The body's media type; else told by the file's ending, or by whether it is JSON.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let body = body(&args)?;
    let content_type = match &args.content_type {
        Some(given) => given.clone(),
        None => guess(args.file.as_deref(), &body).to_owned(),
    };
    let mut query = vec![("identifier", args.name.clone())];
    query.extend(args.version.map(|version| ("version", version.to_string())));
    let request = args
        .connection
        .client()?
        .post(args.connection.url("/predict"))
        .query(&query)
        .header(reqwest::header::CONTENT_TYPE, content_type)
        .body(body);
    let response = args.connection.send(request).await?;
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let (version, id) = (header("aegis-model-version"), header("x-request-id"));
    let content_type = header("content-type");
    let bytes = response.bytes().await?;
    match args.connection.output {
        Output::Text => {
            let mut stdout = std::io::stdout();
            stdout.write_all(&bytes)?;
            if stdout.is_terminal() && !bytes.ends_with(b"\n") {
                stdout.write_all(b"\n")?;
            }
            Ok(())
        }
        Output::Json => print_json(&json!({
            "model": args.name,
            "model_version": version.and_then(|version| version.parse::<u64>().ok()),
            "request_id": id,
            "content_type": content_type,
            "body": serde_json::from_slice::<Value>(&bytes)
                .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()),
        })),
    }
}

fn body(args: &Args) -> anyhow::Result<Vec<u8>> {
    if let Some(data) = &args.data {
        return Ok(data.clone().into_bytes());
    }
    if let Some(file) = &args.file {
        return std::fs::read(file).with_context(|| file.display().to_string());
    }
    if std::io::stdin().is_terminal() {
        bail!("no body: give --data TEXT or --file FILE, or pipe one in");
    }
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body)?;
    Ok(body)
}

/// The media type of a body that nobody named.
pub(crate) fn guess(file: Option<&std::path::Path>, body: &[u8]) -> &'static str {
    let ending = file
        .and_then(|file| file.extension())
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    match ending {
        "json" => "application/json",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "txt" | "eml" => "text/plain",
        _ if serde_json::from_slice::<Value>(body).is_ok() => "application/json",
        _ if std::str::from_utf8(body).is_ok() => "text/plain",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_body_says_what_it_is_unless_its_file_does() {
        assert_eq!(guess(None, b"{\"a\":1}"), "application/json");
        assert_eq!(guess(None, b"free money"), "text/plain");
        assert_eq!(guess(None, &[0xff, 0xd8]), "application/octet-stream");
        assert_eq!(guess(Some(Path::new("a.png")), b"{}"), "image/png");
    }
}
