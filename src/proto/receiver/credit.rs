//! What the sender may send: max_number, max_body (proto.md, "Credit").

use std::time::Duration;

use super::Receiver;
use crate::proto::config::ReceiverConfig;
use crate::proto::time::Time;
use crate::wire::{Limit, PacketNumber, limits};

/// Packets that may be under way beyond what the socket queues: twice what was drained in the
/// last RTT, so that the window can double every round trip until something else bounds it.
const DRAIN_GAIN: u64 = 2;

/// The least span over which draining is measured.
const SPAN_MIN: Duration = Duration::from_millis(1);

/// Grants packet numbers. What was granted never retreats.
#[derive(Debug)]
pub struct Credit {
    socket: ReceiverConfig,
    /// Datagram size the grant holds for.
    datagram_bytes: usize,
    max_number: PacketNumber,
    limit: Limit,
    /// Packets for which the shell has free buffers.
    room_packets: u64,
    /// Packets drained in the running span, and in the last complete one.
    span_start: Time,
    draining: u64,
    drained: u64,
    /// Packets granted beyond the largest number by the last update.
    window: u64,
    /// Body at this offset and above is not taken, and what the last ACK said of that.
    max_body: u64,
    max_body_told: u64,
    /// Time in which the sender had (almost) used up what socket or disk let it have.
    held_by_socket: Duration,
    held_by_disk: Duration,
}

impl Credit {
    /// The first grant, as WELCOME stated it.
    pub fn new(now: Time, config: &ReceiverConfig, first: PacketNumber) -> Credit {
        let credit = first_credit(config);
        Credit {
            socket: config.clone(),
            datagram_bytes: limits::BASE_DATAGRAM_BYTES,
            max_number: PacketNumber(first.0 + credit - 1),
            limit: Limit::Nothing,
            room_packets: u64::MAX,
            span_start: now,
            draining: 0,
            drained: 0,
            window: credit,
            max_body: config.ordered_window_bytes.unwrap_or(limits::OFFSET_MAX),
            max_body_told: 0,
            held_by_socket: Duration::ZERO,
            held_by_disk: Duration::ZERO,
        }
    }

    /// `span` has passed since this was called last; `largest` is the largest number seen.
    pub fn on_time(&mut self, span: Duration, largest: PacketNumber) {
        if self.left(largest) > self.window / 8 {
            return;
        }
        match self.limit {
            Limit::Nothing => {}
            Limit::Socket => self.held_by_socket += span,
            Limit::Disk => self.held_by_disk += span,
        }
    }

    /// Time in which credit, and not the sender or the network, bounded the transfer: because of
    /// the socket's buffer, and because of the disk.
    pub fn held(&self) -> (Duration, Duration) {
        (self.held_by_socket, self.held_by_disk)
    }

    /// Packets arrived; their datagrams have up to `datagram_bytes`.
    pub fn on_packets(
        &mut self,
        now: Time,
        packets: u64,
        datagram_bytes: usize,
        smoothed_rtt: Duration,
    ) {
        self.datagram_bytes = self.datagram_bytes.max(datagram_bytes);
        let span = now.saturating_since(self.span_start);
        let rtt = smoothed_rtt.max(SPAN_MIN);
        if span >= rtt {
            // A span that lasted longer than an RTT counts by its share.
            let scaled = u128::from(self.draining) * rtt.as_nanos() / span.as_nanos();
            self.drained = u64::try_from(scaled).unwrap_or(u64::MAX);
            self.draining = 0;
            self.span_start = now;
        }
        self.draining += packets;
    }

    /// The shell has free buffers for so many packets.
    pub fn set_room(&mut self, packets: u64) {
        self.room_packets = packets;
    }

    /// Computes the grant anew; returns whether credit that had (almost) run out came back.
    pub fn update(&mut self, largest: PacketNumber) -> bool {
        let queue = self.socket.socket_packets(self.datagram_bytes);
        let drained = self.drained.max(self.draining);
        let socket = queue + DRAIN_GAIN * drained;
        let window = socket.min(self.room_packets);
        let before = self.left(largest);
        self.limit = if self.room_packets < socket { Limit::Disk } else { Limit::Socket };
        self.window = window;
        self.max_number = self.max_number.max(PacketNumber(largest.0.saturating_add(window)));
        before <= window / 4 && self.left(largest) > before
    }

    /// Numbers above this must not be sent.
    pub fn max_number(&self) -> PacketNumber {
        self.max_number
    }

    /// Packets that may still come after `largest`.
    pub fn left(&self, largest: PacketNumber) -> u64 {
        self.max_number.0.saturating_sub(largest.0)
    }

    /// Size of datagrams the grant holds for.
    pub fn datagram_bytes(&self) -> usize {
        self.datagram_bytes
    }

    /// Body at this offset and above is not taken.
    pub fn max_body(&self) -> u64 {
        self.max_body
    }

    /// An ACK tells the sender.
    pub fn on_told(&mut self) {
        self.max_body_told = self.max_body;
    }

    /// The body up to `offset` was handed on; returns whether the sender should hear of it now.
    fn on_handed_on(&mut self, offset: u64) -> bool {
        let Some(window) = self.socket.ordered_window_bytes else { return false };
        self.max_body = self.max_body.max(offset.saturating_add(window).min(limits::OFFSET_MAX));
        self.max_body - self.max_body_told >= limits::BLOCK_BYTES
    }

    /// What bounds the grant.
    pub fn limit(&self) -> Limit {
        self.limit
    }
}

impl Receiver {
    /// The body up to `offset` was handed on in order, where that is how it is taken: credit for so
    /// much more is given.
    pub fn set_handed_on(&mut self, offset: u64) {
        if self.credit.on_handed_on(offset) {
            self.ack_timing.at_once();
        }
    }
}

/// Packets granted by WELCOME: what the socket can queue, at most 4,096: strangers share it.
pub fn first_credit(config: &ReceiverConfig) -> u64 {
    config.socket_packets(limits::BASE_DATAGRAM_BYTES).clamp(2, 4_096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_doubles_while_packets_are_drained() {
        let config = ReceiverConfig { socket_bytes: 212_992, ..ReceiverConfig::default() };
        let queue = config.socket_packets(1_472);
        let mut credit = Credit::new(Time::ZERO, &config, PacketNumber(0));
        let rtt = Duration::from_millis(50);
        let mut windows = Vec::new();
        let (mut now, mut largest) = (Time::ZERO, PacketNumber(0));
        for _ in 0..5 {
            let packets = credit.left(largest);
            largest = PacketNumber(largest.0 + packets);
            credit.on_packets(now, packets, 1_472, rtt);
            credit.update(largest);
            windows.push(credit.left(largest));
            now += rtt;
        }
        assert_eq!(windows[0], queue + 2 * (queue - 1), "WELCOME granted one queue");
        assert!(windows.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2), "{windows:?}");
    }

    #[test]
    fn what_bounds_the_grant_is_what_its_time_is_counted_for() {
        let config = ReceiverConfig::default();
        let queue = config.socket_packets(1_472);
        let mut credit = Credit::new(Time::ZERO, &config, PacketNumber(0));
        let last = PacketNumber(10_000);
        let second = Duration::from_secs(1);
        credit.set_room(queue);
        assert!(credit.update(last), "it had run out");
        assert_eq!((credit.limit(), credit.left(last)), (Limit::Socket, queue));
        assert!(!credit.update(last), "no more came");
        credit.on_time(second, PacketNumber(last.0 + queue - queue / 8 - 1));
        assert_eq!(credit.held(), (Duration::ZERO, Duration::ZERO), "an eighth and more is left");
        credit.on_time(second, PacketNumber(last.0 + queue - queue / 8));
        assert_eq!(credit.held(), (second, Duration::ZERO));
        credit.set_room(queue - 1);
        credit.update(PacketNumber(last.0 + queue));
        assert_eq!(credit.limit(), Limit::Disk);
        credit.on_time(second, PacketNumber(last.0 + 2 * queue));
        credit.on_time(second, PacketNumber(last.0 + 2 * queue));
        assert_eq!(credit.held(), (second, 2 * second));
    }

    #[test]
    fn what_was_drained_over_many_round_trips_counts_by_its_share() {
        let config = ReceiverConfig::default();
        let mut credit = Credit::new(Time::ZERO, &config, PacketNumber(0));
        let rtt = Duration::from_millis(10);
        credit.on_packets(Time::ZERO, 1_000, 1_472, rtt);
        credit.on_packets(Time::ZERO + 4 * rtt, 1, 1_472, rtt);
        credit.update(PacketNumber(0));
        let queue = config.socket_packets(1_472);
        assert_eq!(credit.left(PacketNumber(0)), queue + DRAIN_GAIN * 250);
    }

    #[test]
    fn a_grant_never_retreats() {
        let config = ReceiverConfig::default();
        let mut credit = Credit::new(Time::ZERO, &config, PacketNumber(0));
        credit.update(PacketNumber(50));
        let granted = credit.max_number();
        credit.set_room(0);
        credit.update(PacketNumber(60));
        assert_eq!(credit.max_number(), granted);
        assert_eq!(credit.limit(), Limit::Disk);
    }
}
