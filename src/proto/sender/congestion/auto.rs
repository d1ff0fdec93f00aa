//! The default controller: a model of the path (rate by the receiver's clock, minimum RTT), a
//! bound on queueing delay, and a test that tells random loss from congestion.
//!
//! Shape of the model after BBR (draft-ietf-ccwg-bbr): pace at the measured delivery rate, now
//! and then a little faster to see whether there is more. Loss is no signal by itself: when it
//! rises, the controller slows down for a round. If less arrives in proportion, the loss is the
//! path's own and is paced over; if as much arrives as before, the loss was congestion.

use std::collections::VecDeque;
use std::time::Duration;

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

/// Pacing gains of the rounds of a cycle: probe, drain what the probe queued, cruise.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];

/// Span of the rate's maximum filter, in rounds: a little more than a cycle.
const RATE_ROUNDS: u64 = 10;

/// ... and in time, where rounds are much shorter than what the hosts' scheduling disturbs.
const RATE_SPAN_MIN: Duration = Duration::from_millis(50);

/// Loss above the known random loss that starts a test (2 %, as BBRv3's threshold).
const LOSS_TOLERATED: f64 = 0.02;

/// Rate of a test round, relative to what it was before.
const TEST_GAIN: f64 = 0.85;

/// Packets that a loss judgement needs at least.
const JUDGE_PACKETS: u64 = 256;

/// Random loss is not believed above this.
const RANDOM_LOSS_MAX: f64 = 0.6;

/// Random loss is forgotten after this and measured anew.
const RANDOM_LOSS_LIFETIME: Duration = Duration::from_secs(10);

/// Packets of the first flight: their spacing on arrival is the first rate sample.
const FIRST_WINDOW_PACKETS: u64 = 64;

/// Receivers may hold an ACK so long, hosts may be late so long; the window covers it.
const SLACK: Duration = Duration::from_micros(500);

/// The state of the loss test.
#[derive(Debug, PartialEq)]
enum LossTest {
    /// None is running.
    Idle,
    /// Slowed down; packets that left before still arrive. Holds the delivery rate before.
    Settling { rate_before: f64 },
    /// What arrives now left at the slower pace.
    Measuring { rate_before: f64, packets_sent: u64, packets_received: u64, started: Time },
}

/// See the module's description.
#[derive(Debug)]
pub struct Auto {
    rate_bytes_max: Option<u64>,
    /// Rate samples (round, time, bytes per second), descending: the front is the maximum.
    rates: VecDeque<(u64, Time, u64)>,
    latest_rate: u64,
    round: u64,
    startup: Option<Startup>,
    cycle: usize,
    min_rtt: Duration,
    datagram_bytes: u64,
    /// Least queue delay seen in the running round: a standing queue, not a burst.
    round_queue_delay: Duration,
    /// The queue of the last round exceeded the bound.
    queue_too_long: bool,
    loss_window: Judgement,
    random_loss: f64,
    random_loss_learned: Time,
    test: LossTest,
}

#[derive(Debug)]
struct Startup {
    rate_full: f64,
    rounds_without_growth: u32,
    /// Round in which the first flight's spacing gave a rate; it is used as it is for a round.
    train_round: Option<u64>,
}

/// Packets sent and received since a judgement of loss began.
#[derive(Debug, Default)]
struct Judgement {
    sent_before: u64,
    received_before: u64,
    spoiled: bool,
}

impl Auto {
    /// A controller that knows only the handshake's RTT.
    pub fn new(now: Time, rtt: Duration, rate_bytes_max: Option<u64>) -> Auto {
        Auto {
            rate_bytes_max,
            rates: VecDeque::new(),
            latest_rate: 0,
            round: 0,
            startup: Some(Startup { rate_full: 0.0, rounds_without_growth: 0, train_round: None }),
            cycle: 2,
            min_rtt: rtt,
            datagram_bytes: 1_472,
            round_queue_delay: Duration::MAX,
            queue_too_long: false,
            loss_window: Judgement::default(),
            random_loss: 0.0,
            random_loss_learned: now,
            test: LossTest::Idle,
        }
    }

    /// The model's rate: bytes per second that arrive.
    fn rate(&self) -> Option<f64> {
        self.rates.front().map(|&(_, _, rate)| rate as f64)
    }

    fn take_rate(&mut self, sample: &AckSample, rate: u64) {
        self.latest_rate = rate;
        let best = self.rates.front().map_or(0, |&(_, _, best)| best);
        if sample.limited && rate <= best {
            return;
        }
        let span = (self.min_rtt * RATE_ROUNDS as u32).max(RATE_SPAN_MIN);
        while let Some(&(round, time, _)) = self.rates.front() {
            let old = round + RATE_ROUNDS < self.round
                && sample.now.saturating_since(time) > span
                && self.rates.len() > 1;
            if !old {
                break;
            }
            self.rates.pop_front();
        }
        while self.rates.back().is_some_and(|&(_, _, other)| other <= rate) {
            self.rates.pop_back();
        }
        self.rates.push_back((self.round, sample.now, rate));
    }

    /// Standing queue that is tolerated: clamp(RTT / 2, 0.5 ms, 5 ms).
    fn queue_bound(&self) -> Duration {
        (self.min_rtt / 2).clamp(Duration::from_micros(500), Duration::from_millis(5))
    }

    fn on_round(&mut self, sample: &AckSample) {
        self.round += 1;
        let bound = self.queue_bound();
        let limit = if self.queue_too_long { bound / 2 } else { bound };
        self.queue_too_long =
            self.round_queue_delay != Duration::MAX && self.round_queue_delay > limit;
        self.round_queue_delay = Duration::MAX;
        self.cycle = (self.cycle + 1) % CYCLE.len();
        let rate = self.rate().unwrap_or(0.0);
        let queue_too_long = self.queue_too_long;
        let round = self.round;
        if let Some(startup) = &mut self.startup {
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
                || (startup.rounds_without_growth > 0 && queue_too_long);
            if full {
                self.startup = None;
                self.cycle = 1;
            }
        }
    }

    /// Judges loss once enough packets have been seen.
    fn judge_loss(&mut self, sample: &AckSample) {
        self.loss_window.spoiled |= sample.receiver_dropped;
        let sent = sample.sent_packets.saturating_sub(self.loss_window.sent_before);
        if sent < JUDGE_PACKETS || !sample.round_ended {
            return;
        }
        let received = sample.received_packets.saturating_sub(self.loss_window.received_before);
        let spoiled = self.loss_window.spoiled || sample.limited;
        self.loss_window = Judgement {
            sent_before: sample.sent_packets,
            received_before: sample.received_packets,
            spoiled: false,
        };
        if spoiled || self.startup.is_some() {
            return;
        }
        let loss = 1.0 - (received as f64 / sent as f64).min(1.0);
        let lifetime_over =
            sample.now.saturating_since(self.random_loss_learned) > RANDOM_LOSS_LIFETIME;
        if self.test != LossTest::Idle {
            self.advance_test(sample, loss);
        } else if loss > self.random_loss + LOSS_TOLERATED
            || (lifetime_over && self.random_loss > 0.0)
        {
            self.test = LossTest::Settling { rate_before: self.rate().unwrap_or(0.0) };
        }
    }

    /// One judgement period of a running test has passed, with this share of loss.
    fn advance_test(&mut self, sample: &AckSample, loss: f64) {
        self.test = match self.test {
            LossTest::Idle => LossTest::Idle,
            LossTest::Settling { rate_before } => LossTest::Measuring {
                rate_before,
                packets_sent: sample.sent_packets,
                packets_received: sample.received_packets,
                started: sample.now,
            },
            LossTest::Measuring { rate_before, .. } => {
                let ratio = self.latest_rate as f64 / rate_before.max(1.0);
                if ratio < TEST_GAIN + 0.05 {
                    // Less arrived in proportion: the loss does not depend on our rate.
                    self.random_loss = loss.min(RANDOM_LOSS_MAX);
                    self.random_loss_learned = sample.now;
                } else {
                    // As much arrived as before: what was sent above it was dropped by a queue.
                    self.random_loss = self.random_loss.min(loss);
                    self.rates.clear();
                    self.rates.push_back((self.round, sample.now, self.latest_rate));
                }
                self.cycle = 2;
                LossTest::Idle
            }
        };
    }

    fn gain(&self) -> f64 {
        if let Some(startup) = &self.startup {
            return match startup.train_round {
                None => STARTUP_GAIN,
                Some(train) if self.round <= train + 1 => 1.0,
                Some(_) => TRAIN_GAIN,
            };
        }
        if self.test != LossTest::Idle {
            return TEST_GAIN;
        }
        if self.queue_too_long {
            return 0.85;
        }
        CYCLE.get(self.cycle).copied().unwrap_or(1.0)
    }

    fn bounded(&self, rate: f64) -> u64 {
        let rate = rate.clamp(1_000.0, 1e12) as u64;
        self.rate_bytes_max.map_or(rate, |most| rate.min(most))
    }
}

impl Controller for Auto {
    fn on_ack(&mut self, sample: &AckSample) {
        self.min_rtt = sample.min_rtt.max(Duration::from_micros(1));
        self.datagram_bytes = sample.datagram_bytes;
        self.round_queue_delay = self.round_queue_delay.min(sample.queue_delay);
        if let Some(rate) = sample.rate {
            self.take_rate(sample, rate);
            if sample.is_train
                && let Some(startup) = &mut self.startup
            {
                startup.train_round.get_or_insert(self.round);
            }
        }
        if sample.round_ended {
            self.on_round(sample);
        }
        self.judge_loss(sample);
    }

    fn on_probe_timeout(&mut self) {}

    fn window_bytes(&self) -> u64 {
        let first = FIRST_WINDOW_PACKETS * self.datagram_bytes;
        let Some(rate) = self.rate() else { return first };
        let span = self.min_rtt + SLACK;
        let gain = if self.startup.is_some() { STARTUP_GAIN } else { 2.0 };
        let bytes = rate / (1.0 - self.random_loss) * span.as_secs_f64() * gain;
        (bytes as u64).max(first)
    }

    fn pacing_rate(&self) -> u64 {
        match self.rate() {
            Some(rate) => self.bounded(rate / (1.0 - self.random_loss) * self.gain()),
            // The first flight measures the path: it leaves at once.
            None => self.bounded(1e12),
        }
    }

    fn random_loss(&self) -> f64 {
        self.random_loss
    }
}
