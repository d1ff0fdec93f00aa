//! Which of the losses found are the path's (proto.md, "Pacing and congestion control").
//!
//! A packet may be unreported though it arrived: its content could not be kept, or the receiver's
//! kernel dropped it. So losses count as far as the receiver's own count of packets misses them,
//! and not at all around the time in which its kernel dropped any.

use std::time::Duration;

use super::congestion::PathLoss;
use super::in_flight::Lost;
use crate::proto::time::Time;

/// The losses that no sample has told yet, and the sums behind them.
#[derive(Debug, Default)]
pub struct LossCount {
    untold: PathLoss,
    /// Packets declared lost, less those that arrived after all.
    declared: u64,
    /// Of these, packets told or passed over.
    told: u64,
    /// The kernel's drops spoil what is found until then.
    void_until: Option<Time>,
}

impl LossCount {
    /// Packets were declared lost; in all, `lost_bytes` bytes were.
    pub fn on_lost(&mut self, lost: &Lost, lost_bytes: u64) {
        self.declared += lost.packets;
        self.untold.packets += lost.packets;
        self.untold.bytes += lost.bytes;
        let Some(newest) = lost.newest.filter(|it| it.at >= self.untold.newest_sent_at) else {
            return;
        };
        self.untold.newest_sent_at = newest.at;
        self.untold.sent_in_flight_bytes = newest.in_flight_bytes;
        self.untold.flight_lost_bytes = lost_bytes.saturating_sub(newest.lost_bytes);
    }

    /// Packets arrived that had been declared lost.
    pub fn on_spurious(&mut self, packets: u64) {
        self.declared = self.declared.saturating_sub(packets);
        self.untold.spurious_packets += packets;
    }

    /// The receiver's kernel dropped datagrams.
    pub fn on_drops(&mut self, now: Time, smoothed_rtt: Duration) {
        // What was dropped is found lost a round trip and a reordering window later.
        self.void_until = Some(now + smoothed_rtt * 3);
    }

    /// What is to be told now. By its count `missing` packets have not arrived of those sent
    /// up to the newest that has.
    pub fn take(&mut self, now: Time, missing: u64) -> PathLoss {
        let lost = self.declared.min(missing);
        let new = lost.saturating_sub(self.told);
        self.told = self.told.max(lost);
        let untold = std::mem::take(&mut self.untold);
        if self.void_until.is_some_and(|until| now < until) {
            return PathLoss { spurious_packets: untold.spurious_packets, ..PathLoss::default() };
        }
        let bytes = untold.bytes.min(new * untold.bytes.div_ceil(untold.packets.max(1)));
        PathLoss { packets: new.min(untold.packets), bytes, ..untold }
    }
}

#[cfg(test)]
mod tests {
    use super::super::in_flight::Departure;
    use super::*;

    fn lose(count: &mut LossCount, packets: u64) {
        let newest = Some(Departure::default());
        let lost = Lost { packets, bytes: 1_000 * packets, newest, ..Lost::default() };
        count.on_lost(&lost, lost.bytes);
    }

    #[test]
    fn what_arrived_but_could_not_be_kept_is_no_loss_of_the_path() {
        let mut count = LossCount::default();
        lose(&mut count, 10);
        let told = count.take(Time::ZERO, 3);
        assert_eq!((told.packets, told.bytes), (3, 3_000));
        lose(&mut count, 1);
        assert_eq!(count.take(Time::ZERO, 4).packets, 1);
    }

    #[test]
    fn what_the_receivers_kernel_dropped_is_no_loss_of_the_path() {
        let mut count = LossCount::default();
        count.on_drops(Time::ZERO, Duration::from_millis(1));
        lose(&mut count, 10);
        assert_eq!(count.take(Time::ZERO, 10).packets, 0);
        lose(&mut count, 2);
        let later = Time::ZERO + Duration::from_millis(4);
        assert_eq!(count.take(later, 12).packets, 2);
    }

    #[test]
    fn the_newest_lost_packet_stands_for_all() {
        let departure = |at, in_flight_bytes, lost_bytes| Departure {
            at: Time::from_nanos(at),
            in_flight_bytes,
            lost_bytes,
            ..Departure::default()
        };
        let mut count = LossCount::default();
        let mut lose = |newest, lost_bytes| {
            let lost = Lost { packets: 1, bytes: 1_000, newest: Some(newest), ..Lost::default() };
            count.on_lost(&lost, lost_bytes);
        };
        lose(departure(20, 5_000, 100), 1_100);
        lose(departure(10, 9_000, 0), 2_100);
        lose(departure(20, 6_000, 200), 3_100);
        let told = count.take(Time::ZERO, 3);
        assert_eq!((told.packets, told.bytes), (3, 3_000));
        assert_eq!(told.newest_sent_at, Time::from_nanos(20));
        assert_eq!((told.sent_in_flight_bytes, told.flight_lost_bytes), (6_000, 2_900));
        assert_eq!(count.take(Time::ZERO, 3), PathLoss::default(), "it is told once");
    }

    #[test]
    fn what_arrived_after_all_makes_room_for_no_other_loss() {
        let mut count = LossCount::default();
        lose(&mut count, 4);
        count.on_spurious(3);
        let told = count.take(Time::ZERO, 10);
        assert_eq!((told.packets, told.bytes, told.spurious_packets), (1, 1_000, 3));
        lose(&mut count, 2);
        assert_eq!(count.take(Time::ZERO, 10).packets, 2);
    }

    #[test]
    fn drops_of_the_kernel_void_what_is_found_within_three_round_trips() {
        let mut count = LossCount::default();
        count.on_drops(Time::ZERO, Duration::from_nanos(10));
        for (at, packets) in [(29, 0), (30, 1)] {
            lose(&mut count, 1);
            assert_eq!(count.take(Time::from_nanos(at), 10).packets, packets);
        }
    }
}
