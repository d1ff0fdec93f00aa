//! What a bench uses when nothing else was asked for, and the ranges a user may choose from.
//! Defaults of options are as they are typed; the command line prints and parses them.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A link as in an office, where TCP's variants already differ, and a minute for all of it.
pub const LOSS: &str = "0,1,5";
/// The round trip of a link within a country.
pub const RTT: &str = "10ms";
/// Slow enough for any machine to emulate it well.
pub const RATE: &str = "100M";
/// One second at the default rate: long enough for every start-up to be over.
pub const SIZE: &str = "12.5MB";
/// The least number of runs whose median is not one of the extremes.
pub const RUNS: &str = "3";
/// Any number does; a fixed one makes results comparable without asking.
pub const SEED: &str = "1";
/// The kernel's controls that most machines have.
pub const AGAINST: &str = "ufx,reno,cubic,bbr";

/// The least default queue in bytes: a cheap switch's, so that short links are not queueless.
pub const QUEUE_BYTES_MIN: u64 = 256_000;

/// How long the default reordering holds a packet back.
pub const REORDERING_DELAY: Duration = Duration::from_millis(2);

/// How long after a packet its copy arrives.
pub const DUPLICATION_DELAY: Duration = Duration::from_micros(100);

/// The port that plain TCP copies use: any, for the host is theirs alone.
pub const TCP_PORT: u16 = 8390;

/// What `--loss` and its like may be, in percent. Beyond 50 % nothing but ufx moves at all.
pub const PERCENT_MAX: f64 = 50.0;
/// What `--burst` may be, in packets.
pub const BURST_RANGE: RangeInclusive<u64> = 1..=10_000;
/// What `--rtt` may be. Below 50 us the machine's own delays are larger.
pub const RTT_RANGE: RangeInclusive<Duration> = Duration::from_micros(50)..=Duration::from_secs(5);
/// What `--rate` may be, in bits per second. Above 2 Gbit/s no core carries packets one by one.
pub const RATE_RANGE: RangeInclusive<u64> = 100_000..=2_000_000_000;
/// What `--queue` may be, in bytes: two packets to a second at the highest rate.
pub const QUEUE_RANGE: RangeInclusive<u64> = 3_000..=250_000_000;
/// What `--jitter` may be.
pub const JITTER_RANGE: RangeInclusive<Duration> =
    Duration::from_micros(1)..=Duration::from_secs(1);
/// What `--size` may be, in bytes.
pub const SIZE_RANGE: RangeInclusive<u64> = 1..=1 << 40;
/// What `--runs` may be.
pub const RUNS_RANGE: RangeInclusive<u64> = 1..=1_000;
/// What `--seed` may be.
pub const SEED_RANGE: RangeInclusive<u64> = 0..=u64::MAX;
/// What `--cap` may be.
pub const CAP_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3_600);

/// The cap without a link whose need is known.
pub const CAP_NATIVE: Duration = Duration::from_secs(60);

/// The default cap: three times what the link needs for the bytes, and a little for programs to
/// start and to shake hands. A contestant slower than a third of the link has made its point.
pub fn cap(file_bytes: u64, rate_bits_per_second: u64, rtt: Duration) -> Duration {
    let needed = file_bytes as f64 * 8.0 / rate_bits_per_second.max(1) as f64;
    Duration::from_secs_f64(3.0 * needed) + 10 * rtt + Duration::from_millis(300)
}
