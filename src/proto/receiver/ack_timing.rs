//! When an ACK is due (proto.md, "Acknowledgement").

use std::time::Duration;

use crate::proto::time::Time;

/// Packets between two ACKs at most.
const PACKETS_MAX: u64 = 512;

/// Delay of an ACK: a quarter of the RTT within these. Below a millisecond ACKs were a tenth of the
/// packets, and of the receiver's processor time, at 100 Mbit/s over 0.2 ms.
const DELAY_MIN: Duration = Duration::from_millis(1);
const DELAY_MAX: Duration = Duration::from_millis(5);

/// An idle receiver speaks at least this often.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Counts what no ACK has reported yet.
#[derive(Debug)]
pub struct AckTiming {
    unreported: u64,
    /// When the first unreported packet came.
    first_at: Option<Time>,
    at_once: bool,
    last_sent: Time,
}

impl AckTiming {
    /// Nothing to report.
    pub fn new(now: Time) -> AckTiming {
        AckTiming { unreported: 0, first_at: None, at_once: false, last_sent: now }
    }

    /// `packets` arrived.
    pub fn on_packets(&mut self, now: Time, packets: u64) {
        self.unreported += packets;
        self.first_at.get_or_insert(now);
    }

    /// An ACK is wanted now.
    pub fn at_once(&mut self) {
        self.at_once = true;
    }

    /// An ACK leaves now.
    pub fn on_sent(&mut self, now: Time) {
        *self = AckTiming::new(now);
    }

    /// When the next ACK is due.
    pub fn due(&self, smoothed_rtt: Duration, window_packets: u64, credit_left: u64) -> Due {
        let threshold = (window_packets.min(credit_left) / 4).clamp(1, PACKETS_MAX);
        if self.at_once || self.unreported >= threshold {
            return Due::Now;
        }
        let delay = (smoothed_rtt / 4).clamp(DELAY_MIN, DELAY_MAX);
        Due::At(match self.first_at {
            Some(first_at) => first_at + delay,
            None => self.last_sent + KEEPALIVE,
        })
    }
}

/// When an ACK must be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// Then, if nothing else happens.
    At(Time),
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(10);

    #[test]
    fn a_quarter_of_the_window_makes_an_ack() {
        let mut timing = AckTiming::new(Time::ZERO);
        timing.on_packets(Time::ZERO, 24);
        assert_ne!(timing.due(RTT, 100, 1_000), Due::Now);
        timing.on_packets(Time::ZERO, 1);
        assert_eq!(timing.due(RTT, 100, 1_000), Due::Now);
        assert_eq!(timing.due(RTT, 10_000, 40), Due::Now, "little credit is left");
        timing.on_sent(Time::ZERO);
        assert_eq!(timing.due(RTT, 100, 0), Due::At(Time::ZERO + KEEPALIVE));
    }

    #[test]
    fn a_single_packet_waits_a_quarter_of_the_rtt() {
        let mut timing = AckTiming::new(Time::ZERO);
        timing.on_packets(Time::ZERO, 1);
        let due = timing.due(RTT, 1_000, 1_000);
        assert_eq!(due, Due::At(Time::ZERO + Duration::from_micros(2_500)));
        let short = timing.due(Duration::from_micros(100), 1_000, 1_000);
        assert_eq!(short, Due::At(Time::ZERO + DELAY_MIN));
    }
}
