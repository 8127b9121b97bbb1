//! Fisher's exact test, one-sided: how likely it is that so many of the marked ones fell to one
//! group if the groups are alike.
//!
//! R. A. Fisher, "On the interpretation of χ² from contingency tables, and the calculation of P",
//! Journal of the Royal Statistical Society 85 (1922); the tail of the hypergeometric distribution.
//! It is exact for groups of any size, however unequal, and needs neither group's true rate.

/// A group of requests, and those among them that are marked: failed, or slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) marked: u64,
    pub(super) size: u64,
}

impl Group {
    /// The share that is marked; 0 of an empty group.
    pub(super) fn share(self) -> f64 {
        if self.size == 0 {
            0.0
        } else {
            self.marked as f64 / self.size as f64
        }
    }
}

/// The chance that `group` has as many of all marked ones as it has, or more, if it is like
/// `other`. 1 where it has no more than its part: then there is nothing to explain.
pub(super) fn excess(group: Group, other: Group) -> f64 {
    if group.share() <= other.share() {
        return 1.0;
    }
    let (size, marked) = (group.size as f64, (group.marked + other.marked) as f64);
    let total = size + other.size as f64;
    let unmarked = total - marked;
    let mut has = group.marked as f64;
    let mut chance =
        (ln_choose(marked, has) + ln_choose(unmarked, size - has) - ln_choose(total, size)).exp();
    // Above its mean, which is where an excess is, each term is smaller than the one before: the
    // sum can end when nothing is added any more.
    let mut sum = 0.0;
    while chance > sum * f64::EPSILON {
        sum += chance;
        chance *= (marked - has) * (size - has);
        has += 1.0;
        chance /= has * (unmarked - size + has);
    }
    sum.min(1.0)
}

/// The logarithm of the number of ways to choose `k` of `n`.
fn ln_choose(n: f64, k: f64) -> f64 {
    libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(marked: u64, size: u64) -> Group {
        Group { marked, size }
    }

    #[track_caller]
    fn near(found: f64, right: f64) {
        assert!(
            (found - right).abs() <= 1e-9 + right * 1e-6,
            "{found}, not {right}"
        );
    }

    /// Of whole numbers, as the definition has it.
    fn choose(n: u64, k: u64) -> u128 {
        (0..k).fold(1, |ways, i| ways * u128::from(n - i) / u128::from(i + 1))
    }

    #[test]
    fn the_lady_tasting_tea_is_answered_as_fisher_did() {
        // The Design of Experiments (1935): three of four cups right.
        near(excess(group(3, 4), group(1, 4)), 17.0 / 70.0);
        near(excess(group(4, 4), group(0, 4)), 1.0 / 70.0);
    }

    #[test]
    fn a_thousand_million_requests_are_no_trouble() {
        let p = excess(group(1_000_100, 100_000_000), group(9_000_000, 900_000_000));
        // The normal approximation: 90 more than 1,000,010, of a standard deviation of 944.
        assert!((0.45..0.47).contains(&p), "{p}");
        let p = excess(group(1_010_000, 100_000_000), group(9_000_000, 900_000_000));
        assert!(p < 1e-15, "{p}");
    }

    proptest! {
        #[test]
        fn it_is_the_sum_that_the_definition_has(
            (size, marked) in (1u64..40).prop_flat_map(|size| (Just(size), 0..=size)),
            (other_size, other_marked) in (1u64..40).prop_flat_map(|size| (Just(size), 0..=size)),
        ) {
            let (group, other) = (group(marked, size), group(other_marked, other_size));
            let all = marked + other_marked;
            let unmarked = size + other_size - all;
            let tail: u128 = (marked..=size.min(all))
                .filter(|has| size - has <= unmarked)
                .map(|has| choose(all, has) * choose(unmarked, size - has))
                .sum();
            let right = tail as f64 / choose(size + other_size, size) as f64;
            let found = excess(group, other);
            if group.share() > other.share() {
                prop_assert!((found - right).abs() < 1e-9, "{} not {}", found, right);
            } else {
                prop_assert_eq!(found, 1.0);
            }
        }

        #[test]
        fn one_more_failure_is_never_better(
            (size, marked) in (1u64..5_000).prop_flat_map(|size| (Just(size), 0..size)),
            (other_size, other_marked) in (1u64..500_000).prop_flat_map(|size| (Just(size), 0..=size)),
        ) {
            let other = group(other_marked, other_size);
            let fewer = excess(group(marked, size), other);
            let more = excess(group(marked + 1, size), other);
            prop_assert!(more <= fewer * (1.0 + 1e-6));
            prop_assert!((0.0..=1.0).contains(&more));
        }
    }
}
