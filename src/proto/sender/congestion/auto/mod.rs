//! The default controller: a model of the path (rate by the receiver's clock, minimum RTT), a
//! bound on queueing delay, and a test that tells random loss from congestion.
//!
//! Shape of the model after BBR (draft-ietf-ccwg-bbr): pace at the measured delivery rate, now
//! and then a little faster to see whether there is more. What is its own:
//! - **Loss** is no signal by itself ([`LossJudge`]): what does not depend on our pace is paced
//!   over.
//! - **A standing queue** is drained in about a round trip, and the rate is what arrived while
//!   it stood.
//! - **A queue that two drains do not empty** is another's (or the path got longer): from then on
//!   the window is CUBIC's, until a drain finds the queue empty ([`Contest`]).

mod contest;
mod cycle;
mod drain;
mod loss;
mod rates;

use std::time::Duration;

use self::contest::Contest;
use self::cycle::Cycle;
use self::drain::{Drain, Owner};
use self::loss::{LossJudge, Pace, TEST_GAIN, Verdict};
use self::rates::Rates;
use super::{AckSample, Controller};
use crate::proto::time::Time;

/// Start-up doubles the rate each round (2 / ln 2, BBR).
const STARTUP_GAIN: f64 = 2.885;

/// ... or, once the spacing of the first flight has told the rate, probes it with this.
const TRAIN_GAIN: f64 = 1.5;

/// Start-up ends when the rate grew by less than this in [`FULL_ROUNDS`] rounds (BBR).
const STARTUP_GROWTH: f64 = 1.25;

/// Rounds without growth that end start-up (BBR).
const FULL_ROUNDS: u32 = 3;

/// Of the rate that arrived while a queue stood, so much is kept: several senders that each took
/// all of theirs would keep the queue.
const KEEP: f64 = 0.97;

/// The rate is lowered by so many of the drains of one queue: what goes on is not our doing.
const RATE_DRAINS: u32 = 2;

/// A queue that stands so long, and through so many drains, is not ours ...
const STANDING_MIN: Duration = Duration::from_millis(200);
const DRAINS: u32 = 3;

/// ... if it is so many times longer than is tolerated: several like us may keep a short one.
const CONTESTED: f64 = 2.0;

/// Standing queue that is tolerated: half an RTT, but within these. A burst is half a millisecond
/// long, so that a shorter queue is none.
const QUEUE_MIN: Duration = Duration::from_millis(1);
const QUEUE_MAX: Duration = Duration::from_millis(5);

/// Rounds shorter than this are taken together: ACKs come every millisecond, a few packets each,
/// and show rather how hosts wake up than what the path does.
const ROUND_MIN: Duration = Duration::from_millis(4);

/// Datagrams a round trip that are paced at least, as BBR's least window of four packets: a rate
/// that a black hole has left behind could else not be told from the path's. Round trips shorter
/// than this count as so long, lest the least were much on a slow link that is near.
const LEAST_DATAGRAMS: f64 = 4.0;
const LEAST_ROUND_TRIP: Duration = Duration::from_millis(400);

/// Packets of the first flight: their spacing on arrival is the first rate sample.
const FIRST_WINDOW_PACKETS: u64 = 64;

/// The window covers what is no round trip: an ACK is held for up to 1 ms at the receiver, a burst
/// spans half of one, and hosts wake up late.
const SLACK: Duration = Duration::from_millis(2);

/// So long packets go on leaving at the pace while nothing is heard: some ACKs in a row may be
/// lost. Over 0.2 ms at 100 Mbit/s, with 2 % lost in runs of 8, this and the bound of the probe
/// timeout raised the goodput from 83 to 94 % of the limit. Not beside others, who would get less.
const UNHEARD_MAX: Duration = Duration::from_millis(20);

/// Where the drain of a standing queue is. What a round shows had left in the round before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Draining {
    /// None is running.
    No,
    /// Packets leave slowly.
    Slow(Drain),
    /// Packets leave at the rate; what left slowly is arriving.
    Look(Drain),
}

/// A queue that drains do not shrink.
#[derive(Clone, Copy, Debug)]
struct Standing {
    since: Time,
    drains: u32,
    /// Drains by which each owner was found.
    others: u32,
    path: u32,
}

/// See the module's description.
#[derive(Debug)]
pub struct Auto {
    rate_bytes_max: Option<u64>,
    rates: Rates,
    round: u64,
    startup: Option<Startup>,
    cycle: Cycle,
    draining: Draining,
    standing: Option<Standing>,
    /// Delay that is no queue: the path got longer while its least RTT was remembered. Holds as
    /// long as that least RTT.
    longer: Option<(Duration, Duration)>,
    contest: Option<Contest>,
    loss: LossJudge,
    /// Gains of the running round and of the one before: the latter's packets are arriving.
    gains: [f64; 2],
    min_rtt: Duration,
    smoothed_rtt: Duration,
    datagram_bytes: u64,
    /// Least queue delay seen in the running round: a standing queue, not a burst.
    round_queue_delay: Option<Duration>,
    /// When the running round began, and the counters then.
    round_start: Time,
    sent_before: u64,
    received_before: u64,
    /// This round's loss is not only the path's.
    spoiled: bool,
    /// ... and the round's before.
    spoiled_before: bool,
}

#[derive(Debug)]
struct Startup {
    rate_full: f64,
    rounds_without_growth: u32,
    /// Round in which the first flight's spacing gave a rate; it is used as it is for a round.
    train_round: Option<u64>,
}

impl Auto {
    /// A controller that knows only the handshake's RTT.
    pub fn new(rtt: Duration, rate_bytes_max: Option<u64>) -> Auto {
        Auto {
            rate_bytes_max,
            rates: Rates::default(),
            round: 0,
            startup: Some(Startup { rate_full: 0.0, rounds_without_growth: 0, train_round: None }),
            cycle: Cycle::new(),
            draining: Draining::No,
            standing: None,
            longer: None,
            contest: None,
            loss: LossJudge::default(),
            gains: [1.0; 2],
            min_rtt: rtt,
            smoothed_rtt: rtt,
            datagram_bytes: 1_472,
            round_queue_delay: None,
            round_start: Time::ZERO,
            sent_before: 0,
            received_before: 0,
            spoiled: false,
            spoiled_before: false,
        }
    }

    /// The model's rate: bytes per second that arrive.
    fn rate(&self) -> Option<f64> {
        self.rates.best().map(|rate| rate as f64)
    }

    /// What is paced at least, in bytes per second.
    fn least_rate(&self) -> f64 {
        let round_trip = self.base_rtt().max(LEAST_ROUND_TRIP);
        LEAST_DATAGRAMS * self.datagram_bytes as f64 / round_trip.as_secs_f64()
    }

    /// A delay without what is no queue.
    fn without_longer(&mut self, delay: Duration) -> Duration {
        self.longer = self.longer.filter(|&(min_rtt, _)| min_rtt == self.min_rtt);
        delay.saturating_sub(self.longer.map_or(Duration::ZERO, |(_, longer)| longer))
    }

    /// Least RTT of the path as it is now.
    fn base_rtt(&self) -> Duration {
        self.min_rtt + self.longer.map_or(Duration::ZERO, |(_, longer)| longer)
    }

    /// Standing queue that is tolerated.
    fn queue_bound(&self) -> Duration {
        (self.min_rtt / 2).clamp(QUEUE_MIN, QUEUE_MAX)
    }

    fn on_round(&mut self, sample: &AckSample) {
        self.round += 1;
        let queue = self.round_queue_delay.take();
        let stands = queue.is_some_and(|delay| delay > self.queue_bound());
        if self.startup.is_some() {
            self.on_startup_round(sample, stands);
        } else if self.contest.is_some() {
            self.on_contest_round(sample, queue);
        } else {
            self.on_drain_round(sample, queue, stands);
            self.judge_loss(sample, stands);
            self.on_cycle_round(sample);
        }
        self.rates.on_round();
        self.round_start = sample.now;
        self.gains = [self.gain(), self.gains[0]];
        self.sent_before = sample.sent_packets;
        self.received_before = sample.received_packets;
        // What was lost in a silence is found in the round behind it.
        self.spoiled_before = std::mem::take(&mut self.spoiled);
    }

    fn on_startup_round(&mut self, sample: &AckSample, stands: bool) {
        let rate = self.rate().unwrap_or(0.0);
        let round = self.round;
        let Some(startup) = &mut self.startup else { return };
        if startup.train_round.is_some_and(|train| round <= train + 2) {
            // Rates of rounds that were not yet probed faster show no growth.
            startup.rate_full = rate;
        } else if rate >= startup.rate_full * STARTUP_GROWTH {
            startup.rate_full = rate;
            startup.rounds_without_growth = 0;
        } else if !sample.limited {
            startup.rounds_without_growth += 1;
        }
        let enough = if startup.train_round.is_some() { 1 } else { FULL_ROUNDS };
        let full = startup.rounds_without_growth >= enough
            || (startup.rounds_without_growth > 0 && stands);
        if full {
            self.startup = None;
            self.cycle.drain();
            // The first flight may have passed a policer that no later one will.
            self.take_recent_rate(sample.now);
        }
    }

    /// Drains a queue that stands, and looks whether that helped.
    fn on_drain_round(&mut self, sample: &AckSample, queue: Option<Duration>, stands: bool) {
        let now = sample.now;
        let queue = queue.unwrap_or_default();
        match self.draining {
            Draining::No if !stands => self.standing = None,
            Draining::No => self.drain(now, queue),
            Draining::Slow(drain) => self.draining = Draining::Look(drain),
            Draining::Look(_) if !stands => {
                self.standing = None;
                self.draining = Draining::No;
                self.cycle.rest();
            }
            Draining::Look(drain) => {
                if queue > self.queue_bound().mul_f64(CONTESTED) {
                    self.count_owner(drain.owner(queue));
                }
                self.drain(now, queue);
                self.accept_standing(now, queue);
            }
        }
    }

    fn drain(&mut self, now: Time, queue: Duration) {
        let standing =
            self.standing.get_or_insert(Standing { since: now, drains: 0, others: 0, path: 0 });
        standing.drains += 1;
        if standing.drains <= RATE_DRAINS {
            self.take_recent_rate(now);
        }
        let target = self.queue_bound() / 2;
        self.draining = Draining::Slow(Drain::new(queue, target, self.smoothed_rtt.max(ROUND_MIN)));
    }

    fn count_owner(&mut self, owner: Owner) {
        let Some(standing) = &mut self.standing else { return };
        match owner {
            Owner::Us => self.standing = None,
            Owner::Others => standing.others += 1,
            Owner::Path => standing.path += 1,
        }
    }

    /// After enough drains: the queue is others', or it is none.
    fn accept_standing(&mut self, now: Time, queue: Duration) {
        let Some(standing) = self.standing else { return };
        if standing.others + standing.path < DRAINS
            || now.saturating_since(standing.since) < STANDING_MIN
        {
            return;
        }
        self.standing = None;
        self.draining = Draining::No;
        self.loss.reset();
        if standing.others == 0 {
            let longer = self.longer.map_or(Duration::ZERO, |(_, longer)| longer);
            self.longer = Some((self.min_rtt, longer + queue));
            return;
        }
        let rate = self.rate().unwrap_or(0.0) / (1.0 - self.loss.random());
        let packets = rate * self.smoothed_rtt.as_secs_f64() / self.datagram_bytes as f64;
        self.contest = Some(Contest::new(now, self.min_rtt, packets));
    }

    /// While a queue stands, what arrives is all there is for us.
    fn take_recent_rate(&mut self, now: Time) {
        if let Some(rate) = self.rates.recent() {
            self.rates.replace(now, (rate as f64 * KEEP) as u64);
        }
    }

    fn judge_loss(&mut self, sample: &AckSample, stands: bool) {
        if self.spoiled || self.spoiled_before || sample.limited {
            return;
        }
        // In a round of many round trips most of what arrives left in the same round.
        let is_long = sample.now.saturating_since(self.round_start) > sample.smoothed_rtt * 2;
        let gain = if is_long { self.gains[0] } else { self.gains[1] };
        let pace = if stands || gain > 1.02 {
            Pace::Other
        } else if gain < 0.9 {
            Pace::Slow
        } else {
            Pace::Full
        };
        let sent = sample.sent_packets.saturating_sub(self.sent_before);
        let received = sample.received_packets.saturating_sub(self.received_before);
        match self.loss.on_round(pace, sent, sent.saturating_sub(received)) {
            Verdict::Congestion(excess) => {
                let rate = self.rate().unwrap_or(0.0) * (1.0 - excess);
                self.rates.replace(sample.now, rate as u64);
                self.cycle.rest();
            }
            Verdict::Random => self.cycle.rest(),
            // What arrived once tells nothing while more than that gets lost.
            Verdict::Test => self.take_recent_rate(sample.now),
            Verdict::Nothing => {}
        }
        if gain > 1.02 {
            let loss = 1.0 - received as f64 / sent.max(1) as f64 - self.loss.random();
            self.cycle.on_probe(self.rates.best().unwrap_or(0), loss, stands);
        }
    }

    fn on_cycle_round(&mut self, sample: &AckSample) {
        if self.draining != Draining::No || self.loss.is_testing() || sample.limited {
            return;
        }
        self.cycle.on_round(self.rates.best().unwrap_or(0));
    }

    fn on_contest_round(&mut self, sample: &AckSample, queue: Option<Duration>) {
        let bound = self.queue_bound();
        let Some(contest) = &mut self.contest else { return };
        if contest.on_round(sample.now, self.smoothed_rtt, queue, bound) {
            self.contest = None;
            self.cycle.rest();
            self.take_recent_rate(sample.now);
        }
    }

    fn gain(&self) -> f64 {
        if let Some(startup) = &self.startup {
            return match startup.train_round {
                None => STARTUP_GAIN,
                Some(train) if self.round <= train + 1 => 1.0,
                Some(_) => TRAIN_GAIN,
            };
        }
        match self.draining {
            Draining::Slow(drain) => return drain.gain,
            Draining::Look(_) => return 1.0,
            Draining::No => {}
        }
        if self.loss.is_testing() {
            return TEST_GAIN;
        }
        self.cycle.gain()
    }

    fn bounded(&self, rate: f64) -> u64 {
        let rate = rate.clamp(1_000.0, 1e12) as u64;
        self.rate_bytes_max.map_or(rate, |most| rate.min(most))
    }
}

impl Controller for Auto {
    fn on_ack(&mut self, sample: &AckSample) {
        self.min_rtt = sample.min_rtt.max(Duration::from_micros(1));
        self.smoothed_rtt = sample.smoothed_rtt;
        self.datagram_bytes = sample.datagram_bytes;
        self.spoiled |= sample.receiver_dropped;
        let queue = match &mut self.contest {
            // The least RTT may be forgotten while others keep the queue full.
            Some(contest) => contest.on_ack(sample, self.loss.random()),
            None => sample.queue_delay.map(|delay| self.without_longer(delay)),
        };
        self.round_queue_delay = match (self.round_queue_delay, queue) {
            (Some(least), Some(delay)) => Some(least.min(delay)),
            (least, delay) => least.or(delay),
        };
        if let Some(rate) = sample.rate {
            self.rates.push(sample.now, self.min_rtt, rate, sample.limited);
            if sample.is_train
                && let Some(startup) = &mut self.startup
            {
                startup.train_round.get_or_insert(self.round);
            }
        }
        let long_enough = sample.now.saturating_since(self.round_start) >= ROUND_MIN;
        if sample.round_ended && (long_enough || self.startup.is_some()) {
            self.on_round(sample);
        }
    }

    fn on_probe_timeout(&mut self) {
        // What is lost while nothing comes back says nothing of the rate.
        self.spoiled = true;
        self.loss.reset();
    }

    fn window_bytes(&self) -> u64 {
        let first = FIRST_WINDOW_PACKETS * self.datagram_bytes;
        if let Some(contest) = &self.contest {
            return (contest.window() * self.datagram_bytes as f64) as u64;
        }
        let Some(rate) = self.rate() else { return first };
        let span = self.base_rtt() + SLACK;
        let gain = if self.startup.is_some() { STARTUP_GAIN } else { 2.0 };
        let bytes = rate / (1.0 - self.loss.random()) * span.as_secs_f64() * gain;
        (bytes as u64).max(first)
    }

    fn pacing_rate(&self) -> u64 {
        if let Some(contest) = &self.contest {
            let rtt = self.smoothed_rtt.max(Duration::from_micros(10));
            let rate = self.rates.recent().unwrap_or(0) as f64;
            return self.bounded(contest.pace(self.datagram_bytes, rtt, rate));
        }
        match self.rate() {
            Some(rate) => {
                let rate = (rate / (1.0 - self.loss.random())).max(self.least_rate());
                self.bounded(rate * self.gain())
            }
            // The first flight measures the path: it leaves at once.
            None => self.bounded(1e12),
        }
    }

    fn unheard_max(&self) -> Duration {
        match self.contest.is_some() || self.startup.is_some() {
            true => Duration::ZERO,
            false => UNHEARD_MAX,
        }
    }

    fn random_loss(&self) -> f64 {
        self.loss.random()
    }
}
