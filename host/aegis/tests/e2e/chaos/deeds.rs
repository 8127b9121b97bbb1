//! The steps of a plan, done to a fleet, and how long what follows of them takes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    fleet::Fleet,
    plan::{Event, Fault, Health, Step},
    report::Report,
};
use crate::cli::aegis;
use crate::harness::{Fate, Package, StoreWire, eventually, said};

const MODEL: &str = "unwell";

/// How long a canary by hand stays.
const TRIAL: Duration = Duration::from_secs(1);

/// How often the rule is looked at, from whose end times are counted.
const LOOK: Duration = Duration::from_millis(50);

/// What is slow waits so long.
const SLOW_MS: u64 = 200;

/// A version and its package. What fails on it may run again on the next: callers do not see that a canary is bad.
pub(super) fn package(version: u64, health: Health) -> Package {
    let config = match health {
        Health::Well => String::new(),
        Health::Slow { one_in } => format!("slow_one_in = \"{one_in}\"\nwait_ms = \"{SLOW_MS}\""),
        Health::Failing { one_in } => format!("fail_one_in = \"{one_in}\""),
        Health::Trapping { one_in } => format!("trap_one_in = \"{one_in}\""),
    };
    Package::guest(MODEL)
        .replacing("handler.wasm\"\n", "handler.wasm\"\nidempotent = true\n")
        // Two cores have all of this to do: a request may have to wait for them.
        .and("[limits]\ntimeout_ms = 30000")
        .and(&format!("[config]\nname = \"version {version}\"\n{config}"))
}

/// A fleet that something happens to.
pub(super) struct Deeds {
    pub(super) fleet: Fleet,
    pub(super) report: Report,
    /// What should be stable by now.
    stable: u64,
}

impl Deeds {
    /// A fleet that serves version 1.
    pub(super) async fn begin() -> Option<Deeds> {
        let deeds = Deeds {
            fleet: Fleet::start().await?,
            report: Report::default(),
            stable: 1,
        };
        deeds.upload(0, 1, Health::Well).await;
        deeds.agree().await;
        deeds.fleet.is_reached().await;
        Some(deeds)
    }

    pub(super) async fn happen(&mut self, step: &Step) {
        let begun = Instant::now();
        let mut agreed = None;
        match step.event {
            Event::Upload { version, health } => self.upload(step.through, version, health).await,
            Event::Promote { version } => {
                self.ask(step.through, &["promote", MODEL, &version.to_string()])
                    .await;
                self.stable = version;
                agreed = Some(self.agree().await);
            }
            Event::RollBack { to } => {
                self.ask(step.through, &["rollback", MODEL]).await;
                self.stable = to;
                agreed = Some(self.agree().await);
            }
            Event::RollOut {
                version,
                health,
                meanwhile,
            } => {
                self.roll_out(step.through, version, health, meanwhile)
                    .await;
                agreed = Some(self.agree().await);
            }
            Event::Trial {
                version, weight, ..
            } => agreed = Some(self.try_out(step.through, version, weight).await),
            Event::Delete { version } => {
                self.ask(step.through, &["rm", MODEL, &version.to_string()])
                    .await;
            }
            Event::Fault(fault) => {
                self.fault(fault).await;
                agreed = Some(self.agree().await);
            }
            Event::RollingRestart => {
                self.fleet.restart_one_by_one().await;
                agreed = Some(self.agree().await);
            }
        }
        self.report.took(step.event.kind(), begun.elapsed(), agreed);
    }

    /// A command of the team's, which has to succeed.
    async fn ask(&self, through: usize, words: &[&str]) {
        said(&aegis(self.fleet.server(through), words).await);
    }

    async fn upload(&self, through: usize, version: u64, health: Health) {
        let uploaded = self
            .fleet
            .server(through)
            .upload(&package(version, health))
            .await;
        assert_eq!(uploaded.is(201).json()["version"], version);
    }

    /// How long it takes until every replica sends all to the version that is stable.
    async fn agree(&self) -> Duration {
        let begun = Instant::now();
        self.fleet.agree(&[(self.stable, 100.0)]).await;
        begun.elapsed()
    }

    async fn try_out(&self, through: usize, version: u64, weight: u64) -> Duration {
        let (number, share) = (version.to_string(), weight.to_string());
        self.ask(through, &["canary", MODEL, &number, "--weight", &share])
            .await;
        let begun = Instant::now();
        let rest = 100.0 - weight as f64;
        self.fleet
            .agree(&[(self.stable, rest), (version, weight as f64)])
            .await;
        let agreed = begun.elapsed();
        tokio::time::sleep(TRIAL).await;
        self.ask(through, &["canary", MODEL, "--off"]).await;
        agreed.max(self.agree().await)
    }

    /// To the rollout's end.
    async fn roll_out(
        &mut self,
        through: usize,
        version: u64,
        health: Health,
        meanwhile: Option<Fault>,
    ) {
        // What is bad has to be seen before its step is over; and a driver has to be found before the end.
        let every = match (health, meanwhile) {
            (Health::Well, None) => "1s",
            (Health::Well, Some(_)) => "3s",
            _ => "1m",
        };
        let driving = self.fleet.driving();
        let number = version.to_string();
        let wish = [
            "canary",
            MODEL,
            &number,
            "--steps",
            "30,100",
            "--every",
            every,
            "--min-requests",
            "30",
        ];
        self.ask(through, &wish).await;
        let end = end_of_rollout(Arc::clone(&self.fleet.wire), Instant::now());
        let beside = async {
            match meanwhile {
                Some(Fault::KillDriver { down }) => self.kill_driver(driving, down).await,
                Some(fault) => self.fault(fault).await,
                None => {}
            }
        };
        let ((end, took), ()) = tokio::join!(end, beside);
        let withdrawn = end["action"] == "withdraw_rollout";
        assert_eq!(end["version"], version, "{end}");
        if withdrawn {
            let why = end["why"].as_str().unwrap();
            self.report
                .withdrawn(health, meanwhile.is_some(), took, why);
        }
        if health == Health::Well && withdrawn {
            // By chance: one in a hundred may be. The plan goes on with it.
            self.ask(through, &["promote", MODEL, &number]).await;
        }
        assert!(withdrawn || health == Health::Well, "{end}");
        if health == Health::Well {
            self.stable = version;
        }
    }

    /// Kills whoever drives the rollout, and waits until another does. What is very bad may be withdrawn before.
    async fn kill_driver(&mut self, mut before: Vec<usize>, down: Duration) {
        let driver = eventually("a driver", async || self.fleet.drives_since(&before)).await;
        let killed = Instant::now();
        self.fleet.kill(driver, down).await;
        // It comes back as another one.
        before[driver] = 0;
        let wire = Arc::clone(&self.fleet.wire);
        let taken_over = eventually("another driver", async || {
            match self.fleet.drives_since(&before) {
                Some(_) => Some(true),
                None => ended(&wire).await.map(|_| false),
            }
        })
        .await;
        if taken_over {
            self.report.taken_over(killed.elapsed());
        }
    }

    async fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Kill { replica, down } => self.fleet.kill(replica, down).await,
            Fault::StoreAway { silent, away } => {
                self.fleet.wire.all(match silent {
                    true => Fate::Silence,
                    false => Fate::Lost,
                });
                tokio::time::sleep(away).await;
                self.fleet.wire.restore();
                self.fleet.reach_the_store().await;
            }
            Fault::KillDriver { .. } => unreachable!("of no rollout there is no driver"),
        }
    }
}

/// The change that ends the rollout under way, and how long after its beginning the store has it.
async fn end_of_rollout(wire: Arc<StoreWire>, begun: Instant) -> (Value, Duration) {
    eventually("the rollout's end", async || {
        Some((ended(&wire).await?, begun.elapsed()))
    })
    .await
}

/// The last change, once no rollout is under way.
async fn ended(wire: &StoreWire) -> Option<Value> {
    tokio::time::sleep(LOOK).await;
    let rule = wire.object("models/unwell/traffic.json").await;
    let rule: Value = serde_json::from_str(&rule).unwrap();
    let last = rule["history"].as_array().unwrap().last().cloned();
    last.filter(|_| rule["rollout"].is_null())
}
