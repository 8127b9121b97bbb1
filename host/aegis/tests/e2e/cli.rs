//! The commands, as a person or a script uses them, against a running server.

use std::process::Output;

use serde_json::Value;

use crate::harness::{Aegis, Package, Server, Start, complained, said};

/// Runs a client command against this server.
pub(crate) async fn aegis(server: &Server, words: &[&str]) -> Output {
    with_input(server, words, "").await
}

async fn with_input(server: &Server, words: &[&str], input: &str) -> Output {
    run(&server.url(""), words, input).await
}

pub(crate) async fn run(server: &str, words: &[&str], input: &str) -> Output {
    let command = Aegis::new(words).variable("AEGIS_SERVER", server);
    command.input(input).run().await
}

#[tokio::test]
async fn a_package_is_pushed_shown_promoted_and_asked() {
    let server = Start::new().ready().await;
    assert!(said(&aegis(&server, &["models"]).await).contains("no models yet"));
    let pushed = said(&aegis(&server, &["push", "models/spam"]).await);
    assert!(pushed.contains("spam version 1 uploaded"), "{pushed}");
    assert!(
        pushed.contains("it answers requests now") && pushed.contains("sha256:"),
        "{pushed}"
    );
    let again = said(&aegis(&server, &["push", "models/spam"]).await);
    assert!(again.contains("this very content already"), "{again}");

    let folder = tempfile::tempdir().unwrap();
    Package::example("spam")
        .replacing("\"0.5\"", "\"0.9\"")
        .write_to(folder.path());
    let path = folder.path().to_str().unwrap();
    let second = said(&aegis(&server, &["push", path, "--output", "json"]).await);
    let second: Value = serde_json::from_str(&second).unwrap();
    assert_eq!(
        (&second["version"], &second["serving"]),
        (&2.into(), &false.into())
    );

    let promoted = said(&aegis(&server, &["promote", "spam", "2"]).await);
    assert!(
        promoted.contains("spam version 2 answers requests now"),
        "{promoted}"
    );
    let listed = said(&aegis(&server, &["models"]).await);
    assert!(
        listed.contains("NAME") && listed.contains("spam"),
        "{listed}"
    );
    let shown = said(&aegis(&server, &["models", "spam"]).await);
    let row = shown.lines().find(|line| line.starts_with("2 ")).unwrap();
    assert!(row.contains("stable") && row.contains("yes"), "{shown}");
    let shown = said(&aegis(&server, &["models", "spam", "-o", "json"]).await);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["traffic"]["stable"], 2);
}

#[tokio::test]
async fn a_prediction_takes_its_body_from_flag_file_or_input() {
    let server = Start::new().examples().ready().await;
    let text =
        "congratulations! you have won $1,000,000 cash. click here now to claim your free prize!!!";
    let json = format!("{{\"text\":\"{text}\"}}");
    for (words, input) in [
        (&["--data", text][..], ""),
        (&["--data", &json], ""),
        (&["--file", "models/spam/samples/spam.txt"], ""),
        (&["--file", "models/spam/samples/mail.json"], ""),
        (&[], text),
        (&["--content-type", "application/json"], &json),
        (&["--version", "1"], text),
    ] {
        let words = [&["predict", "spam"], words].concat();
        let answer = said(&with_input(&server, &words, input).await);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["spam"], true, "{words:?}");
    }
    let picture = [
        "predict",
        "digits",
        "--file",
        "models/digits/samples/printed.png",
        "-o",
        "json",
    ];
    let answer: Value = serde_json::from_str(&said(&aegis(&server, &picture).await)).unwrap();
    assert_eq!(answer["body"]["digit"], 3);
    assert_eq!(
        (&answer["model"], &answer["model_version"]),
        (&"digits".into(), &1.into())
    );
    assert_eq!(answer["content_type"], "application/json");
    assert_eq!(answer["request_id"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn what_the_server_refuses_is_told_with_its_words_code_and_request() {
    let server = Start::new().examples().ready().await;
    let complaint = complained(&aegis(&server, &["predict", "nobody", "-d", "x"]).await);
    for part in [
        "there is no model `nobody`",
        "404",
        "model_not_found",
        "request ",
    ] {
        assert!(complaint.contains(part), "`{part}` in {complaint}");
    }
    let complaint =
        complained(&aegis(&server, &["predict", "digits", "-d", "{\"pixels\":[]}"]).await);
    assert!(complaint.contains("(at /pixels)"), "{complaint}");
    let complaint = complained(&aegis(&server, &["promote", "spam", "9"]).await);
    assert!(complaint.contains("version_not_found"), "{complaint}");
    complained(&aegis(&server, &["models", "nobody"]).await);
}

#[tokio::test]
async fn a_folder_that_is_no_package_is_told_before_anything_is_sent() {
    let server = Start::new().ready().await;
    let complaint = complained(&aegis(&server, &["push", "models"]).await);
    assert!(
        complaint.contains("a model package is a folder with a model.toml"),
        "{complaint}"
    );
    let folder = tempfile::tempdir().unwrap();
    Package::guest("counter")
        .without("handler.wasm")
        .write_to(folder.path());
    let complaint = complained(&aegis(&server, &["push", folder.path().to_str().unwrap()]).await);
    assert!(
        complaint.contains("handler.wasm, which is not there"),
        "{complaint}"
    );
}

#[tokio::test]
async fn where_no_server_is_every_command_says_how_to_have_one() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for words in [
        &["models"][..],
        &["push", "models/spam"],
        &["predict", "spam", "-d", "x"],
        &["promote", "spam", "1"],
    ] {
        let complaint = complained(&run(&url, words, "").await);
        assert!(
            complaint.contains(&url) && complaint.contains("aegis serve"),
            "{complaint}"
        );
    }
}

#[tokio::test]
async fn the_printed_configuration_starts_the_same_server() {
    let words = [
        "serve",
        "--print-config",
        "--max-body-mib",
        "7",
        "--predict-max-queue",
        "3",
    ];
    let printed = said(&run("", &words, "").await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aegis.toml");
    std::fs::write(&file, &printed).unwrap();
    let again = [
        "serve",
        "--print-config",
        "--config",
        file.to_str().unwrap(),
    ];
    let again = said(&run("", &again, "").await);
    let values = |page: &str| page.parse::<toml::Table>().unwrap();
    assert_eq!(values(&again), values(&printed));
    assert_eq!(values(&again)["max_body_mib"].as_integer(), Some(7));

    // And it starts: flags go over the file.
    let server = Start::new()
        .flag("--config", file.to_str().unwrap())
        .ready()
        .await;
    server.get("/readyz").await.is(200);
}

#[tokio::test]
async fn a_server_that_makes_no_sense_does_not_start() {
    let complaint = complained(&run("", &["serve", "--listen", "0.0.0.0:0"], "").await);
    assert!(complaint.contains("management"), "{complaint}");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let words = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        data,
        "--models",
        "docs",
    ];
    let output = run("", &words, "").await;
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        complaint.contains("aegis: docs has no model.toml"),
        "{complaint}"
    );
}
