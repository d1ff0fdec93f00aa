//! Rate, queue and policer of a link, in exact integers: nothing is rounded, so nothing drifts.
//!
//! When a packet leaves is known the moment it is handed over, because changes of the rate are
//! known from the start. What happens to packets apart from that is left to `link.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::proto::Time;

/// The bounds of a queue: a packet that would exceed either is dropped. None is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLimit {
    /// Bytes on the wire, overhead included, counting the packet being sent.
    pub bytes: Option<usize>,
    /// Packets, counting the one being sent.
    pub packets: Option<usize>,
}

/// A token bucket that drops what it has no tokens for, and delays nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policer {
    /// At this rate tokens return.
    pub rate_bits_per_second: u64,
    /// So many bytes pass at once after a pause.
    pub burst_bytes: usize,
}

/// A value that changes at known times, asked for times that never go back.
#[derive(Debug)]
pub struct Schedule<T> {
    current: T,
    later: VecDeque<(Time, T)>,
}

impl<T: Copy> Schedule<T> {
    /// `current` until the first of the changes, which may be in any order.
    pub fn new(current: T, mut changes: Vec<(Time, T)>) -> Schedule<T> {
        // Stable: of two changes at one time the later in the list comes last and holds.
        changes.sort_by_key(|&(at, _)| at);
        Schedule { current, later: changes.into() }
    }

    /// The value at `time`.
    pub fn at(&mut self, time: Time) -> T {
        while let Some((_, value)) = self.later.pop_front_if(|&mut (at, _)| at <= time) {
            self.current = value;
        }
        self.current
    }

    /// When the value changes next after the last time asked for.
    fn next_change(&self) -> Option<Time> {
        self.later.front().map(|&(at, _)| at)
    }
}

/// Nanoseconds in a second. Work on the wire and tokens are counted in bits times this number:
/// at `r` bits per second, `r` such units are done in a nanosecond, so nothing is ever rounded.
const UNITS_PER_BIT: u64 = 1_000_000_000;

fn units(bytes: usize) -> u64 {
    // 2^64 units are 2.3 GB: no packet, and a bucket of any use is smaller.
    (bytes as u64).saturating_mul(8 * UNITS_PER_BIT)
}

/// The wire: sends one packet after the other at its rate.
#[derive(Debug)]
pub struct Wire {
    rate: Schedule<Option<u64>>,
    /// When the last packet has left, rounded down to the nanosecond.
    busy_until: Time,
    /// What is left to do of it then, less than a nanosecond of work.
    work_left: u64,
}

impl Wire {
    /// An idle wire.
    pub fn new(rate: Schedule<Option<u64>>) -> Wire {
        Wire { rate, busy_until: Time::ZERO, work_left: 0 }
    }

    /// When the last packet handed over has left.
    pub fn busy_until(&self) -> Time {
        self.busy_until
    }

    /// When the last bit of a packet leaves that is handed over at `now`.
    pub fn send(&mut self, now: Time, wire_bytes: usize) -> Time {
        if now > self.busy_until {
            self.busy_until = now;
            self.work_left = 0;
        }
        let mut work = units(wire_bytes).saturating_add(self.work_left);
        loop {
            let position = self.busy_until;
            let Some(rate) = self.rate.at(position).map(|rate| rate.max(1)) else {
                self.work_left = 0;
                return position;
            };
            if let Some(change) = self.rate.next_change() {
                let nanos = change.as_nanos() - position.as_nanos();
                let possible = nanos.saturating_mul(rate);
                if work >= possible {
                    work -= possible;
                    self.busy_until = change;
                    continue;
                }
            }
            self.work_left = work % rate;
            self.busy_until = position + Duration::from_nanos(work / rate);
            return self.busy_until;
        }
    }
}

/// What waits for the wire. When each packet leaves is known from the start.
#[derive(Debug, Default)]
pub struct Queue {
    limit: QueueLimit,
    waiting: VecDeque<(Time, usize)>,
    /// The sum of the sizes in `waiting`.
    bytes: usize,
}

impl Queue {
    /// An empty queue.
    pub fn new(limit: QueueLimit) -> Queue {
        Queue { limit, ..Queue::default() }
    }

    /// Packets in the queue when `has_room` was last asked, and what was pushed since.
    pub fn packets(&self) -> usize {
        self.waiting.len()
    }

    /// The same in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets go of what has left by `now`; whether a packet of `bytes` fits then.
    pub fn has_room(&mut self, now: Time, bytes: usize) -> bool {
        while let Some((_, left)) = self.waiting.pop_front_if(|&mut (at, _)| at <= now) {
            self.bytes -= left;
        }
        self.limit.packets.is_none_or(|limit| self.waiting.len() < limit)
            && self.limit.bytes.is_none_or(|limit| self.bytes.saturating_add(bytes) <= limit)
    }

    /// Adds a packet that leaves at a known time, not before those already in.
    pub fn push(&mut self, leaves_at: Time, bytes: usize) {
        self.waiting.push_back((leaves_at, bytes));
        self.bytes += bytes;
    }
}

/// The state of a `Policer`, in units as on the wire.
#[derive(Debug)]
pub struct TokenBucket {
    rate: u64,
    capacity: u64,
    tokens: u64,
    filled_at: Time,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(policer: Policer) -> TokenBucket {
        let capacity = units(policer.burst_bytes);
        let rate = policer.rate_bits_per_second;
        TokenBucket { rate, capacity, tokens: capacity, filled_at: Time::ZERO }
    }

    /// Takes the tokens for a packet; false, and none taken, if there are too few.
    pub fn take(&mut self, now: Time, wire_bytes: usize) -> bool {
        let nanos = now.as_nanos() - self.filled_at.as_nanos();
        let earned = nanos.saturating_mul(self.rate);
        self.tokens = self.tokens.saturating_add(earned).min(self.capacity);
        self.filled_at = now;
        match self.tokens.checked_sub(units(wire_bytes)) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }
}
