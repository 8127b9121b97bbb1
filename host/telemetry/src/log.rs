//! The log: `tracing` events to standard error, as text for people or JSON lines for collectors.
//! Standard output is left to commands that print results.

use std::fmt;
use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _, fmt as format};

use crate::log_line::Line;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line, the event's fields at the top beside `timestamp`, `level`, `target`,
    /// and `trace_id` and `span_id` where a request has a trace.
    Json,
}

impl LogFormat {
    /// The word that names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(word: &str) -> Result<Self, LogError> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a format.
    #[error("log format {0:?} is unknown; use \"text\" or \"json\"")]
    Format(String),
    /// Not a filter.
    #[error(
        "log filter {filter:?} is not understood ({reason}); use a level (error, warn, info, debug, trace, off) or a list like \"info,aegis_server=debug\""
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody set up a log before.
    #[error("the log is already set up: {0}")]
    AlreadySet(#[from] TryInitError),
}

/// Checks a filter without starting anything, for those who read settings.
///
/// # Errors
/// [`LogError::Filter`] if it is not understood.
pub fn check_log_filter(filter: &str) -> Result<(), LogError> {
    parse_filter(filter).map(drop)
}

/// Starts the process's log on standard error. `filter` is a level, or a list of `target=level`
/// (`info,aegis_server=debug`).
///
/// # Errors
/// [`LogError::Filter`] if the filter is not understood, [`LogError::AlreadySet`] if the process
/// has a log already.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let filter = parse_filter(filter)?;
    let lines = format::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.event_format(Line::text()).boxed(),
        LogFormat::Json => lines
            .fmt_fields(format::format::JsonFields::new())
            .event_format(Line::json())
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    // A backend may panic over a guest's tensors: that is caught, and is a line like any other.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(target: "aegis::panic", "{panic}");
    }));
    Ok(())
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    let wrong = |reason: String| LogError::Filter {
        filter: filter.to_owned(),
        reason,
    };
    // `EnvFilter` takes a lone word it does not know for a target, to be logged whole: "inof" would
    // silence everything but a target of that name.
    for directive in filter.split(',').map(str::trim) {
        let lone = !directive.contains(['=', '[']);
        if directive.is_empty() || (lone && LevelFilter::from_str(directive).is_err()) {
            return Err(wrong(format!("{directive:?} is no level")));
        }
    }
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_bad_filter_is_told_with_the_filter_and_what_would_be_right() {
        let message = check_log_filter("info,aegis=loud").unwrap_err().to_string();
        assert!(
            message.contains("\"info,aegis=loud\"") && message.contains("aegis_server=debug"),
            "{message}"
        );
    }

    #[test]
    fn a_misspelt_level_is_not_taken_for_a_target() {
        let message = check_log_filter("inof").unwrap_err().to_string();
        assert!(message.contains("\"inof\" is no level"), "{message}");
        assert!(check_log_filter("").is_err());
    }

    #[test]
    fn filters_people_write_are_understood() {
        for filter in [
            "info",
            "off",
            "warn,aegis_server=debug",
            "aegis_sandbox::handler=trace",
        ] {
            check_log_filter(filter).unwrap();
        }
    }

    #[test]
    fn a_format_is_text_or_json() {
        assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
        assert_eq!(
            LogFormat::Text.to_string().parse::<LogFormat>().unwrap(),
            LogFormat::Text
        );
        assert!(
            "xml"
                .parse::<LogFormat>()
                .unwrap_err()
                .to_string()
                .contains("\"xml\"")
        );
    }
}
