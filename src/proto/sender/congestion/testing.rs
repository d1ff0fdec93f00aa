//! An [`AckSample`] to start from in the controllers' tests.

use std::time::Duration;

use super::{AckSample, PathLoss};
use crate::proto::time::Time;

/// An ACK that shows nothing but the RTT.
pub fn sample(now: Time, rtt: Duration) -> AckSample {
    AckSample {
        now,
        smoothed_rtt: rtt,
        rtt: Some(rtt),
        min_rtt: rtt,
        queue_delay: None,
        rate: None,
        is_train: false,
        limited: false,
        delivered_bytes: 0,
        sent_in_flight_bytes: 0,
        flight_lost_bytes: 0,
        acked_bytes: 0,
        loss: PathLoss::default(),
        sent_packets: 0,
        received_packets: 0,
        receiver_dropped: false,
        in_flight_bytes: 0,
        datagram_bytes: 1_472,
        round_ended: false,
    }
}
