//! A fixed rate: for links whose rate is known and not shared.

use std::time::Duration;

use super::{AckSample, Controller};

/// Rate without a given one: 1 Gbit/s.
const RATE_DEFAULT: u64 = 125_000_000;

/// Sends at one rate, whatever happens; the window only stops it when nothing comes back.
#[derive(Debug)]
pub struct Fixed {
    rate: u64,
    smoothed_rtt: Duration,
}

impl Fixed {
    /// A controller for `rate` bytes per second.
    pub fn new(rate: Option<u64>) -> Fixed {
        Fixed { rate: rate.unwrap_or(RATE_DEFAULT), smoothed_rtt: Duration::from_millis(100) }
    }
}

impl Controller for Fixed {
    fn on_ack(&mut self, sample: &AckSample) {
        self.smoothed_rtt = sample.smoothed_rtt;
    }

    fn on_probe_timeout(&mut self) {}

    /// Two RTTs and 10 ms of the rate: loss detection and ACKs need more than one.
    fn window_bytes(&self) -> u64 {
        let span = self.smoothed_rtt * 2 + Duration::from_millis(10);
        let bytes = u128::from(self.rate) * span.as_nanos() / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX).max(64 * 1_024)
    }

    fn pacing_rate(&self) -> u64 {
        self.rate
    }
}
