//! Does what the query parameter `do` says. `n` is a number for those that take one.
//!
//! | `do` | what happens |
//! |---|---|
//! | `echo` (or nothing) | answers the request as JSON |
//! | `digits` | runs the graph `digits` on zeros, `n` times (once), and answers the first probability |
//! | `loop` | computes for ever |
//! | `sleep` | waits `n` ms on the clock (for ever) |
//! | `trap`, `panic`, `exit` | `unreachable`, a panic, `exit(3)` (of which WASI tells the host only that it failed) |
//! | `recurse` | calls itself until the stack ends |
//! | `alloc` | takes memory, and uses it, until there is none; with `n`, so many MiB, and answers |
//! | `stdout` | prints a line to standard output and one to standard error |
//! | `flood` | prints `n` lines (100,000) to standard error |
//! | `env`, `fs` | answers what it finds of the environment and the file system |
//! | `no-graph` | opens a graph that there is not |
//! | `load` | loads a graph from bytes |
//! | `wrong-type`, `wrong-name`, `wrong-shape` | runs `digits` on i64, on an unknown input, on `[1, 63]` |
//! | `short-tensor`, `huge-tensor` | a tensor whose bytes are fewer than its shape says; one of 2^128 elements |
//! | `many-tensors` | makes tensors of `n` bytes (1 MiB) in the host until it is refused |
//! | `flags`, `values` | raises `n` (100) different flags; records `n` values, NaN among them |
//! | `config` | answers all of its configuration |
//! | `fail` | fails as `as` says: `invalid-input`, `too-large`, … |
//! | `big` | answers `n` bytes (1 MiB) |
//! | `bad-header` | answers with headers that the host must refuse |
//! | `bad-content-type` | answers with a content type that is no header value |
//! | `bad-utf8` | answers a string that is none |
//! | `abort`, `threads` | aborts; starts a thread, which there is not |
//! | `graph` | opens the graph `name` |
//! | `echo-name` | opens a graph whose name has `n` bytes |
//!
//! More words, by what they are after: `hostile/handles.rs`, `hostile/leaks.rs`,
//! `hostile/said.rs` and `hostile/wasi.rs`. How each ends is in `tests/guests/hostile.txt`.

use std::hint::black_box;

use aegis_guest::{Context, Failure, Request, Response, Tensor};
use serde_json::{Value, json};

fn predict(ctx: &Context, request: &Request) -> Result<Response, Failure> {
    let number = ctx.query("n").map(str::parse::<u64>).transpose()?;
    match ctx.query("do").unwrap_or("echo") {
        "echo" => answer(json!({
            "id": request.id,
            "content_type": request.content_type,
            "headers": request.headers,
            "query": request.query,
            "body_bytes": request.body.len(),
        })),
        "digits" => digits(ctx, number.unwrap_or(1)),
        "loop" => forever(),
        "sleep" => sleep(number),
        "trap" => trap(),
        "panic" => give_up(),
        "exit" => std::process::exit(3),
        "recurse" => answer(json!({ "depth": recurse(0) })),
        "alloc" => alloc(number),
        "stdout" => print(),
        "flood" => flood(number.unwrap_or(100_000)),
        "env" => environment(),
        "fs" => files(),
        "no-graph" => ctx
            .graph("nowhere")
            .map_err(Failure::from)
            .and_then(|_| done()),
        "load" => tensors::load(),
        "wrong-type" => run(ctx, "input", Tensor::new(&[1, 64], &[0_i64; 64])),
        "wrong-name" => run(ctx, "outlet", Tensor::new(&[1, 64], &[0.0_f32; 64])),
        "wrong-shape" => run(ctx, "input", Tensor::new(&[1, 63], &[0.0_f32; 63])),
        "short-tensor" => tensors::run(&[1, 64], &[0; 8]),
        "huge-tensor" => tensors::run(&[u32::MAX; 4], &[0; 8]),
        "many-tensors" => tensors::many(usize::try_from(number.unwrap_or(1 << 20))?),
        "flags" => {
            (0..number.unwrap_or(100)).for_each(|index| ctx.flag(&format!("Reason {index}!")));
            done()
        }
        "values" => {
            ctx.record("not a number", f64::NAN);
            (0..number.unwrap_or(100)).for_each(|n| ctx.record(&format!("v{n}"), n as f64));
            done()
        }
        "config" => tensors::config(),
        "fail" => Err(fail(ctx.query("as").unwrap_or_default())),
        "big" => {
            let bytes = usize::try_from(number.unwrap_or(1 << 20))?;
            Ok(Response::new("application/octet-stream", vec![b'x'; bytes]))
        }
        "bad-header" => Ok(Response::new("text/plain", "answered")
            .with_header("connection", "close")
            .with_header("content-length", "1")
            .with_header("x-request-id", "forged")
            .with_header("aegis-model-version", "9")
            .with_header("split", "a\r\nset-cookie: b=c")
            .with_header("no name", "x")
            .with_header("x-fine", "yes")),
        "bad-content-type" => Ok(Response::new("text/plain\r\nset-cookie: a=b", "answered")),
        "bad-utf8" => Ok(Response::new(utf8::broken(), "answered")),
        "abort" => std::process::abort(),
        "threads" => match std::thread::Builder::new().spawn(forever_elsewhere) {
            Ok(_) => done(),
            Err(error) => Err(Failure::internal(error)),
        },
        "graph" => open(ctx, ctx.query("name").unwrap_or_default()),
        "echo-name" => open(
            ctx,
            &"n".repeat(usize::try_from(number.unwrap_or(1 << 20))?),
        ),
        other => handles::act(other, ctx, number)
            .or_else(|| leaks::act(other, number))
            .or_else(|| said::act(other, number))
            .or_else(|| wasi::act(other, number))
            .unwrap_or_else(|| {
                Err(Failure::invalid_field(
                    "do",
                    format!("`{other}` is nothing I do"),
                ))
            }),
    }
}

aegis_guest::handler!(predict);

#[path = "hostile/handles.rs"]
mod handles;
#[path = "hostile/leaks.rs"]
mod leaks;
#[path = "hostile/said.rs"]
mod said;
#[path = "hostile/wasi.rs"]
mod wasi;

fn answer(value: Value) -> Result<Response, Failure> {
    Ok(Response::new("application/json", value.to_string()))
}

fn done() -> Result<Response, Failure> {
    answer(json!({ "done": true }))
}

fn digits(ctx: &Context, runs: u64) -> Result<Response, Failure> {
    let graph = ctx.graph("digits")?;
    let mut first = 0.0;
    for _ in 0..runs {
        let outputs = graph.run(&[("input", Tensor::new(&[1, 64], &[0.0_f32; 64]))])?;
        first = outputs
            .get::<f32>("probabilities")?
            .first()
            .copied()
            .unwrap_or(f32::NAN);
    }
    answer(json!({ "runs": runs, "first": first }))
}

fn run(ctx: &Context, name: &str, tensor: Tensor<'_>) -> Result<Response, Failure> {
    ctx.graph("digits")?.run(&[(name, tensor)])?;
    done()
}

fn open(ctx: &Context, name: &str) -> Result<Response, Failure> {
    ctx.graph(name)?;
    done()
}

fn forever_elsewhere() {
    forever();
}

fn forever() -> ! {
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}

fn sleep(milliseconds: Option<u64>) -> Result<Response, Failure> {
    let time = std::time::Duration::from_millis(milliseconds.unwrap_or(u64::MAX / 2_000_000));
    std::thread::sleep(time);
    done()
}

#[cfg(target_arch = "wasm32")]
fn trap() -> ! {
    std::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() -> ! {
    std::process::abort()
}

#[expect(clippy::panic, reason = "what is asked for")]
fn give_up() -> ! {
    panic!("the handler gives up")
}

#[expect(unconditional_recursion, reason = "what is asked for")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame.iter().sum::<u64>()
}

fn alloc(mebibytes: Option<u64>) -> Result<Response, Failure> {
    let mut kept = Vec::new();
    for _ in 0..mebibytes.unwrap_or(u64::MAX) {
        kept.push(black_box(vec![1_u8; 1 << 20]));
    }
    answer(json!({ "mebibytes": kept.len() }))
}

#[expect(clippy::print_stdout, reason = "what is asked for")]
fn print() -> Result<Response, Failure> {
    println!("to standard output");
    eprintln!("to standard error");
    done()
}

fn flood(lines: u64) -> Result<Response, Failure> {
    for line in 0..lines {
        eprintln!("line {line} of a flood of log lines, each of them as long as this one is");
    }
    done()
}

fn environment() -> Result<Response, Failure> {
    answer(json!({
        "variables": std::env::vars_os().count(),
        "arguments": std::env::args_os().count(),
        "directory": std::env::current_dir().map(|path| path.display().to_string()).ok(),
    }))
}

fn files() -> Result<Response, Failure> {
    let said = |result: std::io::Result<()>| match result {
        Ok(()) => "done".to_owned(),
        Err(error) => error.to_string(),
    };
    answer(json!({
        "read": said(std::fs::read("/etc/passwd").map(drop)),
        "write": said(std::fs::write("/tmp/hostile", "x")),
        "list": said(std::fs::read_dir("/").map(drop)),
        "here": said(std::fs::read_dir(".").map(drop)),
    }))
}

fn fail(kind: &str) -> Failure {
    match kind {
        "invalid-input" => Failure::invalid_field("/pixels/3", "a number is wanted"),
        "unsupported-media-type" => Failure::unsupported_media_type(None, &["text/plain"]),
        "too-large" => Failure::too_large("at most 10 are read"),
        "overloaded" => Failure::overloaded("come again"),
        "not-ready" => Failure::not_ready("not yet"),
        "timeout" => Failure::timeout("took too long"),
        _ => Failure::internal("the handler's secret"),
    }
}

mod tensors {
    //! What the SDK would not let through, by the bare imports.

    use aegis_guest::{
        __private::bindings::host::wasi::{
            config::store,
            nn::{
                errors::Error,
                graph::{self, ExecutionTarget, GraphEncoding},
                tensor::Tensor,
            },
        },
        Failure, Response, TensorType,
    };
    use serde_json::json;

    fn said(error: Error) -> Failure {
        Failure::internal(format!("{:?}: {}", error.code(), error.data()))
    }

    pub(crate) fn load() -> Result<Response, Failure> {
        let bytes = [vec![8, 7]];
        graph::load(&bytes, GraphEncoding::Onnx, ExecutionTarget::Cpu).map_err(said)?;
        super::done()
    }

    pub(crate) fn run(shape: &[u32], data: &[u8]) -> Result<Response, Failure> {
        let tensor = Tensor::new(shape, TensorType::Fp32, data);
        let context = graph::load_by_name("digits")
            .and_then(|graph| graph.init_execution_context())
            .map_err(said)?;
        context
            .compute(vec![("input".to_owned(), tensor)])
            .map_err(said)?;
        super::done()
    }

    pub(crate) fn many(bytes: usize) -> Result<Response, Failure> {
        let data = vec![0_u8; bytes];
        let shape = [u32::try_from(bytes)?];
        let mut kept = Vec::new();
        loop {
            kept.push(Tensor::new(&shape, TensorType::U8, &data));
        }
    }

    pub(crate) fn config() -> Result<Response, Failure> {
        let all = store::get_all().map_err(|error| Failure::internal(format!("{error:?}")))?;
        super::answer(json!(
            all.into_iter()
                .collect::<std::collections::BTreeMap<_, _>>()
        ))
    }
}

mod utf8 {
    //! A string that is none.
    #![expect(unsafe_code, reason = "what is asked for")]

    pub(crate) fn broken() -> String {
        // SAFETY: there is none. A host must survive guests in languages that check less.
        unsafe { String::from_utf8_unchecked(vec![0xff, 0xfe]) }
    }
}
