//! Acknowledgements: making one with a full bitmap, and reading every bit of it.
//!
//! `cargo bench --bench ack`; what acknowledgements cost the machines: `simulated_transfer`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ufx::wire::{
    Ack, BITMAP_WORDS_MAX, Flags, Frame, Limit, Opener, PacketNumber, Sealer, encode_words,
};

const SEALER: Sealer = Sealer { connection: 7, seed: 0x5eed };

/// A short bitmap, as on a clean link, and the longest.
const WORDS: [usize; 2] = [1, BITMAP_WORDS_MAX];

/// An ACK whose bitmap has every tenth packet missing.
fn sealed(words: usize, number: u64) -> Vec<u8> {
    let words = vec![!0x0040_1004_0100_4010_u64; words];
    let mut buffer = Vec::new();
    let ack = Ack {
        largest: PacketNumber((words.len() * 64 - 1) as u64),
        arrival_us: 5_000_000,
        delay_us: 100,
        received_packets: 1_000_000,
        received_bytes: 1_472_000_000,
        duplicates: 0,
        drops: 0,
        ecn_ce: 0,
        max_number: PacketNumber(1 << 20),
        max_manifest: 1 << 20,
        max_digests: 1 << 20,
        max_body: 1 << 40,
        written: 1 << 30,
        datagram_bytes: 1_472,
        limit: Limit::Nothing,
        base: PacketNumber(0),
        bitmap: encode_words(&words, &mut buffer),
    };
    let mut datagram = Vec::new();
    SEALER.seal(PacketNumber(number), Flags::default(), &Frame::Ack(ack), &mut datagram);
    datagram
}

/// The packets that an ACK says are there.
fn read(opener: &Opener, datagram: &[u8]) -> u32 {
    match opener.open(datagram).map(|packet| packet.frame) {
        Ok(Frame::Ack(ack)) => {
            (0..BITMAP_WORDS_MAX).map(|index| ack.bitmap.word(index).count_ones()).sum()
        }
        _ => 0,
    }
}

fn acks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ack");
    for words in WORDS {
        group.bench_function(BenchmarkId::new("make", words), |bencher| {
            let mut number = 0;
            bencher.iter(|| {
                number += 1;
                sealed(black_box(words), number)
            });
        });
        let datagram = sealed(words, 1);
        let opener =
            Opener { connection: SEALER.connection, seed: SEALER.seed, expected: PacketNumber(1) };
        assert!(read(&opener, &datagram) > 0);
        group.bench_function(BenchmarkId::new("read", words), |bencher| {
            bencher.iter(|| read(&opener, black_box(&datagram)));
        });
    }
    group.finish();
}

criterion_group!(benches, acks);
criterion_main!(benches);
