//! Packets: making them around bytes that are in place, and reading them.
//!
//! `cargo bench --bench wire`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ufx::wire::{Flags, Opener, PacketNumber, Sealer, Space};

const SEALER: Sealer = Sealer { connection: 7, seed: 0x5eed };

/// Datagrams of Ethernet and of jumbo frames, in bytes.
const DATAGRAM_BYTES: [usize; 2] = [1_472, 8_972];

fn seal_and_open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    for bytes in DATAGRAM_BYTES {
        group.throughput(Throughput::Bytes(bytes as u64));
        let mut datagram = vec![0xa5; bytes];
        let seal = |number, datagram: &mut [u8]| {
            let number = PacketNumber(number);
            SEALER.seal_data(number, Flags::default(), Space::Body, 1 << 30, datagram);
        };
        group.bench_function(BenchmarkId::new("seal", bytes), |bencher| {
            let mut number = 0;
            bencher.iter(|| {
                number += 1;
                seal(number, black_box(&mut datagram));
            });
        });
        seal(9, &mut datagram);
        let opener =
            Opener { connection: SEALER.connection, seed: SEALER.seed, expected: PacketNumber(9) };
        assert!(opener.open(&datagram).is_ok());
        group.bench_function(BenchmarkId::new("open", bytes), |bencher| {
            bencher.iter(|| opener.open(black_box(&datagram)).is_ok());
        });
    }
    group.finish();
}

criterion_group!(benches, seal_and_open);
criterion_main!(benches);
