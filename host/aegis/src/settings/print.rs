//! The settings written out: `--print-config`'s file, and the page of documentation.

use std::fmt::Write as _;

use super::layers::{CONFIG_VARIABLE, Origin};
use super::{Resolved, SettingInfo, TABLE};

impl Resolved {
    /// The settings as a TOML file that, loaded again, gives the same settings. Above each stands
    /// what it does, how else it can be set, and where its value is from.
    pub(crate) fn to_toml(&self) -> String {
        let mut page = String::from(
            "# The settings of aegis serve as they hold. Keep this as a file and start with --config FILE.\n",
        );
        let mut group = "";
        for entry in &self.entries {
            let row = entry.row;
            if row.group != group {
                group = row.group;
                line(&mut page, &format!("\n# -- {group} --"));
            }
            let origin = match &entry.origin {
                Origin::Default => "the default".to_owned(),
                origin => origin.to_string(),
            };
            line(&mut page, &format!("\n# {}", row.help()));
            line(
                &mut page,
                &format!(
                    "# --{}, {}.{} Here from: {origin}.",
                    row.flag(),
                    row.variable(),
                    or_else(row),
                ),
            );
            match &entry.value {
                Some(value) => line(&mut page, &format!("{} = {value}", row.key)),
                None => line(
                    &mut page,
                    &format!("# {} = \"{}\"", row.key, row.placeholder),
                ),
            }
        }
        page
    }
}

/// `docs/configuration.md`.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the page is written and checked by a test")
)]
pub(super) fn configuration_markdown() -> String {
    let mut page = format!(
        "{HEAD}\nThe file is named by `--config FILE` or `{CONFIG_VARIABLE}`; there is none by default.\n"
    );
    let mut group = "";
    for row in TABLE {
        if row.group != group {
            group = row.group;
            line(&mut page, &format!("\n## {group}\n"));
            line(
                &mut page,
                "| in the file | flag | environment | default | what |\n|---|---|---|---|---|",
            );
        }
        let default = match row.default {
            [] => "none".to_owned(),
            words => format!("`{}`", words.join(",")),
        };
        line(
            &mut page,
            &format!(
                "| `{}` | `--{} {}` | `{}` | {default} | {} Takes {}.{} |",
                row.key,
                row.flag(),
                row.placeholder,
                row.variable(),
                row.help(),
                (row.expects)(),
                or_else(row),
            ),
        );
    }
    page
}

/// What holds where nothing of ours says anything.
fn or_else(row: &SettingInfo) -> String {
    row.standard
        .map(|variable| format!(" Else {variable}."))
        .unwrap_or_default()
}

fn line(page: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{text}");
}

const HEAD: &str = "\
# Configuration

<!-- Written by `UPDATE_DOCS=1 cargo test -p aegis settings`. Edit host/aegis/src/settings/mod.rs instead. -->

Every setting of `aegis serve` can be given as a flag, as an environment variable, or in a TOML
file; the first of these that has it wins, then the default. `aegis serve --print-config` prints
what holds and where it is from, as a file that can be used as it is.

In the environment, an empty variable counts as not set, paths in a list are separated as in
`PATH` and names by commas, and `1` and `0` do for `true` and `false`. An `AEGIS_` variable that is
no setting is warned about; a key of the file that is none is refused. Relative paths start from the
folder the server was started in.
";
