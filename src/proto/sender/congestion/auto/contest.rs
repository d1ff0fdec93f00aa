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
