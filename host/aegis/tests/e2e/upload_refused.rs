//! Packages that cannot serve are refused with what is wrong with them, and nothing of them
//! is kept.

use crate::harness::{Package, Server, Start};

/// Uploads what must be refused, sees that nothing is stored of it, and returns the message.
async fn refused(server: &Server, package: &Package, code: &str) -> String {
    let message = server.upload(package).await.refused(422, code);
    let path = format!("/v1/models/{}", package.name);
    server.get(&path).await.refused(404, "model_not_found");
    message
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` in: {message}");
    }
}

#[tokio::test]
async fn what_is_no_handler_is_told_what_it_is() {
    let server = Start::new().ready().await;
    let whole = Package::guest("counter").bytes("handler.wasm").to_vec();
    let half = whole[..whole.len() / 2].to_vec();
    for (package, code, parts) in [
        (
            Package::handler("odd", b"PK\x03\x04".to_vec()),
            "not_wasm",
            &["zip archive"][..],
        ),
        (
            Package::handler("odd", b"\x7fELF\x02".to_vec()),
            "not_wasm",
            &["native program"],
        ),
        (
            Package::handler("odd", b"(component)".to_vec()),
            "not_wasm",
            &["WebAssembly text"],
        ),
        (
            Package::handler("odd", half),
            "invalid_component",
            &["not valid WebAssembly"],
        ),
        (
            Package::wat("not_a_component.wat"),
            "core_module",
            &["core WebAssembly module", "wasm-tools"],
        ),
        (
            Package::wat("other_world.wat"),
            "missing_export",
            &["aegis:inference/predict", "wasi:cli/run@0.2.6"],
        ),
        (
            Package::wat("empty.wat"),
            "missing_export",
            &["it exports nothing"],
        ),
        (
            Package::wat("denied_imports.wat"),
            "denied_imports",
            &[
                "acme:secrets/vault@1.0.0",
                "wasi:http/outgoing-handler@0.2.6",
                "wasi:sockets/tcp@0.2.6",
            ],
        ),
        (
            Package::guest("sockets"),
            "denied_imports",
            &["wasi:sockets/tcp"],
        ),
        (
            Package::wat("wrong_signature.wat"),
            "incompatible_interface",
            &["other parameters or results", "found `string`"],
        ),
    ] {
        says(&refused(&server, &package, code).await, parts);
    }
    // After all of that an honest one is taken.
    server.upload(&Package::guest("counter")).await.is(201);
    assert_eq!(server.ask("counter", "").await.is(200).text(), "0");
}

#[tokio::test]
async fn a_bad_manifest_is_told_by_line_and_key() {
    let server = Start::new().ready().await;
    let odd = |manifest: &str| Package::new("odd", manifest);
    for (manifest, parts) in [
        ("name = ", &["model.toml line 1", "not TOML"][..]),
        (
            "name = \"odd\"\nhandlr = \"a.wasm\"",
            &["line 2", "`handlr`", "did you mean `handler`?"],
        ),
        ("handler = \"a.wasm\"", &["`name`", "is missing"]),
        (
            "name = \"Odd One\"\nhandler = \"a.wasm\"",
            &["line 1", "`name`", "not a model name"],
        ),
        ("name = \"odd\"", &["neither a handler nor a [[graph]]"]),
        (
            "name = \"odd\"\nhandler = \"../a.wasm\"",
            &["line 2", "`handler`", "relative path"],
        ),
        (
            "name = \"odd\"\n[[graph]]\nname = \"g\"\nfile = \"g.onnx\"\nbackend = \"pytorch\"",
            &[
                "line 5",
                "`graph[0].backend`",
                "unknown backend `pytorch`",
                "onnxruntime",
            ],
        ),
        (
            "name = \"odd\"\nhandler = \"a.wasm\"\n[limits]\nmemory_mib = \"big\"",
            &[
                "line 4",
                "`limits.memory_mib`",
                "a whole number from 1 to 4096",
            ],
        ),
        (
            "name = \"odd\"\nhandler = \"a.wasm\"\n[config]\nthreshold = 0.5",
            &["line 4", "`config.threshold`", "must be a string"],
        ),
        (
            "name = \"odd\"\nhandler = \"a.wasm\"\n[sandbox]\ninit_grants = [\"network\"]",
            &["line 4", "`sandbox.init_grants[0]`", "secure-random"],
        ),
    ] {
        says(
            &refused(&server, &odd(manifest), "invalid_manifest").await,
            parts,
        );
    }
}

#[tokio::test]
async fn the_files_must_be_those_that_the_manifest_names() {
    let server = Start::new().ready().await;
    let counter = || Package::guest("counter");
    for (package, code, part) in [
        (
            counter().without("handler.wasm"),
            "missing_files",
            "`handler.wasm`",
        ),
        (
            counter().file("notes.txt", "x"),
            "unknown_files",
            "`notes.txt`",
        ),
        (
            counter().file("handler.wasm", ""),
            "empty_file",
            "`handler.wasm`",
        ),
        (
            counter().replacing("\"counter\"", "\"other\""),
            "name_mismatch",
            "`counter`",
        ),
    ] {
        says(&refused(&server, &package, code).await, &[part]);
    }
}

#[tokio::test]
async fn a_graph_that_no_backend_loads_is_told_in_the_backends_words() {
    let server = Start::new().ready().await;
    // A graph of one node, whose operator there is not.
    let frob = b"\x08\x08\x42\x02\x10\x11\x3a\x16\x0a\x09\x12\x01y\x22\x04Frob\x62\x09\x0a\x01y\x12\x04\x0a\x02\x08\x01";
    let unknown = Package::example("digits").file("digits.onnx", frob);
    let message = refused(&server, &unknown, "graph_not_loaded").await;
    says(&message, &["graph `digits`"]);
    let embedded = unknown.replacing("backend = \"auto\"", "backend = \"embedded\"");
    says(
        &refused(&server, &embedded, "graph_not_loaded").await,
        &["embedded"],
    );

    let graph = |name: &str| format!("[[graph]]\nname = \"{name}\"\nfile = \"{name}.onnx\"\n");
    let two = Package::new(
        "two",
        &format!("name = \"two\"\n{}{}", graph("a"), graph("b")),
    )
    .file("a.onnx", "x")
    .file("b.onnx", "x");
    says(&refused(&server, &two, "no_handler").await, &["2 graphs"]);
}

#[tokio::test]
async fn an_upload_says_what_it_means_or_is_refused() {
    let server = Start::new().ready().await;
    let counter = Package::guest("counter");
    let ask = async |query: &str| server.upload_with(&counter, query).await;
    ask("?promote=maybe")
        .await
        .refused(400, "invalid_parameter");
    ask("?promte=true").await.refused(400, "unknown_parameter");
    let mut named = counter.clone();
    named.name = "UPPER".to_owned();
    server
        .upload(&named)
        .await
        .refused(400, "invalid_model_name");
    named.name = "..%2f..".to_owned();
    server
        .upload(&named)
        .await
        .refused(400, "invalid_model_name");
    assert_eq!(
        server.get("/v1/models").await.ok()["models"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
}
