//! A server: the program itself, in a process of its own, with a folder of its own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    time::Duration,
};

use reqwest::{Body, Client, Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

use super::{Answer, Metrics, Package, Raw, eventually, lines::Lines, root};

/// The program.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_aegis");

/// How to start a server.
#[derive(Default)]
pub(crate) struct Start {
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    data: Option<PathBuf>,
    listen: Option<String>,
}

impl Start {
    pub(crate) fn new() -> Start {
        Start::default()
    }

    /// With this flag.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Start {
        self.flags.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// With the example models.
    pub(crate) fn examples(self) -> Start {
        // One that is not built fails here, with the command that builds it.
        for model in ["digits", "spam"] {
            Package::example(model);
        }
        let models = root().join("models");
        self.flag("--models", models.to_str().expect("UTF-8"))
    }

    /// A replica of the fleet on this store, which its variables lead to, that looks at it often.
    pub(crate) fn replica(self, store: &str, variables: Vec<(String, String)>) -> Start {
        self.store(store, variables).flag("--store-poll-ms", "200")
    }

    /// On this store, which its variables lead to.
    pub(crate) fn store(mut self, store: &str, variables: Vec<(String, String)>) -> Start {
        self.variables.extend(variables);
        self.flag("--store", store)
    }

    /// On this address, not on a free port.
    pub(crate) fn listening_on(mut self, address: &str) -> Start {
        self.listen = Some(address.to_owned());
        self
    }

    /// On a data folder that somebody else keeps.
    pub(crate) fn data(mut self, folder: &Path) -> Start {
        self.data = Some(folder.to_owned());
        self
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) async fn ready(self) -> Server {
        let mut server = self.listening().await;
        let said = server.stdout.clone();
        server.wait_for("ready on http://", &said).await;
        server
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn listening(self) -> Server {
        let folder = TempDir::new().expect("a folder");
        let data = self.data.unwrap_or_else(|| folder.path().join("data"));
        let mut command = Command::new(BINARY);
        // What the tester's shell sets is not what is tested.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("AEGIS_") || name_text.starts_with("OTEL_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(["serve", "--listen"])
            .arg(self.listen.as_deref().unwrap_or("127.0.0.1:0"))
            .args(if self.flags.iter().any(|flag| flag == "--log-format") {
                [].as_slice()
            } else {
                ["--log-format", "json"].as_slice()
            })
            .arg("--data")
            .arg(&data)
            .args(&self.flags)
            .envs(self.variables)
            .current_dir(root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = Lines::follow(child.stdout.take().expect("a pipe"));
        let stderr = Lines::follow(child.stderr.take().expect("a pipe"));
        let mut server = Server {
            child: Mutex::new(child),
            address: String::new(),
            data,
            stdout,
            stderr: stderr.clone(),
            client: client(),
            _folder: folder,
        };
        let line = server.wait_for("listening on http://", &stderr).await;
        let (_, address) = line.split_once("http://").expect("an address");
        server.address = address
            .chars()
            .take_while(|c| !"\", }".contains(*c))
            .collect();
        server
    }
}

fn client() -> Client {
    Client::builder()
        .timeout(Duration::from_secs(60))
        .build()
        .expect("a client")
}

/// A server that runs until it is stopped or dropped.
pub(crate) struct Server {
    child: Mutex<Child>,
    /// Host and port.
    pub(crate) address: String,
    pub(crate) data: PathBuf,
    pub(crate) stdout: Lines,
    stderr: Lines,
    client: Client,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        if let Ok(child) = self.child.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Server {
    async fn wait_for(&mut self, part: &str, lines: &Lines) -> String {
        let (child, stderr) = (self.child.get_mut().expect("the process"), &self.stderr);
        eventually(part, async || {
            let line = lines.with(part);
            if line.is_none()
                && let Some(status) = child.try_wait().expect("its status")
            {
                panic!(
                    "the server ended with {status}:\n{}",
                    stderr.all().join("\n")
                );
            }
            line
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    /// `POST /predict?identifier=…`, with the rest of the query in `model`.
    pub(crate) fn prediction(&self, model: &str) -> RequestBuilder {
        self.request(Method::POST, &format!("/predict?identifier={model}"))
    }

    /// One prediction of a body of this type.
    pub(crate) async fn predict(
        &self,
        model: &str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> Answer {
        let request = self.prediction(model);
        send(request.header("content-type", content_type).body(body)).await
    }

    /// One prediction of text.
    pub(crate) async fn ask(&self, model: &str, text: &str) -> Answer {
        self.predict(model, "text/plain", text.to_owned()).await
    }

    /// Uploads a package; its answer is a version or an error.
    pub(crate) async fn upload(&self, package: &Package) -> Answer {
        self.upload_with(package, "").await
    }

    /// As [`Server::upload`], with a query.
    pub(crate) async fn upload_with(&self, package: &Package, query: &str) -> Answer {
        let path = format!("/v1/models/{}/versions{query}", package.name);
        send(self.request(Method::POST, &path).multipart(package.form())).await
    }

    /// Makes a version the one that answers.
    pub(crate) async fn promote(&self, model: &str, version: u64) -> Answer {
        let request = self.request(Method::PUT, &format!("/v1/models/{model}/traffic"));
        send(request.json(&serde_json::json!({ "stable": version }))).await
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::read(self.get("/metrics").await.is(200).text())
    }

    /// How often this limit refused the model something.
    pub(crate) async fn refused_for(&self, model: &str, limit: &str) -> f64 {
        let labels = [("model", model), ("limit", limit)];
        let metrics = self.metrics().await;
        metrics
            .sum("aegis_limit_refusals_total", &labels)
            .unwrap_or_else(|| panic!("no series of {model} and {limit}"))
    }

    pub(crate) async fn raw(&self) -> Raw {
        Raw::connect(&self.address).await
    }

    /// The log so far, as it was written.
    pub(crate) fn log_text(&self) -> String {
        self.stderr.all().join("\n")
    }

    /// The log so far, a JSON object a line.
    pub(crate) fn log(&self) -> Vec<Value> {
        let line = |line: &String| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
        };
        self.stderr.all().iter().map(line).collect()
    }

    /// The first log line that `fits`, waiting for it.
    pub(crate) async fn logged(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || self.log().into_iter().find(&fits)).await
    }

    /// The first log line of this request whose message has `part`, waiting for it.
    pub(crate) async fn logged_of(&self, request_id: &str, part: &str) -> Value {
        self.logged(&format!("`{part}` in the log of {request_id}"), |line| {
            line["request_id"] == request_id
                && line["message"]
                    .as_str()
                    .is_some_and(|message| message.contains(part))
        })
        .await
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().expect("the process").id()
    }

    /// A figure of `/proc/PID/status`, in KiB where it is one of memory: `VmRSS`, or `VmHWM`,
    /// the most it ever had.
    pub(crate) fn memory_kib(&self, figure: &str) -> u64 {
        self.status(figure)
    }

    /// How many threads the process has.
    pub(crate) fn threads(&self) -> u64 {
        self.status("Threads")
    }

    fn status(&self, figure: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("a running process");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.expect("the figure").parse().expect("a number")
    }

    /// How it ended, if it has.
    pub(crate) fn exited(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().expect("the process");
        child.try_wait().expect("its status")
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().expect("the process");
        child.kill().expect("a process");
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        // The shell's own `kill`, as there is none in the standard library.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", self.pid())])
            .status()
            .expect("a shell");
        assert!(sent.success());
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = self.child.get_mut().expect("the process");
        eventually("the server's end", async || {
            child.try_wait().expect("its status")
        })
        .await
    }

    /// Stops it, gently.
    pub(crate) async fn stop(mut self) {
        self.terminate();
        assert_eq!(self.ended().await.code(), Some(0));
    }
}

/// Sends a request and reads its answer.
pub(crate) async fn send(request: RequestBuilder) -> Answer {
    Answer::read(request.send().await.expect("an answer")).await
}
