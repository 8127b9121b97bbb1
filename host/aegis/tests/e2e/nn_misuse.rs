//! `wasi:nn` used wrongly: tensors that make no sense, handles that are none, networks from
//! bytes that are none. What a guest can act on is an error value, the rest is a trap; the
//! host goes on.

use serde_json::{Value, json};

use crate::harness::{Answer, Package, Server, Start, network_file, send};

async fn server_on(backend: &str) -> Server {
    let server = Start::new().ready().await;
    let keys = format!("backend = \"{backend}\"");
    let package = ["reshape-fp32", "difference", "nonzero", "lookup"]
        .into_iter()
        .fold(Package::nn("nn", &[]), |package, network| {
            package.graph(network, &keys, network_file(network))
        });
    let limits = "[limits]\ntimeout_ms = 20000\nmemory_mib = 512";
    server.upload(&package.and(limits)).await.is(201);
    server
}

async fn ask(server: &Server, what: &str) -> Value {
    server.ask(&format!("nn&{what}"), "").await.ok()
}

async fn still_serves(server: &Server) {
    let answer = ask(server, "dims=3,2").await;
    assert_eq!(answer["outputs"][0]["dims"], json!([6, 1]), "{answer}");
}

/// An error value with this code, and these words in it.
#[track_caller]
fn is_error(answer: &Value, code: &str, words: &str) {
    let error = &answer["error"];
    assert_eq!(error["code"], format!("ErrorCode::{code}"), "{answer}");
    let data = error["data"].as_str().unwrap();
    assert!(data.contains(words), "`{words}` in: {data}");
}

#[tokio::test]
async fn a_tensor_that_makes_no_sense_is_an_error_value() {
    let server = server_on("auto").await;
    for (what, code, words) in [
        // Bytes that lie, in both directions.
        (
            "dims=3,2&bytes=23",
            "InvalidArgument",
            "23 bytes were given",
        ),
        ("dims=3,2&bytes=25", "InvalidArgument", "which takes 24"),
        ("dims=3,2&bytes=0", "InvalidArgument", "0 bytes"),
        // Products that overflow 32 and 64 bits, also where a zero hides it.
        (
            "dims=65536,65536&bytes=8",
            "InvalidArgument",
            "bytes were given",
        ),
        (
            "dims=4294967295,4294967295,4294967295&bytes=8",
            "InvalidArgument",
            "too large",
        ),
        (
            "dims=4294967295,4294967295,4294967295,0&bytes=0",
            "InvalidArgument",
            "too large",
        ),
        (
            "dims=1,1,1,1,1,1,1,1,1&bytes=4",
            "InvalidArgument",
            "9 dimensions",
        ),
        // Ranks, dimensions and types that the graph does not take.
        ("dims=&bytes=4", "InvalidArgument", "has shape []"),
        ("dims=6", "InvalidArgument", "has shape [6]"),
        ("dims=2,3", "InvalidArgument", "the graph takes [?, 2]"),
        (
            "dims=3,2&ty=i64",
            "InvalidArgument",
            "i64: the graph takes fp32",
        ),
        (
            "dims=3,2&ty=bf16",
            "InvalidArgument",
            "bf16: the graph takes fp32",
        ),
        // Names it does not have.
        (
            "input=y",
            "InvalidArgument",
            "`y` is unknown: the graph takes `x`",
        ),
        ("input=", "InvalidArgument", "`` is unknown"),
        ("graph=nowhere", "NotFound", "no graph named `nowhere`"),
        ("graph=../nn/reshape-fp32", "NotFound", "no graph named"),
        ("do=pair&a=x&b=x", "InvalidArgument", "`x` is given twice"),
        ("do=pair&a=x&b=y", "InvalidArgument", "`y` is unknown"),
        (
            "graph=difference&input=left&dims=3",
            "InvalidArgument",
            "`right` is missing",
        ),
    ] {
        is_error(&ask(&server, what).await, code, words);
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn an_empty_tensor_is_answered_or_refused_in_words() {
    for backend in ["auto", "embedded"] {
        let server = server_on(backend).await;
        let answer = ask(&server, "dims=0,2").await;
        match answer.get("error") {
            None => assert_eq!(answer["outputs"][0]["data"], json!([])),
            Some(error) => assert_ne!(error["code"], "ErrorCode::Unknown", "{error}"),
        }
        still_serves(&server).await;
    }
}

#[tokio::test]
async fn a_million_dimensions_are_not_kept() {
    let server = server_on("auto").await;
    let answer = ask(&server, "do=unusable&n=1000000").await;
    assert_eq!(answer["seen"], json!({ "rank": 8, "bytes": 0 }));
    is_error(&answer, "InvalidArgument", "1000000 dimensions");
    still_serves(&server).await;
}

#[tokio::test]
async fn a_handle_that_is_none_is_a_trap_and_harms_nobody() {
    let server = server_on("auto").await;
    for (count, what) in [
        (1.0, "same-handle"),
        (2.0, "dropped-tensor"),
        (3.0, "forged-handle"),
        (4.0, "dropped-context"),
    ] {
        let ended = server.ask(&format!("nn&do={what}"), "").await;
        ended.refused(500, "handler_trap");
        let labels = [("model", "nn"), ("reason", "host_refused")];
        let traps = server
            .metrics()
            .await
            .sum("aegis_handler_traps_total", &labels);
        assert_eq!(traps, Some(count), "{what}");
        still_serves(&server).await;
    }
}

#[tokio::test]
async fn a_context_lives_on_without_its_graph() {
    let server = server_on("auto").await;
    let answer = ask(&server, "do=dropped-graph&dims=3,2").await;
    assert_eq!(answer["outputs"][0]["dims"], json!([6, 1]), "{answer}");
}

#[tokio::test]
async fn what_an_error_repeats_of_a_guests_words_is_short() {
    let server = server_on("auto").await;
    let long = "n".repeat(10_000);
    for what in [format!("graph={long}"), format!("input={long}")] {
        let answer = ask(&server, &what).await;
        let data = answer["error"]["data"].as_str().unwrap();
        assert!((20..400).contains(&data.len()), "{} bytes", data.len());
    }
}

/// Loads these bytes as `query` says.
async fn load(server: &Server, query: &str, bytes: Vec<u8>) -> Answer {
    let request = server.prediction(&format!("nn&do=load&{query}"));
    send(request.body(bytes)).await
}

/// A server whose operator allows networks from bytes.
async fn allowing(limits: &str) -> Server {
    let start = Start::new().flag("--allow-graph-bytes", "true");
    let server = start.ready().await;
    let package = Package::nn("nn", &["reshape-fp32"]).and(&format!("[limits]\n{limits}"));
    server.upload(&package).await.is(201);
    server
}

#[tokio::test]
async fn a_network_from_bytes_runs_where_the_operator_allows_it() {
    let server = allowing("timeout_ms = 30000").await;
    let scale = network_file("scale");
    for encoding in ["onnx", "autodetect"] {
        let answer = load(&server, &format!("enc={encoding}&dims=2,3"), scale.clone()).await;
        let answer = answer.ok();
        assert_eq!(answer["outputs"][0]["name"], "y", "{answer}");
        assert_eq!(answer["outputs"][0]["dims"], json!([2, 3]));
    }
    if crate::harness::native_runtimes() {
        let xml = crate::harness::file("host/inference/tests/networks/scale.xml");
        let at = xml.len();
        let both = [
            xml,
            crate::harness::file("host/inference/tests/networks/scale.bin"),
        ]
        .concat();
        for encoding in ["openvino", "autodetect"] {
            let query = format!("enc={encoding}&split={at}&dims=2,3");
            let answer = load(&server, &query, both.clone()).await.ok();
            assert_eq!(answer["outputs"][0]["dims"], json!([2, 3]), "{answer}");
        }
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn bytes_that_are_no_network_are_an_error_value() {
    let server = allowing("timeout_ms = 30000").await;
    let scale = network_file("scale");
    let noise = vec![8; 4096];
    for (query, bytes, code) in [
        ("enc=pytorch", &scale, "InvalidEncoding"),
        ("enc=onnx&split=10", &scale, "InvalidArgument"),
        ("enc=openvino", &scale, "InvalidArgument"),
        ("enc=autodetect", &vec![b'P'; 10], "InvalidEncoding"),
        ("enc=onnx&target=tpu", &scale, "UnsupportedOperation"),
        ("enc=onnx&target=gpu", &scale, "RuntimeError"),
        ("enc=onnx", &noise, "RuntimeError"),
        ("enc=onnx", &scale[..40].to_vec(), "RuntimeError"),
        // Weights in a file of the host's.
        ("enc=onnx", &network_file("escape"), "RuntimeError"),
        ("enc=openvino&split=2048", &noise, "RuntimeError"),
    ] {
        let answer = load(&server, query, bytes.clone()).await.ok();
        assert_eq!(
            answer["error"]["code"],
            format!("ErrorCode::{code}"),
            "{query}: {answer}"
        );
        let data = answer["error"]["data"].as_str().unwrap();
        assert!(!data.contains("/tmp"), "{data}");
        still_serves(&server).await;
    }
}

#[tokio::test]
async fn networks_from_bytes_are_held_to_the_limits_and_given_back() {
    let server = allowing("timeout_ms = 30000\ngraphs = 3\ngraph_mib = 1\ntensor_mib = 2").await;
    let request = server.prediction("nn&do=load-many");
    let answer = send(request.body(network_file("scale"))).await.ok();
    assert_eq!(
        (&answer["loaded"], &answer["again"]),
        (&json!(3), &json!(true))
    );
    assert_eq!(answer["refused"]["code"], "ErrorCode::TooLarge");
    assert_eq!(server.refused_for("nn", "graphs").await, 1.0);

    let large = load(&server, "enc=onnx", vec![8; (1 << 20) + 1]).await.ok();
    is_error(&large, "TooLarge", "limits.graph_mib");
    assert_eq!(server.refused_for("nn", "graph_bytes").await, 1.0);
    still_serves(&server).await;
}
