//! Reads the manifest and the digests as they become contiguous.

use super::{End, Receiver};
use crate::proto::error::Error;
use crate::proto::event::{ReceivedEntry, ReceiverEvent};
use crate::wire::{CloseCode, DigestRecord, Entry, EntryKind, ManifestRecord, RefuseCode, limits};

impl Receiver {
    /// Takes in as many records as are complete, in both spaces.
    pub(super) fn read_records(&mut self) {
        self.read_manifest();
        self.read_digests();
        self.check_end();
        self.run_steps();
    }

    fn broken(&mut self, rule: &'static str) {
        self.fail(Error::Protocol { rule }, CloseCode::Protocol);
    }

    fn read_manifest(&mut self) {
        let mut used_total = 0;
        let mut ready = std::mem::take(&mut self.ready_scratch);
        ready.clear();
        ready.extend_from_slice(self.manifest.ready());
        while self.body.unsettled() < limits::UNSETTLED_MAX && self.may_take_entry() {
            let rest = ready.get(used_total..).unwrap_or_default();
            match ManifestRecord::decode(rest) {
                Ok(Some((record, used))) => {
                    let ended = self.end.is_some();
                    if let Err(rule) = self.on_manifest_record(&record) {
                        self.broken(rule);
                        break;
                    }
                    if !ended && self.end.is_none() {
                        self.transcript.update_manifest(rest.get(..used).unwrap_or_default());
                    }
                    used_total += used;
                }
                Ok(None) => break,
                Err(_) => {
                    self.broken("a manifest record is malformed");
                    break;
                }
            }
        }
        self.manifest.consume(used_total);
        self.ready_scratch = ready;
    }

    fn on_manifest_record(&mut self, record: &ManifestRecord<'_>) -> Result<(), &'static str> {
        match *record {
            ManifestRecord::Entry(ref entry) => self.on_entry(entry),
            ManifestRecord::Hole { offset, bytes } => {
                let entry = self.body.entries().wrapping_sub(1);
                if self.end.is_some() || !self.hole_may_follow {
                    return Err("a hole follows no file");
                }
                if !self.dry_run {
                    self.events.push_back(ReceiverEvent::Hole { entry, offset, bytes });
                }
                match self.body.push_hole(offset, bytes, &mut self.steps) {
                    true => Ok(()),
                    false => Err("a hole lies outside its file or out of order"),
                }
            }
            ManifestRecord::Void { entry, reason } => {
                if entry >= self.body.entries() {
                    return Err("an unknown entry was declared void");
                }
                self.hole_may_follow = false;
                self.abandon(entry, RefuseCode::Source, Some(reason));
                Ok(())
            }
            ManifestRecord::End { entries, body_bytes, digests_bytes, digest } => {
                let agreed = self.end.is_none()
                    && entries == self.body.entries()
                    && body_bytes == self.body.body_end();
                if !agreed {
                    return Err("the manifest's end does not agree with it");
                }
                self.end = Some(End { digests_bytes, digest });
                Ok(())
            }
        }
    }

    fn on_entry(&mut self, entry: &Entry<'_>) -> Result<(), &'static str> {
        if self.end.is_some() {
            return Err("an entry follows the manifest's end");
        }
        let number = self.body.entries();
        if !self.body.push_entry(entry.size) {
            return Err("the body is too long");
        }
        self.hole_may_follow = entry.kind == EntryKind::File;
        self.events.push_back(ReceiverEvent::Entry(ReceivedEntry {
            entry: number,
            kind: entry.kind,
            mode: entry.mode,
            mtime: (entry.mtime_seconds, entry.mtime_nanos),
            size: entry.size,
            identity: entry.identity,
            path: entry.path.to_vec(),
            target: entry.target.to_vec(),
        }));
        if self.dry_run {
            self.body.close(number);
        } else if entry.kind == EntryKind::File && entry.size == 0 {
            self.body.commit_empty(number, &mut self.steps);
            self.run_steps();
        }
        Ok(())
    }

    fn read_digests(&mut self) {
        let mut used_total = 0;
        let mut ready = std::mem::take(&mut self.ready_scratch);
        ready.clear();
        ready.extend_from_slice(self.digests.ready());
        loop {
            let rest = ready.get(used_total..).unwrap_or_default();
            let (record, used) = match DigestRecord::decode(rest, self.digest) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(_) => {
                    self.broken("a digest record is malformed");
                    break;
                }
            };
            let DigestRecord { entry, block, epoch, digest } = record;
            match self.body.push_digest(entry, block, epoch, digest, &mut self.steps) {
                // Its entry is still on the way.
                None if self.end.is_none() => break,
                None | Some(false) => {
                    self.broken("a digest of an unknown block");
                    break;
                }
                Some(true) => {}
            }
            if epoch == 0 {
                self.transcript.update_digests(rest.get(..used).unwrap_or_default());
            }
            used_total += used;
        }
        self.digests.consume(used_total);
        self.ready_scratch = ready;
    }

    /// Compares END's digest once everything it speaks of is here.
    fn check_end(&mut self) {
        let Some(end) = &self.end else { return };
        if self.end_checked || self.digests.consumed() < end.digests_bytes {
            return;
        }
        if end.digest == self.transcript.digest() {
            self.end_checked = true;
        } else {
            self.fail(Error::Integrity, CloseCode::Integrity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Accepted, ReceiverConfig, Time};
    use crate::wire::{
        Data, DigestAlgorithm, Flags, Frame, Greeting, Mode, Opener, Packet, PacketNumber, Probe,
        Space,
    };

    const GREETING: Greeting = Greeting {
        version_max: 1,
        version_min: 1,
        mode: Mode::Open,
        digest: DigestAlgorithm::None,
        dry_run: true,
        connection: 7,
        seed: 8,
        nonce: [9; 16],
        key_share: [0; 32],
    };

    fn dry_run() -> Receiver {
        let accepted = Accepted {
            greeting: GREETING,
            connection: 1,
            seed: 2,
            srtt_us: 0,
            number: PacketNumber(0),
            datagram_bytes: 84,
        };
        Receiver::new(Time::ZERO, ReceiverConfig::default(), &accepted)
    }

    fn read(receiver: &mut Receiver, records: &[ManifestRecord<'_>]) {
        let mut payload = Vec::new();
        records.iter().for_each(|record| record.encode(&mut payload));
        let data = Data { space: Space::Manifest, offset: 0, payload: &payload };
        let packet = Packet {
            connection: 1,
            number: PacketNumber(1),
            flags: Flags::default(),
            frame: Frame::Data(data),
            datagram_bytes: 20 + payload.len(),
        };
        receiver.handle_packet(Time::ZERO, &packet);
    }

    const FILE: ManifestRecord<'_> = ManifestRecord::Entry(Entry {
        kind: EntryKind::File,
        mode: 0o644,
        mtime_seconds: 0,
        mtime_nanos: 0,
        size: 100,
        identity: crate::wire::Identity { device: 0, inode: 0, ctime_seconds: 0, ctime_nanos: 0 },
        path: b"a",
        target: b"",
    });

    #[test]
    fn holes_of_a_dry_run_are_read_and_need_nothing() {
        let mut receiver = dry_run();
        read(&mut receiver, &[FILE, ManifestRecord::Hole { offset: 0, bytes: 100 }]);
        assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::Entry(_))));
        assert_eq!(receiver.poll_event(), None);
    }

    //= proto.md#end
    //= type=test
    //# A peer that ends a transfer because of a failure sends CLOSE twice and then nothing more
    #[test]
    fn a_broken_rule_is_answered_with_two_closes_and_then_with_nothing() {
        let mut receiver = dry_run();
        read(&mut receiver, &[ManifestRecord::Hole { offset: 0, bytes: 100 }]);
        for number in 0..2 {
            let datagram = receiver.poll_transmit(Time::ZERO).unwrap();
            let expected = PacketNumber(number);
            let opener = Opener { connection: 7, seed: 8, expected };
            let packet = opener.open(&datagram).unwrap();
            assert_eq!(packet.number, expected);
            assert!(
                matches!(packet.frame, Frame::Close(close) if close.code == CloseCode::Protocol)
            );
        }
        assert_eq!(receiver.poll_transmit(Time::ZERO), None);
        assert!(receiver.is_closed());
    }

    fn handle(receiver: &mut Receiver, number: u64, frame: Frame<'_>) {
        let packet = Packet {
            connection: 1,
            number: PacketNumber(number),
            flags: Flags::default(),
            frame,
            datagram_bytes: 1_200,
        };
        receiver.handle_packet(Time::ZERO, &packet);
    }

    #[test]
    fn no_entry_is_read_while_answers_pile_up_and_acknowledging_them_goes_on() {
        let mut receiver = dry_run();
        let mut records = Vec::new();
        FILE.encode(&mut records);
        let text = "x".repeat(limits::TEXT_BYTES_MAX);
        let mut number = 0;
        while receiver.progress().entries == number {
            let offset = u64::from(number) * records.len() as u64;
            let data = Data { space: Space::Manifest, offset, payload: &records };
            number += 1;
            handle(&mut receiver, u64::from(number), Frame::Data(data));
            receiver.entry_refused(number - 1, RefuseCode::Space, &text);
        }
        let read = receiver.progress().entries;
        let held = receiver.answers.held_bytes();
        assert!(held > limits::ANSWERS_OUTSTANDING_MAX);
        assert!(held < limits::ANSWERS_OUTSTANDING_MAX + 1_000, "{held}");
        while receiver.poll_transmit(Time::ZERO).is_some() {}
        let answers = receiver.answers.next_offset();
        let probe = Probe { srtt_us: 0, window_packets: 1, answers, datagram_bytes: 1_200 };
        handle(&mut receiver, u64::from(number) + 1, Frame::Probe(probe));
        assert_eq!(receiver.progress().entries, read + 1);
    }
}
