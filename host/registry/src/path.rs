//! [`PackagePath`]: where a file stands inside a model package. It comes from uploads and
//! manifests, and is joined to folders of the host: what it refuses cannot leave them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::quoted;

/// A file's path inside a package: relative, `/` between its parts, at most 255 bytes, and no part
/// empty, `.` or `..`. No backslash, colon (a drive or a stream on Windows) or control character.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackagePath(String);

/// A word that cannot be a file's path inside a package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is not a file name that a package may have: {reason}; use a relative path such as \
     `digits.onnx` or `graphs/digits.onnx`, at most 255 bytes",
    quoted(.given)
)]
pub struct InvalidPath {
    given: String,
    reason: &'static str,
}

impl PackagePath {
    /// The longest path, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The path as text, with `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where this file is when the package is in `folder`.
    pub fn under(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }

    /// The same path with the last extension replaced: `a/b.xml` gives `a/b.bin`.
    pub(crate) fn with_extension(&self, extension: &str) -> Result<Self, InvalidPath> {
        let stem = self
            .0
            .rsplit_once('.')
            .map_or(self.0.as_str(), |(stem, _)| stem);
        format!("{stem}.{extension}").parse()
    }

    /// Whether the last part ends in `.extension`, in any case.
    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        self.0
            .rsplit_once('.')
            .is_some_and(|(_, found)| found.eq_ignore_ascii_case(extension))
    }

    /// The form under which two paths are the same file on a file system that ignores case.
    pub(crate) fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}

/// Two paths that cannot both be files in one folder on every file system: equal but for case, or
/// one a folder of the other. `None` if all can live together. The same path twice is a clash too.
pub(crate) fn clash<'p>(
    paths: impl IntoIterator<Item = &'p PackagePath>,
) -> Option<(&'p PackagePath, &'p PackagePath)> {
    let mut sorted: Vec<_> = paths
        .into_iter()
        .map(|path| (path.folded() + "/", path))
        .collect();
    // With the `/` at the end, a folder sorts directly before what is in it.
    sorted.sort();
    sorted
        .iter()
        .zip(sorted.iter().skip(1))
        .find(|((earlier, _), (later, _))| later.starts_with(earlier.as_str()))
        .map(|((_, earlier), (_, later))| (*earlier, *later))
}

impl FromStr for PackagePath {
    type Err = InvalidPath;

    fn from_str(given: &str) -> Result<Self, InvalidPath> {
        let refuse = |reason| {
            let given = given.chars().take(300).collect();
            Err(InvalidPath { given, reason })
        };
        if given.is_empty() {
            return refuse("it is empty");
        }
        if given.len() > Self::MAX_LEN {
            return refuse("it is too long");
        }
        if given.starts_with('/') {
            return refuse("it is absolute");
        }
        if given.contains('\\') {
            return refuse("it has a backslash");
        }
        if given.contains(':') {
            return refuse("it has a colon");
        }
        if given.chars().any(char::is_control) {
            return refuse("it has a control character");
        }
        for part in given.split('/') {
            match part {
                "" => return refuse("it has an empty part"),
                "." | ".." => return refuse("it has a part `.` or `..`"),
                _ => {}
            }
        }
        Ok(Self(given.to_owned()))
    }
}

impl fmt::Display for PackagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PackagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for PackagePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PackagePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    fn path(text: &str) -> PackagePath {
        text.parse().unwrap()
    }

    #[test]
    fn path_tricks_are_refused() {
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "./a",
            "a/.",
            "a//b",
            "a/",
            "a\\b",
            "..\\a",
            "C:a",
            "C:/a",
            "a\0",
            "a\nb",
            "a\u{7f}",
            &"x".repeat(256),
        ] {
            assert!(bad.parse::<PackagePath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_weights_of_an_ir_are_beside_it() {
        assert_eq!(
            path("g/a.b.xml").with_extension("bin").unwrap(),
            path("g/a.b.bin")
        );
        assert!(path("g/A.XML").has_extension("xml"));
        assert!(!path("xml").has_extension("xml"));
    }

    #[test]
    fn clashes_are_found_wherever_they_stand() {
        let found = |texts: &[&str]| {
            let paths: Vec<_> = texts.iter().map(|text| path(text)).collect();
            clash(&paths).is_some()
        };
        assert!(found(&["a.bin", "b", "A.BIN"]));
        assert!(found(&["a/b", "x", "a"]));
        assert!(found(&["A/b/c", "a/B"]));
        assert!(found(&["a", "a"]));
        assert!(!found(&["a/b", "a/c", "a.b", "a-b", "ab"]));
        assert!(found(&["a", "a-b", "a.b", "a/b"]));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_stays_under_its_folder(text in "[a-zA-Z./\\\\:\0é ]{0,40}|\\PC{0,80}") {
            if let Ok(path) = text.parse::<PackagePath>() {
                let joined = path.under(Path::new("/root"));
                prop_assert!(joined.starts_with("/root"));
                let normal = Path::new(path.as_str()).components().all(|part| matches!(part, Component::Normal(_)));
                prop_assert!(normal);
                prop_assert_eq!(path.as_str(), text);
            }
        }

        #[test]
        fn a_clash_is_found_exactly_when_there_is_one(texts in proptest::collection::vec("[abAB](/[ab.]?[ab])?", 0..6)) {
            let paths: Vec<PackagePath> = texts.iter().filter_map(|text| text.parse().ok()).collect();
            let mut expected = false;
            for (i, one) in paths.iter().enumerate() {
                for other in paths.iter().skip(i + 1) {
                    let (one, other) = (one.folded(), other.folded());
                    expected |= one == other
                        || one.starts_with(&format!("{other}/"))
                        || other.starts_with(&format!("{one}/"));
                }
            }
            prop_assert_eq!(clash(&paths).is_some(), expected);
        }
    }
}
