//! Whose queue it is: we slow down for a round trip and look how much it shrinks.

use std::time::Duration;

/// Paces of a drain, at most and at least.
const GAIN_MAX: f64 = 0.85;
const GAIN_MIN: f64 = 0.5;

/// A queue that shrinks by so much of what we held back is ours, or others hold back as we do.
const OURS: f64 = 0.6;

/// ... and by less than this is none: the way got longer.
const LONGER: f64 = 0.1;

/// Whose the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Ours, or of others who give way.
    Us,
    /// Of others who do not.
    Others,
    /// It is no queue.
    Path,
}

/// A round at a slower pace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drain {
    /// The pace, relative to the rate.
    pub gain: f64,
    before: Duration,
    rtt: Duration,
}

impl Drain {
    /// A drain that takes `queue` down to `target` in a round trip, if it can.
    pub fn new(queue: Duration, target: Duration, rtt: Duration) -> Drain {
        let above = queue.saturating_sub(target).as_secs_f64();
        let gain = 1.0 - above / rtt.max(Duration::from_micros(1)).as_secs_f64();
        Drain { gain: gain.clamp(GAIN_MIN, GAIN_MAX), before: queue, rtt }
    }

    /// Whose queue it is that is now so long.
    pub fn owner(&self, queue: Duration) -> Owner {
        let shrunk = self.before.saturating_sub(queue).as_secs_f64();
        let held_back = self.rtt.as_secs_f64() * (1.0 - self.gain);
        match shrunk / held_back.min(self.before.as_secs_f64()).max(1e-9) {
            share if share >= OURS => Owner::Us,
            share if share >= LONGER => Owner::Others,
            _ => Owner::Path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn our_own_queue_shrinks_by_what_we_hold_back() {
        let drain = Drain::new(10 * MS, 2 * MS, 40 * MS);
        assert!((drain.gain - 0.8).abs() < 1e-9);
        assert_eq!(drain.owner(3 * MS), Owner::Us);
        assert_eq!(drain.owner(7 * MS), Owner::Others);
        assert_eq!(drain.owner(10 * MS), Owner::Path);
        assert_eq!(drain.owner(12 * MS), Owner::Path);
    }
}
