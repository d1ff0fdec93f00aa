//! What time does: the transfer's end by silence, probe timeouts, and when to be called next
//! (proto.md, "Loss detection" and "End").

use std::time::Duration;

use super::in_flight::Lost;
use super::{Sender, State};
use crate::proto::error::Error;
use crate::proto::sabotage::Bug;
use crate::proto::time::Time;

/// A receiver whose host reports the port closed is waited for this long.
const REFUSED_WAIT: Duration = Duration::from_secs(2);

/// Something is sent at least this often (proto.md, "End").
pub(super) const KEEPALIVE: Duration = Duration::from_secs(1);

/// Doublings of the probe timeout while credit alone holds the sender (proto.md, "Loss detection").
const CREDIT_BACKOFF_MAX: u32 = 2;

/// The probe timeout at most: ten RTTs or a 64th of the silence, within these; but two RTTs if they
/// are longer. Bursts of losses may last for packets rather than for time: a peer that sends one a
/// second does not see their end. On 100 Mbit/s over 0.2 ms with 2 % lost in runs of 44 this bound
/// gave 1.35 times the goodput of 300 ms for all.
const PTO_BOUND_MIN: Duration = Duration::from_millis(50);
const PTO_BOUND_MAX: Duration = Duration::from_millis(300);

/// What a storm of probes is, where one is broken in.
const STORM: Duration = Duration::from_micros(100);

/// A shell that calls later than this after it was due has stalled; a busy one is not so late.
const LATENESS_MAX: Duration = Duration::from_millis(10);

impl Sender {
    /// Every call says what time it is.
    pub(super) fn on_call(&mut self, now: Time) {
        if self.call_due.is_some_and(|due| now > due + LATENESS_MAX) {
            self.late_at = Some(now);
        }
        // After a stall of our own the silence may be ours: probe before judging.
        if now.saturating_since(self.last_call) > KEEPALIVE * 2 && self.state == State::Open {
            self.judge_from = now + KEEPALIVE;
            self.probes_due = self.probes_due.max(1);
            self.stats.probe_timeouts += 1;
        }
        self.last_call = now;
    }

    /// Whether this call comes so late that what is read now may have waited at this host: it
    /// says nothing about the path's RTT.
    pub(super) fn is_late(&self, now: Time) -> bool {
        self.late_at == Some(now)
    }

    /// Time has passed; call it when [`Sender::poll_timeout`] is reached.
    pub fn handle_timeout(&mut self, now: Time) {
        self.on_call(now);
        match &self.state {
            State::Hello { since, refused_since, .. } => {
                let waited = now.saturating_since(*since);
                let refused =
                    refused_since.is_some_and(|at| now.saturating_since(at) >= REFUSED_WAIT);
                if waited >= self.config.wait || refused {
                    self.end(Error::NoAnswer { waited, refused });
                }
            }
            State::Open => {
                let silence = now.saturating_since(self.last_heard);
                if now >= self.silence_deadline() {
                    self.end(Error::Silence { silence, refused: self.refused });
                    return;
                }
                if self.loss_deadline.is_some_and(|deadline| deadline <= now) {
                    self.detect_losses(now);
                }
                if self.pto_deadline().is_some_and(|deadline| deadline <= now) {
                    self.on_probe_timeout(now);
                }
            }
            State::Closing { .. } | State::Closed => {}
        }
    }

    fn silence_deadline(&self) -> Time {
        let patience = match self.refused {
            true => self.config.timeout / 2,
            false => self.config.timeout,
        };
        if self.config.sabotage.has(Bug::WaitForEver) {
            return Time::from_nanos(u64::MAX);
        }
        (self.last_heard + patience).max(self.judge_from)
    }

    /// When a probe is due if nothing is heard until then.
    ///
    /// The timeout runs from the last news (an ACK that reported something, a probe) or, when
    /// nothing was under way, from the packet that left. Were it to run from the last packet
    /// alone, a slowly paced sender that hears nothing would put it off for ever.
    fn pto_deadline(&self) -> Option<Time> {
        if self.probes_due > 0 {
            return None;
        }
        let waiting = self.in_flight.has_open() || (!self.confirmed && self.start_due == 0);
        if !waiting && !self.held_by_credit() {
            return Some(self.last_sent + KEEPALIVE);
        }
        let from = if waiting { self.pto_from } else { self.last_sent };
        // One bad sample must not keep the sender silent for long.
        let (rtt, silence) = (self.rtt.smoothed(), from.saturating_since(self.last_heard));
        let bound = (rtt * 10).max(silence / 64).clamp(PTO_BOUND_MIN, PTO_BOUND_MAX).max(rtt * 2);
        let timeout = self.rtt.probe_timeout(self.ack_delay_max).min(bound);
        // Held by credit alone there is no sign of loss, and the ACK that ends it may be lost.
        let credit_alone = self.held_by_credit() && !self.in_flight.has_open_content();
        let backoff_max = if credit_alone { CREDIT_BACKOFF_MAX } else { 16 };
        if self.config.sabotage.has(Bug::ProbeStorm) && self.pto_backoff > 2 {
            return Some(self.pto_from + STORM);
        }
        let doublings = self.pto_backoff.saturating_sub(1).min(backoff_max);
        let doubled = timeout.saturating_mul(1 << doublings);
        Some(from + doubled.min(bound))
    }

    fn on_probe_timeout(&mut self, now: Time) {
        self.pto_backoff += 1;
        self.pto_from = now;
        self.probes_due = 2;
        self.stats.probe_timeouts += 1;
        if !self.confirmed {
            self.start_due = 1;
        }
        if self.in_flight.has_open_content() {
            // What is sent while there is nothing to send says nothing of the size of datagrams.
            self.mtu.on_timeout();
        }
        let mut lost = Lost::default();
        self.in_flight.take_oldest(2, &mut lost);
        if self.pto_backoff > 1 && self.rtt.has_sample() {
            // Two in a row: what left before the first one is gone, or nothing can come back.
            let timeout = self.rtt.probe_timeout(self.ack_delay_max);
            self.in_flight.take_older(now, timeout, &mut lost);
        }
        self.probes_are_bare = lost.chunks.is_empty() && self.held_by_credit();
        self.requeue(&lost);
        self.controller.on_probe_timeout();
    }

    /// When [`Sender::handle_timeout`] or [`Sender::poll_transmit`] must be called next.
    pub fn poll_timeout(&mut self, now: Time) -> Option<Time> {
        self.call_due = self.next_call(now);
        self.call_due
    }

    fn next_call(&mut self, now: Time) -> Option<Time> {
        match &self.state {
            State::Hello { next, since, refused_since, .. } => {
                let give_up = *since + self.config.wait;
                let refused = refused_since.map_or(give_up, |at| at + REFUSED_WAIT);
                Some((*next).min(give_up).min(refused))
            }
            State::Open => {
                let mut at = self.silence_deadline();
                at = self.pto_deadline().map_or(at, |deadline| at.min(deadline));
                at = self.ask_deadline().map_or(at, |deadline| at.min(deadline));
                at = self.loss_deadline.map_or(at, |deadline| at.min(deadline));
                if self.has_content()
                    && !self.held_by_credit()
                    && !self.held_by_window(now)
                    && let Err(ready) = self.pacer.ready_at(now)
                {
                    at = at.min(ready);
                }
                Some(at)
            }
            State::Closing { .. } => Some(now),
            State::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::config::SenderConfig;
    use crate::proto::sender::asking::welcome_to;
    use crate::wire::Welcome;

    #[test]
    fn timeouts_while_there_is_nothing_to_send_make_no_black_hole() {
        let mut sender = Sender::new(Time::ZERO, SenderConfig::default(), [7; 32]);
        let least = welcome_to(&sender.greeting);
        let (socket_bytes, datagram_bytes_max, credit) = (1 << 20, 65_507, 1_000);
        let welcome = Welcome { socket_bytes, datagram_bytes_max, credit, ..least };
        sender.on_welcome(Time::ZERO, &welcome);
        for second in 1..8 {
            let now = Time::ZERO + Duration::from_secs(second);
            while sender.poll_transmit(now).is_some() {}
            sender.handle_timeout(now);
        }
        assert!(sender.stats.probe_timeouts >= 5, "{}", sender.stats.probe_timeouts);
        sender.mtu.on_large_lost(40);
        sender.mtu.on_reported(40);
        assert_eq!(sender.mtu.datagram_bytes(), 1_472);
    }

    #[test]
    fn probes_come_ten_round_trips_apart_at_most_within_bounds_or_two_if_those_are_longer() {
        for (rtt_ms, bound_ms) in [(0, 50), (1, 50), (8, 80), (29, 290), (100, 300), (200, 400)] {
            let mut sender = Sender::new(Time::ZERO, SenderConfig::default(), [7; 32]);
            sender.rtt.on_sample(Time::ZERO, Duration::from_millis(rtt_ms));
            sender.in_flight.on_sent(Time::ZERO, 1, None, 0, 1_472, sender.mark);
            sender.pto_backoff = 16;
            let bound = Duration::from_millis(bound_ms);
            assert_eq!(sender.pto_deadline(), Some(Time::ZERO + bound), "RTT {rtt_ms} ms");
        }
    }

    #[test]
    fn probes_get_rarer_the_longer_nothing_is_heard() {
        let mut sender = Sender::new(Time::ZERO, SenderConfig::default(), [7; 32]);
        sender.rtt.on_sample(Time::ZERO, Duration::from_millis(1));
        sender.in_flight.on_sent(Time::ZERO, 1, None, 0, 1_472, sender.mark);
        sender.pto_backoff = 16;
        let pauses = [3_200, 6_400, 19_200, 60_000].map(|silence_ms| {
            sender.pto_from = Time::ZERO + Duration::from_millis(silence_ms);
            sender.pto_deadline().map(|at| at.saturating_since(sender.pto_from).as_millis())
        });
        assert_eq!(pauses, [50, 100, 300, 300].map(Some));
    }
}
