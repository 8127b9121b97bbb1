//! Replicas on one bucket behind a load balancer, as a team has them, and a hand on the wire to the bucket.

use std::{
    fmt::Write as _,
    fs::File,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::Value;
use tempfile::TempDir;

use super::plan::REPLICAS;
use crate::harness::{Server, Start, StoreWire, eventually, tool_on_path};
use crate::registry::tools::S3;

/// By then the load balancer knows that a replica is there, or is none.
const NOTICED: Duration = Duration::from_millis(400);

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// haproxy before these addresses; ended with this value.
struct Balancer {
    child: Child,
    address: String,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Balancer {
    async fn start(folder: &Path, replicas: &[String]) -> Option<Balancer> {
        let program = tool_on_path("haproxy", "registry-tools.sh")?;
        let address = format!("127.0.0.1:{}", free_port());
        // A look may take as long as Kubernetes lets it: a replica that is slow on a busy machine is not gone.
        let mut config = format!(
            "defaults\n mode http\n timeout connect 1s\n timeout client 60s\n timeout server 60s\n timeout check 1s\n \
             option http-buffer-request\n option redispatch 1\n retries 5\n \
             retry-on conn-failure empty-response response-timeout 503\n\
             frontend callers\n bind {address}\n default_backend replicas\n\
             backend replicas\n balance roundrobin\n option httpchk GET /readyz\n"
        );
        for (number, replica) in replicas.iter().enumerate() {
            let _ = writeln!(
                config,
                " server r{number} {replica} check inter 100ms fall 1 rise 1"
            );
        }
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let child = Command::new(program)
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join(BALANCER_LOG)).unwrap())
            .spawn()
            .unwrap();
        Some(Balancer { child, address })
    }
}

const BALANCER_LOG: &str = "haproxy.log";

struct Replica {
    address: String,
    variables: Vec<(String, String)>,
    server: Option<Server>,
}

impl Replica {
    async fn start(&mut self) {
        let start = Start::new()
            .listening_on(&self.address)
            .replica("s3://models", self.variables.clone())
            .flag("--drain-delay-ms", "500")
            .flag(
                "--log-filter",
                "warn,aegis::commands=info,aegis_server=info",
            );
        self.server = Some(start.ready().await);
    }
}

pub(super) struct Fleet {
    replicas: Vec<Replica>,
    balancer: Balancer,
    pub(super) wire: Arc<StoreWire>,
    folder: TempDir,
    _s3: S3,
}

impl Fleet {
    /// Empty replicas; nothing where a tool is missing.
    pub(super) async fn start() -> Option<Fleet> {
        let folder = tempfile::tempdir().unwrap();
        let s3 = S3::start().await?;
        let wire = StoreWire::before(&s3.variables()).await;
        let replica = || Replica {
            address: format!("127.0.0.1:{}", free_port()),
            variables: wire.variables(s3.variables()),
            server: None,
        };
        let mut replicas: Vec<_> = (0..REPLICAS).map(|_| replica()).collect();
        for replica in &mut replicas {
            replica.start().await;
        }
        let addresses: Vec<_> = replicas.iter().map(|it| it.address.clone()).collect();
        let balancer = Balancer::start(folder.path(), &addresses).await?;
        Some(Fleet {
            replicas,
            balancer,
            wire: Arc::new(wire),
            folder,
            _s3: s3,
        })
    }

    /// Where callers come in.
    pub(super) fn address(&self) -> &str {
        &self.balancer.address
    }

    pub(super) fn server(&self, replica: usize) -> &Server {
        self.replicas[replica].server.as_ref().unwrap()
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = &Server> {
        self.replicas.iter().flat_map(|it| &it.server)
    }

    /// Waits until the load balancer lets requests through.
    pub(super) async fn is_reached(&self) {
        eventually("the balancer", async || {
            let url = format!("http://{}/readyz", self.balancer.address);
            let answer = reqwest::get(url).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    pub(super) async fn kill(&mut self, replica: usize, down: Duration) {
        self.server(replica).kill();
        tokio::time::sleep(down).await;
        self.replicas[replica].server = None;
        self.replicas[replica].start().await;
        tokio::time::sleep(NOTICED).await;
    }

    pub(super) async fn restart_one_by_one(&mut self) {
        for replica in &mut self.replicas {
            let mut server = replica.server.take().unwrap();
            server.terminate();
            assert_eq!(server.ended().await.code(), Some(0));
            replica.start().await;
            tokio::time::sleep(NOTICED).await;
        }
    }

    /// Waits until every replica gives these versions these shares, in percent, and no other version any.
    pub(super) async fn agree(&self, shares: &[(u64, f64)]) {
        let due: Vec<_> = shares
            .iter()
            .map(|(version, share)| (version.to_string(), *share))
            .collect();
        let agrees = self.servers().map(|server| {
            eventually("the replicas' agreement", async || {
                let metrics = server.metrics().await;
                let mut found: Vec<_> = metrics
                    .of("aegis_traffic_weight")
                    .filter(|series| series.value > 0.0)
                    .map(|series| {
                        let version = series.labels["model_version"].clone();
                        (version, (series.value * 1000.0).round() / 10.0)
                    })
                    .collect();
                found.sort_by_key(|(version, _)| due.iter().position(|it| it.0 == *version));
                (found == due).then_some(())
            })
        });
        join_all(agrees).await;
    }

    /// Waits until every replica reaches the store.
    pub(super) async fn reach_the_store(&self) {
        for server in self.servers() {
            eventually("the store", async || {
                let health = server.get("/health").await.ok();
                (health["store"]["reachable"] == true).then_some(())
            })
            .await;
        }
    }

    /// Which replicas have said how often that they drive a rollout.
    pub(super) fn driving(&self) -> Vec<usize> {
        let says = |line: &Value| line["message"] == "this replica drives the rollout";
        let times = |server: &Server| server.log().into_iter().filter(says).count();
        self.servers().map(times).collect()
    }

    /// Which replica has said it again since.
    pub(super) fn drives_since(&self, before: &[usize]) -> Option<usize> {
        let now = self.driving();
        now.iter()
            .zip(before)
            .position(|(now, before)| now > before)
    }

    /// What the load balancer noticed.
    pub(super) fn noticed(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(BALANCER_LOG)).unwrap()
    }
}
