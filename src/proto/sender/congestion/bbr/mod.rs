//! BBR version 3 (draft-ietf-ccwg-bbr): a model of the path's rate and RTT, bounded by loss. The
//! model is here; `cycle` has the states.
//!
//! As written there; names are the draft's, without its `BBR.` (`inflight_hi` and `_lo` are its
//! `inflight_longterm` and `_shortterm`). What differs, because packets are acknowledged and lost
//! by the batch and sent from user space:
//! - a rate sample covers an ACK, by the receiver's clock; loss is looked at once an ACK, with the
//!   newest lost packet standing for all of them;
//! - lost packets stand for lost ranges in start-up's loss test;
//! - there is no ECN, no restart from idle, and no send quantum: the pacer has its own.

mod cycle;

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{AckSample, Controller};
use crate::proto::time::Time;

// Gains and bounds of the draft's sections "State Transition Diagram" and "Design Parameters".
const STARTUP_PACING_GAIN: f64 = 2.77;
const DRAIN_PACING_GAIN: f64 = 0.5;
const DOWN_PACING_GAIN: f64 = 0.9;
const UP_PACING_GAIN: f64 = 1.25;
const CWND_GAIN: f64 = 2.0;
const UP_CWND_GAIN: f64 = 2.25;
const PROBE_RTT_CWND_GAIN: f64 = 0.5;
const PACING_MARGIN: f64 = 0.01;
const LOSS_THRESHOLD: f64 = 0.02;
const BETA: f64 = 0.7;
const HEADROOM: f64 = 0.15;
const MIN_PIPE_PACKETS: f64 = 4.0;
const FULL_BW_GROWTH: f64 = 1.25;
const FULL_BW_ROUNDS: u32 = 3;
const STARTUP_FULL_LOSSES: u64 = 6;
const EXTRA_ACKED_ROUNDS: u32 = 10;
const RENO_ROUNDS_MAX: f64 = 63.0;
const MIN_RTT_FILTER: Duration = Duration::from_secs(10);
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);

/// First window (RFC 6928).
const FIRST_WINDOW_PACKETS: f64 = 10.0;

/// The draft's states, those of `ProbeBW` beside the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

/// Which part of a probe the ACKs that come now are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckPhase {
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// See the module's description. Rates are in bytes per second, amounts in bytes.
#[derive(Debug)]
pub struct Bbr {
    random: StdRng,
    state: State,
    cwnd: f64,
    prior_cwnd: f64,
    pacing_rate: f64,
    packet: f64,

    /// The highest rate of this cycle and of the one before.
    max_bw: [f64; 2],
    bw_lo: f64,
    bw_latest: f64,
    inflight_hi: f64,
    inflight_lo: f64,
    inflight_latest: f64,
    loss_in_round: bool,
    round_losses: u64,
    round_lost_bytes: f64,
    /// Loss has gone on for so many rounds.
    loss_rounds: u32,

    /// Rounds that the draft starts at a change of state: they end a round trip later.
    round_from: Time,
    full_bw: f64,
    full_bw_rounds: u32,
    full_bw_now: bool,
    full_bw_reached: bool,

    ack_phase: AckPhase,
    bw_probe_samples: bool,
    probe_up_rounds: u32,
    probe_up_acked: f64,
    /// Bytes to be acknowledged for each packet more.
    probe_up_bytes: f64,
    rounds_since_probe: u32,
    probe_wait: Duration,
    cycle_stamp: Time,

    min_rtt: Duration,
    min_rtt_stamp: Time,
    probe_rtt_min: Duration,
    probe_rtt_min_stamp: Time,
    probe_rtt_done: Option<Time>,
    probe_rtt_round_done: bool,

    /// Largest surplus of acknowledged bytes, in this filter window and the last.
    extra_acked: [f64; 2],
    extra_acked_rounds: u32,
    extra_acked_from: Time,
    extra_acked_bytes: f64,
}

impl Bbr {
    /// A controller that knows only the handshake's RTT.
    pub fn new(now: Time, rtt: Duration, seed: u64) -> Bbr {
        let packet = 1_472.0;
        let cwnd = FIRST_WINDOW_PACKETS * packet;
        let known = if rtt.is_zero() { Duration::from_millis(1) } else { rtt };
        Bbr {
            random: StdRng::seed_from_u64(seed),
            state: State::Startup,
            cwnd,
            prior_cwnd: 0.0,
            pacing_rate: STARTUP_PACING_GAIN * cwnd / known.as_secs_f64(),
            packet,
            max_bw: [0.0; 2],
            bw_lo: f64::INFINITY,
            bw_latest: 0.0,
            inflight_hi: f64::INFINITY,
            inflight_lo: f64::INFINITY,
            inflight_latest: 0.0,
            loss_in_round: false,
            round_losses: 0,
            round_lost_bytes: 0.0,
            loss_rounds: 0,
            round_from: now,
            full_bw: 0.0,
            full_bw_rounds: 0,
            full_bw_now: false,
            full_bw_reached: false,
            ack_phase: AckPhase::Init,
            bw_probe_samples: false,
            probe_up_rounds: 0,
            probe_up_acked: 0.0,
            probe_up_bytes: f64::INFINITY,
            rounds_since_probe: 0,
            probe_wait: Duration::ZERO,
            cycle_stamp: now,
            min_rtt: rtt,
            min_rtt_stamp: now,
            probe_rtt_min: rtt,
            probe_rtt_min_stamp: now,
            probe_rtt_done: None,
            probe_rtt_round_done: false,
            extra_acked: [0.0; 2],
            extra_acked_rounds: 0,
            extra_acked_from: now,
            extra_acked_bytes: 0.0,
        }
    }

    fn max_bw(&self) -> f64 {
        self.max_bw[0].max(self.max_bw[1])
    }

    fn bw(&self) -> f64 {
        self.max_bw().min(self.bw_lo)
    }

    /// `BBRInflight`, with the quantization budget.
    fn inflight(&self, bw: f64, gain: f64) -> f64 {
        if bw == 0.0 {
            return FIRST_WINDOW_PACKETS * self.packet;
        }
        self.quantized(bw * self.min_rtt.as_secs_f64() * gain)
    }

    /// `BBRQuantizationBudget`: room for what is sent and acknowledged by the batch, which is more
    /// than the least window.
    fn quantized(&self, inflight: f64) -> f64 {
        let budget = 3.0 * (self.pacing_rate / 1_000.0).clamp(2.0 * self.packet, 65_536.0);
        let probing = if self.state == State::Up { 2.0 * self.packet } else { 0.0 };
        inflight.max(budget) + probing
    }

    fn inflight_with_headroom(&self) -> f64 {
        if self.inflight_hi.is_infinite() {
            return f64::INFINITY;
        }
        let headroom = (HEADROOM * self.inflight_hi).max(self.packet);
        (self.inflight_hi - headroom).max(MIN_PIPE_PACKETS * self.packet)
    }

    /// `BBRTargetInflight`.
    fn target_inflight(&self) -> f64 {
        self.inflight(self.bw(), 1.0).min(self.cwnd)
    }

    fn is_probing_bw(&self) -> bool {
        matches!(self.state, State::Startup | State::Refill | State::Up)
    }

    fn is_in_cycle(&self) -> bool {
        matches!(self.state, State::Down | State::Cruise | State::Refill | State::Up)
    }

    // ---- the model ----

    /// `BBRUpdateMaxBw`, `BBRUpdateCongestionSignals`, `BBRAdaptLowerBoundsFromCongestion`.
    fn update_rate(&mut self, sample: &AckSample, rate: f64, limited: bool) {
        self.bw_latest = self.bw_latest.max(rate);
        self.inflight_latest = self.inflight_latest.max(sample.delivered_bytes as f64);
        if rate > 0.0 && (rate >= self.max_bw() || !limited) {
            self.max_bw[1] = self.max_bw[1].max(rate);
        }
        if sample.loss.packets > 0 {
            self.loss_in_round = true;
            self.round_losses += sample.loss.packets;
            self.round_lost_bytes += sample.loss.bytes as f64;
        }
    }

    fn adapt_lower_bounds(&mut self) {
        if self.is_probing_bw() || !self.loss_in_round {
            return;
        }
        if self.bw_lo.is_infinite() {
            self.bw_lo = self.max_bw();
        }
        if self.inflight_lo.is_infinite() {
            self.inflight_lo = self.cwnd;
        }
        self.bw_lo = self.bw_latest.max(BETA * self.bw_lo);
        self.inflight_lo = self.inflight_latest.max(BETA * self.inflight_lo);
    }

    fn reset_lower_bounds(&mut self) {
        self.bw_lo = f64::INFINITY;
        self.inflight_lo = f64::INFINITY;
    }

    /// A new loss round: what was seen in the last one is forgotten.
    fn end_loss_round(&mut self, sample: &AckSample, rate: f64) {
        self.loss_rounds = if self.loss_in_round { self.loss_rounds + 1 } else { 0 };
        self.loss_in_round = false;
        self.round_losses = 0;
        self.round_lost_bytes = 0.0;
        self.bw_latest = rate;
        self.inflight_latest = sample.delivered_bytes as f64;
    }

    /// `BBRUpdateACKAggregation`.
    fn update_aggregation(&mut self, sample: &AckSample, round_start: bool) {
        let span = sample.now.saturating_since(self.extra_acked_from).as_secs_f64();
        let mut expected = self.bw() * span;
        if self.extra_acked_bytes <= expected {
            self.extra_acked_bytes = 0.0;
            self.extra_acked_from = sample.now;
            expected = 0.0;
        }
        self.extra_acked_bytes += sample.acked_bytes as f64;
        let extra = (self.extra_acked_bytes - expected).min(self.cwnd);
        self.extra_acked[1] = self.extra_acked[1].max(extra);
        if round_start {
            self.extra_acked_rounds += 1;
            // Before the pipe is full, the window of the filter is one round.
            let most = if self.full_bw_reached { EXTRA_ACKED_ROUNDS } else { 1 };
            if self.extra_acked_rounds >= most {
                self.extra_acked_rounds = 0;
                self.extra_acked = [self.extra_acked[1], 0.0];
            }
        }
    }

    /// `BBRCheckFullBWReached`.
    fn check_full_bw(&mut self, rate: f64, limited: bool, round_start: bool) {
        if self.full_bw_now || limited {
            return;
        }
        if rate >= self.full_bw * FULL_BW_GROWTH {
            self.reset_full_bw(rate);
            return;
        }
        if !round_start {
            return;
        }
        self.full_bw_rounds += 1;
        self.full_bw_now = self.full_bw_rounds >= FULL_BW_ROUNDS;
        self.full_bw_reached |= self.full_bw_now;
    }

    fn reset_full_bw(&mut self, rate: f64) {
        self.full_bw = rate;
        self.full_bw_rounds = 0;
        self.full_bw_now = false;
    }

    /// `BBRCheckStartupHighLoss`, at the end of a loss round.
    fn check_startup_loss(&mut self, delivered: f64) {
        let high = self.round_lost_bytes > LOSS_THRESHOLD * (delivered + self.round_lost_bytes);
        if self.state == State::Startup
            && self.loss_rounds > 0
            && self.round_losses >= STARTUP_FULL_LOSSES
            && high
        {
            self.full_bw_reached = true;
            self.inflight_hi = self.inflight(self.max_bw(), 1.0).max(self.inflight_latest);
        }
    }

    // ---- what comes of it ----

    fn pacing_gain(&self) -> f64 {
        match self.state {
            State::Startup => STARTUP_PACING_GAIN,
            State::Drain => DRAIN_PACING_GAIN,
            State::Down => DOWN_PACING_GAIN,
            State::Up => UP_PACING_GAIN,
            State::Cruise | State::Refill | State::ProbeRtt => 1.0,
        }
    }

    fn cwnd_gain(&self) -> f64 {
        match self.state {
            State::Up => UP_CWND_GAIN,
            State::ProbeRtt => PROBE_RTT_CWND_GAIN,
            _ => CWND_GAIN,
        }
    }

    fn set_pacing_rate(&mut self) {
        let rate = self.pacing_gain() * self.bw() * (1.0 - PACING_MARGIN);
        if rate > 0.0 && (self.full_bw_reached || rate > self.pacing_rate) {
            self.pacing_rate = rate;
        }
    }

    /// `BBRSetCwnd` and `BBRBoundCwndForModel`.
    fn set_cwnd(&mut self, sample: &AckSample) {
        let extra = self.extra_acked[0].max(self.extra_acked[1]);
        let bdp = self.bw() * self.min_rtt.as_secs_f64();
        let max_inflight = self.quantized(bdp * self.cwnd_gain() + extra);
        let acked = sample.acked_bytes as f64;
        let first = FIRST_WINDOW_PACKETS * self.packet;
        if self.full_bw_reached {
            self.cwnd = (self.cwnd + acked).min(max_inflight);
        } else if self.cwnd < max_inflight || self.cwnd < 2.0 * first {
            self.cwnd += acked;
        }
        let least = MIN_PIPE_PACKETS * self.packet;
        self.cwnd = self.cwnd.max(least);
        if self.state == State::ProbeRtt {
            self.cwnd = self.cwnd.min(self.probe_rtt_cwnd());
        }
        let cap = match self.state {
            State::Down | State::Refill | State::Up => self.inflight_hi,
            State::Cruise | State::ProbeRtt => self.inflight_with_headroom(),
            State::Startup | State::Drain => f64::INFINITY,
        };
        self.cwnd = self.cwnd.min(cap.min(self.inflight_lo).max(least));
    }
}

impl Controller for Bbr {
    fn on_ack(&mut self, sample: &AckSample) {
        self.packet = sample.datagram_bytes as f64;
        // ProbeRTT holds the sender back: its rates count as limited (`MarkConnectionAppLimited`).
        let limited = sample.limited || sample.rate.is_none() || self.state == State::ProbeRtt;
        let rate = sample.rate.unwrap_or(0) as f64;
        // A round counts if what it is about left after the last start of a round.
        let sent_at = sample.rtt.map_or(sample.now, |rtt| {
            Time::from_nanos(sample.now.as_nanos().saturating_sub(rtt.as_nanos() as u64))
        });
        let round_start = sample.rtt.is_some() && sent_at >= self.round_from;
        if round_start {
            self.round_from = sample.now;
            self.rounds_since_probe += 1;
        }
        self.update_rate(sample, rate, limited);
        self.on_loss(sample, limited);
        if round_start {
            self.check_startup_loss(sample.delivered_bytes as f64);
            self.adapt_lower_bounds();
        }
        self.update_aggregation(sample, round_start);
        self.check_full_bw(rate, limited, round_start);
        if self.state == State::Startup && self.full_bw_reached {
            self.enter(sample.now, State::Drain);
        }
        let drained = self.inflight(self.max_bw(), 1.0);
        if self.state == State::Drain && sample.in_flight_bytes as f64 <= drained {
            self.enter(sample.now, State::Down);
        }
        self.update_cycle(sample, limited, round_start);
        self.update_min_rtt(sample, round_start);
        if round_start {
            self.end_loss_round(sample, rate);
        }
        self.set_pacing_rate();
        self.set_cwnd(sample);
    }

    fn on_probe_timeout(&mut self) {}

    fn window_bytes(&self) -> u64 {
        self.cwnd as u64
    }

    fn pacing_rate(&self) -> u64 {
        self.pacing_rate as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;

    const RTT: Duration = Duration::from_millis(20);

    /// A path of 10 MB/s without a bound on its queue: one round trip in eight ACKs. Returns the
    /// states gone through, each once in a row.
    fn run(bbr: &mut Bbr, now: &mut Time, span: Duration, loss: f64) -> Vec<State> {
        let rate = 10_000_000.0;
        let until = *now + span;
        let mut states = vec![bbr.state];
        while *now < until {
            *now += RTT / 8;
            let bdp = rate * RTT.as_secs_f64();
            let paced = bbr.pacing_rate * RTT.as_secs_f64();
            let in_flight = bbr.cwnd.min(paced.max(bdp)).min(1.3 * bdp);
            let delivered = in_flight.min(bdp) * (1.0 - loss);
            let lost = (in_flight * loss) as u64;
            let mut it = sample(*now, RTT);
            it.rate = Some((delivered / RTT.as_secs_f64()) as u64);
            it.delivered_bytes = delivered as u64;
            it.acked_bytes = (delivered / 8.0) as u64;
            it.in_flight_bytes = (in_flight * 0.9) as u64;
            it.sent_in_flight_bytes = in_flight as u64;
            it.flight_lost_bytes = lost;
            if lost > 0 {
                it.loss.packets = lost / 8 / 1_472 + 1;
                it.loss.bytes = lost / 8;
                it.loss.sent_in_flight_bytes = in_flight as u64;
                it.loss.flight_lost_bytes = lost;
            }
            bbr.on_ack(&it);
            if states.last() != Some(&bbr.state) {
                states.push(bbr.state);
            }
        }
        states
    }

    #[test]
    fn the_cycle_is_down_cruise_refill_up_with_the_gains_of_the_draft() {
        use State::{Cruise, Down, Drain, Refill, Startup, Up};
        let mut now = Time::ZERO;
        let mut bbr = Bbr::new(now, RTT, 1);
        let states = run(&mut bbr, &mut now, Duration::from_secs(4), 0.0);
        // After Drain the queue is gone: the first Down is over at once.
        let expected = [Startup, Drain, Cruise, Refill, Up, Down, Cruise];
        assert_eq!(states.get(..expected.len()), Some(&expected[..]));
        let gains: Vec<f64> = expected
            .iter()
            .map(|&state| {
                bbr.state = state;
                bbr.pacing_gain()
            })
            .collect();
        assert_eq!(gains, [2.77, 0.5, 1.0, 1.0, 1.25, 0.9, 1.0]);
    }

    #[test]
    fn the_rtt_is_probed_every_five_seconds_with_half_a_window() {
        let mut now = Time::ZERO;
        let mut bbr = Bbr::new(now, RTT, 1);
        let states = run(&mut bbr, &mut now, Duration::from_millis(4_900), 0.0);
        assert!(!states.contains(&State::ProbeRtt), "{states:?}");
        run(&mut bbr, &mut now, Duration::from_millis(200), 0.0);
        assert_eq!(bbr.state, State::ProbeRtt);
        assert!(bbr.cwnd <= 0.5 * 10_000_000.0 * 0.020 * 1.01, "{}", bbr.cwnd);
        run(&mut bbr, &mut now, Duration::from_millis(300), 0.0);
        assert_eq!(bbr.state, State::Cruise);
        assert!(bbr.cwnd > 10_000_000.0 * 0.020, "the window is restored: {}", bbr.cwnd);
    }

    #[test]
    fn loss_beyond_two_percent_ends_a_probe_and_bounds_what_is_in_flight() {
        let mut now = Time::ZERO;
        let mut bbr = Bbr::new(now, RTT, 1);
        run(&mut bbr, &mut now, Duration::from_secs(1), 0.0);
        assert!(bbr.inflight_hi.is_infinite());
        while bbr.state != State::Up {
            run(&mut bbr, &mut now, RTT / 8, 0.0);
        }
        run(&mut bbr, &mut now, RTT, 0.01);
        assert_eq!(bbr.state, State::Up, "1 % is tolerated");
        run(&mut bbr, &mut now, RTT / 4, 0.05);
        assert!(matches!(bbr.state, State::Down | State::Cruise), "{:?}", bbr.state);
        assert!(bbr.inflight_hi.is_finite());
    }

    /// In the middle of a cycle, with packets of 1,000 bytes and 1 MB/s over 100 ms.
    fn settled() -> Bbr {
        let mut bbr = Bbr::new(Time::ZERO, Duration::from_millis(100), 1);
        bbr.packet = 1_000.0;
        bbr.max_bw = [800_000.0, 1_000_000.0];
        bbr.pacing_rate = 1_000_000.0;
        bbr.full_bw_reached = true;
        bbr.cwnd = 200_000.0;
        bbr.state = State::Cruise;
        bbr
    }

    #[test]
    fn what_may_be_in_flight_is_the_product_of_rate_and_rtt_with_room_for_batches() {
        let mut bbr = settled();
        assert_eq!(bbr.inflight(bbr.bw(), 1.0), 100_000.0);
        assert_eq!(bbr.inflight(bbr.bw(), 2.0), 200_000.0);
        assert_eq!(bbr.inflight(0.0, 2.0), 10_000.0, "nothing is known: the first window");
        // Three sends of 1 ms at this rate, at least two packets each.
        assert_eq!(bbr.quantized(0.0), 6_000.0);
        bbr.pacing_rate = 5_000_000.0;
        assert_eq!(bbr.quantized(0.0), 15_000.0);
        bbr.state = State::Up;
        assert_eq!(bbr.quantized(0.0), 17_000.0, "two packets more to probe with");
    }

    #[test]
    fn headroom_is_fifteen_percent_and_at_least_a_packet_but_leaves_four() {
        let mut bbr = settled();
        assert!(bbr.inflight_with_headroom().is_infinite());
        for (bound, left) in [(100_000.0, 85_000.0), (6_000.0, 5_000.0), (4_500.0, 4_000.0)] {
            bbr.inflight_hi = bound;
            assert_eq!(bbr.inflight_with_headroom(), left);
        }
    }

    #[test]
    fn the_pipe_is_full_after_three_rounds_without_a_quarter_more() {
        let mut bbr = Bbr::new(Time::ZERO, RTT, 1);
        bbr.check_full_bw(1_000.0, false, true);
        bbr.check_full_bw(1_249.0, false, true);
        bbr.check_full_bw(1_249.0, false, true);
        bbr.check_full_bw(1_250.0, false, true);
        assert_eq!((bbr.full_bw, bbr.full_bw_rounds), (1_250.0, 0), "it grew after all");
        bbr.check_full_bw(1_250.0, true, true);
        bbr.check_full_bw(1_250.0, false, false);
        assert_eq!(bbr.full_bw_rounds, 0, "a limited sample and half a round tell nothing");
        (0..2).for_each(|_| bbr.check_full_bw(1_250.0, false, true));
        assert!(!bbr.full_bw_reached);
        bbr.check_full_bw(1_250.0, false, true);
        assert!(bbr.full_bw_reached);
    }

    #[test]
    fn six_losses_of_more_than_two_percent_end_start_up() {
        for (packets, bytes, ends) in [(6, 2_100.0, true), (5, 2_100.0, false), (6, 2_000.0, false)]
        {
            let mut bbr = settled();
            bbr.state = State::Startup;
            bbr.full_bw_reached = false;
            bbr.loss_rounds = 1;
            bbr.round_losses = packets;
            bbr.round_lost_bytes = bytes;
            bbr.check_startup_loss(98_000.0);
            assert_eq!(bbr.full_bw_reached, ends, "{packets} packets, {bytes} bytes");
            assert_eq!(bbr.inflight_hi, if ends { 100_000.0 } else { f64::INFINITY });
        }
    }

    #[test]
    fn a_round_with_loss_lowers_the_bounds_by_three_tenths_or_to_what_was_delivered() {
        let mut bbr = settled();
        bbr.adapt_lower_bounds();
        assert!(bbr.bw_lo.is_infinite(), "nothing was lost");
        bbr.loss_in_round = true;
        bbr.adapt_lower_bounds();
        assert_eq!((bbr.bw_lo, bbr.inflight_lo), (700_000.0, 140_000.0));
        (bbr.bw_latest, bbr.inflight_latest) = (600_000.0, 120_000.0);
        bbr.adapt_lower_bounds();
        assert_eq!((bbr.bw_lo, bbr.inflight_lo), (600_000.0, 120_000.0));
        bbr.state = State::Up;
        bbr.bw_latest = 0.0;
        bbr.adapt_lower_bounds();
        assert_eq!(bbr.bw_lo, 600_000.0, "probing bears its loss");
    }

    #[test]
    fn a_probe_that_loses_too_much_is_bound_to_what_was_in_flight_when_it_did() {
        let mut bbr = settled();
        bbr.state = State::Up;
        bbr.bw_probe_samples = true;
        let mut it = sample(Time::ZERO, Duration::from_millis(100));
        it.loss.packets = 4;
        it.loss.bytes = 4_000;
        it.loss.sent_in_flight_bytes = 200_000;
        it.loss.flight_lost_bytes = 4_000;
        bbr.on_loss(&it, false);
        assert!(bbr.state == State::Up && bbr.inflight_hi.is_infinite(), "2 % is tolerated");
        it.loss.flight_lost_bytes = 5_000;
        bbr.on_loss(&it, false);
        // 196,000 bytes before this loss, 1,000 of them lost: 2 % is exceeded by
        // (0.02 * 196,000 - 1,000) / 0.98 bytes more.
        assert!((bbr.inflight_hi - (196_000.0 + 2_920.0 / 0.98)).abs() < 1e-6);
        assert_eq!((bbr.state, bbr.bw_probe_samples), (State::Down, false));
    }

    #[test]
    fn the_bound_rises_by_a_packet_for_each_share_of_the_window_and_doubles_each_round() {
        let mut bbr = settled();
        bbr.inflight_hi = 200_000.0;
        bbr.enter(Time::ZERO, State::Up);
        let mut it = sample(Time::ZERO, Duration::from_millis(100));
        it.in_flight_bytes = 150_000;
        it.acked_bytes = 50_000;
        for (turn, bound) in [200_000.0, 200_000.0, 200_000.0, 201_000.0].into_iter().enumerate() {
            bbr.update_cycle(&it, false, false);
            assert_eq!(bbr.inflight_hi, bound, "ACK {turn}");
            bbr.cwnd = 200_000.0;
        }
        bbr.cwnd = bbr.inflight_hi;
        bbr.update_cycle(&it, false, true);
        assert_eq!((bbr.probe_up_rounds, bbr.probe_up_bytes), (2, 201_000.0 / 2.0));
    }

    #[test]
    fn the_rate_is_the_highest_seen_and_a_limited_one_counts_only_above_it() {
        let mut bbr = settled();
        let mut it = sample(Time::ZERO, Duration::from_millis(100));
        it.delivered_bytes = 5_000;
        bbr.max_bw = [0.0, 1_000.0];
        bbr.update_rate(&it, 999.0, true);
        assert_eq!((bbr.max_bw[1], bbr.bw_latest, bbr.inflight_latest), (1_000.0, 999.0, 5_000.0));
        bbr.max_bw = [1_000.0, 500.0];
        bbr.update_rate(&it, 700.0, true);
        assert_eq!(bbr.max_bw[1], 500.0, "a limited one below tells nothing");
        bbr.update_rate(&it, 700.0, false);
        assert_eq!(bbr.max_bw[1], 700.0);
        bbr.update_rate(&it, 1_000.0, true);
        assert_eq!(bbr.max_bw[1], 1_000.0);
        assert!(!bbr.loss_in_round);
        (it.loss.packets, it.loss.bytes) = (2, 3_000);
        (0..2).for_each(|_| bbr.update_rate(&it, 0.0, false));
        assert_eq!((bbr.loss_in_round, bbr.round_losses), (true, 4));
        assert_eq!(bbr.round_lost_bytes, 6_000.0);
        bbr.end_loss_round(&it, 300.0);
        bbr.loss_in_round = true;
        bbr.end_loss_round(&it, 300.0);
        assert_eq!((bbr.loss_rounds, bbr.loss_in_round, bbr.round_losses), (2, false, 0));
        assert_eq!((bbr.bw_latest, bbr.inflight_latest), (300.0, 5_000.0));
        bbr.end_loss_round(&it, 300.0);
        assert_eq!(bbr.loss_rounds, 0);
    }

    #[test]
    fn what_is_acknowledged_beyond_the_rate_makes_room_for_ten_rounds() {
        let mut bbr = settled();
        let ack = |bbr: &mut Bbr, milliseconds, acked, round_start| {
            let now = Time::ZERO + Duration::from_millis(milliseconds);
            let mut it = sample(now, Duration::from_millis(100));
            it.acked_bytes = acked;
            bbr.update_aggregation(&it, round_start);
            bbr.extra_acked
        };
        assert_eq!(ack(&mut bbr, 0, 5_000, false), [0.0, 5_000.0]);
        // 3 ms at 1 MB/s are 3,000 bytes: 8,000 have come.
        assert_eq!(ack(&mut bbr, 3, 3_000, false), [0.0, 5_000.0]);
        assert_eq!(ack(&mut bbr, 4, 3_000, false), [0.0, 7_000.0]);
        // At the rate the count starts anew.
        assert_eq!(ack(&mut bbr, 11, 1_000, false), [0.0, 7_000.0]);
        assert_eq!((bbr.extra_acked_bytes, bbr.extra_acked_rounds), (1_000.0, 0));
        (0..9).for_each(|_| _ = ack(&mut bbr, 11, 0, true));
        assert_eq!(bbr.extra_acked, [0.0, 7_000.0]);
        assert_eq!(ack(&mut bbr, 11, 0, true), [7_000.0, 0.0], "the tenth round");
        bbr.full_bw_reached = false;
        assert_eq!(ack(&mut bbr, 11, 0, true), [1_000.0, 0.0], "each one in start-up");
    }

    #[test]
    fn packets_are_paced_one_percent_below_the_rate_and_never_slower_in_start_up() {
        let mut bbr = settled();
        bbr.set_pacing_rate();
        assert_eq!(bbr.pacing_rate(), 990_000);
        bbr.full_bw_reached = false;
        bbr.state = State::Drain;
        bbr.set_pacing_rate();
        assert_eq!(bbr.pacing_rate(), 990_000, "it would be slower");
        bbr.state = State::Startup;
        bbr.set_pacing_rate();
        assert_eq!(bbr.pacing_rate(), 2_742_300);
        bbr.full_bw_reached = true;
        bbr.max_bw = [0.0; 2];
        bbr.set_pacing_rate();
        assert_eq!(bbr.pacing_rate(), 2_742_300, "nothing is known");
    }

    #[test]
    fn the_window_is_twice_the_product_and_what_came_beyond_it() {
        let mut bbr = settled();
        let mut it = sample(Time::ZERO, Duration::from_millis(100));
        it.acked_bytes = 1_000;
        let window = |bbr: &mut Bbr, cwnd: f64| {
            bbr.cwnd = cwnd;
            bbr.set_cwnd(&it);
            bbr.window_bytes()
        };
        assert_eq!(window(&mut bbr, 150_000.0), 151_000, "by what was acknowledged");
        assert_eq!(window(&mut bbr, 250_000.0), 200_000);
        bbr.extra_acked = [7_000.0, 0.0];
        assert_eq!(window(&mut bbr, 250_000.0), 207_000);
        bbr.state = State::Up;
        assert_eq!(window(&mut bbr, 250_000.0), 225_000 + 7_000 + 2_000);
        bbr.state = State::ProbeRtt;
        assert_eq!(window(&mut bbr, 250_000.0), 50_000);
        bbr.state = State::Cruise;
        bbr.inflight_lo = 1_000.0;
        assert_eq!(window(&mut bbr, 250_000.0), 4_000, "never less than four packets");
        bbr.inflight_lo = f64::INFINITY;
        bbr.full_bw_reached = false;
        assert_eq!(window(&mut bbr, 206_000.0), 207_000);
        assert_eq!(window(&mut bbr, 207_000.0), 207_000, "it is as large as it need be");
        bbr.max_bw = [0.0; 2];
        assert_eq!(window(&mut bbr, 19_999.0), 20_999, "twice the first window is always taken");
        assert_eq!(window(&mut bbr, 20_000.0), 20_000);
    }

    #[test]
    fn the_window_before_probing_the_rtt_is_remembered() {
        let mut bbr = settled();
        bbr.enter(Time::ZERO, State::ProbeRtt);
        assert_eq!(bbr.prior_cwnd, 200_000.0);
        bbr.cwnd = 50_000.0;
        bbr.enter(Time::ZERO, State::ProbeRtt);
        assert_eq!(bbr.prior_cwnd, 200_000.0, "the larger of both");
    }
}
