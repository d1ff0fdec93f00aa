//! CUBIC (RFC 9438) with `HyStart++` (RFC 9406): the rival that most of the world runs.
//!
//! As written there, with what a user-space sender with few ACKs asks for: the window is paced
//! out (RFC 9438 leaves that open; gains of Linux), at most one cut a round trip, a cut is undone
//! when all its losses prove spurious (section 4.9), and three probe timeouts in a row without an
//! ACK between them stand for TCP's retransmission timeout, as in RFC 9002, section 7.6.

use std::time::Duration;

use super::{AckSample, Controller};
use crate::proto::time::Time;

/// Share of the window that a cut leaves (section 4.6).
const BETA: f64 = 0.7;

/// Aggressiveness, in packets per cubic second (section 5).
const C: f64 = 0.4;

/// Additive increase of the Reno-friendly region: 3 (1 - beta) / (1 + beta) (section 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// First window (RFC 6928).
const FIRST_WINDOW_PACKETS: f64 = 10.0;

/// Least window after a cut (section 4.6), and the window after a timeout.
const LEAST_WINDOW_PACKETS: f64 = 2.0;

/// Probe timeouts in a row that count as persistent congestion.
const TIMEOUTS: u32 = 3;

/// Pacing above one window a round trip: in slow start, and later (Linux, tcp_input.c).
const SLOW_START_PACING: f64 = 2.0;
const PACING: f64 = 1.2;

/// How the window grows. All windows are in packets.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    pub(super) window: f64,
    slow_start_threshold: f64,
    /// Window before the last cut, after fast convergence: where the curve is flat.
    window_max: f64,
    /// Window before the last cut.
    window_prior: f64,
    epoch: Option<Epoch>,
}

/// A stretch of congestion avoidance (section 4.2).
#[derive(Clone, Debug)]
struct Epoch {
    /// Time in it, spans without enough to send left out (section 5.8).
    elapsed: Duration,
    last_ack: Time,
    /// Window that the Reno-friendly region has reached.
    window_reno: f64,
    /// Seconds until the curve is back at `window_max`.
    k: f64,
}

impl Curve {
    /// A curve in congestion avoidance, at its flat point.
    pub(super) fn at_window(window: f64) -> Curve {
        let window = window.max(LEAST_WINDOW_PACKETS);
        Curve {
            window,
            slow_start_threshold: window,
            window_max: window,
            window_prior: window,
            epoch: None,
        }
    }

    /// W_cubic(t) of figure 1.
    fn at(&self, epoch: &Epoch, seconds: f64) -> f64 {
        C * (seconds - epoch.k).powi(3) + self.window_max
    }

    /// Gives way to a loss.
    pub(super) fn cut(&mut self) {
        // Fast convergence (section 4.7).
        self.window_max = match self.window < self.window_max {
            true => self.window * (1.0 + BETA) / 2.0,
            false => self.window,
        };
        self.window_prior = self.window;
        self.slow_start_threshold = (self.window * BETA).max(LEAST_WINDOW_PACKETS);
        self.window = self.slow_start_threshold;
        self.epoch = None;
    }

    /// Congestion avoidance (sections 4.2 to 4.5).
    pub(super) fn avoid(&mut self, now: Time, rtt: Duration, acked_packets: f64) {
        let mut epoch = self.epoch.take().unwrap_or_else(|| {
            // Without a cut the curve starts at its flat point.
            self.window_max = self.window_max.max(self.window);
            let k = ((self.window_max - self.window) / C).cbrt();
            Epoch { elapsed: Duration::ZERO, last_ack: now, window_reno: self.window, k }
        });
        epoch.elapsed += now.saturating_since(epoch.last_ack);
        epoch.last_ack = now;
        let alpha = if epoch.window_reno >= self.window_prior { 1.0 } else { ALPHA };
        epoch.window_reno += alpha * acked_packets / self.window;
        let elapsed = epoch.elapsed.as_secs_f64();
        if self.at(&epoch, elapsed) < epoch.window_reno {
            self.window = self.window.max(epoch.window_reno);
        } else {
            let target = self.at(&epoch, elapsed + rtt.as_secs_f64());
            let target = target.clamp(self.window, self.window * 1.5);
            self.window += (target - self.window) * (acked_packets / self.window).min(1.0);
        }
        self.epoch = Some(epoch);
    }
}

/// See the module's description.
#[derive(Debug)]
pub struct Cubic {
    curve: Curve,
    slow_start: HyStart,
    /// What left before this was under way when the window was cut: its loss is the same event.
    recovery_from: Option<Time>,
    /// The state before the last cut, and its losses that have not proved spurious.
    before_cut: Option<(Curve, u64)>,
    timeouts: u32,
    smoothed_rtt: Duration,
    datagram_bytes: u64,
}

impl Cubic {
    /// A controller that knows only the handshake's RTT.
    pub fn new(rtt: Duration) -> Cubic {
        Cubic {
            curve: Curve {
                window: FIRST_WINDOW_PACKETS,
                slow_start_threshold: f64::INFINITY,
                window_max: 0.0,
                window_prior: f64::INFINITY,
                epoch: None,
            },
            slow_start: HyStart::default(),
            recovery_from: None,
            before_cut: None,
            timeouts: 0,
            smoothed_rtt: rtt,
            datagram_bytes: 1_472,
        }
    }

    fn on_loss(&mut self, sample: &AckSample) {
        let loss = &sample.loss;
        if let Some((curve, lost)) = &mut self.before_cut {
            *lost = lost.saturating_sub(loss.spurious_packets);
            if *lost == 0 && loss.packets == 0 && loss.spurious_packets > 0 {
                self.curve = curve.clone();
                self.before_cut = None;
            }
        }
        if loss.packets == 0 {
            return;
        }
        if self.recovery_from.is_some_and(|from| loss.newest_sent_at <= from) {
            if let Some((_, lost)) = &mut self.before_cut {
                *lost += loss.packets;
            }
            return;
        }
        self.before_cut = Some((self.curve.clone(), loss.packets));
        self.recovery_from = Some(sample.now);
        self.curve.cut();
    }

    fn grow(&mut self, sample: &AckSample, acked_packets: f64) {
        let curve = &mut self.curve;
        if curve.window >= curve.slow_start_threshold {
            curve.avoid(sample.now, sample.smoothed_rtt, acked_packets);
            return;
        }
        let room = (curve.slow_start_threshold - curve.window).max(0.0);
        curve.window += (acked_packets / self.slow_start.divisor()).min(room);
        if self.slow_start.on_ack(sample) {
            curve.slow_start_threshold = curve.window;
        }
    }
}

impl Controller for Cubic {
    fn on_ack(&mut self, sample: &AckSample) {
        self.timeouts = 0;
        self.smoothed_rtt = sample.smoothed_rtt;
        self.datagram_bytes = sample.datagram_bytes;
        self.on_loss(sample);
        let acked_packets = sample.acked_bytes as f64 / sample.datagram_bytes as f64;
        let recovering = self.recovery_from.is_some_and(|from| {
            // The RTT of the newest packet tells when it left.
            sample.now.saturating_since(from) < sample.rtt.unwrap_or(sample.smoothed_rtt)
        });
        if recovering || acked_packets == 0.0 {
            return;
        }
        if sample.limited {
            // The window was not used: it does not grow, and the curve stands still.
            if let Some(epoch) = &mut self.curve.epoch {
                epoch.last_ack = sample.now;
            }
            return;
        }
        self.grow(sample, acked_packets);
    }

    fn on_probe_timeout(&mut self) {
        self.timeouts += 1;
        if self.timeouts == TIMEOUTS {
            self.curve.cut();
            self.curve.window = LEAST_WINDOW_PACKETS;
            self.before_cut = None;
            self.slow_start = HyStart::default();
        }
    }

    fn window_bytes(&self) -> u64 {
        (self.curve.window * self.datagram_bytes as f64) as u64
    }

    fn pacing_rate(&self) -> u64 {
        let gain = match self.curve.window < self.curve.slow_start_threshold {
            true => SLOW_START_PACING,
            false => PACING,
        };
        let rtt = self.smoothed_rtt.max(Duration::from_micros(10)).as_secs_f64();
        (gain * self.window_bytes() as f64 / rtt) as u64
    }
}

/// RTT samples a round must have before its least counts. RFC 9406 says 8; an ACK of ufx speaks
/// of up to a quarter of the window, so that few rounds have as many.
const ROUND_SAMPLES: u32 = 3;

/// A rise of the least RTT by an eighth, but within these, ends slow start (section 4.3).
const RISE_MIN: Duration = Duration::from_millis(4);
const RISE_MAX: Duration = Duration::from_millis(16);

/// Growth in conservative slow start is slower by this, for so many rounds.
const CONSERVATIVE_DIVISOR: f64 = 4.0;
const CONSERVATIVE_ROUNDS: u32 = 5;

/// Finds the end of slow start from a rise of the RTT (RFC 9406), for a paced sender.
#[derive(Debug)]
struct HyStart {
    /// Least RTT of the last round and of this one; samples in this one.
    last_round: Duration,
    this_round: Duration,
    samples: u32,
    /// Conservative slow start: the least RTT when it began, and rounds since.
    conservative: Option<(Duration, u32)>,
}

impl Default for HyStart {
    fn default() -> HyStart {
        HyStart {
            last_round: Duration::MAX,
            this_round: Duration::MAX,
            samples: 0,
            conservative: None,
        }
    }
}

impl HyStart {
    fn divisor(&self) -> f64 {
        if self.conservative.is_some() { CONSERVATIVE_DIVISOR } else { 1.0 }
    }

    /// Whether slow start is over.
    fn on_ack(&mut self, sample: &AckSample) -> bool {
        if sample.round_ended {
            self.last_round = self.this_round;
            self.this_round = Duration::MAX;
            self.samples = 0;
            if let Some((_, rounds)) = &mut self.conservative {
                *rounds += 1;
                return *rounds >= CONSERVATIVE_ROUNDS;
            }
        }
        let Some(rtt) = sample.rtt else { return false };
        self.samples += 1;
        self.this_round = self.this_round.min(rtt);
        if self.samples < ROUND_SAMPLES || self.last_round == Duration::MAX {
            return false;
        }
        match self.conservative {
            // It was no rise that lasts.
            Some((baseline, _)) if self.this_round < baseline => self.conservative = None,
            Some(_) => {}
            None => {
                let rise = (self.last_round / 8).clamp(RISE_MIN, RISE_MAX);
                if self.this_round >= self.last_round + rise {
                    self.conservative = Some((self.this_round, 0));
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::PathLoss;
    use super::super::testing::sample;
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    /// Acknowledges a window in each of so many rounds of an RTT.
    fn rounds(cubic: &mut Cubic, now: &mut Time, count: u32) {
        for _ in 0..count {
            for _ in 0..8 {
                *now += RTT / 8;
                let acked = cubic.window_bytes() / 8;
                let rtt = Some(RTT);
                cubic.on_ack(&AckSample { acked_bytes: acked, rtt, ..sample(*now, RTT) });
            }
        }
    }

    fn lose(cubic: &mut Cubic, now: Time) {
        let loss = PathLoss { packets: 1, newest_sent_at: now, ..PathLoss::default() };
        cubic.on_ack(&AckSample { loss, ..sample(now, RTT) });
    }

    #[test]
    fn the_window_follows_the_formula_within_one_percent() {
        let mut cubic = Cubic::new(RTT);
        let mut now = Time::ZERO;
        rounds(&mut cubic, &mut now, 7);
        let before = cubic.curve.window;
        assert!(before > 1_000.0, "slow start doubles: {before}");
        lose(&mut cubic, now);
        assert_eq!(cubic.curve.window, before * BETA);
        // The first ACK of what left after the cut opens the epoch.
        let k = (before * (1.0 - BETA) / C).cbrt();
        let start = now + RTT;
        rounds(&mut cubic, &mut now, 1);
        while now.saturating_since(start).as_secs_f64() < 2.0 * k {
            rounds(&mut cubic, &mut now, 1);
            // The window is what the formula says for one round trip later.
            let seconds = (now.saturating_since(start)).as_secs_f64();
            let formula = C * (seconds - k).powi(3) + before;
            let off = (cubic.curve.window / formula - 1.0).abs();
            assert!(off < 0.01, "{seconds} s: {} packets, not {formula}", cubic.curve.window);
        }
    }

    #[test]
    fn a_small_window_grows_as_reno_would() {
        let mut cubic = Cubic::new(RTT);
        let mut now = Time::ZERO;
        lose(&mut cubic, now);
        let before = cubic.curve.window;
        rounds(&mut cubic, &mut now, 5);
        let grown = cubic.curve.window - before;
        assert!((grown - 4.0 * ALPHA).abs() < 0.5, "{grown} packets in 4 rounds");
    }

    #[test]
    fn losses_of_one_round_trip_cut_once_and_the_next_loss_converges_fast() {
        let mut cubic = Cubic::new(RTT);
        let mut now = Time::ZERO;
        rounds(&mut cubic, &mut now, 4);
        let before = cubic.curve.window;
        let sent = now;
        now += RTT / 2;
        lose(&mut cubic, now);
        let loss = PathLoss { packets: 3, newest_sent_at: sent, ..PathLoss::default() };
        cubic.on_ack(&AckSample { loss, ..sample(now + RTT / 4, RTT) });
        assert_eq!(cubic.curve.window, before * BETA);
        now += RTT;
        lose(&mut cubic, now);
        assert_eq!(cubic.curve.window_max, before * BETA * (1.0 + BETA) / 2.0);
    }

    #[test]
    fn a_cut_for_packets_that_arrive_after_all_is_undone() {
        let mut cubic = Cubic::new(RTT);
        let mut now = Time::ZERO;
        rounds(&mut cubic, &mut now, 4);
        let before = cubic.curve.window;
        lose(&mut cubic, now);
        let loss = PathLoss { spurious_packets: 1, ..PathLoss::default() };
        cubic.on_ack(&AckSample { loss, ..sample(now + RTT / 2, RTT) });
        assert_eq!(cubic.curve.window, before);
    }

    #[test]
    fn a_rising_rtt_ends_slow_start_before_loss() {
        let mut cubic = Cubic::new(RTT);
        let mut now = Time::ZERO;
        for round in 0..12_u32 {
            for turn in 0..8 {
                now += RTT / 8;
                let rtt = Some(RTT + Duration::from_millis(10) * round.saturating_sub(4));
                let acked_bytes = cubic.window_bytes() / 8;
                let round_ended = turn == 7;
                cubic.on_ack(&AckSample { acked_bytes, rtt, round_ended, ..sample(now, RTT) });
            }
        }
        assert!(cubic.curve.slow_start_threshold.is_finite(), "{cubic:?}");
    }

    #[test]
    fn three_timeouts_in_a_row_begin_anew() {
        let mut cubic = Cubic::new(RTT);
        let mut now = Time::ZERO;
        rounds(&mut cubic, &mut now, 4);
        (0..2).for_each(|_| cubic.on_probe_timeout());
        assert!(cubic.curve.window > 100.0);
        cubic.on_probe_timeout();
        assert_eq!(cubic.curve.window, LEAST_WINDOW_PACKETS);
    }

    /// A round of so many ACKs of a packet each, all with the same RTT.
    fn round(cubic: &mut Cubic, acks: u32, rtt: Duration) {
        for turn in 0..acks {
            let round_ended = turn == 0;
            let rtt = Some(rtt);
            cubic.on_ack(&AckSample {
                acked_bytes: 1_472,
                rtt,
                round_ended,
                ..sample(Time::ZERO, RTT)
            });
        }
    }

    #[test]
    fn a_window_leaves_at_twice_its_rate_in_slow_start_and_a_fifth_above_it_later() {
        let mut cubic = Cubic::new(RTT);
        assert_eq!(cubic.window_bytes(), 14_720);
        assert_eq!(cubic.pacing_rate(), 2 * 14_720 * 20);
        cubic.curve.slow_start_threshold = 10.0;
        assert_eq!(cubic.pacing_rate(), 14_720 * 24);
    }

    #[test]
    fn slow_start_grows_by_what_is_acknowledged_up_to_its_threshold() {
        let mut cubic = Cubic::new(RTT);
        round(&mut cubic, 3, RTT);
        assert_eq!(cubic.curve.window, 13.0);
        cubic.curve.slow_start_threshold = 13.5;
        round(&mut cubic, 1, RTT);
        assert_eq!(cubic.curve.window, 13.5);
    }

    #[test]
    fn a_window_that_was_not_used_does_not_grow_and_time_stands_still() {
        let mut cubic = Cubic::new(RTT);
        cubic.curve = Curve::at_window(100.0);
        cubic.curve.cut();
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let mut ack = |second, limited| {
            cubic.on_ack(&AckSample { acked_bytes: 1_472, limited, ..sample(at(second), RTT) });
            (cubic.curve.window, cubic.curve.epoch.as_ref().unwrap().elapsed.as_secs())
        };
        let (before, elapsed) = ack(1, false);
        assert_eq!(elapsed, 0);
        assert_eq!(ack(11, true), (before, 0));
        let (after, elapsed) = ack(12, false);
        assert!(elapsed == 1 && after > before, "{elapsed} s: {after} packets");
    }

    // W_max is 100 packets and the window 70: K is the cube root of 30 / 0.4, 4.217 s (RFC 9438,
    // figure 2).
    #[test]
    fn the_curve_is_flat_where_the_window_was_cut() {
        let mut curve = Curve::at_window(100.0);
        curve.cut();
        assert_eq!((curve.window, curve.window_max), (70.0, 100.0), "no fast convergence");
        curve.avoid(Time::ZERO, RTT, 0.0);
        let epoch = curve.epoch.clone().unwrap();
        assert!((epoch.k - 4.217).abs() < 0.001, "{}", epoch.k);
        assert!((curve.at(&epoch, 0.0) - 70.0).abs() < 1e-9);
        assert!((curve.at(&epoch, 4.217) - 100.0).abs() < 1e-6);
        assert!((curve.at(&epoch, 2.0 * 4.217) - 130.0).abs() < 0.02);
    }

    #[test]
    fn beside_reno_the_window_grows_by_a_packet_a_round_once_the_cut_is_made_up_for() {
        let mut curve = Curve::at_window(10.0);
        curve.cut();
        let mut grow = |rounds| {
            let before = curve.window;
            for _ in 0..rounds {
                let window = curve.window;
                curve.avoid(Time::ZERO, Duration::ZERO, window);
            }
            curve.window - before
        };
        // From 7 to 10 packets it takes 3 / 0.529 = 6 rounds of RFC 9438's alpha.
        assert!((grow(6) - 6.0 * 0.529).abs() < 0.01);
        assert!((grow(3) - 3.0).abs() < 0.01);
    }

    #[test]
    fn a_rise_of_an_eighth_of_the_rtt_slows_slow_start_down_and_five_rounds_of_it_end_it() {
        let rise = Duration::from_micros(6_250);
        let mut cubic = Cubic::new(RTT);
        round(&mut cubic, 3, RTT);
        round(&mut cubic, 3, RTT + rise - Duration::from_nanos(1));
        assert_eq!(cubic.slow_start.divisor(), 1.0);
        let mut cubic = Cubic::new(RTT);
        round(&mut cubic, 3, RTT);
        round(&mut cubic, 2, RTT + rise);
        assert_eq!(cubic.slow_start.divisor(), 1.0, "two samples are too few");
        let mut cubic = Cubic::new(RTT);
        round(&mut cubic, 3, RTT);
        round(&mut cubic, 3, RTT + rise);
        assert_eq!(cubic.slow_start.divisor(), 4.0);
        let before = cubic.curve.window;
        (0..4).for_each(|_| round(&mut cubic, 1, RTT + rise));
        assert_eq!(cubic.curve.window, before + 1.0);
        assert!(cubic.curve.slow_start_threshold.is_infinite());
        round(&mut cubic, 1, RTT + rise);
        assert_eq!(cubic.curve.slow_start_threshold, cubic.curve.window);
    }

    #[test]
    fn slow_start_goes_on_when_the_rise_did_not_last() {
        let mut cubic = Cubic::new(RTT);
        round(&mut cubic, 3, RTT);
        round(&mut cubic, 3, 2 * RTT);
        round(&mut cubic, 3, 2 * RTT);
        assert_eq!(cubic.slow_start.divisor(), 4.0);
        round(&mut cubic, 4, 2 * RTT - Duration::from_nanos(1));
        assert_eq!(cubic.slow_start.divisor(), 1.0);
    }

    #[test]
    fn an_ack_between_timeouts_breaks_their_row() {
        let mut cubic = Cubic::new(RTT);
        for _ in 0..3 {
            (0..2).for_each(|_| cubic.on_probe_timeout());
            cubic.on_ack(&sample(Time::ZERO, RTT));
        }
        assert_eq!(cubic.curve.window, FIRST_WINDOW_PACKETS);
    }
}
