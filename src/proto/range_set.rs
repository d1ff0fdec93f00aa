//! A set of byte (or number) ranges: which bytes are stored, which wait to be sent.
//!
//! Ranges never touch or overlap: touching ones are merged on insertion, so the number of
//! ranges is the number of holes between them (plus one).

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint, non-touching, non-empty ranges of `u64`, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start of each range -> its end (exclusive).
    ranges: BTreeMap<u64, u64>,
    /// Sum of the lengths of all ranges.
    covered: u64,
}

/// Bytes of memory that a tree holds, roughly, without what its keys and values own.
///
/// A leaf has 11 places, of which 6 are taken where a tree was filled in order and 7 or 8 where it
/// was not; a sixth more is for the nodes above. What was emptied keeps its root.
pub fn tree_bytes<K, V>(tree: &BTreeMap<K, V>) -> usize {
    let leaf = 11 * size_of::<(K, V)>() + 16;
    match tree.len() {
        0 => 0,
        1..12 => leaf,
        entries => entries.div_ceil(7) * (leaf + leaf / 6),
    }
}

impl RangeSet {
    /// An empty set.
    pub fn new() -> RangeSet {
        RangeSet::default()
    }

    /// Number of values covered.
    pub fn covered(&self) -> u64 {
        self.covered
    }

    /// Number of separate ranges.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// Bytes of memory held, roughly.
    pub fn memory_bytes(&self) -> usize {
        tree_bytes(&self.ranges)
    }

    /// Whether nothing is covered.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The first range.
    pub fn first(&self) -> Option<Range<u64>> {
        self.ranges.first_key_value().map(|(&start, &end)| start..end)
    }

    /// The last range.
    pub fn last(&self) -> Option<Range<u64>> {
        self.ranges.last_key_value().map(|(&start, &end)| start..end)
    }

    /// All ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    /// The range that covers `value`, if any.
    pub fn range_of(&self, value: u64) -> Option<Range<u64>> {
        let (&start, &end) = self.ranges.range(..=value).next_back()?;
        (end > value).then_some(start..end)
    }

    /// The first range that ends behind `value`.
    pub fn first_from(&self, value: u64) -> Option<Range<u64>> {
        self.range_of(value).or_else(|| {
            let (&start, &end) = self.ranges.range(value..).next()?;
            Some(start..end)
        })
    }

    /// The parts of `range`, which is not empty, that are covered, in ascending order.
    pub fn covered_parts(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let Range { start, end } = *range;
        let first = self.first_from(start).map_or(end, |found| found.start.min(end));
        let touched = self.ranges.range(first..end);
        touched.map(move |(&from, &to)| from.max(start)..to.min(end))
    }

    /// Whether all of `range` is covered. An empty range always is.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty() || self.range_of(range.start).is_some_and(|found| found.end >= range.end)
    }

    /// Whether adding `range` would make one more separate range.
    pub fn would_split_off(&self, range: &Range<u64>) -> bool {
        match self.ranges.range(..=range.end).next_back() {
            Some((_, &end)) => end < range.start,
            None => true,
        }
    }

    /// Adds `range`; returns how many values were not covered before.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        // The usual case: the range continues the last one that starts at or before it.
        let (mut start, mut end) = (range.start, range.end);
        let mut swallowed = 0;
        while let Some((&other_start, &other_end)) = self.ranges.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            swallowed += other_end - other_start;
            start = start.min(other_start);
            end = end.max(other_end);
            self.ranges.remove(&other_start);
        }
        self.ranges.insert(start, end);
        let added = (end - start) - swallowed;
        self.covered += added;
        added
    }

    /// Takes `range` out; returns how many values were covered before.
    pub fn remove(&mut self, range: &Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let mut removed = 0;
        while let Some((&start, &end)) = self.ranges.range(..range.end).next_back() {
            if end <= range.start {
                break;
            }
            self.ranges.remove(&start);
            if start < range.start {
                self.ranges.insert(start, range.start);
            }
            if end > range.end {
                self.ranges.insert(range.end, end);
            }
            removed += end.min(range.end) - start.max(range.start);
        }
        self.covered -= removed;
        removed
    }

    /// Takes at most `limit` values off the front of the first range.
    pub fn pop_first(&mut self, limit: u64) -> Option<Range<u64>> {
        let first = self.first()?;
        let taken = first.start..first.end.min(first.start.saturating_add(limit));
        self.remove(&taken);
        (!taken.is_empty()).then_some(taken)
    }

    /// The parts of `range` that are not covered, in ascending order.
    pub fn gaps(&self, range: Range<u64>) -> Gaps<'_> {
        let next = match self.range_of(range.start) {
            Some(found) => found.end,
            None => range.start,
        };
        Gaps { set: self, next, end: range.end }
    }
}

/// Iterator over the uncovered parts of a range, see [`RangeSet::gaps`].
#[derive(Debug)]
pub struct Gaps<'a> {
    set: &'a RangeSet,
    next: u64,
    end: u64,
}

impl Iterator for Gaps<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        if self.next >= self.end {
            return None;
        }
        let start = self.next;
        let (gap_end, resume) = match self.set.ranges.range(start..).next() {
            Some((&covered_start, &covered_end)) => (covered_start.min(self.end), covered_end),
            None => (self.end, self.end),
        };
        self.next = resume;
        Some(start..gap_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set_of_single_values(
            operations in proptest::collection::vec((any::<bool>(), 0u64..120, 0u64..30), 1..60)
        ) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for (insert, start, length) in operations {
                let range = start..start + length;
                let before = model.len();
                if insert {
                    model.extend(range.clone());
                    prop_assert_eq!(set.insert(range.clone()), (model.len() - before) as u64);
                } else {
                    model.retain(|value| !range.contains(value));
                    prop_assert_eq!(set.remove(&range), (before - model.len()) as u64);
                }
                prop_assert_eq!(set.covered(), model.len() as u64);
                let flat: Vec<u64> = set.iter().flatten().collect();
                prop_assert_eq!(&flat, &model.iter().copied().collect::<Vec<_>>());
                let mut last_end = None;
                for found in set.iter() {
                    prop_assert!(!found.is_empty());
                    prop_assert!(last_end.is_none_or(|end| found.start > end), "touching");
                    last_end = Some(found.end);
                }
                let gaps: Vec<u64> = set.gaps(10..100).flatten().collect();
                let model_gaps: Vec<u64> = (10..100).filter(|v| !model.contains(v)).collect();
                prop_assert_eq!(gaps, model_gaps);
                let parts: Vec<u64> = set.covered_parts(&(10..100)).flatten().collect();
                let model_parts: Vec<u64> = model.range(10..100).copied().collect();
                prop_assert_eq!(parts, model_parts);
                prop_assert_eq!(set.last(), set.iter().last());
                prop_assert_eq!(set.contains(&range), range.clone().all(|v| model.contains(&v)));
            }
        }
    }

    #[test]
    fn touching_ranges_become_one() {
        let mut set = RangeSet::new();
        set.insert(0..10);
        set.insert(20..30);
        assert!(set.would_split_off(&(11..15)));
        assert!(!set.would_split_off(&(10..15)));
        assert_eq!(set.insert(10..20), 10);
        assert_eq!(set.iter().collect::<Vec<_>>(), vec![0..30]);
    }

    #[test]
    fn the_front_is_taken_in_pieces() {
        let mut set = RangeSet::new();
        set.insert(5..12);
        set.insert(20..21);
        assert_eq!(set.pop_first(4), Some(5..9));
        assert_eq!(set.pop_first(100), Some(9..12));
        assert_eq!(set.pop_first(100), Some(20..21));
        assert_eq!(set.pop_first(100), None);
    }
}
