//! Which packet numbers have arrived: duplicates are seen here, and ACK bitmaps come from here.

use std::collections::VecDeque;

use crate::wire::{PacketNumber, limits};

/// Numbers remembered: twice what proto.md asks for, 16 KiB.
const WORDS_MAX: usize = 2 * limits::SEEN_NUMBERS_MIN as usize / 64;

/// A sliding window of bits, one a packet number.
#[derive(Debug)]
pub struct Sack {
    /// Bit i of word w is number 64 x (first_word + w) + i.
    words: VecDeque<u64>,
    first_word: u64,
    largest: Option<PacketNumber>,
}

impl Sack {
    /// Nothing has arrived; numbers will be near `first`.
    pub fn new(first: PacketNumber) -> Sack {
        Sack { words: VecDeque::new(), first_word: first.0 / 64, largest: None }
    }

    /// The largest number that has arrived.
    pub fn largest(&self) -> Option<PacketNumber> {
        self.largest
    }

    /// Whether `number` has arrived, or is too old to tell.
    pub fn has(&self, number: PacketNumber) -> bool {
        let Some(index) = (number.0 / 64).checked_sub(self.first_word) else { return true };
        let word = self.words.get(index as usize).copied().unwrap_or(0);
        word >> (number.0 % 64) & 1 == 1
    }

    /// Notes that `number` has arrived, whether or not its content is held.
    pub fn see(&mut self, number: PacketNumber) {
        self.largest = self.largest.max(Some(number));
    }

    /// Sets the bit of `number`: its content is held. Returns false if it was set before.
    pub fn insert(&mut self, number: PacketNumber) -> bool {
        if self.has(number) {
            return false;
        }
        self.see(number);
        let word = number.0 / 64;
        // A jump over more numbers than are remembered starts anew: zeros need not be stored.
        if word >= self.first_word + (self.words.len() + WORDS_MAX) as u64 {
            self.words.clear();
            self.first_word = word;
        }
        while self.first_word + (self.words.len() as u64) <= word {
            self.words.push_back(0);
        }
        while self.words.len() > WORDS_MAX {
            self.words.pop_front();
            self.first_word += 1;
        }
        if let Some(index) = word.checked_sub(self.first_word)
            && let Some(bits) = self.words.get_mut(index as usize)
        {
            *bits |= 1 << (number.0 % 64);
        }
        true
    }

    /// The newest words of the bitmap, at most `words_max`, up to `largest`; appended to `out`.
    /// Returns the number of the first bit.
    pub fn bitmap(&self, words_max: usize, out: &mut Vec<u64>) -> PacketNumber {
        let last_word = self.largest.map_or(self.first_word, |largest| largest.0 / 64);
        let oldest = (last_word + 1).saturating_sub(words_max as u64).max(self.first_word);
        for word in oldest..=last_word {
            let index = (word - self.first_word) as usize;
            out.push(self.words.get(index).copied().unwrap_or(0));
        }
        PacketNumber(oldest * 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(
            first in prop_oneof![Just(0u64), Just(u64::from(u32::MAX) - 100)],
            offsets in proptest::collection::vec(0u64..500, 1..200),
        ) {
            let mut sack = Sack::new(PacketNumber(first));
            let mut model = BTreeSet::new();
            for offset in offsets {
                let number = first + offset;
                prop_assert_eq!(sack.insert(PacketNumber(number)), model.insert(number));
                prop_assert_eq!(sack.largest().map(|n| n.0), model.last().copied());
                let mut words = Vec::new();
                let base = sack.bitmap(4, &mut words).0;
                prop_assert!(words.len() <= 4);
                for (index, word) in words.iter().enumerate() {
                    for bit in 0..64 {
                        let number = base + 64 * index as u64 + bit;
                        prop_assert_eq!(word >> bit & 1 == 1, model.contains(&number));
                    }
                }
            }
        }
    }

    #[test]
    fn a_number_older_than_the_window_counts_as_seen() {
        let mut sack = Sack::new(PacketNumber(0));
        sack.insert(PacketNumber(1_000));
        sack.insert(PacketNumber(1_000 + 64 * 3 * WORDS_MAX as u64));
        assert!(sack.has(PacketNumber(3)));
        assert!(!sack.insert(PacketNumber(999)));
    }

    #[test]
    fn the_window_slides() {
        let mut sack = Sack::new(PacketNumber(0));
        for number in 0..400_000 {
            assert!(sack.insert(PacketNumber(number)));
        }
        assert!(sack.has(PacketNumber(5)));
        assert!(sack.has(PacketNumber(399_999)));
        assert!(!sack.has(PacketNumber(400_000)));
    }
}
