//! How packets are damaged on the way: what a drawn [`Corruption`] does to real bytes.
//!
//! Which packets are hit is drawn in `impairment.rs`.

use super::impairment::{below, mix};

/// How the bytes of a packet change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CorruptionKind {
    /// One bit is flipped.
    FlipBit,
    /// The end is missing; possibly nothing is left.
    Truncate,
    /// Up to 64 bytes of noise follow the end.
    Extend,
    /// Two different 16-bit words change places: the Internet checksum of UDP and TCP, a sum of
    /// such words, does not see it.
    SwapWords,
    /// What one 16-bit word gains another one loses: the Internet checksum does not see it either.
    Offset,
    /// From some place on the packet before it in the same direction goes on; its own beginning
    /// where there is none.
    Splice,
}

impl CorruptionKind {
    /// Every kind.
    pub const ALL: [CorruptionKind; 6] = [
        CorruptionKind::FlipBit,
        CorruptionKind::Truncate,
        CorruptionKind::Extend,
        CorruptionKind::SwapWords,
        CorruptionKind::Offset,
        CorruptionKind::Splice,
    ];
}

/// The most noise that `CorruptionKind::Extend` adds, in bytes.
const EXTENSION_BYTES_MAX: u64 = 64;

/// An instruction to change one packet. Whoever holds real bytes applies it; whoever simulates no
/// payload treats the packet as one whose check fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// What kind of change.
    pub kind: CorruptionKind,
    /// Where in the packet, and with what noise.
    pub(super) draw: u64,
}

impl Corruption {
    /// Changes `bytes` as drawn. False if they could not be changed in this way: they were empty,
    /// or had no two different words to swap.
    pub fn apply(&self, bytes: &mut Vec<u8>) -> bool {
        match self.kind {
            CorruptionKind::FlipBit => self.flip_bit(bytes),
            CorruptionKind::Truncate => {
                let kept = below(self.draw, bytes.len() as u64);
                let changed = !bytes.is_empty();
                bytes.truncate(kept as usize);
                changed
            }
            CorruptionKind::Extend => {
                let count = 1 + below(self.draw, EXTENSION_BYTES_MAX);
                // The low byte of a hash per appended byte is noise enough.
                bytes.extend((0..count).map(|step| mix(self.draw ^ step) as u8));
                true
            }
            CorruptionKind::SwapWords => self.swap_words(bytes),
            CorruptionKind::Offset => self.offset_words(bytes),
            CorruptionKind::Splice => {
                let own = bytes.clone();
                self.splice(bytes, &own)
            }
        }
    }

    /// The same, where the bytes of the packet before it are known.
    pub fn apply_after(&self, bytes: &mut Vec<u8>, before: &[u8]) -> bool {
        match self.kind {
            CorruptionKind::Splice if !before.is_empty() => self.splice(bytes, before),
            _ => self.apply(bytes),
        }
    }

    fn splice(&self, bytes: &mut Vec<u8>, other: &[u8]) -> bool {
        let whole = bytes.clone();
        let cut = below(self.draw, bytes.len() as u64) as usize;
        let from = below(mix(self.draw), other.len() as u64) as usize;
        bytes.truncate(cut);
        bytes.extend_from_slice(other.get(from..).unwrap_or_default());
        *bytes != whole
    }

    fn offset_words(&self, bytes: &mut [u8]) -> bool {
        let (words, _) = bytes.as_chunks_mut::<2>();
        let first = below(self.draw, words.len() as u64) as usize;
        let other = below(mix(self.draw), words.len() as u64) as usize;
        let gain = 1 + below(mix(!self.draw), 1 << 15) as u16;
        if first == other || words.is_empty() {
            return false;
        }
        // Without a carry: a sum in ones' complement would have to be told of it.
        let (low, high) = (u16::from_be_bytes(words[first]), u16::from_be_bytes(words[other]));
        let gain = gain.min(low).min(u16::MAX - high);
        words[first] = (low - gain).to_be_bytes();
        words[other] = (high + gain).to_be_bytes();
        gain > 0
    }

    fn flip_bit(&self, bytes: &mut [u8]) -> bool {
        let bit = below(self.draw, bytes.len() as u64 * 8);
        match bytes.get_mut(bit as usize / 8) {
            Some(byte) => {
                *byte ^= 1 << (bit % 8);
                true
            }
            None => false,
        }
    }

    fn swap_words(&self, bytes: &mut [u8]) -> bool {
        // A last odd byte is no word of its own and stays where it is.
        let (words, _) = bytes.as_chunks_mut::<2>();
        let first = below(self.draw, words.len() as u64) as usize;
        let start = below(mix(self.draw), words.len() as u64) as usize;
        let other = (start..words.len()).chain(0..start).find(|&i| words[i] != words[first]);
        match other {
            Some(other) => {
                words.swap(first, other);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Internet checksum (RFC 1071) of whole words.
    fn internet_checksum(bytes: &[u8]) -> u16 {
        let words = bytes.as_chunks::<2>().0.iter().map(|word| u16::from_be_bytes(*word));
        let sum: u32 = words.map(u32::from).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        !(((folded & 0xffff) + (folded >> 16)) as u16)
    }

    fn packet(seed: u64) -> Vec<u8> {
        (0..200).map(|index| mix(seed ^ index) as u8).collect()
    }

    #[test]
    fn the_neutral_kinds_change_bytes_that_the_internet_checksum_does_not_miss() {
        for kind in [CorruptionKind::SwapWords, CorruptionKind::Offset] {
            let mut changed = 0;
            for draw in 0..500 {
                let before = packet(draw);
                let mut after = before.clone();
                changed += u32::from(Corruption { kind, draw: mix(draw) }.apply(&mut after));
                assert_eq!(internet_checksum(&before), internet_checksum(&after), "draw {draw}");
            }
            assert!(changed > 450, "{kind:?} changed {changed} of 500");
        }
    }

    #[test]
    fn a_splice_begins_as_one_packet_and_ends_as_the_other() {
        let (one, other) = (packet(1), packet(2));
        for draw in 0..100 {
            let mut spliced = one.clone();
            Corruption { kind: CorruptionKind::Splice, draw: mix(draw) }
                .apply_after(&mut spliced, &other);
            let cut = spliced.iter().zip(&one).take_while(|(a, b)| a == b).count();
            assert!(other.ends_with(&spliced[cut..]), "draw {draw}, cut at {cut}");
        }
    }
}
