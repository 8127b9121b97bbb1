//! Workers that a shell plays: how each way to end is taken.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const AMPLE: Bounds = Bounds {
    time: Duration::from_secs(60),
    memory_bytes: 1 << 30,
};

/// Workers that run this script, and the folder they answer in.
fn shell(script: &str) -> (Workers, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let command = WorkerCommand {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), script.into()],
    };
    (Workers::new(command, folder.path().to_owned()), folder)
}

async fn answer_of(
    script: &str,
    input: &[u8],
    bounds: Bounds,
) -> Result<Answer<Value>, WorkerError> {
    let (workers, folder) = shell(script);
    let answer = workers.run("odd", "model", json!({}), input, bounds).await;
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "{script}"
    );
    answer
}

#[tokio::test]
async fn an_answer_is_a_value_and_the_bytes_behind_it() {
    let answer = answer_of(
        "cat >/dev/null; echo '{\"a\":1}'; printf 'native\\ncode'",
        &[7; 1 << 20],
        AMPLE,
    )
    .await
    .unwrap();
    assert_eq!(
        (answer.value, answer.payload),
        (json!({"a": 1}), b"native\ncode".to_vec())
    );
}

#[tokio::test]
async fn a_worker_is_told_its_order_and_its_input_and_nothing_else() {
    let script = "read order; echo \"$order\"; cat; echo; env; echo \"$0\"";
    let answer = answer_of(script, b"input", AMPLE).await.unwrap();
    assert_eq!(answer.value["parent"], std::process::id());
    assert_eq!(answer.value["input_bytes"], 5);
    let said = String::from_utf8(answer.payload).unwrap();
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("input"));
    // What a shell sets itself aside.
    let known = [
        "MIMALLOC_",
        "RAYON_",
        "LD_LIBRARY_PATH=",
        "CUDA_VISIBLE_",
        "PWD=",
        "SHLVL=",
        "_=",
        "OLDPWD",
    ];
    for line in lines {
        assert!(
            line == "odd" || known.iter().any(|known| line.starts_with(known)),
            "{line}"
        );
    }
    assert!(said.ends_with("odd\n"));
}

#[tokio::test]
async fn every_end_without_an_answer_has_a_name() {
    let crashed = |error: &WorkerError, part: &str| matches!(error, WorkerError::Crashed { how } if how.contains(part));
    for (script, part) in [
        ("kill -SEGV $$", "SIGSEGV"),
        ("kill -ABRT $$", "SIGABRT"),
        ("echo 'corrupted size' >&2; kill -ABRT $$", "corrupted size"),
        ("exit 3", "exit status: 3"),
        ("exit 0", "its answer makes no sense"),
        ("echo garbage", "its answer makes no sense"),
    ] {
        // More input than a pipe holds, which nobody reads.
        let error = answer_of(script, &[0; 1 << 20], AMPLE).await.unwrap_err();
        assert!(crashed(&error, part), "{script}: {error:?}");
    }
    for script in [
        "kill -USR1 $$",
        "kill -KILL $$",
        "kill -XFSZ $$",
        "echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$",
    ] {
        let error = answer_of(script, b"", AMPLE).await.unwrap_err();
        assert_eq!(error, WorkerError::Memory, "{script}");
    }
    let error = answer_of("kill -XCPU $$", b"", AMPLE).await.unwrap_err();
    assert_eq!(error, WorkerError::Timeout);
    let (workers, _folder) = shell("");
    let nowhere = WorkerCommand {
        program: PathBuf::from("/nowhere"),
        ..workers.command.clone()
    };
    let workers = Workers {
        command: nowhere,
        ..workers
    };
    let answer: Result<Answer<Value>, _> = workers.run("odd", "model", (), b"", AMPLE).await;
    assert!(
        matches!(answer, Err(WorkerError::Host { .. })),
        "{answer:?}"
    );
}

fn is_alive(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}

#[tokio::test]
async fn a_worker_that_is_out_of_time_is_ended_and_gone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("echo $$ > {}; while :; do :; done", file.display());
    let short = Bounds {
        time: Duration::from_secs(1),
        ..AMPLE
    };
    let error = answer_of(&script, b"", short).await.unwrap_err();
    assert_eq!(error, WorkerError::Timeout);
    assert!(!is_alive(&std::fs::read_to_string(&file).unwrap()));
}

#[tokio::test]
async fn who_no_longer_waits_ends_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let (workers, _folder) = shell(&format!(
        "echo $$ > {}; while :; do :; done",
        file.display()
    ));
    let running = tokio::spawn(async move {
        let _: Result<Answer<Value>, _> = workers.run("odd", "model", (), b"", AMPLE).await;
    });
    let start = Instant::now();
    let seen = |what: &dyn Fn(&str) -> bool| {
        std::fs::read_to_string(&file).is_ok_and(|pid| pid.ends_with('\n') && what(&pid))
    };
    let mut aborted = false;
    while !(aborted && seen(&|pid| !is_alive(pid))) {
        assert!(start.elapsed() < AMPLE.time);
        if !aborted && seen(&is_alive) {
            running.abort();
            aborted = true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn workers_take_turns() {
    let (workers, _folder) = shell("cat >/dev/null; echo null");
    assert_eq!(workers.turns.available_permits(), AT_ONCE);
    let held: Vec<_> = (0..AT_ONCE)
        .map(|_| workers.turns.clone().try_acquire_owned().unwrap())
        .collect();
    let run = workers.run::<_, Value>("odd", "model", (), b"", AMPLE);
    let mut run = std::pin::pin!(run);
    let waiting = tokio::time::timeout(Duration::from_millis(100), &mut run).await;
    assert!(waiting.is_err(), "it did not wait for its turn");
    drop(held);
    run.await.unwrap();
    assert_eq!(workers.turns.available_permits(), AT_ONCE);
}
