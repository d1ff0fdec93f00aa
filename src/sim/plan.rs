//! What a simulation is made of: transfers and receiving hosts.

use super::disk::DiskConfig;
use super::host::HostConfig;
use super::preset::Path;
use super::source::SimFile;
use crate::proto::{ReceiverConfig, SenderConfig, Time};

/// One transfer: a sender, its path, and what it sends.
#[derive(Clone, Debug)]
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
}

impl Default for ReceiverPlan {
    fn default() -> ReceiverPlan {
        ReceiverPlan {
            config: ReceiverConfig::default(),
            host: HostConfig::default(),
            disk: DiskConfig::default(),
            pool_packets: 4_096,
        }
    }
}
