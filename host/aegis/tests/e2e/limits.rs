//! Each limit of a manifest, set low and gone over: the named outcome, the counter, the line
//! in the log, and the next honest request answered. Limits of the server itself are held by
//! the modules on what they bound (`load`, `upload_broken`).

use serde_json::{Value, json};

use crate::harness::{Answer, Package, Server, Start, eventually, send};

/// A server with the guest `nn` under these limits, as the model `low`.
async fn server(limits: &str) -> Server {
    let server = Start::new().ready().await;
    let package = Package::nn("low", &["reshape-fp32"]).and(&format!("[limits]\n{limits}"));
    server.upload(&package).await.is(201);
    server
}

/// Lets the guest go over a limit under this request id.
async fn go_over(server: &Server, what: &str, id: &str) -> Answer {
    let request = server.prediction(&format!("low&do={what}"));
    send(request.header("x-request-id", id)).await
}

/// An honest request is answered.
async fn still_serves(server: &Server) {
    let answer = server.ask("low&do=compute&dims=3,2", "").await.ok();
    assert_eq!(answer["outputs"][0]["dims"], json!([6, 1]), "{answer}");
}

/// The one line that names the limits which a request's handler ran into, and went on.
async fn refusal_line(server: &Server, id: &str, limit: &str) {
    let line = server.logged_of(id, "over its limits").await;
    assert_eq!(line["level"], "WARN");
    assert!(line["limits"].as_str().unwrap().contains(limit), "{line}");
}

#[tokio::test]
async fn every_limit_has_a_series_from_the_start() {
    let server = server("").await;
    for limit in [
        "memory",
        "table_elements",
        "parts",
        "stack",
        "timeout",
        "init_timeout",
        "tensors",
        "tensor_bytes",
        "contexts",
        "handles",
        "call_bytes",
        "log_bytes",
        "response_bytes",
        "request_bytes",
        "bodies",
        "graphs",
        "graph_bytes",
        "graph_load_time",
        "graph_load_memory",
        "compile_time",
        "compile_memory",
        "queue",
        "instances",
        "uploads",
        "package_bytes",
    ] {
        assert_eq!(server.refused_for("low", limit).await, 0.0, "{limit}");
        assert_eq!(server.refused_for("-", limit).await, 0.0, "{limit}");
    }
}

#[tokio::test]
async fn memory_that_is_refused_is_counted_also_if_the_handler_goes_on() {
    let server = server("memory_mib = 32\ntimeout_ms = 20000").await;
    let answer = go_over(&server, "grow", "grow").await.ok();
    let pages = answer["pages"].as_u64().unwrap();
    assert!(
        (496..=512).contains(&pages),
        "32 MiB are 512 pages: {pages}"
    );
    assert_eq!(server.refused_for("low", "memory").await, 1.0);
    refusal_line(&server, "grow", "memory (1)").await;
    still_serves(&server).await;

    let hostile = Package::hostile("greedy", "memory_mib = 32\ntimeout_ms = 20000");
    server.upload(&hostile).await.is(201);
    let ended = server.ask("greedy&do=alloc", "").await;
    ended.refused(500, "handler_out_of_memory");
    assert!(server.refused_for("greedy", "memory").await >= 1.0);
}

/// A component of these core modules, one instance each, that says it exports `predict`.
fn component(modules: &[&str]) -> Package {
    let parts: String = modules
        .iter()
        .enumerate()
        .map(|(index, module)| {
            format!("(core module $m{index} {module}) (core instance (instantiate $m{index}))")
        })
        .collect();
    let text = format!(
        r#"(component {parts}
            (instance $exports)
            (export "aegis:inference/predict@0.1.0" (instance $exports)))"#
    );
    Package::handler("parts", wat::parse_str(text).unwrap())
}

#[tokio::test]
async fn a_component_of_too_many_parts_is_refused_at_upload() {
    let server = Start::new().ready().await;
    let two_memories = component(&["(memory 1)", "(memory 1)"]);
    let two_tables = component(&["(table 1 funcref)", "(table 1 funcref)"]);
    let many = component(&["(memory 1)", "", "", "", ""]);
    for (count, package, limits, said) in [
        (1.0, &two_memories, "memories = 1", "more than 1 memories"),
        (2.0, &two_tables, "tables = 1", "more than 1 tables"),
        (
            3.0,
            &many,
            "core_instances = 4",
            "more than 4 core instances",
        ),
        // The pool's own bound, which no manifest may lift.
        (4.0, &component(&["(memory 0)"; 5]), "", "too many parts"),
        (
            5.0,
            &component(&["(table 1 funcref)"; 13]),
            "",
            "too many parts",
        ),
        (6.0, &component(&[""; 25]), "", "too many parts"),
    ] {
        let package = package.clone().and(&format!("[limits]\n{limits}"));
        let message = server.upload(&package).await.refused(422, "too_many_parts");
        assert!(message.contains(said), "{message}");
        assert_eq!(server.refused_for("-", "parts").await, count);
    }
    let gone = server.get("/v1/models/parts").await;
    gone.refused(404, "model_not_found");
}

#[tokio::test]
async fn what_begins_over_its_limit_is_refused_before_it_is_compiled() {
    let server = Start::new().ready().await;
    let memory = component(&["(memory 33)"]).and("[limits]\nmemory_mib = 2");
    let message = server.upload(&memory).await;
    let message = message.refused(422, "initial_memory_too_large");
    assert!(message.contains("limit of 2 MiB"), "{message}");
    assert_eq!(server.refused_for("-", "memory").await, 1.0);
    let table = component(&["(table 11 funcref)"]).and("[limits]\ntable_elements = 10");
    let message = server.upload(&table).await;
    let message = message.refused(422, "initial_table_too_large");
    assert!(message.contains("11 elements"), "{message}");
    assert_eq!(server.refused_for("-", "table_elements").await, 1.0);

    // Two that fit apart and not together are found out when an instance is made.
    let both = component(&["(memory 20)", "(memory 20)"]).and("[limits]\nmemory_mib = 2");
    server.upload(&both).await.refused(422, "start_failed");
    assert_eq!(server.refused_for("-", "memory").await, 2.0);
}

#[tokio::test]
async fn a_start_and_an_init_that_take_too_long_refuse_the_upload() {
    let server = Start::new().ready().await;
    let looping = component(&["(func $f (loop br 0)) (start $f)"]);
    let looping = looping.and("[limits]\ninit_timeout_ms = 200");
    server.upload(&looping).await.refused(422, "start_failed");
    assert_eq!(server.refused_for("-", "init_timeout").await, 1.0);
    let vocabulary = Package::guest("vocabulary").and("[limits]\ninit_timeout_ms = 1");
    let message = server.upload(&vocabulary).await.refused(422, "init_failed");
    assert!(message.contains("no end within 1 ms"), "{message}");
    assert_eq!(server.refused_for("-", "init_timeout").await, 2.0);
}

#[tokio::test]
async fn time_and_stack_are_counted_as_limits() {
    let server = Start::new().ready().await;
    let package = Package::hostile("low", "timeout_ms = 400");
    server.upload(&package).await.is(201);
    go_over(&server, "loop", "loop")
        .await
        .refused(504, "timeout");
    assert_eq!(server.refused_for("low", "timeout").await, 1.0);
    let ended = go_over(&server, "recurse", "recurse").await;
    ended.refused(500, "handler_trap");
    assert_eq!(server.refused_for("low", "stack").await, 1.0);
    server.ask("low&do=digits", "").await.is(200);
}

#[tokio::test]
async fn tensors_over_their_number_or_size_are_an_error_value() {
    let server = server("tensors = 8\ntensor_mib = 1\ntimeout_ms = 20000").await;
    for (what, id, limit, said) in [
        ("many-tensors&n=8", "number", "tensors", "limits.tensors"),
        (
            "many-tensors&n=4&size=262144",
            "size",
            "tensor_bytes",
            "limits.tensor_mib",
        ),
    ] {
        let answer = go_over(&server, what, id).await.ok();
        assert_eq!(answer["full"]["code"], "ErrorCode::TooLarge", "{answer}");
        let data = answer["full"]["data"].as_str().unwrap();
        assert!(
            data.contains(said) && data.starts_with("input `x`"),
            "{data}"
        );
        // What is dropped is given back.
        assert_eq!(answer["after"], Value::Null);
        assert!(server.refused_for("low", limit).await >= 1.0);
        refusal_line(&server, id, limit).await;
        still_serves(&server).await;
    }
}

#[tokio::test]
async fn an_output_over_the_budget_is_an_error_value() {
    let server = server("tensors = 1\ntensor_mib = 1").await;
    let fits = server.ask("low&do=compute&dims=1000,2", "").await.ok();
    assert!(fits["outputs"].is_array(), "{fits}");
    // The input is given away by the call, so that an output as large has room.
    let wide = server
        .ask("low&do=compute&quiet&dims=131000,2", "")
        .await
        .ok();
    assert_eq!(wide["bytes"], json!([1_048_000]), "{wide}");
}

#[tokio::test]
async fn contexts_over_their_number_are_an_error_value() {
    let server = server("contexts = 5").await;
    let answer = go_over(&server, "many-contexts", "contexts").await.ok();
    assert_eq!(
        (&answer["held"], &answer["again"]),
        (&json!(5), &json!(true))
    );
    assert_eq!(answer["refused"]["code"], "ErrorCode::TooLarge");
    let data = answer["refused"]["data"].as_str().unwrap();
    assert!(data.contains("limits.contexts"), "{data}");
    assert_eq!(server.refused_for("low", "contexts").await, 1.0);
    refusal_line(&server, "contexts", "contexts (1)").await;
    still_serves(&server).await;
}

#[tokio::test]
async fn handles_over_their_number_are_a_trap() {
    let server = server("handles = 100\ntimeout_ms = 20000").await;
    for (count, what) in [
        (1.0, "many-graphs"),
        (2.0, "many-errors"),
        // Tensors that cannot be used hold handles, too.
        (3.0, "many-tensors&n=200&graph=nowhere"),
    ] {
        let ended = go_over(&server, what, "handles").await;
        ended.refused(500, "handler_trap");
        assert_eq!(server.refused_for("low", "handles").await, count, "{what}");
        let labels = [("model", "low"), ("reason", "host_refused")];
        let metrics = server.metrics().await;
        let traps = metrics.sum("aegis_handler_traps_total", &labels);
        assert_eq!(traps, Some(count), "{what}");
        still_serves(&server).await;
    }
}

#[tokio::test]
async fn one_call_hands_over_no_more_than_it_may_keep() {
    let server = server("tensor_mib = 16\nresponse_mib = 16\ntimeout_ms = 20000").await;
    let before = server.memory_kib("VmHWM");
    let ended = go_over(&server, "long-names", "names").await;
    ended.refused(500, "handler_trap");
    assert_eq!(server.refused_for("low", "call_bytes").await, 1.0);
    let grown = server.memory_kib("VmHWM") - before;
    assert!(grown < 40 << 10, "64 names of 1 MiB took {grown} KiB");
    still_serves(&server).await;
}

#[tokio::test]
async fn a_body_over_the_models_limit_is_refused() {
    let server = server("request_mib = 1").await;
    let body = vec![0_u8; (1 << 20) + 1];
    let over = server.predict("low", "text/plain", body).await;
    let message = over.refused(413, "body_too_large");
    assert!(message.contains("1048576 bytes"), "{message}");
    assert_eq!(over.header("aegis-model-version"), "1");
    assert_eq!(server.refused_for("low", "request_bytes").await, 1.0);
    still_serves(&server).await;
}

#[tokio::test]
async fn responses_and_log_lines_over_their_size_are_counted() {
    let server = Start::new().ready().await;
    let limits = "response_mib = 1\nlog_kib = 8\ntimeout_ms = 20000";
    server
        .upload(&Package::hostile("low", limits))
        .await
        .is(201);
    let ended = go_over(&server, "big&n=1048577", "big").await;
    ended.refused(500, "response_too_large");
    assert_eq!(server.refused_for("low", "response_bytes").await, 1.0);
    go_over(&server, "flood", "flood").await.is(200);
    assert_eq!(server.refused_for("low", "log_bytes").await, 1.0);
    // A model without a handler has the same limit.
    let direct = Package::new("direct", "name = \"direct\"").graph(
        "reshape-fp32",
        "",
        crate::harness::network_file("reshape-fp32"),
    );
    let direct = direct.and("[limits]\nresponse_mib = 1\nrequest_mib = 16");
    server.upload(&direct).await.is(201);
    let body = |rows: usize| {
        json!({ "inputs": [
            { "name": "x", "shape": [rows, 2], "datatype": "FP32", "data": vec![0.125; rows * 2] }
        ] })
        .to_string()
    };
    let ask = async |rows| {
        server
            .predict("direct", "application/json", body(rows))
            .await
    };
    ask(100_000).await.refused(500, "response_too_large");
    assert_eq!(server.refused_for("direct", "response_bytes").await, 1.0);
    ask(3).await.is(200);
}

#[tokio::test]
async fn graphs_over_their_number_or_size_are_refused_before_they_are_parsed() {
    let server = Start::new().ready().await;
    let two = Package::nn("low", &["reshape-fp32", "reshape-u8"]).and("[limits]\ngraphs = 1");
    let message = server.upload(&two).await.refused(422, "too_many_graphs");
    assert!(
        message.contains("2 graphs") && message.contains("may have 1"),
        "{message}"
    );
    assert_eq!(server.refused_for("-", "graphs").await, 1.0);
    let large = Package::nn("low", &[])
        .graph("noise", "", vec![0x5a; (1 << 20) + 1])
        .and("[limits]\ngraph_mib = 1");
    let message = server.upload(&large).await.refused(422, "graph_too_large");
    assert!(message.contains("1048577 bytes"), "{message}");
    assert_eq!(server.refused_for("-", "graph_bytes").await, 1.0);
    let line = server
        .logged("the refusal", |line| line["limit"] == "graph_bytes")
        .await;
    assert_eq!(line["code"], "graph_too_large");
    // Once there is such a model, its name is no longer anyone's invention.
    server
        .upload(&Package::nn("low", &["reshape-fp32"]))
        .await
        .is(201);
    server.upload(&two).await.refused(422, "too_many_graphs");
    assert_eq!(server.refused_for("low", "graphs").await, 1.0);
    still_serves(&server).await;
}

#[tokio::test]
async fn a_wish_over_the_ceiling_is_cut_and_said_so() {
    let start = Start::new().flag("--ceilings", "tensors=7");
    let server = start.ready().await;
    let package = Package::nn("low", &["reshape-fp32"])
        .and("[limits]\ntimeout_ms = 3600000\ntensors = 1000\ncontexts = 3");
    let answer = server.upload(&package).await.is(201).json();
    assert_eq!(answer["limits"]["timeout_ms"], 60000);
    assert_eq!(answer["limits"]["tensors"], 7);
    assert_eq!(answer["limits"]["contexts"], 3);
    assert_eq!(answer["limits"]["memory_mib"], 256);
    assert_eq!(
        answer["warnings"],
        json!([
            "limits.timeout_ms: 3600000 is asked, 60000 is the ceiling here; 60000 holds",
            "limits.tensors: 1000 is asked, 7 is the ceiling here; 7 holds",
        ])
    );
    let full = server.ask("low&do=many-tensors&n=7", "").await.ok();
    assert_eq!(full["full"]["code"], "ErrorCode::TooLarge", "{full}");

    let folder = tempfile::tempdir().unwrap();
    package.write_to(folder.path());
    let pushed = std::process::Command::new(crate::harness::BINARY)
        .args(["push", "--server", &server.url("")])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(pushed.status.success());
    let said = String::from_utf8(pushed.stderr).unwrap();
    assert!(
        said.contains("warning: limits.tensors: 1000 is asked"),
        "{said}"
    );
}

#[tokio::test]
async fn all_guests_together_have_a_bound_and_who_meets_it_is_told_to_come_back() {
    let server = Start::new()
        .flag("--guest-memory-mib", "96")
        .flag("--warm-instances", "0")
        .ready()
        .await;
    let limits = "memory_mib = 256\ntensor_mib = 256\ntimeout_ms = 20000";
    server
        .upload(&Package::hostile("low", limits))
        .await
        .is(201);
    // Within its own limit, beyond the host's.
    let ended = go_over(&server, "alloc&n=128", "memory").await;
    let message = ended.refused(503, "no_memory");
    assert!(message.contains("96 MiB"), "{message}");
    // Once or twice: its allocator may ask again for less.
    let refused = server.refused_for("low", "guest_memory").await;
    assert!((1.0..=2.0).contains(&refused), "{refused}");
    server.ask("low&do=digits", "").await.is(200);

    // Tensors are of the same memory. Those refused are kept as unusable, so this guest goes on
    // until its time is over, and what it was refused is counted once it is gone.
    let ended = go_over(&server, "many-tensors&n=1048576", "tensors").await;
    assert!(ended.status >= 400, "{}", ended.text());
    eventually("tensors refused for all guests' memory", async || {
        (server.refused_for("low", "guest_memory").await > refused).then_some(())
    })
    .await;
    // All of it came back.
    let answer = server.ask("low&do=alloc&n=64", "").await.ok();
    assert_eq!(answer["mebibytes"], 64);
    server.ask("low&do=digits", "").await.is(200);
}
