//! How a long command tells of itself on standard error: a line that is written over on a terminal,
//! and one now and then elsewhere.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// How often a line is written where nobody watches it change.
const SPARSE: Duration = Duration::from_secs(30);

/// The line.
pub(crate) struct StatusLine {
    terminal: bool,
    /// When a line was last written, where it is no terminal.
    told: Option<Instant>,
}

impl StatusLine {
    pub(crate) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            told: None,
        }
    }

    /// How things are now.
    pub(crate) fn now(&mut self, line: &str) {
        if self.terminal {
            self.clear();
            let mut to = std::io::stderr();
            // Without wrapping: of a wrapped line only the last part could be written over.
            let _ = write!(to, "\x1b[?7l{line}\x1b[?7h");
            let _ = to.flush();
        } else if self.told.is_none_or(|told| told.elapsed() >= SPARSE) {
            self.told = Some(Instant::now());
            Self::write(line);
        }
    }

    /// A line that stays. What comes next is told at once.
    pub(crate) fn stays(&mut self, line: &str) {
        self.clear();
        self.told = None;
        Self::write(line);
    }

    fn clear(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn write(line: &str) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// A span of time in a word.
pub(crate) fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}
