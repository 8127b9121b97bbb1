//! `model.toml`: whatever it says, it is refused in bounded words or is a manifest whose every
//! part keeps its promise.

use std::path::{Component, Path};

use aegis_registry::{
    Manifest, ManifestError, PackagePath,
    manifest::{Limits, Location},
};

/// The longest refusal, in bytes: it quotes what it refuses, shortened.
const LONGEST_REFUSAL: usize = 4 << 10;

/// Any bytes as a `model.toml`.
pub fn manifest(bytes: &[u8]) {
    match Manifest::from_bytes(bytes) {
        Ok(manifest) => {
            keeps_its_promises(&manifest);
            survives_writing(&manifest);
        }
        Err(error) => is_told_plainly(&error, bytes),
    }
}

fn keeps_its_promises(manifest: &Manifest) {
    let files = manifest.files();
    for file in &files {
        stays_in_its_folder(file);
    }
    for (index, one) in files.iter().enumerate() {
        let one = one.as_str().to_lowercase();
        assert_ne!(one, Manifest::FILE_NAME);
        for other in files.iter().skip(index + 1) {
            let other = other.as_str().to_lowercase();
            let inside =
                |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
            assert!(
                one != other && !inside(&one, &other) && !inside(&other, &one),
                "{one:?} and {other:?} in one folder"
            );
        }
    }
    assert!(manifest.handler.is_some() || !manifest.graphs.is_empty());
    assert!(manifest.graphs.len() <= Manifest::MAX_GRAPHS);
    for graph in &manifest.graphs {
        assert!((1..=64).contains(&graph.name.len()), "{:?}", graph.name);
        let sessions = graph.sessions.unwrap_or(1);
        assert!((1..=64).contains(&sessions), "{sessions}");
        assert!((1..=64).contains(&graph.threads), "{}", graph.threads);
        let same = |other: &&aegis_registry::manifest::Graph| other.name == graph.name;
        assert_eq!(manifest.graphs.iter().filter(same).count(), 1);
    }
    for (key, value) in manifest.limits.entries() {
        let row = Limits::TABLE
            .iter()
            .find(|row| row.key == key)
            .expect("a row");
        assert!((row.min..=row.max).contains(&value), "{key} = {value}");
    }
    // Whatever a manifest asks for, the ceilings of an operator who says nothing hold.
    let effective = serde_json::to_value(manifest.limits.effective(&Limits::default())).unwrap();
    for row in Limits::TABLE {
        let value = effective.get(row.key).and_then(serde_json::Value::as_u64);
        assert!(value.is_some_and(|value| value <= row.ceiling.into()));
    }
}

fn stays_in_its_folder(file: &PackagePath) {
    let path = Path::new(file.as_str());
    let normal = |part: Component<'_>| matches!(part, Component::Normal(_));
    assert!(path.components().all(normal), "{file:?}");
    assert!(file.under(Path::new("/folder")).starts_with("/folder"));
    assert!(!file.as_str().contains(['\\', ':', '\0']), "{file:?}");
}

fn survives_writing(manifest: &Manifest) {
    let written = toml::to_string(manifest).expect("a manifest can be written");
    // A manifest at the limit of its size may be over it when every default is spelled out.
    if written.len() as u64 <= Manifest::MAX_BYTES {
        let again = Manifest::parse(&written).unwrap_or_else(|error| panic!("{error}:\n{written}"));
        assert_eq!(*manifest, again);
    }
}

fn is_told_plainly(error: &ManifestError, bytes: &[u8]) {
    let words = error.to_string();
    assert!(
        words.len() <= LONGEST_REFUSAL,
        "{} bytes: {words}",
        words.len()
    );
    assert!(
        !words.chars().any(|c| c.is_control() && c != '\n'),
        "{words:?}"
    );
    if let ManifestError::Wrong {
        location: Location { line, column },
        ..
    } = error
    {
        let text = str::from_utf8(bytes).expect("not text is told as such");
        let lines = text.split('\n').count();
        let longest = text.split('\n').map(|line| line.chars().count()).max();
        assert!((1..=lines).contains(line), "line {line} of {lines}");
        assert!(
            (1..=longest.unwrap_or(0) + 1).contains(column),
            "column {column}"
        );
    }
}
