//! `aegis new`: what it writes is tested, built and pushed with the three commands that it
//! names, and nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli::{aegis, run},
    examples::close,
    harness::{Server, Start, complained, json_file, root, said},
};

/// Makes a project in a folder that is not there yet.
async fn new(name: &str, more: &[&str]) -> (TempDir, PathBuf) {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("deep").join(name);
    let words = [&["new", name, "--dir", folder.to_str().unwrap()], more].concat();
    let told = said(&run("", &words, "").await);
    for step in [
        "cargo test",
        "cargo build --release --target wasm32-wasip2",
        "aegis push .",
    ] {
        assert!(told.contains(step), "{told}");
    }
    // What a project builds is kept here, so that both projects, and the next run, build the
    // dependencies once.
    let built = root().join("target/new");
    fs::create_dir_all(&built).unwrap();
    std::os::unix::fs::symlink(built, folder.join("target")).unwrap();
    (parent, folder)
}

/// Runs cargo in a project, as its README says.
async fn cargo(folder: &Path, words: &'static [&'static str]) {
    let folder = folder.to_owned();
    let run = move || {
        let start = Instant::now();
        let mut command = Command::new("cargo");
        // What the outer cargo sets is of the outer build.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO") && name != "CARGO_HOME"
                || name.starts_with("RUSTUP_TOOLCHAIN")
                || ["RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS"].contains(&&*name)
            {
                command.env_remove(name);
            }
        }
        let output = command.args(words).current_dir(folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "cargo {words:?}: {said}{}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(!said.contains("warning:"), "cargo {words:?}: {said}");
        eprintln!("cargo {}: {:?}", words.join(" "), start.elapsed());
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

async fn is_tested_built_and_pushed(server: &Server, name: &str, folder: &Path) {
    cargo(folder, &["fmt", "--check"]).await;
    cargo(folder, &["test"]).await;
    cargo(folder, &["build", "--release", "--target", "wasm32-wasip2"]).await;
    let pushed = said(&aegis(server, &["push", folder.to_str().unwrap()]).await);
    assert!(
        pushed.contains(&format!("{name} version 1 uploaded")),
        "{pushed}"
    );
    // The versions are those that this workspace is tested with.
    let ours = packages(&root().join("Cargo.lock"));
    let theirs = packages(&folder.join("Cargo.lock"));
    assert!(theirs.contains("wit-bindgen "), "{theirs}");
    for package in theirs
        .lines()
        .filter(|package| !package.contains("-handler "))
    {
        assert!(ours.lines().any(|our| our == package), "{package}");
    }
}

/// Name and version of every package in a lock file.
fn packages(lock: &Path) -> String {
    let lock: toml::Table = fs::read_to_string(lock).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap().iter();
    let lines = packages.map(|package| {
        let text = |key: &str| package[key].as_str().unwrap().to_owned();
        format!("{} {}\n", text("name"), text("version"))
    });
    lines.collect()
}

#[tokio::test]
async fn a_new_project_is_tested_built_and_pushed_as_it_stands() {
    let server = Start::new().ready().await;
    let (_parent, folder) = new("greetings.v2", &[]).await;
    is_tested_built_and_pushed(&server, "greetings.v2", &folder).await;
    let body = [
        "predict",
        "greetings.v2",
        "--data",
        "{\"text\":\"to be, or not\"}",
    ];
    let answer: Value = serde_json::from_str(&said(&aegis(&server, &body).await)).unwrap();
    assert_eq!(
        answer,
        json!({ "characters": 13, "words": 4, "longest": "not" })
    );

    // And one that is written for a network. It is built in the same folder, so not beside
    // the other.
    let (_parent, folder) = new("numbers", &["--graph", "models/digits/digits.onnx"]).await;
    is_tested_built_and_pushed(&server, "numbers", &folder).await;
    let goldens = json_file("models/digits/digits-golden.json");
    let cases = goldens["cases"].as_array().unwrap();
    let numbers: Vec<&Value> = cases
        .iter()
        .flat_map(|case| case["input"].as_array().unwrap())
        .collect();
    let body = json!({ "input": numbers }).to_string();
    let answer = server
        .predict("numbers", "application/json", body)
        .await
        .ok();
    let found = answer["probabilities"].as_array().unwrap();
    let wanted: Vec<&Value> = cases
        .iter()
        .flat_map(|case| case["probabilities"].as_array().unwrap())
        .collect();
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        close(found, wanted);
    }
    let short = server
        .predict("numbers", "application/json", "{\"input\":[1,2]}")
        .await;
    let message = short.refused(422, "invalid_input");
    assert!(
        message.contains("64 numbers wanted, or a multiple of it; 2 given"),
        "{message}"
    );
}

#[tokio::test]
async fn a_project_is_listed_for_programs_too() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("m");
    let words = [
        "new",
        "m",
        "--dir",
        folder.to_str().unwrap(),
        "--output",
        "json",
    ];
    let told: Value = serde_json::from_str(&said(&run("", &words, "").await)).unwrap();
    assert_eq!(told["name"], "m");
    assert_eq!(told["next"].as_array().unwrap().len(), 3);
    let files = told["files"].as_array().unwrap();
    assert!(files.iter().any(|file| file == "src/lib.rs"), "{told}");
    for file in files {
        assert!(folder.join(file.as_str().unwrap()).is_file(), "{file}");
    }
}

#[tokio::test]
async fn what_cannot_be_made_leaves_everything_as_it_was() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    fs::write(folder.path().join("precious"), "x").unwrap();
    let complaint = complained(&run("", &["new", "m", "--dir", path], "").await);
    assert!(complaint.contains("is not empty"), "{complaint}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let fresh = folder.path().join("fresh");
    for (graph, part) in [
        ("models/digits/model.toml", "models/digits/model.toml: "),
        ("nowhere.onnx", "nowhere.onnx"),
    ] {
        let words = [
            "new",
            "m",
            "--dir",
            fresh.to_str().unwrap(),
            "--graph",
            graph,
        ];
        let complaint = complained(&run("", &words, "").await);
        assert!(complaint.contains(part), "{complaint}");
        assert!(!fresh.exists());
        // A folder that was there, and empty, stays.
        fs::create_dir(&fresh).unwrap();
        complained(&run("", &words, "").await);
        assert_eq!(fs::read_dir(&fresh).unwrap().count(), 0);
        fs::remove_dir(&fresh).unwrap();
    }

    let output = run("", &["new", "No Name"], "").await;
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && complaint.contains("is not a model name"),
        "{complaint}"
    );
}
