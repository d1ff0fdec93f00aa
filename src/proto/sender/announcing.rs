//! What the source tells: entries, holes, files that cannot be sent, digests, and the end. They
//! become records of the manifest and digest spaces (proto.md, "Spaces").

use super::Sender;
use crate::proto::event::Attributes;
use crate::wire::{Digest, DigestRecord, Entry, ManifestRecord, VoidReason, limits};

/// Manifest and digest bytes the sender holds at most before it takes no more entries.
const STREAM_HELD_BYTES: u64 = 512 * 1_024;

/// Entries that are not settled at most: half of what a receiver takes, so that it never stops
/// reading before the VOID that would settle one. Each may cost the receiver a descriptor.
const UNSETTLED_MAX: usize = limits::UNSETTLED_MAX as usize / 2;

/// Holes of entries that are not settled at most before another file is announced.
const UNSETTLED_HOLES_MAX: usize = limits::UNSETTLED_HOLES_MAX / 4;

/// Bytes of paths and targets of entries that are not settled at most before another is announced.
const UNSETTLED_NAME_BYTES_MAX: usize = limits::UNSETTLED_NAME_BYTES_MAX / 2;

impl Sender {
    /// Whether the manifest takes another entry now. Otherwise ask again after the next batch.
    pub fn wants_entries(&self) -> bool {
        !self.manifest_ended
            && self.manifest.held_bytes() < STREAM_HELD_BYTES
            && self.digests.held_bytes() < STREAM_HELD_BYTES
            && self.body.unsettled() < UNSETTLED_MAX
            && self.body.unsettled_holes() < UNSETTLED_HOLES_MAX
            && self.body.unsettled_name_bytes() < UNSETTLED_NAME_BYTES_MAX
            && !self.is_over()
    }

    /// Announces an entry; returns its number.
    pub fn push_entry(&mut self, entry: &Entry<'_>) -> u32 {
        self.push_entry_with(&Attributes::default(), entry)
    }

    /// The same with what belongs to it, which keeps to the limits.
    pub fn push_entry_with(&mut self, attributes: &Attributes, entry: &Entry<'_>) -> u32 {
        if let Some((user, group)) = attributes.owner {
            self.push_manifest(&ManifestRecord::Owner { user, group });
        }
        for (name, value) in &attributes.extended {
            self.push_manifest(&ManifestRecord::Attribute { name, value });
        }
        self.push_manifest(&ManifestRecord::Entry(*entry));
        let number = self.body.push_entry(entry.body_bytes(), !self.config.dry_run);
        self.body.count_name(entry.path.len() + entry.target.len());
        self.body.weigh_last(attributes.weight());
        number
    }

    /// A range of the last entry's file has no data.
    pub fn push_hole(&mut self, offset: u64, bytes: u64) {
        self.push_manifest(&ManifestRecord::Hole { offset, bytes });
        self.body.push_hole(offset, bytes);
    }

    /// The last entry, a pipe, goes on for another block of so many bytes.
    pub fn push_more(&mut self, bytes: u32) {
        self.push_manifest(&ManifestRecord::More { bytes });
        self.body.push_more(u64::from(bytes));
    }

    /// Everything of the body below this offset is acknowledged, or not wanted: it is read again
    /// only if a block differs.
    pub fn delivered(&self) -> u64 {
        let under_way = self.in_flight.first_open_body().unwrap_or(u64::MAX);
        self.body.first_waiting().min(under_way)
    }

    /// The file of an entry cannot be sent as announced.
    pub fn push_void(&mut self, entry: u32, reason: VoidReason) {
        self.push_manifest(&ManifestRecord::Void { entry, reason });
        self.body.close(entry);
    }

    /// The digest of a block that was read for the first time.
    pub fn push_digest(&mut self, entry: u32, block: u32, digest: Digest) {
        self.push_digest_record(entry, block, 0, digest);
    }

    /// Sends a block again under a new epoch, in answer to [`crate::proto::SenderEvent::Again`].
    pub fn resend_block(&mut self, entry: u32, block: u32, epoch: u8, digest: Digest) {
        self.push_digest_record(entry, block, epoch, digest);
        self.body.resend_block(entry, block, self.in_flight.next_number());
    }

    fn push_digest_record(&mut self, entry: u32, block: u32, epoch: u8, digest: Digest) {
        let mut bytes = Vec::with_capacity(41);
        DigestRecord { entry, block, epoch, digest }.encode(&mut bytes);
        if epoch == 0 {
            self.transcript.update_digests(&bytes);
        }
        self.digests.push(&bytes);
    }

    fn push_manifest(&mut self, record: &ManifestRecord<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        if !self.manifest_ended {
            self.transcript.update_manifest(&bytes);
        }
        self.manifest.push(&bytes);
    }

    /// Every file is announced, read and digested: ends the manifest.
    pub fn finish_manifest(&mut self) {
        if self.manifest_ended {
            return;
        }
        self.manifest_ended = true;
        self.push_manifest(&ManifestRecord::End {
            entries: self.body.entries(),
            body_bytes: self.body.end(),
            digests_bytes: self.digests.end(),
            digest: self.transcript.digest(),
        });
    }

    /// Body bytes that have never been sent: 0 means that all announced files are read.
    pub fn unsent_body_bytes(&self) -> u64 {
        self.body.unsent_bytes()
    }

    /// Where an entry's bytes lie in the body. None once it is settled.
    pub fn body_range(&self, entry: u32) -> Option<std::ops::Range<u64>> {
        self.body.range(entry)
    }

    /// Number of entries announced so far, and the length of their bodies.
    pub fn announced(&self) -> (u32, u64) {
        (self.body.entries(), self.body.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{SenderConfig, Time};
    use crate::wire::CloseCode;

    fn sender() -> Sender {
        Sender::new(Time::ZERO, SenderConfig::default(), [7; 32])
    }

    /// Whether entries are wanted one step before a bound, and at it.
    fn around(one_before: impl Fn(&mut Sender), step: impl Fn(&mut Sender)) -> [bool; 2] {
        let mut sender = sender();
        one_before(&mut sender);
        let before = sender.wants_entries();
        step(&mut sender);
        [before, sender.wants_entries()]
    }

    #[test]
    fn entries_are_wanted_until_one_of_the_bounds_is_met() {
        let held = vec![0; STREAM_HELD_BYTES as usize - 1];
        let manifest = around(|it| it.manifest.push(&held), |it| it.manifest.push(b"x"));
        assert_eq!(manifest, [true, false]);
        let digests = around(|it| it.digests.push(&held), |it| it.digests.push(b"x"));
        assert_eq!(digests, [true, false]);
        let push = |it: &mut Sender| {
            it.body.push_entry(0, true);
        };
        let entries = around(|it| (1..UNSETTLED_MAX).for_each(|_| push(it)), push);
        assert_eq!(entries, [true, false]);
        let weigh = |it: &mut Sender, weight| {
            push(it);
            it.body.weigh_last(weight);
        };
        let holes = around(|it| weigh(it, UNSETTLED_HOLES_MAX - 1), |it| weigh(it, 1));
        assert_eq!(holes, [true, false]);
        let name = |it: &mut Sender, bytes| {
            push(it);
            it.body.count_name(bytes);
        };
        let names = around(|it| name(it, UNSETTLED_NAME_BYTES_MAX - 1), |it| name(it, 1));
        assert_eq!(names, [true, false]);
    }

    #[test]
    fn no_entry_is_wanted_after_the_end_of_the_manifest_or_of_the_transfer() {
        assert_eq!(around(|_| {}, Sender::finish_manifest), [true, false]);
        assert_eq!(around(|_| {}, |it| it.cancel(CloseCode::Cancelled)), [true, false]);
    }

    #[test]
    fn an_entry_counts_with_its_names_attributes_and_body() {
        let mut sender = sender();
        let attributes =
            Attributes { owner: Some((1, 2)), extended: vec![(b"user.a".to_vec(), vec![0; 300])] };
        let entry = Entry {
            kind: crate::wire::EntryKind::File,
            mode: 0o644,
            mtime_seconds: 0,
            mtime_nanos: 0,
            size: 1_000,
            identity: crate::wire::Identity::default(),
            path: b"four",
            target: b"",
        };
        assert_eq!(sender.push_entry_with(&attributes, &entry), 0);
        assert_eq!(sender.push_entry(&entry), 1);
        assert_eq!(sender.announced(), (2, 2_000));
        assert_eq!(sender.unsent_body_bytes(), 2_000);
        assert_eq!(sender.body_range(1), Some(1_000..2_000));
        assert_eq!(sender.body.unsettled_name_bytes(), 8);
        assert_eq!(sender.body.unsettled_holes(), attributes.weight());
        assert_eq!(sender.delivered(), 0);
        sender.push_void(0, VoidReason::Changed);
        assert_eq!(sender.delivered(), 1_000, "nothing of the first is wanted");
        let before = sender.manifest.end();
        sender.finish_manifest();
        let after = sender.manifest.end();
        sender.finish_manifest();
        assert!(after > before && sender.manifest.end() == after, "it ends once");
    }
}
