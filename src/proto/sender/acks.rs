//! Takes ACKs in: RTT, rate samples, losses (proto.md, "Loss detection").

use std::time::Duration;

use super::congestion::AckSample;
use super::in_flight::{Acked, Lost};
use super::{LastAck, Sender};
use crate::proto::sabotage::Bug;
use crate::proto::time::Time;
use crate::wire::{Ack, Space};

/// The least reordering window while the tail is far away.
const LAZY_WINDOW_MIN: Duration = Duration::from_millis(1);

/// ... and near the end.
const EAGER_WINDOW_MIN: Duration = Duration::from_micros(200);

/// Later packets that make an open one lost near the end (RFC 9002, section 6.1.1).
const EAGER_PACKETS: u32 = 3;

/// A widened reordering window is halved again after so many round trips (RACK, RFC 8985).
const REORDERING_ROUNDS: u32 = 16;

/// The RTT of a packet that left while probe timeouts expired in a row counts as this at most: what
/// waited at a receiver that was stopped says nothing of the path, and later packets tell.
const RTT_AMID_TIMEOUTS_MAX: Duration = Duration::from_secs(1);

/// A span shorter than this makes no rate sample: receivers stamp whole batches at once.
const RATE_SPAN_MIN_US: u64 = 100;

/// Packets of the first flight that must have arrived before their spacing makes a rate.
const TRAIN_BYTES_MIN: u64 = 16 * 1_200;

impl Sender {
    pub(super) fn on_ack(&mut self, now: Time, ack: &Ack<'_>) {
        if ack.largest >= self.in_flight.next_number()
            && !self.config.sabotage.has(Bug::TakeUnsentAck)
        {
            self.stats.invalid += 1;
            return;
        }
        let newer = self.last_ack.is_none_or(|last| {
            ack.largest > last.largest
                || (ack.largest == last.largest && ack.received_packets >= last.received_packets)
        });
        let backwards = self.last_ack.is_some_and(|last| {
            ack.largest > last.largest
                && (ack.received_packets < last.received_packets
                    || ack.received_bytes < last.received_bytes)
        });
        if backwards {
            self.stats.invalid += 1;
            return;
        }
        // Who says nothing but what cannot be is silent: else nothing would end a transfer of which
        // somebody on the path has told the receiver a number that was never sent.
        self.on_heard(now);
        self.stats.acks += 1;
        self.stats.written = self.stats.written.max(ack.written);
        self.flow.on_ack(ack);
        self.manifest.raise_limit(ack.max_manifest);
        self.digests.raise_limit(ack.max_digests);
        let acked = self.in_flight.on_ack(ack, self.body.has_repeated());
        self.release(&acked);
        if acked.packets > 0 && self.pto_backoff > 1 {
            self.heard_again_at = now;
        }
        let mut rtt = None;
        if let Some(departure) = &acked.largest
            && !self.is_late(now)
        {
            let delay = Duration::from_micros(u64::from(ack.delay_us));
            let since = now.saturating_since(departure.at);
            self.ack_delay_max = self.ack_delay_max.max(delay.min(Duration::from_millis(25)));
            let measured = match departure.at < self.heard_again_at {
                true => since.saturating_sub(delay).min(RTT_AMID_TIMEOUTS_MAX),
                false => since.saturating_sub(delay),
            };
            rtt = Some(measured);
            self.rtt.on_sample(now, measured);
        }
        if acked.packets > 0 {
            self.pto_backoff = 0;
            self.pto_from = now;
            self.mtu.on_reported(acked.datagram_bytes as usize);
        }
        if self.mtu.test_number().is_some_and(|number| acked.probes.contains(&number)) {
            self.mtu.on_test_reported(self.flow.datagram_bytes());
        }
        self.detect_losses(now);
        if newer {
            self.sample(now, ack, &acked, rtt);
        }
        self.set_pace(now);
    }

    /// Forgets what arrived.
    fn release(&mut self, acked: &Acked) {
        for (number, chunk) in &acked.chunks {
            match chunk.space {
                Space::Manifest => self.manifest.on_acknowledged(chunk.range.clone()),
                Space::Digests => self.digests.on_acknowledged(chunk.range.clone()),
                Space::Body => self.body.on_reported(*number, &chunk.range),
                Space::Answers => {}
            }
        }
        for (number, chunk) in acked.spurious.iter().filter(|it| it.1.space == Space::Body) {
            self.body.on_spurious(*number, &chunk.range);
        }
        if acked.spurious_packets > 0 {
            self.stats.packets_spurious += acked.spurious_packets;
            self.loss_count.on_spurious(acked.spurious_packets);
            let window = self.reordering_window.max(self.reordering_window_min()) * 2;
            self.reordering_window = window.min(self.rtt.smoothed());
            self.reordering_rounds = 0;
        }
    }

    /// Whether the rest of the transfer is so short that a lost packet delays its end.
    fn is_eager(&self) -> bool {
        self.body.unsent_bytes() < 2 * self.controller.window_bytes()
    }

    fn reordering_window_min(&self) -> Duration {
        match self.is_eager() {
            true => (self.rtt.minimum() / 4).max(EAGER_WINDOW_MIN),
            false => (self.rtt.smoothed() / 2).max(LAZY_WINDOW_MIN),
        }
    }

    pub(super) fn detect_losses(&mut self, now: Time) {
        let window = self.reordering_window.max(self.reordering_window_min());
        let wait = self.rtt.smoothed().max(self.rtt.latest()) + window;
        let mut lost = Lost::default();
        self.loss_deadline = self.in_flight.detect_by_time(now, wait, &mut lost);
        if self.is_eager() && self.reordering_window.is_zero() {
            self.in_flight.detect_by_count(EAGER_PACKETS, &mut lost);
        }
        self.requeue(&lost);
    }

    /// Queues lost content to be sent again.
    pub(super) fn requeue(&mut self, lost: &Lost) {
        if lost.packets == 0 {
            return;
        }
        self.stats.packets_lost += lost.packets;
        self.loss_count.on_lost(lost, self.in_flight.lost_bytes());
        for chunk in &lost.chunks {
            match chunk.space {
                Space::Body if self.config.sabotage.has(Bug::ForgetLost) => {}
                Space::Body => self.body.on_lost(chunk.range.clone()),
                Space::Manifest => self.manifest.on_lost(chunk.range.clone()),
                Space::Digests => self.digests.on_lost(chunk.range.clone()),
                Space::Answers => {}
            }
        }
        if self.mtu.test_number().is_some_and(|number| lost.probes.contains(&number)) {
            self.mtu.on_test_lost();
        }
        self.mtu.on_large_lost(lost.large_packets);
    }

    /// Tells the controller what this ACK shows.
    fn sample(&mut self, now: Time, ack: &Ack<'_>, acked: &Acked, rtt: Option<Duration>) {
        let round_ended = ack.largest >= self.round_end;
        if round_ended {
            self.round_end = self.in_flight.next_number();
            self.on_round();
        }
        let drops_before = self.last_ack.map_or(self.config.peer_first_count, |last| last.drops);
        //= proto.md#ack
        //# A difference of 2^31 or more means that the ACK is older than the other one, and shows
        //# nothing.
        let drops = ack.drops.wrapping_sub(drops_before);
        let receiver_dropped = (1..1 << 31).contains(&drops);
        if receiver_dropped {
            self.stats.receiver_drops += u64::from(drops);
            self.loss_count.on_drops(now, self.rtt.smoothed());
        }
        let sent_packets = (ack.largest.0 + 1).saturating_sub(self.config.first_number);
        let rate = self.rate_sample(ack, acked);
        let departure = acked.largest.unwrap_or_default();
        let one_way =
            acked.largest.map(|it| self.one_way_delay.on_sample(now, it.at, ack.arrival_us));
        let rtt_above = rtt.map(|rtt| rtt.saturating_sub(self.rtt.minimum()));
        self.controller.on_ack(&AckSample {
            now,
            smoothed_rtt: self.rtt.smoothed(),
            rtt,
            min_rtt: self.rtt.minimum(),
            queue_delay: one_way.zip(rtt_above).map(|(one_way, rtt)| one_way.min(rtt)),
            rate: rate.bytes_per_second,
            is_train: rate.is_train,
            limited: rate.limited,
            delivered_bytes: rate.delivered_bytes,
            sent_in_flight_bytes: departure.in_flight_bytes,
            flight_lost_bytes: match acked.largest {
                Some(_) => self.in_flight.lost_bytes() - departure.lost_bytes,
                None => 0,
            },
            acked_bytes: acked.bytes,
            loss: self.loss_count.take(now, sent_packets.saturating_sub(ack.received_packets)),
            sent_packets,
            received_packets: ack.received_packets,
            receiver_dropped,
            in_flight_bytes: self.in_flight.bytes(),
            datagram_bytes: self.mtu.datagram_bytes() as u64,
            round_ended,
        });
        self.last_ack = Some(LastAck {
            largest: ack.largest,
            received_packets: ack.received_packets,
            received_bytes: ack.received_bytes,
            drops: if receiver_dropped { ack.drops } else { drops_before },
        });
        if let Some(departure) = acked.largest {
            self.mark.arrival_us = ack.arrival_us;
            self.mark.received_bytes = ack.received_bytes;
            self.mark.sent_at = departure.at;
            if self.train.is_none() {
                self.train = Some(self.mark);
            }
        }
    }

    /// Delivery rate over the span from when the newest reported packet left to its arrival,
    /// by the receiver's clock; for the first flight over the flight's own spacing.
    fn rate_sample(&self, ack: &Ack<'_>, acked: &Acked) -> RateSample {
        let Some(departure) = acked.largest else { return RateSample::default() };
        let mark = departure.mark;
        let first_flight = mark.received_bytes == 0;
        let base = if first_flight { self.train } else { Some(mark) };
        let mut sample = RateSample { limited: mark.limited, ..RateSample::default() };
        let Some(base) = base else { return sample };
        sample.delivered_bytes = ack.received_bytes.saturating_sub(base.received_bytes);
        let arrival_us = ack.arrival_us.saturating_sub(base.arrival_us);
        // Packets that were held up and arrive at once would show too high a rate: the span in
        // which they left bounds it. The first flight leaves at once, so its span says nothing.
        let sent_us = departure.at.saturating_since(base.sent_at).as_micros() as u64;
        let span_us = if first_flight { arrival_us } else { arrival_us.max(sent_us) };
        let too_few = first_flight && sample.delivered_bytes < TRAIN_BYTES_MIN;
        if span_us < RATE_SPAN_MIN_US || too_few {
            return sample;
        }
        let rate = u128::from(sample.delivered_bytes) * 1_000_000 / u128::from(span_us);
        RateSample { bytes_per_second: u64::try_from(rate).ok(), is_train: first_flight, ..sample }
    }

    fn on_round(&mut self) {
        self.reordering_rounds += 1;
        if self.reordering_rounds >= REORDERING_ROUNDS {
            self.reordering_rounds = 0;
            let half = self.reordering_window / 2;
            let least = self.reordering_window_min();
            self.reordering_window = if half < least { Duration::ZERO } else { half };
        }
    }
}

/// What an ACK shows of the delivery rate.
#[derive(Debug, Default)]
struct RateSample {
    bytes_per_second: Option<u64>,
    delivered_bytes: u64,
    limited: bool,
    is_train: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::config::SenderConfig;
    use crate::proto::error::Error;
    use crate::proto::sender::asking::welcome_to;
    use crate::proto::sender::congestion::Algorithm;
    use crate::proto::sender::in_flight::{Chunk, Departure, Mark};
    use crate::proto::sender::{SenderEvent, State};
    use crate::wire::{Bitmap, Data, Limit, PacketNumber, Welcome};

    fn at(milliseconds: u64) -> Time {
        Time::ZERO + Duration::from_millis(milliseconds)
    }

    /// A sender whose HELLO was answered after 40 ms, with CUBIC's window, which is the simplest.
    fn open() -> Sender {
        let config = SenderConfig { algorithm: Algorithm::Cubic, ..SenderConfig::default() };
        let mut sender = Sender::new(at(0), config, [7; 32]);
        sender.poll_transmit(at(0)).unwrap();
        let least = welcome_to(&sender.greeting);
        let welcome = Welcome { socket_bytes: 1 << 20, credit: 1_000, ..least };
        sender.on_welcome(at(40), &welcome);
        sender
    }

    /// So many packets leave, one every millisecond from `milliseconds` on.
    fn send(sender: &mut Sender, milliseconds: u64, packets: u64) {
        for turn in 0..packets {
            let start = 1_000 * sender.in_flight.next_number().0;
            let chunk = Chunk { space: Space::Body, range: start..start + 1_000 };
            let (now, mark) = (at(milliseconds + turn), sender.mark);
            sender.in_flight.on_sent(now, 1, Some(chunk), 1_000, 1_032, mark);
        }
    }

    /// An ACK that reports the numbers of the bits of `word`, and so many packets and bytes.
    fn ack(word: &[u8; 8], packets: u64, bytes: u64) -> Ack<'_> {
        Ack {
            largest: PacketNumber(u64::from(u64::from_le_bytes(*word).ilog2())),
            arrival_us: 0,
            delay_us: 0,
            received_packets: packets,
            received_bytes: bytes,
            duplicates: 0,
            drops: 0,
            ecn_ce: 0,
            max_number: PacketNumber(1_000),
            max_manifest: 0,
            max_digests: 0,
            max_body: 0,
            written: 0,
            datagram_bytes: 1_472,
            limit: Limit::Nothing,
            base: PacketNumber(0),
            bitmap: Bitmap::from_bytes(word).unwrap(),
        }
    }

    fn acknowledge(sender: &mut Sender, now: Time, word: u64, packets: u64, bytes: u64) {
        sender.on_ack(now, &ack(&word.to_le_bytes(), packets, bytes));
    }

    /// ACKs taken in, and datagrams that were not believed.
    fn counts(sender: &Sender) -> (u64, u64) {
        (sender.stats.acks, sender.stats.invalid)
    }

    #[test]
    fn an_ack_of_more_whose_counters_turn_back_is_not_believed() {
        for (packets, bytes) in [(4, 6_000), (6, 4_999)] {
            let mut sender = open();
            send(&mut sender, 40, 10);
            acknowledge(&mut sender, at(81), 0b1, 5, 5_000);
            acknowledge(&mut sender, at(82), 0b11, packets, bytes);
            assert_eq!((counts(&sender), sender.in_flight.open_packets()), ((1, 1), 9));
            acknowledge(&mut sender, at(83), 0b11, 5, 5_000);
            assert_eq!(counts(&sender), (2, 1), "they may stand still");
            assert_eq!(sender.in_flight.open_packets(), 8);
        }
    }

    #[test]
    fn an_ack_that_was_overtaken_reports_packets_and_turns_no_counter_back() {
        let mut sender = open();
        send(&mut sender, 40, 10);
        acknowledge(&mut sender, at(81), 0b100, 6, 6_000);
        for word in [0b010, 0b101] {
            acknowledge(&mut sender, at(82), word, 5, 5_000);
            let last = sender.last_ack.unwrap();
            assert_eq!((last.received_packets, last.received_bytes), (6, 6_000));
        }
        assert_eq!((counts(&sender), sender.in_flight.open_packets()), ((3, 0), 7));
        acknowledge(&mut sender, at(83), 0b111, 6, 6_100);
        assert_eq!(sender.last_ack.unwrap().received_bytes, 6_100, "of the same packets, later");
    }

    //= proto.md#loss-detection
    //= type=test
    //# one of a packet that left before an ACK ended two timeouts in a row or more
    //# counts as 1 s at most
    #[test]
    fn what_waited_at_a_receiver_that_was_stopped_counts_as_a_second_at_most() {
        for (timeouts, expected_ms) in [(1, 20_000), (2, 1_000)] {
            let mut sender = open();
            send(&mut sender, 50, 2);
            sender.pto_backoff = timeouts;
            for (turn, word) in [(0, 0b1), (1, 0b11)] {
                acknowledge(&mut sender, at(20_050 + turn), word, 1 + turn, 1_000 * (1 + turn));
                assert_eq!(sender.rtt.latest(), Duration::from_millis(expected_ms));
            }
            send(&mut sender, 20_052, 1);
            acknowledge(&mut sender, at(22_052), 0b111, 3, 3_000);
            assert_eq!(sender.rtt.latest(), Duration::from_secs(2), "the path got longer");
        }
    }

    #[test]
    fn an_ack_of_a_number_that_never_left_is_not_believed() {
        let mut sender = open();
        send(&mut sender, 40, 3);
        acknowledge(&mut sender, at(81), 0b1000, 1, 1_000);
        assert_eq!(counts(&sender), (0, 1));
        acknowledge(&mut sender, at(81), 0b100, 1, 1_000);
        assert_eq!(counts(&sender), (1, 1));
    }

    //= proto.md#end
    //= type=test
    //# An ACK that is dropped breaks no silence, nor do answers that
    //# came before.
    #[test]
    fn a_receiver_that_says_only_what_is_not_believed_or_not_new_is_silent() {
        let mut sender = open();
        send(&mut sender, 40, 3);
        acknowledge(&mut sender, at(60), 0b1, 1, 1_000);
        let answers = Data { space: Space::Answers, offset: 0, payload: &[1] };
        for second in 0..20 {
            let now = at(81 + 1_000 * second);
            acknowledge(&mut sender, now, 0b1000, 2, 2_000);
            sender.on_answers(now, &answers);
            sender.handle_timeout(now);
            assert_eq!(sender.state, State::Open, "after {second} s");
        }
        sender.handle_timeout(at(81 + 20_000));
        let silence = Duration::from_secs(20);
        let ended = SenderEvent::Closed(Error::Silence { silence, refused: false });
        assert_eq!(sender.events.pop_back(), Some(ended));
    }

    /// Four packets are under way, so much body was never sent, and an ACK comes after 41 ms.
    fn acknowledged(unsent: u64, word: u64) -> Sender {
        let mut sender = open();
        sender.body.push_entry(unsent, true);
        send(&mut sender, 40, 4);
        acknowledge(&mut sender, at(84), word, 1, 1_000);
        sender
    }

    //= proto.md#loss-detection
    //= type=test
    //# **eager**, in the rest of a transfer: max(min_rtt / 4, 200 us), or three later packets of
    //# other sends are reported, whichever is first.
    #[test]
    fn losses_are_found_eagerly_when_less_than_two_windows_were_never_sent() {
        let two_windows = 2 * open().controller.window_bytes();
        let eager = acknowledged(two_windows - 1, 0b1110);
        assert_eq!(eager.stats.packets_lost, 1);
        // srtt is 40.125 ms and the latest sample 41 ms; a quarter of the least is 10 ms.
        let eager = acknowledged(two_windows - 1, 0b1100);
        assert_eq!((eager.stats.packets_lost, eager.loss_deadline), (0, Some(at(40 + 41 + 10))));
        let lazy = acknowledged(two_windows, 0b1110);
        let half = Duration::from_nanos(40_125_000 / 2);
        assert_eq!((lazy.stats.packets_lost, lazy.loss_deadline), (0, Some(at(40 + 41) + half)));
    }

    //= proto.md#loss-detection
    //= type=test
    //# doubles the reordering window (up
    //# to srtt; halved again every 16 RTTs).
    #[test]
    fn the_reordering_window_doubles_with_each_spurious_loss_and_shrinks_with_time() {
        let mut sender = acknowledged(0, 0b1110);
        assert_eq!(sender.reordering_window, Duration::ZERO);
        acknowledge(&mut sender, at(84), 0b1111, 2, 2_000);
        assert_eq!((sender.stats.packets_spurious, sender.body.has_lost()), (1, false));
        assert_eq!(sender.reordering_window, Duration::from_millis(20), "twice the least");
        send(&mut sender, 85, 4);
        acknowledge(&mut sender, at(126), 0b1110_1111, 3, 3_000);
        assert_eq!(sender.stats.packets_lost, 1, "three later packets prove nothing any more");
        let spurious = Acked { spurious_packets: 1, ..Acked::default() };
        sender.release(&spurious);
        sender.release(&spurious);
        assert_eq!(sender.reordering_window, sender.rtt.smoothed());
        sender.reordering_window = Duration::from_millis(20);
        for (rounds, milliseconds) in [(15, 20), (1, 10), (15, 10), (1, 0)] {
            (0..rounds).for_each(|_| sender.on_round());
            assert_eq!(sender.reordering_window, Duration::from_millis(milliseconds));
        }
    }

    //= proto.md#ack
    //= type=test
    //# A difference of 2^31 or more means that the ACK is older than the other one, and shows
    //# nothing.
    #[test]
    fn drops_of_the_receivers_kernel_are_counted_across_the_counters_end() {
        let mut sender = open();
        sender.config.peer_first_count = u32::MAX - 2;
        send(&mut sender, 40, 7);
        let edge = 1 << 31;
        // What ACKs tell, and what is counted then; that of 0 was overtaken.
        let told = [(u32::MAX - 2, 0), (u32::MAX, 2), (1, 4), (0, 4), (1, 4), (edge, edge + 3)];
        for (number, (drops, counted)) in (0..).zip(told) {
            let word = u64::to_le_bytes((2 << number) - 1);
            let ack = Ack { drops, ..ack(&word, number + 1, 1_000 * (number + 1)) };
            sender.on_ack(at(81 + number), &ack);
            assert_eq!(sender.stats.receiver_drops, u64::from(counted), "{drops}");
        }
    }

    /// The rate that an ACK shows of a packet that left at 100 ms, 20 ms after the one that its
    /// mark tells of, and of which `arrival_us` is told.
    fn rate(received_before: u64, arrival_us: u64, received_bytes: u64) -> Option<u64> {
        let mut sender = open();
        sender.train = Some(Mark { arrival_us: 1_000, received_bytes: 1_000, ..Mark::default() });
        let mark = Mark {
            arrival_us: 1_000,
            received_bytes: received_before,
            sent_at: at(80),
            limited: false,
        };
        let largest = Some(Departure { at: at(100), mark, ..Departure::default() });
        let word = [1; 8];
        let ack = Ack { arrival_us, ..ack(&word, 1, received_bytes) };
        let sample = sender.rate_sample(&ack, &Acked { largest, ..Acked::default() });
        assert_eq!(sample.is_train, received_before == 0 && sample.bytes_per_second.is_some());
        sample.bytes_per_second
    }

    #[test]
    fn a_rate_is_of_the_span_of_arrival_or_of_departure_whichever_is_longer() {
        assert_eq!(rate(5_000, 41_000, 45_000), Some(1_000_000), "40 kB arrived in 40 ms");
        assert_eq!(rate(5_000, 2_000, 45_000), Some(2_000_000), "held up, they left in 20 ms");
    }

    #[test]
    fn the_first_flights_spacing_makes_a_rate_when_enough_of_it_arrived() {
        assert_eq!(rate(0, 1_100, 1_000 + TRAIN_BYTES_MIN), Some(192_000_000));
        assert_eq!(rate(0, 1_099, 1_000 + TRAIN_BYTES_MIN), None, "stamped as one batch");
        assert_eq!(rate(0, 1_100, 999 + TRAIN_BYTES_MIN), None);
    }
}
