//! The tools that scripts/registry-tools.sh brings: a real S3 interface over HTTP, and the signing
//! tool. Where they are missing a test says so and ends; in CI it fails.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program of `.tools/`, or nothing where it may be missing.
pub(crate) fn tool(path: &str) -> Option<PathBuf> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools");
    let program = PathBuf::from(root).join(path);
    if program.exists() {
        return Some(program);
    }
    let required = ["CI", "AEGIS_REQUIRE_TOOLS"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let problem = format!(".tools/{path} is missing; scripts/registry-tools.sh brings it");
    assert!(!required, "{problem}");
    eprintln!("skipped: {problem}");
    None
}

/// moto's S3 on a port of its own, with a bucket `models`; ended with this value.
pub(crate) struct S3 {
    child: Child,
    port: u16,
}

impl S3 {
    pub(crate) async fn start() -> Option<Self> {
        let program = tool("moto/bin/moto_server")?;
        // Between being found free and being taken, a port may be taken by others.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let child = Command::new(&program)
                .args(["-H", "127.0.0.1", "-p", &port.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut s3 = Self { child, port };
            if s3.listens().await {
                s3.make_bucket().await;
                return Some(s3);
            }
        }
        panic!("moto does not start");
    }

    async fn listens(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    async fn make_bucket(&self) {
        // moto takes requests without a signature.
        let url = format!("http://127.0.0.1:{}/models", self.port);
        let made = reqwest::Client::new().put(url).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
    }

    /// What stands in the environment of who uses it.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        [
            (
                "AWS_ENDPOINT_URL",
                format!("http://127.0.0.1:{}", self.port),
            ),
            ("AWS_ACCESS_KEY_ID", "key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    /// Ends it, as a store that is gone.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop();
    }
}
