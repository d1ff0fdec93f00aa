//! Says what became of entries (proto.md, "Answer records"): neighbours that ended alike share a
//! record.

use super::Receiver;
use crate::proto::stream::SendStream;
use crate::wire::{AnswerRecord, RefuseCode, limits};

impl Receiver {
    /// An equal entry is there already.
    pub fn entry_present(&mut self, entry: u32) {
        if self.body.settle(entry) {
            self.stats.present += 1;
            extend(&mut self.present, entry, |first_entry, entries| {
                push_answer(&mut self.answers, &AnswerRecord::Present { first_entry, entries });
            });
            self.check_settled();
        }
    }

    /// Something different has the entry's name and is kept.
    pub fn entry_kept(&mut self, entry: u32) {
        if self.body.settle(entry) {
            self.stats.present += 1;
            extend(&mut self.kept, entry, |first_entry, entries| {
                push_answer(&mut self.answers, &AnswerRecord::Kept { first_entry, entries });
            });
            self.check_settled();
        }
    }

    /// An entry is committed; in a dry run: would be stored.
    pub fn entry_committed(&mut self, entry: u32) {
        if self.body.settle(entry) {
            self.stats.committed += 1;
            let dry_run = self.dry_run;
            extend(&mut self.committed, entry, |first_entry, entries| {
                push_answer(&mut self.answers, &committed_record(dry_run, first_entry, entries));
            });
            self.check_settled();
        }
    }

    /// An interrupted transfer has left blocks `[first_block, first_block + blocks)` of a file:
    /// verified then, and in the file still. The sender is told not to send them.
    pub fn blocks_kept(&mut self, entry: u32, first_block: u32, blocks: u32) {
        let range = u64::from(first_block)..u64::from(first_block) + u64::from(blocks);
        if self.body.keep(entry, range, &mut self.events) {
            self.flush_answers();
            let record = AnswerRecord::Have { entry, first_block, blocks };
            push_answer(&mut self.answers, &record);
        }
    }

    /// An entry will not be stored.
    pub fn entry_refused(&mut self, entry: u32, code: RefuseCode, text: &str) {
        if self.body.settle(entry) {
            self.stats.failed += 1;
            self.flush_answers();
            let text = short_text(text);
            push_answer(&mut self.answers, &AnswerRecord::Refused { entry, code, text });
            self.check_settled();
        }
    }

    /// An entry was taken but cannot be committed.
    pub fn entry_failed(&mut self, entry: u32, code: RefuseCode, text: &str) {
        if self.body.settle(entry) {
            self.stats.failed += 1;
            self.flush_answers();
            let text = short_text(text);
            push_answer(&mut self.answers, &AnswerRecord::Failed { entry, code, text });
            self.check_settled();
        }
    }

    /// Tells what waits to be told in one record with its neighbours.
    pub(super) fn flush_answers(&mut self) {
        if let Some((first_entry, entries)) = self.present.take() {
            push_answer(&mut self.answers, &AnswerRecord::Present { first_entry, entries });
        }
        if let Some((first_entry, entries)) = self.kept.take() {
            push_answer(&mut self.answers, &AnswerRecord::Kept { first_entry, entries });
        }
        if let Some((first_entry, entries)) = self.committed.take() {
            let record = committed_record(self.dry_run, first_entry, entries);
            push_answer(&mut self.answers, &record);
        }
    }
}

/// Appends a record to what is told.
pub(super) fn push_answer(answers: &mut SendStream, record: &AnswerRecord<'_>) {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    answers.push(&bytes);
}

fn committed_record(dry_run: bool, first_entry: u32, entries: u32) -> AnswerRecord<'static> {
    match dry_run {
        true => AnswerRecord::Take { first_entry, entries },
        false => AnswerRecord::Committed { first_entry, entries },
    }
}

/// Extends a run of entries by `entry`; flushes it first if `entry` does not continue it.
fn extend(run: &mut Option<(u32, u32)>, entry: u32, flush: impl FnOnce(u32, u32)) {
    match run {
        Some((first, count)) if first.checked_add(*count) == Some(entry) => *count += 1,
        Some((first, count)) => {
            flush(*first, *count);
            *run = Some((entry, 1));
        }
        None => *run = Some((entry, 1)),
    }
}

/// As much of `text` as a record holds.
fn short_text(text: &str) -> &str {
    let mut end = text.len().min(limits::TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_before_the_letter_that_does_not_fit() {
        let most = limits::TEXT_BYTES_MAX;
        for before in ["", "x"] {
            let text = format!("{before}{}", "é".repeat(most));
            let cut = short_text(&text);
            assert!(text.starts_with(cut) && (most - 1..=most).contains(&cut.len()), "{cut}");
        }
        assert_eq!(short_text("as it is"), "as it is");
    }
}
