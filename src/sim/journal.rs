//! What a simulated receiver's disk holds of one tree, whichever process wrote it: committed files,
//! unfinished ones, and which of their blocks the journal lists (ARCHITECTURE.md, "The journal").
//!
//! What is listed and what is really there are kept apart: a block that is named and is not there
//! is what no crash may bring about.

use std::time::Duration;

use super::impairment::{is_hit, mix};
use super::source::SimFile;
use crate::proto::{RangeSet, Time};

/// What a receiver finds under the name of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing finished; these blocks of it are verified.
    Unfinished(RangeSet),
    /// The file, committed.
    Committed,
    /// A committed file of another generation.
    Other,
    /// Another transfer is writing it.
    Busy,
}

#[derive(Clone, Debug, Default)]
struct Name {
    /// Of the source, when something was last stored.
    generation: u64,
    committed: bool,
    /// Blocks that the journal lists; those up to its last SYNCED.
    listed: RangeSet,
    synced: RangeSet,
    /// Bytes that are in the file; those that the disk itself has.
    present: RangeSet,
    durable: RangeSet,
    synced_at: Time,
    /// The transfer that holds the lock.
    holder: Option<usize>,
}

/// The disk's side of one tree.
#[derive(Clone, Debug)]
pub struct Journal {
    names: Vec<Name>,
    sync_interval: Duration,
}

impl Journal {
    /// Nothing is there yet of `entries` entries.
    pub fn new(entries: usize, sync_interval: Duration) -> Journal {
        Journal { names: vec![Name::default(); entries], sync_interval }
    }

    /// A transfer looks for an entry and, if it is not finished, takes it.
    pub fn take(&mut self, entry: u32, file: &SimFile, transfer: usize) -> Found {
        let name = &mut self.names[entry as usize];
        if name.committed {
            let same = name.generation == file.generation;
            return if same { Found::Committed } else { Found::Other };
        }
        if name.holder.is_some_and(|holder| holder != transfer) {
            return Found::Busy;
        }
        if name.generation != file.generation {
            *name = Name { generation: file.generation, ..Name::default() };
        }
        name.holder = Some(transfer);
        for block in name.listed.iter().flatten() {
            for data in file.data_ranges(file.block_range(block)) {
                assert!(name.present.contains(&data), "block {block} of {entry} is not there");
            }
        }
        // What is not listed is written again.
        let mut kept = RangeSet::new();
        for block in name.listed.iter().flatten() {
            kept.insert(file.block_range(block));
        }
        name.present = kept;
        Found::Unfinished(name.listed.clone())
    }

    /// Bytes of an unfinished file were written.
    pub fn on_written(&mut self, entry: u32, range: std::ops::Range<u64>) {
        self.names[entry as usize].present.insert(range);
    }

    /// A block was verified; `is_kept` if its file is one of those that go on.
    pub fn on_verified(&mut self, now: Time, entry: u32, block: u32, is_kept: bool) {
        let interval = self.sync_interval;
        let name = &mut self.names[entry as usize];
        if !is_kept {
            return;
        }
        name.listed.insert(u64::from(block)..u64::from(block) + 1);
        if now.saturating_since(name.synced_at) >= interval {
            name.synced_at = now;
            name.synced = name.listed.clone();
            name.durable = name.present.clone();
        }
    }

    /// A file has its final name.
    pub fn on_committed(&mut self, entry: u32) {
        let name = &mut self.names[entry as usize];
        let generation = name.generation;
        *name = Name { committed: true, generation, ..Name::default() };
    }

    /// An unfinished file is removed.
    pub fn on_removed(&mut self, entry: u32) {
        let name = &mut self.names[entry as usize];
        if !name.committed {
            *name = Name { generation: name.generation, ..Name::default() };
        }
    }

    /// A transfer is over: its locks are free.
    pub fn release(&mut self, transfer: usize) {
        for name in self.names.iter_mut().filter(|name| name.holder == Some(transfer)) {
            name.holder = None;
        }
    }

    /// The power fails: of what was not synced some is there, some is torn.
    pub fn cut_power(&mut self, draw: u64) {
        for (entry, name) in (0_u64..).zip(&mut self.names) {
            let mut left = name.durable.clone();
            for (index, range) in (0_u64..).zip(name.present.iter()) {
                let draw = mix(draw ^ mix(entry) ^ index);
                if is_hit(draw, 0.5) {
                    let bytes = (range.end - range.start) * (mix(draw) & 0xff) / 0xff;
                    left.insert(range.start..range.start + bytes);
                }
            }
            name.present = left;
            name.listed = name.synced.clone();
            name.holder = None;
        }
    }

    /// Whether an entry has its final name.
    pub fn is_committed(&self, entry: u32) -> bool {
        self.names.get(entry as usize).is_some_and(|name| name.committed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::limits::BLOCK_BYTES;

    fn file() -> SimFile {
        SimFile::new(4 * BLOCK_BYTES)
    }

    fn set(range: std::ops::Range<u64>) -> RangeSet {
        let mut set = RangeSet::new();
        set.insert(range);
        set
    }

    fn written(journal: &mut Journal, blocks: std::ops::Range<u32>, at: u64) {
        for block in blocks {
            journal.on_written(0, file().block_range(u64::from(block)));
            journal.on_verified(Time::from_nanos(at), 0, block, true);
        }
    }

    #[test]
    fn a_killed_process_leaves_all_it_listed_and_a_power_cut_what_was_synced() {
        let mut journal = Journal::new(1, Duration::from_secs(60));
        assert_eq!(journal.take(0, &file(), 1), Found::Unfinished(RangeSet::new()));
        written(&mut journal, 0..2, 60_000_000_000);
        written(&mut journal, 2..3, 61_000_000_000);
        assert_eq!(journal.take(0, &file(), 2), Found::Busy);
        let mut killed = journal.clone();
        killed.release(1);
        assert_eq!(killed.take(0, &file(), 2), Found::Unfinished(set(0..3)));
        for draw in 0..50 {
            let mut cut = journal.clone();
            cut.cut_power(draw);
            assert_eq!(cut.take(0, &file(), 2), Found::Unfinished(set(0..1)));
        }
    }

    #[test]
    fn a_changed_source_starts_again_and_does_not_replace() {
        let mut journal = Journal::new(1, Duration::from_secs(60));
        journal.take(0, &file(), 1);
        written(&mut journal, 0..2, 0);
        journal.release(1);
        let changed = SimFile { generation: 1, ..file() };
        assert_eq!(journal.take(0, &changed, 2), Found::Unfinished(RangeSet::new()));
        journal.on_committed(0);
        assert_eq!(journal.take(0, &changed, 3), Found::Committed);
        assert_eq!(journal.take(0, &file(), 3), Found::Other);
    }

    #[test]
    #[should_panic(expected = "is not there")]
    fn a_block_that_is_listed_and_not_there_is_found_out() {
        let mut journal = Journal::new(1, Duration::from_secs(60));
        journal.take(0, &file(), 1);
        journal.on_verified(Time::ZERO, 0, 2, true);
        journal.release(1);
        journal.take(0, &file(), 2);
    }
}
