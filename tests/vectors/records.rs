//! Fields to records.

use ufx::wire::{
    AnswerRecord, DigestRecord, Entry, EntryKind, Identity, ManifestRecord, RefuseCode, VoidReason,
};

use crate::vector::Vector;

impl Vector {
    pub fn manifest_record<'a>(&self, path: &'a [u8], target: &'a [u8]) -> ManifestRecord<'a> {
        match self.kind() {
            "record_owner" => ManifestRecord::Owner {
                user: self.number("field.user"),
                group: self.number("field.group"),
            },
            // Its two rows of bytes come as those of an ENTRY.
            "record_attribute" => ManifestRecord::Attribute { name: path, value: target },
            "record_entry" => ManifestRecord::Entry(Entry {
                kind: [
                    EntryKind::File,
                    EntryKind::Directory,
                    EntryKind::Symlink,
                    EntryKind::HardLink,
                    EntryKind::Pipe,
                ][self.number::<usize>("field.type") - 1],
                mode: self.number("field.mode"),
                mtime_seconds: self.number("field.mtime_seconds"),
                mtime_nanos: self.number("field.mtime_nanos"),
                size: self.number("field.size"),
                identity: Identity {
                    device: self.number("field.device"),
                    inode: self.number("field.inode"),
                    ctime_seconds: self.number("field.ctime_seconds"),
                    ctime_nanos: self.number("field.ctime_nanos"),
                },
                path,
                target,
            }),
            "record_hole" => ManifestRecord::Hole {
                offset: self.number("field.offset"),
                bytes: self.number("field.bytes"),
            },
            "record_more" => ManifestRecord::More { bytes: self.number("field.bytes") },
            "record_void" => ManifestRecord::Void {
                entry: self.number("field.entry"),
                reason: [VoidReason::Changed, VoidReason::Vanished, VoidReason::Unreadable]
                    [self.number::<usize>("field.reason") - 1],
            },
            "record_end" => ManifestRecord::End {
                entries: self.number("field.entries"),
                body_bytes: self.number("field.body_bytes"),
                digests_bytes: self.number("field.digests_bytes"),
                digest: self.digest(),
            },
            other => panic!("{}: record {other}", self.name),
        }
    }

    pub fn answer_record<'a>(&self, text: &'a str) -> AnswerRecord<'a> {
        let entry = || self.number("field.entry");
        let first_entry = || self.number("field.first_entry");
        let entries = || self.number("field.entries");
        match self.kind() {
            "answer_have" => AnswerRecord::Have {
                entry: entry(),
                first_block: self.number("field.first_block"),
                blocks: self.number("field.blocks"),
            },
            "answer_present" => {
                AnswerRecord::Present { first_entry: first_entry(), entries: entries() }
            }
            "answer_refused" => {
                AnswerRecord::Refused { entry: entry(), code: self.refuse_code(), text }
            }
            "answer_again" => AnswerRecord::Again {
                entry: entry(),
                block: self.number("field.block"),
                epoch: self.number("field.epoch"),
            },
            "answer_committed" => {
                AnswerRecord::Committed { first_entry: first_entry(), entries: entries() }
            }
            "answer_failed" => {
                AnswerRecord::Failed { entry: entry(), code: self.refuse_code(), text }
            }
            "answer_kept" => AnswerRecord::Kept { first_entry: first_entry(), entries: entries() },
            "answer_take" => AnswerRecord::Take { first_entry: first_entry(), entries: entries() },
            "answer_end" => AnswerRecord::End {
                committed: self.number("field.committed"),
                present: self.number("field.present"),
                failed: self.number("field.failed"),
            },
            other => panic!("{}: record {other}", self.name),
        }
    }

    pub fn digest_record(&self) -> DigestRecord {
        DigestRecord {
            entry: self.number("field.entry"),
            block: self.number("field.block"),
            epoch: self.number("field.epoch"),
            digest: self.digest(),
        }
    }

    fn refuse_code(&self) -> RefuseCode {
        [
            RefuseCode::Exists,
            RefuseCode::Name,
            RefuseCode::Busy,
            RefuseCode::Space,
            RefuseCode::Disk,
            RefuseCode::Source,
            RefuseCode::Changed,
            RefuseCode::Link,
        ][self.number::<usize>("field.code") - 1]
    }
}
