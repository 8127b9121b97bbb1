//! The audit trail: who did what to which model, from where, and whether it was allowed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Package, Server, Start, Tokens, eventually, send};

/// The audit lines so far.
fn trail(server: &Server) -> Vec<Value> {
    let is_audit = |line: &Value| line["target"] == "aegis::audit";
    server.log().into_iter().filter(is_audit).collect()
}

/// The one audit line of a request.
async fn line_of(server: &Server, request_id: &str) -> Value {
    let lines = eventually("an audit line", async || {
        let lines = trail(server);
        let mine = lines.into_iter().filter(|l| l["request_id"] == request_id);
        let mine: Vec<_> = mine.collect();
        (!mine.is_empty()).then_some(mine)
    })
    .await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].clone()
}

#[tokio::test]
async fn every_management_call_is_one_line_with_who_what_and_how_it_ended() {
    let tokens = Tokens::new();
    let (ann, app) = (
        tokens.add("ann", "manage").await,
        tokens.add("app", "predict").await,
    );
    let server = tokens.start().examples().ready().await;
    let second = Package::example("spam").replacing("\"0.5\"", "\"0.9\"");
    let model = "/v1/models/spam";
    let version = "/v1/models/spam/versions/1";
    let on = |method, path: &str| server.request(method, path);
    let put = |body| on(Method::PUT, "/v1/models/spam/traffic").json(&body);
    let calls = [
        (on(Method::GET, "/v1/models"), "list", None, None, 200, "ok"),
        (
            on(Method::GET, model),
            "show",
            Some("spam"),
            None,
            200,
            "ok",
        ),
        (
            on(Method::GET, version),
            "show_version",
            Some("spam"),
            Some("1"),
            200,
            "ok",
        ),
        (
            on(Method::POST, "/v1/models/spam/versions").multipart(second.form()),
            "upload",
            Some("spam"),
            Some("2"),
            201,
            "ok",
        ),
        (
            put(json!({"stable": 2})),
            "set_traffic",
            Some("spam"),
            Some("2"),
            200,
            "ok",
        ),
        (
            put(json!({"stable": 9})),
            "set_traffic",
            Some("spam"),
            Some("9"),
            404,
            "version_not_found",
        ),
        (
            on(Method::DELETE, version),
            "delete_version",
            Some("spam"),
            Some("1"),
            204,
            "ok",
        ),
        (
            on(Method::DELETE, model),
            "delete_model",
            Some("spam"),
            None,
            204,
            "ok",
        ),
        (
            on(Method::DELETE, model),
            "delete_model",
            Some("spam"),
            None,
            404,
            "model_not_found",
        ),
    ];
    let count = calls.len();
    for (index, (request, action, model, version, status, code)) in calls.into_iter().enumerate() {
        let id = format!("call-{index}");
        let request = request.bearer_auth(&ann).header("x-request-id", &id);
        send(request).await.is(status);
        let line = line_of(&server, &id).await;
        assert_eq!(line["level"], "INFO");
        assert_eq!(
            (
                &line["who"],
                &line["action"],
                &line["status"],
                &line["code"]
            ),
            (&json!("ann"), &json!(action), &json!(status), &json!(code)),
            "{line}"
        );
        assert_eq!(
            (line["model"].as_str(), line["version"].as_str()),
            (model, version),
            "{line}"
        );
        assert!(
            line["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
            "{line}"
        );
        assert!(line["duration_ms"].is_u64(), "{line}");
    }

    // Who was refused is there too: by name where the token is known.
    for (token, who, status, code) in [
        (None, "anonymous", 401, "unauthorized"),
        (Some("guess"), "anonymous", 401, "unauthorized"),
        (Some(app.as_str()), "app", 403, "forbidden"),
    ] {
        let id = format!("refused-{who}-{}", token.is_some());
        let mut request = on(Method::DELETE, "/v1/models/digits").header("x-request-id", &id);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        send(request).await.refused(status, code);
        let line = line_of(&server, &id).await;
        assert_eq!(
            (&line["who"], &line["model"], &line["status"], &line["code"]),
            (&json!(who), &json!("digits"), &json!(status), &json!(code)),
            "{line}"
        );
    }
    // Neither predictions nor what is open to all are management.
    server.get("/health").await;
    server.ask("digits", "").await;
    assert_eq!(trail(&server).len(), count + 3);
}

#[tokio::test]
async fn without_tokens_the_caller_is_anonymous_and_still_written_down() {
    let server = Start::new().ready().await;
    let answer = server.get("/v1/models").await.is(200);
    let line = line_of(&server, answer.header("x-request-id")).await;
    assert_eq!(line["who"], "anonymous");
}

#[tokio::test]
async fn no_path_forges_a_line() {
    let server = Start::new().ready().await;
    for (path, shown) in [
        (
            "/v1/models/a%0Awho%3Droot%20status=200",
            "a\\nwho\\u{3d}root\\u{20}status\\u{3d}200",
        ),
        ("/v1/models/%1b%5b2Ja", "\\u{1b}[2Ja"),
        ("/v1/models/%C3%A9%E2%80%AE", "\\u{e9}\\u{202e}"),
        ("/v1/models/%FF", "/v1/models/%FF"),
    ] {
        let answer = server.get(path).await.is(400);
        let line = line_of(&server, answer.header("x-request-id")).await;
        assert_eq!(line["model"], *shown, "{line}");
        assert_eq!(
            (&line["who"], &line["status"]),
            (&"anonymous".into(), &400.into())
        );
    }
    let long = format!("/v1/models/{}", "x".repeat(2000));
    let answer = server.get(&long).await.is(400);
    let line = line_of(&server, answer.header("x-request-id")).await;
    assert!(line["model"].as_str().unwrap().len() < 100, "{line}");
}

#[tokio::test]
async fn a_caller_who_goes_away_is_written_down() {
    let server = Start::new().ready().await;
    let mut raw = server.raw().await;
    raw.send(
        "PUT /v1/models/spam/traffic HTTP/1.1\r\nhost: localhost\r\nx-request-id: gone\r\n\
         content-length: 100\r\n\r\n{",
    )
    .await;
    eventually("the call is under way", async || {
        let labels = [("endpoint", "/v1/models/{model}/traffic")];
        let metrics = server.metrics().await;
        (metrics.sum("http_requests_in_flight", &labels) == Some(1.0)).then_some(())
    })
    .await;
    drop(raw);
    let line = line_of(&server, "gone").await;
    assert_eq!(
        (&line["action"], &line["model"]),
        (&"set_traffic".into(), &"spam".into())
    );
    assert_ne!(line["code"], "ok", "{line}");
}
