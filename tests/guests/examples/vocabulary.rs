//! A good `init`: a vocabulary of 100,000 entries, made once at upload and looked up by
//! requests. `word-12345` has the id 12345; what is unknown has none. It counts the
//! lookups since the snapshot too, so that a leak would show. With `announce = "true"` in its
//! config it prints in `init`, which refuses the upload.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
};

use aegis_guest::{Context, Failure, Json, Startup, Text};
use serde::Serialize;

struct Vocabulary {
    ids: HashMap<String, u32>,
    lookups: AtomicU32,
}

#[derive(Serialize)]
struct Answer {
    id: Option<u32>,
    entries: usize,
    lookups_before: u32,
}

fn load(startup: &Startup) -> Result<Vocabulary, Failure> {
    let entries = startup.config_parse("entries", 100_000_u32)?;
    if startup.config_parse("announce", false)? {
        announce(entries);
    }
    Ok(Vocabulary {
        ids: (0..entries).map(|id| (format!("word-{id}"), id)).collect(),
        lookups: AtomicU32::new(0),
    })
}

/// Opens standard output and keeps it: a handle that no snapshot can hold.
#[expect(clippy::print_stdout, reason = "what is asked for")]
fn announce(entries: u32) {
    println!("making a vocabulary of {entries} entries");
}

fn predict(
    _: &Context,
    vocabulary: &Vocabulary,
    Text(word): Text<&str>,
) -> Result<Json<Answer>, Failure> {
    Ok(Json(Answer {
        id: vocabulary.ids.get(word).copied(),
        entries: vocabulary.ids.len(),
        lookups_before: vocabulary.lookups.fetch_add(1, Ordering::Relaxed),
    }))
}

aegis_guest::handler! { init: load, predict: predict }
