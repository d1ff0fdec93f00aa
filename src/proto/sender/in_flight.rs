//! What is under way: packet number -> what it carried and when it left.
//!
//! One record is a *run*: up to 64 packets that left together and carry one contiguous range
//! in equal pieces, so that ACKs and losses are handled by masks, not packet by packet.

use std::collections::VecDeque;
use std::ops::Range;

use crate::proto::time::Time;
use crate::wire::{Ack, PacketNumber, Space, limits};

/// Packets in one run at most: the width of its masks.
pub const RUN_PACKETS_MAX: u64 = 64;

/// A lost packet so many numbers back is forgotten though ACKs may still speak of it: three
/// times what a receiver remembers at least ([`limits::SEEN_NUMBERS_MIN`]). A receiver whose
/// ACKs never move their base cannot make the sender remember all.
const REMEMBERED_NUMBERS: u64 = 200_000;

/// Runs that are remembered at most, 32 MB of them: of full batches 16 GB under way, 1 s at 100
/// Gbit/s. A receiver that claims more would else fill the sender's memory.
const RUNS_MAX: usize = 250_000;

/// A contiguous range of one space, as a packet or several carried it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The space.
    pub space: Space,
    /// The range of its offsets.
    pub range: Range<u64>,
}

/// The receiver's counters when a run left: the base of a delivery-rate sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Receiver's clock at the arrival of the newest packet known to have arrived.
    pub arrival_us: u64,
    /// Bytes received until then.
    pub received_bytes: u64,
    /// When that packet had left, by our clock.
    pub sent_at: Time,
    /// Whether the sender had nothing more to send (or was held by credit) in this span.
    pub limited: bool,
}

/// The sender's state when a run had left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departure {
    /// When it left.
    pub at: Time,
    /// Bytes in flight, the run's own among them.
    pub in_flight_bytes: u64,
    /// Bytes declared lost since the transfer began.
    pub lost_bytes: u64,
    /// The receiver's counters.
    pub mark: Mark,
}

/// Packets that left together.
#[derive(Clone, Debug)]
pub struct Run {
    /// Number of the first packet.
    pub first: PacketNumber,
    /// How many packets, 1 to 64.
    pub packets: u64,
    /// When they left, and how things stood.
    pub departure: Departure,
    /// What they carry together; none for START and PROBE.
    pub chunk: Option<Chunk>,
    /// Payload of every packet but the last, in bytes.
    pub payload_bytes: u64,
    /// Bytes of every datagram (the last one may have fewer).
    pub datagram_bytes: u64,
    /// Bit i: packet `first` + i was reported.
    reported: u64,
    /// Bit i: packet `first` + i was declared lost.
    lost: u64,
}

impl Run {
    fn end(&self) -> u64 {
        self.first.0 + self.packets
    }

    fn full_mask(&self) -> u64 {
        mask(self.packets)
    }

    fn open_mask(&self) -> u64 {
        self.full_mask() & !self.reported & !self.lost
    }

    /// The part of the chunk that packets `[from, to)` of the run carry.
    fn piece(&self, from: u64, to: u64) -> Option<Chunk> {
        let chunk = self.chunk.as_ref()?;
        let start = chunk.range.start + from * self.payload_bytes;
        let end = if to >= self.packets {
            chunk.range.end
        } else {
            chunk.range.start + to * self.payload_bytes
        };
        Some(Chunk { space: chunk.space, range: start..end })
    }

    /// Calls `visit` for each stretch of set bits of `bits`, as a piece of the chunk.
    fn for_each_piece(&self, mut bits: u64, mut visit: impl FnMut(Chunk)) {
        while bits != 0 {
            let from = u64::from(bits.trailing_zeros());
            let length = u64::from((bits >> from).trailing_ones());
            if let Some(piece) = self.piece(from, from + length) {
                visit(piece);
            }
            bits &= !(mask(length) << from);
        }
    }
}

/// `count` low bits set.
fn mask(count: u64) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

/// What an ACK changed.
#[derive(Debug, Default)]
pub struct Acked {
    /// Content that is now known to have arrived, of the body only if that was asked for, with
    /// the first number of the run that carried it.
    pub chunks: Vec<(PacketNumber, Chunk)>,
    /// Content of any space that had been declared lost and arrived all the same, with the first
    /// number of the run that carried it.
    pub spurious: Vec<(PacketNumber, Chunk)>,
    /// Number of packets newly reported.
    pub packets: u64,
    /// Of these, packets that had been declared lost.
    pub spurious_packets: u64,
    /// When the newest of them left.
    pub newest_sent_at: Option<Time>,
    /// The bytes of their datagrams.
    pub bytes: u64,
    /// The run that holds the ACK's `largest`, if that is newly reported.
    pub largest: Option<Departure>,
    /// Largest datagram newly reported, in bytes.
    pub datagram_bytes: u64,
    /// Numbers newly reported that carried no content (START, PROBE).
    pub probes: Vec<PacketNumber>,
}

/// What loss detection declared lost.
#[derive(Debug, Default)]
pub struct Lost {
    /// Content to be sent again.
    pub chunks: Vec<Chunk>,
    /// Number of packets declared lost.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these packets, those of more than 1,200 bytes that carried content.
    pub large_packets: u64,
    /// Numbers of those that carried none (START, PROBE).
    pub probes: Vec<PacketNumber>,
    /// The newest run of which a packet was lost.
    pub newest: Option<Departure>,
}

/// All runs that are not settled, and settled ones an ACK may still speak of.
#[derive(Debug)]
pub struct InFlight {
    runs: VecDeque<Run>,
    next: PacketNumber,
    bytes: u64,
    packets: u64,
    /// Bytes declared lost, ever.
    lost_bytes: u64,
    /// When the newest packet reported so far left.
    newest_reported: Option<Time>,
}

impl InFlight {
    /// Nothing under way; the first packet will have number `first`.
    pub fn new(first: PacketNumber) -> InFlight {
        InFlight {
            runs: VecDeque::new(),
            next: first,
            bytes: 0,
            packets: 0,
            lost_bytes: 0,
            newest_reported: None,
        }
    }

    /// The number of the next packet.
    pub fn next_number(&self) -> PacketNumber {
        self.next
    }

    /// Bytes of datagrams neither reported nor lost.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether so much is under way that nothing may join it but a probe.
    pub fn is_full(&self) -> bool {
        self.runs.len() >= RUNS_MAX
    }

    /// Bytes declared lost since the transfer began.
    pub fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    /// The least offset of the body that is under way.
    pub fn first_open_body(&self) -> Option<u64> {
        let first = |run: &Run| {
            let chunk = run.chunk.as_ref().filter(|chunk| chunk.space == Space::Body)?;
            let packet = u64::from(run.open_mask().trailing_zeros());
            (packet < run.packets).then(|| chunk.range.start + packet * run.payload_bytes)
        };
        self.runs.iter().filter_map(first).min()
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }

    /// Records that `packets` packets leave now; returns the number of the first.
    pub fn on_sent(
        &mut self,
        now: Time,
        packets: u64,
        chunk: Option<Chunk>,
        payload_bytes: u64,
        datagram_bytes: u64,
        mark: Mark,
    ) -> PacketNumber {
        debug_assert!((1..=RUN_PACKETS_MAX).contains(&packets));
        let first = self.next;
        self.next = PacketNumber(first.0 + packets);
        self.bytes += packets * datagram_bytes;
        self.packets += packets;
        self.runs.push_back(Run {
            first,
            packets,
            departure: Departure {
                at: now,
                in_flight_bytes: self.bytes,
                lost_bytes: self.lost_bytes,
                mark,
            },
            chunk,
            payload_bytes,
            datagram_bytes,
            reported: 0,
            lost: 0,
        });
        first
    }

    /// Takes an ACK in. The caller has checked that `largest` was sent. With `with_body` the body
    /// that arrived is told, too.
    pub fn on_ack(&mut self, ack: &Ack<'_>, with_body: bool) -> Acked {
        let mut acked = Acked::default();
        let bitmap_end = ack.base.0.saturating_add(64 * ack.bitmap.words() as u64);
        let start = self.runs.partition_point(|run| run.end() <= ack.base.0);
        for run in self.runs.range_mut(start..) {
            if run.first.0 >= bitmap_end {
                break;
            }
            let set = reported_bits(ack, run);
            let new = set & !run.reported;
            if new == 0 {
                continue;
            }
            let was_lost = new & run.lost;
            let open = new & !run.lost;
            run.reported |= new;
            let count = u64::from(new.count_ones());
            acked.packets += count;
            acked.spurious_packets += u64::from(was_lost.count_ones());
            self.packets -= u64::from(open.count_ones());
            self.bytes -= u64::from(open.count_ones()) * run.datagram_bytes;
            acked.newest_sent_at = acked.newest_sent_at.max(Some(run.departure.at));
            acked.bytes += u64::from(open.count_ones()) * run.datagram_bytes;
            acked.datagram_bytes = acked.datagram_bytes.max(run.datagram_bytes);
            if run.chunk.is_none() {
                acked.probes.push(run.first);
            } else if with_body
                || run.chunk.as_ref().is_some_and(|chunk| chunk.space != Space::Body)
            {
                run.for_each_piece(new, |piece| acked.chunks.push((run.first, piece)));
            }
            run.for_each_piece(was_lost, |piece| acked.spurious.push((run.first, piece)));
            let largest_bit = ack.largest.0.checked_sub(run.first.0);
            if largest_bit.is_some_and(|bit| bit < run.packets && new >> bit & 1 == 1) {
                acked.largest = Some(run.departure);
            }
        }
        self.newest_reported = self.newest_reported.max(acked.newest_sent_at);
        self.forget(ack.base);
        acked
    }

    /// Drops runs at the front that no later ACK can change.
    fn forget(&mut self, base: PacketNumber) {
        while let Some(front) = self.runs.front() {
            let all_reported = front.reported == front.full_mask();
            let is_past = front.end() <= base.0 || front.end() + REMEMBERED_NUMBERS <= self.next.0;
            if !(all_reported || (front.open_mask() == 0 && is_past)) {
                break;
            }
            self.runs.pop_front();
        }
    }

    /// Declares lost what left more than `wait` ago, if something that left later is
    /// reported; returns when the next packet will be lost by this rule.
    pub fn detect_by_time(
        &mut self,
        now: Time,
        wait: std::time::Duration,
        lost: &mut Lost,
    ) -> Option<Time> {
        let newest = self.newest_reported?;
        for index in 0..self.runs.len() {
            let run = self.runs.get_mut(index)?;
            if run.departure.at >= newest {
                return None;
            }
            if run.open_mask() == 0 {
                continue;
            }
            let deadline = run.departure.at + wait;
            if deadline > now {
                return Some(deadline);
            }
            let open = run.open_mask();
            self.declare_lost(index, open, lost);
        }
        None
    }

    /// Declares lost what at least `threshold` later packets of other runs have overtaken.
    pub fn detect_by_count(&mut self, threshold: u32, lost: &mut Lost) {
        let mut later = 0;
        for index in (0..self.runs.len()).rev() {
            let Some(run) = self.runs.get(index) else { return };
            let (open, reported) = (run.open_mask(), run.reported.count_ones());
            if later >= threshold && open != 0 {
                self.declare_lost(index, open, lost);
            }
            later += reported;
        }
    }

    /// Declares the oldest open packets lost, at most `packets_max` of the first open run.
    pub fn take_oldest(&mut self, packets_max: u32, lost: &mut Lost) {
        let Some(index) = self.runs.iter().position(|run| run.open_mask() != 0) else { return };
        let mut open = self.runs.get(index).map_or(0, Run::open_mask);
        let mut taken = 0;
        for _ in 0..packets_max {
            let lowest = open & open.wrapping_neg();
            taken |= lowest;
            open &= !lowest;
        }
        self.declare_lost(index, taken, lost);
    }

    /// Declares lost what left more than `age` ago.
    pub fn take_older(&mut self, now: Time, age: std::time::Duration, lost: &mut Lost) {
        for index in 0..self.runs.len() {
            let Some(run) = self.runs.get(index).filter(|run| run.departure.at + age <= now) else {
                return;
            };
            let open = run.open_mask();
            if open != 0 {
                self.declare_lost(index, open, lost);
            }
        }
    }

    fn declare_lost(&mut self, index: usize, bits: u64, lost: &mut Lost) {
        let Some(run) = self.runs.get_mut(index) else { return };
        debug_assert_eq!(bits & !run.open_mask(), 0, "only open packets can become lost");
        run.lost |= bits;
        let count = u64::from(bits.count_ones());
        self.packets -= count;
        self.bytes -= count * run.datagram_bytes;
        lost.packets += count;
        lost.bytes += count * run.datagram_bytes;
        self.lost_bytes += count * run.datagram_bytes;
        if lost.newest.is_none_or(|newest| newest.at <= run.departure.at) {
            lost.newest = Some(run.departure);
        }
        if run.chunk.is_none() {
            lost.probes.push(run.first);
        } else if run.datagram_bytes > limits::DATAGRAM_BYTES_MIN as u64 {
            lost.large_packets += count;
        }
        run.for_each_piece(bits, |piece| lost.chunks.push(piece));
    }

    /// Packets neither reported nor lost.
    pub fn open_packets(&self) -> u64 {
        self.packets
    }

    /// Whether any packet is neither reported nor lost.
    pub fn has_open(&self) -> bool {
        self.packets > 0
    }

    /// Whether one of these carries content.
    pub fn has_open_content(&self) -> bool {
        self.runs.iter().any(|run| run.chunk.is_some() && run.open_mask() != 0)
    }
}

/// The bits of `ack` that speak of `run`'s packets, packet `first` as bit 0.
fn reported_bits(ack: &Ack<'_>, run: &Run) -> u64 {
    if run.first.0 >= ack.base.0 {
        let bit = (run.first.0 - ack.base.0) as usize;
        ack.bitmap.bits(bit, run.packets as usize)
    } else {
        let skipped = ack.base.0 - run.first.0;
        ack.bitmap.bits(0, (run.packets - skipped) as usize) << skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Bitmap, Limit};

    /// An ACK of numbers from `base` on, as the words say, with `largest` as its largest.
    fn on_words(in_flight: &mut InFlight, base: u64, words: &[u64], largest: u64) -> Acked {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let bitmap = Bitmap::from_bytes(&bytes).unwrap();
        let (largest, base) = (PacketNumber(largest), PacketNumber(base));
        let ack = Ack { largest, base, bitmap, ..none() };
        in_flight.on_ack(&ack, true)
    }

    /// An ACK that reports nothing.
    fn none() -> Ack<'static> {
        Ack {
            largest: PacketNumber(0),
            arrival_us: 0,
            delay_us: 0,
            received_packets: 0,
            received_bytes: 0,
            duplicates: 0,
            drops: 0,
            ecn_ce: 0,
            max_number: PacketNumber(0),
            max_manifest: 0,
            max_digests: 0,
            max_body: 0,
            written: 0,
            datagram_bytes: 1_200,
            limit: Limit::Nothing,
            base: PacketNumber(0),
            bitmap: Bitmap::from_bytes(&[]).unwrap(),
        }
    }

    /// An ACK of `base` and the 64 numbers behind it, as far as `word` says.
    fn on_ack(in_flight: &mut InFlight, base: u64, word: u64) -> Acked {
        let largest = in_flight.next.0 - 1;
        on_words(in_flight, base, &[word], largest)
    }

    /// Packets of 1,000 bytes of a space leave, each number at 1,000 times its own offset.
    fn leave(in_flight: &mut InFlight, milliseconds: u64, packets: u64, space: Space) {
        let start = 1_000 * in_flight.next.0;
        let chunk = Chunk { space, range: start..start + 1_000 * packets };
        let now = at(milliseconds);
        in_flight.on_sent(now, packets, Some(chunk), 1_000, 1_032, Mark::default());
    }

    fn at(milliseconds: u64) -> Time {
        Time::ZERO + std::time::Duration::from_millis(milliseconds)
    }

    #[test]
    fn an_ack_of_many_words_reports_many_runs() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        for (turn, packets) in [64, 10, 64, 54].into_iter().enumerate() {
            leave(&mut in_flight, turn as u64, packets, Space::Body);
        }
        let acked = on_words(&mut in_flight, 0, &[u64::MAX; 3], 191);
        assert_eq!((acked.packets, acked.bytes, acked.datagram_bytes), (192, 192 * 1_032, 1_032));
        assert_eq!(acked.newest_sent_at, Some(at(3)));
        assert_eq!(acked.largest.unwrap().at, at(3));
        assert_eq!((in_flight.open_packets(), in_flight.bytes()), (0, 0));
    }

    #[test]
    fn the_bits_of_an_ack_belong_to_its_base_wherever_runs_begin() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        leave(&mut in_flight, 0, 64, Space::Body);
        leave(&mut in_flight, 0, 64, Space::Body);
        let ranges = |acked: &Acked| -> Vec<_> {
            acked.chunks.iter().map(|(_, chunk)| chunk.range.clone()).collect()
        };
        let acked = on_ack(&mut in_flight, 10, 0b101);
        assert_eq!(ranges(&acked), [10_000..11_000, 12_000..13_000]);
        let acked = on_ack(&mut in_flight, 60, 0b101_0000);
        assert_eq!(ranges(&acked), [64_000..65_000, 66_000..67_000]);
        assert_eq!(on_ack(&mut in_flight, 60, 0b101_0000).packets, 0, "they are known");
    }

    #[test]
    fn the_largest_tells_when_it_left_only_when_it_is_new() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        leave(&mut in_flight, 1, 2, Space::Body);
        leave(&mut in_flight, 2, 2, Space::Body);
        let mut largest = |word: u64, largest| {
            on_words(&mut in_flight, 0, &[word], largest).largest.map(|departure| departure.at)
        };
        assert_eq!(largest(0b0001, 0), Some(at(1)));
        assert_eq!(largest(0b1001, 3), Some(at(2)));
        assert_eq!(largest(0b1101, 3), None, "another is new");
        assert_eq!(largest(0b1111, 3), None);
    }

    #[test]
    fn only_records_are_told_where_nobody_asks_for_body() {
        for with_body in [false, true] {
            let mut in_flight = InFlight::new(PacketNumber(0));
            leave(&mut in_flight, 0, 1, Space::Manifest);
            leave(&mut in_flight, 0, 1, Space::Body);
            let bytes = 0b11_u64.to_le_bytes();
            let bitmap = Bitmap::from_bytes(&bytes).unwrap();
            let ack = Ack { bitmap, ..none() };
            let told: Vec<Space> =
                in_flight.on_ack(&ack, with_body).chunks.iter().map(|it| it.1.space).collect();
            let all = [Space::Manifest, Space::Body];
            assert_eq!(told, if with_body { &all[..] } else { &all[..1] });
        }
    }

    #[test]
    fn losses_are_counted_and_large_ones_of_content_apart() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        let mut lost = Lost::default();
        leave(&mut in_flight, 1, 3, Space::Body);
        in_flight.on_sent(at(2), 1, None, 0, 1_400, Mark::default());
        let small = Chunk { space: Space::Body, range: 9_000..9_100 };
        let least = limits::DATAGRAM_BYTES_MIN as u64;
        in_flight.on_sent(at(3), 1, Some(small), 100, least, Mark::default());
        let large = Chunk { space: Space::Body, range: 9_100..9_300 };
        in_flight.on_sent(at(4), 2, Some(large), 100, least + 1, Mark::default());
        in_flight.take_oldest(2, &mut lost);
        assert_eq!((lost.packets, lost.large_packets, lost.bytes), (2, 0, 2_064));
        assert_eq!(lost.chunks.len(), 1, "neighbours are one");
        in_flight.take_older(at(4), std::time::Duration::ZERO, &mut lost);
        assert_eq!((lost.packets, lost.large_packets), (7, 2));
        assert_eq!(lost.newest.unwrap().at, at(4));
        assert_eq!(lost.probes, [PacketNumber(3)]);
        assert_eq!(in_flight.open_packets(), 0);
        in_flight.take_oldest(2, &mut lost);
        assert_eq!(lost.packets, 7, "nothing is lost twice");
    }

    #[test]
    fn content_under_way_is_told_from_other_packets() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        let open = |it: &InFlight| (it.has_open(), it.has_open_content());
        assert_eq!(open(&in_flight), (false, false));
        in_flight.on_sent(at(0), 1, None, 0, 1_200, Mark::default());
        assert_eq!(open(&in_flight), (true, false));
        leave(&mut in_flight, 0, 1, Space::Digests);
        assert_eq!(open(&in_flight), (true, true));
        on_ack(&mut in_flight, 0, 0b10);
        assert_eq!(open(&in_flight), (true, false));
        on_ack(&mut in_flight, 0, 0b11);
        assert_eq!(open(&in_flight), (false, false));
    }

    fn send_and_lose(in_flight: &mut InFlight, runs: u64) {
        for _ in 0..runs {
            in_flight.on_sent(Time::ZERO, RUN_PACKETS_MAX, None, 0, 1_200, Mark::default());
            in_flight.take_oldest(64, &mut Lost::default());
        }
    }

    #[test]
    fn an_ack_at_the_end_of_the_numbers_reports_nothing() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        in_flight.on_sent(Time::ZERO, 64, None, 0, 1_200, Mark::default());
        let acked = on_ack(&mut in_flight, u64::MAX - 63, u64::MAX);
        assert_eq!((acked.packets, in_flight.open_packets()), (0, 64));
    }

    #[test]
    fn what_was_lost_long_ago_is_forgotten_though_the_base_of_acks_stays() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        let runs = REMEMBERED_NUMBERS / RUN_PACKETS_MAX;
        send_and_lose(&mut in_flight, runs);
        on_ack(&mut in_flight, 0, 0);
        assert_eq!(in_flight.runs.len() as u64, runs, "a late report may come");
        send_and_lose(&mut in_flight, 10);
        on_ack(&mut in_flight, 0, 0);
        assert_eq!(in_flight.runs.len() as u64, runs);
        assert_eq!(on_ack(&mut in_flight, 0, u64::MAX).packets, 0);
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        while !in_flight.is_full() {
            in_flight.on_sent(Time::ZERO, 1, None, 0, 1_200, Mark::default());
        }
        // Probes leave all the same.
        in_flight.on_sent(Time::ZERO, 1, None, 0, 1_200, Mark::default());
        assert!(in_flight.memory_bytes() < 40 << 20, "{} bytes", in_flight.memory_bytes());
    }

    #[test]
    fn what_is_open_is_not_forgotten_however_old() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        in_flight.on_sent(Time::ZERO, 1, None, 0, 1_200, Mark::default());
        for _ in 0..2 * REMEMBERED_NUMBERS / RUN_PACKETS_MAX {
            in_flight.on_sent(Time::ZERO, RUN_PACKETS_MAX, None, 0, 1_200, Mark::default());
        }
        on_ack(&mut in_flight, 0, 0);
        assert_eq!(on_ack(&mut in_flight, 0, 1).packets, 1);
    }

    fn send(in_flight: &mut InFlight, at: u64, packets: u64, start: u64, bytes: u64) {
        let chunk = Chunk { space: Space::Body, range: start..start + bytes };
        let now = Time::from_nanos(at);
        in_flight.on_sent(now, packets, Some(chunk), 1_000, 1_032, Mark::default());
    }

    #[test]
    fn the_first_open_body_is_the_least_offset_that_is_neither_reported_nor_lost() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        assert_eq!(in_flight.first_open_body(), None);
        send(&mut in_flight, 0, 1, 900_000, 1_000);
        let records = Chunk { space: Space::Manifest, range: 0..1_000 };
        in_flight.on_sent(Time::ZERO, 1, Some(records), 1_000, 1_032, Mark::default());
        assert_eq!(in_flight.first_open_body(), Some(900_000), "no record is body");
        send(&mut in_flight, 0, 64, 100_000, 64_000);
        assert_eq!(in_flight.first_open_body(), Some(100_000));
        on_ack(&mut in_flight, 2, 0b111);
        assert_eq!(in_flight.first_open_body(), Some(103_000));
        on_ack(&mut in_flight, 2, u64::MAX);
        assert_eq!(in_flight.first_open_body(), Some(900_000), "all of the 64 arrived");
        in_flight.take_oldest(1, &mut Lost::default());
        assert_eq!(in_flight.first_open_body(), None);
    }

    #[test]
    fn a_packet_is_lost_by_time_at_its_deadline_and_only_behind_one_that_was_reported() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        send(&mut in_flight, 10, 1, 0, 1_000);
        send(&mut in_flight, 20, 1, 1_000, 1_000);
        send(&mut in_flight, 20, 1, 2_000, 1_000);
        let wait = std::time::Duration::from_nanos(100);
        let detect = |in_flight: &mut InFlight, now: u64| {
            let mut lost = Lost::default();
            let next = in_flight.detect_by_time(Time::from_nanos(now), wait, &mut lost);
            (next.map(Time::as_nanos), lost.packets)
        };
        assert_eq!(detect(&mut in_flight, 1_000), (None, 0), "nothing was reported");
        on_ack(&mut in_flight, 1, 0b1);
        assert_eq!(detect(&mut in_flight, 109), (Some(110), 0));
        assert_eq!(detect(&mut in_flight, 110), (None, 1));
        assert_eq!(detect(&mut in_flight, 1_000), (None, 0), "the third left with the second");
    }

    #[test]
    fn a_packet_is_lost_by_count_when_so_many_of_later_sends_were_reported() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        send(&mut in_flight, 0, 1, 0, 1_000);
        send(&mut in_flight, 0, 4, 1_000, 4_000);
        let mut lost = Lost::default();
        on_ack(&mut in_flight, 1, 0b1010);
        in_flight.detect_by_count(3, &mut lost);
        assert_eq!(lost.packets, 0);
        on_ack(&mut in_flight, 1, 0b1011);
        in_flight.detect_by_count(3, &mut lost);
        assert_eq!(lost.chunks, [Chunk { space: Space::Body, range: 0..1_000 }]);
        assert_eq!((lost.packets, lost.bytes, lost.large_packets), (1, 1_032, 0));
        assert_eq!(in_flight.open_packets(), 1, "none of its own send overtakes the other");
    }

    #[test]
    fn what_is_taken_is_the_oldest_or_all_that_is_as_old_as_that() {
        let mut in_flight = InFlight::new(PacketNumber(0));
        send(&mut in_flight, 10, 3, 0, 2_500);
        send(&mut in_flight, 20, 2, 5_000, 2_000);
        send(&mut in_flight, 30, 1, 9_000, 1_000);
        on_ack(&mut in_flight, 0, 0b001);
        let mut lost = Lost::default();
        in_flight.take_oldest(1, &mut lost);
        assert_eq!(lost.chunks, [Chunk { space: Space::Body, range: 1_000..2_000 }]);
        let age = std::time::Duration::from_nanos(100);
        in_flight.take_older(Time::from_nanos(120), age, &mut lost);
        let ranges: Vec<_> = lost.chunks.iter().map(|chunk| chunk.range.clone()).collect();
        assert_eq!(ranges, [1_000..2_000, 2_000..2_500, 5_000..7_000]);
        assert_eq!((in_flight.bytes(), in_flight.lost_bytes()), (1_032, 4 * 1_032));
        assert_eq!(lost.newest.map(|it| it.at), Some(Time::from_nanos(20)));
    }
}
