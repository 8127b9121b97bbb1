//! `aegis canary|shadow|fallback|rollback`: who answers how much of a model's requests.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Connection, Output, print, print_json};

/// Put a version on trial with a share of the requests, or end its trial.
#[derive(clap::Args, Debug)]
pub(crate) struct CanaryArgs {
    #[command(flatten)]
    trial: Trial,
}

/// Send a version copies of a share of the requests. Its answers are compared and counted, and nobody gets them.
#[derive(clap::Args, Debug)]
pub(crate) struct ShadowArgs {
    #[command(flatten)]
    trial: Trial,
}

#[derive(clap::Args, Debug)]
struct Trial {
    /// The model.
    name: String,
    /// The version.
    #[arg(required_unless_present = "off")]
    version: Option<u64>,
    /// Its share of the requests, in percent: 0 to 100 in steps of 0.1.
    #[arg(long, value_name = "PERCENT", required_unless_present = "off")]
    weight: Option<f64>,
    /// End it.
    #[arg(long, conflicts_with_all = ["version", "weight"])]
    off: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Name the version that takes over while the one that should answer is unhealthy.
#[derive(clap::Args, Debug)]
pub(crate) struct FallbackArgs {
    /// The model.
    name: String,
    /// The version.
    #[arg(required_unless_present = "off")]
    version: Option<u64>,
    /// Have none.
    #[arg(long, conflicts_with = "version")]
    off: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Make the version stable again that was before the present one, and end a canary's trial.
#[derive(clap::Args, Debug)]
pub(crate) struct RollbackArgs {
    /// The model.
    name: String,
    #[command(flatten)]
    connection: Connection,
}

/// What the server says of a model's rule.
#[derive(Deserialize)]
pub(super) struct Rule {
    pub(super) stable: Option<u64>,
    #[serde(default)]
    pub(super) canary: Option<Share>,
    #[serde(default)]
    pub(super) fallback: Option<u64>,
    #[serde(default)]
    pub(super) shadow: Option<Share>,
}

#[derive(Deserialize)]
pub(super) struct Share {
    pub(super) version: u64,
    pub(super) weight: f64,
}

pub(crate) async fn canary(args: CanaryArgs) -> anyhow::Result<()> {
    trial("canary", args.trial).await
}

pub(crate) async fn shadow(args: ShadowArgs) -> anyhow::Result<()> {
    trial("shadow", args.trial).await
}

async fn trial(part: &str, trial: Trial) -> anyhow::Result<()> {
    let wish = match (trial.version, trial.weight) {
        (Some(version), Some(weight)) => json!({ "version": version, "weight": weight }),
        _ => Value::Null,
    };
    change(&trial.connection, &trial.name, &json!({ part: wish })).await
}

pub(crate) async fn fallback(args: FallbackArgs) -> anyhow::Result<()> {
    let wish = json!({ "fallback": args.version });
    change(&args.connection, &args.name, &wish).await
}

pub(crate) async fn rollback(args: RollbackArgs) -> anyhow::Result<()> {
    let connection = &args.connection;
    let path = format!("/v1/models/{}/rollback", args.name);
    let request = connection.client()?.post(connection.url(&path));
    let answer = connection.json(request).await?;
    tell(connection, &args.name, answer)
}

async fn change(connection: &Connection, name: &str, wish: &Value) -> anyhow::Result<()> {
    let path = format!("/v1/models/{name}/traffic");
    let request = connection.client()?.put(connection.url(&path)).json(wish);
    let answer = connection.json(request).await?;
    tell(connection, name, answer)
}

fn tell(connection: &Connection, name: &str, answer: Value) -> anyhow::Result<()> {
    if connection.output == Output::Json {
        return print_json(&answer);
    }
    let traffic = answer.get("traffic").cloned().unwrap_or_default();
    let rule: Rule = serde_json::from_value(traffic)
        .context("the server's answer is of another version of Aegis")?;
    print(&format!("{name}: {}", rule.sentence()))
}

impl Rule {
    /// Who answers what, as one says it.
    fn sentence(&self) -> String {
        let share = |share: &Share, what: &str| {
            format!("version {} {what} {} %", share.version, share.weight)
        };
        let parts = [
            self.stable.map_or_else(
                || Some("no version answers".to_owned()),
                |stable| Some(format!("version {stable} is stable")),
            ),
            (self.canary.as_ref()).map(|canary| share(canary, "is the canary and answers")),
            (self.shadow.as_ref()).map(|shadow| share(shadow, "is the shadow and sees")),
            self.fallback
                .map(|fallback| format!("version {fallback} is the fallback")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// The parts that a version has, in short; nothing if it has none.
    pub(super) fn parts_of(&self, version: u64) -> String {
        let share = |share: &Option<Share>, word: &str| {
            share
                .as_ref()
                .filter(|share| share.version == version)
                .map(|share| format!("{word} {} %", share.weight))
        };
        let parts = [
            (self.stable == Some(version)).then(|| "stable".to_owned()),
            share(&self.canary, "canary"),
            share(&self.shadow, "shadow"),
            (self.fallback == Some(version)).then(|| "fallback".to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_told_in_a_sentence_and_by_version() {
        let share = |version, weight| Some(Share { version, weight });
        let rule = Rule {
            stable: Some(1),
            canary: share(2, 12.5),
            fallback: Some(1),
            shadow: share(3, 5.0),
        };
        assert_eq!(
            rule.sentence(),
            "version 1 is stable; version 2 is the canary and answers 12.5 %; \
             version 3 is the shadow and sees 5 %; version 1 is the fallback"
        );
        assert_eq!(rule.parts_of(1), "stable, fallback");
        assert_eq!(rule.parts_of(2), "canary 12.5 %");
        assert_eq!(rule.parts_of(3), "shadow 5 %");
        assert_eq!(rule.parts_of(4), "");
    }
}
