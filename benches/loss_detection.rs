//! Loss detection by itself: what an ACK costs a sender that has a window of packets under way
//! and finds the missing ones among them. No network, no receiving machine, no file bytes.
//!
//! `cargo bench --bench loss_detection`

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ufx::proto::{Algorithm, Sender, SenderConfig, Time, Transmit};
use ufx::wire::{
    Ack, BITMAP_WORDS_MAX, DigestAlgorithm, Entry, EntryKind, Flags, Frame, Identity, Limit, Mode,
    Opener, PacketNumber, Sealer, Welcome, encode_words, limits,
};

/// Bytes a second, kept by the `fixed` controller: 8,500 packets are under way.
const RATE: u64 = 1_250_000_000;

const ROUND_TRIP: Duration = Duration::from_millis(10);

/// An ACK so often: of 42 packets each.
const ACK_INTERVAL: Duration = Duration::from_micros(50);

/// One packet of so many does not arrive.
const LOST_ONE_OF: [u64; 3] = [u64::MAX, 100, 10];

/// A sender in the middle of a file without end, and the path behind it.
struct Flow {
    sender: Sender,
    /// Of packets to the sender.
    sealer: Sealer,
    now: Time,
    lost_one_of: u64,
    /// When the packets below a number have arrived.
    under_way: VecDeque<(Time, u64)>,
    next_packet: u64,
    next_ack: u64,
    received_packets: u64,
}

impl Flow {
    fn new(lost_one_of: u64) -> Flow {
        let now = Time::ZERO + Duration::from_secs(1);
        let config = SenderConfig {
            digest: DigestAlgorithm::None,
            algorithm: Algorithm::Fixed,
            rate_bytes_max: Some(RATE),
            ..SenderConfig::default()
        };
        let mut flow = Flow {
            sender: Sender::new(now, config, [5; 32]),
            sealer: Sealer { connection: 0, seed: 0 },
            now,
            lost_one_of,
            under_way: VecDeque::new(),
            next_packet: 0,
            next_ack: 0,
            received_packets: 0,
        };
        flow.connect();
        // Into the steady state: the window is full, losses are found and sent again.
        for _ in 0..1_000 {
            flow.acknowledge();
        }
        flow
    }

    fn connect(&mut self) {
        let Some(Transmit::Datagram(datagram)) = self.sender.poll_transmit(self.now) else {
            panic!("a sender begins with a datagram");
        };
        let Ok(Frame::Hello(hello)) = Opener::hello().open(&datagram).map(|packet| packet.frame)
        else {
            panic!("a sender begins with HELLO");
        };
        let greeting = hello.greeting;
        self.now += ROUND_TRIP;
        let welcome = Frame::Welcome(Welcome {
            version: 1,
            mode: Mode::Open,
            digest: greeting.digest,
            nonce: greeting.nonce,
            connection: 7,
            seed: 0x5eed,
            socket_bytes: 4 << 20,
            datagram_bytes_max: limits::BASE_DATAGRAM_BYTES as u32,
            credit: 1 << 20,
            key_share: [0; 32],
            proof: [0; 16],
        });
        self.sealer = Sealer { connection: greeting.connection, seed: greeting.seed };
        let mut datagram = Vec::new();
        self.sealer.seal(PacketNumber(0), Flags::default(), &welcome, &mut datagram);
        self.sender.handle_datagram(self.now, &datagram);
        self.sender.push_entry(&Entry {
            kind: EntryKind::File,
            mode: 0o644,
            mtime_seconds: 5,
            mtime_nanos: 6,
            size: 1 << 46,
            identity: Identity { device: 1, inode: 2, ctime_seconds: 3, ctime_nanos: 4 },
            path: b"f",
            target: b"",
        });
    }

    fn is_lost(&self, number: u64) -> bool {
        number % self.lost_one_of == self.lost_one_of - 1
    }

    /// Goes on to the next ACK; how long the sender took to take it in.
    fn acknowledge(&mut self) -> Duration {
        self.now += ACK_INTERVAL;
        self.sender.handle_timeout(self.now);
        while let Some(transmit) = self.sender.poll_transmit(self.now) {
            self.next_packet += match transmit {
                Transmit::Datagram(_) => 1,
                Transmit::Body(run) => run.packets(),
            };
            self.under_way.push_back((self.now + ROUND_TRIP, self.next_packet));
        }
        let from = self.next_ack;
        while let Some((_, end)) = self.under_way.pop_front_if(|(at, _)| *at <= self.now) {
            self.next_ack = end;
        }
        self.received_packets +=
            (from..self.next_ack).filter(|it| !self.is_lost(*it)).count() as u64;
        if self.next_ack == 0 {
            return Duration::ZERO;
        }
        let datagram = self.ack();
        let started = Instant::now();
        self.sender.handle_datagram(self.now, black_box(&datagram));
        started.elapsed()
    }

    /// All that a receiver would say by now.
    fn ack(&self) -> Vec<u8> {
        let newest = self.next_ack.saturating_sub(1);
        let largest = newest.saturating_sub(u64::from(self.is_lost(newest)));
        let base = (largest.saturating_sub(64 * (BITMAP_WORDS_MAX as u64 - 1))) & !63;
        let mut words = vec![0_u64; ((largest - base) / 64 + 1) as usize];
        for number in (base..=largest).filter(|number| !self.is_lost(*number)) {
            words[((number - base) / 64) as usize] |= 1 << (number % 64);
        }
        let mut buffer = Vec::new();
        let ack = Ack {
            largest: PacketNumber(largest),
            arrival_us: self.now.as_micros(),
            delay_us: 0,
            received_packets: self.received_packets,
            received_bytes: self.received_packets * limits::BASE_DATAGRAM_BYTES as u64,
            duplicates: 0,
            drops: 0,
            ecn_ce: 0,
            max_number: PacketNumber(largest + (1 << 20)),
            max_manifest: 1 << 20,
            max_digests: 1 << 20,
            max_body: limits::OFFSET_MAX,
            written: 0,
            datagram_bytes: limits::BASE_DATAGRAM_BYTES as u32,
            limit: Limit::Nothing,
            base: PacketNumber(base),
            bitmap: encode_words(&words, &mut buffer),
        };
        let mut datagram = Vec::new();
        let number = PacketNumber(self.now.as_micros());
        self.sealer.seal(number, Flags::default(), &Frame::Ack(ack), &mut datagram);
        datagram
    }
}

fn losses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("loss_detection");
    for lost_one_of in LOST_ONE_OF {
        let percent = 100.0 / lost_one_of as f64;
        group.bench_function(BenchmarkId::new("ack", percent.round()), |bencher| {
            let mut flow = Flow::new(lost_one_of);
            bencher.iter_custom(|count| (0..count).map(|_| flow.acknowledge()).sum());
            let stats = flow.sender.stats();
            // What was lost within the last two windows may not be found yet.
            assert!(flow.next_ack > 30_000, "it does not send: {stats:?}");
            let wanted = (flow.next_ack - 20_000) / lost_one_of;
            assert!(stats.packets_lost >= wanted, "{wanted} were lost: {stats:?}");
        });
    }
    group.finish();
}

criterion_group!(benches, losses);
criterion_main!(benches);
