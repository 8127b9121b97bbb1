//! Who was passed by on the way to a version that answers, because its breaker was open, and who answers all the same
//! if nobody else does.

use std::time::Duration;

use super::Part;
use crate::breaker::{Breaker, Open};

/// Those passed by, of all that were asked so far. `V` is a version.
#[derive(Debug)]
pub(crate) struct Passed<V> {
    /// In line, so the last that does not refuse stands for all before it.
    resort: Option<(Part, V)>,
    /// Who refuses, and is first to be asked again.
    refusing: Option<(V, Open)>,
}

/// All who might answer were passed by, and each refuses.
#[derive(Debug, PartialEq)]
pub(crate) struct NobodyAnswers<V> {
    /// The one that is asked again first.
    pub(crate) version: V,
    /// In this time.
    pub(crate) retry_after: Duration,
}

impl<V> Default for Passed<V> {
    fn default() -> Self {
        Passed {
            resort: None,
            refusing: None,
        }
    }
}

impl<V> Passed<V> {
    /// The next in line does not let the request in.
    pub(crate) fn note(&mut self, part: Part, version: V, breaker: &Breaker, open: Open) {
        if !breaker.refuses_alone() {
            self.resort = Some((part, version));
        } else if self
            .refusing
            .as_ref()
            .is_none_or(|(_, sooner)| open.retry_after < sooner.retry_after)
        {
            self.refusing = Some((version, open));
        }
    }

    /// Nobody lets the request in: who answers it all the same? `None` if nobody was passed by at all.
    pub(crate) fn last_resort(self) -> Option<Result<(Part, V), NobodyAnswers<V>>> {
        let refused = |(version, Open { retry_after })| {
            Err(NobodyAnswers {
                version,
                retry_after,
            })
        };
        self.resort.map(Ok).or(self.refusing.map(refused))
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )]

    use std::sync::Arc;

    use aegis_registry::manifest;
    use aegis_telemetry::CircuitState;
    use proptest::prelude::*;

    use super::*;
    use crate::breaker::{Passage, Policy, Verdict};

    const TOOK: Duration = Duration::from_millis(1);
    const WELL: Verdict = Verdict::Success { took: TOOK };
    const UNWELL: Verdict = Verdict::Failure { took: TOOK };

    /// Three versions in line, each with a breaker that opens at three failures.
    fn line(refuse: [bool; 3]) -> [(Part, Arc<Breaker>); 3] {
        let breaker = |refuse| {
            let wishes = manifest::Breaker {
                consecutive_failures: Some(3),
                refuse_alone: Some(refuse),
                ..manifest::Breaker::default()
            };
            Breaker::new(Policy::new(&wishes).unwrap(), None, |_, _| ())
        };
        let [canary, stable, fallback] = refuse.map(breaker);
        [
            (Part::Canary, canary),
            (Part::Stable, stable),
            (Part::Fallback, fallback),
        ]
    }

    /// Who gets the next request, by the way that routing goes.
    fn next(line: &[(Part, Arc<Breaker>)]) -> Result<(Part, Option<Passage>), Duration> {
        let mut passed = Passed::default();
        for (part, breaker) in line {
            match breaker.lets_in() {
                Ok(()) => return Ok((*part, Some(breaker.admit().unwrap()))),
                Err(open) => passed.note(*part, Arc::clone(breaker), breaker, open),
            }
        }
        match passed.last_resort().unwrap() {
            Ok((part, breaker)) => Ok((part, breaker.admit().ok())),
            Err(nobody) => Err(nobody.retry_after),
        }
    }

    /// Three requests that a version fails, or more, and the ones before it in line already have.
    fn trip(line: &[(Part, Arc<Breaker>)], part: Part) {
        for _ in 0..3 {
            let (answered, passage) = next(line).unwrap();
            assert_eq!(answered, part);
            passage.unwrap().end(UNWELL);
        }
    }

    fn who(line: &[(Part, Arc<Breaker>)]) -> Part {
        next(line).unwrap().0
    }

    #[tokio::test(start_paused = true)]
    async fn each_that_is_unwell_makes_way_for_the_next() {
        let line = line([false; 3]);
        for (part, then) in [
            (Part::Canary, Part::Stable),
            (Part::Stable, Part::Fallback),
            // The last one answers all the same.
            (Part::Fallback, Part::Fallback),
        ] {
            trip(&line, part);
            assert_eq!(who(&line), then);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_probes_while_the_others_go_on_to_the_next() {
        let line = line([false; 3]);
        let (_, canary) = &line[0];
        trip(&line, Part::Canary);
        while canary.state() != CircuitState::HalfOpen {
            assert_eq!(who(&line), Part::Stable);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (part, probe) = next(&line).unwrap();
        assert_eq!(part, Part::Canary);
        for _ in 0..10 {
            assert_eq!(who(&line), Part::Stable);
        }
        probe.unwrap().end(WELL);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(canary.state(), CircuitState::Closed);
        for _ in 0..10 {
            assert_eq!(who(&line), Part::Canary);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_refuse_the_caller_is_told_when_the_first_is_probed() {
        let line = line([true; 3]);
        trip(&line, Part::Canary);
        tokio::time::sleep(Duration::from_millis(100)).await;
        trip(&line, Part::Stable);
        trip(&line, Part::Fallback);
        let waits = line
            .iter()
            .map(|(_, breaker)| breaker.lets_in().unwrap_err().retry_after);
        assert_eq!(next(&line).err(), waits.min());
    }

    proptest! {
        /// Whatever opens when, and whoever refuses: a request goes to the first in line that lets it in; if none does, to
        /// the last that does not refuse; it is refused only if all do.
        #[test]
        fn the_first_that_is_well_answers(refuse: [bool; 3], open: [bool; 3]) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let line = line(refuse);
                for ((_, breaker), open) in line.iter().zip(open) {
                    for _ in 0..3 {
                        breaker.admit().unwrap().end(if open { UNWELL } else { WELL });
                    }
                }
                let wanted = open
                    .iter()
                    .position(|open| !open)
                    .or(refuse.iter().rposition(|refuses| !refuses))
                    .map(|at| line[at].0);
                assert_eq!(next(&line).ok().map(|(part, _)| part), wanted);
            });
        }
    }
}
