//! Where load comes from: users who wait for their answers, or arrivals that wait for nobody.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{
    arrivals::{Arrival, Random},
    span,
};

/// How long a user thinks between an answer and the next request: evenly spread over a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Think {
    /// The shortest thought.
    #[serde(serialize_with = "span::seconds")]
    pub min: Duration,
    /// The longest thought.
    #[serde(serialize_with = "span::seconds")]
    pub max: Duration,
}

impl Think {
    /// The mean thought.
    #[must_use]
    pub fn mean(self) -> Duration {
        (self.min + self.max) / 2
    }

    pub(crate) fn draw(self, random: &mut Random) -> Duration {
        self.min + self.max.saturating_sub(self.min).mul_f64(random.unit())
    }
}

/// Where the load of the matrix's cells comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Loads {
    /// Closed loop: users, each of whom asks again only after the last answer and a thought.
    Closed {
        /// How many users, for each cell.
        users: Vec<u32>,
        /// How long each thinks.
        think: Think,
    },
    /// Open loop of users who ask on a clock of their own, once per mean thought, whether answered
    /// or not.
    OpenUsers {
        /// How many users, for each cell.
        users: Vec<u32>,
        /// How long each thinks; only the mean matters.
        think: Think,
        /// How arrivals lie in time.
        arrival: Arrival,
    },
    /// Open loop at a rate.
    OpenRates {
        /// Arrivals a second, for each cell.
        rates: Vec<f64>,
        /// How arrivals lie in time.
        arrival: Arrival,
    },
}

/// The load of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "loop", rename_all = "lowercase")]
pub enum Load {
    /// Users who wait for their answer and think.
    Closed {
        /// How many.
        users: u32,
        /// How long each thinks.
        think: Think,
    },
    /// Arrivals that wait for nobody.
    Open {
        /// Arrivals a second.
        rate: f64,
        /// How they lie in time.
        arrival: Arrival,
        /// The users that the rate was made of, if it was.
        users: Option<u32>,
    },
}

impl Load {
    /// The number of users, where the load is one of users.
    #[must_use]
    pub const fn users(&self) -> Option<u32> {
        match self {
            Self::Closed { users, .. } => Some(*users),
            Self::Open { users, .. } => *users,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { users, .. } => write!(to, "{users} users"),
            Self::Open { rate, users, .. } => {
                if let Some(users) = users {
                    write!(to, "{users} users, ")?;
                }
                write!(to, "{}/s", (rate * 100.0).round() / 100.0)
            }
        }
    }
}
