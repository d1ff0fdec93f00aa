//! The receiving half: merged datagrams, plain batches, or one at a time, chosen by what the path
//! merges.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::{Offload, ReceiveOutcome};
use crate::io::buffer::{Arrival, Buffer, RECEIVE_BYTES};
use crate::io::sys;
use crate::io::sys::message::{
    MESSAGES_MAX, Message, receive_message, receive_messages, receive_payloads,
};

/// Receives in which merging is judged.
pub(super) const TRIAL_RECEIVES: u32 = 256;

/// Batches after which merging is tried again: some hundred thousand datagrams.
pub(super) const BATCHES_PER_TRIAL: u32 = 4_096;

/// Room for one datagram in a batch, at first: above the usual MTU of 1,500.
const SLOT_BYTES_MIN: usize = 2_048;

/// The receiving half of a socket's state.
#[derive(Debug)]
pub struct Receiving {
    mode: ReceiveMode,
    /// Whether the kernel can merge, and may.
    merges: bool,
    /// The room of one datagram in a batch: the largest so far.
    slot_bytes: usize,
    /// Our own port, which completes the addresses that datagrams were sent to.
    port: u16,
    /// The only peer, of a connected socket.
    peer: Option<SocketAddr>,
    /// Whatever comes is from that peer: what came before the socket was connected is taken.
    only_peer: bool,
    cut: u64,
}

/// How the next receive is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReceiveMode {
    /// UDP_GRO is on: one message of merged datagrams a call. Counts what it brings.
    Merged(Trial),
    /// UDP_GRO is off: many messages a call.
    Batched { batches: u32 },
    /// UDP_GRO is off: one message a call.
    Single,
}

/// What a trial of merging has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trial {
    receives: u32,
    datagrams: u32,
    /// Looks at an empty socket.
    empties: u32,
}

impl Trial {
    /// Whether the trial is over and batches are better: hardly anything merges although several
    /// receives in a row find something. (Where every receive empties the socket, a batch would
    /// hold one datagram as well.)
    fn speaks_for_batches(&self) -> bool {
        self.receives >= TRIAL_RECEIVES
            && self.datagrams * 2 < self.receives * 3
            && self.empties * 4 < self.receives
    }
}

impl Receiving {
    /// Sets the socket `fd`, bound to `port` and perhaps connected to `peer`, up for receiving by
    /// `offload` or what is below it.
    pub fn new(
        fd: BorrowedFd<'_>,
        offload: Offload,
        port: u16,
        peer: Option<SocketAddr>,
    ) -> Receiving {
        let merges = offload == Offload::Segmentation && set_merging(fd, true).is_ok();
        let mode = match offload {
            _ if merges => ReceiveMode::Merged(Trial::default()),
            Offload::Segmentation | Offload::Batch => ReceiveMode::Batched { batches: 0 },
            Offload::Single => ReceiveMode::Single,
        };
        let only_peer = false;
        Receiving { mode, merges, slot_bytes: SLOT_BYTES_MIN, port, peer, only_peer, cut: 0 }
    }

    /// The means in use at the moment; changes with what the path merges.
    pub fn offload(&self) -> Offload {
        match self.mode {
            ReceiveMode::Merged(_) => Offload::Segmentation,
            ReceiveMode::Batched { .. } => Offload::Batch,
            ReceiveMode::Single => Offload::Single,
        }
    }

    /// Datagrams lost here since the start, because they were longer than any before.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Fills `buffer` by one system call.
    pub fn receive(&mut self, fd: BorrowedFd<'_>, buffer: &mut Buffer) -> ReceiveOutcome {
        if !buffer.has_room() {
            return ReceiveOutcome::Full;
        }
        let listed = buffer.arrivals().len();
        let result = match self.mode {
            ReceiveMode::Merged(_) | ReceiveMode::Single => self.receive_one(fd, buffer),
            ReceiveMode::Batched { .. } => self.receive_batch(fd, buffer),
        };
        let datagrams = buffer.arrivals()[listed..]
            .iter()
            .map(|arrival| arrival.length.div_ceil(arrival.segment_bytes))
            .sum();
        let empty = result == Err(Errno::AGAIN);
        self.only_peer |= empty;
        self.choose_mode(fd, datagrams, empty);
        match result {
            Ok(()) => ReceiveOutcome::Received { datagrams },
            Err(Errno::AGAIN | Errno::INTR) => ReceiveOutcome::Empty,
            Err(Errno::CONNREFUSED) => ReceiveOutcome::Refused,
            Err(errno) => ReceiveOutcome::Failed { errno },
        }
    }

    fn receive_one(&mut self, fd: BorrowedFd<'_>, buffer: &mut Buffer) -> Result<(), Errno> {
        let start = buffer.filled();
        let room = buffer.unused().len();
        let message = receive_message(fd, buffer.unused())?;
        self.note(buffer, start, room, message);
        Ok(())
    }

    fn receive_batch(&mut self, fd: BorrowedFd<'_>, buffer: &mut Buffer) -> Result<(), Errno> {
        let start = buffer.filled();
        let slot_bytes = self.slot_bytes;
        let slots = buffer.arrivals_left();
        let room = buffer.unused();
        let room_bytes = room.len().min(slots * slot_bytes);
        if let Some(peer) = self.peer.filter(|_| self.only_peer) {
            let mut lengths = [0; MESSAGES_MAX];
            let received = receive_payloads(fd, &mut room[..room_bytes], slot_bytes, &mut lengths)?;
            for (slot, &length) in lengths.iter().take(received).enumerate() {
                let message = Message { length, segment_bytes: None, from: Some(peer), to: None };
                self.note(buffer, start + slot * slot_bytes, slot_bytes, message);
            }
            return Ok(());
        }
        let mut found = [None; MESSAGES_MAX];
        receive_messages(fd, &mut room[..room_bytes], slot_bytes, |slot, message| {
            found[slot] = Some(message);
        })?;
        for (slot, message) in found.into_iter().flatten().enumerate() {
            self.note(buffer, start + slot * slot_bytes, slot_bytes, message);
        }
        Ok(())
    }

    /// Lists `message`, which begins at `start` and was given `room` bytes, in the buffer. One
    /// that was cut is lost, but the next one of its size finds a larger slot.
    fn note(&mut self, buffer: &mut Buffer, start: usize, room: usize, message: Message) {
        let segment_bytes = message.segment_bytes.unwrap_or(message.length);
        let largest = segment_bytes.next_multiple_of(64).clamp(SLOT_BYTES_MIN, RECEIVE_BYTES);
        self.slot_bytes = self.slot_bytes.max(largest);
        if message.length > room {
            self.cut += 1;
            return;
        }
        let Some(from) = message.from else { return };
        buffer.push(Arrival {
            start,
            length: message.length,
            segment_bytes: segment_bytes.max(1),
            from,
            to: message.to.map(|(address, scope)| local_address(address, self.port, scope)),
        });
    }

    /// Goes from merging to batches where nothing is merged, and back now and then to look.
    fn choose_mode(&mut self, fd: BorrowedFd<'_>, datagrams: usize, empty: bool) {
        match &mut self.mode {
            ReceiveMode::Merged(trial) if empty => {
                trial.empties += 1;
                // Only with an empty queue: what was merged before would come without its
                // segment size once merging is off.
                if trial.speaks_for_batches() && set_merging(fd, false).is_ok() {
                    self.mode = ReceiveMode::Batched { batches: 0 };
                }
            }
            ReceiveMode::Merged(trial) => {
                if trial.receives >= 2 * TRIAL_RECEIVES {
                    *trial = Trial::default();
                }
                trial.receives += 1;
                trial.datagrams += u32::try_from(datagrams).unwrap_or(u32::MAX);
            }
            ReceiveMode::Batched { batches } if self.merges && !empty => {
                *batches += 1;
                if *batches >= BATCHES_PER_TRIAL && set_merging(fd, true).is_ok() {
                    self.mode = ReceiveMode::Merged(Trial::default());
                }
            }
            ReceiveMode::Batched { .. } | ReceiveMode::Single => {}
        }
    }
}

/// Whether the kernel may merge datagrams on their way to this socket.
fn set_merging(fd: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    sys::set_option(fd, libc::SOL_UDP, libc::UDP_GRO, i32::from(on))
}

/// `address` with `port`, and with the interface where the address means nothing without it.
fn local_address(address: IpAddr, port: u16, interface: u32) -> SocketAddr {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, port, 0, interface).into()
        }
        address => SocketAddr::new(address, port),
    }
}
