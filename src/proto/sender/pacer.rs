//! Spreads packets over time at the controller's rate, in small bursts.
//!
//! A token bucket: it fills at the pacing rate up to one burst and is drawn down by what
//! leaves. Its burst is proto.md's ("Pacing and congestion control").

use std::time::Duration;

use crate::proto::time::Time;

/// Time that one burst may span: each costs a wake-up. Half of what Linux' own pacing of TCP
/// allows (1 ms, `tcp_tso_autosize`).
const BURST_SPAN: Duration = Duration::from_micros(500);

/// Datagrams in one burst: a GSO batch of full-size Ethernet datagrams fills 64 KiB.
const BURST_DATAGRAMS_MAX: u64 = 44;

/// What a timer of the host may be late; so much may leave at once after a late wake-up.
const LATENESS: Duration = Duration::from_micros(500);

/// ... but no more than this, whatever rate a receiver's acknowledgements make us believe in:
/// 500 us at 100 Gbit/s, and two first flights of the largest datagrams.
const LATE_BYTES_MAX: u64 = 8 << 20;

/// The token bucket.
#[derive(Debug)]
pub struct Pacer {
    rate: u64,
    /// May be negative: what has left beyond the tokens there were.
    tokens: i128,
    filled_at: Time,
    burst_bytes: u64,
    burst_bytes_bound: u64,
}

impl Pacer {
    /// A pacer with one full burst in hand.
    pub fn new(now: Time) -> Pacer {
        Pacer {
            rate: u64::MAX,
            tokens: 0,
            filled_at: now,
            burst_bytes: 0,
            burst_bytes_bound: u64::MAX,
        }
    }

    /// What the receiver's socket allows at once (proto.md, "Credit").
    pub fn bound_burst(&mut self, bytes: u64) {
        self.burst_bytes_bound = bytes;
    }

    /// Sets the rate in bytes per second, and with it the burst for datagrams of this size.
    pub fn set_rate(&mut self, now: Time, rate: u64, datagram_bytes: u64) {
        self.fill(now);
        self.rate = rate.max(1);
        let span_bytes = bytes_in(self.rate, BURST_SPAN);
        let most = (BURST_DATAGRAMS_MAX * datagram_bytes).min(64 * 1_024).max(datagram_bytes);
        let bound = most.min(self.burst_bytes_bound).max(2 * datagram_bytes);
        self.burst_bytes = span_bytes.clamp(2 * datagram_bytes, bound.max(2 * datagram_bytes));
    }

    /// Bytes that one burst may hold.
    pub fn burst_bytes(&self) -> u64 {
        self.burst_bytes
    }

    /// Whether a burst may leave now; otherwise when.
    pub fn ready_at(&mut self, now: Time) -> Result<(), Time> {
        self.fill(now);
        if self.tokens >= 0 {
            return Ok(());
        }
        let owed = self.tokens.unsigned_abs();
        let nanos = owed.div_ceil(u128::from(self.rate)).max(1);
        Err(now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// `bytes` leave now.
    pub fn on_sent(&mut self, bytes: u64) {
        self.tokens -= i128::from(bytes) * NANOS;
    }

    fn fill(&mut self, now: Time) {
        let elapsed = now.saturating_since(self.filled_at);
        self.filled_at = now;
        self.tokens += i128::from(self.rate) * elapsed.as_nanos() as i128;
        // Being late for a wake-up costs no rate: the bucket holds what a timer may be late,
        // within the bound of the receiver's socket.
        let late = bytes_in(self.rate, LATENESS).min(LATE_BYTES_MAX).min(self.burst_bytes_bound);
        self.tokens = self.tokens.min(i128::from(late) * NANOS);
    }
}

/// Tokens are bytes x nanoseconds per second, so that filling is exact.
const NANOS: i128 = 1_000_000_000;

/// Bytes that leave in `span` at `rate` bytes per second.
fn bytes_in(rate: u64, span: Duration) -> u64 {
    let bytes = u128::from(rate) * span.as_nanos() / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_held_exactly_over_many_bursts() {
        let mut now = Time::ZERO;
        let mut pacer = Pacer::new(now);
        pacer.set_rate(now, 12_500_000, 1_472);
        let mut sent = 0;
        while now < Time::ZERO + Duration::from_secs(1) {
            match pacer.ready_at(now) {
                Ok(()) => {
                    pacer.on_sent(pacer.burst_bytes());
                    sent += pacer.burst_bytes();
                }
                Err(at) => now = at,
            }
        }
        assert!((12_400_000..12_600_000).contains(&sent), "{sent} bytes in a second");
    }

    #[test]
    fn bursts_stay_between_two_and_forty_four_datagrams() {
        let mut pacer = Pacer::new(Time::ZERO);
        pacer.set_rate(Time::ZERO, 1_000, 1_472);
        assert_eq!(pacer.burst_bytes(), 2 * 1_472);
        pacer.set_rate(Time::ZERO, u64::MAX / 2, 1_472);
        assert_eq!(pacer.burst_bytes(), 44 * 1_472);
        pacer.bound_burst(10_000);
        pacer.set_rate(Time::ZERO, u64::MAX / 2, 1_472);
        assert_eq!(pacer.burst_bytes(), 10_000);
    }

    #[test]
    fn a_late_wake_up_does_not_cost_the_rate() {
        let mut pacer = Pacer::new(Time::ZERO);
        pacer.set_rate(Time::ZERO, 100_000_000, 1_472);
        pacer.on_sent(50_000);
        let late = Time::ZERO + Duration::from_micros(700);
        assert_eq!(pacer.ready_at(late), Ok(()));
        pacer.on_sent(20_000);
        assert_eq!(pacer.ready_at(late), Ok(()), "20 kB were owed by the clock");
    }

    #[test]
    fn a_rate_beyond_belief_does_not_leave_in_one_moment() {
        let mut pacer = Pacer::new(Time::ZERO);
        pacer.set_rate(Time::ZERO, u64::MAX / 2, 1_472);
        let now = Time::ZERO + Duration::from_secs(1);
        let mut sent = 0;
        while pacer.ready_at(now) == Ok(()) {
            pacer.on_sent(pacer.burst_bytes());
            sent += pacer.burst_bytes();
        }
        assert!((8 << 20..9 << 20).contains(&sent), "{sent} bytes at once");
    }

    #[test]
    fn a_debt_is_paid_at_the_rate_and_to_the_nanosecond() {
        let mut pacer = Pacer::new(Time::ZERO);
        pacer.set_rate(Time::ZERO, 1_000_000, 1_000);
        pacer.on_sent(5_000);
        let due = Time::ZERO + Duration::from_millis(5);
        assert_eq!(pacer.ready_at(Time::ZERO), Err(due));
        assert_eq!(pacer.ready_at(Time::from_nanos(due.as_nanos() - 1)), Err(due));
        assert_eq!(pacer.ready_at(due), Ok(()));
    }

    #[test]
    fn idle_time_is_saved_up_for_half_a_millisecond_or_for_what_the_receiver_can_take() {
        for (bound, saved) in [(u64::MAX, 5_000), (3_000, 3_000)] {
            let mut pacer = Pacer::new(Time::ZERO);
            pacer.bound_burst(bound);
            pacer.set_rate(Time::ZERO, 10_000_000, 1_000);
            assert_eq!(pacer.burst_bytes(), saved, "500 us of the rate");
            let now = Time::ZERO + Duration::from_secs(1);
            assert_eq!(pacer.ready_at(now), Ok(()));
            pacer.on_sent(saved);
            assert_eq!(pacer.ready_at(now), Ok(()));
            pacer.on_sent(1);
            assert_eq!(pacer.ready_at(now), Err(now + Duration::from_nanos(100)));
        }
    }

    #[test]
    fn two_datagrams_leave_together_however_large_they_are() {
        let mut pacer = Pacer::new(Time::ZERO);
        pacer.set_rate(Time::ZERO, u64::MAX / 2, 65_000);
        assert_eq!(pacer.burst_bytes(), 130_000);
        pacer.set_rate(Time::ZERO, u64::MAX / 2, 8_972);
        assert_eq!(pacer.burst_bytes(), 64 * 1_024, "else it is one full send");
    }
}
