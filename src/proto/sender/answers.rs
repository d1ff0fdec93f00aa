//! Reads the receiver's answers (proto.md, "Answer records").

use super::{Sender, State};
use crate::proto::event::{Outcome, SenderEvent};
use crate::proto::sabotage::Bug;
use crate::proto::time::Time;
use crate::wire::{AnswerRecord, CloseCode, Data, Space};

impl Sender {
    pub(super) fn on_answers(&mut self, now: Time, data: &Data<'_>) {
        if data.space != Space::Answers {
            self.stats.invalid += 1;
            return;
        }
        // Told again even if nothing is new: the last acknowledgement may have been lost.
        self.answers_ack_due = true;
        let known = self.answers.frontier();
        self.answers.insert(data.offset, data.payload);
        if self.answers.frontier() > known {
            self.on_heard(now);
        }
        // Taken out, so that what the records say can change everything else meanwhile.
        let mut answers = std::mem::take(&mut self.answers);
        let mut used_total = 0;
        while !self.is_over() {
            match AnswerRecord::decode(answers.ready().get(used_total..).unwrap_or_default()) {
                Ok(Some((record, used))) => {
                    self.on_answer(&record);
                    used_total += used;
                }
                Ok(None) => break,
                Err(_) => self.fail_protocol("an answer record is malformed"),
            }
        }
        answers.consume(used_total);
        self.answers = answers;
    }

    fn on_answer(&mut self, record: &AnswerRecord<'_>) {
        match *record {
            AnswerRecord::Have { entry, first_block, blocks } => {
                if !self.body.have(entry, first_block, blocks) {
                    return self.fail_protocol("unknown blocks were said to be there");
                }
                self.events.push_back(SenderEvent::Have { entry, first_block, blocks });
            }
            AnswerRecord::Present { first_entry, entries } => {
                self.settled.present = self.settled.present.saturating_add(entries);
                self.settle(first_entry, entries, Outcome::Present);
            }
            AnswerRecord::Kept { first_entry, entries } => {
                self.settled.present = self.settled.present.saturating_add(entries);
                self.settle(first_entry, entries, Outcome::Kept);
            }
            AnswerRecord::Committed { .. } if self.config.dry_run => {
                self.fail_protocol("an entry was committed in a dry run");
            }
            AnswerRecord::Take { .. } if !self.config.dry_run => {
                self.fail_protocol("an entry was only taken, but this is no dry run");
            }
            AnswerRecord::Committed { first_entry, entries } => {
                self.settled.committed = self.settled.committed.saturating_add(entries);
                self.settle(first_entry, entries, Outcome::Committed);
            }
            AnswerRecord::Take { first_entry, entries } => {
                self.settled.committed = self.settled.committed.saturating_add(entries);
                self.settle(first_entry, entries, Outcome::WouldStore);
            }
            AnswerRecord::Refused { entry, code, text }
            | AnswerRecord::Failed { entry, code, text } => {
                self.settled.failed = self.settled.failed.saturating_add(1);
                if !self.body.settle(entry) {
                    return self.fail_protocol("an entry was settled twice or never sent");
                }
                let refused = matches!(record, AnswerRecord::Refused { .. });
                let text = text.to_owned();
                self.events.push_back(SenderEvent::Failed { entry, code, text, refused });
            }
            AnswerRecord::Again { entry, block, epoch } => {
                if !self.body.ask_again(entry, block, epoch) {
                    return self.fail_protocol("an unknown block or epoch was asked for again");
                }
                self.events.push_back(SenderEvent::Again { entry, block, epoch });
            }
            AnswerRecord::End { committed, present, failed } => {
                self.on_answers_end(committed, present, failed);
            }
        }
    }

    fn settle(&mut self, first_entry: u32, entries: u32, outcome: Outcome) {
        let known = first_entry.checked_add(entries).is_some_and(|end| end <= self.body.entries());
        if !known || !(first_entry..first_entry + entries).all(|entry| self.body.settle(entry)) {
            return self.fail_protocol("an entry was settled twice or never sent");
        }
        self.events.push_back(SenderEvent::Settled { first_entry, entries, outcome });
        if self.config.sabotage.has(Bug::SucceedEarly) {
            let committed = self.settled.committed;
            self.events.push_back(SenderEvent::Finished { committed, present: 0, failed: 0 });
            self.state = State::Closing { left: 2, code: CloseCode::Done };
        }
    }

    fn on_answers_end(&mut self, committed: u32, present: u32, failed: u32) {
        let agreed = self.manifest_ended
            && self.body.unsettled() == 0
            && committed == self.settled.committed
            && present == self.settled.present
            && failed == self.settled.failed;
        if !agreed {
            return self.fail_protocol("the receiver's end does not agree with its answers");
        }
        self.events.push_back(SenderEvent::Finished { committed, present, failed });
        self.state = State::Closing { left: 2, code: CloseCode::Done };
    }
}
