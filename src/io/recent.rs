//! A small cache that keeps what was used last, for open descriptors.

/// At most `capacity` values; a new one replaces the one that was unused for longest.
///
/// Searched from the most recent on: with the few dozen entries it is made for, and hits that
/// are nearly always the latest ones, a list is faster than a map and needs no hash.
#[derive(Debug)]
pub struct Recent<K, V> {
    /// The most recently used entry is the last one.
    entries: Vec<(K, V)>,
    capacity: usize,
}

impl<K, V: Clone> Recent<K, V> {
    /// An empty cache. With a capacity of 0 it never keeps anything.
    pub fn new(capacity: usize) -> Recent<K, V> {
        Recent { entries: Vec::new(), capacity }
    }

    /// The value under `key`, which thereby becomes the most recent one.
    pub fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: PartialEq<Q>,
        Q: ?Sized,
    {
        let found = self.entries.iter().rposition(|(known, _)| known == key)?;
        let entry = self.entries.remove(found);
        let value = entry.1.clone();
        self.entries.push(entry);
        Some(value)
    }

    /// Keeps `value` as the most recent one. The caller knows that `key` is not there yet.
    pub fn insert(&mut self, key: K, value: V) {
        if self.capacity == 0 {
            return;
        }
        if self.entries.len() >= self.capacity {
            self.entries.remove(0);
        }
        self.entries.push((key, value));
    }

    /// Forgets everything. False if there was nothing.
    pub fn clear(&mut self) -> bool {
        let had_any = !self.entries.is_empty();
        self.entries.clear();
        had_any
    }

    /// Forgets what `key` stands for.
    pub fn remove<Q>(&mut self, key: &Q)
    where
        K: PartialEq<Q>,
        Q: ?Sized,
    {
        self.entries.retain(|(known, _)| known != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_unused_for_longest_makes_room() {
        let mut recent = Recent::new(2);
        recent.insert(1, "one");
        recent.insert(2, "two");
        assert_eq!(recent.get(&1), Some("one"));
        recent.insert(3, "three");
        assert_eq!(recent.get(&2), None);
        assert_eq!(recent.get(&1), Some("one"));
        assert_eq!(recent.get(&3), Some("three"));
    }

    #[test]
    fn a_removed_entry_is_gone_and_a_cache_of_nothing_keeps_nothing() {
        let mut recent = Recent::new(2);
        recent.insert(1, "one");
        recent.remove(&1);
        assert_eq!(recent.get(&1), None);
        let mut nothing = Recent::new(0);
        nothing.insert(1, "one");
        assert_eq!(nothing.get(&1), None);
    }
}
