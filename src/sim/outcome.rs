//! What became of a simulation.

use std::time::Duration;

use super::connection::Connection;
use super::counters::Counters;
use super::link::LinkCounters;
use super::plan::TransferPlan;
use super::sending_host::SendingHost;
use super::source::{Decision, SimFile};
use super::storage::Stored;
use crate::proto::{Error, RangeSet, ReceiverEvent, ReceiverStats, SenderEvent, SenderStats, Time};
use crate::wire::limits;

/// What became of all transfers.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed it came from.
    pub seed: u64,
    /// When the last machine was over.
    pub finished_at: Time,
    /// Equal for two runs in which the same happened.
    pub trace_hash: u64,
    /// The last events, for a failed assertion of a test.
    pub trace: String,
    /// What happened to packets and processes.
    pub counters: Counters,
    /// By transfer: first the first attempt of each plan, then the later ones as they began.
    pub transfers: Vec<TransferOutcome>,
}

/// What became of one transfer.
#[derive(Clone, Debug)]
pub struct TransferOutcome {
    /// The sender's counters.
    pub sender: SenderStats,
    /// Everything the sender told.
    pub events: Vec<SenderEvent>,
    /// The receiver's counters.
    pub receiver: ReceiverStats,
    /// How the receiver's end came; none if it never began or was killed.
    pub receiver_end: Option<ReceiverEvent>,
    /// How each entry ended at the receiver.
    pub stored: Vec<Option<Stored>>,
    /// From the sender's start to its end, if it came to one.
    pub sender_time: Option<Duration>,
    /// From the sender's start to the receiver's end, if it came to one.
    pub receiver_time: Option<Duration>,
    /// Datagrams that the receiver's kernel dropped.
    pub drops: u32,
    /// The most memory each machine held, in bytes.
    pub sender_memory_bytes: usize,
    /// The same of the receiver.
    pub receiver_memory_bytes: usize,
    /// What the link to the receiver did.
    pub forward: LinkCounters,
    /// What the link back did.
    pub backward: LinkCounters,
    /// By entry: verified blocks of files that were not finished.
    pub verified: Vec<RangeSet>,
    /// The plan it was an attempt of.
    pub tree: usize,
    /// By entry: whether it has its final name when all is over.
    pub committed: Vec<bool>,
    /// Datagrams sent by type: to the receiver, to the sender.
    pub sent: [[u64; 8]; 2],
    /// Body bytes of blocks that were there when it began.
    pub kept_bytes: u64,
    /// What was to be sent.
    pub files: Vec<SimFile>,
    /// Whether nothing was to be sent but the manifest.
    pub dry_run: bool,
    /// Whether nothing of what was sent was to be stored.
    pub discard: bool,
}

impl TransferOutcome {
    pub(super) fn new(
        plan: &TransferPlan,
        sender: &SendingHost,
        connection: Connection,
        receiver: ReceiverStats,
        [forward, backward]: [LinkCounters; 2],
    ) -> TransferOutcome {
        let since_start = |at: Time| at.saturating_since(plan.starts_at);
        TransferOutcome {
            sender: sender.machine.stats(),
            events: sender.events.clone(),
            receiver,
            receiver_end: connection.ended,
            verified: (0..plan.files.len()).map(|at| connection.storage.verified(at)).collect(),
            tree: 0,
            committed: Vec::new(),
            sent: [[0; 8]; 2],
            kept_bytes: connection.storage.kept_bytes,
            stored: connection.storage.stored,
            sender_time: sender.finished_at.map(since_start),
            receiver_time: connection.finished_at.map(since_start),
            drops: connection.drops,
            sender_memory_bytes: sender.memory_bytes_max,
            receiver_memory_bytes: connection.memory_bytes_max,
            forward,
            backward,
            files: plan.files.clone(),
            dry_run: plan.config.dry_run,
            discard: plan.config.discard,
        }
    }

    /// Bytes of data in all files.
    pub fn data_bytes(&self) -> u64 {
        self.files.iter().map(SimFile::data_bytes).sum()
    }

    /// Why the sender gave up, if it did.
    pub fn sender_error(&self) -> Option<&Error> {
        self.events.iter().find_map(|event| match event {
            SenderEvent::Closed(error) => Some(error),
            _ => None,
        })
    }

    /// Why the receiver gave up, if it did.
    pub fn receiver_error(&self) -> Option<&Error> {
        match &self.receiver_end {
            Some(ReceiverEvent::Closed(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether the sender was told that all is settled.
    pub fn is_finished(&self) -> bool {
        self.events.iter().any(|event| matches!(event, SenderEvent::Finished { .. }))
    }

    /// Bytes of data per second of the sender's time.
    pub fn goodput(&self) -> f64 {
        let seconds = self.sender_time.unwrap_or(Duration::MAX).as_secs_f64();
        self.data_bytes() as f64 / seconds
    }

    /// Fewest packets that carry the data at MTU 1,500 when this share is lost.
    pub fn packets_lower_bound(&self, loss: f64) -> f64 {
        let payload = (limits::BASE_DATAGRAM_BYTES - limits::DATA_HEADER_BYTES) as u64;
        self.data_bytes().div_ceil(payload).max(1) as f64 / (1.0 - loss)
    }

    /// The sender was told that all is settled, and what it was told is what happened: every
    /// entry is committed but those whose plan says otherwise.
    pub fn assert_delivered(&self) {
        assert!(self.is_finished(), "not finished: {:?}", self.events.last());
        let mut counts = [0; 3];
        for (entry, (file, stored)) in self.files.iter().zip(&self.stored).enumerate() {
            let stored = stored.unwrap_or_else(|| panic!("entry {entry} was never settled"));
            match stored {
                Stored::Committed => counts[0] += 1,
                Stored::Present => counts[1] += 1,
                Stored::Refused(_) | Stored::Failed(_) => counts[2] += 1,
            }
            let spoiled = file.void.is_some() && file.data_bytes() > 0
                || file.changes_at.is_some()
                || file.damaged_blocks.iter().any(|damage| damage.1 > u32::from(limits::EPOCH_MAX));
            let as_planned = match (file.decision, stored) {
                (Decision::Take, Stored::Committed) => true,
                (Decision::Take, Stored::Failed(_)) => spoiled,
                (Decision::Present, Stored::Present) => true,
                (Decision::Refuse(planned), Stored::Refused(code)) => planned == code,
                (_, Stored::Committed) if self.discard => true,
                (Decision::FailCommit(_), Stored::Failed(_)) => !self.dry_run,
                (Decision::FailCommit(_), Stored::Committed) => self.dry_run,
                _ => false,
            };
            assert!(as_planned, "entry {entry} ended as {stored:?}");
        }
        let [committed, present, failed] = counts;
        let told = SenderEvent::Finished { committed, present, failed };
        assert!(self.events.contains(&told), "{told:?} was not told: {:?}", self.events.last());
    }
}

impl Outcome {
    /// The first transfer.
    pub fn first(&self) -> &TransferOutcome {
        &self.transfers[0]
    }

    /// Every transfer was delivered; see [`TransferOutcome::assert_delivered`].
    pub fn assert_delivered(&self) {
        for transfer in &self.transfers {
            transfer.assert_delivered();
        }
    }
}
