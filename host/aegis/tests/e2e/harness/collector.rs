//! A real OpenTelemetry collector, rotel, in a process of its own. It sends on what it takes, so that
//! what it understood of it can be looked at.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use super::{Received, eventually, lines::Lines, root, rotel};

/// A collector that runs until it is dropped.
pub(crate) struct Collector {
    child: Child,
    grpc: u16,
    http: u16,
    /// What it has sent on.
    pub(crate) received: Received,
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Collector {
    /// Starts one on ports of its own; nothing where there is no rotel and need not be.
    pub(crate) async fn start() -> Option<Collector> {
        if !rotel() {
            return None;
        }
        // Between being found free and being taken, a port may be taken by others.
        for _ in 0..5 {
            if let Some(collector) = Collector::try_start().await {
                return Some(collector);
            }
        }
        panic!("rotel does not start");
    }

    async fn try_start() -> Option<Collector> {
        let (received, sink) = Received::listen();
        let (grpc, http) = (free_port(), free_port());
        let mut child = Command::new(root().join(".tools/rotel/rotel-agent"))
            .arg("start")
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
            .args(["--otlp-exporter-endpoint", &format!("http://{sink}")])
            .args(["--batch-timeout", "50ms"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("rotel starts");
        let said = Lines::follow(child.stdout.take().expect("a pipe"));
        let complained = Lines::follow(child.stderr.take().expect("a pipe"));
        let started = eventually("a collector that listens", async || {
            if let Ok(Some(status)) = child.try_wait() {
                eprintln!(
                    "rotel ended with {status}: {:?} {:?}",
                    said.all(),
                    complained.all()
                );
                return Some(false);
            }
            let listens = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            (listens(grpc) && listens(http)).then_some(true)
        });
        let started = started.await;
        let collector = Collector {
            child,
            grpc,
            http,
            received,
        };
        started.then_some(collector)
    }

    /// Where it takes this protocol.
    pub(crate) fn endpoint(&self, protocol: &str) -> String {
        let port = if protocol == "grpc" {
            self.grpc
        } else {
            self.http
        };
        format!("http://127.0.0.1:{port}")
    }
}

fn free_port() -> u16 {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    taken.local_addr().expect("its address").port()
}
