//! The committed list of what fails on a backend, with a reason each.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use aegis_inference::BackendKind;
use serde::Deserialize;

use crate::{CARRIED, root};

/// What a reason begins with that nobody has thought about yet.
pub(crate) const NEW: &str = "NEW: ";

/// What a reason begins with of a case that fails on some processors and passes on others, by the instructions that the
/// backend finds there. It stays listed while it passes.
const ON_SOME: &str = "on some processors: ";

/// A backend's failures, the reason by the case.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Failures {
    failures: BTreeMap<String, String>,
}

impl Failures {
    pub(crate) fn path(backend: BackendKind) -> PathBuf {
        root().join(format!("tests/conformance/{backend}.toml"))
    }

    pub(crate) fn read(backend: BackendKind) -> Failures {
        let path = Failures::path(backend);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn write(&self, backend: BackendKind) {
        fs::write(Failures::path(backend), self.text(backend)).unwrap();
    }

    fn text(&self, backend: BackendKind) -> String {
        let mut text = format!(
            "# Node cases of onnx 1.20.0 that fail on the backend {backend} through wasi:nn, and why: {} of {CARRIED}.\n\
             # host/sandbox/tests/conformance holds this list to what happens. To rewrite it:\n\
             #   UPDATE_CONFORMANCE=1 cargo test --workspace --test conformance\n\
             # Reasons are written by hand and stay as long as their case fails. One that begins with `{}` is of a\n\
             # case that passes on other processors.\n\n[failures]\n",
            self.failures.len(),
            ON_SOME.trim_end(),
        );
        for (case, reason) in &self.failures {
            let reason = toml::Value::from(reason.as_str());
            writeln!(text, "{case} = {reason}").unwrap();
        }
        text
    }

    /// The cases by their reason.
    pub(crate) fn by_reason(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (case, reason) in &self.failures {
            by_reason.entry(reason).or_default().push(case);
        }
        by_reason
    }

    pub(crate) fn len(&self) -> usize {
        self.failures.len()
    }

    /// The list of what failed, with the reasons that are known.
    pub(crate) fn updated(&self, failed: &BTreeMap<String, String>) -> Failures {
        let reason = |(case, said): (&String, &String)| {
            let known = self.failures.get(case).cloned();
            (
                case.clone(),
                known.unwrap_or_else(|| format!("{NEW}{said}")),
            )
        };
        let elsewhere = self.failures.iter();
        let elsewhere = elsewhere
            .filter(|(_, reason)| reason.starts_with(ON_SOME))
            .map(|(case, reason)| (case.clone(), reason.clone()));
        Failures {
            failures: elsewhere.chain(failed.iter().map(reason)).collect(),
        }
    }

    /// Cases that wait for a reason.
    pub(crate) fn new_ones(&self) -> Vec<&str> {
        let all = self.failures.iter();
        all.filter(|(_, reason)| reason.starts_with(NEW.trim_end()))
            .map(|(case, _)| case.as_str())
            .collect()
    }

    /// How the list and what failed differ, a line each.
    pub(crate) fn problems(&self, failed: &BTreeMap<String, String>) -> Vec<String> {
        let new = failed
            .iter()
            .filter(|(case, _)| !self.failures.contains_key(*case))
            .map(|(case, said)| format!("  {case} fails and is not listed: {said}"));
        let stale = self
            .failures
            .iter()
            .filter(|(case, reason)| !failed.contains_key(*case) && !reason.starts_with(ON_SOME))
            .map(|(case, _)| format!("  {case} is listed and passes"));
        let unexplained = self.new_ones();
        let unexplained = unexplained
            .iter()
            .map(|case| format!("  {case} is listed without a reason"));
        new.chain(stale).chain(unexplained).collect()
    }
}

#[test]
fn a_new_failure_a_stale_one_and_one_without_a_reason_are_problems() {
    let failures = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
        let list = list.iter();
        list.map(|(case, said)| ((*case).to_owned(), (*said).to_owned()))
            .collect()
    };
    let listed = Failures {
        failures: failures(&[("test_a", "a reason"), ("test_b", "another \"reason\"")]),
    };
    let same = failures(&[("test_a", "words"), ("test_b", "words")]);
    assert!(listed.problems(&same).is_empty());
    let other = failures(&[("test_b", "words"), ("test_c", "it broke")]);
    let problems = listed.problems(&other).join("\n");
    assert!(problems.contains("test_c fails and is not listed: it broke"));
    assert!(problems.contains("test_a is listed and passes"));

    let on_some = Failures {
        failures: failures(&[("test_a", "on some processors: rounds")]),
    };
    assert!(on_some.problems(&failures(&[])).is_empty());
    assert!(
        on_some
            .problems(&failures(&[("test_a", "words")]))
            .is_empty()
    );
    assert_eq!(on_some.updated(&failures(&[])), on_some);

    let updated = listed.updated(&other);
    let expected = failures(&[
        ("test_b", "another \"reason\""),
        ("test_c", "NEW: it broke"),
    ]);
    assert_eq!(updated.failures, expected);
    assert_eq!(updated.new_ones(), ["test_c"]);
    assert_eq!(updated.problems(&other).len(), 1);
    let text = updated.text(BackendKind::Embedded);
    assert_eq!(toml::from_str::<Failures>(&text).unwrap(), updated);
}
