//! Reads the manifest and the digests as they become contiguous.

use super::Receiver;
use crate::proto::error::Error;
use crate::proto::event::{Attributes, ReceivedEntry, ReceiverEvent};
use crate::wire::{
    CloseCode, Data, Digest, DigestRecord, Entry, EntryKind, ManifestRecord, RefuseCode, Space,
    limits,
};

/// What the manifest's END said.
#[derive(Debug)]
pub(super) struct End {
    digests_bytes: u64,
    digest: Digest,
}

/// Which records may follow in the manifest.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// HOLE: the last record was of a file, or one of its holes.
    hole: bool,
    /// The last entry is a pipe: no ENTRY.
    has_pipe: bool,
    /// Of the next ENTRY, nothing but that and more of its kind.
    attributes: Attributes,
    /// MORE: it is, and all its blocks so far are whole ones.
    more: bool,
}

impl Receiver {
    /// Takes a chunk of manifest or digests in; whether it is held.
    pub(super) fn on_records(&mut self, data: &Data<'_>) -> bool {
        let held = match data.space {
            Space::Manifest => self.manifest.insert(data.offset, data.payload),
            Space::Digests => self.digests.insert(data.offset, data.payload),
            // Body comes by handle_body, answers never come to a receiver.
            Space::Body | Space::Answers => false,
        };
        self.check_settled();
        held
    }

    /// Takes in as many records as are complete, in both spaces.
    pub(super) fn read_records(&mut self) {
        self.read_manifest();
        self.read_digests();
        self.check_end();
    }

    fn broken(&mut self, rule: &'static str) {
        self.fail(Error::Protocol { rule }, CloseCode::Protocol);
    }

    fn read_manifest(&mut self) {
        // Taken out, so that what the records say can change everything else meanwhile.
        let mut manifest = std::mem::take(&mut self.manifest);
        let mut used_total = 0;
        loop {
            let rest = manifest.ready().get(used_total..).unwrap_or_default();
            match ManifestRecord::decode(rest) {
                // Only entries wait: a hole, a void or the end may be what settles those before.
                Ok(Some((ManifestRecord::Entry(_), _))) if !self.may_take_entry() => break,
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
        manifest.consume(used_total);
        self.manifest = manifest;
    }

    fn on_manifest_record(&mut self, record: &ManifestRecord<'_>) -> Result<(), &'static str> {
        if !self.following.attributes.is_empty()
            && !matches!(
                record,
                ManifestRecord::Entry(_)
                    | ManifestRecord::Owner { .. }
                    | ManifestRecord::Attribute { .. }
            )
        {
            return Err("attributes precede no entry");
        }
        match *record {
            ManifestRecord::Owner { user, group } => {
                match self.following.attributes.owner.replace((user, group)) {
                    None if self.end.is_none() => Ok(()),
                    _ => Err("an owner comes twice or too late"),
                }
            }
            ManifestRecord::Attribute { name, value } => {
                let attributes = &mut self.following.attributes;
                attributes.extended.push((name.to_vec(), value.to_vec()));
                let is_small = attributes.extended.len() <= limits::ATTRIBUTES_MAX
                    && attributes.bytes() <= limits::ATTRIBUTES_BYTES_MAX;
                match is_small && self.end.is_none() {
                    true => Ok(()),
                    false => Err("attributes come too late or are too long"),
                }
            }
            ManifestRecord::Entry(ref entry) => self.on_entry(entry),
            ManifestRecord::Hole { offset, bytes } => {
                let entry = self.body.entries().wrapping_sub(1);
                if self.end.is_some() || !self.following.hole {
                    return Err("a hole follows no file");
                }
                if !self.dry_run {
                    self.events.push_back(ReceiverEvent::Hole { entry, offset, bytes });
                }
                match self.body.push_hole(offset, bytes, &mut self.events) {
                    true => Ok(()),
                    false => Err("a hole lies outside its file or out of order"),
                }
            }
            ManifestRecord::More { bytes } => self.on_more(u64::from(bytes)),
            ManifestRecord::Void { entry, reason } => {
                if entry >= self.body.entries() {
                    return Err("an unknown entry was declared void");
                }
                self.following.hole = false;
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
                self.following.more = false;
                self.end = Some(End { digests_bytes, digest });
                Ok(())
            }
        }
    }

    fn on_more(&mut self, bytes: u64) -> Result<(), &'static str> {
        if !self.following.more {
            return Err("a further block follows no pipe");
        }
        self.following.more = bytes == limits::BLOCK_BYTES;
        if !self.body.extend_pipe(bytes) {
            return Err("the body is too long");
        }
        let entry = self.body.entries().wrapping_sub(1);
        self.events.push_back(ReceiverEvent::More { entry, bytes });
        Ok(())
    }

    fn on_entry(&mut self, entry: &Entry<'_>) -> Result<(), &'static str> {
        if self.end.is_some() {
            return Err("an entry follows the manifest's end");
        }
        if self.following.has_pipe {
            return Err("an entry follows a pipe");
        }
        let attributes = std::mem::take(&mut self.following.attributes);
        if entry.kind == EntryKind::HardLink && !attributes.is_empty() {
            return Err("a hard link has attributes");
        }
        let number = self.body.entries();
        if !self.body.push_entry(entry.body_bytes()) {
            return Err("the body is too long");
        }
        self.body.count_name(entry.path.len() + entry.target.len());
        self.body.weigh_last(attributes.weight());
        self.following.hole = entry.kind == EntryKind::File;
        if entry.kind == EntryKind::Pipe {
            self.following.has_pipe = true;
            self.following.more = true;
            self.body.open_pipe();
        }
        self.events.push_back(ReceiverEvent::Entry(ReceivedEntry {
            entry: number,
            kind: entry.kind,
            mode: entry.mode,
            mtime: (entry.mtime_seconds, entry.mtime_nanos),
            size: entry.size,
            identity: entry.identity,
            path: entry.path.to_vec(),
            target: entry.target.to_vec(),
            attributes,
        }));
        if self.dry_run {
            self.body.close(number);
        } else if entry.kind == EntryKind::File && entry.size == 0 {
            self.body.commit_empty(number, &mut self.events);
        }
        Ok(())
    }

    fn read_digests(&mut self) {
        let mut digests = std::mem::take(&mut self.digests);
        let mut used_total = 0;
        loop {
            self.digests_wait = self.body.waiting_digests() >= limits::WAITING_DIGESTS_MAX;
            if self.digests_wait {
                break;
            }
            let rest = digests.ready().get(used_total..).unwrap_or_default();
            let (record, used) = match DigestRecord::decode(rest, self.digest) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(_) => {
                    self.broken("a digest record is malformed");
                    break;
                }
            };
            let DigestRecord { entry, block, epoch, digest } = record;
            match self.body.push_digest(entry, block, epoch, digest, &mut self.events) {
                // Its entry, or its MORE, is still on the way.
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
        digests.consume(used_total);
        self.digests = digests;
    }

    /// Compares END's digest once everything it speaks of is here.
    fn check_end(&mut self) {
        let Some(end) = &self.end else { return };
        if self.end_checked || self.digests.consumed() < end.digests_bytes {
            return;
        }
        if end.digest == self.transcript.digest() {
            self.end_checked = true;
            self.body.end_pipe(&mut self.events);
        } else {
            self.fail(Error::Integrity, CloseCode::Integrity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Accepted, ReceivedRun, ReceiverConfig, Time};
    use crate::wire::{
        Data, Digest, DigestAlgorithm, Flags, Frame, Greeting, Mode, Opener, Packet, PacketNumber,
        Probe, Space, VoidReason,
    };

    const GREETING: Greeting = Greeting {
        version_max: 1,
        version_min: 1,
        mode: Mode::Open,
        digest: DigestAlgorithm::None,
        dry_run: true,
        discard: false,
        connection: 7,
        seed: 8,
        nonce: [9; 16],
        key_share: [0; 32],
    };

    fn dry_run() -> Receiver {
        receiver(true)
    }

    fn receiver(dry_run: bool) -> Receiver {
        let accepted = Accepted {
            greeting: Greeting { dry_run, ..GREETING },
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

    //= proto.md#manifest-records
    //= type=test
    //# nothing but these and ENTRY may follow them.
    #[test]
    fn attributes_come_before_their_entry_and_within_their_bounds() {
        const OWNER: ManifestRecord<'_> = ManifestRecord::Owner { user: 5, group: 6 };
        const NOTE: ManifestRecord<'_> = ManifestRecord::Attribute { name: b"n", value: b"v" };
        let mut receiver = dry_run();
        read(&mut receiver, &[NOTE, OWNER, NOTE, FILE, FILE]);
        let Some(ReceiverEvent::Entry(first)) = receiver.poll_event() else { panic!() };
        assert_eq!((first.attributes.owner, first.attributes.extended.len()), (Some((5, 6)), 2));
        let Some(ReceiverEvent::Entry(second)) = receiver.poll_event() else { panic!() };
        assert!(second.attributes.is_empty());
        let link = match FILE {
            ManifestRecord::Entry(file) => {
                ManifestRecord::Entry(Entry { kind: EntryKind::HardLink, target: b"b", ..file })
            }
            _ => unreachable!("it is an entry"),
        };
        let large = ManifestRecord::Attribute { name: b"n", value: &[0; 50_000] };
        let hole = ManifestRecord::Hole { offset: 0, bytes: 1 };
        let broken: [&[ManifestRecord<'_>]; 5] = [
            &[OWNER, OWNER, FILE],
            &[FILE, OWNER, hole],
            &[OWNER, link],
            &[large, large, large],
            &[NOTE; limits::ATTRIBUTES_MAX + 1],
        ];
        for records in broken {
            let mut receiver = dry_run();
            read(&mut receiver, records);
            let mut events = std::iter::from_fn(|| receiver.poll_event());
            let is_end = |event| matches!(event, ReceiverEvent::Closed(Error::Protocol { .. }));
            assert!(events.any(is_end), "{records:?}");
        }
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

    //= proto.md#frames
    //= type=test
    //# a value outside its range, or goes in the wrong direction, makes its packet dropped.
    #[test]
    fn what_only_a_sender_may_get_is_dropped_and_not_acknowledged() {
        let mut receiver = receiver(false);
        let answers = Data { space: Space::Answers, offset: 0, payload: &[8] };
        let end = Frame::Data(answers);
        handle(&mut receiver, 5, end);
        assert_eq!(receiver.stats().invalid, 1);
        assert_eq!(receiver.stats().packets_received, 1, "only START");
        assert!(!receiver.sack.is_held(PacketNumber(5)));
    }

    fn handle_records(receiver: &mut Receiver, number: u64, space: Space, payload: &[u8]) {
        let offset = match space {
            Space::Digests => receiver.digests.frontier(),
            _ => receiver.manifest.frontier(),
        };
        handle(receiver, number, Frame::Data(Data { space, offset, payload }));
    }

    //= proto.md#limits
    //= type=test
    //# a receiver reads no ENTRY at 8,192
    #[test]
    fn a_void_and_the_end_are_read_while_no_entry_is() {
        let mut receiver = receiver(false);
        let mut entries = Vec::new();
        for _ in 0..limits::UNSETTLED_MAX {
            FILE.encode(&mut entries);
        }
        handle_records(&mut receiver, 1, Space::Manifest, &entries);
        assert_eq!(receiver.progress().entries, limits::UNSETTLED_MAX);
        while receiver.poll_event().is_some() {}
        let mut more = Vec::new();
        ManifestRecord::Void { entry: 3, reason: VoidReason::Changed }.encode(&mut more);
        FILE.encode(&mut more);
        handle_records(&mut receiver, 2, Space::Manifest, &more);
        let code = RefuseCode::Source;
        let reason = Some(VoidReason::Changed);
        let abandon = ReceiverEvent::Abandon { entry: 3, code, reason };
        assert_eq!(receiver.poll_event(), Some(abandon));
        assert_eq!(receiver.poll_event(), None, "the entry behind it waits");
        receiver.entry_failed(3, code, "");
        assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::Entry(_))));
    }

    //= proto.md#limits
    //= type=test
    //# a sender adds no entry at 512 KiB; a receiver reads no ENTRY at 1 MiB
    #[test]
    fn no_entry_is_read_while_the_names_of_those_before_are_too_long() {
        let mut receiver = receiver(false);
        let path = ["d"; 250].join("/");
        let ManifestRecord::Entry(file) = FILE else { unreachable!() };
        let mut record = Vec::new();
        ManifestRecord::Entry(Entry { path: path.as_bytes(), ..file }).encode(&mut record);
        let mut number = 0;
        while receiver.progress().entries == number {
            number += 1;
            handle_records(&mut receiver, u64::from(number), Space::Manifest, &record);
        }
        let most = limits::UNSETTLED_NAME_BYTES_MAX.div_ceil(path.len());
        assert_eq!(receiver.progress().entries as usize, most);
        receiver.entry_present(0);
        assert_eq!(receiver.progress().entries as usize, most + 1);
    }

    //= proto.md#limits
    //= type=test
    //# a receiver reads no ENTRY at 32,768
    #[test]
    fn no_entry_is_read_while_those_before_have_too_many_holes() {
        let mut receiver = receiver(false);
        let mut number = 0;
        while receiver.progress().entries == number {
            let mut records = Vec::new();
            let size = 1 << 20;
            let ManifestRecord::Entry(file) = FILE else { unreachable!() };
            ManifestRecord::Entry(Entry { size, ..file }).encode(&mut records);
            for hole in 0..limits::HOLES_MAX as u64 {
                ManifestRecord::Hole { offset: 2 * hole, bytes: 1 }.encode(&mut records);
            }
            number += 1;
            handle_records(&mut receiver, u64::from(number), Space::Manifest, &records);
        }
        assert_eq!(receiver.progress().entries, 2);
        assert_eq!(receiver.body.unsettled_holes(), limits::UNSETTLED_HOLES_MAX);
        receiver.entry_present(0);
        assert_eq!(receiver.progress().entries, 3);
    }

    //= proto.md#limits
    //= type=test
    //# | digests whose blocks are not complete | a receiver reads no further at 65,536 |
    #[test]
    fn digests_wait_until_the_bytes_of_the_blocks_before_have_come() {
        let mut receiver = receiver(false);
        let blocks = limits::WAITING_DIGESTS_MAX as u32 + 5;
        let ManifestRecord::Entry(file) = FILE else { unreachable!() };
        let mut records = Vec::new();
        let size = u64::from(blocks) * limits::BLOCK_BYTES;
        ManifestRecord::Entry(Entry { size, ..file }).encode(&mut records);
        handle_records(&mut receiver, 1, Space::Manifest, &records);
        let mut digests = Vec::new();
        let digest = Digest::from_slice(&[]).unwrap();
        for block in 0..blocks {
            DigestRecord { entry: 0, block, epoch: 0, digest }.encode(&mut digests);
        }
        handle_records(&mut receiver, 2, Space::Digests, &digests);
        let record_bytes = limits::DIGEST_RECORD_FIXED_BYTES as u64;
        let read = limits::WAITING_DIGESTS_MAX as u64;
        assert_eq!(receiver.digests.consumed(), read * record_bytes);
        let first = PacketNumber(3);
        let bytes = limits::BLOCK_BYTES;
        let run = ReceivedRun {
            first,
            packets: 1,
            offset: 0,
            payload_bytes: bytes,
            bytes,
            ack_now: false,
        };
        receiver.handle_body(Time::ZERO, &run, &mut Vec::new());
        assert_eq!(receiver.digests.consumed(), (read + 1) * record_bytes);
        assert_eq!(receiver.stats().unplaced, 0, "and nothing was dropped");
    }
}
