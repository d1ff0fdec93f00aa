//! What a simulation is made of: transfers and receiving hosts.

use std::time::Duration;

use super::disk::DiskConfig;
use super::host::HostConfig;
use super::hostile::Hostile;
use super::preset::Path;
use super::source::SimFile;
use crate::proto::{ReceiverConfig, SenderConfig, Time};

/// One transfer: a sender, its path, and what it sends.
#[derive(Clone, Debug, Default)]
pub struct TransferPlan {
    /// Both directions.
    pub path: Path,
    /// What is sent.
    pub files: Vec<SimFile>,
    /// The machine's tunables.
    pub config: SenderConfig,
    /// Scheduling.
    pub host: HostConfig,
    /// When the sender starts.
    pub starts_at: Time,
    /// Index of the receiver it sends to.
    pub receiver: usize,
    /// Index of an earlier transfer whose links this one's packets share; its own path is not
    /// looked at then. Default none.
    pub shares_path_of: Option<usize>,
    /// What the receive buffer of the sender's socket takes, as the kernel counts. Default
    /// Linux's.
    pub socket_bytes: Option<u64>,
    /// Datagrams above this size the sender's own kernel refuses (EMSGSIZE). Default none.
    pub local_datagram_bytes: Option<usize>,
    /// The sender is killed so long after the start of its first, second, ... attempt.
    pub kills: Vec<Duration>,
    /// Whether the command is given again when it did not succeed. Default never.
    pub again: Option<Again>,
    /// When the network gives the sender another address, as a NAT does.
    pub address_changes: Vec<Time>,
    /// Somebody on the path who means harm.
    pub hostile: Option<Hostile>,
}

/// The same command again, by a person or a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// How often the command is given in all.
    pub attempts_max: u32,
    /// How long after the end of the attempt before.
    pub after: Duration,
    /// Whether it has the port of the attempt before, so that its packets are the new one's.
    pub same_port: bool,
}

/// One receiving host.
#[derive(Clone, Debug)]
pub struct ReceiverPlan {
    /// The machines' tunables, the socket's buffer among them.
    pub config: ReceiverConfig,
    /// Scheduling.
    pub host: HostConfig,
    /// What it writes to.
    pub disk: DiskConfig,
    /// Packets that may wait for the disk, for each transfer. Default 4,096.
    pub pool_packets: u64,
    /// When the process is started again.
    pub restarts: Vec<Restart>,
    /// How often unfinished files are synced. Default 60 s.
    pub sync_interval: Duration,
}

/// A receiving process that dies, and the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// When it dies.
    pub at: Time,
    /// How long until the next one listens.
    pub down: Duration,
    /// Whether the power fails: what was not synced is on the disk, or torn, or not.
    pub power_cut: bool,
}

impl Default for ReceiverPlan {
    fn default() -> ReceiverPlan {
        ReceiverPlan {
            config: ReceiverConfig::default(),
            host: HostConfig::default(),
            disk: DiskConfig::default(),
            pool_packets: 4_096,
            restarts: Vec::new(),
            sync_interval: Duration::from_secs(60),
        }
    }
}
