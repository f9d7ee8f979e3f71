//! Which sequence numbers of a session were seen: requests of one runner may overtake each other, none counts twice.

/// A sliding window over the newest 64 numbers, as RFC 4303 §3.4.3 has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SequenceWindow {
    newest: u64,
    seen: u64,
}

impl SequenceWindow {
    /// Takes note of `number`. False if it was seen before, or is too old to tell.
    #[must_use]
    pub fn take(&mut self, number: u64) -> bool {
        if number > self.newest || self.seen == 0 {
            let ahead = number - self.newest;
            self.seen = if ahead < 64 { self.seen << ahead } else { 0 } | 1;
            self.newest = number;
            return true;
        }
        let behind = self.newest - number;
        if behind >= 64 || self.seen & (1 << behind) != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn late_ones_count_once_and_very_late_ones_not_at_all() {
        let mut window = SequenceWindow::default();
        let mut check = |number: u64, expect: bool| assert_eq!(window.take(number), expect, "{number}");
        check(0, true);
        check(0, false);
        check(5, true);
        check(3, true);
        check(3, false);
        check(68, true);
        check(5, false);
        check(4, false);
        check(6, true);
        check(u64::MAX, true);
        check(u64::MAX, false);
    }

    proptest! {
        #[test]
        fn no_number_counts_twice(numbers in proptest::collection::vec(0_u64..200, 0..300)) {
            let mut window = SequenceWindow::default();
            let mut taken = BTreeSet::new();
            for number in numbers {
                let newest = taken.last().copied().unwrap_or(0);
                let fresh = !taken.contains(&number) && number + 64 > newest;
                prop_assert_eq!(window.take(number), fresh);
                if fresh {
                    taken.insert(number);
                }
            }
        }
    }
}
