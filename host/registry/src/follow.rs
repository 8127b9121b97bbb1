//! Following a store that others write to: which models changed since the last look, by the ETags of
//! one listing, so that looking costs the same however large the models are.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::name::ModelName;
use crate::registry::Registry;
use crate::store::Listed;

/// What the store was at the last look.
pub struct Follower {
    registry: Registry,
    seen: BTreeMap<ModelName, Objects>,
}

/// The objects of one model and their tags. Where a store gives none, every look is a change.
type Objects = Vec<(String, Option<String>)>;

impl Follower {
    /// One that has seen nothing yet: its first look finds every model.
    pub fn new(registry: Registry) -> Self {
        let seen = BTreeMap::new();
        Self { registry, seen }
    }

    /// The models whose traffic rule or versions are not what they were at the last look, those
    /// that are new or gone among them. An error leaves what was seen, so nothing is missed.
    pub async fn look(&mut self) -> Result<Vec<ModelName>> {
        let mut now: BTreeMap<ModelName, Objects> = BTreeMap::new();
        for object in self.registry.0.store.list(None).await? {
            let (name, key, tag) = match object {
                Listed::Version { name, version, tag } => (name, version.to_string(), tag),
                Listed::Traffic { name, tag } => (name, "traffic".to_owned(), tag),
            };
            now.entry(name).or_default().push((key, tag));
        }
        for objects in now.values_mut() {
            objects.sort();
        }
        let is_other = |name: &&ModelName| match (self.seen.get(*name), now.get(*name)) {
            (Some(before), Some(now)) => before != now || now.iter().any(|(_, tag)| tag.is_none()),
            _ => true,
        };
        let mut changed: Vec<ModelName> = self
            .seen
            .keys()
            .chain(now.keys())
            .filter(is_other)
            .cloned()
            .collect();
        changed.sort();
        changed.dedup();
        self.seen = now;
        Ok(changed)
    }

    /// Forgets what was seen of a model: the next look finds it again.
    pub fn forget(&mut self, name: &ModelName) {
        self.seen.remove(name);
    }
}
