//! `aegis canary|shadow|fallback|rollback`: who answers how much of a model's requests.

use std::time::Duration;

use aegis_loadtest::span;
use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Connection, Output, print, print_json};

/// Put a version on trial with a share of the requests, or end its trial.
///
/// With --steps the share rises by itself while the version fails no more often and its p99 is no longer than stable's,
/// and the version is made stable at 100 %; else it is withdrawn, and `aegis history` says why.
#[derive(clap::Args, Debug)]
pub(crate) struct CanaryArgs {
    /// The model.
    name: String,
    /// The version.
    #[arg(required_unless_present = "off")]
    version: Option<u64>,
    /// Its share of the requests, in percent: 0 to 100 in steps of 0.1.
    #[arg(long, value_name = "PERCENT", required_unless_present_any = ["off", "steps"])]
    weight: Option<f64>,
    /// Shares that it gets one after the other, such as 1,5,25,50,100.
    #[arg(
        long,
        value_name = "PERCENT,...",
        value_delimiter = ',',
        conflicts_with = "weight"
    )]
    steps: Vec<f64>,
    /// How long each step lasts at least.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "2m",
        value_parser = span::parse,
        requires = "steps",
        conflicts_with = "weight"
    )]
    every: Duration,
    /// The requests that each of both versions must have had in a step.
    #[arg(long, value_name = "N", requires = "steps", conflicts_with = "weight")]
    min_requests: Option<u64>,
    /// End it.
    #[arg(long, conflicts_with_all = ["version", "weight", "steps"])]
    off: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Send a version copies of a share of the requests. Its answers are compared and counted, and nobody gets them.
#[derive(clap::Args, Debug)]
pub(crate) struct ShadowArgs {
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
    #[serde(default)]
    rollout: Option<Rollout>,
}

/// A canary that goes on by itself.
#[derive(Deserialize)]
struct Rollout {
    steps: Vec<f64>,
    step: usize,
    every_s: u64,
}

#[derive(Deserialize)]
pub(super) struct Share {
    pub(super) version: u64,
    pub(super) weight: f64,
}

pub(crate) async fn canary(args: CanaryArgs) -> anyhow::Result<()> {
    let wish = match (args.version, args.weight) {
        (Some(version), Some(weight)) => json!({ "version": version, "weight": weight }),
        (Some(version), None) => {
            let mut wish = json!({
                "version": version,
                "steps": args.steps,
                "every_s": args.every.as_secs(),
            });
            if let (Some(wish), Some(min)) = (wish.as_object_mut(), args.min_requests) {
                wish.insert("min_requests".to_owned(), min.into());
            }
            wish
        }
        (None, _) => Value::Null,
    };
    change(&args.connection, &args.name, &json!({ "canary": wish })).await
}

pub(crate) async fn shadow(args: ShadowArgs) -> anyhow::Result<()> {
    let wish = match (args.version, args.weight) {
        (Some(version), Some(weight)) => json!({ "version": version, "weight": weight }),
        _ => Value::Null,
    };
    change(&args.connection, &args.name, &json!({ "shadow": wish })).await
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

impl Rollout {
    fn step(&self) -> String {
        let (step, of, every) = (self.step + 1, self.steps.len(), self.every_s);
        format!(" in step {step} of {of}, which take {every} s each at least")
    }
}

impl Rule {
    /// Who answers what, as one says it.
    pub(super) fn sentence(&self) -> String {
        let share = |share: &Share, what: &str| {
            format!("version {} {what} {} %", share.version, share.weight)
        };
        let parts = [
            self.stable.map_or_else(
                || Some("no version answers".to_owned()),
                |stable| Some(format!("version {stable} is stable")),
            ),
            (self.canary.as_ref()).map(|canary| {
                let step = self.rollout.as_ref().map(Rollout::step).unwrap_or_default();
                share(canary, "is the canary and answers") + &step
            }),
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
            rollout: Some(Rollout {
                steps: vec![12.5, 50.0, 100.0],
                step: 0,
                every_s: 120,
            }),
            shadow: share(3, 5.0),
        };
        assert_eq!(
            rule.sentence(),
            "version 1 is stable; version 2 is the canary and answers 12.5 % \
             in step 1 of 3, which take 120 s each at least; \
             version 3 is the shadow and sees 5 %; version 1 is the fallback"
        );
        assert_eq!(rule.parts_of(1), "stable, fallback");
        assert_eq!(rule.parts_of(2), "canary 12.5 %");
        assert_eq!(rule.parts_of(3), "shadow 5 %");
        assert_eq!(rule.parts_of(4), "");
    }
}
