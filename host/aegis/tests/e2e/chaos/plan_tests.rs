//! What holds of every plan, whatever the seed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    SEED, STEPS,
    plan::{Event, Fault, Health, Kind, REPLICAS, SHORTEST, Step, plan},
};

/// Does what the steps say as a registry would, and says which of them it would refuse.
fn illegal(steps: &[Step]) -> Option<Step> {
    let mut versions = BTreeMap::from([(1, Health::Well)]);
    let mut stables = vec![1];
    let mut given = 1;
    steps.iter().copied().find(|step| {
        let stable = *stables.last().unwrap();
        let legal = match step.event {
            Event::Upload { version, health } => {
                given += 1;
                versions.insert(version, health);
                version == given
            }
            Event::Promote { version } => {
                stables.push(version);
                version != stable && versions.get(&version) == Some(&Health::Well)
            }
            Event::RollOut {
                version, health, ..
            } => {
                if health == Health::Well {
                    stables.push(version);
                }
                version != stable && versions.get(&version) == Some(&health)
            }
            Event::Trial {
                version,
                health,
                weight,
            } => version != stable && versions.get(&version) == Some(&health) && weight <= 100,
            Event::RollBack { to } => {
                let before = stables.iter().rev().find(|it| **it != stable).copied();
                stables.push(to);
                before == Some(to) && versions.contains_key(&to)
            }
            Event::Delete { version } => version != stable && versions.remove(&version).is_some(),
            // Of no rollout there is no driver.
            Event::Fault(Fault::KillDriver { .. }) => false,
            Event::Fault(Fault::Kill { replica, .. }) => replica < REPLICAS,
            Event::Fault(Fault::StoreAway { .. }) | Event::RollingRestart => true,
        };
        !legal || step.through >= REPLICAS
    })
}

proptest! {
    #[test]
    fn every_step_of_every_plan_can_be_done(seed: u64, length in 0..300_usize) {
        let steps = plan(seed, length);
        prop_assert_eq!(steps.len(), length);
        prop_assert_eq!(illegal(&steps), None);
    }

    #[test]
    fn every_plan_has_every_kind(seed: u64) {
        let kinds: BTreeSet<_> = plan(seed, SHORTEST).iter().map(|step| step.event.kind()).collect();
        prop_assert_eq!(kinds, BTreeSet::from(Kind::ALL));
    }

    #[test]
    fn a_seed_always_means_the_same(seed: u64, length in 0..300_usize) {
        prop_assert_eq!(&plan(seed, length), &plan(seed, 300)[..length]);
    }
}

#[test]
fn seeds_differ() {
    assert_ne!(plan(1, SHORTEST), plan(2, SHORTEST));
}

#[test]
fn the_plan_of_ci_has_every_kind() {
    let steps = plan(SEED, STEPS);
    let kinds: BTreeSet<_> = steps.iter().map(|step| step.event.kind()).collect();
    assert_eq!(kinds, BTreeSet::from(Kind::ALL));
}
