//! How much load there is when: straight lines between points. The named shapes, the seeds' two
//! scenarios, and a CSV of one's own.

use std::{fmt, str::FromStr};

/// What a load counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadKind {
    /// Users who ask, wait for the answer, think, and ask again (a closed loop).
    Users,
    /// Requests a second, whatever the answers (an open loop).
    RequestsPerSecond,
}

/// Load over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    name: String,
    kind: LoadKind,
    /// Seconds and load; times never fall, and may be equal where the load jumps.
    points: Vec<(f64, f64)>,
}

/// Why a profile makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// There is no such shape.
    #[error(
        "`{0}` is no profile: there are step, ramp, spike, day, gradual (the seeds' scenario 1), \
         surge (their scenario 2), and any file whose name ends in .csv"
    )]
    Name(String),
    /// The header is not one of the two.
    #[error("line 1 is `{0}`, and must be `time,users` or `time,rps`")]
    Header(String),
    /// A line cannot be read.
    #[error("line {line}: {reason}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// There is no time between first and last.
    #[error("a profile needs two points at least; this has {0}")]
    TooShort(usize),
}

impl Profile {
    fn new(name: &str, points: &[(f64, f64)]) -> Self {
        Self {
            name: name.to_owned(),
            kind: LoadKind::Users,
            points: points.to_vec(),
        }
    }

    /// The seeds' scenario 1: 50 to 200 users by steps over minutes, then back to 100.
    pub fn gradual() -> Self {
        Self::new(
            "gradual",
            &[
                (0.0, 50.0),
                (60.0, 50.0),
                (120.0, 100.0),
                (180.0, 150.0),
                (270.0, 150.0),
                (300.0, 200.0),
                (450.0, 200.0),
                (480.0, 100.0),
                (1200.0, 100.0),
            ],
        )
    }

    /// The seeds' scenario 2: 50 users, then 400 within 30 s.
    pub fn surge() -> Self {
        Self::new("surge", &[(0.0, 50.0), (30.0, 400.0), (480.0, 400.0)])
    }

    /// From 50 to 200 users at once, after five minutes.
    pub fn step() -> Self {
        let points = [(0.0, 50.0), (300.0, 50.0), (300.0, 200.0), (1800.0, 200.0)];
        Self::new("step", &points)
    }

    /// From 50 to 400 users over half an hour.
    pub fn ramp() -> Self {
        let points = [(0.0, 50.0), (300.0, 50.0), (2100.0, 400.0), (2700.0, 400.0)];
        Self::new("ramp", &points)
    }

    /// 400 users for five minutes out of 50.
    pub fn spike() -> Self {
        let points = [
            (0.0, 50.0),
            (300.0, 50.0),
            (330.0, 400.0),
            (630.0, 400.0),
            (660.0, 50.0),
            (2400.0, 50.0),
        ];
        Self::new("spike", &points)
    }

    /// 24 hours: 20 users at night, 100 by day, and the seeds' peak of two hours at 300.
    pub fn day() -> Self {
        let hours = [
            (0.0, 30.0),
            (2.0, 20.0),
            (5.0, 20.0),
            (8.0, 90.0),
            (12.0, 110.0),
            (13.0, 90.0),
            (16.0, 110.0),
            (18.5, 140.0),
            (19.0, 300.0),
            (21.0, 300.0),
            (21.5, 120.0),
            (24.0, 30.0),
        ];
        Self::new("day", &hours.map(|(hour, users)| (hour * 3600.0, users)))
    }

    /// From a CSV with the header `time,users` or `time,rps`: seconds, and load from then on, in a
    /// straight line to the next.
    ///
    /// # Errors
    /// With the line of a load below zero or missing, of a time that does not rise, or of a gap: a
    /// distance of more than three times the usual (the median).
    pub fn from_csv(name: &str, text: &str) -> Result<Self, ProfileError> {
        let mut lines = text.lines().enumerate();
        let header = lines.next().map_or("", |(_, line)| line).trim();
        let kind = match header.replace(' ', "").as_str() {
            "time,users" => LoadKind::Users,
            "time,rps" => LoadKind::RequestsPerSecond,
            _ => return Err(ProfileError::Header(header.to_owned())),
        };
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut numbers = Vec::new();
        for (index, text) in lines {
            let line = index + 1;
            let refuse = |reason: String| Err(ProfileError::Line { line, reason });
            if text.trim().is_empty() {
                continue;
            }
            let Some((time, load)) = text.split_once(',') else {
                return refuse(format!("`{text}` has no comma: write a time and a load"));
            };
            let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
            let Some(time) = number(time) else {
                return refuse(format!("`{}` is no time in seconds", time.trim()));
            };
            if load.trim().is_empty() {
                return refuse(format!(
                    "the load at {time} s is missing: leave no gaps, write 0 where there was none"
                ));
            }
            let Some(load) = number(load) else {
                return refuse(format!("`{}` is no load", load.trim()));
            };
            if load < 0.0 {
                return refuse(format!("the load is {load}, and cannot be below 0"));
            }
            if let Some((before, _)) = points.last()
                && time <= *before
            {
                return refuse(format!(
                    "the time {time} s does not come after the one before, {before} s: sort by time"
                ));
            }
            points.push((time, load));
            numbers.push(line);
        }
        if points.len() < 2 {
            return Err(ProfileError::TooShort(points.len()));
        }
        let times = || points.iter().map(|(time, _)| *time);
        let mut distances: Vec<f64> = times().skip(1).zip(times()).map(|(b, a)| b - a).collect();
        let found = distances.clone();
        distances.sort_by(f64::total_cmp);
        let usual = distances.get(distances.len() / 2).copied().unwrap_or(0.0);
        if let Some(index) = found.iter().position(|distance| *distance > 3.0 * usual) {
            let line = numbers.get(index + 1).copied().unwrap_or(0);
            let gap = found.get(index).copied().unwrap_or(0.0);
            return Err(ProfileError::Line {
                line,
                reason: format!(
                    "there is a gap of {gap} s before it, where points are {usual} s apart: fill it in"
                ),
            });
        }
        // The recording begins when it begins.
        let begin = points.first().map_or(0.0, |(time, _)| *time);
        Ok(Self {
            name: name.to_owned(),
            kind,
            points: points.iter().map(|(t, load)| (t - begin, *load)).collect(),
        })
    }

    /// A load that was measured, a value a second; before it there was none.
    ///
    /// # Errors
    /// With the second, as the line, of a load that is below zero or no number; where there is none.
    pub fn every_second(name: &str, kind: LoadKind, loads: &[f64]) -> Result<Self, ProfileError> {
        let wrong = |load: &f64| !(load.is_finite() && *load >= 0.0);
        if let Some(index) = loads.iter().position(wrong) {
            return Err(ProfileError::Line {
                line: index + 1,
                reason: "the load of this second is no number of 0 or more".to_owned(),
            });
        }
        let Some(last) = loads.last() else {
            return Err(ProfileError::TooShort(0));
        };
        let seconds = loads.iter().chain([last]).enumerate();
        let points = seconds.map(|(second, load)| (second as f64, *load));
        Ok(Self {
            name: name.to_owned(),
            kind,
            points: std::iter::once((0.0, 0.0)).chain(points).collect(),
        })
    }

    /// The shape's or the file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its numbers count.
    pub fn kind(&self) -> LoadKind {
        self.kind
    }

    /// In seconds.
    pub fn duration(&self) -> f64 {
        self.points.last().map_or(0.0, |(time, _)| *time)
    }

    /// The load at a time, in seconds; before the first point the first, after the last the last.
    pub fn at(&self, time: f64) -> f64 {
        let next = self.points.partition_point(|(at, _)| *at <= time);
        let point = |index: usize| self.points.get(index).copied();
        match (next.checked_sub(1).and_then(point), point(next)) {
            (Some((t0, a)), Some((t1, b))) => a + (b - a) * (time - t0) / (t1 - t0),
            (Some((_, load)), None) | (None, Some((_, load))) => load,
            (None, None) => 0.0,
        }
    }

    /// The load over the whole time, in load times seconds.
    pub fn integral(&self) -> f64 {
        let points = || self.points.iter();
        points()
            .zip(points().skip(1))
            .map(|((t0, a), (t1, b))| (t1 - t0) * (a + b) / 2.0)
            .sum()
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    /// One of the named shapes.
    fn from_str(name: &str) -> Result<Self, ProfileError> {
        match name {
            "step" => Ok(Self::step()),
            "ramp" => Ok(Self::ramp()),
            "spike" => Ok(Self::spike()),
            "day" => Ok(Self::day()),
            "gradual" => Ok(Self::gradual()),
            "surge" => Ok(Self::surge()),
            _ => Err(ProfileError::Name(name.to_owned())),
        }
    }
}

impl fmt::Display for LoadKind {
    /// As a column's title.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Users => "users",
            Self::RequestsPerSecond => "rps",
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn load_is_in_straight_lines_and_may_jump() {
        let step = Profile::step();
        assert_eq!(step.at(-5.0), 50.0);
        assert_eq!(step.at(299.9), 50.0);
        assert_eq!(step.at(300.0), 200.0);
        assert_eq!(step.at(1e9), 200.0);
        assert_eq!(Profile::surge().at(15.0), 225.0);
        assert_eq!(Profile::surge().integral(), 225.0 * 30.0 + 400.0 * 450.0);
        assert_eq!(Profile::day().duration(), 86_400.0);
    }

    #[test]
    fn a_recording_begins_when_it_begins() {
        let profile = Profile::from_csv("a.csv", "time,rps\n100,5\n110,15\n120,0\n").unwrap();
        assert_eq!(profile.kind(), LoadKind::RequestsPerSecond);
        assert_eq!((profile.at(5.0), profile.duration()), (10.0, 20.0));
    }

    #[test]
    fn a_measured_load_begins_out_of_nothing_and_lasts_as_many_seconds() {
        let of = |loads: &[f64]| Profile::every_second("a", LoadKind::RequestsPerSecond, loads);
        let profile = of(&[10.0, 20.0]).unwrap();
        assert_eq!((profile.at(-1.0), profile.at(0.0)), (0.0, 10.0));
        assert_eq!((profile.at(0.5), profile.at(1.5)), (15.0, 20.0));
        assert_eq!(profile.duration(), 2.0);
        assert!(of(&[]).is_err());
        for wrong in [-1.0, f64::NAN] {
            let told = of(&[1.0, wrong]).unwrap_err().to_string();
            assert!(told.contains("line 2"), "{told}");
        }
    }

    #[test]
    fn a_profile_that_makes_no_sense_is_refused_with_its_line() {
        for (text, words) in [
            ("users\n1\n", "must be `time,users` or `time,rps`"),
            ("time,users\n0,5\n", "this has 1"),
            ("time,users\n0,5\n10,-1\n", "line 3: the load is -1"),
            (
                "time,users\n0,5\n10,\n20,5\n",
                "line 3: the load at 10 s is missing",
            ),
            ("time,users\n0,5\n10,many\n", "line 3: `many` is no load"),
            ("time,users\n0,5\n10,NaN\n", "line 3: `NaN` is no load"),
            (
                "time,users\n10,5\n0,5\n",
                "line 3: the time 0 s does not come after",
            ),
            ("time,users\n10,5\n10,5\n", "sort by time"),
            ("time,users\nnoon,5\n", "line 2: `noon` is no time"),
            ("time,users\n0 5\n", "line 2: `0 5` has no comma"),
            (
                "time,users\n0,5\n10,5\n20,5\n60,5\n",
                "line 5: there is a gap of 40 s",
            ),
        ] {
            let told = Profile::from_csv("a.csv", text).unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
        assert!(
            "peak"
                .parse::<Profile>()
                .unwrap_err()
                .to_string()
                .contains("`peak`")
        );
    }
}
