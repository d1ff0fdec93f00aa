//! Many seeds on all processors, and what they were like together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ufx::sim::Counters;

use crate::check::{Summary, run};
use crate::draw;

/// A whole number from the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What a slice of seeds was like.
#[derive(Debug, Default)]
pub struct Slice {
    /// Seeds that failed.
    pub failed: Vec<u64>,
    /// How often each thing happened.
    pub counters: Counters,
    /// Half of the seeds have more packets than this.
    pub median: u64,
    /// The share of seeds with at least 20,000 packets.
    pub large: f64,
    /// The share of seeds in which a process was killed.
    pub killed: f64,
    seeds: u64,
    packets: u64,
    attempts: usize,
    took: Duration,
}

impl Slice {
    /// Prints the figures.
    pub fn report(&self) {
        let Slice { seeds, packets, attempts, took, .. } = self;
        println!("{seeds} seeds, {attempts} attempts, {packets} packets in {took:.1?}");
        println!(
            "packets a seed: median {}, at least 20,000 in {:.1} % of seeds; kills in {:.1} %",
            self.median,
            100.0 * self.large,
            100.0 * self.killed,
        );
    }
}

/// Runs so many seeds from `first` on, for so long at most.
pub fn run_slice(first: u64, seeds: u64, time: Option<Duration>) -> Slice {
    let started = Instant::now();
    let next = AtomicU64::new(first);
    let results = Mutex::new(Vec::new());
    let failed = Mutex::new(Vec::new());
    let work = || {
        let mut mine: Vec<Summary> = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds || time.is_some_and(|time| started.elapsed() > time) {
                break;
            }
            match catch_unwind(AssertUnwindSafe(|| run(&draw::scenario(seed), false))) {
                Ok(summary) => mine.push(summary),
                Err(_) => failed.lock().expect("no panic holds it").push(seed),
            }
        }
        results.lock().expect("no panic holds it").append(&mut mine);
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let results = results.into_inner().expect("no panic holds it");
    let mut failed = failed.into_inner().expect("no panic holds it");
    failed.sort_unstable();
    sum_up(&results, failed, started.elapsed())
}

fn sum_up(results: &[Summary], failed: Vec<u64>, took: Duration) -> Slice {
    let seeds = (results.len() + failed.len()) as u64;
    let mut counters = Counters::default();
    results.iter().for_each(|summary| counters.merge(&summary.counters));
    let mut packets: Vec<u64> = results.iter().map(|summary| summary.packets).collect();
    packets.sort_unstable();
    let share = |wanted: fn(&Summary) -> bool| {
        results.iter().filter(|summary| wanted(summary)).count() as f64 / results.len() as f64
    };
    Slice {
        failed,
        counters,
        median: packets.get(packets.len() / 2).copied().unwrap_or_default(),
        large: share(|summary| summary.packets >= 20_000),
        killed: share(|summary| summary.has_kill),
        seeds,
        packets: packets.iter().sum(),
        attempts: results.iter().map(|summary| summary.attempts).sum(),
        took,
    }
}
