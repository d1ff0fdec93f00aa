//! Which packet numbers have arrived, and of which the content is held: duplicates are seen here,
//! and ACK bitmaps come from here.

use std::collections::VecDeque;

use crate::wire::{PacketNumber, limits};

/// Numbers remembered: twice what proto.md asks for, 32 KiB.
const WORDS_MAX: usize = 2 * limits::SEEN_NUMBERS_MIN as usize / 64;

/// 64 numbers, one a bit.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    /// They have arrived.
    seen: u64,
    /// Their content is held, too.
    held: u64,
}

/// A sliding window of packet numbers.
#[derive(Debug)]
pub struct Sack {
    /// Bit i of word w is number 64 x (first_word + w) + i.
    words: VecDeque<Word>,
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

    /// Whether `number` has arrived and its content is held, or it is too old to tell.
    pub fn is_held(&self, number: PacketNumber) -> bool {
        self.has(number, |word| word.held)
    }

    /// Whether `number` has arrived, or is too old to tell.
    fn is_seen(&self, number: PacketNumber) -> bool {
        self.has(number, |word| word.seen)
    }

    fn has(&self, number: PacketNumber, bits: impl Fn(Word) -> u64) -> bool {
        let Some(index) = (number.0 / 64).checked_sub(self.first_word) else { return true };
        let word = self.words.get(index as usize).copied().unwrap_or_default();
        bits(word) >> (number.0 % 64) & 1 == 1
    }

    /// Notes that `number` has arrived. Returns false if it had before, or is too old to tell.
    pub fn see(&mut self, number: PacketNumber) -> bool {
        if self.is_seen(number) {
            return false;
        }
        self.largest = self.largest.max(Some(number));
        let word = number.0 / 64;
        // A jump over more numbers than are remembered starts anew: zeros need not be stored.
        if word >= self.first_word + (self.words.len() + WORDS_MAX) as u64 {
            self.words.clear();
            self.first_word = word;
        }
        while self.first_word + (self.words.len() as u64) <= word {
            self.words.push_back(Word::default());
        }
        while self.words.len() > WORDS_MAX {
            self.words.pop_front();
            self.first_word += 1;
        }
        if let Some(bits) = self.word_mut(number) {
            bits.seen |= 1 << (number.0 % 64);
        }
        true
    }

    /// The content of `number`, which was seen, is held.
    pub fn hold(&mut self, number: PacketNumber) {
        if let Some(bits) = self.word_mut(number) {
            bits.held |= 1 << (number.0 % 64);
        }
    }

    fn word_mut(&mut self, number: PacketNumber) -> Option<&mut Word> {
        let index = (number.0 / 64).checked_sub(self.first_word)?;
        self.words.get_mut(index as usize)
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.words.capacity() * size_of::<Word>()
    }

    /// The newest words of the bitmap, at most `words_max`, up to `largest`; appended to `out`.
    /// Returns the number of the first bit.
    pub fn bitmap(&self, words_max: usize, out: &mut Vec<u64>) -> PacketNumber {
        let last_word = self.largest.map_or(self.first_word, |largest| largest.0 / 64);
        let oldest = (last_word + 1).saturating_sub(words_max as u64).max(self.first_word);
        for word in oldest..=last_word {
            let index = (word - self.first_word) as usize;
            out.push(self.words.get(index).map_or(0, |word| word.held));
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
                prop_assert_eq!(sack.see(PacketNumber(number)), model.insert(number));
                sack.hold(PacketNumber(number));
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
        sack.see(PacketNumber(1_000));
        sack.see(PacketNumber(1_000 + 64 * 3 * WORDS_MAX as u64));
        assert!(sack.is_held(PacketNumber(3)));
        assert!(!sack.see(PacketNumber(999)));
    }

    #[test]
    fn the_window_slides() {
        let mut sack = Sack::new(PacketNumber(0));
        for number in 0..400_000 {
            assert!(sack.see(PacketNumber(number)));
        }
        assert!(sack.is_seen(PacketNumber(5)));
        assert!(sack.is_seen(PacketNumber(399_999)));
        assert!(!sack.is_seen(PacketNumber(400_000)));
    }

    //= proto.md#header
    //= type=test
    //# if its content was not held, it
    #[test]
    fn what_arrived_in_vain_counts_once_and_is_not_in_the_bitmap_until_it_is_held() {
        let mut sack = Sack::new(PacketNumber(0));
        assert!(sack.see(PacketNumber(5)) && !sack.see(PacketNumber(5)));
        assert!(!sack.is_held(PacketNumber(5)));
        let mut words = Vec::new();
        sack.bitmap(1, &mut words);
        sack.hold(PacketNumber(5));
        sack.bitmap(1, &mut words);
        assert_eq!(words, [0, 1 << 5]);
    }
}
