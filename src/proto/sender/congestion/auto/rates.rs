//! The highest delivery rate of the last rounds.

use std::collections::VecDeque;
use std::time::Duration;

use crate::proto::time::Time;

/// Span of the maximum, in rounds: a little more than a cycle of probing.
const ROUNDS: u64 = 10;

/// ... and in time, where rounds are much shorter than what the hosts' scheduling disturbs.
const SPAN_MIN: Duration = Duration::from_millis(50);

/// A windowed maximum, and the best of the last rounds.
#[derive(Debug, Default)]
pub struct Rates {
    /// Samples (round, time, bytes per second), descending: the front is the maximum.
    samples: VecDeque<(u64, Time, u64)>,
    /// Best of the running round and of the one before.
    recent: [u64; 2],
    round: u64,
}

impl Rates {
    /// A sample. A sender that was held by something else shows the path's rate only if it is
    /// higher than any.
    pub fn push(&mut self, now: Time, min_rtt: Duration, rate: u64, limited: bool) {
        let best = self.best().unwrap_or(0);
        if limited && rate <= best {
            return;
        }
        self.recent[0] = self.recent[0].max(rate);
        let span = (min_rtt * ROUNDS as u32).max(SPAN_MIN);
        while let Some(&(round, time, _)) = self.samples.front() {
            let old = round + ROUNDS < self.round
                && now.saturating_since(time) > span
                && self.samples.len() > 1;
            if !old {
                break;
            }
            self.samples.pop_front();
        }
        while self.samples.back().is_some_and(|&(_, _, other)| other <= rate) {
            self.samples.pop_back();
        }
        self.samples.push_back((self.round, now, rate));
    }

    /// The maximum; none before the first sample.
    pub fn best(&self) -> Option<u64> {
        self.samples.front().map(|&(_, _, rate)| rate)
    }

    /// A round is over.
    pub fn on_round(&mut self) {
        self.round += 1;
        self.recent = [0, self.recent[0]];
    }

    /// The best of the running round and the one before.
    pub fn recent(&self) -> Option<u64> {
        let best = self.recent[0].max(self.recent[1]);
        (best > 0).then_some(best)
    }

    /// Forgets all but `rate`.
    pub fn replace(&mut self, now: Time, rate: u64) {
        self.samples.clear();
        self.samples.push_back((self.round, now, rate.max(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_is_forgotten_after_ten_rounds_and_not_before() {
        let mut rates = Rates::default();
        let rtt = Duration::from_millis(10);
        let mut now = Time::ZERO;
        rates.push(now, rtt, 500, false);
        for _ in 0..10 {
            rates.on_round();
            now += rtt;
            rates.push(now, rtt, 400, false);
        }
        assert_eq!((rates.best(), rates.recent()), (Some(500), Some(400)));
        rates.on_round();
        now += rtt;
        rates.push(now, rtt, 300, false);
        assert_eq!(rates.best(), Some(400));
    }

    #[test]
    fn a_sender_that_was_held_shows_only_a_higher_rate() {
        let mut rates = Rates::default();
        let rtt = Duration::from_millis(10);
        rates.push(Time::ZERO, rtt, 500, false);
        rates.push(Time::ZERO, rtt, 100, true);
        assert_eq!(rates.recent(), Some(500));
        rates.push(Time::ZERO, rtt, 600, true);
        assert_eq!(rates.best(), Some(600));
    }
}
