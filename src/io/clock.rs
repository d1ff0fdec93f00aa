//! The one clock of a process: monotonic time as the core counts it. Nothing else here reads time.

use std::time::Instant;

use crate::proto::Time;

/// A monotonic clock; every machine of a process is driven by the same one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now, at [`Time::ZERO`].
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// The time since the clock started.
    pub fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_runs_backwards() {
        let clock = Clock::start();
        let mut last = clock.now();
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
