//! How a sending transfer ended: collects what happened, then says it as report and error.

use super::outgoing::Outgoing;
use crate::io::metadata::special_bits;
use crate::io::report::{self, Limit, Names, Report, Verified};
use crate::io::socket::SocketError;
use crate::io::source::{EntryKind, PathError, SourceEntry, SourceError};
use crate::io::walk::{SkipReason, Skipped};
use crate::proto::{self, Held, Outcome, SenderStats, Time};
use crate::wire::{CloseCode, DigestAlgorithm, RefuseCode};

/// Why not everything is committed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A PATH cannot be sent as it was given.
    #[error(transparent)]
    Path(PathError),
    /// The host has no address.
    #[error("the host has no address")]
    NoAddress,
    /// No socket.
    #[error(transparent)]
    Socket(SocketError),
    /// The operating system refused something small: a thread, an event, random bytes.
    #[error("the system refused a resource: {0}")]
    System(std::io::Error),
    /// The transfer ended before its end.
    #[error(transparent)]
    Ended(proto::Error),
    /// A signal ended it.
    #[error("interrupted")]
    Interrupted,
    /// Some files were committed or there already, others failed; the report names those.
    #[error("{failed} of {announced} were not committed")]
    Partial {
        /// How many failed.
        failed: u64,
        /// How many were announced.
        announced: u64,
    },
    /// Nothing was committed: the sources could not be read, or are of no kind that is sent.
    #[error("nothing of it can be sent")]
    Source,
    /// Nothing was committed: the receiver could not store it.
    #[error("the receiver stored nothing")]
    Refused,
    /// A file kept arriving different.
    #[error("a file kept arriving different from what was sent")]
    Integrity,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Ending {
    /// A signal came.
    pub interrupted: bool,
    /// What is left out on purpose, and why.
    skipped: Names,
    failed: Names,
    notes: Names,
    local_failures: u64,
    integrity_failures: u64,
    announced: u64,
    /// Of the above, directories.
    announced_directories: u64,
    files: Ended,
    directories: Ended,
    committed_bytes: u64,
    /// Bytes that an interrupted transfer has left at the receiver.
    pub resumed_bytes: u64,
    started: Option<Time>,
    ended: Option<Time>,
    error: Option<proto::Error>,
}

/// Entries that ended well.
#[derive(Debug, Default)]
struct Ended {
    committed: u64,
    present: u64,
    kept: u64,
    listed: u64,
}

impl Ended {
    fn total(&self) -> u64 {
        self.committed + self.present + self.kept + self.listed
    }
}

impl Ending {
    /// The receiver answered.
    pub fn connected(&mut self, now: Time) {
        self.started = Some(now);
    }

    /// An entry was announced.
    pub fn announced(&mut self, entry: &SourceEntry) {
        self.announced += 1;
        self.announced_directories += u64::from(entry.kind == EntryKind::Directory);
        if entry.attributes.owner.is_none()
            && let Some(bits) = special_bits(entry.mode)
            && matches!(entry.kind, EntryKind::File { .. } | EntryKind::Directory)
        {
            self.notes.push(entry.name.as_bytes(), format!("{bits} not kept"));
        }
    }

    /// An entry ended well.
    pub fn settled(&mut self, outgoing: &Outgoing, outcome: Outcome) {
        let ended = match outgoing.source.kind {
            EntryKind::Directory => &mut self.directories,
            EntryKind::File { .. }
            | EntryKind::Pipe
            | EntryKind::Link { .. }
            | EntryKind::HardLink { .. } => &mut self.files,
        };
        match outcome {
            Outcome::Present => ended.present += 1,
            Outcome::Kept => ended.kept += 1,
            Outcome::WouldStore => ended.listed += 1,
            Outcome::Committed => {
                ended.committed += 1;
                self.committed_bytes += outgoing.body.end - outgoing.body.start;
            }
        }
    }

    /// The receiver did not store an entry.
    pub fn failed(&mut self, outgoing: &Outgoing, code: RefuseCode, text: &str) {
        if outgoing.is_void {
            // Named already, with our own reason.
            return;
        }
        if code == RefuseCode::Changed {
            self.integrity_failures += 1;
        }
        let reason = if text.is_empty() { code.to_string() } else { text.to_owned() };
        self.failed.push(outgoing.source.name.as_bytes(), reason);
    }

    /// An entry of ours could not be read.
    pub fn unreadable(&mut self, name: &[u8], error: &SourceError) {
        self.local_failures += 1;
        self.failed.push(name, error.to_string());
    }

    /// Something was not announced. What was left out on purpose fails nothing; what should have
    /// been sent and could not be read does.
    pub fn skipped(&mut self, skipped: &Skipped) {
        let reason = skipped.reason.to_string();
        match &skipped.reason {
            SkipReason::Special(_) | SkipReason::LinkLeavesTree => {
                self.skipped.push(&skipped.name, reason);
            }
            SkipReason::Unreadable(_)
            | SkipReason::Attributes(_)
            | SkipReason::Name(_)
            | SkipReason::Vanished => {
                self.announced += 1;
                self.local_failures += 1;
                self.failed.push(&skipped.name, reason);
            }
        }
    }

    /// Everything is settled.
    pub fn finished(&mut self, now: Time) {
        self.ended = Some(now);
    }

    /// It ended before that.
    pub fn closed(&mut self, now: Time, error: proto::Error) {
        self.ended = Some(now);
        self.error = Some(error);
    }

    /// Writes everything known into the report.
    pub fn fill(
        &mut self,
        report: &mut Report,
        stats: &SenderStats,
        headers: u64,
        digest: DigestAlgorithm,
    ) {
        report.files = self.files.committed;
        report.directories = self.directories.committed;
        report.bytes = self.committed_bytes;
        report.resumed_bytes = self.resumed_bytes;
        report.already_there = self.files.present;
        report.kept = self.files.kept;
        (report.failed, report.failed_total) = self.failed.take();
        (report.skipped, report.skipped_total) = self.skipped.take();
        (report.notes, report.notes_total) = self.notes.take();
        let span = match (self.started, self.ended) {
            (Some(started), Some(ended)) => ended.saturating_since(started).as_secs_f64(),
            _ => 0.0,
        };
        report.set_seconds(span);
        report.packets.sent = Some(stats.packets_sent);
        report.packets.resent = Some(stats.packets_resent);
        report.packets.lost = Some(stats.packets_lost);
        report.packets.spurious = Some(stats.packets_spurious);
        report.packets.body_bytes = Some(stats.body_bytes_sent);
        report.acks = stats.acks;
        report.rtt_us = u64::try_from(stats.smoothed_rtt.as_micros()).ok();
        report.mtu = u32::try_from(stats.datagram_bytes as u64 + headers).ok();
        report.receiver_drops = Some(stats.receiver_drops);
        report.overhead.header_bytes = Some(
            stats
                .datagram_bytes_sent
                .saturating_sub(stats.body_bytes_sent)
                .saturating_sub(stats.filling_bytes_sent)
                + stats.packets_sent * headers,
        );
        report.overhead.ack_bytes =
            Some(stats.datagram_bytes_received + stats.packets_received * headers);
        if self.files.committed + self.directories.committed > 0 {
            report.verified = Some(match digest {
                DigestAlgorithm::None => Verified::Crc,
                DigestAlgorithm::Xxh3 | DigestAlgorithm::Blake3 => Verified::Digest,
            });
            report.limited_by = limited_by(stats);
        }
    }

    /// The error that stands for all of this, if any.
    pub fn result(&mut self, report: &mut Report) -> Result<(), SendError> {
        // Directories that were made for files which all failed are nothing done.
        let done = match self.announced > self.announced_directories {
            true => self.files.total(),
            false => self.directories.total(),
        };
        let result = match self.error.take() {
            _ if self.interrupted => Err(SendError::Interrupted),
            Some(error) => Err(SendError::Ended(error)),
            // Whoever names nothing but what is left out does not expect success.
            None if self.announced == 0 && report.skipped_total > 0 => Err(SendError::Source),
            None if self.ended.is_none() => {
                Err(SendError::Ended(proto::Error::Cancelled { code: CloseCode::Internal }))
            }
            None if self.failed.total() == 0 => Ok(()),
            None if self.integrity_failures > 0 => Err(SendError::Integrity),
            None if done > 0 => {
                Err(SendError::Partial { failed: self.failed.total(), announced: self.announced })
            }
            None if self.local_failures > 0 => Err(SendError::Source),
            None => Err(SendError::Refused),
        };
        report.result = match &result {
            Ok(()) if self.files.listed + self.directories.listed > 0 => report::Outcome::Listed,
            Ok(()) => report::Outcome::Committed,
            Err(error) => error.outcome(),
        };
        result
    }
}

impl SendError {
    /// The kind of end this is.
    pub fn outcome(&self) -> report::Outcome {
        match self {
            SendError::Path(PathError::Io { .. }) | SendError::Source => report::Outcome::LocalFile,
            SendError::Path(_) => report::Outcome::Usage,
            SendError::NoAddress => report::Outcome::Unreachable,
            SendError::Socket(_) | SendError::System(_) => report::Outcome::Failed,
            SendError::Interrupted => report::Outcome::Interrupted,
            SendError::Partial { .. } => report::Outcome::Partial,
            SendError::Refused => report::Outcome::RemoteFile,
            SendError::Integrity => report::Outcome::Integrity,
            SendError::Ended(error) => match error {
                proto::Error::NoAnswer { .. }
                | proto::Error::Silence { .. }
                | proto::Error::Forgotten => report::Outcome::Unreachable,
                proto::Error::ClosedByPeer { code, .. } => match code {
                    CloseCode::Forbidden | CloseCode::Mode => report::Outcome::NotAllowed,
                    CloseCode::Disk => report::Outcome::RemoteFile,
                    CloseCode::Integrity => report::Outcome::Integrity,
                    CloseCode::Timeout => report::Outcome::Unreachable,
                    CloseCode::Cancelled => report::Outcome::Unreachable,
                    _ => report::Outcome::Failed,
                },
                proto::Error::Integrity => report::Outcome::Integrity,
                proto::Error::Protocol { .. } | proto::Error::Cancelled { .. } => {
                    report::Outcome::Failed
                }
            },
        }
    }
}

/// The party that held the transfer longest.
fn limited_by(stats: &SenderStats) -> Option<Limit> {
    let parties = [
        (Held::Nothing, Limit::SenderCpu),
        (Held::Source, Limit::SourceDisk),
        (Held::Network, Limit::Network),
        (Held::RateCap, Limit::RateCap),
        (Held::ReceiverSocket, Limit::ReceiverBuffer),
        (Held::ReceiverDisk, Limit::ReceiverDisk),
        (Held::Settling, Limit::ReceiverDisk),
    ];
    let longest = parties.into_iter().max_by_key(|(held, _)| stats.held.get(*held))?;
    (!stats.held.get(longest.0).is_zero()).then_some(longest.1)
}
