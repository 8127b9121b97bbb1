//! Finding a native library: the places looked in, in order, and the record of them for the operator.

use std::cmp::Reverse;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};

/// What one native library is called and where its makers put it.
pub(super) struct Library {
    /// The name people know.
    pub(super) title: &'static str,
    /// The name without prefix and suffix: `onnxruntime`.
    pub(super) stem: &'static str,
    /// The folder's name under `.runtimes`, and under a search folder that holds several runtimes.
    pub(super) folder: &'static str,
    /// Folders of usual installations beyond the system's library folders.
    pub(super) usual: &'static [&'static str],
}

const SYSTEM_FOLDERS: &[&str] = &[
    "/usr/local/lib",
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/opt/homebrew/lib",
];

/// Where to look, told apart so that tests need no particular machine.
pub(super) struct Places<'a> {
    /// A library file or the folder it is in. When given, nothing else is looked at.
    pub(super) explicit: Option<&'a Path>,
    /// Folders from the configuration.
    pub(super) search: &'a [PathBuf],
    /// The folder of the running program.
    pub(super) beside: Option<PathBuf>,
    /// The folder to walk up from in search of `.runtimes`.
    pub(super) from: Option<PathBuf>,
}

impl<'a> Places<'a> {
    /// The places of this process.
    pub(super) fn here(explicit: Option<&'a Path>, search: &'a [PathBuf]) -> Self {
        Self {
            explicit,
            search,
            beside: std::env::current_exe()
                .ok()
                .and_then(|program| program.parent().map(Path::to_path_buf)),
            from: std::env::current_dir().ok(),
        }
    }
}

/// What was found, best first, and what was looked for.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// Files to try to load. The last may be a bare name for the system's loader.
    candidates: Vec<PathBuf>,
    /// Every place in words, for the message when none of them works.
    looked: String,
}

impl Library {
    /// Loads the first file that `load` takes.
    ///
    /// # Errors
    /// Where was looked, and why each file that was there was refused.
    pub(super) fn load<T>(
        &self,
        places: &Places<'_>,
        load: impl Fn(&Path) -> Result<T, String>,
    ) -> Result<(PathBuf, T), String> {
        let found = self.find(places);
        let mut words = format!("{} was not found; looked in {}", self.title, found.looked);
        for path in found.candidates {
            match load(&path) {
                Ok(loaded) => {
                    tracing::info!(path = %path.display(), "{} loaded", self.title);
                    return Ok((path, loaded));
                }
                Err(refusal) => {
                    words.push_str("; ");
                    words.push_str(&refusal);
                }
            }
        }
        Err(words)
    }

    /// All the files that may be this library.
    fn find(&self, places: &Places<'_>) -> Found {
        if let Some(explicit) = places.explicit {
            let candidates = if explicit.is_dir() {
                self.in_folder(explicit)
            } else {
                vec![explicit.to_path_buf()]
            };
            return Found {
                candidates,
                looked: format!("{} (as configured)", explicit.display()),
            };
        }
        let mut candidates = Vec::new();
        let mut looked = Vec::new();
        for folder in places.search {
            candidates.extend(self.in_folder(folder));
            looked.push(folder.display().to_string());
        }
        if let Some(beside) = &places.beside {
            candidates.extend(self.in_folder(beside));
            looked.push(format!("{} (beside the program)", beside.display()));
        }
        if let Some(from) = &places.from {
            for folder in from.ancestors().map(|folder| folder.join(".runtimes")) {
                candidates.extend(self.in_folder(&folder));
            }
            looked.push(format!(".runtimes in {} and above", from.display()));
        }
        for folder in self.usual.iter().chain(SYSTEM_FOLDERS) {
            candidates.extend(self.files(Path::new(folder)));
        }
        let bare = format!("{DLL_PREFIX}{}{DLL_SUFFIX}", self.stem);
        looked.push(format!(
            "the usual library folders and {bare} by the system's loader"
        ));
        candidates.push(PathBuf::from(bare));
        Found {
            candidates,
            looked: looked.join(", "),
        }
    }

    /// In a folder, or where such a folder keeps its libraries.
    fn in_folder(&self, folder: &Path) -> Vec<PathBuf> {
        [
            folder.to_path_buf(),
            folder.join(self.folder),
            folder.join("lib"),
            folder.join("libs"),
        ]
        .iter()
        .flat_map(|folder| self.files(folder))
        .collect()
    }

    /// The plain name first, then versioned names, the highest first.
    fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let Ok(entries) = folder.read_dir() else {
            return Vec::new();
        };
        let mut files: Vec<(Vec<u64>, PathBuf)> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| Some((self.version(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        files.sort_by_key(|(version, _)| (!version.is_empty(), Reverse(version.clone())));
        files.into_iter().map(|(_, path)| path).collect()
    }

    /// The version in a file's name, empty for the plain name; `None` if the file is another.
    fn version(&self, name: &str) -> Option<Vec<u64>> {
        let rest = name.strip_prefix(DLL_PREFIX)?.strip_prefix(self.stem)?;
        // `.so` or `.so.1.31.1` on Linux, `.dylib` or `.1.31.1.dylib` on macOS.
        let version = rest
            .strip_prefix(DLL_SUFFIX)
            .or_else(|| rest.strip_suffix(DLL_SUFFIX))?;
        version
            .split('.')
            .filter(|part| !part.is_empty())
            .map(|part| part.parse().ok())
            .collect()
    }
}

/// The version a library's name tells, as `libonnxruntime.so.1.31.1` does.
pub(super) fn version_in_name(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok()?;
    let name = real.file_name()?.to_str()?;
    let version: Vec<&str> = name
        .split('.')
        .filter(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
        .collect();
    (!version.is_empty()).then(|| version.join("."))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )]

    use std::fs;

    use super::*;

    const LIBRARY: Library = Library {
        title: "Sums",
        stem: "sums",
        folder: "sums",
        usual: &[],
    };

    fn nowhere<'a>(search: &'a [PathBuf]) -> Places<'a> {
        Places {
            explicit: None,
            search,
            beside: None,
            from: None,
        }
    }

    #[test]
    fn the_plain_name_wins_then_the_highest_version() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "libsums.so.1.9.0",
            "libsums.so.1.31.1",
            "libsums.so",
            "libsums_providers.so",
            "libsums.so.bak",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let search = [folder.path().to_path_buf()];
        let found = LIBRARY.find(&nowhere(&search));
        let names: Vec<_> = found
            .candidates
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "libsums.so",
                "libsums.so.1.31.1",
                "libsums.so.1.9.0",
                "libsums.so"
            ]
        );
        // The last is the bare name for the system's loader.
        assert_eq!(found.candidates[3], PathBuf::from("libsums.so"));
    }

    #[test]
    fn a_runtimes_folder_is_found_walking_up() {
        let root = tempfile::tempdir().unwrap();
        let library = root.path().join(".runtimes/sums/libsums.so.2");
        fs::create_dir_all(library.parent().unwrap()).unwrap();
        fs::write(&library, "").unwrap();
        let deep = root.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        let found = LIBRARY.find(&Places {
            from: Some(deep),
            ..nowhere(&[])
        });
        assert_eq!(found.candidates[0], library);
    }

    #[test]
    fn an_explicit_path_is_the_only_place_looked_in() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libsums.so"), "").unwrap();
        let search = [folder.path().to_path_buf()];
        let missing = Path::new("/nowhere/libsums.so");
        let found = LIBRARY.find(&Places {
            explicit: Some(missing),
            ..nowhere(&search)
        });
        assert_eq!(found.candidates, [missing]);
        assert_eq!(found.looked, "/nowhere/libsums.so (as configured)");
    }

    #[test]
    fn the_first_file_that_loads_is_taken_and_every_refusal_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libsums.so.2", "libsums.so.1"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let search = [folder.path().to_path_buf()];
        let older = |path: &Path| match path.extension() {
            Some(extension) if extension == "1" => Ok(1),
            _ => Err(format!(
                "{} is too new",
                path.file_name().unwrap().display()
            )),
        };
        assert_eq!(
            LIBRARY.load(&nowhere(&search), older).unwrap(),
            (folder.path().join("libsums.so.1"), 1)
        );
        let words = LIBRARY
            .load(&nowhere(&search), |path| {
                Err::<(), _>(format!("no {}", path.file_name().unwrap().display()))
            })
            .unwrap_err();
        assert!(
            words.starts_with("Sums was not found; looked in "),
            "{words}"
        );
        assert!(
            words.ends_with("; no libsums.so.2; no libsums.so.1; no libsums.so"),
            "{words}"
        );
    }

    #[test]
    fn the_version_is_read_off_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("libsums.so.1.31.1");
        fs::write(&real, "").unwrap();
        let link = folder.path().join("libsums.so");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(version_in_name(&link).unwrap(), "1.31.1");
        assert_eq!(version_in_name(Path::new("libsums.so")), None);
    }
}
