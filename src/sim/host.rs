//! What both simulated hosts have in common: how late they wake, when they stall, when they die.

use std::time::Duration;

use super::impairment::TimeWindow;
use crate::proto::Time;

/// How a machine's process is scheduled.
#[derive(Clone, Debug, PartialEq)]
pub struct HostConfig {
    /// From a packet's arrival, or a timer's end, to the process running. Default 20 us, a usual
    /// wake-up on an idle machine.
    pub wake_latency: Duration,
    /// What the process needs for each packet it takes in. Default 300 ns.
    pub packet_cost: Duration,
    /// While one of these holds, the process does not run (SIGSTOP).
    pub stalls: Vec<TimeWindow>,
    /// From then on the process is gone.
    pub killed_at: Option<Time>,
}

impl Default for HostConfig {
    fn default() -> HostConfig {
        HostConfig {
            wake_latency: Duration::from_micros(20),
            packet_cost: Duration::from_nanos(300),
            stalls: Vec::new(),
            killed_at: None,
        }
    }
}

impl HostConfig {
    /// Whether the process is gone.
    pub fn is_dead(&self, now: Time) -> bool {
        self.killed_at.is_some_and(|at| now >= at)
    }

    /// When the process runs that is to run at `at`; never if it is gone by then.
    pub fn runs_at(&self, mut at: Time) -> Option<Time> {
        while let Some(stall) = self.stalls.iter().find(|stall| stall.contains(at)) {
            at = stall.until;
        }
        (!self.is_dead(at)).then_some(at)
    }
}

/// When a process runs next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wake {
    at: Option<Time>,
}

impl Wake {
    /// At `at`, unless it runs earlier.
    pub fn by(&mut self, at: Time) {
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }

    /// It runs now.
    pub fn clear(&mut self) {
        self.at = None;
    }

    /// When, under the stalls and the death of `host`.
    pub fn next(&self, host: &HostConfig) -> Option<Time> {
        self.at.and_then(|at| host.runs_at(at))
    }
}

/// Kernel memory a queued datagram is charged with: its bytes in a power-of-two buffer with
/// bookkeeping. 2,304 for 1,472 bytes (measured, Linux 6.18), as `ReceiverConfig` says.
pub fn charged_bytes(datagram_bytes: usize) -> u64 {
    // Small datagrams share the least buffer, long ones take pages.
    (datagram_bytes.max(512) as u64).next_multiple_of(64) + 832
}
