//! Round-trip time: smoothed value, variance and windowed minimum (RFC 6298, RFC 9002 section 5).

use std::time::Duration;

use crate::proto::time::Time;

/// The minimum is of this span; older samples may be of another path (proto.md, "Loss detection").
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);

/// Estimator fed with one sample per ACK.
#[derive(Clone, Debug, Default)]
pub struct RttEstimator {
    latest: Duration,
    smoothed: Duration,
    variance: Duration,
    has_sample: bool,
    /// Minimum of the running half window and of the one before it: together they span
    /// between one half and one whole [`MIN_RTT_WINDOW`].
    minimum: [Duration; 2],
    half_window_start: Time,
}

impl RttEstimator {
    /// Takes a sample in, ACK delay already subtracted.
    pub fn on_sample(&mut self, now: Time, sample: Duration) {
        let sample = sample.max(Duration::from_micros(1));
        self.latest = sample;
        if !self.has_sample {
            self.has_sample = true;
            self.smoothed = sample;
            self.variance = sample / 2;
            self.minimum = [sample; 2];
            self.half_window_start = now;
            return;
        }
        let deviation = self.smoothed.abs_diff(sample);
        self.variance = (self.variance * 3 + deviation) / 4;
        self.smoothed = (self.smoothed * 7 + sample) / 8;
        if now.saturating_since(self.half_window_start) > MIN_RTT_WINDOW / 2 {
            self.minimum = [sample, self.minimum[0]];
            self.half_window_start = now;
        }
        self.minimum[0] = self.minimum[0].min(sample);
    }

    /// Whether there has been a sample.
    pub fn has_sample(&self) -> bool {
        self.has_sample
    }

    /// The latest sample; zero before the first.
    pub fn latest(&self) -> Duration {
        self.latest
    }

    /// The smoothed RTT; zero before the first sample.
    pub fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// The least sample of the last 5 to 10 s; zero before the first.
    pub fn minimum(&self) -> Duration {
        self.minimum[0].min(self.minimum[1])
    }

    /// Probe timeout without back-off (proto.md, "Loss detection").
    pub fn probe_timeout(&self, ack_delay_max: Duration) -> Duration {
        if !self.has_sample {
            return Duration::from_millis(20);
        }
        let spread = (self.variance * 4).max(Duration::from_micros(200));
        (self.smoothed + spread + ack_delay_max).max(Duration::from_millis(1))
    }
}

/// Delay of the way to the receiver above its least, from two clocks whose difference is unknown.
#[derive(Clone, Debug, Default)]
pub struct OneWayDelay {
    /// Least difference of the clocks' readings, in microseconds, as [`RttEstimator`] has it.
    minimum: Option<[i64; 2]>,
    half_window_start: Time,
}

impl OneWayDelay {
    /// A packet left at `sent_at` and arrived at `arrival_us` of the receiver's clock; how much
    /// longer it took than the fastest one of the last 5 to 10 s.
    pub fn on_sample(&mut self, now: Time, sent_at: Time, arrival_us: u64) -> Duration {
        // Both clocks count from any start: only differences of this mean anything.
        let sent_us = sent_at.as_nanos() / 1_000;
        let sample = arrival_us.wrapping_sub(sent_us).cast_signed();
        let minimum = self.minimum.get_or_insert([sample; 2]);
        if now.saturating_since(self.half_window_start) > MIN_RTT_WINDOW / 2 {
            *minimum = [sample, minimum[0]];
            self.half_window_start = now;
        }
        minimum[0] = minimum[0].min(sample);
        let least = minimum[0].min(minimum[1]);
        Duration::from_micros(u64::try_from(sample.saturating_sub(least)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sample_is_taken_whole() {
        let mut rtt = RttEstimator::default();
        assert_eq!(rtt.probe_timeout(Duration::ZERO), Duration::from_millis(20));
        rtt.on_sample(Time::ZERO, Duration::from_millis(10));
        assert_eq!(rtt.smoothed(), Duration::from_millis(10));
        assert_eq!(rtt.probe_timeout(Duration::from_millis(5)), Duration::from_millis(35));
    }

    #[test]
    fn later_samples_weigh_an_eighth() {
        let mut rtt = RttEstimator::default();
        rtt.on_sample(Time::ZERO, Duration::from_millis(8));
        rtt.on_sample(Time::ZERO, Duration::from_millis(16));
        assert_eq!(rtt.smoothed(), Duration::from_millis(9));
        assert_eq!(rtt.latest(), Duration::from_millis(16));
    }

    #[test]
    fn the_minimum_forgets_after_its_window() {
        let mut rtt = RttEstimator::default();
        rtt.on_sample(Time::ZERO, Duration::from_millis(1));
        for second in 1..=13 {
            let now = Time::ZERO + Duration::from_secs(second);
            rtt.on_sample(now, Duration::from_millis(20));
        }
        assert_eq!(rtt.minimum(), Duration::from_millis(20));
    }

    #[test]
    fn one_way_delay_is_told_above_its_least_whatever_the_clocks_say() {
        let mut delay = OneWayDelay::default();
        let sent = Time::ZERO + Duration::from_secs(7_000);
        let at = |ms| sent + Duration::from_millis(ms);
        assert_eq!(delay.on_sample(at(0), at(0), 1_000_000), Duration::ZERO);
        assert_eq!(delay.on_sample(at(10), at(10), 1_013_000), Duration::from_millis(3));
        // The receiver's clock was set back: that is no queue, and nothing breaks.
        assert_eq!(delay.on_sample(at(20), at(20), 5), Duration::ZERO);
        assert_eq!(delay.on_sample(at(30), at(30), 11_005), Duration::from_millis(1));
    }

    #[test]
    fn the_probe_timeout_is_the_smoothed_rtt_and_four_variances_within_its_floors() {
        let ms = Duration::from_millis;
        let mut rtt = RttEstimator::default();
        rtt.on_sample(Time::ZERO, ms(8));
        rtt.on_sample(Time::ZERO, ms(16));
        // RFC 6298: RTTVAR = 3/4 of 4 ms + 1/4 of 8 ms = 5 ms; SRTT = 9 ms.
        assert_eq!(rtt.probe_timeout(ms(3)), ms(9 + 4 * 5 + 3));
        let mut steady = RttEstimator::default();
        (0..100).for_each(|_| steady.on_sample(Time::ZERO, ms(8)));
        assert_eq!(steady.probe_timeout(ms(3)), ms(11) + Duration::from_micros(200));
        let mut short = RttEstimator::default();
        short.on_sample(Time::ZERO, Duration::from_micros(10));
        assert_eq!(short.probe_timeout(Duration::ZERO), ms(1));
    }

    #[test]
    fn the_minimum_holds_for_five_seconds_at_least_and_ten_at_most() {
        let seconds = |count| Time::ZERO + Duration::from_secs(count);
        let ms = Duration::from_millis;
        let mut rtt = RttEstimator::default();
        rtt.on_sample(seconds(3), ms(1));
        for (second, least) in [(8, 1), (9, 1), (13, 1), (14, 1), (15, 20)] {
            rtt.on_sample(seconds(second), ms(20));
            assert_eq!(rtt.minimum(), ms(least), "after {second} s");
        }
        rtt.on_sample(seconds(16), ms(5));
        assert_eq!(rtt.minimum(), ms(5), "a lesser one counts at once");
    }

    #[test]
    fn the_least_one_way_delay_is_forgotten_as_the_least_rtt_is() {
        let mut delay = OneWayDelay::default();
        let mut above = |second: u64, delay_ms: u64| {
            let sent = Time::ZERO + Duration::from_secs(second);
            let arrival = sent.as_nanos() / 1_000 + 1_000 * delay_ms;
            delay.on_sample(sent, sent, arrival).as_millis()
        };
        assert_eq!((above(0, 1), above(5, 20), above(6, 20)), (0, 19, 19));
        assert_eq!((above(11, 20), above(12, 20), above(17, 25)), (19, 0, 5));
    }
}
