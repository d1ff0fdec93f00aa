//! What both simulated hosts have in common: how late they wake, when they stall, when they die.

use std::time::Duration;

use super::impairment::{TimeWindow, is_hit, mix};
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
    /// Timers that come late. Default none.
    pub late_timers: Option<LateTimers>,
    /// System calls that send and fail. Default none.
    pub send_errors: Option<SendErrors>,
}

/// Timers that come late, as on a machine that swaps or sleeps; what arrives wakes the process
/// all the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LateTimers {
    /// How likely a timer is late.
    pub probability: f64,
    /// By how much at most; every lateness is equally likely.
    pub most: Duration,
    /// From then on none is.
    pub until: Time,
}

/// Datagrams that the sender's own kernel does not take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SendErrors {
    /// How likely one is refused.
    pub probability: f64,
    /// How many of these there was only no room for (ENOBUFS): they leave so much later, and all
    /// behind them. The others are lost (EPERM, ENETUNREACH and the like).
    pub no_room: f64,
    /// From then on none is.
    pub until: Time,
}

/// What became of a datagram at its own host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It leaves then.
    At(Time),
    /// It never leaves.
    Lost,
}

/// How long a sender waits for room in its kernel.
const ROOM_WAIT: Duration = Duration::from_millis(1);

impl Default for HostConfig {
    fn default() -> HostConfig {
        HostConfig {
            wake_latency: Duration::from_micros(20),
            packet_cost: Duration::from_nanos(300),
            stalls: Vec::new(),
            killed_at: None,
            late_timers: None,
            send_errors: None,
        }
    }
}

impl HostConfig {
    /// Whether the process is gone.
    pub fn is_dead(&self, now: Time) -> bool {
        self.killed_at.is_some_and(|at| now >= at)
    }

    /// How late the timer is that `draw` stands for.
    pub fn lateness(&self, now: Time, draw: u64) -> Duration {
        match self.late_timers {
            Some(late) if now < late.until && is_hit(mix(draw), late.probability) => {
                late.most.mul_f64((mix(!draw) >> 11) as f64 / (1_u64 << 53) as f64)
            }
            _ => Duration::ZERO,
        }
    }

    /// What becomes of the datagram that `draw` stands for.
    pub fn sending(&self, now: Time, draw: u64) -> Sending {
        match self.send_errors {
            Some(errors) if now < errors.until && is_hit(mix(draw), errors.probability) => {
                match is_hit(mix(!draw), errors.no_room) {
                    true => Sending::At(now + ROOM_WAIT),
                    false => Sending::Lost,
                }
            }
            _ => Sending::At(now),
        }
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
