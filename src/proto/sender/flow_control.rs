//! Credit: what the receiver allows, beside congestion control (proto.md, "Credit").

use crate::wire::{Ack, Limit, PacketNumber, limits};

/// The receiver's limits as far as they are known. They never retreat.
#[derive(Debug)]
pub struct FlowControl {
    max_number: PacketNumber,
    datagram_bytes: u64,
    max_body: u64,
    limit: Limit,
}

impl FlowControl {
    /// The first credit: `credit` packets from `first` on, of the base size.
    pub fn new(first: PacketNumber, credit: u32) -> FlowControl {
        FlowControl {
            max_number: PacketNumber(first.0 + u64::from(credit.max(1)) - 1),
            datagram_bytes: limits::BASE_DATAGRAM_BYTES as u64,
            max_body: limits::FIRST_BODY_BYTES,
            limit: Limit::Nothing,
        }
    }

    /// Takes the limits of an ACK.
    pub fn on_ack(&mut self, ack: &Ack<'_>) {
        if ack.max_number >= self.max_number {
            self.max_number = ack.max_number;
            self.limit = ack.limit;
        }
        self.datagram_bytes = self.datagram_bytes.max(u64::from(ack.datagram_bytes));
        self.max_body = self.max_body.max(ack.max_body);
    }

    /// How many packets may be sent from `next` on.
    pub fn packets_left(&self, next: PacketNumber) -> u64 {
        // The last number of all may be granted, but has no successor.
        self.max_number.next().0.saturating_sub(next.0)
    }

    /// Largest datagram that the packet credit holds for.
    pub fn datagram_bytes(&self) -> u64 {
        self.datagram_bytes
    }

    /// Body bytes at this offset and above must not be sent.
    pub fn max_body(&self) -> u64 {
        self.max_body
    }

    /// What bounds the receiver's credit.
    pub fn limit(&self) -> Limit {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_of_all_numbers_is_taken_as_it_is() {
        let mut flow = FlowControl::new(PacketNumber(5), 10);
        assert_eq!(flow.packets_left(PacketNumber(7)), 8);
        flow.max_number = PacketNumber(u64::MAX);
        assert_eq!(flow.packets_left(PacketNumber(7)), u64::MAX - 7);
    }
}
