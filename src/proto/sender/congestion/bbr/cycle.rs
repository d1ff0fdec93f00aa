//! BBR's cycle: when which state begins, and what probing shows about `inflight_hi`.

use std::time::Duration;

use rand::RngExt;

use super::{
    AckPhase, BETA, Bbr, LOSS_THRESHOLD, MIN_PIPE_PACKETS, MIN_RTT_FILTER, PROBE_RTT_CWND_GAIN,
    PROBE_RTT_DURATION, PROBE_RTT_INTERVAL, RENO_ROUNDS_MAX, State,
};
use crate::proto::sender::congestion::AckSample;
use crate::proto::time::Time;

impl Bbr {
    fn start_round(&mut self, now: Time) {
        self.round_from = now;
    }

    /// A state begins.
    pub(super) fn enter(&mut self, now: Time, state: State) {
        self.state = state;
        match state {
            State::Down => {
                self.bw_latest = 0.0;
                self.inflight_latest = 0.0;
                self.probe_up_bytes = f64::INFINITY;
                self.rounds_since_probe = self.random.random_range(0..=1);
                self.probe_wait = Duration::from_millis(self.random.random_range(2_000..3_000));
                self.cycle_stamp = now;
                self.ack_phase = AckPhase::ProbeStopping;
                self.start_round(now);
            }
            State::Refill => {
                self.reset_lower_bounds();
                self.probe_up_rounds = 0;
                self.probe_up_acked = 0.0;
                self.ack_phase = AckPhase::Refilling;
                self.start_round(now);
            }
            State::Up => {
                self.ack_phase = AckPhase::ProbeStarting;
                self.start_round(now);
                self.cycle_stamp = now;
                self.reset_full_bw(self.bw_latest);
                self.raise_slope();
            }
            State::ProbeRtt => {
                self.prior_cwnd = self.saved_cwnd();
                self.probe_rtt_done = None;
                self.ack_phase = AckPhase::ProbeStopping;
                self.start_round(now);
            }
            State::Startup | State::Drain | State::Cruise => {}
        }
    }

    fn saved_cwnd(&self) -> f64 {
        match self.state {
            State::ProbeRtt => self.cwnd.max(self.prior_cwnd),
            _ => self.cwnd,
        }
    }

    /// `BBRUpdateProbeBWCyclePhase`.
    pub(super) fn update_cycle(&mut self, sample: &AckSample, limited: bool, round_start: bool) {
        if !self.full_bw_reached {
            return;
        }
        self.adapt_upper_bounds(sample, limited, round_start);
        let now = sample.now;
        let in_flight = sample.in_flight_bytes as f64;
        match self.state {
            State::Down => {
                if self.check_time_to_probe(now) {
                    return;
                }
                let drained = in_flight <= self.inflight_with_headroom()
                    && in_flight <= self.inflight(self.max_bw(), 1.0);
                if drained {
                    self.enter(now, State::Cruise);
                }
            }
            State::Cruise => {
                self.check_time_to_probe(now);
            }
            State::Refill if round_start => {
                self.bw_probe_samples = true;
                self.enter(now, State::Up);
            }
            State::Up => self.check_time_to_go_down(sample),
            _ => {}
        }
    }

    fn check_time_to_probe(&mut self, now: Time) -> bool {
        let reno_rounds = (self.target_inflight() / self.packet).min(RENO_ROUNDS_MAX);
        let due = now.saturating_since(self.cycle_stamp) > self.probe_wait
            || f64::from(self.rounds_since_probe) >= reno_rounds;
        if due {
            self.enter(now, State::Refill);
        }
        due
    }

    /// `BBRIsTimeToGoDown`.
    fn check_time_to_go_down(&mut self, sample: &AckSample) {
        if self.is_cwnd_limited(sample) && self.cwnd >= self.inflight_hi {
            // The rate does not grow because the bound does not let it.
            self.reset_full_bw(sample.rate.map_or(self.full_bw, |rate| rate as f64));
        } else if self.full_bw_now {
            self.enter(sample.now, State::Down);
        }
    }

    fn is_cwnd_limited(&self, sample: &AckSample) -> bool {
        let in_flight = (sample.in_flight_bytes + sample.acked_bytes + sample.loss.bytes) as f64;
        in_flight + 2.0 * self.packet >= self.cwnd
    }

    /// `BBRAdaptLongTermModel`, the rise of `inflight_hi`.
    fn adapt_upper_bounds(&mut self, sample: &AckSample, limited: bool, round_start: bool) {
        match self.ack_phase {
            AckPhase::ProbeStarting if round_start => self.ack_phase = AckPhase::ProbeFeedback,
            AckPhase::ProbeStopping if round_start => {
                self.bw_probe_samples = false;
                self.ack_phase = AckPhase::Init;
                if self.is_in_cycle() && !limited {
                    // `BBRAdvanceMaxBwFilter`
                    self.max_bw = [self.max_bw[1], 0.0];
                }
            }
            _ => {}
        }
        if self.is_loss_high(sample.flight_lost_bytes, sample.sent_in_flight_bytes)
            || self.inflight_hi.is_infinite()
        {
            return;
        }
        self.inflight_hi = self.inflight_hi.max(sample.sent_in_flight_bytes as f64);
        if self.state == State::Up {
            self.probe_upward(sample, round_start);
        }
    }

    /// `BBRProbeInflightLongtermUpward`.
    fn probe_upward(&mut self, sample: &AckSample, round_start: bool) {
        if !self.is_cwnd_limited(sample) || self.cwnd < self.inflight_hi {
            return;
        }
        self.probe_up_acked += sample.acked_bytes as f64;
        let packets = (self.probe_up_acked / self.probe_up_bytes).floor();
        self.probe_up_acked -= packets * self.probe_up_bytes.min(f64::MAX);
        self.inflight_hi += packets * self.packet;
        if round_start {
            self.raise_slope();
        }
    }

    /// `BBRRaiseInflightLongtermSlope`: growth doubles each round.
    fn raise_slope(&mut self) {
        let growth = f64::from(1_u32 << self.probe_up_rounds);
        self.probe_up_rounds = (self.probe_up_rounds + 1).min(30);
        self.probe_up_bytes = (self.cwnd / growth).max(self.packet);
    }

    fn is_loss_high(&self, lost: u64, in_flight: u64) -> bool {
        lost as f64 > LOSS_THRESHOLD * in_flight as f64
    }

    /// `BBRHandleLostPacket` and `BBRHandleInflightTooHigh`.
    pub(super) fn on_loss(&mut self, sample: &AckSample, limited: bool) {
        let loss = &sample.loss;
        if loss.packets == 0
            || !self.bw_probe_samples
            || !self.is_loss_high(loss.flight_lost_bytes, loss.sent_in_flight_bytes)
        {
            return;
        }
        self.bw_probe_samples = false;
        if !limited {
            // Where in that flight loss exceeded the threshold (`InflightAtLoss`).
            let lost_before = loss.flight_lost_bytes.saturating_sub(loss.bytes) as f64;
            let before = loss.sent_in_flight_bytes.saturating_sub(loss.bytes) as f64;
            let prefix = (LOSS_THRESHOLD * before - lost_before) / (1.0 - LOSS_THRESHOLD);
            let in_flight = before + prefix.max(0.0);
            self.inflight_hi = in_flight.max(BETA * self.target_inflight());
        }
        if self.state == State::Up {
            self.enter(sample.now, State::Down);
        }
    }

    /// `BBRUpdateMinRTT` and `BBRCheckProbeRTT`.
    pub(super) fn update_min_rtt(&mut self, sample: &AckSample, round_start: bool) {
        let now = sample.now;
        let expired = now.saturating_since(self.probe_rtt_min_stamp) > PROBE_RTT_INTERVAL;
        if let Some(rtt) = sample.rtt
            && (rtt < self.probe_rtt_min || expired || self.probe_rtt_min.is_zero())
        {
            self.probe_rtt_min = rtt;
            self.probe_rtt_min_stamp = now;
        }
        let old = now.saturating_since(self.min_rtt_stamp) > MIN_RTT_FILTER;
        if self.probe_rtt_min < self.min_rtt || old || self.min_rtt.is_zero() {
            self.min_rtt = self.probe_rtt_min;
            self.min_rtt_stamp = self.probe_rtt_min_stamp;
        }
        if self.state != State::ProbeRtt && expired {
            self.enter(now, State::ProbeRtt);
        }
        if self.state != State::ProbeRtt {
            return;
        }
        match self.probe_rtt_done {
            None if sample.in_flight_bytes as f64 <= self.probe_rtt_cwnd() => {
                self.probe_rtt_done = Some(now + PROBE_RTT_DURATION);
                self.probe_rtt_round_done = false;
                self.start_round(now);
            }
            None => {}
            Some(done) => {
                self.probe_rtt_round_done |= round_start;
                if self.probe_rtt_round_done && now > done {
                    self.leave_probe_rtt(now);
                }
            }
        }
    }

    fn leave_probe_rtt(&mut self, now: Time) {
        self.probe_rtt_min_stamp = now;
        self.cwnd = self.cwnd.max(self.prior_cwnd);
        self.reset_lower_bounds();
        if self.full_bw_reached {
            self.enter(now, State::Down);
            self.enter(now, State::Cruise);
        } else {
            self.state = State::Startup;
        }
    }

    /// `BBRProbeRTTCwnd`.
    pub(super) fn probe_rtt_cwnd(&self) -> f64 {
        self.inflight(self.bw(), PROBE_RTT_CWND_GAIN).max(MIN_PIPE_PACKETS * self.packet)
    }
}
