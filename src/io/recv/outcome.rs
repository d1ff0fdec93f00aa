//! How a receiving transfer ended, as report and error.

use super::transfer::Transfer;
use crate::io::batch::Offload;
use crate::io::report::{Limit, Names, Operation, Outcome, Report, Verified};
use crate::io::socket::SocketError;
use crate::proto::{self, ReceiverStats};
use crate::wire::{CloseCode, DigestAlgorithm, limits};

/// Why a transfer, or the receiver itself, did not do all that was asked.
#[derive(Debug, thiserror::Error)]
pub enum RecvError {
    /// No socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The operating system refused something small.
    #[error("the system refused a resource: {0}")]
    System(#[from] std::io::Error),
    /// The transfer ended before its end.
    #[error(transparent)]
    Ended(proto::Error),
    /// A signal ended it.
    #[error("interrupted")]
    Interrupted,
    /// Some entries were stored, others not; the report names those.
    #[error("{failed} entries were not committed")]
    Partial {
        /// How many.
        failed: u64,
    },
    /// Nothing was stored.
    #[error("nothing could be stored")]
    Refused,
    /// The sender could read nothing of it.
    #[error("the sender could read nothing")]
    Source,
    /// A file kept arriving different.
    #[error("a file kept arriving different from what was sent")]
    Integrity,
}

impl RecvError {
    /// The kind of end this is.
    pub fn outcome(&self) -> Outcome {
        match self {
            RecvError::Socket(_) | RecvError::System(_) => Outcome::Failed,
            RecvError::Interrupted => Outcome::Interrupted,
            RecvError::Partial { .. } => Outcome::Partial,
            RecvError::Refused => Outcome::LocalFile,
            RecvError::Source => Outcome::RemoteFile,
            RecvError::Integrity => Outcome::Integrity,
            RecvError::Ended(error) => match error {
                proto::Error::Silence { .. }
                | proto::Error::Cancelled { code: CloseCode::Timeout }
                | proto::Error::NoAnswer { .. }
                | proto::Error::Forgotten => Outcome::Unreachable,
                proto::Error::ClosedByPeer { code: CloseCode::Cancelled, .. } => {
                    Outcome::Unreachable
                }
                proto::Error::Integrity => Outcome::Integrity,
                proto::Error::ClosedByPeer { .. }
                | proto::Error::Protocol { .. }
                | proto::Error::Cancelled { .. } => Outcome::Failed,
            },
        }
    }
}

/// What a transfer came to, for the report.
#[derive(Debug, Default)]
pub struct Tally {
    /// Files and links committed.
    pub committed: u64,
    /// Bytes of them.
    pub committed_bytes: u64,
    /// Files and links that were there already.
    pub present: u64,
    /// Files and links that were not stored, because something different is kept.
    pub kept: u64,
    /// Directories made.
    pub directories_committed: u64,
    /// Directories that were there already.
    pub directories_present: u64,
    /// Whether anything but directories was announced.
    pub has_files: bool,
    /// Entries that were not stored, and why.
    pub failed: Names,
    /// Entries that became otherwise than announced, and how.
    pub notes: Names,
    /// Of these, blocks that kept differing.
    pub integrity_failures: u64,
    /// Entries that the sender could not read.
    pub source_failures: u64,
}

/// The report of a transfer that is over, and why it was no success. `headers` are the bytes of
/// IP and UDP in front of each datagram.
pub fn report_of(
    transfer: &mut Transfer,
    now: proto::Time,
    interrupted: bool,
) -> (Report, Result<(), RecvError>) {
    let stats = transfer.stats();
    let tally = &mut transfer.tally;
    let headers: u64 = if transfer.peer.is_ipv4() { 28 } else { 48 };
    let mut report = Report::new(Operation::Recv);
    report.peer = Some(transfer.peer.to_string());
    report.files = tally.committed;
    report.directories = tally.directories_committed;
    report.bytes = tally.committed_bytes;
    report.resumed_bytes = stats.body_bytes_kept;
    report.already_there = tally.present;
    report.kept = tally.kept;
    (report.failed, report.failed_total) = tally.failed.take();
    (report.notes, report.notes_total) = tally.notes.take();
    let ended = transfer.ended.unwrap_or(now);
    report.set_seconds(ended.saturating_since(transfer.started).as_secs_f64());
    report.acks = stats.acks;
    report.mtu = u32::try_from(stats.datagram_bytes_max as u64 + headers).ok();
    report.gso = Some(transfer.socket.receive_offload() == Offload::Segmentation);
    report.receiver_drops = Some(u64::from(stats.drops));
    fill_packets(&mut report, &stats, headers);
    report.overhead.ack_bytes = Some(stats.datagram_bytes_sent + stats.packets_sent * headers);
    if tally.committed + tally.directories_committed > 0 && !transfer.receiver.is_dry_run() {
        report.verified = Some(match transfer.receiver.digest_algorithm() {
            DigestAlgorithm::None => Verified::Crc,
            DigestAlgorithm::Xxh3 | DigestAlgorithm::Blake3 => Verified::Digest,
        });
        report.limited_by = Some(match limited_by(&stats, report.seconds) {
            // What is dropped meets no disk, only the thread that drops it.
            Limit::ReceiverDisk if transfer.visit.is_some() => Limit::ReceiverBuffer,
            limit => limit,
        });
    }
    let failed = u64::from(stats.failed);
    // Directories that were made for files which all failed are nothing done.
    let done = match tally.has_files {
        true => tally.committed + tally.present + tally.kept,
        false => tally.directories_committed + tally.directories_present,
    };
    let result = match &transfer.error {
        _ if interrupted => Err(RecvError::Interrupted),
        Some(error) => Err(RecvError::Ended(error.clone())),
        None if failed == 0 => Ok(()),
        None if tally.integrity_failures > 0 => Err(RecvError::Integrity),
        None if done > 0 => Err(RecvError::Partial { failed }),
        None if tally.source_failures > 0 => Err(RecvError::Source),
        None => Err(RecvError::Refused),
    };
    report.result = match &result {
        Ok(()) if transfer.receiver.is_dry_run() => Outcome::Listed,
        Ok(()) if transfer.visit.is_some() => Outcome::Measured,
        Ok(()) => Outcome::Committed,
        Err(error) => error.outcome(),
    };
    (report, result)
}

/// What this end knows of the sender's packets: numbers that never came were lost, and what they
/// carried was sent again; so were bytes that had come before.
fn fill_packets(report: &mut Report, stats: &ReceiverStats, headers: u64) {
    let lost = stats.packets_numbered.saturating_sub(stats.packets_received);
    let payload = (stats.datagram_bytes_max.saturating_sub(limits::DATA_HEADER_BYTES)).max(1);
    let again = stats.body_bytes_again;
    report.packets.sent = Some(stats.packets_numbered);
    report.packets.body_bytes = Some(stats.body_bytes_received);
    report.packets.lost = Some(lost);
    report.packets.resent = Some(lost + again.div_ceil(payload as u64));
    report.overhead.header_bytes = Some(
        stats
            .datagram_bytes_received
            .saturating_sub(stats.body_bytes_received)
            .saturating_sub(stats.filling_bytes_received)
            + stats.packets_received * headers,
    );
}

/// The party that held the transfer longest. What is not of this end's making it cannot tell apart.
fn limited_by(stats: &ReceiverStats, seconds: f64) -> Limit {
    let (socket, disk) = (stats.held_by_socket.as_secs_f64(), stats.held_by_disk.as_secs_f64());
    let elsewhere = seconds - socket - disk;
    if disk >= socket && disk >= elsewhere {
        Limit::ReceiverDisk
    } else if socket >= elsewhere {
        Limit::ReceiverBuffer
    } else {
        Limit::SenderOrNetwork
    }
}
