//! What happens to a fleet, in which order, through whom and for how long: all that chance decides, decided beforehand by
//! a seed. It begins with version 1, which is stable.

use std::{collections::BTreeMap, fmt, time::Duration};

use rand::{
    RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus, seq::IndexedRandom as _,
    seq::SliceRandom as _,
};

pub(super) const REPLICAS: usize = 3;

/// A plan of so many steps has every [`Kind`].
pub(super) const SHORTEST: usize = 26;

/// Versions that a team keeps; beyond that it deletes.
const KEPT: usize = 8;

/// How a version is, for one number in so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    Slow { one_in: u64 },
    Failing { one_in: u64 },
    Trapping { one_in: u64 },
}

/// What goes wrong by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL, and a new process after a while.
    Kill { replica: usize, down: Duration },
    /// The same for whoever drives the rollout that is under way.
    KillDriver { down: Duration },
    /// Whoever speaks to the store is cut off, or gets no answer.
    StoreAway { silent: bool, away: Duration },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Upload {
        version: u64,
        health: Health,
    },
    Promote {
        version: u64,
    },
    /// To its end, which is its withdrawal where it is not well.
    RollOut {
        version: u64,
        health: Health,
        meanwhile: Option<Fault>,
    },
    /// A canary by hand, for a moment.
    Trial {
        version: u64,
        health: Health,
        weight: u64,
    },
    RollBack {
        to: u64,
    },
    Delete {
        version: u64,
    },
    Fault(Fault),
    RollingRestart,
}

/// An event, the replica that it is asked of, and how long nothing happens afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) event: Event,
    pub(super) through: usize,
    pub(super) pause: Duration,
}

/// What every plan has at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Upload,
    Promote,
    RollOut,
    RollOutSlow,
    RollOutFailing,
    RollOutTrapping,
    DriverKilled,
    Trial,
    RollBack,
    Delete,
    Killed,
    StoreAway,
    RollingRestart,
}

impl Kind {
    pub(super) const ALL: [Kind; 13] = [
        Kind::Upload,
        Kind::Promote,
        Kind::RollOut,
        Kind::RollOutSlow,
        Kind::RollOutFailing,
        Kind::RollOutTrapping,
        Kind::DriverKilled,
        Kind::Trial,
        Kind::RollBack,
        Kind::Delete,
        Kind::Killed,
        Kind::StoreAway,
        Kind::RollingRestart,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Kind::Upload => "a version is uploaded",
            Kind::Promote => "a version is promoted",
            Kind::RollOut => "a rollout of a version that is well",
            Kind::RollOutSlow => "a rollout of one that is slow",
            Kind::RollOutFailing => "a rollout of one that fails",
            Kind::RollOutTrapping => "a rollout of one that traps",
            Kind::DriverKilled => "a rollout whose driver is killed",
            Kind::Trial => "a canary by hand of one that is not well",
            Kind::RollBack => "a rollback",
            Kind::Delete => "a version is deleted",
            Kind::Killed => "a replica is killed and started again",
            Kind::StoreAway => "the store is cut off and back",
            Kind::RollingRestart => "a rolling restart",
        }
    }
}

impl Event {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Event::Upload { .. } => Kind::Upload,
            Event::Promote { .. } => Kind::Promote,
            Event::RollOut {
                health: Health::Well,
                meanwhile: Some(Fault::KillDriver { .. }),
                ..
            } => Kind::DriverKilled,
            Event::RollOut { health, .. } => match health {
                Health::Well => Kind::RollOut,
                Health::Slow { .. } => Kind::RollOutSlow,
                Health::Failing { .. } => Kind::RollOutFailing,
                Health::Trapping { .. } => Kind::RollOutTrapping,
            },
            Event::Trial { .. } => Kind::Trial,
            Event::RollBack { .. } => Kind::RollBack,
            Event::Delete { .. } => Kind::Delete,
            Event::Fault(Fault::StoreAway { .. }) => Kind::StoreAway,
            Event::Fault(_) => Kind::Killed,
            Event::RollingRestart => Kind::RollingRestart,
        }
    }
}

/// So many steps of what that seed decides; a longer plan begins as a shorter one.
pub(super) fn plan(seed: u64, length: usize) -> Vec<Step> {
    let mut planned = Planned {
        chance: Xoshiro256PlusPlus::seed_from_u64(seed),
        versions: BTreeMap::from([(1, Health::Well)]),
        stable: 1,
        before: None,
        last: 1,
        steps: Vec::new(),
    };
    while planned.steps.len() < length {
        planned.round();
    }
    planned.steps.truncate(length);
    planned.steps
}

/// The plan so far, and what will be when it was done.
struct Planned {
    chance: Xoshiro256PlusPlus,
    versions: BTreeMap<u64, Health>,
    stable: u64,
    /// Where a rollback leads.
    before: Option<u64>,
    /// The last number that was given.
    last: u64,
    steps: Vec<Step>,
}

impl Planned {
    /// Every kind once, in any order, and before it what it takes.
    fn round(&mut self) {
        let mut kinds = Kind::ALL;
        kinds.shuffle(&mut self.chance);
        for kind in kinds {
            self.one_of(kind);
        }
        while self.versions.len() > KEPT {
            self.one_of(Kind::Delete);
        }
    }

    fn one_of(&mut self, kind: Kind) {
        let one_in = self.chance.random_range(1..=5);
        match kind {
            Kind::Upload => {
                self.upload(Health::Well);
            }
            Kind::Promote => {
                let version = self.another_that_is_well();
                self.add(Event::Promote { version });
                self.make_stable(version);
            }
            Kind::RollOut => self.roll_out_well(None),
            Kind::DriverKilled => {
                let down = self.millis(200..2000);
                self.roll_out_well(Some(Fault::KillDriver { down }));
            }
            Kind::RollOutSlow => self.roll_out(Health::Slow { one_in }),
            Kind::RollOutFailing => self.roll_out(Health::Failing { one_in }),
            Kind::RollOutTrapping => self.roll_out(Health::Trapping { one_in }),
            Kind::Trial => {
                let healths = [
                    Health::Slow { one_in },
                    Health::Failing { one_in },
                    Health::Trapping { one_in },
                ];
                let health = *healths.choose(&mut self.chance).unwrap();
                let version = self.upload(health);
                let weight = self.chance.random_range(5..=50);
                self.add(Event::Trial {
                    version,
                    health,
                    weight,
                });
            }
            Kind::RollBack => {
                if self.before.is_none() {
                    self.one_of(Kind::Promote);
                }
                let to = self.before.unwrap();
                self.add(Event::RollBack { to });
                self.make_stable(to);
            }
            Kind::Delete => {
                if self.deletable().is_empty() {
                    self.upload(Health::Well);
                }
                let version = *self.deletable().choose(&mut self.chance).unwrap();
                self.add(Event::Delete { version });
                self.versions.remove(&version);
            }
            Kind::Killed => {
                let kill = self.kill();
                self.add(Event::Fault(kill));
            }
            Kind::StoreAway => {
                let away = self.store_away();
                self.add(Event::Fault(away));
            }
            Kind::RollingRestart => self.add(Event::RollingRestart),
        }
    }

    fn add(&mut self, event: Event) {
        let through = self.chance.random_range(0..REPLICAS);
        let pause = self.millis(0..600);
        self.steps.push(Step {
            event,
            through,
            pause,
        });
    }

    fn upload(&mut self, health: Health) -> u64 {
        self.last += 1;
        let version = self.last;
        self.add(Event::Upload { version, health });
        self.versions.insert(version, health);
        version
    }

    fn roll_out_well(&mut self, meanwhile: Option<Fault>) {
        let version = self.another_that_is_well();
        self.add(Event::RollOut {
            version,
            health: Health::Well,
            meanwhile,
        });
        self.make_stable(version);
    }

    /// One rollout in four has other troubles too.
    fn roll_out(&mut self, health: Health) {
        let version = self.upload(health);
        let meanwhile = match self.chance.random_range(0..12) {
            0 => Some(self.kill()),
            1 => Some(self.store_away()),
            2 => Some(Fault::KillDriver {
                down: self.millis(200..2000),
            }),
            _ => None,
        };
        self.add(Event::RollOut {
            version,
            health,
            meanwhile,
        });
    }

    fn kill(&mut self) -> Fault {
        Fault::Kill {
            replica: self.chance.random_range(0..REPLICAS),
            down: self.millis(0..2000),
        }
    }

    fn store_away(&mut self) -> Fault {
        Fault::StoreAway {
            silent: self.chance.random_bool(0.5),
            away: self.millis(1000..4000),
        }
    }

    fn make_stable(&mut self, version: u64) {
        self.before = Some(std::mem::replace(&mut self.stable, version));
    }

    /// One that may become stable.
    fn another_that_is_well(&mut self) -> u64 {
        let well = self.versions.iter().filter(|it| *it.1 == Health::Well);
        let others: Vec<_> = well
            .map(|it| *it.0)
            .filter(|it| *it != self.stable)
            .collect();
        match others.choose(&mut self.chance) {
            Some(version) => *version,
            None => self.upload(Health::Well),
        }
    }

    /// A rollback has to find what it leads to.
    fn deletable(&self) -> Vec<u64> {
        let needed = |version: &u64| *version == self.stable || Some(*version) == self.before;
        let versions = self.versions.keys().copied();
        versions.filter(|version| !needed(version)).collect()
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.chance.random_range(range))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step {
            event,
            through,
            pause,
        } = self;
        write!(f, "{event:?} through {through}, then {pause:?}")
    }
}
