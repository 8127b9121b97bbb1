//! Who may do what: roles, tokens and their file while the server runs, the listener for
//! management, and what does not start.

use std::process::Output;

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::harness::{
    Aegis, Answer, Package, Raw, Server, Start, Tokens, complained, eventually, said, send,
};

/// A token of the right form that no file has.
const UNKNOWN: &str = "aegis_0000000000000000000000000000000000000000000000000000000000000000";

/// Every management route, in an order in which all of them succeed on a model `spam` whose
/// version 1 answers, with the status of success.
fn management(server: &Server) -> Vec<(RequestBuilder, u16)> {
    let second = Package::example("spam").replacing("\"0.5\"", "\"0.9\"");
    let on = |method, path: &str| server.request(method, path);
    vec![
        (on(Method::GET, "/v1/models"), 200),
        (on(Method::GET, "/v1/models/spam"), 200),
        (on(Method::GET, "/v1/models/spam/versions/1"), 200),
        (
            on(Method::POST, "/v1/models/spam/versions").multipart(second.form()),
            201,
        ),
        (
            on(Method::PUT, "/v1/models/spam/traffic").json(&json!({"stable": 2})),
            200,
        ),
        (on(Method::DELETE, "/v1/models/spam/versions/1"), 204),
        (on(Method::DELETE, "/v1/models/spam"), 204),
    ]
}

fn prediction(server: &Server) -> RequestBuilder {
    server
        .prediction("spam")
        .header("content-type", "text/plain")
        .body("hello there")
}

/// A request with what may stand in its `authorization`.
fn with(request: RequestBuilder, token: Option<&str>) -> RequestBuilder {
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

async fn list(server: &Server, token: &str) -> Answer {
    send(server.request(Method::GET, "/v1/models").bearer_auth(token)).await
}

#[tokio::test]
async fn every_route_opens_to_its_own_role_and_to_nobody_else() {
    let tokens = Tokens::new();
    let (manage, predict) = (
        tokens.add("ann", "manage").await,
        tokens.add("app", "predict").await,
    );
    let server = tokens.start().examples().ready().await;

    for stranger in [None, Some(UNKNOWN), Some("guess")] {
        for (request, _) in management(&server) {
            let answer = send(with(request, stranger)).await;
            let told = answer.refused(401, "unauthorized");
            assert!(told.contains("the role `manage`"), "{told}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
        let answer = send(with(prediction(&server), stranger)).await;
        let told = answer.refused(401, "unauthorized");
        assert!(told.contains("the role `predict`"), "{told}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    for (request, _) in management(&server) {
        let told = send(request.bearer_auth(&predict))
            .await
            .refused(403, "forbidden");
        assert!(
            told.contains("`app`") && told.contains("`manage`"),
            "{told}"
        );
    }
    let answer = send(prediction(&server).bearer_auth(&manage)).await;
    let told = answer.refused(403, "forbidden");
    assert!(
        told.contains("`ann`") && told.contains("`predict`"),
        "{told}"
    );

    // Nothing of all that changed anything, and those who may, may.
    send(prediction(&server).bearer_auth(&predict))
        .await
        .is(200);
    for (request, status) in management(&server) {
        send(request.bearer_auth(&manage)).await.is(status);
    }
}

#[tokio::test]
async fn a_line_with_both_roles_opens_both() {
    let tokens = Tokens::new();
    let both = tokens.add("ann", "manage,predict").await;
    let server = tokens.start().examples().ready().await;
    send(prediction(&server).bearer_auth(&both)).await.is(200);
    list(&server, &both).await.is(200);
}

#[tokio::test]
async fn predictions_ask_for_nothing_while_no_token_is_for_them() {
    let tokens = Tokens::new();
    tokens.add("ann", "manage").await;
    let server = tokens.start().examples().ready().await;
    send(prediction(&server)).await.is(200);
    send(prediction(&server).bearer_auth(UNKNOWN)).await.is(200);
    server.get("/v1/models").await.refused(401, "unauthorized");
}

#[tokio::test]
async fn management_on_loopback_asks_for_nothing_while_no_token_is_for_it() {
    let tokens = Tokens::new();
    tokens.add("app", "predict").await;
    let server = tokens.start().examples().ready().await;
    server.get("/v1/models").await.is(200);
    send(prediction(&server)).await.refused(401, "unauthorized");
}

#[tokio::test]
async fn health_and_metrics_are_open_to_all() {
    let tokens = Tokens::new();
    tokens.add("ann", "manage,predict").await;
    let server = tokens.start().ready().await;
    for path in ["/health", "/livez", "/readyz", "/metrics"] {
        server.get(path).await.is(200);
    }
}

#[tokio::test]
async fn no_web_page_manages_models_with_a_token_either() {
    let tokens = Tokens::new();
    let ann = tokens.add("ann", "manage").await;
    let server = tokens.start().ready().await;
    let request = server.request(Method::GET, "/v1/models").bearer_auth(ann);
    send(request.header("origin", "http://page.example"))
        .await
        .refused(403, "cross_origin");
}

#[tokio::test]
async fn tokens_come_and_go_while_the_server_runs() {
    let tokens = Tokens::new();
    let ann = tokens.add("ann", "manage").await;
    let server = tokens.start().examples().ready().await;
    list(&server, &ann).await.is(200);

    let bob = tokens.add("bob", "manage").await;
    eventually("bob is let in", async || {
        (list(&server, &bob).await.status == 200).then_some(())
    })
    .await;
    tokens.remove("ann");
    eventually("ann is not any more", async || {
        (list(&server, &ann).await.status == 401).then_some(())
    })
    .await;
    list(&server, &bob).await.is(200);

    // A file that breaks is told of, once, and changes nothing.
    let good = tokens.text();
    tokens.write(&format!("{good}nonsense\n"));
    let unusable = |line: &serde_json::Value| {
        line["level"] == "ERROR" && line["message"].to_string().contains("line 2: ")
    };
    server.logged("the broken file", unusable).await;
    list(&server, &bob).await.is(200);

    // Mended, with a first token for predictions: from then on they ask for one.
    send(prediction(&server)).await.is(200);
    tokens.write(&good);
    let app = tokens.add("app", "predict").await;
    eventually("predictions ask for a token", async || {
        (send(prediction(&server)).await.status == 401).then_some(())
    })
    .await;
    send(prediction(&server).bearer_auth(&app)).await.is(200);
    let told = server.log().into_iter().filter(unusable).count();
    assert_eq!(told, 1);

    // The last line gone shuts the doors: it does not open them.
    tokens.write("");
    eventually("nobody is let in", async || {
        (list(&server, &bob).await.status == 401).then_some(())
    })
    .await;
    server.get("/v1/models").await.refused(401, "unauthorized");
    send(prediction(&server)).await.refused(401, "unauthorized");
}

/// Where the management routes listen by themselves.
async fn admin_address(server: &Server) -> String {
    let is_it = |line: &serde_json::Value| {
        let message = line["message"].as_str().unwrap_or_default().to_owned();
        message.starts_with("management on http://")
    };
    let line = server.logged("the listener for management", is_it).await;
    let message = line["message"].as_str().unwrap().to_owned();
    message
        .trim_start_matches("management on http://")
        .to_owned()
}

#[tokio::test]
async fn management_with_a_listener_of_its_own_is_nowhere_else() {
    let mut server = Start::new()
        .flag("--admin-listen", "127.0.0.1:0")
        .flag("--drain-delay-ms", "1000")
        .ready()
        .await;
    let admin = format!("http://{}", admin_address(&server).await);
    let client = reqwest::Client::new();
    let at_admin = |path: &str| send(client.get(format!("{admin}{path}")));

    server.get("/v1/models").await.refused(404, "no_such_route");
    server
        .upload(&Package::example("spam"))
        .await
        .refused(404, "no_such_route");
    let form = Package::example("spam").form();
    let upload = client.post(format!("{admin}/v1/models/spam/versions"));
    send(upload.multipart(form)).await.is(201);
    assert_eq!(
        at_admin("/v1/models").await.ok()["models"][0]["name"],
        "spam"
    );
    for path in ["/health", "/livez", "/readyz", "/metrics"] {
        at_admin(path).await.is(200);
        server.get(path).await.is(200);
    }
    let predict = client.post(format!("{admin}/predict?identifier=spam"));
    send(predict.body("hello there"))
        .await
        .refused(404, "no_such_route");
    server.ask("spam", "hello there").await.is(200);

    server.terminate();
    eventually("not ready, and told at both", async || {
        let (main, admin) = (server.get("/readyz").await, at_admin("/readyz").await);
        (main.text() == "draining\n" && admin.text() == "draining\n").then_some(())
    })
    .await;
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(client.get(format!("{admin}/livez")).send().await.is_err());
}

#[tokio::test]
async fn what_is_under_way_at_the_listener_for_management_is_finished() {
    let mut server = Start::new()
        .flag("--admin-listen", "127.0.0.1:0")
        .ready()
        .await;
    let mut raw = Raw::connect(&admin_address(&server).await).await;
    raw.send(
        "PUT /v1/models/nobody/traffic HTTP/1.1\r\nhost: localhost\r\ncontent-length: 12\r\n\r\n",
    )
    .await;
    eventually("the call is under way", async || {
        let labels = [("endpoint", "/v1/models/{model}/traffic")];
        let metrics = server.metrics().await;
        (metrics.sum("http_requests_in_flight", &labels) == Some(1.0)).then_some(())
    })
    .await;
    server.terminate();
    server
        .logged("the drain", |line| {
            line["message"] == "stopping: finishing what is in flight" && line["in_flight"] == 1
        })
        .await;
    raw.send("{\"stable\":1}").await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("model_not_found"), "{answer}");
    assert_eq!(server.ended().await.code(), Some(0));
}

/// What `aegis serve` with these flags complains of, which must not start.
async fn refused_to_start(flags: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let words = [&["serve", "--data", data], flags].concat();
    complained(&Aegis::new(&words).run().await)
}

#[tokio::test]
async fn management_for_other_machines_does_not_start_without_a_token_for_it() {
    let predict_only = Tokens::new();
    predict_only.add("app", "predict").await;
    let predict_only = predict_only.flag();
    for flags in [
        &["--listen", "0.0.0.0:0"][..],
        &["--listen", "[::]:0"],
        &["--listen", "0.0.0.0:0", "--tokens", &predict_only],
        &["--admin-listen", "0.0.0.0:0"],
        &["--admin-listen", "0.0.0.0:0", "--tokens", &predict_only],
    ] {
        let told = refused_to_start(flags).await;
        for way_on in [
            "--tokens FILE",
            "--admin-listen 127.0.0.1:",
            "--management off",
            "aegis token new",
        ] {
            assert!(told.contains(way_on), "{flags:?}: {told}");
        }
    }
    let both = ["--admin-listen", "127.0.0.1:0", "--management", "off"];
    let told = refused_to_start(&both).await;
    assert!(told.contains("management is off"), "{told}");
}

#[tokio::test]
async fn management_for_other_machines_starts_with_a_token_for_it_and_asks_for_it() {
    let tokens = Tokens::new();
    let ann = tokens.add("ann", "manage").await;
    let server = tokens
        .start()
        .flag("--admin-listen", "0.0.0.0:0")
        .ready()
        .await;
    let address = admin_address(&server).await;
    let url = format!(
        "{}/v1/models",
        address.replace("0.0.0.0", "http://127.0.0.1")
    );
    let client = reqwest::Client::new();
    send(client.get(&url)).await.refused(401, "unauthorized");
    send(client.get(&url).bearer_auth(ann)).await.is(200);
}

#[tokio::test]
async fn a_tokens_file_that_is_not_right_does_not_start_and_says_where_and_why() {
    let tokens = Tokens::new();
    let flags = ["--tokens", &tokens.flag()];
    let told = refused_to_start(&flags).await;
    assert!(
        told.contains("flag --tokens") && told.contains("--append"),
        "{told}"
    );
    let ann = tokens.add("ann", "manage").await;
    for (text, why) in [
        (String::new(), "no token is in it"),
        (format!("manage ann {ann}"), "replace the token"),
        (
            "# who\nmanage ann\n".to_owned(),
            "line 2: 2 words instead of three",
        ),
    ] {
        tokens.write(&text);
        let told = refused_to_start(&flags).await;
        assert!(told.contains(why), "{told}");
        assert!(!told.contains(&ann), "{told}");
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o606);
    std::fs::set_permissions(tokens.path(), mode).unwrap();
    let told = refused_to_start(&flags).await;
    assert!(told.contains("anyone can write it"), "{told}");
}

#[tokio::test]
async fn strangers_who_begin_uploads_take_nobodys_place() {
    let tokens = Tokens::new();
    let ann = tokens.add("ann", "manage").await;
    let server = tokens
        .start()
        .flag("--max-concurrent-uploads", "1")
        .ready()
        .await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let mut raw = server.raw().await;
        raw.send(
            "POST /v1/models/spam/versions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: multipart/form-data; boundary=b\r\n\
             content-length: 1000000000000\r\n\r\n--b\r\n",
        )
        .await;
        strangers.push(raw);
    }
    let upload = server
        .request(Method::POST, "/v1/models/spam/versions")
        .multipart(Package::example("spam").form());
    send(upload.bearer_auth(ann)).await.is(201);
    for mut raw in strangers {
        let answer = raw.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[tokio::test]
async fn a_flood_without_tokens_is_counted_whole_and_logged_in_a_line() {
    let tokens = Tokens::new();
    let app = tokens.add("app", "predict").await;
    let server = tokens.start().examples().ready().await;
    for _ in 0..200 {
        send(prediction(&server)).await.refused(401, "unauthorized");
    }
    let labels = [("endpoint", "/predict"), ("error_type", "http_401")];
    let metrics = server.metrics().await;
    assert_eq!(
        metrics.sum("http_request_errors_total", &labels),
        Some(200.0)
    );
    // The first is told at once; a slow machine may see more than one span of ten seconds.
    let refused = |line: &serde_json::Value| {
        line["message"]
            .to_string()
            .contains("a prediction was refused")
    };
    let first = server.logged("the refusal", refused).await;
    assert_eq!(first["level"], "WARN");
    assert_eq!(
        (&first["who"], &first["unsaid"]),
        (&"anonymous".into(), &0.into())
    );
    assert!(first["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(server.log().into_iter().filter(refused).count() < 10);
    send(prediction(&server).bearer_auth(app)).await.is(200);
}

/// All that whoever handles requests can be made to say. The compiler, traced too, would say
/// more than a test can wait for.
const NETWORK_TRACED: &str = "info,aegis=trace,aegis_server=trace,aegis_sandbox=trace,axum=trace,\
     h2=trace,hyper=trace,hyper_util=trace,mio=trace,tokio=trace,tower=trace";

#[tokio::test]
async fn a_token_is_in_no_log_line_no_answer_and_no_metric() {
    let tokens = Tokens::new();
    let (ann, app) = (
        tokens.add("ann", "manage").await,
        tokens.add("app", "predict").await,
    );
    let server = tokens
        .start()
        .flag("--log-filter", NETWORK_TRACED)
        .examples()
        .ready()
        .await;
    let mut answers = String::new();
    for token in [&ann, &app, UNKNOWN, &ann.to_uppercase(), &ann[..40]] {
        for request in [
            server.request(Method::GET, "/v1/models"),
            server.request(Method::GET, "/v1/models/nobody"),
            prediction(&server),
        ] {
            for value in [
                format!("Bearer {token}"),
                format!("Basic {token}"),
                token.to_owned(),
            ] {
                let request = request.try_clone().unwrap();
                let answer = send(request.header("authorization", value)).await;
                answers.push_str(&format!("{:?}{}", answer.headers, answer.text()));
            }
        }
    }
    answers.push_str(&server.metrics().await.text);
    let log: String = server.log().iter().map(|line| line.to_string()).collect();
    assert!(log.contains("aegis::audit") && answers.contains("unauthorized"));
    for token in [&ann, &app, UNKNOWN] {
        // Its middle: whole, cut short or in capitals it would be found by it.
        let secret = &token[10..30];
        for text in [&log, &answers] {
            let text = text.to_lowercase();
            if let Some(at) = text.find(secret) {
                panic!("a token: {}", &text[at.saturating_sub(300)..at]);
            }
        }
    }
}

#[tokio::test]
async fn a_handler_does_not_see_its_callers_token() {
    let tokens = Tokens::new();
    let path = tokens.flag();
    tokens.add("app", "predict").await;
    let flags = ["--tokens", &path, "--forward-headers", "Authorization"];
    let told = refused_to_start(&flags).await;
    assert!(
        told.contains("flag --forward-headers: handlers would see"),
        "{told}"
    );
}

/// Runs a client command against this server with these variables.
async fn aegis(server: &Server, words: &[&str], variables: &[(&str, &str)]) -> Output {
    let command = Aegis::new(words).variable("AEGIS_SERVER", &server.url(""));
    variables
        .iter()
        .fold(command, |command, (name, value)| {
            command.variable(name, value)
        })
        .run()
        .await
}

#[tokio::test]
async fn the_commands_send_the_token_they_are_given_and_say_what_is_missing() {
    let tokens = Tokens::new();
    let (ann, app) = (
        tokens.add("ann", "manage").await,
        tokens.add("app", "predict").await,
    );
    let server = tokens.start().ready().await;
    let file = tokens.path().with_file_name("ann.token");
    std::fs::write(&file, format!("{ann}\n")).unwrap();
    let file = file.to_str().unwrap();

    let pushed = aegis(&server, &["push", "models/spam"], &[("AEGIS_TOKEN", &ann)]).await;
    said(&pushed);
    said(&aegis(&server, &["models"], &[("AEGIS_TOKEN_FILE", file)]).await);
    let by_flag = ["models", "spam", "--token-file", file];
    // The flag goes over a token that may not do it.
    let shown = said(&aegis(&server, &by_flag, &[("AEGIS_TOKEN", &app)]).await);
    let promote = ["promote", "spam", "1"];
    said(&aegis(&server, &promote, &[("AEGIS_TOKEN", &ann)]).await);
    let predict = ["predict", "spam", "--data", "hello there"];
    said(&aegis(&server, &predict, &[("AEGIS_TOKEN", &app)]).await);

    // Who did it is with the version and in the history.
    let version = shown.lines().find(|line| line.starts_with("1 ")).unwrap();
    assert!(version.contains(" ann "), "{shown}");
    let change = shown.lines().find(|line| line.contains("first_version"));
    assert!(change.unwrap().contains(" ann "), "{shown}");

    for words in [
        &["models"][..],
        &["push", "models/spam"],
        &promote,
        &predict,
    ] {
        let told = complained(&aegis(&server, words, &[]).await);
        assert!(
            told.contains("401") && told.contains("AEGIS_TOKEN"),
            "{told}"
        );
    }
    let told = complained(&aegis(&server, &["models"], &[("AEGIS_TOKEN", &app)]).await);
    assert!(told.contains("403") && told.contains("`manage`"), "{told}");
    let mistyped = &ann[..50];
    let output = aegis(&server, &["models"], &[("AEGIS_TOKEN", mistyped)]).await;
    let told = complained(&output);
    assert!(
        told.contains("AEGIS_TOKEN") && !told.contains(mistyped),
        "{told}"
    );
    // Help shows what variables hold; this one it must not.
    let help = said(&aegis(&server, &["models", "--help"], &[("AEGIS_TOKEN", &ann)]).await);
    assert!(
        help.contains("AEGIS_TOKEN") && !help.contains(&ann),
        "{help}"
    );
}

#[tokio::test]
async fn a_token_on_its_way_over_a_network_in_the_clear_is_warned_about() {
    let token = ("AEGIS_TOKEN", UNKNOWN);
    // 192.0.2.0/24 is for documentation (RFC 5737): nobody answers, and nobody is asked for long.
    let command = Aegis::new(&["models", "--server", "http://192.0.2.1:1"]);
    let told = complained(&command.variable(token.0, token.1).run().await);
    assert!(
        told.contains("the token goes to 192.0.2.1 unencrypted"),
        "{told}"
    );
    assert!(!told.contains(UNKNOWN), "{told}");
}

#[tokio::test]
async fn a_new_token_is_printed_once_and_its_line_is_what_the_server_takes() {
    let words = [
        "token", "new", "--name", "ann", "--role", "predict", "--role", "manage",
    ];
    let printed = said(&Aegis::new(&words).run().await);
    let (token, line) = printed.trim_end().split_once('\n').unwrap();
    assert!(
        token.starts_with("aegis_") && !line.contains(token),
        "{printed}"
    );
    assert!(line.starts_with("manage,predict ann sha256:"), "{line}");
    let tokens = Tokens::new();
    tokens.write(line);
    let server = tokens.start().ready().await;
    list(&server, token).await.is(200);
    for words in [
        &["token", "new", "--name", "no spaces", "--role", "manage"][..],
        &["token", "new", "--name", "ann", "--role", "admin"],
        &["token", "new", "--name", "ann"],
    ] {
        let output = Aegis::new(words).run().await;
        assert_eq!(output.status.code(), Some(2));
    }
}
