//! The one step from what was said to what holds: the layers are laid over each other, every value
//! is read, and those that must go together are compared.

use std::ffi::OsString;

use super::access;
use super::error::{Problem, SettingsError};
use super::form::Form;
use super::layers::{self, CONFIG_VARIABLE, Given, Layer, Origin};
use super::{ServeArgs, ServeSettings, SettingInfo};

/// Settings that hold, and how they came to.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The settings, checked.
    pub(crate) settings: ServeSettings,
    /// What the operator should hear once the log is there, each a line.
    pub(crate) warnings: Vec<String>,
    pub(super) entries: Vec<Entry>,
}

/// One setting's value as TOML, and its place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) row: &'static SettingInfo,
    /// `None` where nothing is set.
    pub(super) value: Option<toml::Value>,
    pub(super) origin: Origin,
}

impl std::fmt::Debug for SettingInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key)
    }
}

impl ServeArgs {
    /// Reads and checks all settings: these flags, `environment` (`std::env::vars_os()`), the file
    /// that `--config` or `AEGIS_CONFIG` names, and the defaults.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub(crate) fn resolve(
        &self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Resolved, SettingsError> {
        let variables: Vec<_> = environment.into_iter().collect();
        let mut problems = Vec::new();
        let mut warnings = Vec::new();
        let from_environment = layers::environment(&variables, &mut problems, &mut warnings);
        let by_variable = || {
            let (_, path) = variables
                .iter()
                .find(|(name, value)| name == CONFIG_VARIABLE && !value.is_empty())?;
            Some((path.into(), Origin::Environment(CONFIG_VARIABLE.to_owned())))
        };
        let config = match &self.config {
            Some(path) => Some((path.clone(), Origin::Flag("config".to_owned()))),
            None => by_variable(),
        };
        let from_file = match config {
            Some((path, named_by)) => layers::file(&path, named_by, &mut problems),
            None => Layer::new(),
        };
        let mut chooser = Chooser {
            layers: [self.flags.clone(), from_environment, from_file],
            standard: layers::standard(&variables),
            entries: Vec::new(),
            problems,
            warnings,
        };
        let settings = ServeSettings::choose(&mut chooser);
        let Chooser {
            entries,
            mut problems,
            warnings,
            ..
        } = chooser;
        if let Some(settings) = &settings {
            check(settings, &entries, &mut problems);
        }
        match settings {
            Some(settings) if problems.is_empty() => Ok(Resolved {
                settings,
                warnings,
                entries,
            }),
            _ => Err(SettingsError { problems }),
        }
    }
}

/// Finds each row's value in the layers, highest first.
pub(super) struct Chooser {
    layers: [Layer; 3],
    /// Below those: what is wrong in it is passed over.
    standard: Layer,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Chooser {
    /// The value that holds for `row`; `None`, and a problem noted, where it is not right.
    pub(super) fn read<F: Form>(&mut self, row: &'static SettingInfo) -> Option<F::Value> {
        let default = || Given {
            words: row.default.iter().map(|word| (*word).to_owned()).collect(),
            origin: Origin::Default,
        };
        let given = self
            .layers
            .iter()
            .find_map(|layer| layer.get(row.key).cloned())
            .or_else(|| self.standard::<F>(row));
        let Given { words, origin } = given.unwrap_or_else(default);
        match F::read(&words) {
            Some(value) => {
                self.entries.push(Entry {
                    row,
                    value: F::write(&value),
                    origin,
                });
                Some(value)
            }
            None => {
                self.problems.push(Problem::Value {
                    origin,
                    found: format!("{:?}", words.join(", ")),
                    expected: F::expects(),
                });
                None
            }
        }
    }
}

impl Chooser {
    /// What the standard variable says, if it can be understood.
    fn standard<F: Form>(&mut self, row: &SettingInfo) -> Option<Given> {
        let given = self.standard.get(row.key)?;
        if F::read(&given.words).is_some() {
            return Some(given.clone());
        }
        self.warnings.push(format!(
            "{}: found {:?}, expected {}; it is ignored",
            given.origin,
            given.words.join(", "),
            F::expects()
        ));
        None
    }
}

/// What no row can see by itself.
fn check(settings: &ServeSettings, entries: &[Entry], problems: &mut Vec<Problem>) {
    let origin = |key: &str| match entries.iter().find(|entry| entry.row.key == key) {
        Some(entry) => entry.origin.to_string(),
        None => key.to_owned(),
    };
    access::check(settings, origin, problems);
    if settings.warm_instances > settings.max_instances {
        problems.push(Problem::Conflict(format!(
            "{}: {} instances kept ready for a model are more than the {} of all models together \
             ({}: max_instances); lower the one or raise the other",
            origin("warm_instances"),
            settings.warm_instances,
            settings.max_instances,
            origin("max_instances"),
        )));
    }
    if settings.drain_delay > settings.grace_period {
        problems.push(Problem::Conflict(format!(
            "{}: a drain delay of {} ms is longer than the grace period it is part of ({}: \
             grace_period_s = {}); lower the one or raise the other",
            origin("drain_delay_ms"),
            settings.drain_delay.as_millis(),
            origin("grace_period_s"),
            settings.grace_period.as_secs(),
        )));
    }
}
