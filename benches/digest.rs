//! Digests of blocks, as fast as one thread makes them.
//!
//! `cargo bench --bench digest`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ufx::io::digest::BlockHasher;
use ufx::wire::DigestAlgorithm;

/// A block of a large file.
const BLOCK_BYTES: usize = 1 << 20;

/// What comes at once: a packet's payload, and a run of them.
const STEP_BYTES: [usize; 2] = [1_452, 64 << 10];

fn digest(criterion: &mut Criterion) {
    let block: Vec<u8> = (0..BLOCK_BYTES).map(|position| (position % 251) as u8).collect();
    let mut group = criterion.benchmark_group("digest");
    group.throughput(Throughput::Bytes(BLOCK_BYTES as u64));
    for (name, algorithm) in [("xxh3", DigestAlgorithm::Xxh3), ("blake3", DigestAlgorithm::Blake3)]
    {
        for step in STEP_BYTES {
            group.bench_function(BenchmarkId::new(name, step), |bencher| {
                bencher.iter(|| {
                    let mut hasher = BlockHasher::new(algorithm, 0, BLOCK_BYTES as u64);
                    black_box(&block).chunks(step).for_each(|bytes| hasher.update(bytes));
                    hasher.finish()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, digest);
criterion_main!(benches);
