//! The command line's part of the settings: one flag a row of the table, and `--config` and
//! `--print-config`. Words are taken as they are; they are read with the other layers'.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::TABLE;
use super::form::Kind;
use super::layers::{CONFIG_VARIABLE, Given, Layer, Origin};

const CONFIG: &str = "config";
const PRINT_CONFIG: &str = "print-config";

/// The arguments of `aegis serve`, not yet checked: see [`ServeArgs::resolve`].
#[derive(Clone, Debug, Default)]
pub(crate) struct ServeArgs {
    pub(super) flags: Layer,
    pub(super) config: Option<PathBuf>,
    /// Whether to print the settings as they hold, and not to serve.
    pub(crate) print_config: bool,
}

impl Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let mut command = command
            .arg(
                Arg::new(CONFIG)
                    .long(CONFIG)
                    .value_name("FILE")
                    .value_parser(clap::value_parser!(PathBuf))
                    .help(format!("TOML file of settings [env: {CONFIG_VARIABLE}]")),
            )
            .arg(
                Arg::new(PRINT_CONFIG)
                    .long(PRINT_CONFIG)
                    .action(ArgAction::SetTrue)
                    .help("Print every setting as it holds, and where it comes from, as a TOML file; do not serve"),
            );
        for row in TABLE {
            let default = match row.default {
                [] => String::new(),
                words => format!(" [default: {}]", words.join(",")),
            };
            let arg = Arg::new(row.key)
                .long(row.flag())
                .value_name(row.placeholder)
                .help_heading(row.group)
                .help(format!(
                    "{} [env: {}{}]{default}",
                    row.help(),
                    row.variable(),
                    row.standard
                        .map(|variable| format!("] [else: {variable}"))
                        .unwrap_or_default(),
                ));
            command = command.arg(match row.kind {
                Kind::Paths => arg.action(ArgAction::Append),
                Kind::Names => arg.action(ArgAction::Append).value_delimiter(','),
                // `--prewarm-model` alone says yes.
                Kind::Switch => arg.num_args(0..=1).default_missing_value("true"),
                Kind::Text | Kind::Number | Kind::Fraction => arg,
            });
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        // None of these can fail for the arguments made above; if one did, it is a fault to tell.
        let fault = |error: clap::parser::MatchesError| {
            clap::Error::raw(ErrorKind::InvalidValue, error.to_string())
        };
        if let Some(config) = matches.try_get_one::<PathBuf>(CONFIG).map_err(fault)? {
            self.config = Some(config.clone());
        }
        self.print_config |= matches
            .try_get_one::<bool>(PRINT_CONFIG)
            .map_err(fault)?
            .copied()
            .unwrap_or(false);
        for row in TABLE {
            if let Some(words) = matches.try_get_many::<String>(row.key).map_err(fault)? {
                let origin = Origin::Flag(row.flag());
                self.flags.insert(
                    row.key,
                    Given {
                        words: words.cloned().collect(),
                        origin,
                    },
                );
            }
        }
        Ok(())
    }
}
