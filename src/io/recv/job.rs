//! What the network thread asks of a transfer's writing thread, and what that one answers.

use std::sync::Arc;

use crate::io::buffer::Buffer;
use crate::io::confine::FileError;
use crate::io::files::Committed;
use crate::io::name::{Escaped, RelativePath};
use crate::io::tree::Made;
use crate::proto::{ReceivedEntry, Receiver};
use crate::wire::{Digest, EntryKind, RefuseCode, VoidReason};

/// One batch of work, to be done in order.
#[derive(Debug)]
pub struct Job {
    /// Where the bytes of the writes stand. Returns to its pool when the job is done.
    pub buffer: Arc<Buffer>,
    /// Pieces of the buffer: start and length.
    pub pieces: Vec<(u32, u32)>,
    /// What to do.
    pub actions: Vec<Action>,
}

impl Job {
    /// A job of what is in both lists, which are left with room for as much: the next one is
    /// about as large.
    pub fn taking(
        buffer: Arc<Buffer>,
        pieces: &mut Vec<(u32, u32)>,
        actions: &mut Vec<Action>,
    ) -> Job {
        let next_pieces = Vec::with_capacity(pieces.len());
        let next_actions = Vec::with_capacity(actions.len());
        Job {
            buffer,
            pieces: std::mem::replace(pieces, next_pieces),
            actions: std::mem::replace(actions, next_actions),
        }
    }
}

/// One step of a job.
#[derive(Debug)]
pub enum Action {
    /// The next entry: look whether it is there; make it, if it is a directory or a link.
    Entry(ReceivedEntry),
    /// A range of a file has no data.
    Hole {
        /// Which file.
        entry: u32,
        /// Where.
        offset: u64,
        /// How long.
        bytes: u64,
    },
    /// A file of unknown size goes on.
    More {
        /// Which file.
        entry: u32,
        /// For how many bytes.
        bytes: u64,
    },
    /// Write pieces of the buffer, one behind the other.
    Write {
        /// To which file.
        entry: u32,
        /// At which offset.
        offset: u64,
        /// The first of `Job::pieces`.
        first_piece: usize,
        /// How many of them.
        pieces: usize,
        /// How many bytes they have together.
        bytes: u64,
    },
    /// Compare a block with its digest.
    Verify {
        /// Of which file.
        entry: u32,
        /// Which block.
        block: u32,
        /// What it must be.
        digest: Digest,
    },
    /// Commit a file.
    Commit {
        /// Which file.
        entry: u32,
    },
    /// Give a file up.
    Abandon {
        /// Which file.
        entry: u32,
        /// Why.
        code: RefuseCode,
        /// The sender's reason, if it was the sender's.
        reason: Option<VoidReason>,
    },
    /// All entries are settled: finish directories.
    Finish,
}

impl Action {
    /// What becomes of it where nothing is stored: all is well as soon as it has arrived.
    pub fn discarded(&self) -> Option<Done> {
        match *self {
            Action::Entry(ref entry) => match entry.kind {
                EntryKind::File | EntryKind::Pipe => None,
                EntryKind::Directory | EntryKind::Symlink | EntryKind::HardLink => {
                    Some(Done::Committed(entry.entry))
                }
            },
            Action::Hole { .. } | Action::More { .. } => None,
            Action::Write { bytes, .. } => Some(Done::Written(bytes)),
            Action::Verify { entry, block, .. } => Some(Done::Verified(entry, block)),
            Action::Commit { entry } => Some(Done::Committed(entry)),
            Action::Abandon { entry, code, .. } => Some(Done::Failed(entry, code, String::new())),
            Action::Finish => Some(Done::Finished),
        }
    }
}

/// What became of it.
#[derive(Debug)]
pub enum Done {
    /// So many bytes are in files.
    Written(u64),
    /// The body up to here was handed on in order.
    HandedOn(u64),
    /// The entry was there already.
    Present(u32),
    /// Something different has the entry's name and is kept.
    Kept(u32),
    /// Blocks of the entry are there from an interrupted transfer: the first, and how many.
    Have(u32, u32, u32),
    /// The entry will not be stored.
    Refused(u32, RefuseCode, String),
    /// The entry is committed.
    Committed(u32),
    /// The entry was taken and failed.
    Failed(u32, RefuseCode, String),
    /// What is at this path became otherwise than announced, and how.
    Note(Vec<u8>, String),
    /// A block is as announced.
    Verified(u32, u32),
    /// A block differs.
    Differs(u32, u32),
    /// Directories are finished.
    Finished,
}

impl Done {
    /// Tells the machine.
    pub fn tell(&self, receiver: &mut Receiver, now: crate::proto::Time) {
        match self {
            Done::Written(bytes) => receiver.on_written(*bytes),
            Done::HandedOn(offset) => receiver.set_handed_on(*offset),
            Done::Note(..) => {}
            Done::Have(entry, first, blocks) => receiver.blocks_kept(*entry, *first, *blocks),
            Done::Present(entry) => receiver.entry_present(*entry),
            Done::Kept(entry) => receiver.entry_kept(*entry),
            Done::Refused(entry, code, text) => receiver.entry_refused(*entry, *code, text),
            Done::Committed(entry) => receiver.entry_committed(*entry),
            Done::Failed(entry, code, text) => receiver.entry_failed(*entry, *code, text),
            Done::Verified(entry, block) => receiver.block_verified(*entry, *block),
            Done::Differs(entry, block) => receiver.block_differs(*entry, *block),
            Done::Finished => receiver.finish(now),
        }
    }
}

/// The pieces of `payloads` (each `payload_bytes` long but the last) that hold `bytes` from
/// `offset` on, counted over all of them.
pub fn cut(
    payloads: &[(u32, u32)],
    payload_bytes: u64,
    offset: u64,
    bytes: u64,
    pieces: &mut Vec<(u32, u32)>,
) {
    let first = (offset / payload_bytes) as usize;
    let mut skip = offset % payload_bytes;
    let mut left = bytes;
    for &(start, length) in payloads.iter().skip(first) {
        if left == 0 {
            break;
        }
        let take = (u64::from(length) - skip).min(left);
        pieces.push((start + skip as u32, take as u32));
        left -= take;
        skip = 0;
    }
}

/// How a directory that was to be made is settled.
pub fn settled(entry: u32, made: Made) -> Done {
    match made {
        Made::Created => Done::Committed(entry),
        Made::AlreadyThere => Done::Present(entry),
    }
}

/// Says under which name something landed, if not under its own.
pub fn note_name(path: &RelativePath, name: Option<Vec<u8>>, done: &mut Vec<Done>) {
    if let Some(name) = name {
        let text = format!("stored as {}", Escaped(&name));
        done.push(Done::Note(path.as_bytes().to_vec(), text));
    }
}

/// Whether anything was there already.
pub fn has_found(done: &[Done]) -> bool {
    done.iter().any(|one| matches!(one, Done::Present(_)))
}

/// Says what became of a file otherwise than it was sent.
pub fn note_commit(path: &RelativePath, committed: Committed, done: &mut Vec<Done>) {
    note_name(path, committed.other_name, done);
    if !committed.has_mode {
        done.push(Done::Note(path.as_bytes().to_vec(), "its mode is not kept here".into()));
    }
}

/// What is said of an error of the file system.
pub fn text(error: &FileError) -> String {
    error.to_string()
}

/// What is said of a file that is given up.
pub fn abandon_text(code: RefuseCode, reason: Option<VoidReason>) -> &'static str {
    match (code, reason) {
        (_, Some(VoidReason::Changed)) => "the source changed while it was sent",
        (_, Some(VoidReason::Vanished)) => "the source vanished",
        (_, Some(VoidReason::Unreadable)) => "the source could not be read",
        (RefuseCode::Changed, None) => "a block differed four times",
        (_, None) => "",
    }
}

/// The answer's code for an error of the file system.
pub fn refuse_code(error: &FileError) -> RefuseCode {
    match error {
        FileError::Exists { .. } => RefuseCode::Exists,
        FileError::Busy { .. } => RefuseCode::Busy,
        FileError::NoSpace { .. } => RefuseCode::Space,
        FileError::LinkLeavesTree { .. } => RefuseCode::Link,
        FileError::Io { source, .. } => match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                RefuseCode::Space
            }
            _ => RefuseCode::Disk,
        },
        FileError::Itself { .. } => RefuseCode::Name,
        FileError::Fileless { .. }
        | FileError::Blocked { .. }
        | FileError::Occupied { .. }
        | FileError::BeyondEnd { .. } => RefuseCode::Disk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_cut_out_of_the_payloads_it_spans() {
        let payloads = [(20, 10), (50, 10), (80, 4)];
        let mut pieces = Vec::new();
        cut(&payloads, 10, 7, 15, &mut pieces);
        assert_eq!(pieces, [(27, 3), (50, 10), (80, 2)]);
        pieces.clear();
        cut(&payloads, 10, 10, 10, &mut pieces);
        assert_eq!(pieces, [(50, 10)]);
    }
}
