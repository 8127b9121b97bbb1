//! Has children run the cases, as many at once as there are cores here and in CI, and goes on behind the case that ends
//! one of them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::child::{CASES, FOLDER, Line, RESULTS};

/// Children at once.
const CHILDREN: usize = 2;

/// A case that takes longer hangs: the slowest take a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of each case: nothing if it passed. `test` is the name of the test that children are to run.
pub(crate) fn run(test: &str, cases: &[String]) -> BTreeMap<String, Option<String>> {
    let share = |child: usize| cases.iter().skip(child).step_by(CHILDREN).cloned();
    thread::scope(|scope| {
        let children: Vec<_> = (0..CHILDREN)
            .map(|child| scope.spawn(move || all_of(test, share(child).collect())))
            .collect();
        children
            .into_iter()
            .flat_map(|child| child.join().unwrap())
            .map(|(case, end)| match end {
                // Whether it was this case that did it, and not one before, shows when it is alone.
                End::Process(_) => {
                    let alone = all_of(test, vec![case.clone()]).remove(&case);
                    eprintln!("{case} ended a process; alone: {alone:?}");
                    (case, alone.unwrap().said())
                }
                end => (case, end.said()),
            })
            .collect()
    })
}

/// How a case ends.
#[derive(Debug)]
enum End {
    /// With an answer or an error; nothing if it passed.
    Itself(Option<String>),
    /// With the process that it ran in.
    Process(String),
}

impl End {
    fn said(self) -> Option<String> {
        match self {
            End::Itself(said) => said,
            End::Process(how) => Some(how),
        }
    }
}

/// One child after another, until every case has an end.
fn all_of(test: &str, mut left: Vec<String>) -> BTreeMap<String, End> {
    let mut ended = BTreeMap::new();
    while !left.is_empty() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CASES), left.join("\n")).unwrap();
        let end = one(test, folder.path());
        let mut begun = None;
        for line in lines(folder.path()) {
            match line {
                Line::Begun(case) => begun = Some(case),
                Line::Ended(case, said) => {
                    begun = None;
                    ended.insert(case, End::Itself(said));
                }
            }
        }
        match (begun, end) {
            (Some(case), end) => {
                let how = end.map_or_else(
                    || format!("hangs: no end within {PATIENCE:?}"),
                    |status| format!("ends its process: {status}"),
                );
                ended.insert(case, End::Process(how));
            }
            (None, Some(status)) if status.success() => {}
            (None, end) => panic!(
                "the child ended between two cases with {end:?}:\n{}",
                fs::read_to_string(folder.path().join(SAID)).unwrap()
            ),
        }
        let before = left.len();
        left.retain(|case| !ended.contains_key(case));
        assert!(left.len() < before, "a child ran no case");
    }
    ended
}

/// In a child's folder: what it printed.
const SAID: &str = "said";

/// Runs a child to its end; nothing if it had to be ended.
fn one(test: &str, folder: &Path) -> Option<ExitStatus> {
    let said = File::create(folder.join(SAID)).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .unwrap();
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        let written = fs::metadata(folder.join(RESULTS)).map_or(0, |file| file.len());
        if written != seen {
            (seen, since) = (written, Instant::now());
        }
        if since.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a child wrote down. One that was ended may have left half a line.
fn lines(folder: &Path) -> Vec<Line> {
    let text = fs::read_to_string(folder.join(RESULTS)).unwrap_or_default();
    let lines = text.lines().map(serde_json::from_str);
    lines.map_while(Result::ok).collect()
}
