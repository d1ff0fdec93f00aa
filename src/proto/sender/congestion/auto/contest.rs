//! Beside others that fill the queue: a window as CUBIC's, until the queue empties.
//!
//! Whoever bounds delay alone starves beside a sender that reacts to loss only. So while such a
//! one is there, we are one too. Every now and then we slow down for a round trip: if the queue
//! shrinks by as much as we held back, it is ours, or of others like us.

use std::time::Duration;

use super::drain::{Drain, Owner};
use crate::proto::sender::congestion::cubic::Curve;
use crate::proto::sender::congestion::{AckSample, PathLoss};
use crate::proto::time::Time;

/// A look whether the queue is ours comes so many rounds after a cut: then others like us look,
/// too, for a full queue cuts all at once.
const LOOK_AFTER_CUT: u32 = 6;

/// ... or, without a cut, so long after the last one.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Pace above a window a round trip, as CUBIC's.
const PACING: f64 = 1.2;

/// The least RTT from before the contest is believed so long: then the path may be longer now.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a look is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Look {
    No,
    Slow(Drain),
    Judge(Drain),
}

/// See the module's description.
#[derive(Debug)]
pub struct Contest {
    curve: Curve,
    since: Time,
    least_rtt: Duration,
    cut_at: Time,
    looked_at: Time,
    /// Rounds since the last cut.
    rounds: u32,
    look: Look,
    /// Packets lost and acknowledged in this round.
    lost: u64,
    acked: f64,
}

impl Contest {
    /// Begins with this window, in packets.
    pub fn new(now: Time, least_rtt: Duration, window: f64) -> Contest {
        Contest {
            curve: Curve::at_window(window),
            since: now,
            least_rtt,
            cut_at: now,
            looked_at: now,
            rounds: 0,
            look: Look::No,
            lost: 0,
            acked: 0.0,
        }
    }

    /// An ACK; how long the queue is.
    pub fn on_ack(&mut self, sample: &AckSample, random_loss: f64) -> Option<Duration> {
        let now = sample.now;
        let acked = sample.acked_bytes as f64 / sample.datagram_bytes as f64;
        self.acked += acked;
        self.on_loss(now, &sample.loss, random_loss);
        let recovering = now.saturating_since(self.cut_at) < sample.smoothed_rtt;
        if !recovering && !sample.limited && acked > 0.0 && self.look == Look::No {
            self.curve.avoid(now, sample.smoothed_rtt, acked);
        }
        if now.saturating_since(self.since) > PATIENCE {
            self.least_rtt = sample.min_rtt;
        }
        self.least_rtt = self.least_rtt.min(sample.min_rtt);
        sample.rtt.map(|rtt| rtt.saturating_sub(self.least_rtt))
    }

    /// Loss beyond what is random cuts the window, once a round trip.
    fn on_loss(&mut self, now: Time, loss: &PathLoss, random_loss: f64) {
        self.lost += loss.packets;
        let expected = random_loss * (self.acked + self.lost as f64);
        let beyond = self.lost as f64 > 2.0 * expected;
        if loss.packets == 0 || !beyond || loss.newest_sent_at <= self.cut_at {
            return;
        }
        self.cut_at = now;
        self.rounds = 0;
        self.curve.cut();
    }

    /// A round is over in which the queue was never shorter than this. Whether the contest is.
    pub fn on_round(
        &mut self,
        now: Time,
        rtt: Duration,
        queue: Option<Duration>,
        bound: Duration,
    ) -> bool {
        self.rounds += 1;
        self.lost = 0;
        self.acked = 0.0;
        let queue = queue.unwrap_or_default();
        if queue < bound / 2 {
            return true;
        }
        self.look = match self.look {
            Look::No => {
                let waited = now.saturating_since(self.looked_at) > LOOK_INTERVAL;
                match waited || self.rounds == LOOK_AFTER_CUT {
                    true => Look::Slow(Drain::new(queue, Duration::ZERO, rtt)),
                    false => Look::No,
                }
            }
            Look::Slow(drain) => Look::Judge(drain),
            Look::Judge(drain) => {
                self.looked_at = now;
                if drain.owner(queue) == Owner::Us {
                    return true;
                }
                Look::No
            }
        };
        false
    }

    /// Packets that may be in flight.
    pub fn window(&self) -> f64 {
        self.curve.window
    }

    /// Bytes per second, of which `rate` arrived lately.
    pub fn pace(&self, datagram_bytes: u64, rtt: Duration, rate: f64) -> f64 {
        match self.look {
            Look::Slow(drain) => drain.gain * rate,
            Look::Judge(_) => rate,
            Look::No => PACING * self.curve.window * datagram_bytes as f64 / rtt.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::sample;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(milliseconds: u32) -> Time {
        Time::ZERO + milliseconds * MS
    }

    /// A contest with a window of 100 packets over 20 ms.
    fn contest() -> Contest {
        Contest::new(at(0), 20 * MS, 100.0)
    }

    /// An ACK of `acked` packets after `lost` were found missing.
    fn ack(milliseconds: u32, acked: u64, lost: u64) -> AckSample {
        let loss =
            PathLoss { packets: lost, newest_sent_at: at(milliseconds), ..PathLoss::default() };
        let acked_bytes = acked * 1_472;
        AckSample { acked_bytes, loss, ..sample(at(milliseconds), 20 * MS) }
    }

    #[test]
    fn loss_beyond_twice_the_random_one_cuts_the_window_as_cubics() {
        for (lost, window) in [(20, 100.0), (21, 70.0)] {
            let mut contest = contest();
            contest.on_ack(&AckSample { limited: true, ..ack(30, 100 - lost, lost) }, 0.1);
            assert!((contest.window() - window).abs() < 1e-9, "{}", contest.window());
        }
    }

    #[test]
    fn what_had_left_before_a_cut_is_not_punished_again() {
        let mut contest = contest();
        contest.on_ack(&ack(30, 0, 5), 0.0);
        let mut later = ack(40, 0, 5);
        later.loss.newest_sent_at = at(30);
        contest.on_ack(&later, 0.0);
        assert!((contest.window() - 70.0).abs() < 1e-9);
        contest.on_ack(&ack(41, 0, 5), 0.0);
        assert!((contest.window() - 49.0).abs() < 1e-9);
    }

    #[test]
    fn the_window_grows_but_not_while_it_recovers_is_not_used_or_looks() {
        let mut contest = contest();
        contest.on_ack(&ack(30, 0, 5), 0.0);
        let cut = contest.window();
        contest.on_ack(&ack(49, 10, 0), 0.0);
        assert_eq!(contest.window(), cut, "a round trip of recovery");
        contest.on_ack(&AckSample { limited: true, ..ack(60, 10, 0) }, 0.0);
        assert_eq!(contest.window(), cut, "the source was slow");
        for milliseconds in 61..100 {
            contest.on_ack(&ack(milliseconds, 10, 0), 0.0);
        }
        assert!(contest.window() > cut);
    }

    #[test]
    fn a_queue_of_less_than_half_the_bound_ends_it() {
        let bound = 10 * MS;
        for (queue, is_over) in [(Some(5 * MS), false), (Some(4_999 * MS / 1_000), true)] {
            assert_eq!(contest().on_round(at(20), 20 * MS, queue, bound), is_over);
        }
        assert!(contest().on_round(at(20), 20 * MS, None, bound));
    }

    /// Rounds of 20 ms with a queue until one is slower than the rate; how many.
    fn rounds_to_look(contest: &mut Contest, from: u32) -> u32 {
        for round in 1..=200 {
            assert!(!contest.on_round(at(from + 20 * round), 20 * MS, Some(30 * MS), 10 * MS));
            if contest.pace(1_472, 20 * MS, 1e6) < 1e6 {
                return round;
            }
        }
        panic!("no look in 200 rounds");
    }

    #[test]
    fn it_looks_whose_the_queue_is_six_rounds_behind_a_cut_and_every_two_seconds() {
        let mut contest = contest();
        contest.on_round(at(20), 20 * MS, Some(30 * MS), 10 * MS);
        contest.on_ack(&ack(30, 0, 5), 0.0);
        assert_eq!(rounds_to_look(&mut contest, 30), 6);
        // A drain of 30 ms in 20 would be more than half the pace: half of it is held back.
        assert!((contest.pace(1_472, 20 * MS, 1e6) - 5e5).abs() < 1e-3);
        assert!(!contest.on_round(at(170), 20 * MS, Some(30 * MS), 10 * MS));
        assert_eq!(contest.pace(1_472, 20 * MS, 1e6), 1e6, "its packets arrive");
        // The queue has not shrunk: it is others', and the window counts again.
        assert!(!contest.on_round(at(190), 20 * MS, Some(30 * MS), 10 * MS));
        let window = contest.window() * 1_472.0 * 1.2 / 0.02;
        assert!((contest.pace(1_472, 20 * MS, 1e6) - window).abs() < 1e-3);
        assert_eq!(rounds_to_look(&mut contest, 190), 101, "two seconds behind the last look");
        // Now it shrinks by what was held back: it is ours, and nobody contests.
        assert!(!contest.on_round(at(2_230), 20 * MS, Some(30 * MS), 10 * MS));
        assert!(contest.on_round(at(2_250), 20 * MS, Some(20 * MS), 10 * MS));
    }

    #[test]
    fn the_least_round_trip_is_that_from_before_for_half_a_minute() {
        let mut contest = contest();
        let queue = |contest: &mut Contest, milliseconds: u32| {
            let sample = AckSample {
                rtt: Some(50 * MS),
                min_rtt: 45 * MS,
                ..sample(at(milliseconds), 50 * MS)
            };
            contest.on_ack(&sample, 0.0)
        };
        assert_eq!(queue(&mut contest, 30_000), Some(30 * MS));
        assert_eq!(queue(&mut contest, 30_001), Some(5 * MS));
    }
}
