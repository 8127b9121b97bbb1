//! `docs/limits.md`, made from the tables in code: what a manifest may ask for, what the
//! operator sets, and what going over comes to.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use std::{fmt::Write as _, fs, path::Path};

use aegis_registry::manifest::Limits;
use aegis_server::{LIMIT_OUTCOMES, LimitOutcome};

use crate::settings::{SettingInfo, TABLE as SETTINGS};

const HEAD: &str = "\
# Limits

<!-- Written by `UPDATE_DOCS=1 cargo test --workspace --bin aegis limits_page`. Edit host/registry/src/manifest/limits.rs and host/server/src/limits_table.rs instead. -->

Everything that a handler, a network, a manifest or a request can use up has a bound. A
manifest's `[limits]` says what the model wants, within the range of the key; what it does not
name has the default. The operator's ceilings (`ceilings` in [configuration.md](configuration.md))
win over both: a manifest that asks for more is taken, gets the ceiling, and the answer to its
upload says so under `warnings`, beside the `limits` that hold.

Whatever is refused for a limit is counted in `aegis_limit_refusals_total`, by model and limit,
also where the handler swallows the refusal and answers all the same; then one line in the log,
with the request's id, names the limits. The instance of a request that ended badly is thrown
away; the next request gets another.
";

const OWN: &str = "
## The operator's own

What no manifest can ask for; see [configuration.md](configuration.md) for flags and variables.

| setting | default | what |
|---|---|---|
";

const BEYOND: &str = "
## Beyond a limit

What the handler sees of it, what its caller is answered, and the word that it is counted under.
\"The handler's\" answer: the handler is told and decides.

| limit | the handler | the answer | counted as |
|---|---|---|---|
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str(
        "\n## In a manifest\n\n| key | default | ceiling | least | most | what |\n|---|---|---|---|---|---|\n",
    );
    for row in Limits::TABLE {
        let (key, default, ceiling) = (row.key, row.default, row.ceiling);
        let (min, max, doc) = (row.min, row.max, row.doc);
        line(
            &mut page,
            &format!("| `{key}` | {default} | {ceiling} | {min} | {max} | {doc} |"),
        );
    }
    page.push_str(OWN);
    for setting in operators() {
        let default = setting.default.join(",");
        line(
            &mut page,
            &format!("| `{}` | {default} | {} |", setting.key, setting.help()),
        );
    }
    page.push_str(BEYOND);
    for outcome in LIMIT_OUTCOMES {
        let keys: Vec<_> = outcome.keys.iter().map(|key| format!("`{key}`")).collect();
        let counted = outcome
            .counted
            .map_or_else(|| "—".to_owned(), |limit| format!("`{limit}`"));
        line(
            &mut page,
            &format!(
                "| {} | {} | {} | {counted} |",
                or(&keys.join(", "), "data of one call into the host"),
                or(outcome.handler, "—"),
                outcome.answer,
            ),
        );
    }
    page
}

fn or<'a>(text: &'a str, nothing: &'a str) -> &'a str {
    if text.is_empty() { nothing } else { text }
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a String takes all");
}

/// The settings that are limits and no manifest's.
fn operators() -> impl Iterator<Item = &'static SettingInfo> {
    SETTINGS
        .iter()
        .filter(|setting| outcomes().any(|key| key == setting.key))
}

fn outcomes() -> impl Iterator<Item = &'static str> {
    LIMIT_OUTCOMES
        .iter()
        .flat_map(|outcome: &LimitOutcome| outcome.keys.iter().copied())
}

#[test]
fn every_limit_with_an_outcome_is_a_manifests_or_a_setting() {
    for key in outcomes() {
        let of_manifest = Limits::TABLE.iter().any(|row| row.key == key);
        let of_operator = SETTINGS.iter().any(|setting| setting.key == key);
        assert!(of_manifest != of_operator, "{key}");
    }
}

#[test]
fn the_page_of_limits_is_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/limits.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == page(),
        "docs/limits.md is not what the tables say; run: \
         UPDATE_DOCS=1 cargo test --workspace --bin aegis limits_page"
    );
}
