//! What a `model.toml` may say: every complaint names the line, the key, what was wrong and what
//! would be right; any text is answered without a panic; what is written back reads the same.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use aegis_registry::manifest::{
    BatchAxis, Batching, Breaker, EffectiveLimits, GraphBackend, GraphTarget, InitGrant, Limits,
    Precision,
};
use aegis_registry::{Manifest, ManifestError};
use proptest::prelude::*;

const FULL: &str = r#"
name = "digits"
description = "Which digit is it?"
handler = "digits.wasm"
idempotent = true

[[graph]]
name = "digits"
file = "digits.onnx"
backend = "openvino"
target = "gpu"
sessions = 4
threads = 2
batching = { max_batch_size = 8, max_latency_ms = 2, preferred_batch_sizes = [4, 8], axes = { state = 1, rate = "shared" } }
precision = "backend-default"

[[graph]]
name = "ir"
file = "ir/net.xml"

[sample]
file = "samples/Four.JSON"
answer = "samples/four.answer"

[limits]
memory_mib = 128
timeout_ms = 500
init_timeout_ms = 2000
max_concurrency = 4
max_queue = 0
tensor_mib = 64
log_kib = 1
response_mib = 2

[sandbox]
reuse = true
init_grants = ["wall-clock", "secure-random"]

[admission]
adaptive = true

[breaker]
window_ms = 30000
min_requests = 50
error_rate = 0.25
consecutive_failures = 0
latency_ms = 200
latency_quantile = 0.99
open_ms = 500
max_open_ms = 20000
refuse_alone = true

[config]
threshold = "0.5"
"with.dot" = ""
"#;

#[test]
fn a_full_manifest_is_read_whole() {
    let manifest = Manifest::parse(FULL).unwrap();
    assert_eq!(manifest.name.as_str(), "digits");
    assert_eq!(manifest.description.as_deref(), Some("Which digit is it?"));
    assert!(manifest.idempotent);
    assert!(manifest.admission.adaptive);
    assert_eq!(manifest.handler.as_ref().unwrap().as_str(), "digits.wasm");

    let [digits, ir] = manifest.graphs.as_slice() else {
        unreachable!("two graphs are written")
    };
    assert_eq!(digits.backend, GraphBackend::Openvino);
    assert_eq!(digits.target, GraphTarget::Gpu);
    assert_eq!((digits.sessions, digits.threads), (Some(4), 2));
    assert_eq!(digits.precision, Precision::BackendDefault);
    let Some(Batching::On(batching)) = &digits.batching else {
        unreachable!("it is written")
    };
    assert_eq!((batching.max_batch_size, batching.max_latency_ms), (8, 2));
    assert_eq!(batching.preferred_batch_sizes, [4, 8]);
    let axes: Vec<_> = batching
        .axes
        .iter()
        .map(|(name, axis)| (&**name, *axis))
        .collect();
    assert_eq!(
        axes,
        [("rate", BatchAxis::Shared), ("state", BatchAxis::At(1))]
    );
    assert_eq!(digits.weights, None);
    assert_eq!(ir.weights.as_ref().unwrap().as_str(), "ir/net.bin");
    assert_eq!(
        (ir.backend, ir.target, ir.sessions, ir.threads),
        (GraphBackend::Auto, GraphTarget::Cpu, None, 1)
    );
    assert_eq!((&ir.batching, ir.precision), (&None, Precision::F32));

    let sample = manifest.sample.as_ref().unwrap();
    assert_eq!(sample.file.as_str(), "samples/Four.JSON");
    assert_eq!(sample.content_type, "application/json");
    assert_eq!(
        sample.answer.as_ref().unwrap().as_str(),
        "samples/four.answer"
    );

    assert!(manifest.sandbox.reuse);
    assert_eq!(
        manifest.sandbox.init_grants,
        [InitGrant::WallClock, InitGrant::SecureRandom]
    );
    let breaker = Breaker {
        enabled: None,
        window_ms: Some(30_000),
        min_requests: Some(50),
        error_rate: Some(0.25),
        consecutive_failures: Some(0),
        latency_ms: Some(200),
        latency_quantile: Some(0.99),
        open_ms: Some(500),
        max_open_ms: Some(20_000),
        refuse_alone: Some(true),
    };
    assert_eq!(manifest.breaker, breaker);
    assert_eq!(manifest.config.get("threshold").unwrap(), "0.5");
    assert_eq!(manifest.config.get("with.dot").unwrap(), "");
    let limits: EffectiveLimits = manifest.limits.effective(&Limits {
        timeout_ms: Some(100),
        ..Limits::default()
    });
    assert_eq!(
        (limits.timeout_ms, limits.memory_mib, limits.max_queue),
        (100, 128, 0)
    );

    let files: Vec<_> = manifest
        .files()
        .into_iter()
        .map(|path| path.as_str())
        .collect();
    assert_eq!(
        files,
        [
            "digits.onnx",
            "digits.wasm",
            "ir/net.bin",
            "ir/net.xml",
            "samples/Four.JSON",
            "samples/four.answer"
        ]
    );
}

#[test]
fn a_sample_has_a_media_type_that_a_header_can_have() {
    let with = |keys: &str| format!("name = \"m\"\nhandler = \"h\"\n[sample]\n{keys}");
    let read = |keys: &str| Manifest::parse(&with(keys)).unwrap().sample.unwrap();
    for (file, media_type) in [
        ("a.txt", "text/plain"),
        ("a.jpeg", "image/jpeg"),
        ("a.wav", "audio/wav"),
        ("a", "application/octet-stream"),
    ] {
        assert_eq!(read(&format!("file = {file:?}")).content_type, media_type);
    }
    let said = read("file = \"a\"\ncontent_type = \"text/csv; header=absent\"");
    assert_eq!(
        (said.content_type.as_str(), said.answer),
        ("text/csv; header=absent", None)
    );
    refused(
        &with("file = \"a\"\ncontent_type = \"json\""),
        "model.toml line 5, column 16, `sample.content_type`: `json` is no media type; write one such as \"application/json\"",
    );
    refused(
        &with("content_type = \"a/b\""),
        "model.toml line 3, column 1, `sample.file`: is missing; it gives the request's body, such as \"sample.json\"",
    );
}

#[test]
fn two_graphs_may_share_one_network() {
    let text = "name = \"m\"\n[[graph]]\nname = \"a\"\nfile = \"n.onnx\"\n[[graph]]\nname = \"b\"\nfile = \"n.onnx\"";
    assert_eq!(Manifest::parse(text).unwrap().files().len(), 1);
}

/// The whole message, so that it is read here as a user reads it.
#[track_caller]
fn refused(text: &str, message: &str) {
    assert_eq!(Manifest::parse(text).unwrap_err().to_string(), message);
}

#[test]
fn a_wrong_word_is_answered_with_the_right_ones() {
    refused(
        "name = \"m\"\n\n[[graph]]\nname = \"g\"\nfile = \"g.onnx\"\n\nbackend = \"tensorrt\"\n",
        "model.toml line 7, column 11, `graph[0].backend`: unknown backend `tensorrt`; use auto, onnxruntime, openvino \
         or embedded",
    );
    refused(
        "name = \"m\"\nhandler = \"h\"\nsandbox.init_grants = [\"wall-clock\", \"network\"]\n",
        "model.toml line 3, column 38, `sandbox.init_grants[1]`: unknown grant `network`; use secure-random or wall-clock",
    );
}

#[test]
fn an_unknown_key_is_named_and_a_slip_is_recognised() {
    refused(
        "name = \"m\"\nhandler = \"h\"\n[limits]\n  timeot_ms = 5\n",
        "model.toml line 4, column 3, `limits.timeot_ms`: no such key in `limits`; did you mean `timeout_ms`?",
    );
    refused(
        "name = \"m\"\nport = 80\nhandler = \"h\"",
        "model.toml line 2, column 1, `port`: no such key at the top; there are name, description, handler, idempotent, graph, \
         sample, limits, sandbox, admission, breaker, config",
    );
    let text = "name = \"m\"\n[[graph]]\nname = \"g\"\nfile = \"g\"\nbatching = { max_batch_size = 1, preferred = 2 }";
    refused(
        text,
        "model.toml line 5, column 34, `graph[0].batching.preferred`: no such key in `graph[0].batching`; there are \
         max_batch_size, max_latency_ms, preferred_batch_sizes, axes",
    );
}

#[test]
fn a_missing_key_says_what_it_is_for() {
    refused(
        "handler = \"h\"",
        "model.toml line 1, column 1, `name`: is missing; it gives the model's name, such as name = \"digits\"",
    );
    refused(
        "name = \"m\"\n[[graph]]\nname = \"g\"",
        "model.toml line 2, column 1, `graph[0].file`: is missing; it gives the network's file, such as \"digits.onnx\"",
    );
    refused(
        "name = \"m\"",
        "model.toml line 1, column 1: there is neither a handler nor a [[graph]]; a model needs at least one of them",
    );
}

#[test]
fn a_wrong_type_or_range_is_told_with_the_right_one() {
    refused(
        "name = \"m\"\nhandler = \"h\"\n[config]\nthreshold = 0.5",
        "model.toml line 4, column 13, `config.threshold`: must be a string: wasi:config knows nothing else; write the \
         value in quotes, such as \"0.5\"",
    );
    refused(
        "name = \"m\"\nhandler = \"h\"\n[limits]\nmemory_mib = 0",
        "model.toml line 4, column 14, `limits.memory_mib`: must be a whole number from 1 to 4096, found `0`",
    );
    refused(
        "name = \"m\"\nhandler = \"h\"\n[limits]\nmemory_mib = \"big\"",
        "model.toml line 4, column 14, `limits.memory_mib`: must be a whole number from 1 to 4096, found a string",
    );
    refused(
        "name = \"m\"\nhandler = \"h\"\nsandbox = { reuse = 1 }",
        "model.toml line 3, column 21, `sandbox.reuse`: must be true or false, without quotes, found a whole number",
    );
    refused(
        "name = \"m\"\ngraph = { name = \"g\", file = \"f\" }",
        "model.toml line 2, column 9, `graph`: must be an array of tables, each under its own [[graph]], found a table",
    );
    refused("name = \"M\"\nhandler = \"h\"", &{
        let rule = "a name has 1 to 63 characters, the first of a-z 0-9, the rest of a-z 0-9 . _ -, and no two dots in a row";
        format!(
            "model.toml line 1, column 8, `name`: `M` is not a model name: its first character is not one of a-z 0-9; {rule}"
        )
    });
}

#[test]
fn a_run_has_at_least_one_thread_and_no_more_than_machines_have() {
    for threads in ["0", "65", "\"all\""] {
        let text =
            format!("name = \"m\"\n[[graph]]\nname = \"g\"\nfile = \"f\"\nthreads = {threads}");
        let message = Manifest::parse(&text).unwrap_err().to_string();
        assert!(
            message.contains("`graph[0].threads`: must be a whole number from 1 to 64"),
            "{message}"
        );
    }
}

#[test]
fn a_breaker_that_could_not_work_is_told_what_would() {
    let breaker = |lines: &str| format!("name = \"m\"\nhandler = \"h\"\n[breaker]\n{lines}");
    refused(
        &breaker("eror_rate = 0.5"),
        "model.toml line 4, column 1, `breaker.eror_rate`: no such key in `breaker`; did you mean `error_rate`?",
    );
    for (wrong, found) in [
        ("50", "`50`"),
        ("0.0", "`0.0`"),
        ("nan", "`nan`"),
        ("-0.5", "`-0.5`"),
        ("0x1", "a whole number"),
        ("\"half\"", "a string"),
    ] {
        refused(
            &breaker(&format!("error_rate = {wrong}")),
            &format!(
                "model.toml line 4, column 14, `breaker.error_rate`: must be a number from 0.001 to 1, found {found}"
            ),
        );
    }
    refused(
        &breaker("latency_quantile = 0.9"),
        "model.toml line 4, column 20, `breaker.latency_quantile`: is the share of requests that must keep \
         `latency_ms`, which is not there; give it too",
    );
    refused(
        &breaker("open_ms = 2000\nmax_open_ms = 1000"),
        "model.toml line 5, column 15, `breaker.max_open_ms`: must be at least `open_ms`, 2000, found 1000",
    );
    let whole = Manifest::parse(&breaker("error_rate = 1\nenabled = false")).unwrap();
    assert_eq!(
        (whole.breaker.error_rate, whole.breaker.enabled),
        (Some(1.0), Some(false))
    );
}

#[test]
fn a_file_name_cannot_leave_the_package() {
    for bad in [
        "/etc/passwd",
        "../h.wasm",
        "a/../../h",
        "a\\\\b",
        "a\\u0000b",
        "",
        "a//b",
        "./h",
        "model.toml",
    ] {
        let text = format!("name = \"m\"\nhandler = \"{bad}\"");
        let message = Manifest::parse(&text).unwrap_err().to_string();
        assert!(
            message.starts_with("model.toml line 2, column 11, `handler`: "),
            "{message}"
        );
    }
}

#[test]
fn files_that_cannot_live_together_are_refused() {
    let graph =
        |name: &str, file: &str| format!("[[graph]]\nname = \"{name}\"\nfile = \"{file}\"\n");
    let of = |handler: &str, graphs: &[String]| {
        format!("name = \"m\"\nhandler = \"{handler}\"\n{}", graphs.concat())
    };
    for (text, part) in [
        (
            of("h", &[graph("a", "n.onnx"), graph("b", "N.ONNX")]),
            "cannot be in one folder",
        ),
        (
            of("h", &[graph("a", "d"), graph("b", "d/n.onnx")]),
            "cannot be in one folder",
        ),
        (
            of("h", &[graph("a", "h")]),
            "both the handler and a file of graph",
        ),
        (
            of("h.bin", &[graph("a", "h.xml")]),
            "both the handler and a file of graph",
        ),
        (
            of("h", &[graph("a", "n"), graph("a", "o")]),
            "`graph[1].name`: a graph before it is named `a` too",
        ),
        (
            of("h", &[graph("a", "n") + "weights = \"n\""]),
            "one file as network and as weights",
        ),
        (of("h", &[graph("a b", "n")]), "cannot name a graph"),
    ] {
        let message = Manifest::parse(&text).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn what_is_not_toml_is_told_where() {
    let error = Manifest::parse("name = \"m\"\nhandler = \n").unwrap_err();
    let ManifestError::Wrong { location, key, .. } = &error else {
        unreachable!("{error}")
    };
    assert_eq!((location.line, key), (2, &None));
    assert!(error.to_string().contains("this is not TOML"), "{error}");
    assert!(
        Manifest::parse("name = \"m\"\nname = \"m\"")
            .unwrap_err()
            .to_string()
            .contains("line 2")
    );
}

#[test]
fn size_and_depth_are_bounded() {
    let long = format!("name = \"m\" # {}", "x".repeat(300_000));
    assert!(matches!(
        Manifest::parse(&long),
        Err(ManifestError::TooLarge {
            size: 300_013,
            max: 262_144
        })
    ));
    for deep in [
        "[".repeat(200_000),
        format!("a = {}", "[".repeat(200_000)),
        "{".repeat(200_000),
    ] {
        assert!(matches!(
            Manifest::parse(&deep),
            Err(ManifestError::Wrong { .. })
        ));
    }
    let keys: String = (0..100_000).map(|_| "a.").collect();
    assert!(Manifest::parse(&format!("{keys}a = 1")).is_err());
    let graphs: String = (0..65)
        .map(|n| format!("[[graph]]\nname = \"{n}\"\nfile = \"f\"\n"))
        .collect();
    assert!(
        Manifest::parse(&format!("name = \"m\"\n{graphs}"))
            .unwrap_err()
            .to_string()
            .contains("at most 64")
    );
    assert!(matches!(
        Manifest::from_bytes(b"name = \"\xff\""),
        Err(ManifestError::NotUtf8 { offset: 8 })
    ));
}

/// A manifest's text, valid by construction.
fn manifests() -> impl Strategy<Value = toml::Table> {
    let words =
        |choices: &'static [&'static str]| proptest::option::of(proptest::sample::select(choices));
    let graph = (
        words(&["auto", "onnxruntime", "openvino", "embedded"]),
        words(&["cpu", "gpu"]),
        words(&["f32", "backend-default"]),
        proptest::option::of(1i64..=64),
        proptest::option::of(1i64..=64),
        proptest::option::of((1i64..=4096, 0i64..=60_000)),
        proptest::sample::select(vec!["onnx", "xml"]),
    );
    let graphs = proptest::collection::vec(graph, 0..4);
    let limits: Vec<_> = Limits::TABLE
        .iter()
        .map(|row| proptest::option::of(i64::from(row.min)..=i64::from(row.max)))
        .collect();
    let config = proptest::collection::btree_map(any::<String>(), any::<String>(), 0..4);
    (
        "[a-z][a-z0-9-]{0,20}",
        any::<Option<String>>(),
        graphs,
        limits,
        any::<bool>(),
        proptest::option::of((0.001..=1.0f64, 1i64..=3_600_000)),
        config,
    )
        .prop_map(
            |(name, description, graphs, limits, reuse, breaker, config)| {
                let mut top = toml::Table::new();
                top.insert("name".into(), name.into());
                top.insert("handler".into(), "handler.wasm".into());
                if let Some(description) = description {
                    top.insert("description".into(), description.into());
                }
                let graphs = graphs.into_iter().enumerate().map(
                    |(n, (backend, target, precision, sessions, threads, batching, ext))| {
                        let mut graph = toml::Table::new();
                        graph.insert("name".into(), format!("g{n}").into());
                        graph.insert("file".into(), format!("g{n}.{ext}").into());
                        for (key, word) in [
                            ("backend", backend),
                            ("target", target),
                            ("precision", precision),
                        ] {
                            graph.extend(word.map(|word| (key.to_owned(), word.into())));
                        }
                        graph.extend(
                            sessions.map(|sessions| ("sessions".to_owned(), sessions.into())),
                        );
                        graph.extend(threads.map(|threads| ("threads".to_owned(), threads.into())));
                        graph.extend(batching.map(|(size, wait)| {
                            let table = [
                                ("max_batch_size".to_owned(), size.into()),
                                ("max_latency_ms".to_owned(), wait.into()),
                            ];
                            (
                                "batching".to_owned(),
                                toml::Value::Table(table.into_iter().collect()),
                            )
                        }));
                        toml::Value::Table(graph)
                    },
                );
                top.insert("graph".into(), toml::Value::Array(graphs.collect()));
                let limits = Limits::TABLE.iter().zip(limits);
                let limits =
                    limits.filter_map(|(row, value)| Some((row.key.to_owned(), value?.into())));
                top.insert("limits".into(), toml::Value::Table(limits.collect()));
                top.insert(
                    "sandbox".into(),
                    toml::Value::Table([("reuse".to_owned(), reuse.into())].into_iter().collect()),
                );
                if let Some((rate, latency)) = breaker {
                    let table = [
                        ("error_rate".to_owned(), rate.into()),
                        ("latency_ms".to_owned(), latency.into()),
                    ];
                    top.insert(
                        "breaker".into(),
                        toml::Value::Table(table.into_iter().collect()),
                    );
                }
                let config = config.into_iter().map(|(key, value)| (key, value.into()));
                top.insert("config".into(), toml::Value::Table(config.collect()));
                top
            },
        )
}

proptest! {
    #[test]
    fn any_text_is_answered_without_a_panic(text in any::<String>()) {
        let _ = Manifest::parse(&text);
    }

    #[test]
    fn text_that_looks_like_a_manifest_is_answered_without_a_panic(
        lines in proptest::collection::vec(
            "(name|handler|graph|file|limits|config|sandbox|init_grants|sessions|é)(\\.[a-z]+)? = (\"[a-zé./\\\\]*\"?|-?[0-9]{1,30}|\\[.*\\]?|\\{.*\\}?|true|1979-05-27)|\\[\\[?(graph|limits|config|x)\\]?\\]?",
            0..12,
        )
    ) {
        let text = lines.join("\n");
        if let Err(error) = Manifest::parse(&text) {
            let message = error.to_string();
            prop_assert!(message.starts_with("model.toml "));
            prop_assert!(message.contains("line "), "{}", message);
        }
    }

    #[test]
    fn a_manifest_cut_anywhere_is_answered_without_a_panic(cut in 0..FULL.len()) {
        let _ = Manifest::parse(FULL.get(..cut).expect("the manifest is ASCII"));
    }

    #[test]
    fn every_valid_manifest_is_read_and_written_back_the_same(table in manifests()) {
        let manifest = Manifest::parse(&toml::to_string(&table).unwrap()).unwrap();
        let again = Manifest::parse(&toml::to_string(&manifest).unwrap()).unwrap();
        prop_assert_eq!(again, manifest);
    }
}
