//! The answers of a receiver as a sender reads them, each checked against those before it.

use std::collections::BTreeSet;

use ufx::wire::AnswerRecord;

/// The answers as a sender reads them.
#[derive(Default)]
pub struct Answers {
    bytes: Vec<u8>,
    read: usize,
    settled: BTreeSet<u32>,
    failed: u32,
    /// END has come.
    pub ended: bool,
}

impl Answers {
    /// Takes in what a DATA frame carries: never a gap, and repetitions are the same.
    pub fn take(&mut self, offset: u64, payload: &[u8]) {
        let start = offset as usize;
        assert!(start <= self.bytes.len(), "answers leave a gap");
        for (index, byte) in payload.iter().enumerate() {
            match self.bytes.get(start + index) {
                Some(known) => assert_eq!(known, byte, "an answer was changed"),
                None => self.bytes.push(*byte),
            }
        }
    }

    /// Reads what is complete and checks each record; `announced` entries are known so far.
    pub fn read(&mut self, dry_run: bool, announced: u32) {
        let bytes = std::mem::take(&mut self.bytes);
        while let Some((record, used)) =
            AnswerRecord::decode(&bytes[self.read..]).expect("answers are well-formed")
        {
            self.read += used;
            assert!(!self.ended, "an answer after END");
            self.check(&record, dry_run, announced);
        }
        self.bytes = bytes;
    }

    fn check(&mut self, record: &AnswerRecord<'_>, dry_run: bool, announced: u32) {
        match *record {
            AnswerRecord::Present { first_entry, entries }
            | AnswerRecord::Kept { first_entry, entries } => self.settle(first_entry, entries),
            AnswerRecord::Committed { first_entry, entries } => {
                assert!(!dry_run, "a dry run commits nothing");
                self.settle(first_entry, entries);
            }
            AnswerRecord::Take { first_entry, entries } => {
                assert!(dry_run, "TAKE is for dry runs");
                self.settle(first_entry, entries);
            }
            AnswerRecord::Refused { entry, .. } | AnswerRecord::Failed { entry, .. } => {
                self.settle(entry, 1);
                self.failed += 1;
            }
            AnswerRecord::Again { entry, .. } | AnswerRecord::Have { entry, .. } => {
                assert!(!self.settled.contains(&entry), "speaks of a settled entry");
            }
            AnswerRecord::End { committed, present, failed } => {
                let all = committed + present + failed;
                assert_eq!(all as usize, self.settled.len(), "END does not count right");
                assert_eq!(failed, self.failed, "END does not count right");
                self.ended = true;
            }
        }
        assert!(self.settled.last().is_none_or(|last| *last < announced), "an unknown entry");
    }

    fn settle(&mut self, first: u32, count: u32) {
        for entry in first..first + count {
            assert!(self.settled.insert(entry), "entry {entry} was settled twice");
        }
    }
}
