//! The size of datagrams: starts at what the route surely takes, tests larger ones, falls
//! back when large ones vanish (proto.md, "Path MTU"; RFC 8899).

use crate::wire::{PacketNumber, limits};

/// Sizes to test, largest first, as far as the route allows them: jumbo frames of 9,000 and
/// 4,080 bytes; then the steps upwards after a fall-back (tunnels, PPPoE, Ethernet).
const CANDIDATES: [usize; 6] = [8_972, 4_052, 1_472, 1_412, 1_372, 1_232];

/// A size is tested this often before it counts as too large.
const TESTS_MAX: u32 = 3;

/// Large packets lost in a row, with none reported while small ones pass, that make a black hole.
/// At 30 % random loss six in a row have a chance of 1 in 1,400.
const BLACK_HOLE_PACKETS: u64 = 6;

/// The search.
#[derive(Debug)]
pub struct PathMtu {
    current: usize,
    /// Sizes still to be tested; the next one is last.
    untested: Vec<usize>,
    testing: Option<Test>,
    /// Packets above 1,200 bytes lost since one was reported.
    large_lost: u64,
    timeouts: u32,
    /// A smaller packet was reported since then: it is the size that does not pass.
    small_passed: bool,
    /// The largest size that the route and the receiver allow.
    most: usize,
}

#[derive(Debug)]
struct Test {
    size: usize,
    sent: u32,
    number: Option<PacketNumber>,
}

impl PathMtu {
    /// Starts at the smaller of 1,472 and the route's size; `receiver_max` is what the
    /// receiver accepts at most.
    pub fn new(route_datagram_bytes: usize, receiver_max: usize) -> PathMtu {
        let most = route_datagram_bytes
            .min(receiver_max)
            .clamp(limits::DATAGRAM_BYTES_MIN, SEND_BYTES_MAX);
        let current = most.min(limits::BASE_DATAGRAM_BYTES);
        let mut untested: Vec<usize> =
            CANDIDATES.into_iter().filter(|&size| size > current && size < most).rev().collect();
        if most > current {
            untested.push(most);
        }
        PathMtu {
            current,
            untested,
            testing: None,
            large_lost: 0,
            timeouts: 0,
            small_passed: false,
            most,
        }
    }

    /// Bytes of a datagram now.
    pub fn datagram_bytes(&self) -> usize {
        self.current
    }

    /// The size of a probe to send now, if one is due.
    pub fn next_test(&mut self) -> Option<usize> {
        if let Some(test) = &self.testing {
            return (test.number.is_none()).then_some(test.size);
        }
        let size = self.untested.pop()?;
        self.testing = Some(Test { size, sent: 0, number: None });
        Some(size)
    }

    /// The probe left under `number`.
    pub fn on_test_sent(&mut self, number: PacketNumber) {
        if let Some(test) = &mut self.testing {
            test.sent += 1;
            test.number = Some(number);
        }
    }

    /// Packets of up to `datagram_bytes` were reported.
    pub fn on_reported(&mut self, datagram_bytes: usize) {
        if datagram_bytes > limits::DATAGRAM_BYTES_MIN {
            self.large_lost = 0;
            self.timeouts = 0;
            self.small_passed = false;
        } else if self.large_lost > 0 {
            self.small_passed = true;
            self.judge();
        }
    }

    /// The probe under way was reported: its size becomes the size of datagrams, if the receiver
    /// takes as much as `allowed`.
    pub fn on_test_reported(&mut self, allowed: u64) {
        let Some(test) = self.testing.take_if(|test| test.size as u64 <= allowed) else { return };
        self.current = self.current.max(test.size);
        // What was tested before was larger and did not pass: the search has ended, unless it
        // goes upwards after a fall-back.
        self.untested.retain(|&size| size > test.size);
    }

    /// A packet was declared lost: the probe under way perhaps.
    pub fn on_test_lost(&mut self) {
        let Some(test) = &mut self.testing else { return };
        test.number = None;
        if test.sent >= TESTS_MAX {
            // Larger sizes cannot pass either; smaller ones remain when searching downwards.
            let failed = test.size;
            self.untested.retain(|&size| size < failed);
            self.testing = None;
        }
    }

    /// The number of the probe under way.
    pub fn test_number(&self) -> Option<PacketNumber> {
        self.testing.as_ref().and_then(|test| test.number)
    }

    /// `packets` above 1,200 bytes were declared lost.
    pub fn on_large_lost(&mut self, packets: u64) {
        self.large_lost += packets;
        self.judge();
    }

    /// A probe timeout of content expired.
    pub fn on_timeout(&mut self) {
        self.timeouts += 1;
        self.judge();
    }

    /// The socket refused a datagram of `bytes` as too long.
    pub fn on_too_big(&mut self, bytes: usize) {
        self.untested.retain(|&size| size < bytes);
        if self.testing.as_ref().is_some_and(|test| test.size >= bytes) {
            self.testing = None;
        }
        if bytes <= self.current {
            self.fall_back(bytes);
        }
    }

    fn judge(&mut self) {
        if self.large_lost >= BLACK_HOLE_PACKETS && self.timeouts >= 2 && self.small_passed {
            // The size that failed is tested again, too: chance can look like a black hole.
            self.fall_back(self.current.saturating_add(1));
        }
    }

    /// Back to the least size; those `below` are tested upwards from there.
    fn fall_back(&mut self, below: usize) {
        if self.current <= limits::DATAGRAM_BYTES_MIN {
            return;
        }
        self.current = limits::DATAGRAM_BYTES_MIN;
        let candidates = [self.most].into_iter().chain(CANDIDATES);
        self.untested = candidates.filter(|&size| size < below && size <= self.most).collect();
        self.untested.dedup();
        self.testing = None;
        self.large_lost = 0;
        self.timeouts = 0;
        self.small_passed = false;
    }
}

/// One send of more than 65,493 bytes arrives as unmerged datagrams (measured, Linux 6.18).
const SEND_BYTES_MAX: usize = 65_493;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_needs_no_test() {
        let mut mtu = PathMtu::new(1_472, 65_507);
        assert_eq!(mtu.datagram_bytes(), 1_472);
        assert_eq!(mtu.next_test(), None);
    }

    #[test]
    fn the_largest_size_is_tested_first_and_three_times() {
        let mut mtu = PathMtu::new(65_508, 65_507);
        for number in 0..3 {
            assert_eq!(mtu.next_test(), Some(65_493));
            mtu.on_test_sent(PacketNumber(number));
            assert_eq!(mtu.next_test(), None, "one at a time");
            mtu.on_test_lost();
        }
        assert_eq!(mtu.next_test(), Some(8_972));
        mtu.on_test_sent(PacketNumber(3));
        mtu.on_test_reported(65_507);
        assert_eq!(mtu.datagram_bytes(), 8_972);
        assert_eq!(mtu.next_test(), None);
    }

    #[test]
    fn a_black_hole_is_left_and_probed_upwards() {
        let mut mtu = PathMtu::new(1_472, 65_507);
        mtu.on_large_lost(40);
        mtu.on_timeout();
        mtu.on_timeout();
        assert_eq!(mtu.datagram_bytes(), 1_472, "nothing passes: that is a black-out");
        mtu.on_reported(40);
        assert_eq!(mtu.datagram_bytes(), 1_200);
        assert_eq!(mtu.next_test(), Some(1_232));
        mtu.on_test_sent(PacketNumber(9));
        mtu.on_reported(1_472);
        assert_eq!(mtu.datagram_bytes(), 1_200, "that one left before the fall-back");
        mtu.on_test_reported(65_507);
        for (number, size) in [(10, 1_372), (11, 1_412), (12, 1_472)] {
            assert_eq!(mtu.next_test(), Some(size));
            mtu.on_test_sent(PacketNumber(number));
            mtu.on_test_reported(65_507);
        }
        assert_eq!(mtu.next_test(), None, "it was only chance");
    }

    #[test]
    fn random_loss_is_no_black_hole() {
        let mut mtu = PathMtu::new(1_472, 65_507);
        for _ in 0..100 {
            mtu.on_large_lost(1);
            mtu.on_timeout();
            mtu.on_reported(1_472);
        }
        assert_eq!(mtu.datagram_bytes(), 1_472);
    }

    #[test]
    fn six_large_packets_two_timeouts_and_a_small_one_make_a_black_hole_and_no_less() {
        for (large, timeouts, small, left) in
            [(6, 2, 1_200, 1_200), (5, 2, 1_200, 1_472), (6, 1, 1_200, 1_472), (6, 2, 1_201, 1_472)]
        {
            let mut mtu = PathMtu::new(1_472, 65_507);
            mtu.on_large_lost(large);
            (0..timeouts).for_each(|_| mtu.on_timeout());
            mtu.on_reported(small);
            assert_eq!(mtu.datagram_bytes(), left, "{large} {timeouts} {small}");
        }
    }

    #[test]
    fn a_size_that_the_socket_refuses_is_not_tried_again() {
        let mut mtu = PathMtu::new(9_500, 65_507);
        assert_eq!(mtu.next_test(), Some(9_500));
        mtu.on_too_big(9_500);
        assert_eq!(mtu.next_test(), Some(8_972), "the next smaller one");
        mtu.on_too_big(8_973);
        assert_eq!(mtu.next_test(), Some(8_972), "it was not this one");
        mtu.on_too_big(1_472);
        assert_eq!((mtu.datagram_bytes(), mtu.next_test()), (1_200, Some(1_232)));
        mtu.on_too_big(1_200);
        assert_eq!(mtu.datagram_bytes(), 1_200, "none is smaller");
    }

    #[test]
    fn a_larger_size_waits_until_the_receivers_credit_is_for_it() {
        let mut mtu = PathMtu::new(8_972, 65_507);
        assert_eq!(mtu.next_test(), Some(8_972));
        mtu.on_test_sent(PacketNumber(4));
        mtu.on_test_reported(8_971);
        assert_eq!((mtu.datagram_bytes(), mtu.test_number()), (1_472, Some(PacketNumber(4))));
        mtu.on_test_reported(8_972);
        assert_eq!((mtu.datagram_bytes(), mtu.test_number()), (8_972, None));
    }
}
