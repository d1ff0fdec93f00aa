//! Draws a scenario from a seed: first how bad everything is, then what happens.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::scenario::{Fault, File, Purpose, Scenario, Way, What};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Sizes at which something changes: of a datagram's payload, of a block, of a power of two.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    1_171,
    1_172,
    1_451,
    1_452,
    1_453,
    4 * KIB - 1,
    4 * KIB,
    64 * KIB + 1,
    MIB - 1,
    MIB,
    MIB + 1,
    2 * MIB - 1,
    2 * MIB + 1,
];

/// From here on no transfer comes to the end of 64 bits: none has so many packets, or takes the
/// five hours that are so many microseconds.
const LAST: u64 = u64::MAX - (1 << 34);

/// A number from `least` to `most` whose magnitude is equally likely.
fn magnitude(random: &mut StdRng, least: u64, most: u64) -> u64 {
    random.random_range((least as f64).ln()..=(most as f64).ln()).exp().round() as u64
}

/// A share up to `most`, more often small than not.
fn share(random: &mut StdRng, most: f64) -> f64 {
    let share: f64 = random.random_range(0.0..1.0);
    // Six digits are enough, and can be read.
    (share * share * most * 1e6).round() / 1e6
}

/// How bad everything is in one run.
struct Rates {
    /// Probability of each fault of the network.
    network: f64,
    /// ... of hosts and disks.
    hosts: f64,
    /// ... of what ends processes.
    deaths: f64,
    /// About how long the transfer takes when nothing goes wrong, in milliseconds.
    span: u64,
    /// Whether damage in memory can be found.
    is_digested: bool,
}

/// The scenario of a seed.
pub fn scenario(seed: u64) -> Scenario {
    let random = &mut StdRng::seed_from_u64(seed);
    let packets = match random.random_range(0..100) {
        0..7 => random.random_range(18_500..20_500),
        7..92 => magnitude(random, 180, 480),
        _ => random.random_range(0..500),
    };
    let mtu = [1_228, 1_400, 1_500, 1_500, 1_500, 1_500, 9_000, 65_535][random.random_range(0..8)];
    // A transfer of many packets over long ones would be of gigabytes.
    let mtu = if packets > 2_000 { mtu.min(1_500) } else { mtu };
    let rate_min = if packets > 2_000 { 5_000_000 } else { 256_000 };
    let rate = match random.random_range(0..12) {
        0 => None,
        _ => Some(magnitude(random, rate_min, 100_000_000_000)),
    };
    let delay_max = if packets > 2_000 { 100_000 } else { 750_000 };
    let delay_us = [magnitude(random, 10, delay_max), magnitude(random, 10, delay_max)];
    let delay_us = if random.random_bool(0.8) { [delay_us[0]; 2] } else { delay_us };
    // What is not yet known to fit goes in datagrams of 1,472.
    let bytes = packets * (mtu.min(8_000) as u64 - 48);
    let queue_packets = match random.random_range(0..10) {
        0 => Some(magnitude(random, 1, 8) as usize),
        1 | 2 => Some(magnitude(random, 8, 1_000_000) as usize),
        _ => None,
    };
    let on_the_wire = rate.map_or(0, |rate| bytes * 8_000 / rate);
    let digest = [1, 1, 1, 2, 2, 0][random.random_range(0..6)];
    let rates = Rates {
        is_digested: digest > 0,
        network: [0.0, 0.1, 0.2, 0.5][random.random_range(0..4)],
        hosts: [0.0, 0.05, 0.15, 0.3][random.random_range(0..4)],
        deaths: [0.0, 0.3, 0.6, 0.9][random.random_range(0..4)],
        span: 1 + on_the_wire + 6 * (delay_us[0] + delay_us[1]) / 1_000,
    };
    let faults = faults(random, &rates, packets);
    let transfers = transfers(random, bytes, &rates);
    let is_quiet = random.random_bool(0.7) || faults.iter().any(needs_an_end);
    let last = 2 * rates.span + random.random_range(0..30_000);
    let mut scenario = Scenario {
        seed,
        rate,
        delay_us,
        queue_packets,
        mtu,
        payload: bytes < 3 * MIB && random.random_bool(0.4),
        digest,
        fixed_rate: rate.filter(|_| random.random_bool(0.1)).map(|rate| rate / 9),
        icmp: random.random_bool(0.5),
        same_port: random.random_bool(0.5),
        again_after: magnitude(random, 1, 10_000),
        quiet_at: is_quiet.then_some(last),
        packets: [None, None],
        transfers,
        faults,
        purpose: Purpose::Store,
        ordered_window: None,
    };
    rarities(random, &mut scenario);
    scenario
}

/// What few transfers have: another purpose than to store files, pipes at either end, a body as
/// long as it can be, a clock that has run for long, counters that have.
fn rarities(random: &mut StdRng, scenario: &mut Scenario) {
    match random.random_range(0..100) {
        0..2 => scenario.purpose = Purpose::DryRun,
        2..22 if scenario.digest == 0 => scenario.purpose = Purpose::Discard,
        _ => {}
    }
    let what = match random.random_range(0..100) {
        0..4 => Some(What::Pipe),
        // Of such a file only places are simulated.
        4..6 if !scenario.payload => Some(What::Far),
        6..9 => Some(What::Plain),
        _ => None,
    };
    if let Some(what) = what {
        let is_in_order = what == What::Plain || (what == What::Pipe && random.random_bool(0.3));
        let size = MIB + magnitude(random, 1, 3 * MIB);
        let files = &mut scenario.transfers[0];
        if is_in_order {
            // One file can be handed on, of one sender.
            files.clear();
            scenario.ordered_window = Some(magnitude(random, MIB, 32 * MIB));
        }
        files.push(File { size, what });
        scenario.transfers.truncate(if is_in_order { 1 } else { usize::MAX });
    }
    if random.random_bool(0.05) {
        let edge = [1_u64 << 31, 1 << 32, 1 << 62, 1 << 63, LAST][random.random_range(0..5)];
        scenario.faults.push(Fault::FirstClock(edge - magnitude(random, 1, 100_000_000)));
    }
    if random.random_bool(0.2) {
        let left = magnitude(random, 1, 20) as u32;
        scenario.faults.push(Fault::FirstCount(u32::MAX - left));
    }
}

/// Whether a transfer need not come to an end under this fault.
fn needs_an_end(fault: &Fault) -> bool {
    match fault {
        Fault::Hostile(..) | Fault::LateTimers(..) | Fault::SendErrors(..) => true,
        Fault::Corruption(_, share) => *share > 0.2,
        _ => false,
    }
}

fn network_faults(random: &mut StdRng, rates: &Rates, faults: &mut Vec<Fault>) {
    let likely = rates.network;
    for way in [Way::There, Way::Back] {
        let mut draw =
            |faults: &mut Vec<Fault>, weight: f64, make: &dyn Fn(&mut StdRng) -> Fault| {
                if random.random_bool(likely * weight) {
                    faults.push(make(random));
                }
            };
        draw(faults, 1.0, &|random| Fault::Loss(way, share(random, 0.5)));
        draw(faults, 0.5, &|random| {
            let length = magnitude(random, 1, 64) as f64;
            Fault::Bursts(way, share(random, 0.3), length)
        });
        draw(faults, 0.5, &|random| {
            let most = [0.3, 1.0][random.random_range(0..2)];
            Fault::Duplication(way, share(random, most), magnitude(random, 1, 50_000))
        });
        draw(faults, 0.4, &|random| {
            Fault::Replay(way, share(random, 0.3), magnitude(random, 50, 20_000))
        });
        draw(faults, 0.5, &|random| {
            Fault::Reordering(way, share(random, 0.5), magnitude(random, 10, 100_000))
        });
        draw(faults, 0.6, &|random| Fault::Corruption(way, share(random, 0.3)));
        draw(faults, 0.5, &|random| {
            Fault::Jitter(way, magnitude(random, 10, 100_000), random.random_bool(0.5))
        });
        draw(faults, 0.4, &|random| {
            let from = random.random_range(0..=rates.span);
            Fault::Blackout(way, from, magnitude(random, 1, 15_000))
        });
    }
    let mut draw = |weight: f64, make: &dyn Fn(&mut StdRng) -> Fault| {
        if random.random_bool(likely * weight) {
            faults.push(make(random));
        }
    };
    let time = |random: &mut StdRng| random.random_range(0..=rates.span);
    draw(0.2, &|random| {
        Fault::Policer(magnitude(random, 2_000_000, 1_000_000_000), 64 * KIB as usize)
    });
    draw(0.4, &|random| {
        Fault::MtuChange(time(random), [1_280, 1_300, 1_420][random.random_range(0..3)])
    });
    draw(0.3, &|random| {
        Fault::RateChange(time(random), magnitude(random, 3_000_000, 10_000_000_000))
    });
    draw(0.3, &|random| Fault::DelayChange(time(random), magnitude(random, 10, 300_000)));
    draw(0.4, &|random| Fault::AddressChange(time(random)));
}

fn faults(random: &mut StdRng, rates: &Rates, packets: u64) -> Vec<Fault> {
    let mut faults = Vec::new();
    network_faults(random, rates, &mut faults);
    host_faults(random, rates, packets, &mut faults);
    let time = |random: &mut StdRng| random.random_range(0..=rates.span);
    let likely = rates.deaths;
    for _ in 0..5 {
        if random.random_bool(likely * 0.5) {
            faults.push(Fault::Kill(time(random)));
        } else {
            break;
        }
    }
    for _ in 0..2 {
        if random.random_bool(likely * 0.3) {
            let down = magnitude(random, 1, 25_000);
            faults.push(Fault::Restart(time(random), down, random.random_bool(0.4)));
        }
    }
    if random.random_bool(likely * 0.5) {
        faults.push(Fault::Sync(magnitude(random, 1, 60_000)));
    }
    if random.random_bool(0.1) {
        // Other bytes with a right check are for digests to find.
        let kinds: &[usize] = match rates.is_digested {
            true => &[0, 1, 2, 3, 4, 5, 6, 7],
            false => &[0, 1, 2, 3, 5, 6, 7],
        };
        let kind = kinds[random.random_range(0..kinds.len())];
        faults.push(Fault::Hostile(share(random, 0.2), kind));
        if random.random_bool(0.5) {
            faults.push(Fault::Hostile(0.0, kinds[random.random_range(0..kinds.len())]));
        }
    }
    for way in [Way::There, Way::Back] {
        if random.random_bool(0.1) {
            let edge = [1_u64 << 31, 1 << 32, 1 << 62, 1 << 63, LAST][random.random_range(0..5)];
            faults.push(Fault::FirstNumber(way, edge - magnitude(random, 1, 2_000)));
        }
    }
    faults
}

fn host_faults(random: &mut StdRng, rates: &Rates, packets: u64, faults: &mut Vec<Fault>) {
    let likely = rates.hosts;
    let mut draw = |weight: f64, make: &dyn Fn(&mut StdRng) -> Fault| {
        if random.random_bool((likely * weight).min(1.0)) {
            faults.push(make(random));
        }
    };
    let time = |random: &mut StdRng| random.random_range(0..=rates.span);
    for way in [Way::There, Way::Back] {
        draw(0.5, &|random| {
            Fault::LateTimers(way, share(random, 0.3), magnitude(random, 1, 60_000))
        });
        draw(0.4, &|random| Fault::Stall(way, time(random), magnitude(random, 1, 60_000)));
        let most = if way == Way::There { 64 * MIB } else { 64 * KIB };
        draw(1.0, &|random| Fault::Buffer(way, magnitude(random, 4 * KIB, most)));
    }
    draw(0.6, &|random| {
        let no_room = if random.random_bool(0.5) { 1.0 } else { 0.5 };
        Fault::SendErrors(share(random, 0.3), no_room)
    });
    draw(0.3, &|random| Fault::LocalMtu([1_280, 1_400][random.random_range(0..2)]));
    draw(0.8, &|random| Fault::Pool(magnitude(random, 16, 8_192)));
    draw(1.0, &|random| {
        Fault::SlowDisk(magnitude(random, 1, 5_000), magnitude(random, MIB, 4_096 * MIB))
    });
    draw(0.3, &|random| Fault::DiskStall(time(random), magnitude(random, 1, 25_000)));
    let write = |random: &mut StdRng| random.random_range(0..=packets / 4);
    draw(0.5, &|random| Fault::DiskFull(write(random), magnitude(random, 1, 30)));
    draw(0.5, &|random| Fault::DiskError(write(random)));
    draw(0.5, &|random| Fault::ShortWrites(magnitude(random, 1, 100)));
}

/// What is sent: so many bytes in all, in one tree or some.
fn transfers(random: &mut StdRng, bytes: u64, rates: &Rates) -> Vec<Vec<File>> {
    let count = match random.random_range(0..20) {
        0 => random.random_range(3..5),
        1 => 2,
        _ => 1,
    };
    (0..count).map(|_| files(random, bytes / count, rates)).collect()
}

fn files(random: &mut StdRng, bytes: u64, rates: &Rates) -> Vec<File> {
    let files_max = match random.random_range(0..10) {
        0 => 0,
        1..4 => 1,
        4..7 => random.random_range(2..10),
        _ => random.random_range(10..=200),
    };
    let mut files = Vec::new();
    let mut left = bytes;
    while files.len() < files_max {
        let is_last = files.len() + 1 == files_max;
        let size = match random.random_range(0..4) {
            _ if is_last => left,
            0 => EDGES[random.random_range(0..EDGES.len())].min(left),
            _ => random.random_range(0..=2 * bytes / files_max as u64).min(left),
        };
        left -= size;
        let what = what(random, size, rates);
        files.push(File { size, what });
    }
    // Without files there is nothing to send; most runs shall have something.
    if files_max == 0 && random.random_bool(0.8) {
        files.push(File { size: bytes, what: What::Plain });
    }
    files
}

fn what(random: &mut StdRng, size: u64, rates: &Rates) -> What {
    match random.random_range(0..100) {
        0..4 if size < 10_000 => What::Directory,
        4 if size < 10_000 => What::Link,
        5 if size < 100_000 => What::Present,
        6 if size < 100_000 => What::Refused,
        7 if size < 100_000 => What::NotCommitted,
        8 if size < 100_000 => What::Unreadable,
        9 => What::Changes(random.random_range(0..=2 * rates.span)),
        10..13 if size > 0 && rates.is_digested => {
            let blocks = size.div_ceil(MIB) as u32;
            What::Damaged(random.random_range(0..blocks), random.random_range(1..=4))
        }
        13..17 if size > 4 => {
            let start = random.random_range(0..size / 2);
            let end = random.random_range(start + 1..=(start + size / 4).max(start + 1));
            What::Sparse(vec![(start, end)])
        }
        _ => What::Plain,
    }
}
