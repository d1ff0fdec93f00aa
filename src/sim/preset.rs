//! Named network paths: what `Simulation` and the bench start from.
//!
//! Rates count IP packets, without Ethernet's 38 bytes of framing. All presets take datagrams, so
//! 28 bytes of IPv4 and UDP are added to each; an emulator of whole packets sets the overhead to 0.

use std::time::Duration;

use super::impairment::{BurstLoss, Jitter, JitterShape};
use super::link::LinkConfig;
use super::shaper::QueueLimit;

/// Bytes of an IPv4 header without options (RFC 791) and a UDP header (RFC 768).
const IPV4_UDP_HEADER_BYTES: usize = 20 + 8;

/// The MTU of Ethernet (RFC 894).
const ETHERNET_MTU_BYTES: usize = 1_500;

/// The least queue of a preset, in bytes: 64 full packets, so that a queue of one bandwidth-delay
/// product still takes a batch of 44 datagrams where that product is small.
const QUEUE_BYTES_MIN: usize = 64 * ETHERNET_MTU_BYTES;

/// Both directions between a sender and a receiver.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path {
    /// From the sender to the receiver.
    pub forward: LinkConfig,
    /// From the receiver to the sender.
    pub backward: LinkConfig,
}

impl Path {
    /// A path of the same rate both ways (none is without bound), with a queue of one
    /// bandwidth-delay product, at least 64 full packets, and the MTU of Ethernet.
    pub fn new(rate_bits_per_second: Option<u64>, rtt: Duration) -> Path {
        let delay = rtt / 2;
        let queue_bytes = rate_bits_per_second.map(|rate| {
            let product = u128::from(rate) * rtt.as_nanos() / 8_000_000_000;
            usize::try_from(product).unwrap_or(usize::MAX).max(QUEUE_BYTES_MIN)
        });
        let forward = LinkConfig {
            rate_bits_per_second,
            delay,
            queue: QueueLimit { bytes: queue_bytes, packets: None },
            overhead_bytes: IPV4_UDP_HEADER_BYTES,
            mtu_bytes: Some(ETHERNET_MTU_BYTES),
            ..LinkConfig::default()
        };
        // What halving rounded off stays in the round trip.
        let backward = LinkConfig { delay: rtt - delay, ..forward.clone() };
        Path { forward, backward }
    }

    /// Changes both directions in the same way.
    #[must_use]
    pub fn both(mut self, change: impl Fn(&mut LinkConfig)) -> Path {
        change(&mut self.forward);
        change(&mut self.backward);
        self
    }

    /// Loses each packet with this probability, in both directions.
    #[must_use]
    pub fn loss(self, probability: f64) -> Path {
        self.both(|link| link.impairments.loss = probability)
    }

    /// Loses the packet of this index (the first has 0) on its way to the receiver.
    #[must_use]
    pub fn lose_packet(mut self, index: u64) -> Path {
        self.forward.impairments.lose_packets.insert(index);
        self
    }

    /// The delay of both directions together, as long as nothing queues or changes.
    pub fn rtt(&self) -> Duration {
        self.forward.delay + self.backward.delay
    }
}

/// A switched local network: 1 Gbit/s, 0.2 ms there and back, no loss.
///
/// The queue of 512 KiB is a guess at the port buffer of a small switch (4 ms at this rate).
pub fn lan() -> Path {
    Path::new(Some(1_000_000_000), Duration::from_micros(200))
        .both(|link| link.queue.bytes = Some(512 * 1_024))
}

/// A path of the given rate in bits per second, round trip and loss in each direction, with a
/// queue of one bandwidth-delay product, the classic rule for a router's buffer.
pub fn wan(rate_bits_per_second: u64, rtt: Duration, loss: f64) -> Path {
    Path::new(Some(rate_bits_per_second), rtt).loss(loss)
}

/// One machine talking to itself: an MTU of 65,536 bytes (Linux), 30 us there and back.
///
/// The rate of 40 Gbit/s is a guess at what a memory copy per side allows; nothing queues on the
/// way, for loopback hands a packet to the receiver's socket in the call that sends it.
pub fn loopback() -> Path {
    Path::new(Some(40_000_000_000), Duration::from_micros(30)).both(|link| {
        link.mtu_bytes = Some(65_536);
        link.queue = QueueLimit::default();
    })
}

/// A busy wireless network: 200 Mbit/s, 4 ms there and back, up to 3 ms of jitter each way
/// without reordering, 0.5 % loss in bursts of 4, a queue of 512 KiB.
///
/// All values are guesses at an 802.11ac home network: its link layer retries and keeps order,
/// which turns most loss into delay, and what is left comes in bursts (a lost aggregate).
pub fn wifi() -> Path {
    Path::new(Some(200_000_000), Duration::from_millis(4)).both(|link| {
        link.queue.bytes = Some(512 * 1_024);
        link.impairments.jitter = Some(Jitter {
            shape: JitterShape::Uniform { max: Duration::from_millis(3) },
            keeps_order: true,
        });
        link.impairments.burst_loss = Some(BurstLoss { mean_loss: 0.005, mean_burst_packets: 4.0 });
    })
}

/// A geostationary satellite: 50 Mbit/s, 600 ms there and back, 0.1 % loss, a queue of one
/// bandwidth-delay product (3.75 MB).
///
/// Light needs 477 ms for four times 35,786 km; the rest is a guess at coding and scheduling, as
/// rate and loss are.
pub fn satellite() -> Path {
    wan(50_000_000, Duration::from_millis(600), 0.001)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Time;
    use crate::sim::{Direction, Link};

    #[test]
    fn a_full_datagram_of_a_lan_makes_its_round_trip_in_the_rtt_and_two_times_on_the_wire() {
        let path = lan();
        let mut forward = Link::new(path.forward, 1, Direction::Forward);
        let mut backward = Link::new(path.backward, 1, Direction::Backward);
        assert_eq!(forward.offer(Time::ZERO, (), 1_472), None);
        let there = forward.next_delivery().unwrap();
        assert_eq!(backward.offer(there, (), 1_472), None);
        // 1,500 bytes are 12 us at 1 Gbit/s.
        assert_eq!(backward.next_delivery().unwrap().as_micros(), 200 + 12 + 12);
    }

    #[test]
    fn the_queue_of_a_wan_is_its_bandwidth_delay_product_but_takes_a_batch() {
        let queue = |path: Path| path.forward.queue.bytes;
        assert_eq!(queue(wan(100_000_000, Duration::from_millis(80), 0.0)), Some(1_000_000));
        assert_eq!(queue(wan(1_000_000, Duration::from_millis(1), 0.0)), Some(96_000));
        assert_eq!(queue(satellite()), Some(3_750_000));
    }

    #[test]
    fn an_odd_round_trip_loses_no_nanosecond() {
        assert_eq!(wan(1, Duration::from_nanos(5), 0.0).rtt(), Duration::from_nanos(5));
    }

    #[test]
    fn loss_holds_both_ways_and_a_chosen_packet_only_forward() {
        let path = loopback().loss(0.5).lose_packet(3);
        assert_eq!((path.forward.impairments.loss, path.backward.impairments.loss), (0.5, 0.5));
        assert!(path.forward.impairments.lose_packets.contains(&3));
        assert!(path.backward.impairments.lose_packets.is_empty());
    }
}
