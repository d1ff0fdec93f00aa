//! Thousands of transfers whose circumstances are drawn from a seed.
//!
//! `UFX_SEED=n` runs that one seed; `UFX_SEEDS=n` so many, from `UFX_FIRST` on.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use ufx::proto::{Algorithm, Error, Time};
use ufx::sim::{
    BurstLoss, Corrupting, CorruptionKind, Decision, DiskConfig, Duplication, HostConfig,
    Impairments, Jitter, JitterShape, Outcome, Path, QueueLimit, Reordering, SimFile, Simulation,
    TimeWindow, TransferOutcome,
};
use ufx::wire::{DigestAlgorithm, EntryKind, RefuseCode, VoidReason};

use crate::{KIB, MIB, millis};

/// What a test run covers.
const SEEDS: u64 = 2_000;

/// A duration from `least` to `most` whose magnitude is equally likely.
fn span(random: &mut StdRng, least: Duration, most: Duration) -> Duration {
    let (least, most) = (least.as_secs_f64().ln(), most.as_secs_f64().ln());
    Duration::from_secs_f64(random.random_range(least..most).exp())
}

/// A number from `least` to `most` whose magnitude is equally likely.
fn magnitude(random: &mut StdRng, least: u64, most: u64) -> u64 {
    random.random_range((least as f64).ln()..(most as f64).ln()).exp() as u64
}

fn impairments(random: &mut StdRng) -> Impairments {
    let loss = match random.random_range(0..6) {
        0 | 1 => 0.0,
        2 | 3 => random.random_range(0.0..0.05),
        4 => random.random_range(0.0..0.2),
        _ => random.random_range(0.0..0.5),
    };
    let window = |random: &mut StdRng| {
        let from = Time::ZERO + span(random, millis(1), millis(2_000));
        TimeWindow { from, until: from + span(random, millis(10), millis(5_000)) }
    };
    Impairments {
        loss,
        burst_loss: random.random_bool(0.15).then(|| BurstLoss {
            mean_loss: random.random_range(0.001..0.2),
            mean_burst_packets: random.random_range(1.0..6.0),
        }),
        duplication: random.random_bool(0.2).then(|| Duplication {
            probability: random.random_range(0.0..0.3),
            delay: span(random, Duration::from_micros(1), millis(50)),
        }),
        reordering: random.random_bool(0.2).then(|| Reordering {
            probability: random.random_range(0.0..0.3),
            delay: span(random, Duration::from_micros(10), millis(50)),
        }),
        corruption: random.random_bool(0.15).then(|| Corrupting {
            probability: random.random_range(0.0..0.1),
            kinds: CorruptionKind::ALL.to_vec(),
        }),
        jitter: random.random_bool(0.25).then(|| Jitter {
            shape: JitterShape::Uniform {
                max: span(random, Duration::from_micros(10), millis(20)),
            },
            keeps_order: random.random_bool(0.5),
        }),
        blackouts: match random.random_bool(0.1) {
            true => vec![window(random)],
            false => Vec::new(),
        },
        ..Impairments::default()
    }
}

fn path(random: &mut StdRng) -> Path {
    let rtt = span(random, Duration::from_micros(30), millis(400));
    let rate = match random.random_range(0..10) {
        0 => None,
        _ => Some(magnitude(random, 1_000_000, 10_000_000_000)),
    };
    let mut path = Path::new(rate, rtt);
    if random.random_bool(0.3) {
        let packets = magnitude(random, 10, 1_000) as usize;
        path.forward.queue = QueueLimit { bytes: None, packets: Some(packets) };
    }
    let mtu = [1_228, 1_400, 1_500, 9_000, 65_535][random.random_range(0..5)];
    path = path.both(|link| link.mtu_bytes = Some(mtu));
    path.forward.impairments = impairments(random);
    if random.random_bool(0.7) {
        path.backward.impairments = impairments(random);
    }
    path
}

fn file(random: &mut StdRng, size_max: u64) -> SimFile {
    let size = match random.random_range(0..10) {
        0 => 0,
        1 => random.random_range(1..3_000),
        _ => magnitude(random, 1, size_max),
    };
    let mut file = SimFile::new(size);
    match random.random_range(0..40) {
        0..4 => file = SimFile::directory(),
        4 => file = SimFile { kind: EntryKind::Symlink, ..SimFile::new(0) },
        5 => file.decision = Decision::Present,
        6 => file.decision = Decision::Refuse(RefuseCode::Exists),
        7 => file.decision = Decision::FailCommit(RefuseCode::Disk),
        8 => file.void = Some(VoidReason::Unreadable),
        9 => file.changes_at = Some(Time::ZERO + span(random, millis(1), millis(3_000))),
        10 | 11 if size > 0 => {
            let block = random.random_range(0..file.blocks()) as u32;
            file.damaged_blocks = vec![(block, random.random_range(1..=4))];
        }
        12..15 if size > 4 => {
            let start = random.random_range(0..size / 2);
            let end = random.random_range(start + 1..=size);
            file.holes.push(start..end);
        }
        _ => {}
    }
    file
}

fn files(random: &mut StdRng) -> Vec<SimFile> {
    let size_max = match random.random_range(0..10) {
        0 => 16 * MIB,
        1..4 => 3 * MIB,
        _ => 100 * KIB,
    };
    let count = match random.random_range(0..4) {
        0 => 1,
        1 => random.random_range(0..5),
        _ => random.random_range(0..50),
    };
    let mut files: Vec<SimFile> = Vec::new();
    let mut budget = 2 * size_max;
    for _ in 0..count {
        let file = file(random, size_max);
        if file.size <= budget {
            budget -= file.size;
            files.push(file);
        }
    }
    if random.random_bool(0.1) {
        files.push(SimFile::pipe(random.random_range(MIB + 1..5 * MIB)));
    }
    files
}

fn host(random: &mut StdRng) -> HostConfig {
    let mut host = HostConfig {
        wake_latency: span(random, Duration::from_micros(1), millis(1)),
        packet_cost: span(random, Duration::from_nanos(50), Duration::from_micros(20)),
        ..HostConfig::default()
    };
    if random.random_bool(0.1) {
        let from = Time::ZERO + span(random, millis(1), millis(2_000));
        host.stalls =
            vec![TimeWindow { from, until: from + span(random, millis(10), millis(8_000)) }];
    }
    if random.random_bool(0.03) {
        host.killed_at = Some(Time::ZERO + span(random, millis(1), millis(5_000)));
    }
    host
}

fn simulation(seed: u64) -> Simulation {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut simulation = Simulation::new(path(random)).seed(seed).files(files(random));
    let data: u64 = simulation.transfers[0].files.iter().map(|file| file.size).sum();
    simulation.payload = data < 4 * MIB && random.random_bool(0.7);
    simulation.icmp = random.random_bool(0.5);
    let transfer = &mut simulation.transfers[0];
    transfer.host = host(random);
    transfer.config.route_datagram_bytes = match random.random_range(0..4) {
        0 => 8_972,
        1 => 65_507,
        _ => 1_472,
    };
    transfer.config.digest = match random.random_range(0..4) {
        0 => DigestAlgorithm::Blake3,
        _ => DigestAlgorithm::Xxh3,
    };
    transfer.config.dry_run = random.random_bool(0.03);
    if random.random_bool(0.2) {
        transfer.config.algorithm = Algorithm::Fixed;
        // A user who fixes a rate knows the link.
        let rate = transfer.path.forward.rate_bits_per_second.unwrap_or(1_000_000_000) / 8;
        let share = random.random_range(0.1..1.2);
        transfer.config.rate_bytes_max = Some((rate as f64 * share) as u64);
    }
    transfer.config.wait = Duration::from_secs(15);
    if random.random_bool(0.1) {
        transfer.config.first_number = (1 << 31) - random.random_range(1..200);
    }
    let receiver = &mut simulation.receivers[0];
    receiver.host = host(random);
    receiver.config.socket_bytes = magnitude(random, 8_192, 64 * MIB);
    receiver.pool_packets = magnitude(random, 16, 8_192);
    if random.random_bool(0.5) {
        receiver.disk = DiskConfig {
            write_latency: span(random, Duration::from_nanos(100), millis(2)),
            rate_bytes_per_second: Some(magnitude(random, MIB, 4_096 * MIB)),
            ..DiskConfig::default()
        };
        if random.random_bool(0.1) {
            let from = Time::ZERO + span(random, millis(1), millis(1_000));
            let until = from + span(random, millis(100), millis(15_000));
            receiver.disk.stalls = vec![TimeWindow { from, until }];
        }
    }
    simulation
}

/// What must hold whatever was drawn.
fn check(simulation: &Simulation, outcome: &Outcome) {
    let transfer = outcome.first();
    let killed = simulation.transfers[0].host.killed_at.is_some()
        || simulation.receivers[0].host.killed_at.is_some();
    if transfer.is_finished() {
        transfer.assert_delivered();
        return;
    }
    let silent = |error: Option<&Error>| {
        matches!(error, Some(Error::NoAnswer { .. } | Error::Silence { .. }))
    };
    assert!(killed, "failed: {:?}, {:?}", transfer.sender_error(), transfer.receiver_error());
    let sender_ended = silent(transfer.sender_error()) || transfer.sender_time.is_none();
    let peer_closed = matches!(transfer.sender_error(), Some(Error::ClosedByPeer { .. }));
    assert!(sender_ended || peer_closed, "{:?}", transfer.sender_error());
}

fn run(seed: u64) -> TransferOutcome {
    let simulation = simulation(seed);
    if std::env::var_os("UFX_SEED").is_some() {
        println!("{simulation:#?}");
    }
    let outcome = simulation.clone().run();
    if std::env::var_os("UFX_SEED").is_some() {
        println!("{:#?}\n{}", outcome.first(), outcome.trace);
    }
    check(&simulation, &outcome);
    let transfer = outcome.transfers.into_iter().next().expect("one transfer was planned");
    if !transfer.is_finished() {
        let again = simulation.again_after(&transfer);
        let kept: u64 = again.transfers[0].files.iter().map(SimFile::kept_bytes).sum();
        let outcome = again.run();
        outcome.assert_delivered();
        assert_eq!(outcome.first().receiver.body_bytes_kept, kept);
    }
    transfer
}

#[test]
fn whatever_is_drawn_the_invariants_hold_and_every_transfer_ends() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("UFX_SEED") {
        run(seed);
        return;
    }
    let first = number("UFX_FIRST").unwrap_or(0);
    let seeds = number("UFX_SEEDS").unwrap_or(SEEDS);
    let fails = |&seed: &u64| std::panic::catch_unwind(|| run(seed)).is_err();
    let failed: Vec<u64> = (first..first + seeds).filter(fails).collect();
    assert!(failed.is_empty(), "{} of {seeds} seeds failed: {failed:?}", failed.len());
}
