//! The two example models answer over HTTP as their goldens say.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Server, Start, json_file, root, send};

/// The most by which an answer may differ from a golden.
const TOLERANCE: f64 = 1e-4;

#[track_caller]
pub(crate) fn close(found: &Value, golden: &Value) {
    let (found, golden) = (found.as_f64().unwrap(), golden.as_f64().unwrap());
    assert!(
        (found - golden).abs() <= TOLERANCE,
        "{found} is not {golden}"
    );
}

/// Every golden case of `digits`, asked of the version that answers.
pub(crate) async fn digits_hold(server: &Server) {
    let goldens = json_file("models/digits/digits-golden.json");
    let cases = goldens["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let body = json!({ "pixels": case["input"] }).to_string();
        let answer = server
            .predict("digits", "application/json", body)
            .await
            .ok();
        assert_eq!(answer["digit"], case["label"]);
        let probabilities = answer["probabilities"].as_array().unwrap();
        assert_eq!(probabilities.len(), 10);
        for (found, golden) in probabilities
            .iter()
            .zip(case["probabilities"].as_array().unwrap())
        {
            close(found, golden);
        }
    }
}

/// Every golden case of `spam`, asked of the version that answers.
pub(crate) async fn spam_holds(server: &Server) {
    let goldens = json_file("models/spam/spam-golden.json");
    for case in goldens["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        for (content_type, body) in [
            ("text/plain", text.to_owned()),
            ("application/json", json!({ "text": text }).to_string()),
        ] {
            let answer = server.predict("spam", content_type, body).await.ok();
            close(&answer["probability"], &case["spam_probability"]);
            let spam = case["spam_probability"].as_f64().unwrap() > 0.5;
            assert_eq!(answer["spam"], spam);
        }
    }
}

#[tokio::test]
async fn the_goldens_hold_over_http() {
    let server = Start::new().examples().ready().await;
    digits_hold(&server).await;
    spam_holds(&server).await;
}

#[tokio::test]
async fn every_sample_is_answered_as_expected() {
    let server = Start::new().examples().ready().await;
    for (model, exact) in [("digits", "digit"), ("spam", "spam")] {
        let folder = format!("models/{model}/samples");
        let rows = json_file(&format!("{folder}/expected.json"));
        for row in rows.as_array().unwrap() {
            let file = row["file"].as_str().unwrap();
            let body = fs::read(root().join(&folder).join(file)).unwrap();
            let content_type = row["content_type"].as_str().unwrap();
            let answer = server.predict(model, content_type, body).await.is(200);
            assert_eq!(answer.header("content-type"), "application/json");
            let answer = answer.json();
            assert_eq!(answer[exact], row[exact], "{file}: {answer}");
            if row["probability"].is_number() {
                close(&answer["probability"], &row["probability"]);
            }
        }
    }
}

#[tokio::test]
async fn every_answer_names_its_version_and_request() {
    let server = Start::new().examples().ready().await;
    let answer = server.ask("spam", "hello there").await.is(200);
    assert_eq!(answer.header("aegis-model"), "spam");
    assert_eq!(answer.header("aegis-model-version"), "1");
    let made = answer.header("x-request-id").to_owned();
    assert_eq!(made.len(), 32);

    let with_id = |id: &str| {
        server
            .prediction("spam")
            .header("x-request-id", id)
            .body("hello")
    };
    let kept = send(with_id("caller-7/a")).await;
    assert_eq!(kept.header("x-request-id"), "caller-7/a");
    // One that would break a log line or a header is replaced.
    let replaced = send(with_id("a b \"c\"")).await;
    assert_eq!(replaced.header("x-request-id").len(), 32);
    assert_ne!(replaced.header("x-request-id"), made);

    // An error of the model's is no less an answer of the model's.
    let error = server.ask("spam", "").await;
    error.refused(422, "invalid_input");
    assert_eq!(error.header("aegis-model-version"), "1");
}

#[tokio::test]
async fn spam_raises_its_safety_flag_and_ham_does_not() {
    let server = Start::new().examples().ready().await;
    let sample = |file: &str| fs::read(root().join("models/spam/samples").join(file)).unwrap();
    for (file, id) in [
        ("spam.txt", "first"),
        ("ham.txt", "second"),
        ("spam.txt", "third"),
    ] {
        let request = server
            .prediction("spam")
            .header("content-type", "text/plain");
        send(request.header("x-request-id", id).body(sample(file)))
            .await
            .is(200);
    }
    let labels = [
        ("model", "spam"),
        ("model_version", "1"),
        ("reason", "spam"),
    ];
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum("aegis_safety_flags_total", &labels), Some(2.0));
    let line = server.logged_of("third", "safety flags").await;
    assert_eq!(
        (&line["model"], &line["version"]),
        (&json!("spam"), &json!(1))
    );
    assert!(
        !server
            .log()
            .iter()
            .any(|line| line["request_id"] == "second")
    );
}

#[tokio::test]
async fn the_program_says_what_to_try_once_it_is_ready() {
    let server = Start::new().examples().ready().await;
    let said = server.stdout.all().join("\n");
    for part in [
        "digits version 1 (",
        "spam version 1 (",
        "curl ",
        "identifier=digits",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
