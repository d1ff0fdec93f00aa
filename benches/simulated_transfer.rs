//! Whole transfers in virtual time: what both machines cost without sockets and files, for which
//! most of the loss detection's, the acknowledgements' and the controller's time is spent.
//!
//! `cargo bench --bench simulated_transfer`

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ufx::sim::{Simulation, preset};

const RATE: u64 = 1_000_000_000;
const ROUND_TRIP: Duration = Duration::from_millis(10);

/// Loss in each direction.
const LOSSES: [f64; 3] = [0.0, 0.01, 0.1];

fn transfers(criterion: &mut Criterion) {
    // `cargo bench` says so to its benches; `cargo test` runs them once, to see that they do.
    let is_bench = std::env::args().any(|word| word == "--bench");
    let bytes = if is_bench { 50_000_000 } else { 500_000 };
    let mut group = criterion.benchmark_group("simulated_transfer");
    group.sample_size(10).throughput(Throughput::Bytes(bytes));
    for loss in LOSSES {
        group.bench_function(BenchmarkId::new("loss", loss), |bencher| {
            bencher.iter(|| {
                let outcome = Simulation::new(preset::wan(RATE, ROUND_TRIP, loss)).transfer(bytes);
                outcome.assert_delivered();
                outcome
            });
        });
    }
    group.finish();
}

criterion_group!(benches, transfers);
criterion_main!(benches);
