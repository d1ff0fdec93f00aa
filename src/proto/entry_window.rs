//! Entries by number, and where their bytes lie in the body.
//!
//! Entries end in any order: behind a large file that is still under way a million others may be
//! settled. Those are forgotten wherever they stand, so memory goes by what is open.

use std::collections::VecDeque;
use std::ops::Range;

/// Removed entries that may stand between open ones, beside as many as there are open ones,
/// before they are swept out: each sweep pays for many removals.
const REMOVED_MAX: usize = 64;

/// The open entries of a transfer, with what its owner keeps of each.
#[derive(Debug)]
pub struct EntryWindow<T> {
    /// Ascending by number, and so by place in the body.
    slots: VecDeque<Slot<T>>,
    /// Slots that are not removed.
    open: usize,
    entries: u32,
    body_end: u64,
}

#[derive(Debug)]
struct Slot<T> {
    entry: u32,
    start: u64,
    bytes: u64,
    /// None once it is removed.
    value: Option<T>,
}

impl<T> Slot<T> {
    fn body(&self) -> Range<u64> {
        self.start..self.start + self.bytes
    }
}

impl<T> Default for EntryWindow<T> {
    fn default() -> EntryWindow<T> {
        EntryWindow { slots: VecDeque::new(), open: 0, entries: 0, body_end: 0 }
    }
}

impl<T> EntryWindow<T> {
    /// Number of entries ever appended: the number of the next one.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Length of the body as far as entries are known.
    pub fn body_end(&self) -> u64 {
        self.body_end
    }

    /// Number of entries that were not removed.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Appends an entry with `bytes` of body; returns its number. The caller bounds both.
    pub fn push(&mut self, bytes: u64, value: T) -> u32 {
        let entry = self.entries;
        self.slots.push_back(Slot { entry, start: self.body_end, bytes, value: Some(value) });
        self.body_end = self.body_end.saturating_add(bytes);
        self.entries = self.entries.saturating_add(1);
        self.open += 1;
        entry
    }

    /// The last entry has `bytes` more of body. The caller bounds them.
    pub fn extend_last(&mut self, bytes: u64) {
        let last = self.entries.wrapping_sub(1);
        if let Some(slot) = self.slots.back_mut().filter(|slot| slot.entry == last) {
            slot.bytes = slot.bytes.saturating_add(bytes);
        }
        self.body_end = self.body_end.saturating_add(bytes);
    }

    fn index(&self, entry: u32) -> Option<usize> {
        let is_it = |&index: &usize| self.slots.get(index).is_some_and(|slot| slot.entry == entry);
        // Until removed ones are swept out between them, the numbers are without gaps.
        let nth = entry.checked_sub(self.slots.front()?.entry)? as usize;
        Some(nth)
            .filter(is_it)
            .or_else(|| Some(self.slots.partition_point(|slot| slot.entry < entry)).filter(is_it))
    }

    /// What is kept of an entry; none if it is unknown or removed.
    pub fn get(&self, entry: u32) -> Option<&T> {
        self.slots.get(self.index(entry)?)?.value.as_ref()
    }

    /// What is kept of an entry; none if it is unknown or removed.
    pub fn get_mut(&mut self, entry: u32) -> Option<&mut T> {
        let index = self.index(entry)?;
        self.slots.get_mut(index)?.value.as_mut()
    }

    /// Where the bytes of an entry lie in the body; none if it is unknown or removed.
    pub fn body(&self, entry: u32) -> Option<Range<u64>> {
        let slot = self.slots.get(self.index(entry)?)?;
        slot.value.is_some().then(|| slot.body())
    }

    /// Forgets an entry; returns what was kept of it, or none if it is unknown or was removed.
    pub fn remove(&mut self, entry: u32) -> Option<T> {
        let index = self.index(entry)?;
        let value = self.slots.get_mut(index)?.value.take()?;
        self.open -= 1;
        while self.slots.front().is_some_and(|slot| slot.value.is_none()) {
            self.slots.pop_front();
        }
        if self.slots.len() > 2 * self.open + REMOVED_MAX {
            self.slots.retain(|slot| slot.value.is_some());
        }
        Some(value)
    }

    /// The open entries with bytes in `range` of the body, in order: number, place, and what is
    /// kept.
    pub fn within<'a>(
        &'a self,
        range: &Range<u64>,
    ) -> impl Iterator<Item = (u32, Range<u64>, &'a T)> + use<'a, T> {
        let end = range.end;
        let first = self.slots.partition_point(|slot| slot.body().end <= range.start);
        let touched = self.slots.range(first..).take_while(move |slot| slot.start < end);
        touched.filter(|slot| slot.bytes > 0).filter_map(|slot| {
            let value = slot.value.as_ref()?;
            Some((slot.entry, slot.body(), value))
        })
    }

    /// What is kept of all open entries, in order.
    pub fn values(&self) -> impl Iterator<Item = &T> + '_ {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    /// Bytes of memory held, without what the kept values own.
    pub fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_million_settled_entries_behind_an_open_one_cost_nothing() {
        let mut window = EntryWindow::default();
        window.push(1 << 40, 0);
        for number in 1..=1_000_000 {
            let entry = window.push(0, number);
            assert_eq!(window.remove(entry), Some(number));
        }
        assert_eq!((window.entries(), window.open()), (1_000_001, 1));
        assert!(window.memory_bytes() < 16_384, "{}", window.memory_bytes());
    }

    #[test]
    fn removed_entries_are_swept_out_when_there_are_64_more_than_open_ones() {
        let mut window = EntryWindow::default();
        assert_eq!(window.memory_bytes(), 0);
        (0..1_000_u64).for_each(|number| {
            window.push(0, number);
        });
        assert!(window.memory_bytes() >= 1_000 * size_of::<Slot<u64>>());
        (1..=532).for_each(|entry| {
            window.remove(entry);
        });
        assert_eq!((window.open(), window.slots.len()), (468, 1_000));
        window.remove(533);
        assert_eq!((window.open(), window.slots.len()), (467, 467));
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_whatever_is_removed_when(
            steps in proptest::collection::vec((0u64..4, 0u32..400, any::<bool>()), 1..400),
        ) {
            let mut window = EntryWindow::default();
            let mut model = BTreeMap::new();
            for (bytes, entry, removes) in steps {
                if removes {
                    prop_assert_eq!(window.remove(entry), model.remove(&entry).map(|(_, it)| it));
                } else {
                    let start = window.body_end();
                    let pushed = window.push(bytes, start + 7);
                    model.insert(pushed, (start..start + bytes, start + 7));
                }
                prop_assert_eq!(window.open(), model.len());
                prop_assert_eq!(window.get(entry), model.get(&entry).map(|(_, it)| it));
                prop_assert_eq!(window.body(entry), model.get(&entry).map(|(it, _)| it.clone()));
                let range = u64::from(entry)..u64::from(entry) + 9;
                let within: Vec<u32> = window.within(&range).map(|(entry, ..)| entry).collect();
                let touches = |body: &Range<u64>| {
                    body.start.max(range.start) < body.end.min(range.end)
                };
                let expected = model.iter().filter(|(_, (body, _))| touches(body));
                prop_assert_eq!(within, expected.map(|(&entry, _)| entry).collect::<Vec<_>>());
            }
            let kept: Vec<u64> = window.values().copied().collect();
            prop_assert_eq!(kept, model.values().map(|(_, it)| *it).collect::<Vec<_>>());
        }
    }
}
