//! Packet numbers: 64 bits in memory, the low 32 of them on the wire. See proto.md, "Header".

use std::fmt;

/// The number of a packet in its direction. Never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketNumber(pub u64);

/// Numbers with the same low 32 bits are this far apart.
const PERIOD: u64 = 1 << 32;

impl PacketNumber {
    /// The number after this one. The last one has no successor and stays: at a billion packets a
    /// second it is reached after 584 years.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The part that is on the wire.
    #[must_use]
    pub const fn low(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The part that is not on the wire but in the check.
    #[must_use]
    pub const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The 64-bit number with these low 32 bits that is closest to `expected`, which is one more
    /// than the largest accepted (0 before the first); of two equally close ones the larger.
    #[must_use]
    pub const fn expand(low: u32, expected: Self) -> Self {
        //= proto.md#header
        //# the receiving peer takes the 64-bit number with the given low 32 bits that is closest
        let ahead = low.wrapping_sub(expected.low()) as u64;
        let above = expected.0.checked_add(ahead);
        let below = expected.0.checked_sub(PERIOD.saturating_sub(ahead));
        match (above, below) {
            // At exactly half a period both are equally close: the larger one.
            (Some(above), Some(below)) => Self(if ahead <= PERIOD / 2 { above } else { below }),
            (Some(above), None) => Self(above),
            (None, Some(below)) => Self(below),
            // Above is out of range only if expected > 2^64 - 2^32, below only if it is < 2^32.
            (None, None) => expected,
        }
    }
}

impl fmt::Display for PacketNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(low: u32, expected: u64) -> u64 {
        PacketNumber::expand(low, PacketNumber(expected)).0
    }

    #[test]
    fn a_number_near_the_expected_one_is_found_across_every_border() {
        for expected in [0, 1 << 31, 1 << 32, 3 << 31, 1 << 33, 1 << 63, u64::MAX] {
            for distance in [0, 1, 2, 1_000, (1 << 31) - 1] {
                for number in [expected.checked_sub(distance), expected.checked_add(distance)] {
                    let Some(number) = number else { continue };
                    assert_eq!(expand(number as u32, expected), number, "near {expected}");
                }
            }
        }
    }

    #[test]
    fn of_two_equally_close_numbers_the_larger_is_taken() {
        let half = 1_u64 << 31;
        for expected in [half, 1 << 32, (1 << 32) + 5, 1 << 63] {
            let low = (expected as u32).wrapping_add(1 << 31);
            assert_eq!(expand(low, expected), expected + half);
        }
    }

    #[test]
    fn a_number_above_half_a_period_ahead_is_an_old_one() {
        assert_eq!(expand((1 << 31) + 1, 1 << 32), (1 << 31) + 1);
        assert_eq!(expand(0xffff_ffff, 1 << 32), 0xffff_ffff);
        assert_eq!(expand(0, 0xffff_ffff), 1 << 32);
    }

    #[test]
    fn no_number_below_zero_or_above_the_largest_is_made() {
        assert_eq!(expand(0xffff_ffff, 0), 0xffff_ffff);
        assert_eq!(expand(0xffff_fffe, 5), 0xffff_fffe);
        assert_eq!(expand(0, u64::MAX), u64::MAX - 0xffff_ffff);
        assert_eq!(PacketNumber(u64::MAX).next(), PacketNumber(u64::MAX));
    }

    #[test]
    fn a_number_is_its_two_halves() {
        let number = PacketNumber(0x0123_4567_89ab_cdef);
        assert_eq!((number.high(), number.low()), (0x0123_4567, 0x89ab_cdef));
        assert_eq!(PacketNumber(7).next(), PacketNumber(8));
        assert_eq!(PacketNumber(1_234).to_string(), "1234");
    }
}
