//! What other hosts of `wasi:nn` get wrong, and this one must not: one test a fault, driven
//! from a guest.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Package, Server, Start, native_runtimes, network_file, send};

/// The backends that there are.
fn backends() -> &'static [&'static str] {
    if native_runtimes() {
        &["onnxruntime", "openvino", "embedded"]
    } else {
        &["embedded"]
    }
}

/// Uploads the guest `nn` with these networks on this backend, as `nn`.
async fn serve(server: &Server, backend: &str, networks: &[&str], more: &str) {
    let keys = format!("backend = \"{backend}\"\nprecision = \"backend-default\"");
    let package = networks
        .iter()
        .fold(Package::nn("nn", &[]), |package, network| {
            package.graph(network, &keys, network_file(network))
        });
    server.upload(&package.and(more)).await.is(201);
}

async fn ask(server: &Server, what: &str) -> Value {
    server.ask(&format!("nn&{what}"), "").await.ok()
}

/// Runs of half a second or more on any machine in use, for far longer than their deadline.
const LONG: &str = "graph=slow&quiet&dims=20000,256&times=100";

#[tokio::test]
async fn fault_1_compute_holds_no_thread_and_ends_at_the_deadline() {
    let server = Start::new().flag("--worker-threads", "1").ready().await;
    let server = Arc::new(server);
    serve(&server, "auto", &["slow"], "[limits]\ntimeout_ms = 5000").await;
    server.upload(&Package::guest("counter")).await.is(201);
    let slow = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.ask(&format!("nn&{LONG}"), "").await })
    };
    crate::harness::eventually("the run", async || {
        let labels = [("endpoint", "/predict")];
        let metrics = server.metrics().await;
        (metrics.sum("http_requests_in_flight", &labels) == Some(1.0)).then_some(())
    })
    .await;
    server.get("/livez").await.is(200);
    server.ask("counter", "").await.is(200);
    assert!(!slow.is_finished(), "the neighbours waited for the run");
    slow.await.unwrap().refused(504, "timeout");
    assert!(server.refused_for("nn", "timeout").await >= 1.0);
    server.ask("counter", "").await.is(200);
}

/// The time that runs of `slow` waited for a session, as a share of the time they ran, when
/// four requests make several one after another. Between two runs their guests copy, one after
/// the other on a machine of two cores, so that two requests alone would hardly meet.
async fn waited(sessions: u32) -> f64 {
    // Threads for all, so that none waits for its turn.
    let start = Start::new().flag("--inference-threads", "4");
    let server = start.ready().await;
    let keys = format!("sessions = {sessions}");
    let package = Package::nn("nn", &[])
        .graph("slow", &keys, network_file("slow"))
        .and("[limits]\ntimeout_ms = 60000");
    server.upload(&package).await.is(201);
    let run = || server.ask("nn&graph=slow&quiet&dims=4000,256&times=6", "");
    for answer in futures_util::future::join_all([run(), run(), run(), run()]).await {
        answer.is(200);
    }
    let metrics = server.metrics().await;
    let sum = |name: &str| metrics.sum(name, &[("graph", "slow")]).unwrap();
    sum("aegis_inference_queue_seconds_sum") / sum("aegis_inference_compute_seconds_sum")
}

#[tokio::test]
async fn fault_2_as_many_runs_go_side_by_side_as_there_are_sessions() {
    // With one session each run waits for the others', but for the time between runs; how long that is beside a run, the
    // processor decides.
    let (alone, side_by_side) = (waited(1).await, waited(4).await);
    assert!(alone > 0.1, "{alone}");
    assert!(side_by_side < alone / 3.0, "{side_by_side} and {alone}");
}

/// Little-endian elements of each type, four of them, exact in it.
fn elements(ty: &str) -> Vec<u8> {
    match ty {
        "fp16" | "bf16" => vec![0x00, 0x3c, 0x80, 0x3f, 0x00, 0xc0, 0x40, 0x40],
        "fp32" => [1.5_f32, -2.25, 0.0, 3.0e30].map(f32::to_le_bytes).concat(),
        "fp64" => [1.5_f64, -2.25, 0.0, 3.0e30].map(f64::to_le_bytes).concat(),
        "u8" => vec![0, 1, 128, 255],
        "i32" => [i32::MIN, -1, 0, i32::MAX].map(i32::to_le_bytes).concat(),
        "i64" => [-5_i64, -1, 0, 5].map(i64::to_le_bytes).concat(),
        other => panic!("no type {other}"),
    }
}

#[tokio::test]
async fn fault_3_and_4_all_seven_types_go_in_and_come_out_as_they_are_and_under_their_names() {
    const TYPES: [&str; 7] = ["fp16", "fp32", "fp64", "bf16", "u8", "i32", "i64"];
    for backend in backends() {
        let known: Vec<_> = TYPES
            .into_iter()
            // The embedded engine has none; OpenVINO computes fp64 as fp32, where 3e30 moves.
            .filter(|ty| !matches!((*backend, *ty), ("embedded", "bf16") | ("openvino", "fp64")))
            .collect();
        let networks: Vec<_> = known.iter().map(|ty| format!("reshape-{ty}")).collect();
        let networks: Vec<_> = networks.iter().map(String::as_str).collect();
        let server = Start::new().ready().await;
        serve(&server, backend, &networks, "").await;
        for ty in &known {
            let bytes = elements(ty);
            let query = format!("nn&graph=reshape-{ty}&ty={ty}&dims=2,2");
            let answer = server.predict(&query, "", bytes.clone()).await.ok();
            let output = &answer["outputs"][0];
            assert_eq!(output["name"], "y", "{backend} {ty}: {answer}");
            let word = output["ty"].as_str().unwrap().to_lowercase();
            assert_eq!(word, format!("tensortype::{ty}"), "{backend}");
            assert_eq!(output["dims"], json!([4, 1]), "{backend} {ty}");
            assert_eq!(output["data"], json!(bytes), "{backend} {ty}");
            // Every other type is refused in words: no host panics over one.
            for wrong in TYPES.into_iter().filter(|wrong| wrong != ty) {
                let answer = ask(&server, &format!("graph=reshape-{ty}&ty={wrong}&dims=2,2")).await;
                assert_eq!(answer["error"]["code"], "ErrorCode::InvalidArgument");
            }
        }
    }
}

#[tokio::test]
async fn fault_5_copies_are_few() {
    if !native_runtimes() {
        return;
    }
    let server = Start::new().flag("--warm-instances", "0").ready().await;
    let limits = "[limits]\ntimeout_ms = 60000\nmemory_mib = 512\ntensor_mib = 256";
    serve(&server, "onnxruntime", &["reshape-u8"], limits).await;
    ask(&server, "graph=reshape-u8&ty=u8&dims=2,2").await;
    let before = server.memory_kib("VmHWM");
    let wide = "graph=reshape-u8&ty=u8&quiet&dims=33554432,2";
    assert_eq!(ask(&server, wide).await["bytes"], json!([64 << 20]));
    let grown = (server.memory_kib("VmHWM") - before) as f64 / f64::from(64 << 10);
    // In the guest: its zeros, and the output that it reads. In the host: the input, the
    // backend's output and the tensor made of it.
    assert!(grown < 5.5, "64 MiB in and out took {grown:.1} times that");
}

#[tokio::test]
async fn fault_6_dynamic_dimensions_are_told_as_they_came_out() {
    for backend in backends() {
        let server = Start::new().ready().await;
        serve(&server, backend, &["digits", "nonzero"], "").await;
        for batch in [1, 3, 8] {
            let query = format!("graph=digits&input=input&dims={batch},64");
            let answer = ask(&server, &query).await;
            let output = &answer["outputs"][0];
            assert_eq!(output["name"], "probabilities", "{backend}: {answer}");
            assert_eq!(output["dims"], json!([batch, 10]), "{backend}");
        }
        // How many there are shows only in the values.
        let values = [0.0_f32, 1.0, 0.0, 2.0].map(f32::to_le_bytes).concat();
        let found = server
            .predict("nn&graph=nonzero&dims=4", "", values)
            .await
            .ok();
        assert_eq!(
            found["outputs"][0]["dims"],
            json!([1, 2]),
            "{backend}: {found}"
        );
    }
}

#[tokio::test]
async fn fault_7_bytes_of_a_guest_reach_no_parser() {
    let server = Start::new().ready().await;
    serve(&server, "auto", &["reshape-fp32"], "").await;
    let request = server.prediction("nn&do=load");
    let answer = send(request.body(network_file("scale"))).await.ok();
    assert_eq!(answer["error"]["code"], "ErrorCode::Security", "{answer}");
    let data = answer["error"]["data"].as_str().unwrap();
    assert!(data.contains("load-by-name"), "{data}");
}

#[tokio::test]
async fn fault_8_tensors_count_against_the_instance() {
    let server = Start::new().ready().await;
    let limits = "[limits]\ntensor_mib = 4\nmemory_mib = 64\ntimeout_ms = 60000";
    serve(&server, "auto", &["reshape-fp32"], limits).await;
    let before = server.memory_kib("VmHWM");
    // 400 MiB in all, were they kept.
    let answer = ask(&server, "do=many-tensors&n=400&size=1048576").await;
    assert_eq!(answer["full"]["code"], "ErrorCode::TooLarge", "{answer}");
    assert_eq!(answer["after"], Value::Null);
    let grown = server.memory_kib("VmHWM") - before;
    assert!(grown < 32 << 10, "{grown} KiB");
    assert_eq!(server.refused_for("nn", "tensor_bytes").await, 398.0);
}

#[tokio::test]
async fn fault_9_a_panic_is_told_as_unknown_and_graphs_are_loaded_once() {
    let start = Start::new().flag("--log-filter", "info,aegis_inference=debug");
    let server = start.ready().await;
    serve(&server, "embedded", &["lookup"], "").await;
    let warmed = || {
        let warm = |line: &Value| line["message"] == "graph warmed up";
        server.log().iter().filter(|line| warm(line)).count()
    };
    let loads = warmed();
    assert!((1..=2).contains(&loads), "at upload and at load: {loads}");
    // An index past the table: the engine panics, the host does not.
    let far = 1_000_000_000_i64.to_le_bytes().to_vec();
    for _ in 0..3 {
        let query = "nn&graph=lookup&input=index&ty=i64&dims=1";
        let answer = server.predict(query, "", far.clone()).await.ok();
        assert_eq!(answer["error"]["code"], "ErrorCode::Unknown", "{answer}");
        let near = server
            .predict(query, "", 2_i64.to_le_bytes().to_vec())
            .await
            .ok();
        assert_eq!(near["outputs"][0]["data"], json!(3.0_f32.to_le_bytes()));
    }
    for _ in 0..30 {
        ask(&server, "graph=lookup&input=index&ty=i64&dims=1").await;
    }
    assert_eq!(warmed(), loads, "no request loads a graph");
}

#[tokio::test]
async fn fault_10_openvino_answers_as_onnxruntime_does() {
    if !native_runtimes() {
        return;
    }
    let server = Start::new().ready().await;
    let digits = || network_file("digits");
    let package = Package::nn("nn", &[])
        .graph("ort", "backend = \"onnxruntime\"", digits())
        .graph("ov", "backend = \"openvino\"", digits());
    server.upload(&package).await.is(201);
    let pixels: Vec<u8> = (0..8 * 64_u32)
        .flat_map(|place| (((place * 7919) % 17) as f32).to_le_bytes())
        .collect();
    let run = async |graph: &str| -> Vec<f32> {
        let query = format!("nn&graph={graph}&input=input&dims=8,64");
        let answer = server.predict(&query, "", pixels.clone()).await.ok();
        let data: Vec<u8> = serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap();
        let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
        data.chunks_exact(4).map(float).collect()
    };
    let (ort, ov) = (run("ort").await, run("ov").await);
    assert_eq!((ort.len(), ov.len()), (80, 80));
    for (ort, ov) in ort.iter().zip(&ov) {
        assert!((ort - ov).abs() < 1e-5, "{ort} and {ov}");
    }
}
