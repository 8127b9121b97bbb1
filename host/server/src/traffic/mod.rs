//! Which version a request goes to: by the model's rule and a key of the caller's. Here is the choice; loading versions,
//! and passing by those that are unwell, is the business of [`crate::models`].

pub(crate) mod likeness;
mod passed;
pub(crate) mod shadow;

use aegis_registry::{Canary, ModelName, Shadow, Traffic, Version, Weight};
use sha2::{Digest as _, Sha256};

pub(crate) use passed::{NobodyAnswers, Passed};

/// A model's traffic rule as requests need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) stable: Option<Version>,
    pub(crate) canary: Option<Canary>,
    pub(crate) fallback: Option<Version>,
    pub(crate) shadow: Option<Shadow>,
}

impl From<&Traffic> for Rule {
    fn from(traffic: &Traffic) -> Rule {
        Rule {
            stable: traffic.stable,
            canary: traffic.canary,
            fallback: traffic.fallback,
            shadow: traffic.shadow,
        }
    }
}

/// In what part a version answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Stable,
    Canary,
    /// In the place of one that is unwell.
    Fallback,
    /// The caller asked for it by number.
    Named,
}

impl Part {
    /// The word in answers' headers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Part::Stable => "stable",
            Part::Canary => "canary",
            Part::Fallback => "fallback",
            Part::Named => "named",
        }
    }
}

impl Rule {
    /// Who is to answer, first choice first: whoever is unwell is passed by.
    pub(crate) fn line(
        &self,
        name: &ModelName,
        key: &[u8],
    ) -> impl Iterator<Item = (Part, Version)> + use<> {
        let canary = self
            .canary
            .filter(|canary| falls_to(canary.weight, name, b"canary", canary.version, key))
            .map(|canary| (Part::Canary, canary.version));
        let stable = self.stable.map(|stable| (Part::Stable, stable));
        let fallback = self
            .fallback
            .filter(|fallback| Some(*fallback) != self.stable)
            .map(|fallback| (Part::Fallback, fallback));
        [canary, stable, fallback].into_iter().flatten()
    }

    /// The version that gets a copy of the request.
    pub(crate) fn shadow(&self, name: &ModelName, key: &[u8]) -> Option<Version> {
        self.shadow
            .filter(|shadow| falls_to(shadow.weight, name, b"shadow", shadow.version, key))
            .map(|shadow| shadow.version)
    }

    /// Every version that has a part, each once.
    pub(crate) fn versions(&self) -> Vec<Version> {
        let canary = self.canary.map(|canary| canary.version);
        let shadow = self.shadow.map(|shadow| shadow.version);
        let mut versions = Vec::with_capacity(4);
        for version in [self.stable, canary, self.fallback, shadow]
            .into_iter()
            .flatten()
        {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        versions
    }

    /// The share of the requests that a version answers while all are well, 0 to 1.
    pub(crate) fn share(&self, version: Version) -> f64 {
        let canary = self
            .canary
            .map_or(0.0, |canary| canary.weight.percent() / 100.0);
        match self.canary {
            Some(trial) if trial.version == version => canary,
            _ if self.stable == Some(version) => 1.0 - canary,
            _ => 0.0,
        }
    }
}

/// Whether a key is among the `weight` of all keys that fall to `version` in its part.
///
/// A key has a place between 0 and 999 and falls to the version if that is below the weight: so a caller stays where it
/// is while the weight stays, and whoever was with the version before stays with it as the weight grows. Every version
/// has an order of its own, so that it is not the same callers who try everything first. Places come of SHA-256, which
/// is the same on every replica, whatever it was built with.
fn falls_to(weight: Weight, name: &ModelName, part: &[u8], version: Version, key: &[u8]) -> bool {
    if weight == Weight::ALL || weight == Weight::ZERO {
        return weight == Weight::ALL;
    }
    let mut hash = Sha256::new();
    for word in [part, name.as_str().as_bytes(), &version.get().to_le_bytes()] {
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word);
    }
    hash.update(key);
    let digest = hash.finalize();
    let number = digest
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    number % 1000 < u64::from(weight.per_mille())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn version(number: u64) -> Version {
        Version::new(number).unwrap()
    }

    fn weight(per_mille: u16) -> Weight {
        Weight::from_percent(f64::from(per_mille) / 10.0).unwrap()
    }

    fn trial(per_mille: u16) -> Rule {
        Rule {
            stable: Some(version(1)),
            canary: Some(Canary {
                version: version(2),
                weight: weight(per_mille),
            }),
            ..Rule::default()
        }
    }

    fn first(rule: &Rule, key: &[u8]) -> (Part, Version) {
        rule.line(&"m".parse().unwrap(), key).next().unwrap()
    }

    #[test]
    fn all_and_nothing_are_exact() {
        for key in 0..10_000_u32 {
            let key = key.to_le_bytes();
            assert_eq!(first(&trial(0), &key), (Part::Stable, version(1)));
            assert_eq!(first(&trial(1000), &key), (Part::Canary, version(2)));
        }
    }

    #[test]
    fn whoever_is_unwell_has_someone_behind_it() {
        let name = "m".parse().unwrap();
        let rule = Rule {
            fallback: Some(version(3)),
            ..trial(1000)
        };
        let line: Vec<_> = rule.line(&name, b"key").collect();
        assert_eq!(
            line,
            [
                (Part::Canary, version(2)),
                (Part::Stable, version(1)),
                (Part::Fallback, version(3))
            ]
        );
        let rule = Rule {
            stable: Some(version(1)),
            fallback: Some(version(1)),
            ..Rule::default()
        };
        assert_eq!(rule.line(&name, b"key").count(), 1);
        assert_eq!(Rule::default().line(&name, b"key").count(), 0);
    }

    proptest! {
        /// Of 20,000 keys, the share is within four standard deviations of the weight.
        #[test]
        fn shares_are_as_weights(per_mille in 1_u16..1000, salt in any::<u64>()) {
            const KEYS: u32 = 20_000;
            let rule = trial(per_mille);
            let canary = (0..KEYS)
                .filter(|key| {
                    let key = [salt.to_le_bytes().as_slice(), &key.to_le_bytes()].concat();
                    first(&rule, &key).0 == Part::Canary
                })
                .count() as f64;
            let wanted = f64::from(per_mille) / 1000.0;
            let deviation = (f64::from(KEYS) * wanted * (1.0 - wanted)).sqrt();
            let off = (canary - f64::from(KEYS) * wanted).abs();
            prop_assert!(off <= 4.5 * deviation + 1.0, "{canary} of {KEYS} at {per_mille}");
        }

        /// A caller stays where it is, and stays with the canary when that gets more.
        #[test]
        fn callers_stay(before in 0_u16..=1000, more in 0_u16..=1000, key in any::<Vec<u8>>()) {
            let after = (before + more).min(1000);
            let (then, now) = (first(&trial(before), &key), first(&trial(after), &key));
            prop_assert_eq!(then, first(&trial(before), &key));
            if then.0 == Part::Canary {
                prop_assert_eq!(now.0, Part::Canary);
            }
        }

        /// What of the traffic each version has adds up.
        #[test]
        fn shares_add_up(per_mille in 0_u16..=1000) {
            let rule = trial(per_mille);
            let sum: f64 = rule.versions().into_iter().map(|version| rule.share(version)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9);
        }
    }
}
