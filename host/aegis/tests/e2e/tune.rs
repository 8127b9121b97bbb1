//! `aegis tune` on real packages: what it tells, what it writes, and what is left when it is stopped.

use std::{
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Aegis, BINARY, Package, eventually, root};

/// Measurements as short as may be.
const QUICK: [&str; 8] = [
    "--duration",
    "1s",
    "--warm-up",
    "0s",
    "--repeats",
    "2",
    "--users",
    "2,4",
];

/// A copy of the model digits whose `batching` is this.
fn digits(batching: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let now = "batching = { max_batch_size = 32, max_latency_ms = 0 }";
    Package::example("digits")
        .replacing(now, batching)
        .write_to(folder.path());
    let pixels = "samples/pixels.json";
    std::fs::create_dir(folder.path().join("samples")).unwrap();
    let sample = root().join("models/digits").join(pixels);
    std::fs::copy(sample, folder.path().join(pixels)).unwrap();
    folder
}

fn words<'a>(folder: &'a TempDir, more: &[&'a str]) -> Vec<&'a str> {
    let begin = ["tune", folder.path().to_str().unwrap()];
    [&begin, QUICK.as_slice(), more].concat()
}

async fn tune(folder: &TempDir, more: &[&str]) -> Output {
    Aegis::new(&words(folder, more)).run().await
}

fn manifest(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("model.toml")).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_model_is_tuned_within_its_budget_and_everything_is_told() {
    let folder = digits("batching = true");
    let before = manifest(&folder);
    let page = folder.path().join("report.html");
    let flags = ["--slo-p99-ms", "5000", "--time-budget", "30s", "-o", "json"];
    let report = ["--report", page.to_str().unwrap()];
    let tuned = tune(&folder, &[flags.as_slice(), &report].concat()).await;
    assert_eq!(tuned.status.code(), Some(0), "{tuned:?}");
    let found: Value = serde_json::from_slice(&tuned.stdout).unwrap();
    assert_eq!(
        (&found["model"], &found["graph"]),
        (&"digits".into(), &"digits".into())
    );
    // Going by the longest measurement so far; on a busy machine one may be longer.
    assert!(found["spent"].as_f64().unwrap() < 40.0, "{found}");
    let trials = found["trials"].as_array().unwrap();
    assert!(trials.len() > 1, "{found}");
    assert_eq!(trials[0]["setting"]["batching"]["on"]["max_batch_size"], 32);
    for trial in trials {
        let points = trial["points"].as_array().unwrap();
        let runs = points
            .iter()
            .flat_map(|point| point["runs"].as_array().unwrap());
        for run in runs {
            assert!(run["rps"].as_f64().unwrap() > 1.0, "{run}");
            assert!(run["p99_ms"].as_f64() >= run["p50_ms"].as_f64(), "{run}");
            assert_eq!(run["failure_percent"], 0.0, "{run}");
            assert!(run["mean_batch"].as_f64().unwrap() >= 1.0, "{run}");
        }
    }
    let progress = text(&tuned.stderr);
    assert!(
        progress.contains("as it is set: batches of 32"),
        "{progress}"
    );
    assert!(progress.contains("  2 users: "), "{progress}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("Tuning of digits"));
    assert_eq!(manifest(&folder), before);
}

#[tokio::test]
async fn a_wait_that_costs_everyone_is_found_and_taken_out_of_the_manifest_and_nothing_else_is() {
    let set =
        "# Somebody thought so.\nbatching = { max_batch_size = 32, max_latency_ms = 200 } # why?";
    let folder = digits(set);
    let before = manifest(&folder);
    let picture = folder.path().join("plots.svg");
    // More than it takes alone: beside other tests it goes slowly.
    let flags = ["--slo-p99-ms", "5000", "--time-budget", "180s", "--write"];
    let report = ["--report", picture.to_str().unwrap()];
    let tuned = tune(&folder, &[flags.as_slice(), &report].concat()).await;
    let (told, said) = (text(&tuned.stdout), text(&tuned.stderr));
    assert_eq!(tuned.status.code(), Some(0), "{told}{said}");
    assert!(
        told.starts_with("Proposed: ") && told.contains("% more"),
        "{told}"
    );
    assert!(said.contains("model.toml has it now"), "{said}");
    let after = manifest(&folder);
    assert!(!after.contains("max_latency_ms = 200"), "{after}");
    let kept = before.lines().filter(|line| {
        !["batching", "sessions", "threads"]
            .iter()
            .any(|key| line.starts_with(key))
    });
    for line in kept {
        assert!(after.contains(line), "{line} in {after}");
    }
    assert!(after.contains("# why?"), "{after}");
    let svg = std::fs::read_to_string(picture).unwrap();
    assert!(svg.starts_with("<svg xmlns") && svg.contains("<title>Proposed</title>"));
}

#[tokio::test]
async fn an_objective_that_nothing_meets_has_a_status_of_its_own_and_the_nearest_is_told() {
    let folder = digits("batching = false");
    let before = manifest(&folder);
    let flags = ["--slo-p99-ms", "0.001", "--time-budget", "12s", "--write"];
    let tuned = tune(&folder, &flags).await;
    assert_eq!(tuned.status.code(), Some(1), "{tuned:?}");
    let told = text(&tuned.stdout);
    assert!(
        told.contains("no setting keeps P99 within 0.001 ms"),
        "{told}"
    );
    assert!(told.contains("The nearest was"), "{told}");
    assert_eq!(manifest(&folder), before);
}

#[tokio::test]
async fn what_cannot_be_tuned_is_told_before_any_load() {
    let folder = digits("batching = false");
    let refused = async |more: &[&str]| {
        let output = tune(&folder, more).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        text(&output.stderr)
    };
    assert!(
        refused(&["--graph", "other"])
            .await
            .contains("it has digits")
    );
    assert!(refused(&["--report", "a.pdf"]).await.contains(".svg"));
    let wrong = refused(&["--data", "{\"pixels\": []}"]).await;
    assert!(
        wrong.contains("the server refuses --data") && wrong.contains("422"),
        "{wrong}"
    );
    std::fs::write(folder.path().join("digits.onnx"), "no network").unwrap();
    let broken = refused(&[]).await;
    assert!(broken.contains("as it is set is not served"), "{broken}");
    std::fs::remove_dir_all(folder.path().join("samples")).unwrap();
    assert!(
        refused(&[])
            .await
            .contains("give --file FILE or --data TEXT")
    );
}

/// A tuning under way, and the server that it has started.
struct UnderWay {
    tune: Child,
    server: u32,
    data: PathBuf,
    folder: TempDir,
}

impl UnderWay {
    /// Begins one of many measurements of a second, and waits until some have been made.
    async fn begin() -> UnderWay {
        let folder = digits("batching = true");
        let progress = folder.path().join("progress");
        let told = std::fs::File::create(folder.path().join("told")).unwrap();
        let page = folder.path().join("report.html");
        let flags = ["--report", page.to_str().unwrap(), "--slo-p99-ms", "5000"];
        let child = Command::new(BINARY)
            .args(words(&folder, &flags))
            .current_dir(root())
            .env_remove("AEGIS_TOKENS")
            .stdin(Stdio::null())
            .stdout(told)
            .stderr(std::fs::File::create(&progress).unwrap())
            .spawn()
            .unwrap();
        let mut begun = UnderWay {
            tune: child,
            server: 0,
            data: PathBuf::new(),
            folder,
        };
        eventually("a measurement", async || {
            let so_far = std::fs::read_to_string(&progress).unwrap();
            so_far.contains("  2 users: ").then_some(())
        })
        .await;
        begun.server = eventually("its server", async || children(begun.tune.id()).pop()).await;
        let command = std::fs::read(format!("/proc/{}/cmdline", begun.server)).unwrap();
        let mut arguments = command.split(|byte| *byte == 0);
        arguments.find(|argument| *argument == b"--data").unwrap();
        begun.data = text(arguments.next().unwrap()).into();
        assert!(begun.data.is_dir());
        begun
    }

    /// The shell's own `kill`, as there is none in the standard library.
    fn signal(&self, signal: &str) {
        let sent = format!("kill -{signal} {}", self.tune.id());
        assert!(
            Command::new("sh")
                .args(["-c", &sent])
                .status()
                .unwrap()
                .success()
        );
    }

    async fn ended(&mut self) -> ExitStatus {
        eventually("its end", async || self.tune.try_wait().unwrap()).await
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let _ = self.tune.kill();
        let _ = self.tune.wait();
    }
}

/// The processes that a process has started.
fn children(of: u32) -> Vec<u32> {
    let lists = std::fs::read_dir(format!("/proc/{of}/task")).unwrap();
    lists
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            let pids = list.split_whitespace().map(|pid| pid.parse().unwrap());
            pids.collect::<Vec<u32>>()
        })
        .collect()
}

/// Whether a process has ended; where nobody asks for its status it stays in the list.
fn is_gone(process: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    }
}

#[tokio::test]
async fn ctrl_c_leaves_a_report_of_what_was_measured_and_no_process_or_file() {
    let mut begun = UnderWay::begin().await;
    begun.signal("INT");
    assert_eq!(
        begun.ended().await.code(),
        Some(130),
        "{}",
        begun.read("progress")
    );
    assert!(is_gone(begun.server));
    assert!(!begun.data.parent().unwrap().exists());
    let told = begun.read("told");
    assert!(told.contains("It was stopped"), "{told}");
    assert!(
        told.contains("now") && told.contains("2 users") || told.contains("4 users"),
        "{told}"
    );
    assert!(begun.read("report.html").contains("It was stopped"));
}

#[tokio::test]
async fn a_server_does_not_outlive_who_started_it_however_that_ends() {
    let mut begun = UnderWay::begin().await;
    begun.signal("KILL");
    begun.ended().await;
    let server = begun.server;
    eventually("the server's end", async || is_gone(server).then_some(())).await;
    let _ = std::fs::remove_dir_all(begun.data.parent().unwrap());
}
