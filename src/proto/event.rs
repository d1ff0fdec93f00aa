//! What the machines tell the shell.

use crate::wire::{Digest, EntryKind, Identity, RefuseCode, VoidReason, limits};

use super::error::Error;

/// How an entry ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was there already, equal.
    Present,
    /// Something different is there, and the receiver keeps that.
    Kept,
    /// Written, checked and renamed.
    Committed,
    /// In a dry run: it would be stored.
    WouldStore,
}

/// What a sender tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderEvent {
    /// The receiver answered; the transfer begins.
    Connected,
    /// Entries `[first_entry, first_entry + entries)` ended well.
    Settled {
        /// The first of them.
        first_entry: u32,
        /// How many.
        entries: u32,
        /// How.
        outcome: Outcome,
    },
    /// The receiver will not store an entry.
    Failed {
        /// Which.
        entry: u32,
        /// Why.
        code: RefuseCode,
        /// The receiver's words: foreign text, to be escaped before it is shown.
        text: String,
        /// True if it was refused before any of it was stored.
        refused: bool,
    },
    /// The receiver has blocks of a file from an interrupted transfer: they are not sent.
    Have {
        /// Of which entry.
        entry: u32,
        /// The first of them.
        first_block: u32,
        /// How many.
        blocks: u32,
    },
    /// A block differs at the receiver: read it again and call
    /// [`super::Sender::resend_block`], or give the entry up by [`super::Sender::push_void`].
    Again {
        /// Of which entry.
        entry: u32,
        /// Which block.
        block: u32,
        /// The epoch its digest record must have.
        epoch: u8,
    },
    /// Everything is settled and the receiver said so.
    Finished {
        /// Entries committed (or that would be, in a dry run).
        committed: u32,
        /// Entries that were there already.
        present: u32,
        /// Entries refused or failed.
        failed: u32,
    },
    /// The transfer ended without that.
    Closed(Error),
}

/// What belongs to a file, directory or link beside its bytes, mode and times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Numbers of its user and its group.
    pub owner: Option<(u32, u32)>,
    /// Names and values of extended attributes.
    pub extended: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.owner.is_none() && self.extended.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.extended.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// As how many holes they count (proto.md, "Limits").
    pub(super) fn weight(&self) -> usize {
        self.extended.len() + self.bytes().div_ceil(limits::ATTRIBUTE_BYTES_A_HOLE)
    }
}

/// An entry of the manifest as the receiver's shell gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedEntry {
    /// Its number.
    pub entry: u32,
    /// File, directory or link.
    pub kind: EntryKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u16,
    /// Modification time: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Size in bytes, of a pipe that of its first block; 0 unless a file or a hard link.
    pub size: u64,
    /// Identity of the source.
    pub identity: Identity,
    /// Relative path, as wire checked it.
    pub path: Vec<u8>,
    /// Text of a symbolic link, or the path of a hard link's file.
    pub target: Vec<u8>,
    /// What was sent of owner and extended attributes.
    pub attributes: Attributes,
}

/// What a receiver tells its shell, in the order in which the shell must act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiverEvent {
    /// The next entry. The shell answers with `entry_present`, `entry_refused`, or silence and
    /// later `entry_committed` or `entry_failed`; links and directories settle at once. Of a file
    /// that goes on where it was cut, `blocks_kept` comes first.
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
    /// A file of unknown size goes on for so many bytes.
    More {
        /// Which file.
        entry: u32,
        /// How many.
        bytes: u64,
    },
    /// All bytes of a block are placed and its digest is known: compare, and report
    /// `block_verified` or `block_differs`.
    Verify {
        /// Of which file.
        entry: u32,
        /// Which block.
        block: u32,
        /// What it must be.
        digest: Digest,
    },
    /// Every block of a file is verified: commit it and report.
    Commit {
        /// Which file.
        entry: u32,
    },
    /// The file will not be completed: remove what is there and report `entry_failed`.
    Abandon {
        /// Which file.
        entry: u32,
        /// Why.
        code: RefuseCode,
        /// The sender's reason, if it was the sender's.
        reason: Option<VoidReason>,
    },
    /// Every entry is settled: finish directories and call `finish`.
    Settled,
    /// The sender has learned the result (or will never): the transfer is over.
    Finished,
    /// The transfer ended without its end.
    Closed(Error),
}

impl ReceiverEvent {
    /// Bytes of memory held beside its own.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            ReceiverEvent::Entry(entry) => {
                entry.path.capacity() + entry.target.capacity() + entry.attributes.bytes()
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_weighs_as_much_as_a_hole_and_its_bytes_as_much_as_they_take() {
        let with = |values: &[usize]| Attributes {
            owner: Some((1, 2)),
            extended: values.iter().map(|&bytes| (b"user.name".to_vec(), vec![0; bytes])).collect(),
        };
        assert_eq!((with(&[]).bytes(), with(&[]).weight()), (0, 0));
        assert_eq!((with(&[1]).bytes(), with(&[1]).weight()), (10, 2));
        let bytes = limits::ATTRIBUTE_BYTES_A_HOLE - 18;
        assert_eq!(with(&[0, bytes]).weight(), 3, "two attributes, one share of bytes");
        assert_eq!(with(&[0, bytes + 1]).weight(), 4);
    }

    #[test]
    fn an_entry_holds_its_names_and_attributes() {
        let entry = ReceivedEntry {
            entry: 0,
            kind: EntryKind::File,
            mode: 0o644,
            mtime: (0, 0),
            size: 0,
            identity: Identity::default(),
            path: vec![b'p'; 100],
            target: vec![b't'; 20],
            attributes: Attributes { owner: None, extended: vec![(vec![0; 3], vec![0; 4])] },
        };
        assert_eq!(ReceiverEvent::Entry(entry).memory_bytes(), 127);
        assert_eq!(ReceiverEvent::Settled.memory_bytes(), 0);
    }
}
