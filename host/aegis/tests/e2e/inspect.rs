//! `aegis inspect`: what is told of components that would be taken and of those that would
//! not.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{BINARY, root};

fn inspect(words: &[&str]) -> Output {
    Command::new(BINARY)
        .arg("inspect")
        .args(words)
        .current_dir(root())
        .output()
        .unwrap()
}

/// What it says as JSON, and whether it ended as it says.
#[track_caller]
fn json(words: &[&str]) -> Value {
    let output = inspect(&[words, &["-o", "json"]].concat());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let accepted = said["accepted"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!accepted)), "{said}");
    said
}

#[test]
fn a_handler_is_told_its_world_its_grants_its_sizes_and_what_is_made_of_it() {
    let said = json(&["models/digits/digits.wasm"]);
    assert_eq!(said["accepted"], true, "{said}");
    let component = &said["component"];
    assert_eq!(component["worlds"], serde_json::json!(["handler"]));
    let imports = component["imports"].as_array().unwrap();
    let of = |name: &str| {
        let import = imports
            .iter()
            .find(|import| import["name"].as_str().unwrap().starts_with(name));
        import.unwrap().clone()
    };
    assert_eq!(of("wasi:nn/graph")["granted"], true);
    assert_eq!(of("wasi:nn/graph")["granted_in_init"], false);
    assert_eq!(of("wasi:cli/stdout")["granted_in_init"], true);
    let file = root().join("models/digits/digits.wasm").metadata().unwrap();
    assert_eq!(component["sizes"]["file"], file.len());
    for size in ["code", "data", "functions", "core_modules"] {
        assert!(component["sizes"][size].as_u64().unwrap() > 0, "{size}");
    }
    assert!(said["prepared"]["code_bytes"].as_u64().unwrap() > 100_000);
    assert!(said["prepared"]["snapshot"].is_null());
}

#[test]
fn what_a_snapshot_would_hold_depends_on_the_configuration() {
    let guest = "target/guests/vocabulary.wasm";
    let snapshot = |words: &[&str]| {
        let said = json(&[&[guest], words].concat());
        let snapshot = said["prepared"]["snapshot"].clone();
        assert_eq!(said["component"]["worlds"][1], "handler-with-lifecycle");
        snapshot["after_bytes"].as_u64().unwrap()
    };
    let (large, small) = (snapshot(&[]), snapshot(&["--config", "entries=7"]));
    assert!(large > 4 * small, "{large} and {small}");

    let random = "target/guests/init_random.wasm";
    assert_eq!(json(&[random])["code"], "init_failed");
    assert_eq!(
        json(&[random, "--grant", "secure-random"])["accepted"],
        true
    );
    // Not run, it is not known.
    let unknown = json(&[random, "--no-run"]);
    assert_eq!(
        (&unknown["accepted"], &unknown["prepared"]),
        (&true.into(), &Value::Null)
    );
}

#[test]
fn what_would_be_refused_is_told_with_the_servers_words() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("module.wasm");
    let text = root().join("tests/guests/wat/not_a_component.wat");
    std::fs::write(&module, wat::parse_file(&text).unwrap()).unwrap();
    for (file, code) in [
        ("target/guests/sockets.wasm", "denied_imports"),
        ("target/guests/init_fails.wasm", "init_failed"),
        (module.to_str().unwrap(), "core_module"),
        (text.to_str().unwrap(), "not_wasm"),
        ("Cargo.toml", "not_wasm"),
    ] {
        let said = json(&[file]);
        assert_eq!(said["code"], code, "{said}");
        assert!(!said["reason"].as_str().unwrap().is_empty());
    }
    let text = String::from_utf8(inspect(&["target/guests/sockets.wasm"]).stdout).unwrap();
    for part in [
        "would be refused (denied_imports)",
        "wasi:sockets/tcp@",
        "denied  ",
        "wasi:nn/",
    ] {
        assert!(text.contains(part), "`{part}` in {text}");
    }
    let gone = inspect(&["nowhere.wasm"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(
        String::from_utf8(gone.stderr)
            .unwrap()
            .contains("nowhere.wasm")
    );
}
