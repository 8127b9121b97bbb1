//! Uploads made to hurt what compiles and parses them. Each is refused by name, and leaves
//! the server as it was: answering, with nothing of it on disk and no process behind it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Package, Server, Start, eventually},
    upload_broken::files_under,
};

/// A server with an honest model.
async fn server() -> Server {
    let server = Start::new().ready().await;
    server.upload(&Package::guest("counter")).await.is(201);
    server
}

/// Uploads what must be refused with this code, and sees that all is as before. Returns the
/// message.
async fn harmless(server: &Server, package: &Package, code: &str) -> String {
    let kept = kept(&server.data);
    let message = server.upload(package).await.refused(422, code);
    assert_eq!(children(server.pid()), [""; 0], "{code}");
    server
        .logged("the refusal", |line| {
            line["code"] == code
                && line["model"] == package.name.as_str()
                && line["message"]
                    .as_str()
                    .is_some_and(|m| m.contains(&message))
        })
        .await;
    let path = format!("/v1/models/{}", package.name);
    server.get(&path).await.refused(404, "model_not_found");
    eventually("nothing of it on disk", async || {
        (self::kept(&server.data) == kept).then_some(())
    })
    .await;
    assert_eq!(server.ask("counter", "").await.is(200).text(), "0");
    message
}

/// Every file of the data folder but the honest model's own and the locks.
fn kept(data: &Path) -> Vec<String> {
    let mut files = files_under(data);
    files.sort();
    files
}

/// What the log says of a worker that gave no answer.
async fn complaint(server: &Server, worker: &str, part: &str) -> Value {
    server
        .logged(&format!("a worker and `{part}`"), |line| {
            line["worker"] == worker && line["message"].as_str().is_some_and(|m| m.contains(part))
        })
        .await
}

/// The workers of this server, as the kernel has them.
fn children(server: u32) -> Vec<String> {
    let alive = |stat: &PathBuf| {
        let stat = fs::read_to_string(stat).ok()?;
        // `pid (name) state parent …`, and a name may have anything in it.
        let (pid, rest) = stat.split_once(' ')?;
        let mut rest = rest.rsplit_once(") ")?.1.split(' ');
        let (state, parent) = (rest.next()?, rest.next()?);
        (state != "Z" && parent == server.to_string()).then(|| pid.to_owned())
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("stat"))
        .filter_map(|stat| alive(&stat))
        .collect()
}

/// An honest component with another section at its end.
fn counter_with(section: u8, bytes: &[u8]) -> Vec<u8> {
    let mut component = Package::guest("counter").bytes("handler.wasm").to_vec();
    component.extend(sized(section, bytes));
    component
}

/// An honest component with one more core module: this many functions, each of them this
/// many additions and multiplications.
fn with_functions(functions: usize, steps: usize) -> Vec<u8> {
    // No locals; x, then (x * x + x) again and again; end.
    let mut body = vec![0, 0x20, 0];
    body.extend([0x20, 0, 0x6c, 0x20, 0, 0x6a].repeat(steps));
    body.push(0x0b);
    let count = leb(functions);
    let mut code = leb(body.len());
    code.extend(body);
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        // One type, from i32 to i32; every function is of it.
        sized(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]),
        sized(3, &[count.clone(), vec![0; functions]].concat()),
        sized(10, &[count, code.repeat(functions)].concat()),
    ];
    counter_with(1, &module.concat())
}

/// An honest component with one more core instance, whose start function never ends.
fn with_endless_start() -> Vec<u8> {
    let module = wat::parse_str("(module (func $start (loop $again br $again)) (start $start))");
    let mut component = counter_with(1, &module.unwrap());
    let modules = wasm_modules(&component);
    // One instance of the last module, without arguments.
    component.extend(sized(2, &[1, 0, modules - 1, 0]));
    component
}

/// How many core modules a component has at its top: sections with the id 1.
fn wasm_modules(component: &[u8]) -> u8 {
    let (mut at, mut modules) = (8, 0);
    while at < component.len() {
        let id = component[at];
        let (mut size, mut shift) = (0_usize, 0);
        loop {
            at += 1;
            size |= usize::from(component[at] & 0x7f) << shift;
            shift += 7;
            if component[at] & 0x80 == 0 {
                break;
            }
        }
        at += 1 + size;
        modules += u8::from(id == 1);
    }
    modules
}

/// Some bytes with an id and their length before them.
fn sized(id: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![id], leb(bytes.len()), bytes.to_vec()].concat()
}

/// A number as WebAssembly and protobuf write it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A handler that its compiler takes long for.
fn slow() -> Package {
    Package::handler("slow", with_functions(2000, 500))
}

#[tokio::test]
async fn a_component_that_takes_long_to_compile_is_given_up() {
    let server = server().await;
    let start = Instant::now();
    let limited = slow().and("[limits]\ncompile_ms = 300");
    let message = harmless(&server, &limited, "compile_timeout").await;
    assert!(message.contains("300 ms"), "{message}");
    // Far from the time that it would take.
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_component_that_takes_much_memory_to_compile_is_given_up() {
    let server = server().await;
    // One function of 3 MB: its graph takes some hundred times as much.
    let greedy = Package::handler("greedy", with_functions(1, 500_000));
    let limited = greedy.and("[limits]\ncompile_mib = 128");
    let message = harmless(&server, &limited, "compile_memory").await;
    assert!(message.contains("128 MiB"), "{message}");
    let line = complaint(&server, "compile", "more memory").await;
    assert_eq!(
        (&line["model"], &line["memory_mib"]),
        (&"greedy".into(), &128.into())
    );
}

#[tokio::test]
async fn a_component_of_100_mb_is_taken_for_what_it_is() {
    let server = server().await;
    // A name and then nothing of use: honest enough to be taken, and to answer.
    let mut filling = vec![4];
    filling.extend(b"fill");
    filling.resize(100 << 20, 0x5a);
    let large = Package::handler("large", counter_with(0, &filling));
    server.upload(&large).await.is(201);
    assert_eq!(server.ask("large", "").await.is(200).text(), "0");
    // The same size of what is no section, under a limit that it does not fit.
    let mut noise = Package::guest("counter").bytes("handler.wasm").to_vec();
    noise.resize(100 << 20, 0xff);
    let noise = Package::handler("noise", noise);
    harmless(&server, &noise, "invalid_component").await;
    let tight = noise.and("[limits]\ncompile_mib = 64");
    harmless(&server, &tight, "compile_memory").await;
}

#[tokio::test]
async fn an_init_and_a_start_that_never_end_are_told_their_time() {
    let server = server().await;
    let mut init = Package::wat("init_loops.wat");
    init.name = "endless-init".to_owned();
    let init = init
        .replacing("\"odd\"", "\"endless-init\"")
        .and("[limits]\ninit_timeout_ms = 300");
    let message = harmless(&server, &init, "init_failed").await;
    assert!(message.contains("no end within 300 ms"), "{message}");
    let start = Package::handler("endless-start", with_endless_start())
        .and("[limits]\ninit_timeout_ms = 300");
    let message = harmless(&server, &start, "start_failed").await;
    assert!(message.contains("no end within 300 ms"), "{message}");
}

/// A model of one graph, `g.onnx` of these bytes.
fn graph(bytes: Vec<u8>) -> Package {
    let manifest = "name = \"graph\"\n[[graph]]\nname = \"g\"\nfile = \"g.onnx\"\n";
    Package::new("graph", manifest).file("g.onnx", bytes)
}

/// A field of protobuf that has bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    sized(number << 3 | 2, bytes)
}

/// An ONNX model with this initializer, f32, of these dimensions.
fn onnx(dims: &[usize], more: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| sized_number(1, dim)).collect();
    let tensor = [dims, sized_number(2, 1), field(8, b"w"), more.to_vec()].concat();
    [sized_number(1, 8), field(7, &field(5, &tensor))].concat()
}

fn sized_number(number: u8, value: usize) -> Vec<u8> {
    [vec![number << 3], leb(value)].concat()
}

#[tokio::test]
async fn a_hostile_network_is_refused_before_an_engine_reads_it() {
    let server = server().await;
    let entry = |key: &[u8], value: &[u8]| field(13, &[field(1, key), field(2, value)].concat());
    let elsewhere = [
        entry(b"location", b"../../../../../../etc/passwd"),
        sized_number(14, 1),
    ];
    let external = graph(onnx(&[1], &elsewhere.concat()));
    let message = harmless(&server, &external, "external_data").await;
    assert!(
        message.contains("etc/passwd") && message.contains("`w`"),
        "{message}"
    );
    // Not even where the manifest names a file of weights: another is asked for.
    let named = external
        .replacing(
            "file = \"g.onnx\"",
            "file = \"g.onnx\"\nweights = \"g.data\"",
        )
        .file("g.data", [0; 4]);
    harmless(&server, &named, "external_data").await;

    let whole = Package::example("digits").bytes("digits.onnx").to_vec();
    for (bytes, part) in [
        (onnx(&[1 << 40, 1 << 40], &[]), "elements"),
        (
            onnx(&[1 << 20], &field(9, &[0; 4])),
            "4 bytes where 4194304",
        ),
        (
            field(7, &field(1, &[]).repeat(5 << 20)),
            "messages and strings",
        ),
        (whole[..whole.len() / 2].to_vec(), "cut off"),
        (vec![0x5a; 4096], "cut off"),
    ] {
        let message = harmless(&server, &graph(bytes), "graph_malformed").await;
        assert!(
            message.contains("graph `g`") && message.contains(part),
            "`{part}` in {message}"
        );
    }
}

#[tokio::test]
async fn a_network_that_takes_much_memory_is_given_up() {
    let server = server().await;
    // Weights of 160 MB, which no engine warms up in 64 MiB.
    let elements = 40 << 20;
    let tensor = [
        sized_number(1, elements),
        sized_number(2, 1),
        field(8, b"w"),
        field(9, &vec![0; elements * 4]),
    ];
    let node = field(
        1,
        &[field(1, b"w"), field(2, b"y"), field(4, b"Identity")].concat(),
    );
    let ty = field(
        1,
        &[
            sized_number(1, 1),
            field(2, &field(1, &sized_number(1, elements))),
        ]
        .concat(),
    );
    let output = field(12, &[field(1, b"y"), field(2, &ty)].concat());
    let model = [
        sized_number(1, 8),
        field(8, &sized_number(2, 17)),
        field(
            7,
            &[node, field(2, b"g"), field(5, &tensor.concat()), output].concat(),
        ),
    ];
    let large = graph(model.concat()).and("[limits]\ngraph_load_mib = 64");
    let message = harmless(&server, &large, "graph_memory").await;
    assert!(message.contains("64 MiB"), "{message}");
    complaint(&server, "graph", "more memory").await;
}

#[tokio::test]
async fn a_server_that_is_killed_leaves_no_worker_and_no_file() {
    let folder = tempfile::tempdir().unwrap();
    // An `init` that has ten minutes: left alone, its worker would be there for long.
    let minutes = "init_timeout_ms=600000";
    let server = Start::new()
        .data(folder.path())
        .flag("--ceilings", minutes)
        .ready()
        .await;
    let endless = Package::wat("init_loops.wat").and(&format!("[limits]\n{minutes}"));
    let request = server.request(reqwest::Method::POST, "/v1/models/odd/versions");
    let upload = tokio::spawn(request.multipart(endless.form()).send());
    let workers = eventually("a worker at work", async || {
        let workers = children(server.pid());
        (!workers.is_empty()).then_some(workers)
    })
    .await;
    // Dropped, it is killed.
    drop(server);
    assert!(upload.await.unwrap().is_err());
    eventually("no worker", async || {
        workers
            .iter()
            .all(|pid| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            })
            .then_some(())
    })
    .await;
    assert_eq!(
        files_under(&folder.path().join("code"))
            .iter()
            .filter(|file| !file.ends_with("host.key"))
            .count(),
        0
    );
    let server = Start::new().data(folder.path()).ready().await;
    server.upload(&Package::guest("counter")).await.is(201);
    assert_eq!(server.ask("counter", "").await.is(200).text(), "0");
}

#[tokio::test]
async fn without_isolation_time_still_has_a_bound() {
    let server = Start::new()
        .flag("--isolate-uploads", "false")
        .ready()
        .await;
    server.upload(&Package::guest("counter")).await.is(201);
    let limited = slow().and("[limits]\ncompile_ms = 300");
    harmless(&server, &limited, "compile_timeout").await;
}
