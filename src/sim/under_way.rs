//! Packets that have left the link and not arrived, in the order in which they will.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use super::link::Delivery;
use crate::proto::Time;

/// Deliveries to come, in order of their time and then of their scheduling.
///
/// Most packets arrive in the order in which they were sent: a ring holds these, and only what
/// is out of order pays for a heap.
#[derive(Debug)]
pub struct UnderWay<P> {
    in_order: VecDeque<Scheduled<P>>,
    apart: BinaryHeap<Reverse<Scheduled<P>>>,
    scheduled: u64,
}

impl<P> UnderWay<P> {
    /// Nothing is under way.
    pub fn new() -> UnderWay<P> {
        UnderWay { in_order: VecDeque::new(), apart: BinaryHeap::new(), scheduled: 0 }
    }

    /// One more, most likely behind all others.
    pub fn push(&mut self, delivery: Delivery<P>) {
        if self.in_order.back().is_some_and(|last| last.delivery.at > delivery.at) {
            return self.push_apart(delivery);
        }
        let scheduled = self.number(delivery);
        self.in_order.push_back(scheduled);
    }

    /// For what arrives later than its successors: at the end of the ring it would drive all of
    /// them into the heap.
    pub fn push_apart(&mut self, delivery: Delivery<P>) {
        let scheduled = self.number(delivery);
        self.apart.push(Reverse(scheduled));
    }

    fn number(&mut self, delivery: Delivery<P>) -> Scheduled<P> {
        self.scheduled += 1;
        Scheduled { delivery, turn: self.scheduled }
    }

    /// The time of the next delivery, and whether it is in the heap.
    pub fn next(&self) -> Option<(Time, bool)> {
        match (self.in_order.front(), self.apart.peek()) {
            (Some(ring), Some(Reverse(heap))) if heap < ring => Some((heap.delivery.at, true)),
            (Some(ring), _) => Some((ring.delivery.at, false)),
            (None, heap) => heap.map(|Reverse(heap)| (heap.delivery.at, true)),
        }
    }

    /// The next delivery that is due.
    pub fn pop_until(&mut self, now: Time) -> Option<Delivery<P>> {
        let (_, is_apart) = self.next().filter(|&(at, _)| at <= now)?;
        let scheduled = if is_apart {
            self.apart.pop().map(|Reverse(scheduled)| scheduled)
        } else {
            self.in_order.pop_front()
        };
        scheduled.map(|scheduled| scheduled.delivery)
    }
}

/// A delivery to come and the order in which it was scheduled.
#[derive(Debug)]
struct Scheduled<P> {
    delivery: Delivery<P>,
    turn: u64,
}

impl<P> Scheduled<P> {
    fn key(&self) -> (Time, u64) {
        (self.delivery.at, self.turn)
    }
}

impl<P> PartialEq for Scheduled<P> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<P> Eq for Scheduled<P> {}

impl<P> PartialOrd for Scheduled<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> Ord for Scheduled<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}
