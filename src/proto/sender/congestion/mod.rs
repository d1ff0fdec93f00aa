//! Congestion control: how fast and how much may be under way.
//!
//! A controller sees one [`AckSample`] per ACK and answers with a window and a pacing rate. Its
//! duties stand in proto.md, "Pacing and congestion control".

mod auto;
mod bbr;
mod cubic;
mod fixed;
#[cfg(test)]
mod testing;

use std::fmt;
use std::time::Duration;

use crate::proto::time::Time;

/// What one ACK tells a controller.
#[derive(Clone, Debug)]
pub struct AckSample {
    /// Now.
    pub now: Time,
    /// Smoothed RTT.
    pub smoothed_rtt: Duration,
    /// The RTT this ACK shows, its delay at the receiver taken off; none if it shows none.
    pub rtt: Option<Duration>,
    /// Least RTT of the last 5 to 10 s.
    pub min_rtt: Duration,
    /// Delay in queues on the way to the receiver: the lesser of what the one-way delay and the
    /// RTT have above their least. None if this ACK shows none.
    pub queue_delay: Option<Duration>,
    /// Delivery rate in bytes per second by the receiver's clock, over about one RTT.
    pub rate: Option<u64>,
    /// The rate is from the spacing of the first flight, which left at once.
    pub is_train: bool,
    /// Whether the sender was held by its source or by credit while the rate was measured:
    /// the path may be faster.
    pub limited: bool,
    /// Bytes that arrived from when the newest reported packet left to its arrival.
    pub delivered_bytes: u64,
    /// Bytes in flight when the newest reported packet had left.
    pub sent_in_flight_bytes: u64,
    /// Bytes declared lost from when the newest reported packet left until now.
    pub flight_lost_bytes: u64,
    /// Bytes that this ACK reports first.
    pub acked_bytes: u64,
    /// Losses of the path found since the last sample.
    pub loss: PathLoss,
    /// Packets that left up to the ACK's `largest`, since the transfer began.
    pub sent_packets: u64,
    /// Distinct packets that arrived, since the transfer began.
    pub received_packets: u64,
    /// The receiver's kernel dropped datagrams since the last ACK: this loss is not the path's.
    pub receiver_dropped: bool,
    /// Bytes in flight after this ACK.
    pub in_flight_bytes: u64,
    /// Bytes of a full datagram.
    pub datagram_bytes: u64,
    /// A round trip has passed since the last ACK for which this was set.
    pub round_ended: bool,
}

/// Losses that are the path's: found by the sender, and missed by the receiver's counters too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathLoss {
    /// How many packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that had been declared lost and arrived.
    pub spurious_packets: u64,
    /// When the newest lost packet had left.
    pub newest_sent_at: Time,
    /// Bytes in flight when it had left.
    pub sent_in_flight_bytes: u64,
    /// Bytes declared lost since it left, itself among them.
    pub flight_lost_bytes: u64,
}

/// A congestion controller.
pub trait Controller: fmt::Debug {
    /// An ACK was taken in.
    fn on_ack(&mut self, sample: &AckSample);

    /// A probe timeout expired: nothing was heard for longer than an RTT.
    fn on_probe_timeout(&mut self);

    /// Bytes that may be in flight.
    fn window_bytes(&self) -> u64;

    /// Bytes per second at which packets leave.
    fn pacing_rate(&self) -> u64;

    /// So long packets may go on leaving at the pace while nothing is heard, beyond the window.
    fn unheard_max(&self) -> Duration {
        Duration::ZERO
    }

    /// Share of loss that is taken as the path's own, not as congestion (0 to 1).
    fn random_loss(&self) -> f64 {
        0.0
    }
}

/// The controllers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Model of rate and RTT with a delay bound and a test that tells random loss from
    /// congestion.
    #[default]
    Auto,
    /// BBR version 3, as its draft describes it.
    Bbr,
    /// CUBIC, as RFC 9438 describes it.
    Cubic,
    /// A rate given by the user.
    Fixed,
}

impl Algorithm {
    /// Every algorithm, for help and tests.
    pub const ALL: [Algorithm; 4] =
        [Algorithm::Auto, Algorithm::Bbr, Algorithm::Cubic, Algorithm::Fixed];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Auto => "auto",
            Algorithm::Bbr => "bbr",
            Algorithm::Cubic => "cubic",
            Algorithm::Fixed => "fixed",
        }
    }

    /// Makes the controller. `rtt` is the handshake's; `rate_bytes` is what the user allows;
    /// what the controller draws comes from `seed`.
    pub fn build(
        self,
        now: Time,
        rtt: Duration,
        rate_bytes: Option<u64>,
        seed: u64,
    ) -> Box<dyn Controller> {
        match self {
            Algorithm::Auto => Box::new(auto::Auto::new(rtt, rate_bytes)),
            Algorithm::Bbr => Box::new(bbr::Bbr::new(now, rtt, seed)),
            Algorithm::Cubic => Box::new(cubic::Cubic::new(rtt)),
            Algorithm::Fixed => Box::new(fixed::Fixed::new(rate_bytes)),
        }
    }
}
