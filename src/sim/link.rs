//! One direction of a link: rate, queue, delay and impairments, in virtual time.
//!
//! A packet passes, in this order: the MTU (what is larger vanishes), the policer, the queue with
//! tail drop, the wire at the link's rate, then black-outs and the fate its index has by the seed,
//! then the delay. So a packet that the network loses has taken its time on the wire.
//! A packet counts as queued until its last bit has left.
//!
//! The link knows neither a clock nor what a packet is; the simulation and the bench's emulator
//! both drive it, and apply corruption themselves. Fates are drawn in `impairment.rs`; rate, queue
//! and policer are counted in `shaper.rs`; what has left waits for its arrival in `under_way.rs`.

use std::time::Duration;

use super::corruption::Corruption;
use super::impairment::{Direction, Fate, Fates, Impairments, LossCause};
use super::shaper::{Policer, Queue, QueueLimit, Schedule, TokenBucket, Wire};
use super::under_way::UnderWay;
use crate::proto::Time;

/// How a link behaves. The default carries everything at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkConfig {
    /// Bits per second on the wire; none is without bound. Zero counts as one.
    pub rate_bits_per_second: Option<u64>,
    /// From a packet's last bit leaving the queue to its arrival.
    pub delay: Duration,
    /// How much may wait for the wire.
    pub queue: QueueLimit,
    /// Added to the size of each packet on the wire, in bytes: 28 for IPv4 and UDP when datagrams
    /// are offered, 0 when whole IP packets are.
    pub overhead_bytes: usize,
    /// The largest packet that passes, overhead included, in bytes. A larger one is dropped
    /// without a word: a black hole.
    pub mtu_bytes: Option<usize>,
    /// Drops what exceeds a rate, before the queue.
    pub policer: Option<Policer>,
    /// What changes later, in any order; of two changes at one time the later in the list holds.
    pub changes: Vec<LinkChange>,
    /// What else happens to packets.
    pub impairments: Impairments,
}

/// A change of a link's properties at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// From when on.
    pub at: Time,
    /// What it becomes.
    pub to: NewValue,
}

/// What a `LinkChange` changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewValue {
    /// `LinkConfig::rate_bits_per_second`, also for what is on the wire at the time.
    RateBitsPerSecond(Option<u64>),
    /// `LinkConfig::delay`, for packets that leave the queue from then on. With a shorter delay
    /// they overtake those already under way, as after a change of route.
    Delay(Duration),
    /// `LinkConfig::mtu_bytes`, for packets offered from then on.
    MtuBytes(Option<usize>),
}

/// A packet that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<P> {
    /// What was offered.
    pub packet: P,
    /// How many packets had been offered before it.
    pub index: u64,
    /// Its size as offered, in bytes.
    pub bytes: usize,
    /// When it arrives.
    pub at: Time,
    /// The change to make to its bytes, if it is damaged.
    pub corruption: Option<Corruption>,
    /// Whether this is the second arrival of a packet.
    pub is_duplicate: bool,
}

/// What a link has done so far.
///
/// `offered_packets + duplicated_packets + replayed_packets` equals what was delivered, what was
/// lost, and what is still under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Packets offered.
    pub offered_packets: u64,
    /// Their bytes, without overhead.
    pub offered_bytes: u64,
    /// Packets that arrived, second arrivals included.
    pub delivered_packets: u64,
    /// Their bytes, without overhead.
    pub delivered_bytes: u64,
    /// Bytes that passed the wire, overhead included, also of packets lost behind it.
    pub wire_bytes: u64,
    /// Packets lost, by cause.
    pub lost: LossCounters,
    /// Packets that got a copy.
    pub duplicated_packets: u64,
    /// Packets that came once more, long after.
    pub replayed_packets: u64,
    /// Packets that were held back.
    pub reordered_packets: u64,
    /// Packets that were damaged.
    pub corrupted_packets: u64,
    /// The most packets in the queue at once.
    pub queue_packets_max: usize,
    /// The most bytes in the queue at once, overhead included.
    pub queue_bytes_max: usize,
    /// The longest wait of a packet for its turn on the wire.
    pub queue_delay_max: Duration,
    /// The sum of all such waits.
    pub queue_delay_total: Duration,
}

impl LinkCounters {
    /// The mean wait of the packets that got into the queue.
    pub fn queue_delay_mean(&self) -> Duration {
        let dropped = self.lost.queue + self.lost.policer + self.lost.mtu;
        let packets = u128::from(self.offered_packets - dropped).max(1);
        let nanos = self.queue_delay_total.as_nanos() / packets;
        Duration::from_nanos(nanos as u64)
    }
}

/// Packets lost, by cause; see `LossCause`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossCounters {
    /// `LossCause::Chosen`
    pub chosen: u64,
    /// `LossCause::Random`
    pub random: u64,
    /// `LossCause::Burst`
    pub burst: u64,
    /// `LossCause::Blackout`
    pub blackout: u64,
    /// `LossCause::Queue`
    pub queue: u64,
    /// `LossCause::Policer`
    pub policer: u64,
    /// `LossCause::Mtu`
    pub mtu: u64,
}

impl LossCounters {
    /// Packets lost by any cause.
    pub fn total(&self) -> u64 {
        let LossCounters { chosen, random, burst, blackout, queue, policer, mtu } = *self;
        chosen + random + burst + blackout + queue + policer + mtu
    }

    fn count(&mut self, cause: LossCause) {
        let counter = match cause {
            LossCause::Chosen => &mut self.chosen,
            LossCause::Random => &mut self.random,
            LossCause::Burst => &mut self.burst,
            LossCause::Blackout => &mut self.blackout,
            LossCause::Queue => &mut self.queue,
            LossCause::Policer => &mut self.policer,
            LossCause::Mtu => &mut self.mtu,
        };
        *counter += 1;
    }
}

/// One direction of a link that carries packets of type `P`.
#[derive(Debug)]
pub struct Link<P> {
    overhead_bytes: usize,
    mtu_bytes: Schedule<Option<usize>>,
    policer: Option<TokenBucket>,
    queue: Queue,
    wire: Wire,
    delay: Schedule<Duration>,
    fates: Fates,
    /// The last arrival that jitter with order must not undercut.
    arrival_floor: Time,
    /// The latest time heard of: time never runs backwards in here.
    now: Time,
    under_way: UnderWay<P>,
    counters: LinkCounters,
}

impl<P: Clone> Link<P> {
    /// An idle link. Packets of one `seed` and `direction` meet the same fates in every run.
    pub fn new(config: LinkConfig, seed: u64, direction: Direction) -> Link<P> {
        let rate = |to| match to {
            NewValue::RateBitsPerSecond(rate) => Some(rate),
            NewValue::Delay(_) | NewValue::MtuBytes(_) => None,
        };
        let delay = |to| match to {
            NewValue::Delay(delay) => Some(delay),
            NewValue::RateBitsPerSecond(_) | NewValue::MtuBytes(_) => None,
        };
        let mtu_bytes = |to| match to {
            NewValue::MtuBytes(mtu) => Some(mtu),
            NewValue::RateBitsPerSecond(_) | NewValue::Delay(_) => None,
        };
        let changes = &config.changes;
        Link {
            overhead_bytes: config.overhead_bytes,
            mtu_bytes: Schedule::new(config.mtu_bytes, select(changes, mtu_bytes)),
            policer: config.policer.map(TokenBucket::new),
            queue: Queue::new(config.queue),
            wire: Wire::new(Schedule::new(config.rate_bits_per_second, select(changes, rate))),
            delay: Schedule::new(config.delay, select(changes, delay)),
            fates: Fates::new(config.impairments, seed, direction),
            arrival_floor: Time::ZERO,
            now: Time::ZERO,
            under_way: UnderWay::new(),
            counters: LinkCounters::default(),
        }
    }

    /// Takes a packet of `bytes` bytes, without the link's overhead, at `now`.
    ///
    /// Returns why it will never arrive. That is for tests and traces; a sender does not know.
    /// A `now` before that of an earlier call counts as the latest one.
    pub fn offer(&mut self, now: Time, packet: P, bytes: usize) -> Option<LossCause> {
        self.now = self.now.max(now);
        let index = self.counters.offered_packets;
        self.counters.offered_packets += 1;
        self.counters.offered_bytes += bytes as u64;
        // Drawn for every packet, so that the n-th fate stays that of the n-th packet.
        let mut fate = self.fates.next_fate();
        let is_over = self.fates.impairments().until.is_some_and(|until| self.now >= until);
        if is_over {
            fate = Fate::default();
        }
        let outcome = self.send(bytes.saturating_add(self.overhead_bytes)).and_then(|left| {
            if !is_over
                && self.fates.impairments().blackouts.iter().any(|window| window.contains(left))
            {
                return Err(LossCause::Blackout);
            }
            fate.lost.map_or(Ok(left), Err)
        });
        match outcome {
            Ok(left) => {
                let at = self.arrival(left, &fate);
                let corruption = fate.corruption;
                let delivery =
                    Delivery { packet, index, bytes, at, corruption, is_duplicate: false };
                self.deliver(delivery, &fate);
                None
            }
            Err(cause) => {
                self.counters.lost.count(cause);
                Some(cause)
            }
        }
    }

    /// When the next packet arrives, if one is under way.
    pub fn next_delivery(&self) -> Option<Time> {
        self.under_way.next().map(|(at, _)| at)
    }

    /// The next packet that has arrived by `now`. Packets that arrive at the same moment keep
    /// their order.
    pub fn poll_delivery(&mut self, now: Time) -> Option<Delivery<P>> {
        let delivery = self.under_way.pop_until(now)?;
        self.counters.delivered_packets += 1;
        self.counters.delivered_bytes += delivery.bytes as u64;
        Some(delivery)
    }

    /// What happened so far.
    pub fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    /// Brings a packet through MTU, policer, queue and wire; when its last bit leaves.
    fn send(&mut self, wire_bytes: usize) -> Result<Time, LossCause> {
        let now = self.now;
        if self.mtu_bytes.at(now).is_some_and(|mtu| wire_bytes > mtu) {
            return Err(LossCause::Mtu);
        }
        if self.policer.as_mut().is_some_and(|bucket| !bucket.take(now, wire_bytes)) {
            return Err(LossCause::Policer);
        }
        if !self.queue.has_room(now, wire_bytes) {
            return Err(LossCause::Queue);
        }
        let waited = self.wire.busy_until().saturating_since(now);
        let left = self.wire.send(now, wire_bytes);
        self.queue.push(left, wire_bytes);
        let counters = &mut self.counters;
        counters.wire_bytes += wire_bytes as u64;
        counters.queue_delay_max = counters.queue_delay_max.max(waited);
        counters.queue_delay_total += waited;
        counters.queue_packets_max = counters.queue_packets_max.max(self.queue.packets());
        counters.queue_bytes_max = counters.queue_bytes_max.max(self.queue.bytes());
        Ok(left)
    }

    /// When a packet arrives that left the queue at `left`.
    fn arrival(&mut self, left: Time, fate: &Fate) -> Time {
        let at = left + self.delay.at(left) + fate.jitter;
        if let Some(held_back) = fate.held_back {
            return at + held_back;
        }
        if self.fates.impairments().jitter.is_some_and(|jitter| jitter.keeps_order) {
            self.arrival_floor = self.arrival_floor.max(at);
            return self.arrival_floor;
        }
        at
    }

    fn deliver(&mut self, delivery: Delivery<P>, fate: &Fate) {
        self.counters.reordered_packets += u64::from(fate.held_back.is_some());
        self.counters.corrupted_packets += u64::from(fate.corruption.is_some());
        let again =
            |after| Delivery { at: delivery.at + after, is_duplicate: true, ..delivery.clone() };
        let copy = fate.duplicate_after.map(again);
        let replay = fate.replayed_after.map(again);
        if fate.held_back.is_some() {
            self.under_way.push_apart(delivery);
        } else {
            self.under_way.push(delivery);
        }
        if let Some(copy) = copy {
            self.counters.duplicated_packets += 1;
            self.under_way.push_apart(copy);
        }
        if let Some(replay) = replay {
            self.counters.replayed_packets += 1;
            self.under_way.push_apart(replay);
        }
    }
}

/// The changes of one property.
fn select<T>(changes: &[LinkChange], of: impl Fn(NewValue) -> Option<T>) -> Vec<(Time, T)> {
    changes.iter().filter_map(|change| of(change.to).map(|value| (change.at, value))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::impairment::*;
    use super::*;
    use crate::sim::CorruptionKind;

    const SEED: u64 = 0x5eed;
    const MICROSECOND: Duration = Duration::from_micros(1);
    const MILLISECOND: Duration = Duration::from_millis(1);

    fn link(config: LinkConfig) -> Link<u64> {
        println!("seed {SEED:#x}");
        Link::new(config, SEED, Direction::Forward)
    }

    fn impaired(impairments: Impairments) -> LinkConfig {
        LinkConfig { impairments, ..LinkConfig::default() }
    }

    fn at(since_start: Duration) -> Time {
        Time::ZERO + since_start
    }

    /// Everything that is still to arrive.
    fn drain(link: &mut Link<u64>) -> Vec<Delivery<u64>> {
        std::iter::from_fn(|| link.poll_delivery(link.next_delivery()?)).collect()
    }

    /// Offers `count` numbered packets of `bytes` bytes, one every `gap`, and drains the link.
    fn run(link: &mut Link<u64>, count: u64, bytes: usize, gap: Duration) -> Vec<Delivery<u64>> {
        let mut now = Time::ZERO;
        for index in 0..count {
            link.offer(now, index, bytes);
            now += gap;
        }
        drain(link)
    }

    fn packets(deliveries: &[Delivery<u64>]) -> Vec<u64> {
        deliveries.iter().map(|delivery| delivery.packet).collect()
    }

    #[test]
    fn by_default_everything_arrives_at_once_and_in_order() {
        let mut link = link(LinkConfig::default());
        let deliveries = run(&mut link, 1_000, 1_472, Duration::ZERO);
        assert_eq!(packets(&deliveries), (0..1_000).collect::<Vec<_>>());
        assert!(deliveries.iter().all(|delivery| delivery.at == Time::ZERO));
        assert_eq!(link.counters().delivered_bytes, 1_472_000);
        assert_eq!(link.counters().lost.total(), 0);
    }

    #[test]
    fn nothing_arrives_before_its_time() {
        let mut link = link(LinkConfig { delay: MILLISECOND, ..LinkConfig::default() });
        link.offer(Time::ZERO, 7, 100);
        assert_eq!(link.next_delivery(), Some(at(MILLISECOND)));
        assert_eq!(link.poll_delivery(Time::from_nanos(999_999)), None);
        assert_eq!(link.poll_delivery(at(MILLISECOND)).map(|delivery| delivery.packet), Some(7));
        assert_eq!(link.next_delivery(), None);
    }

    #[test]
    fn ten_thousand_packets_take_exactly_their_bits_by_the_rate() {
        let mut link = link(LinkConfig {
            rate_bits_per_second: Some(100_000_000),
            delay: MILLISECOND,
            overhead_bytes: 28,
            ..LinkConfig::default()
        });
        let deliveries = run(&mut link, 10_000, 1_472, Duration::ZERO);
        // 1,500 bytes at 100 Mbit/s are 120 us.
        for (turn, delivery) in (1..).zip(&deliveries) {
            assert_eq!(delivery.at, at(MILLISECOND + 120 * MICROSECOND * turn));
        }
        assert_eq!(link.counters().wire_bytes, 15_000_000);
        assert_eq!(link.counters().queue_delay_max, 120 * MICROSECOND * 9_999);
        assert_eq!(link.counters().queue_delay_mean(), 60 * MICROSECOND * 9_999);
    }

    #[test]
    fn rounding_never_adds_up() {
        // 1,001 bytes at 7 Mbit/s are 1,144,000 ns and at 3 Gbit/s 2,669.3 ns; both offered at
        // once and each just before the wire falls idle, a million packets long.
        for rate in [7_000_000, 3_000_000_000_u64, 999_999_937] {
            let mut link =
                link(LinkConfig { rate_bits_per_second: Some(rate), ..LinkConfig::default() });
            let mut now = Time::ZERO;
            for turn in 1..=1_000_000_u64 {
                link.offer(now, turn, 1_001);
                let expected = u128::from(turn) * 8_008 * 1_000_000_000 / u128::from(rate);
                let delivery = link.poll_delivery(Time::from_nanos(u64::MAX)).unwrap();
                assert_eq!(u128::from(delivery.at.as_nanos()), expected, "packet {turn}");
                now = if turn % 2 == 0 { delivery.at } else { now };
            }
        }
    }

    #[test]
    fn an_idle_wire_saves_up_no_rate() {
        let mut link =
            link(LinkConfig { rate_bits_per_second: Some(8_000_000), ..LinkConfig::default() });
        // A byte takes 1 us.
        let deliveries = run(&mut link, 10, 100, 150 * MICROSECOND);
        for (turn, delivery) in (0..).zip(&deliveries) {
            assert_eq!(delivery.at, at(150 * MICROSECOND * turn + 100 * MICROSECOND));
        }
        assert_eq!(link.counters().queue_delay_max, Duration::ZERO);
        assert_eq!(link.counters().queue_packets_max, 1);
    }

    #[test]
    fn a_full_queue_drops_the_newest_packet() {
        for queue in [
            QueueLimit { bytes: None, packets: Some(3) },
            QueueLimit { bytes: Some(399), packets: None },
        ] {
            let mut link = link(LinkConfig {
                rate_bits_per_second: Some(8_000_000),
                queue,
                overhead_bytes: 20,
                ..LinkConfig::default()
            });
            // 120 us per packet, of which three fit: the fourth and fifth are dropped.
            for packet in 0..5 {
                let lost = link.offer(Time::ZERO, packet, 100);
                assert_eq!(lost, (packet > 2).then_some(LossCause::Queue));
            }
            // A nanosecond before the first has left there is no room, then there is for one.
            assert_eq!(link.offer(Time::from_nanos(119_999), 5, 100), Some(LossCause::Queue));
            assert_eq!(link.offer(Time::from_nanos(120_000), 6, 100), None);
            assert_eq!(link.offer(Time::from_nanos(120_000), 7, 100), Some(LossCause::Queue));
            assert_eq!(packets(&drain(&mut link)), [0, 1, 2, 6]);
            assert_eq!(link.counters().lost.queue, 4);
            assert_eq!(link.counters().queue_packets_max, 3);
            assert_eq!(link.counters().queue_bytes_max, 360);
        }
    }

    #[test]
    fn a_new_rate_holds_from_its_moment_also_for_the_packet_on_the_wire() {
        let change = |micros, to| LinkChange { at: at(micros * MICROSECOND), to };
        let mut link = link(LinkConfig {
            rate_bits_per_second: Some(8_000_000),
            changes: vec![
                change(450, NewValue::RateBitsPerSecond(None)),
                change(150, NewValue::RateBitsPerSecond(Some(4_000_000))),
                change(250, NewValue::RateBitsPerSecond(Some(8_000_000))),
            ],
            ..LinkConfig::default()
        });
        // 100 bytes: 100 us; then 50 + 100 us; then from 250 on at the old rate; from 450 on at
        // once.
        let deliveries = run(&mut link, 6, 100, Duration::ZERO);
        let micros: Vec<u64> = deliveries.iter().map(|it| it.at.as_micros()).collect();
        assert_eq!(micros, [100, 250, 350, 450, 450, 450]);
    }

    #[test]
    fn a_shorter_delay_lets_later_packets_overtake() {
        let mut link = link(LinkConfig {
            delay: 10 * MILLISECOND,
            changes: vec![LinkChange { at: at(2 * MILLISECOND), to: NewValue::Delay(MILLISECOND) }],
            ..LinkConfig::default()
        });
        let deliveries = run(&mut link, 3, 100, MILLISECOND);
        assert_eq!(packets(&deliveries), [2, 0, 1]);
        assert_eq!(deliveries[0].at, at(3 * MILLISECOND));
    }

    #[test]
    fn packets_above_the_mtu_vanish_while_it_holds() {
        let mut link = link(LinkConfig {
            mtu_bytes: Some(1_500),
            overhead_bytes: 28,
            changes: vec![
                LinkChange { at: at(MILLISECOND), to: NewValue::MtuBytes(Some(1_400)) },
                LinkChange { at: at(2 * MILLISECOND), to: NewValue::MtuBytes(None) },
            ],
            ..LinkConfig::default()
        });
        let mut offer = |millis, bytes| link.offer(at(millis * MILLISECOND), 0, bytes);
        assert_eq!(offer(0, 1_472), None);
        assert_eq!(offer(0, 1_473), Some(LossCause::Mtu));
        assert_eq!(offer(1, 1_372), None);
        assert_eq!(offer(1, 1_472), Some(LossCause::Mtu));
        assert_eq!(offer(2, 65_507), None);
        assert_eq!(link.counters().lost.mtu, 2);
    }

    #[test]
    fn a_policer_passes_its_burst_and_then_its_rate() {
        let mut link = link(LinkConfig {
            policer: Some(Policer { rate_bits_per_second: 8_000_000, burst_bytes: 10_000 }),
            ..LinkConfig::default()
        });
        // 1,000 bytes every 100 us are ten times the rate: after the burst, a tenth passes.
        let deliveries = run(&mut link, 100_000, 1_000, 100 * MICROSECOND);
        assert_eq!(deliveries.len(), 10 + 9_999);
        // While the burst is spent it refills by a tenth, which carries one packet more.
        assert_eq!(packets(&deliveries)[..13], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30]);
        assert_eq!(link.counters().lost.policer, 100_000 - 10_009);
        assert!(deliveries.iter().all(|delivery| delivery.at.as_micros() % 100 == 0));
    }

    #[test]
    fn a_blackout_takes_what_leaves_the_queue_during_it() {
        let window = TimeWindow { from: at(2 * MILLISECOND), until: at(5 * MILLISECOND) };
        let mut link = link(LinkConfig {
            delay: 10 * MILLISECOND,
            ..impaired(Impairments { blackouts: vec![window], ..Impairments::default() })
        });
        let deliveries = run(&mut link, 8, 100, MILLISECOND);
        assert_eq!(packets(&deliveries), [0, 1, 5, 6, 7]);
        assert_eq!(link.counters().lost.blackout, 3);
    }

    #[test]
    fn the_nth_packet_meets_the_same_fate_whatever_its_time_and_size() {
        let impairments = Impairments {
            loss: 0.1,
            burst_loss: Some(BurstLoss { mean_loss: 0.05, mean_burst_packets: 4.0 }),
            lose_packets: BTreeSet::from([3, 5]),
            duplication: Some(Duplication { probability: 0.2, delay: MICROSECOND }),
            reordering: Some(Reordering { probability: 0.2, delay: 5 * MILLISECOND }),
            corruption: Some(Corrupting { probability: 0.2, kinds: CorruptionKind::ALL.to_vec() }),
            ..Impairments::default()
        };
        let observe = |rate, bytes, gap| {
            let mut link =
                link(LinkConfig { rate_bits_per_second: rate, ..impaired(impairments.clone()) });
            let mut seen: Vec<_> = run(&mut link, 5_000, bytes, gap)
                .into_iter()
                .map(|it| (it.packet, it.is_duplicate, it.corruption.map(|it| it.kind)))
                .collect();
            seen.sort();
            seen
        };
        let fates = Fates::new(impairments.clone(), SEED, Direction::Forward).take(5_000);
        let mut expected = Vec::new();
        for (index, fate) in (0..).zip(fates).filter(|(_, fate)| fate.lost.is_none()) {
            let kind = fate.corruption.map(|it| it.kind);
            expected.push((index, false, kind));
            expected.extend(fate.duplicate_after.map(|_| (index, true, kind)));
        }
        assert_eq!(observe(None, 100, Duration::ZERO), expected);
        assert_eq!(observe(Some(1_000_000), 1_472, MILLISECOND), expected);
        assert_eq!(observe(Some(10_000_000_000), 9_000, MICROSECOND), expected);
    }

    #[test]
    fn a_drop_at_the_queue_moves_no_fate_to_another_packet() {
        let impairments = Impairments { lose_packets: [4].into(), ..Impairments::default() };
        let mut link = link(LinkConfig {
            rate_bits_per_second: Some(8_000_000),
            queue: QueueLimit { bytes: None, packets: Some(2) },
            ..impaired(impairments)
        });
        for index in 0..4 {
            link.offer(Time::ZERO, index, 100);
        }
        assert_eq!(link.counters().lost.queue, 2);
        assert_eq!(link.offer(at(MILLISECOND), 4, 100), Some(LossCause::Chosen));
        assert_eq!(link.offer(at(MILLISECOND), 5, 100), None);
    }

    #[test]
    fn a_lost_packet_takes_its_time_on_the_wire() {
        let impairments = Impairments { lose_packets: [0].into(), ..Impairments::default() };
        let mut link =
            link(LinkConfig { rate_bits_per_second: Some(8_000_000), ..impaired(impairments) });
        let deliveries = run(&mut link, 2, 100, Duration::ZERO);
        assert_eq!(deliveries[0].at, at(200 * MICROSECOND));
    }

    #[test]
    fn duplicates_follow_their_packet_by_the_delay() {
        let duplication = Some(Duplication { probability: 1.0, delay: 3 * MILLISECOND });
        let mut link = link(LinkConfig {
            delay: MILLISECOND,
            ..impaired(Impairments { duplication, ..Impairments::default() })
        });
        let deliveries = run(&mut link, 2, 100, 2 * MILLISECOND);
        let seen: Vec<_> = deliveries
            .iter()
            .map(|it| (it.packet, it.index, it.is_duplicate, it.at.as_micros()))
            .collect();
        let expected =
            [(0, 0, false, 1_000), (1, 1, false, 3_000), (0, 0, true, 4_000), (1, 1, true, 6_000)];
        assert_eq!(seen, expected);
        assert_eq!(link.counters().duplicated_packets, 2);
        assert_eq!(link.counters().delivered_packets, 4);
    }

    #[test]
    fn a_packet_held_back_is_overtaken_and_holds_up_nobody() {
        let reordering = Some(Reordering { probability: 0.1, delay: 10 * MILLISECOND });
        let jitter =
            Some(Jitter { shape: JitterShape::Uniform { max: MICROSECOND }, keeps_order: true });
        let impairments = Impairments { reordering, jitter, ..Impairments::default() };
        let mut link = link(impaired(impairments.clone()));
        let deliveries = run(&mut link, 1_000, 100, MILLISECOND);
        let fates: Vec<Fate> =
            Fates::new(impairments, SEED, Direction::Forward).take(1_000).collect();
        for delivery in &deliveries {
            let index = delivery.index as usize;
            let expected = at(MILLISECOND * index as u32)
                + fates[index].jitter
                + fates[index].held_back.unwrap_or_default();
            assert_eq!(delivery.at, expected, "packet {index}");
        }
        assert!(link.counters().reordered_packets > 50);
        assert!(!packets(&deliveries).is_sorted());
    }

    #[test]
    fn jitter_keeps_order_when_told_to_and_overtakes_when_not() {
        for keeps_order in [true, false] {
            let shape = JitterShape::Normal { mean: 5 * MILLISECOND, deviation: 2 * MILLISECOND };
            let jitter = Some(Jitter { shape, keeps_order });
            let mut link = link(LinkConfig {
                delay: MILLISECOND,
                ..impaired(Impairments { jitter, ..Impairments::default() })
            });
            let deliveries = run(&mut link, 10_000, 100, 50 * MICROSECOND);
            assert_eq!(deliveries.len(), 10_000);
            assert_eq!(packets(&deliveries).is_sorted(), keeps_order);
            let delay = |it: &Delivery<u64>| it.at - 50 * MICROSECOND * it.index as u32;
            assert!(deliveries.iter().all(|it| delay(it) >= at(MILLISECOND)));
        }
    }

    #[test]
    fn deliveries_come_in_order_of_time_and_then_of_sending() {
        let impairments = Impairments {
            duplication: Some(Duplication { probability: 0.3, delay: 4 * MICROSECOND }),
            reordering: Some(Reordering { probability: 0.3, delay: 7 * MICROSECOND }),
            ..Impairments::default()
        };
        let fates = Fates::new(impairments.clone(), SEED, Direction::Forward).take(5_000);
        let mut expected = Vec::new();
        for (index, fate) in (0..).zip(fates) {
            let at = at(MICROSECOND * (index / 3)) + fate.held_back.unwrap_or_default();
            expected.push((at, u64::from(index)));
            expected.extend(fate.duplicate_after.map(|after| (at + after, u64::from(index))));
        }
        // A stable sort, so that arrivals of one moment keep the order in which they were sent.
        expected.sort_by_key(|&(at, _)| at);
        let mut link = link(impaired(impairments));
        for index in 0..5_000_u32 {
            link.offer(at(MICROSECOND * (index / 3)), u64::from(index), 100);
        }
        let seen: Vec<_> = drain(&mut link).iter().map(|it| (it.at, it.packet)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn counters_account_for_every_packet() {
        let impairments = Impairments {
            loss: 0.2,
            duplication: Some(Duplication { probability: 0.3, delay: MILLISECOND }),
            ..Impairments::default()
        };
        let mut link = link(LinkConfig {
            rate_bits_per_second: Some(8_000_000),
            queue: QueueLimit { bytes: Some(10_000), packets: None },
            policer: Some(Policer { rate_bits_per_second: 9_000_000, burst_bytes: 3_000 }),
            mtu_bytes: Some(1_000),
            ..impaired(impairments)
        });
        let mut now = Time::ZERO;
        for index in 0..20_000_u64 {
            link.offer(now, index, 500 + (index % 600) as usize);
            now += 60 * MICROSECOND * (index % 10) as u32;
        }
        let under_way = drain(&mut link).len() as u64;
        let counters = *link.counters();
        assert_eq!(counters.delivered_packets, under_way);
        assert_eq!(
            counters.offered_packets + counters.duplicated_packets,
            counters.delivered_packets + counters.lost.total()
        );
        let LossCounters { random, queue, policer, mtu, .. } = counters.lost;
        assert!([random, queue, policer, mtu].iter().all(|&count| count > 0), "{counters:?}");
    }

    #[test]
    fn a_clock_that_steps_back_is_not_believed() {
        let mut link = link(LinkConfig {
            policer: Some(Policer { rate_bits_per_second: 8_000_000, burst_bytes: 1_000 }),
            ..LinkConfig::default()
        });
        link.offer(at(MILLISECOND), 0, 100);
        link.offer(Time::ZERO, 1, 100);
        assert!(drain(&mut link).iter().all(|it| it.at == at(MILLISECOND)));
    }
}
