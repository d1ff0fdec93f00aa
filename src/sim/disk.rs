//! A disk in virtual time: how long writes take, and which of them fail.
//!
//! It holds no bytes; what was written where is left to the caller.

use std::collections::BTreeSet;
use std::time::Duration;

use super::impairment::TimeWindow;
use crate::proto::Time;

/// How a disk behaves. The default writes everything at once and is never full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskConfig {
    /// What every write takes, however small.
    pub write_latency: Duration,
    /// Bytes per second on top of that; none is without bound. Zero counts as one.
    pub rate_bytes_per_second: Option<u64>,
    /// While one of these holds, no write makes progress.
    pub stalls: Vec<TimeWindow>,
    /// A write that exceeds this many bytes in total finds the disk full (ENOSPC).
    pub capacity_bytes: Option<u64>,
    /// The disk is full from this write on (the first has index 0), whatever its capacity.
    pub full_from_write: Option<u64>,
    /// With `full_from_write`: so many writes later there is room again. Default never.
    pub full_writes: Option<u64>,
    /// Indices of writes that fail (EIO); others go on.
    pub failing_writes: BTreeSet<u64>,
    /// Every write whose index is a multiple of this one takes only half its bytes; the caller
    /// hands over the rest again. Default none.
    pub short_every: Option<u64>,
}

/// How a write ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskOutcome {
    /// All bytes are written.
    Written,
    /// Half the bytes are written, rounded up.
    Short,
    /// The disk is full: nothing of this write is kept (ENOSPC).
    Full,
    /// The disk failed: nothing of this write is kept (EIO).
    Failed,
}

/// When and how a write ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskCompletion {
    /// When the caller learns of it.
    pub at: Time,
    /// How it ends.
    pub outcome: DiskOutcome,
}

/// A disk that does one write after the other.
#[derive(Clone, Debug)]
pub struct Disk {
    /// `DiskConfig::stalls` in order of time.
    config: DiskConfig,
    busy_until: Time,
    writes: u64,
    written_bytes: u64,
}

impl Disk {
    /// An idle, empty disk.
    pub fn new(mut config: DiskConfig) -> Disk {
        config.stalls.sort_by_key(|stall| stall.from);
        Disk { config, busy_until: Time::ZERO, writes: 0, written_bytes: 0 }
    }

    /// Hands over a write of `bytes` bytes; it starts when those before it are done.
    pub fn submit(&mut self, now: Time, bytes: u64) -> DiskCompletion {
        let index = self.writes;
        self.writes += 1;
        let outcome = self.outcome(index, bytes);
        let written = match outcome {
            DiskOutcome::Written => bytes,
            DiskOutcome::Short => bytes.div_ceil(2),
            DiskOutcome::Full | DiskOutcome::Failed => 0,
        };
        let rate = self.config.rate_bytes_per_second;
        let transfer = rate.map_or(Duration::ZERO, |rate| transfer_time(written, rate.max(1)));
        self.written_bytes = self.written_bytes.saturating_add(written);
        let start = self.busy_until.max(now);
        self.busy_until = self.work(start, self.config.write_latency + transfer);
        DiskCompletion { at: self.busy_until, outcome }
    }

    /// When everything handed over so far is done.
    pub fn busy_until(&self) -> Time {
        self.busy_until
    }

    /// Bytes of the writes that ended well, those still under way included.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    fn outcome(&self, index: u64, bytes: u64) -> DiskOutcome {
        let config = &self.config;
        let total = self.written_bytes.saturating_add(bytes);
        let is_full = |from: u64| {
            let until = config.full_writes.map_or(u64::MAX, |writes| from.saturating_add(writes));
            (from..until).contains(&index)
        };
        if config.full_from_write.is_some_and(is_full)
            || config.capacity_bytes.is_some_and(|capacity| total > capacity)
        {
            DiskOutcome::Full
        } else if config.failing_writes.contains(&index) {
            DiskOutcome::Failed
        } else if bytes > 1
            && config.short_every.is_some_and(|every| index.is_multiple_of(every.max(1)))
        {
            DiskOutcome::Short
        } else {
            DiskOutcome::Written
        }
    }

    /// When `work` is done that begins at `start` and rests during stalls.
    fn work(&self, start: Time, mut work: Duration) -> Time {
        let mut position = start;
        for stall in &self.config.stalls {
            if stall.until <= position {
                continue;
            }
            let free = stall.from.saturating_since(position);
            if work < free || (work == free && free > Duration::ZERO) {
                break;
            }
            work -= free;
            position = stall.until;
        }
        position + work
    }
}

/// Rounded up, so that no byte is for free.
fn transfer_time(bytes: u64, rate_bytes_per_second: u64) -> Duration {
    let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(rate_bytes_per_second));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Time {
        Time::from_nanos(micros * 1_000)
    }

    fn slow() -> DiskConfig {
        DiskConfig {
            write_latency: Duration::from_micros(100),
            rate_bytes_per_second: Some(1_000_000),
            ..DiskConfig::default()
        }
    }

    /// Completion times, in microseconds, of writes of 50 bytes handed over at `times`.
    fn completions(config: DiskConfig, times: &[u64]) -> Vec<u64> {
        let mut disk = Disk::new(config);
        times.iter().map(|&time| disk.submit(micros(time), 50).at.as_micros()).collect()
    }

    fn outcomes(config: DiskConfig, sizes: &[u64]) -> Vec<DiskOutcome> {
        let mut disk = Disk::new(config);
        sizes.iter().map(|&bytes| disk.submit(Time::ZERO, bytes).outcome).collect()
    }

    #[test]
    fn by_default_a_write_is_done_at_once() {
        assert_eq!(completions(DiskConfig::default(), &[0, 7]), [0, 7]);
    }

    #[test]
    fn writes_wait_for_those_before_them() {
        assert_eq!(completions(slow(), &[0, 0, 200, 1_000]), [150, 300, 450, 1_150]);
    }

    #[test]
    fn a_write_rests_while_the_disk_stalls() {
        let stall = |from, until| TimeWindow { from: micros(from), until: micros(until) };
        let stalls = vec![stall(1_000, 1_500), stall(100, 600), stall(640, 700)];
        let config = DiskConfig { stalls, ..slow() };
        // 100 us, rest, 40 us, rest, 10 us; then undisturbed; then one handed over in a stall.
        assert_eq!(completions(config, &[0, 720, 1_200]), [710, 870, 1_650]);
    }

    #[test]
    fn a_write_done_when_the_stall_begins_does_not_rest() {
        let stalls = vec![TimeWindow { from: micros(150), until: micros(900) }];
        let config = DiskConfig { stalls, ..slow() };
        assert_eq!(completions(config, &[0, 0]), [150, 1_050]);
    }

    #[test]
    fn a_full_disk_keeps_what_fitted_and_still_takes_what_fits() {
        let config = DiskConfig { capacity_bytes: Some(100), ..DiskConfig::default() };
        use DiskOutcome::{Full, Written};
        assert_eq!(outcomes(config, &[60, 41, 40, 0, 1]), [Written, Full, Written, Written, Full]);
    }

    #[test]
    fn chosen_writes_fail_and_no_others() {
        use DiskOutcome::{Failed, Full, Written};
        let config = DiskConfig {
            failing_writes: [1].into(),
            full_from_write: Some(3),
            ..DiskConfig::default()
        };
        assert_eq!(outcomes(config, &[1; 5]), [Written, Failed, Written, Full, Full]);
    }

    #[test]
    fn a_short_write_takes_half_and_room_comes_back() {
        use DiskOutcome::{Full, Short, Written};
        let config = DiskConfig {
            short_every: Some(2),
            full_from_write: Some(3),
            full_writes: Some(1),
            ..DiskConfig::default()
        };
        assert_eq!(outcomes(config.clone(), &[9; 5]), [Short, Written, Short, Full, Short]);
        let mut disk = Disk::new(config);
        disk.submit(Time::ZERO, 9);
        assert_eq!(disk.written_bytes(), 5);
    }

    #[test]
    fn what_failed_was_not_written() {
        let config = DiskConfig { failing_writes: [0].into(), ..slow() };
        let mut disk = Disk::new(config);
        disk.submit(Time::ZERO, 50);
        disk.submit(Time::ZERO, 20);
        assert_eq!(disk.written_bytes(), 20);
        assert_eq!(disk.busy_until(), micros(220));
    }
}
