//! The lines a process writes, collected while it runs.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::{Arc, Mutex},
    thread,
};

/// How many lines are kept: a test of many thousand requests has no use for the first ones.
const KEPT: usize = 20_000;

/// Lines of one stream so far, the latest of them.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Reads `stream` to its end on a thread of its own, so that the process never blocks on
    /// a full pipe.
    pub(crate) fn follow(stream: impl Read + Send + 'static) -> Lines {
        let lines = Lines::default();
        let kept = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let mut lines = kept.0.lock().expect("the lines");
                if lines.len() == KEPT {
                    lines.drain(..KEPT / 2);
                }
                lines.push(line);
            }
        });
        lines
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().expect("the lines").clone()
    }

    /// The first line that has `part`.
    pub(crate) fn with(&self, part: &str) -> Option<String> {
        self.all().into_iter().find(|line| line.contains(part))
    }
}
