//! How requests ended, counted by what was asked.

use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Digits,
    Spam,
    Shared,
    Live,
    Others,
    Hostile,
    HungUp,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Digits,
        Kind::Spam,
        Kind::Shared,
        Kind::Live,
        Kind::Others,
        Kind::Hostile,
        Kind::HungUp,
    ];

    fn title(self) -> &'static str {
        match self {
            Kind::Digits => "`digits`: pictures, batched",
            Kind::Spam => "`spam`: mails, batched",
            Kind::Shared => "a bare network in bursts: numbers of each request's own, batched",
            Kind::Live => "a model whose version is swapped: each version another factor",
            Kind::Others => "honest requests beside hostile ones",
            Kind::Hostile => "hostile requests: the end that is due",
            Kind::HungUp => "callers that hang up",
        }
    }
}

/// How a request ended that did not end well.
#[derive(Debug)]
pub(super) enum Problem {
    /// Answered, and not as is due.
    Wrong(String),
    /// Not answered, or with an error that was nobody's fault.
    Lost(String),
}

/// One kind's counts.
#[derive(Default)]
struct Counts {
    sent: AtomicUsize,
    right: AtomicUsize,
    wrong: AtomicUsize,
    lost: AtomicUsize,
    hung_up: AtomicUsize,
}

#[derive(Default)]
pub(super) struct Tally {
    counts: [Counts; Kind::ALL.len()],
    /// The first words of what went wrong.
    words: Mutex<Vec<String>>,
}

/// As many words as anyone reads.
const MOST_WORDS: usize = 20;

impl Tally {
    /// How one ended; nothing where the caller hung up before.
    pub(super) fn note(&self, kind: Kind, ended: Option<Result<(), Problem>>) {
        let counts = &self.counts[kind as usize];
        let add = |count: &AtomicUsize| count.fetch_add(1, Ordering::Relaxed);
        add(&counts.sent);
        let said = match ended {
            None => {
                add(&counts.hung_up);
                return;
            }
            Some(Ok(())) => {
                add(&counts.right);
                return;
            }
            Some(Err(Problem::Wrong(said))) => {
                add(&counts.wrong);
                format!("{kind:?}, wrong: {said}")
            }
            Some(Err(Problem::Lost(said))) => {
                add(&counts.lost);
                format!("{kind:?}, lost: {said}")
            }
        };
        self.say(said);
    }

    /// Something went wrong that was no request.
    pub(super) fn say(&self, said: String) {
        let mut words = self.words.lock().unwrap();
        if words.len() < MOST_WORDS {
            eprintln!("{said}");
            words.push(said);
        }
    }

    /// Whether nothing went wrong so far.
    pub(super) fn is_well(&self) -> bool {
        self.words.lock().unwrap().is_empty()
    }

    /// What went wrong, if anything did.
    pub(super) fn words(&self) -> Vec<String> {
        self.words.lock().unwrap().clone()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| requests | sent | right | hung up | wrong | lost |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        let mut all = [0; 5];
        let mut line = |title: &str, numbers: [usize; 5]| {
            write!(f, "| {title} |")?;
            for number in numbers {
                write!(f, " {number} |")?;
            }
            writeln!(f)
        };
        for kind in Kind::ALL {
            let counts = &self.counts[kind as usize];
            let numbers = [
                &counts.sent,
                &counts.right,
                &counts.hung_up,
                &counts.wrong,
                &counts.lost,
            ]
            .map(|count| count.load(Ordering::Relaxed));
            for (sum, number) in all.iter_mut().zip(numbers) {
                *sum += number;
            }
            line(kind.title(), numbers)?;
        }
        line("**all**", all)
    }
}
