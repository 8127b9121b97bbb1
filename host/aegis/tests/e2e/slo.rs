//! What `k8s/` asks Prometheus, asked of a real one that scrapes a running server under load, with
//! the labels and relabeling that the Prometheus Operator would give; and `aegis slo` itself.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use aegis_autoscale::{render, slo::Slo};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Aegis, Server, Start, file, root, said};

/// Long enough for two scrapes and two evaluations after the load began, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Prometheus, if it is there. Where it must be, its absence fails.
fn prometheus() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("prometheus"))
        .find(|path| path.exists());
    let required = ["CI", "AEGIS_REQUIRE_TOOLS"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if found.is_none() {
        assert!(!required, "no prometheus; scripts/k8s-tools.sh brings it");
        eprintln!("skipped: no prometheus; scripts/k8s-tools.sh brings it");
    }
    found
}

/// A Prometheus that scrapes one server every second.
struct Prometheus {
    child: Child,
    url: String,
    client: reqwest::Client,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(program: PathBuf, server: &Server) -> Prometheus {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        // The rules as they are committed, only looked at more often.
        let rules = String::from_utf8(file("k8s/prometheus/rules.yaml")).unwrap();
        let rules = rules.replace("interval: 15s", "interval: 1s");
        let rules = rules.replace("interval: 30s", "interval: 1s");
        let rules = rules.replace("interval: 5m", "interval: 1s");
        std::fs::write(path("rules.yaml"), rules).unwrap();
        let monitor: Value = yaml("k8s/base/inference-servicemonitor.yaml");
        let relabelings = &monitor["spec"]["endpoints"][0]["relabelings"];
        let config = serde_json::json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [path("rules.yaml")],
            "scrape_configs": [{
                "job_name": "inference",
                "relabel_configs": [{ "action": "labeldrop", "regex": relabelings[0]["regex"] }],
                "static_configs": [{
                    "targets": [server.address],
                    "labels": {
                        "namespace": "aegis", "service": "inference", "pod": "a",
                        "container": "aegis", "endpoint": "http",
                    },
                }],
            }],
        });
        std::fs::write(path("prometheus.yml"), config.to_string()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new(program)
            .arg(format!("--config.file={}", path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Prometheus {
            child,
            url: format!("http://127.0.0.1:{port}/api/v1/query"),
            client: reqwest::Client::new(),
            _folder: folder,
        }
    }

    /// The answer to a question: how many elements, or what is wrong with the question.
    async fn ask(&self, expression: &str) -> Result<Vec<Value>, String> {
        let request = self.client.get(&self.url).query(&[("query", expression)]);
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"]["result"]
                .as_array()
                .cloned()
                .unwrap_or_default()),
            _ => Err(answer["error"].to_string()),
        }
    }
}

/// A committed YAML file of one document.
fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(std::str::from_utf8(&file(path)).unwrap()).unwrap()
}

/// Every question that somebody asks, whether it must have an answer, and how many elements.
fn questions() -> Vec<(String, String, Option<usize>)> {
    let slo = Slo::parse(std::str::from_utf8(&file("k8s/slo.toml")).unwrap()).unwrap();
    let mut questions = Vec::new();
    for query in render::queries(&slo) {
        // kube-state-metrics is not there: the question is only to be understood.
        let least = (!query.needs_cluster).then_some(0);
        questions.push((format!("panel {}", query.panel), query.expression, least));
    }
    let rules = yaml("k8s/prometheus/rules.yaml");
    for rule in rules["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|g| g["rules"].as_array().unwrap())
    {
        if let Some(name) = rule["record"].as_str() {
            questions.push((format!("recording {name}"), name.to_owned(), Some(0)));
        } else {
            let name = rule["alert"].as_str().unwrap();
            questions.push((
                format!("alert {name}"),
                rule["expr"].as_str().unwrap().to_owned(),
                None,
            ));
        }
    }
    let scaler = yaml("k8s/keda/inference-keda-scaler.yaml");
    for trigger in scaler["spec"]["triggers"].as_array().unwrap() {
        if let Some(query) = trigger["metadata"]["query"].as_str() {
            questions.push((
                format!("KEDA {}", trigger["name"]),
                query.to_owned(),
                Some(1),
            ));
        }
    }
    let adapter = yaml("k8s/prometheus/adapter-values.yaml");
    for rule in adapter["rules"]["custom"].as_array().unwrap() {
        let query = rule["metricsQuery"].as_str().unwrap();
        let query = query.replace("<<.GroupBy>>", "namespace, pod");
        let query = query.replace("<<.LabelMatchers>>", "namespace=\"aegis\",pod=~\"a|b\"");
        questions.push((format!("adapter {}", rule["name"]["as"]), query, Some(1)));
        let series = rule["seriesQuery"].as_str().unwrap().to_owned();
        questions.push((
            format!("adapter's series {}", rule["name"]["as"]),
            series,
            Some(0),
        ));
    }
    questions
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_of_the_folder_has_an_answer_of_a_server_under_load() {
    let Some(program) = prometheus() else { return };
    let server = Arc::new(Start::new().examples().ready().await);
    let prometheus = Prometheus::start(program, &server);
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::Relaxed) {
                server
                    .ask(
                        "spam",
                        "Congratulations! Click here to claim your free prize",
                    )
                    .await;
                server.ask("spam", "see you at noon").await;
                server
                    .predict(
                        "digits",
                        "image/png",
                        file("models/digits/samples/printed.png"),
                    )
                    .await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let start = Instant::now();
    let mut open = questions();
    let mut said = Vec::new();
    while !open.is_empty() && start.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_secs(1)).await;
        said.clear();
        let mut left = Vec::new();
        for (who, expression, wanted) in open {
            let answer = prometheus.ask(&expression).await;
            let good = match (&answer, wanted) {
                (Ok(_), None) => true,
                (Ok(elements), Some(0)) => !elements.is_empty(),
                (Ok(elements), Some(count)) => elements.len() == count,
                (Err(_), _) => false,
            };
            if !good {
                said.push(format!("{who}: {answer:?} to {expression}"));
                left.push((who, expression, wanted));
            }
        }
        open = left;
    }
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    assert!(open.is_empty(), "{}", said.join("\n"));
    // Of a healthy server no alert is told, also not of one that was just started to try the
    // example that raises flags. (Nobody says how many replicas there are.)
    let told = prometheus
        .ask("ALERTS{alertname!=\"AegisReplicasUnknown\"}")
        .await
        .unwrap();
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test]
async fn the_folder_is_rendered_and_compared_with_the_statuses_that_are_documented() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("k8s").display().to_string();
    std::fs::create_dir(&out).unwrap();
    let slo = |verb: &'static str, file: &str, more: &[&str]| {
        let words = [&["slo", verb, "--slo", file, "--out", &out][..], more].concat();
        Aegis::new(&words)
    };
    let check = slo("check", "k8s/slo.toml", &[]).run().await;
    assert_eq!(check.status.code(), Some(1));
    let render = slo("render", "k8s/slo.toml", &[]).run().await;
    assert_eq!(render.status.code(), Some(0));
    assert!(said(&render).contains("hpa/inference-slo-hpa.yaml"));
    let check = slo("check", "k8s/slo.toml", &["--output", "json"])
        .run()
        .await;
    assert_eq!(check.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(answer, serde_json::json!({ "differences": [] }));
    let wrong = folder.path().join("wrong.toml").display().to_string();
    std::fs::write(&wrong, "[objectives]\np95_ms = 375\n").unwrap();
    let refused = slo("render", &wrong, &[]).run().await;
    assert_eq!(refused.status.code(), Some(2));
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(
        words.contains("line 2") && words.contains("350 ms and 400 ms"),
        "{words}"
    );
    let missing = slo("check", "nowhere.toml", &["--output", "json"])
        .run()
        .await;
    assert_eq!(missing.status.code(), Some(2));
    let committed = Aegis::new(&["slo", "check"]).run().await;
    assert_eq!(committed.status.code(), Some(0), "{}", root().display());
}
