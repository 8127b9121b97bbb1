//! The places settings are read from: environment, file, the standard variables, default (flags are
//! read in [`super::args`]). Each becomes the same thing, a map from key to words with their origin; which
//! of them wins, and what the words mean, is left to [`super::resolve`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::form::Kind;
use super::{SettingInfo, TABLE};
use crate::credential::{TOKEN, TOKEN_FILE};

/// Names the configuration file.
pub(super) const CONFIG_VARIABLE: &str = "AEGIS_CONFIG";

/// Variables of ours that are no settings of the server.
const OTHER_VARIABLES: &[&str] = &[CONFIG_VARIABLE, "AEGIS_SERVER", TOKEN, TOKEN_FILE];

/// Where a value was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag, by its name without dashes.
    Flag(String),
    /// An environment variable.
    Environment(String),
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: &'static str,
    },
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::File { path, line, key } => write!(f, "{}, line {line}: `{key}`", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value as one place gave it.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) words: Vec<String>,
    pub(super) origin: Origin,
}

/// What one place gave, by key.
pub(super) type Layer = BTreeMap<&'static str, Given>;

/// Reads the `AEGIS_` variables. An empty one counts as not set, as it does where a manifest or a
/// compose file cannot leave it out. A variable nobody reads is worth a warning, not a refusal: it
/// may be a newer version's.
pub(super) fn environment(
    variables: &[(OsString, OsString)],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Layer {
    let mut layer = Layer::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("AEGIS_")) else {
            continue;
        };
        let Some(row) = TABLE.iter().find(|row| row.variable() == name) else {
            if !OTHER_VARIABLES.contains(&name) && !is_kubernetes(name) {
                let near = near(name, TABLE.iter().map(SettingInfo::variable));
                warnings.push(format!(
                    "environment {name}: there is no such setting, it is ignored; {near}"
                ));
            }
            continue;
        };
        let origin = Origin::Environment(name.to_owned());
        match value.to_str() {
            Some("") => {}
            Some(text) => {
                let words = variable_words(row.kind, text);
                layer.insert(row.key, Given { words, origin });
            }
            None => problems.push(Problem::NotUnicode { origin }),
        }
    }
    layer
}

fn variable_words(kind: Kind, text: &str) -> Vec<String> {
    match kind {
        // As in PATH. Splitting what is text gives text.
        Kind::Paths => std::env::split_paths(text)
            .map(|path| path.to_string_lossy().into_owned())
            .collect(),
        Kind::Names => text.split(',').map(|name| name.trim().to_owned()).collect(),
        Kind::Text | Kind::Number | Kind::Fraction | Kind::Switch => vec![text.to_owned()],
    }
}

/// Reads OpenTelemetry's own variables. They may be meant for every program of a machine, so what
/// is not understood is not refused.
pub(super) fn standard(variables: &[(OsString, OsString)]) -> Layer {
    let mut layer = Layer::new();
    for row in TABLE {
        let Some(name) = row.standard else { continue };
        let given = variables
            .iter()
            .find(|(variable, value)| variable == name && !value.is_empty());
        if let Some(text) = given.and_then(|(_, value)| value.to_str()) {
            let origin = Origin::Environment(name.to_owned());
            let words = variable_words(row.kind, text);
            layer.insert(row.key, Given { words, origin });
        }
    }
    layer
}

/// Whether Kubernetes made this variable, as it does for a service named `aegis` in every pod
/// beside it (`AEGIS_SERVICE_HOST`, `AEGIS_PORT_8000_TCP_ADDR`, …).
fn is_kubernetes(name: &str) -> bool {
    name.starts_with("AEGIS_SERVICE_")
        || name == "AEGIS_PORT"
        || name.starts_with("AEGIS_PORT_")
        || name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
}

/// Reads the configuration file. `named_by` is where its name came from.
pub(super) fn file(path: &Path, named_by: Origin, problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer::new();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(source) => {
            problems.push(Problem::Unreadable {
                named_by,
                path: path.to_owned(),
                source,
            });
            return layer;
        }
    };
    let document = match DeTable::parse(&text) {
        Ok(document) => document,
        Err(error) => {
            problems.push(Problem::Syntax {
                path: path.to_owned(),
                message: error.to_string().trim_end().to_owned(),
            });
            return layer;
        }
    };
    for (key, value) in document.get_ref() {
        let line = line_of(&text, key.span().start);
        let name: &str = key.get_ref();
        let Some(row) = TABLE.iter().find(|row| row.key == name) else {
            problems.push(Problem::UnknownKey {
                path: path.to_owned(),
                line,
                key: name.to_owned(),
                near: near(name, TABLE.iter().map(|row| row.key.to_owned())),
            });
            continue;
        };
        let origin = Origin::File {
            path: path.to_owned(),
            line,
            key: row.key,
        };
        match words(row.kind, value) {
            Some(words) => {
                layer.insert(row.key, Given { words, origin });
            }
            None => problems.push(Problem::Value {
                origin,
                found: text
                    .get(value.span())
                    .unwrap_or("something else")
                    .trim()
                    .to_owned(),
                expected: format!("{}, as in {}", (row.expects)(), example(row)),
            }),
        }
    }
    layer
}

/// What a value of the file says, if it has the kind that its setting takes.
fn words(kind: Kind, value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
    let value = value.get_ref();
    Some(match kind {
        Kind::Text => vec![value.as_str()?.to_owned()],
        Kind::Switch => vec![value.as_bool()?.to_string()],
        Kind::Number => {
            let number = value.as_integer()?;
            // What does not fit is told, with its range, where the number is read.
            vec![
                i128::from_str_radix(number.as_str(), number.radix())
                    .ok()?
                    .to_string(),
            ]
        }
        Kind::Fraction => match (value.as_float(), value.as_integer()) {
            (Some(number), _) => vec![number.as_str().to_owned()],
            (None, number) => vec![number?.as_str().to_owned()],
        },
        Kind::Paths | Kind::Names => value
            .as_array()?
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()?,
    })
}

/// A line of the file that would be right.
fn example(row: &SettingInfo) -> String {
    let default = row.default.first().copied();
    match row.kind {
        Kind::Text => format!("{} = {:?}", row.key, default.unwrap_or("/some/path")),
        Kind::Number | Kind::Fraction | Kind::Switch => {
            format!("{} = {}", row.key, default.unwrap_or_default())
        }
        Kind::Paths | Kind::Names => {
            format!("{} = [{:?}]", row.key, default.unwrap_or("/some/path"))
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

/// What was probably meant by a name that nobody knows.
fn near(name: &str, known: impl Iterator<Item = String>) -> String {
    // What all variables begin with makes none of them alike.
    let bare = |name: &str| name.trim_start_matches("AEGIS_").to_owned();
    let name = bare(name);
    let mut close: Vec<(usize, String)> = known
        .filter_map(|known| {
            let other = bare(&known);
            let distance = strsim::damerau_levenshtein(&name, &other);
            let mistyped = distance * 4 <= other.len().max(name.len());
            let part = name.len() >= 4 && other.contains(&name);
            (mistyped || part).then_some((distance, known))
        })
        .collect();
    close.sort();
    let close: Vec<String> = close.into_iter().take(3).map(|(_, known)| known).collect();
    if close.is_empty() {
        "`aegis serve --help` lists them all".to_owned()
    } else {
        format!("did you mean {}?", close.join(", "))
    }
}
