//! What the commands that talk to a server have in common: where it is, how its errors
//! read, and how results are printed.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use serde_json::Value;

use crate::credential;

/// Where to ask and how to print: the flags of every client command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Connection {
    #[command(flatten)]
    server: Server,
    /// For people, or for programs.
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// Where to ask, and with which token.
#[derive(Args, Clone, Debug)]
pub(crate) struct Server {
    /// The server to ask.
    #[arg(
        long = "server",
        env = "AEGIS_SERVER",
        default_value = "http://127.0.0.1:8000",
        value_name = "URL"
    )]
    pub(crate) base: String,
    /// File with the token to send, where the server asks for one [env: AEGIS_TOKEN_FILE]. Or
    /// put the token itself into AEGIS_TOKEN; there is no flag for it, as a flag shows in the
    /// list of processes.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Server {
    /// The headers that carry the token, if there is one, to `url`.
    pub(crate) fn headers(&self, url: &str) -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        if let Some(token) =
            credential::find(self.token_file.as_deref(), |name| std::env::var_os(name))?
        {
            credential::warn_if_readable_on_the_way(url);
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Readable by people.
    Text,
    /// The server's JSON.
    Json,
}

#[derive(Deserialize)]
struct ServerError {
    error: String,
    code: String,
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    request_id: Option<String>,
}

impl Connection {
    /// The URL of `path` on the server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.base.trim_end_matches('/'))
    }

    /// A client that sends the token, if there is one, and is without a total time limit: uploads take what they take, and the server
    /// bounds its own answers.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::builder()
            .default_headers(self.server.headers(&self.server.base)?)
            .connect_timeout(std::time::Duration::from_secs(5))
            .user_agent(concat!("aegis/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("no HTTP client")
    }

    /// Sends a request; an error answer becomes an error with the server's words.
    pub(crate) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| {
            if error.is_connect() {
                anyhow!(
                    "no server answers at {}; start one with `aegis serve`, or name it with --server",
                    self.server.base
                )
            } else {
                anyhow::Error::new(error).context(format!("asking {}", self.server.base))
            }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        match serde_json::from_str::<ServerError>(&text) {
            Ok(error) => {
                let at = error
                    .field
                    .map_or_else(String::new, |field| format!(" (at {field})"));
                let id = error
                    .request_id
                    .map_or_else(String::new, |id| format!(", request {id}"));
                let hint = match status {
                    StatusCode::UNAUTHORIZED => {
                        "; put a token into AEGIS_TOKEN, or name its file with --token-file"
                    }
                    _ => "",
                };
                bail!("{}{at} [{status}, {}{id}]{hint}", error.error, error.code)
            }
            Err(_) => bail!("{} answered {status}: {}", self.server.base, text.trim()),
        }
    }

    /// Sends a request whose answer is JSON.
    pub(crate) async fn json(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let response = self.send(request).await?;
        response
            .json()
            .await
            .with_context(|| format!("{} did not answer in JSON", self.server.base))
    }
}

/// Prints a line, or a value as JSON. A reader that has gone away (`| head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        ended => Ok(ended?),
    }
}

/// As [`print`], of JSON.
pub(crate) fn print_json(value: &Value) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// Runs a client command to its end.
pub(crate) fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

/// Lays `rows` out in columns, the first row being the head.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_under_their_heads() {
        let rows =
            [["NAME", "VERSION"], ["digits", "3"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "NAME    VERSION\ndigits  3");
    }
}
