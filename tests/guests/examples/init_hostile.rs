//! An `init` that does what `do` in its configuration says: `loop`, `spin` (memory that it
//! fills and fills), `exit`, `panic`, `trap`, `recurse`, `alloc`, `flood`, `network` (opens a
//! graph), `flag`, `session` (looks into one), or nothing.

use std::hint::black_box;

use aegis_guest::{
    __private::bindings::host::{
        aegis::inference::{sessions, signals},
        wasi::nn::graph,
    },
    Context, Failure, Startup, Text,
};

struct Started;

fn load(startup: &Startup) -> Result<Started, Failure> {
    match startup.config("do")?.as_deref().unwrap_or_default() {
        "loop" => loop {
            black_box(());
        },
        "spin" => loop {
            black_box(vec![1_u8; 1 << 20]);
        },
        "exit" => std::process::exit(0),
        "panic" => give_up(),
        "abort" => std::process::abort(),
        "recurse" => drop(black_box(recurse(0))),
        "alloc" => {
            let mut kept = Vec::new();
            loop {
                kept.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "flood" => loop {
            eprintln!("a line of a flood that does not end");
        },
        "network" => drop(graph::load_by_name("digits")),
        "flag" => signals::flag("init"),
        "session" => drop(sessions::get("init")),
        _ => {}
    }
    Ok(Started)
}

#[expect(clippy::panic, reason = "what is asked for")]
fn give_up() -> ! {
    panic!("the handler gives up before it began")
}

#[expect(unconditional_recursion, reason = "what is asked for")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame.iter().sum::<u64>()
}

fn predict(_: &Context, _: &Started, _: &[u8]) -> Result<Text<&'static str>, Failure> {
    Ok(Text("started"))
}

aegis_guest::handler! { init: load, predict: predict }
