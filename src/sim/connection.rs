//! One sender as a simulated receiver's host sees it.

use std::collections::VecDeque;

use super::corruption::Corruption;
use super::sending_host::SimPacket;
use super::storage::Storage;
use crate::proto::{ReceivedRun, Receiver, ReceiverEvent, ReceiverStats, Time};

/// A datagram in a socket's queue.
#[derive(Debug)]
pub struct Queued {
    /// Where it came from.
    pub address: u64,
    /// What it carries.
    pub packet: SimPacket,
    /// What happened to it on the way.
    pub corruption: Option<Corruption>,
}

/// What a receiving process sends.
#[derive(Debug)]
pub enum Emitted {
    /// An answer to a stranger, from no transfer.
    Answer(Vec<u8>),
    /// A packet of the transfer.
    Packet(Vec<u8>),
}

/// One sender as the receiver's host sees it.
#[derive(Debug)]
pub struct Connection {
    /// The machine, once START was proven.
    pub machine: Option<Receiver>,
    /// Where its sender was when it proved itself.
    pub address: Option<u64>,
    /// What it told, except requests.
    pub ended: Option<ReceiverEvent>,
    /// When it was over.
    pub finished_at: Option<Time>,
    /// Datagrams that found the socket full.
    pub drops: u32,
    /// The most memory the machine held.
    pub memory_bytes_max: usize,
    /// What is stored.
    pub storage: Storage,
    /// The plan whose tree it stores.
    pub tree: usize,
    /// Counters of the machine that a restart took.
    pub stats: ReceiverStats,
    pub(super) socket: VecDeque<Queued>,
    pub(super) socket_charged: u64,
    /// Packets whose buffers wait for the disk.
    pub(super) held_packets: u64,
    pub(super) runs: u64,
    /// The run of body that is being gathered, and its bytes.
    pub(super) run: Option<(ReceivedRun, Vec<u8>, Option<Time>)>,
    /// The last datagram, for a splice.
    pub(super) before: Vec<u8>,
}

impl Connection {
    /// A sender of which nothing has come yet; `tree` is what it sends.
    pub fn new(storage: Storage, tree: usize) -> Connection {
        Connection {
            machine: None,
            address: None,
            ended: None,
            finished_at: None,
            drops: 0,
            memory_bytes_max: 0,
            storage,
            tree,
            stats: ReceiverStats::default(),
            socket: VecDeque::new(),
            socket_charged: 0,
            held_packets: 0,
            runs: 0,
            run: None,
            before: Vec::new(),
        }
    }

    /// Whether a machine runs that is not over.
    pub fn is_live(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| !machine.is_closed())
    }

    /// Its process is gone.
    pub fn forget(&mut self) {
        if let Some(machine) = self.machine.take() {
            self.stats = machine.stats();
        }
        self.address = None;
        self.finished_at = None;
        self.socket.clear();
        self.socket_charged = 0;
        self.held_packets = 0;
        self.run = None;
        if self.ended.is_none() {
            self.storage.forget();
        }
    }
}
