//! Who moves rollouts on: each replica looks at those of its models, and of all replicas one holds the right to judge a
//! rollout, for a while, in the store. All tell there what their requests were like, every other second, and it judges by
//! all of it: also where a load balancer sends it none, and by what a replica told that is gone since. What it finds it
//! writes where everybody finds it, in the traffic rule.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_registry::{ModelName, Rollout, RolloutReport};
use aegis_telemetry::CircuitState;
use time::OffsetDateTime;

use super::{
    observed::Observed,
    rule::{Decision, Rule},
    watch::{Figures, Watch},
};
use crate::{
    breaker::Status,
    models::{Models, ModelsError},
    version::LoadedVersion,
};

/// How often a rollout is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// For how long the right to drive a rollout is taken: so long nobody goes on with it when its driver dies.
const LEASE: Duration = Duration::from_secs(15);

/// When it is taken again, and how often one who does not have it asks.
const RENEW: Duration = Duration::from_secs(5);

/// How often replicas tell one another what they saw.
const TELL: Duration = Duration::from_secs(2);

/// Drives this replica's part of the rollouts for ever.
pub(crate) async fn drive(models: Models) {
    let mut driver = Driver {
        me: name_of_this_replica(),
        models,
        rollouts: HashMap::new(),
    };
    loop {
        tokio::time::sleep(LOOK).await;
        if driver.models.started() {
            driver.look().await;
        }
    }
}

struct Driver {
    models: Models,
    me: String,
    rollouts: HashMap<ModelName, Driving>,
}

/// One rollout, as this replica knows it.
struct Driving {
    /// When to ask for the right to drive it, again.
    ask_at: Instant,
    drives: bool,
    /// When to tell the others, and hear them, again.
    tell_at: Instant,
    watch: Option<Watch>,
}

/// One look at one rollout.
struct Turn<'a> {
    models: &'a Models,
    me: &'a str,
    name: &'a ModelName,
    rollout: Rollout,
    /// Whether it is this replica that judges.
    drives: bool,
}

impl Driver {
    async fn look(&mut self) {
        let rollouts = self.models.rollouts();
        let is_over = |name: &ModelName| !rollouts.iter().any(|(other, _)| other == name);
        let over: Vec<_> = self.rollouts.extract_if(|name, _| is_over(name)).collect();
        for (name, _) in over {
            // Each removes them: this one's last may have come after the others' look.
            self.models.forget_rollout_reports(&name).await;
        }
        for (name, rollout) in rollouts {
            if let Err(error) = self.turn(&name, rollout).await {
                tracing::warn!(model = %name, %error, "the rollout stands still for now");
                if let Some(driving) = self.rollouts.get_mut(&name) {
                    driving.drives = false;
                    driving.ask_at = Instant::now() + RENEW;
                }
            }
        }
    }

    async fn turn(&mut self, name: &ModelName, known: Rollout) -> Result<(), ModelsError> {
        let (models, me) = (&self.models, self.me.as_str());
        let driving = self
            .rollouts
            .entry(name.clone())
            .or_insert_with(Driving::new);
        let taken = driving.may_drive(models, name, me, &known).await?;
        let turn = Turn {
            models,
            me,
            name,
            drives: taken.is_some(),
            rollout: taken.unwrap_or(known),
        };
        let rollout = &turn.rollout;
        let (stable, canary) = match models.compared(name, rollout).await {
            Ok(compared) => compared,
            Err(ModelsError::NotLoaded {
                version, message, ..
            }) if version == rollout.plan.version => {
                let why = format!("it does not load: {message}");
                return driving.is_unwell(&turn, why).await;
            }
            Err(error) => return Err(error),
        };
        let step = (rollout.step, rollout.since);
        driving.watch(step, &stable.observed, &canary.observed);
        if let Some(why) = opened(&stable, &canary) {
            return driving.is_unwell(&turn, why).await;
        }
        driving.exchange(&turn, None).await?;
        let Some(watch) = driving.watch.as_mut().filter(|_| turn.drives) else {
            return Ok(());
        };
        if let Some(why) = watch.unwell_elsewhere() {
            return models.withdraw_rollout(name, me, rollout, &why).await;
        }
        let rule = Rule::new(
            u32::try_from(rollout.compared_steps()).unwrap_or(u32::MAX),
            rollout.plan.min_requests,
        );
        match watch.look(&rule, is_over(rollout, OffsetDateTime::now_utc())) {
            Decision::Continue(waiting) => {
                tracing::debug!(model = %name, step = rollout.step, "the rollout waits {waiting}");
                Ok(())
            }
            Decision::Advance => models.advance_rollout(name, me, rollout).await,
            Decision::Withdraw { why } => {
                let why = why.to_string();
                models.withdraw_rollout(name, me, rollout, &why).await
            }
        }
    }
}

impl Driving {
    fn new() -> Driving {
        Driving {
            ask_at: Instant::now(),
            drives: false,
            tell_at: Instant::now(),
            watch: None,
        }
    }

    /// The rollout, if this replica drives it.
    async fn may_drive(
        &mut self,
        models: &Models,
        name: &ModelName,
        me: &str,
        known: &Rollout,
    ) -> Result<Option<Rollout>, ModelsError> {
        if Instant::now() < self.ask_at {
            return Ok(self.drives.then(|| known.clone()));
        }
        self.ask_at = Instant::now() + RENEW;
        let taken = models.drive_rollout(name, me, LEASE).await?;
        let drove = std::mem::replace(&mut self.drives, taken.is_some());
        if taken.is_some() && !drove {
            // What others saw is wanted before the first judgement.
            self.tell_at = Instant::now();
            tracing::info!(model = %name, "this replica drives the rollout");
        }
        Ok(taken)
    }

    /// Watches this step of these two, from now on if it is another than the last.
    fn watch(
        &mut self,
        step: (usize, OffsetDateTime),
        stable: &Arc<Observed>,
        canary: &Arc<Observed>,
    ) {
        let same = self.watch.as_ref();
        if !same.is_some_and(|watch| watch.is_of(step, stable, canary)) {
            self.watch = Some(Watch::begin(step, stable, canary));
            self.tell_at = Instant::now();
        }
    }

    /// Tells the others what was seen here and hears what they saw, if it is time.
    async fn exchange(
        &mut self,
        turn: &Turn<'_>,
        unwell: Option<String>,
    ) -> Result<(), ModelsError> {
        if Instant::now() < self.tell_at {
            return Ok(());
        }
        self.tell_at = Instant::now() + TELL;
        let Turn {
            models,
            name,
            rollout,
            ..
        } = turn;
        let figures = match &self.watch {
            Some(watch) => watch.figures(unwell),
            None => Figures {
                unwell,
                ..Figures::default()
            },
        };
        let report = RolloutReport {
            replica: turn.me.to_owned(),
            version: rollout.plan.version,
            step: rollout.step,
            since: rollout.since,
            figures: serde_json::to_value(&figures).unwrap_or_default(),
        };
        models.report_rollout(name, &report).await?;
        if let Some(watch) = self.watch.as_mut().filter(|_| turn.drives) {
            watch.hear(turn.me, models.rollout_reports(name, rollout).await?);
        }
        Ok(())
    }

    /// Withdraws the version for `why` it is unwell here, or tells who may.
    async fn is_unwell(&mut self, turn: &Turn<'_>, why: String) -> Result<(), ModelsError> {
        let Turn {
            models,
            me,
            name,
            rollout,
            drives,
        } = turn;
        match drives {
            true => models.withdraw_rollout(name, me, rollout, &why).await,
            false => self.exchange(turn, Some(why)).await,
        }
    }
}

/// Why the canary's circuit is open, if it is and stable's is not: what makes both fail speaks against neither. An open one
/// gets no requests to be judged by.
fn opened(stable: &LoadedVersion, canary: &LoadedVersion) -> Option<String> {
    let status = |version: &LoadedVersion| version.breaker.as_ref().map(|it| it.status());
    let closed = |status: &Status| status.state == CircuitState::Closed;
    let opened = status(canary).filter(|status| status.state == CircuitState::Open)?;
    let why = opened
        .why
        .map_or_else(String::new, |why| format!(": {why}"));
    status(stable)
        .is_none_or(|status| closed(&status))
        .then(|| format!("its circuit breaker opened{why}"))
}

/// Whether the step a rollout is at has lasted as long as it should.
fn is_over(rollout: &Rollout, now: OffsetDateTime) -> bool {
    now - rollout.since >= Duration::from_secs(rollout.plan.every_s)
}

/// A name that no other replica has, and that a person finds the replica by.
fn name_of_this_replica() -> String {
    let host = std::env::var("HOSTNAME")
        .or_else(|_| std::fs::read_to_string("/proc/sys/kernel/hostname"))
        .unwrap_or_else(|_| "replica".to_owned());
    let mut id = [0; 4];
    // Without randomness the time tells replicas of one host apart.
    if getrandom::fill(&mut id).is_err() {
        id = OffsetDateTime::now_utc().microsecond().to_be_bytes();
    }
    format!("{}-{:08x}", host.trim(), u32::from_be_bytes(id))
}
