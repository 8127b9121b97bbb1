//! [`Role`] and [`Roles`]: what somebody may do. The roles are apart: neither holds the other.

use std::{fmt, str::FromStr};

/// One thing to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To see, upload, promote and delete models.
    Manage,
    /// To ask models for predictions.
    Predict,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 2] = [Role::Manage, Role::Predict];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Manage => "manage",
            Role::Predict => "predict",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Some of the roles. Written as their words with commas between: `manage,predict`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles {
    manage: bool,
    predict: bool,
}

/// What is no list of roles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the roles are `manage`, `predict` or `manage,predict`, each once")]
pub struct InvalidRoles;

impl Roles {
    /// No role.
    pub const NONE: Roles = Roles {
        manage: false,
        predict: false,
    };

    /// These and one more.
    #[must_use]
    pub fn with(mut self, role: Role) -> Roles {
        match role {
            Role::Manage => self.manage = true,
            Role::Predict => self.predict = true,
        }
        self
    }

    /// These and those.
    #[must_use]
    pub fn and(self, other: Roles) -> Roles {
        Roles {
            manage: self.manage || other.manage,
            predict: self.predict || other.predict,
        }
    }

    /// Whether `role` is among them.
    pub fn has(self, role: Role) -> bool {
        match role {
            Role::Manage => self.manage,
            Role::Predict => self.predict,
        }
    }
}

impl FromStr for Role {
    type Err = InvalidRoles;

    fn from_str(word: &str) -> Result<Role, InvalidRoles> {
        let known = Role::ALL.into_iter().find(|role| role.as_str() == word);
        known.ok_or(InvalidRoles)
    }
}

impl FromStr for Roles {
    type Err = InvalidRoles;

    fn from_str(words: &str) -> Result<Roles, InvalidRoles> {
        let mut roles = Roles::NONE;
        for word in words.split(',') {
            let role: Role = word.parse()?;
            if roles.has(role) {
                return Err(InvalidRoles);
            }
            roles = roles.with(role);
        }
        Ok(roles)
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Roles {
        roles.into_iter().fold(Roles::NONE, Roles::with)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut among = Role::ALL.into_iter().filter(|role| self.has(*role));
        if let Some(first) = among.next() {
            f.write_str(first.as_str())?;
        }
        among.try_for_each(|role| write!(f, ",{role}"))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roles({self})")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn the_roles_are_apart() {
        let manage: Roles = "manage".parse().unwrap();
        assert!(manage.has(Role::Manage) && !manage.has(Role::Predict));
        let predict: Roles = "predict".parse().unwrap();
        assert!(predict.has(Role::Predict) && !predict.has(Role::Manage));
    }

    #[test]
    fn both_may_be_named_in_either_order_and_each_once() {
        for words in ["manage,predict", "predict,manage"] {
            assert_eq!(
                words.parse::<Roles>().unwrap().to_string(),
                "manage,predict"
            );
        }
        for words in [
            "",
            ",",
            "manage,",
            "manage,manage",
            "admin",
            "Manage",
            "manage predict",
        ] {
            assert_eq!(words.parse::<Roles>(), Err(InvalidRoles), "{words}");
        }
    }
}
