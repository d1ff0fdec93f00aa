//! A whole `Receiver` under a hostile sender that knows connection and seed: whatever comes, it
//! answers by the rules, keeps its memory bounded, and comes to an end.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ufx::proto::{Accepted, ReceivedRun, Receiver, ReceiverConfig, ReceiverEvent, Time};
use ufx::wire::{
    CloseCode, Data, Digest, DigestAlgorithm, DigestRecord, Entry, EntryKind, Flags, Frame,
    Greeting, Identity, ManifestRecord, Mode, Opener, Packet, PacketNumber, Probe, RefuseCode,
    Space, VoidReason, limits,
};

use crate::answers::Answers;
use crate::forge;
use crate::input::{Input, STEPS_MAX};

/// What the receiver may hold: both stream windows, the ranges of the body, 16,384 entries.
const MEMORY_BYTES_MAX: usize = 64 << 20;

/// Longer than every patience of the receiver together.
const PATIENCE: Duration = Duration::from_secs(120);

/// Datagrams that one input of the machine may cause at most.
const TRANSMITS_MAX: usize = 2_000;

/// A hostile peer, and the machine that it speaks to.
pub struct Hostile {
    now: Time,
    /// The machine.
    pub receiver: Receiver,
    accepted: Accepted,
    next_number: u64,
    /// Numbers that were handed to the machine as packets.
    handed: BTreeSet<u64>,
    manifest: u64,
    digests: u64,
    entries: u32,
    body_bytes: u64,
    /// The last entry is one.
    has_pipe: bool,
    pending: VecDeque<ReceiverEvent>,
    answers: Answers,
    ack: Credit,
    transmitted: u64,
    features: u64,
}

/// What the ACKs have promised so far.
#[derive(Default)]
struct Credit {
    number: u64,
    manifest: u64,
    digests: u64,
    largest: u64,
}

/// Runs one input.
pub fn run(bytes: &[u8]) -> u64 {
    let mut hostile = Hostile::after(bytes, STEPS_MAX);
    hostile.wait_for_the_end();
    hostile.features
}

impl Hostile {
    /// After so many steps of an input.
    pub fn after(bytes: &[u8], steps: usize) -> Hostile {
        let mut input = Input::new(bytes);
        let mut hostile = Hostile::new(&mut input);
        for _ in 0..steps {
            if input.is_empty() {
                break;
            }
            hostile.step(&mut input);
            hostile.observe();
        }
        hostile
    }

    fn new(input: &mut Input<'_>) -> Hostile {
        let digest = input.one_of(&[
            DigestAlgorithm::None,
            DigestAlgorithm::None,
            DigestAlgorithm::Xxh3,
            DigestAlgorithm::Blake3,
        ]);
        let greeting = Greeting {
            version_max: 1,
            version_min: 1,
            mode: Mode::Open,
            digest,
            dry_run: input.byte() % 8 == 1,
            discard: false,
            connection: 0x5e4d,
            seed: 0x0d0e,
            nonce: [9; 16],
            key_share: [0; 32],
        };
        let number = input.one_of(&[0, 0, 1, 63, 64, 1_000, (1 << 31) - 1]);
        let accepted = Accepted {
            greeting,
            connection: 0x00ec,
            seed: 0x1234,
            srtt_us: input.odd_u32(),
            number: PacketNumber(number),
            datagram_bytes: 84,
        };
        let socket_bytes = input.one_of(&[212_992, 4_608, 8 << 20]);
        let config = ReceiverConfig { socket_bytes, ..ReceiverConfig::default() };
        let now = Time::ZERO + Duration::from_secs(1_000);
        Hostile {
            now,
            receiver: Receiver::new(now, config, &accepted),
            accepted,
            next_number: number + 1,
            handed: BTreeSet::from([number]),
            manifest: 0,
            digests: 0,
            entries: 0,
            body_bytes: 0,
            has_pipe: false,
            pending: VecDeque::new(),
            answers: Answers::default(),
            ack: Credit::default(),
            transmitted: 0,
            features: 0,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 24 {
            0 => self.now += Duration::from_micros(input.below(2_000)),
            1 => self.now += Duration::from_millis(input.below(4_000)),
            2..=5 => self.send_entry(input),
            6 => {
                let (offset, bytes) = (input.odd_u64(), input.odd_u64());
                let (offset, bytes) = (offset % (1 << 48), bytes % (1 << 48));
                if self.has_pipe {
                    // One in two is a whole block, so that others may follow.
                    let bytes = match bytes % 2 {
                        0 => limits::BLOCK_BYTES as u32,
                        _ => (bytes % limits::BLOCK_BYTES) as u32,
                    };
                    self.send_manifest(&ManifestRecord::More { bytes });
                    self.body_bytes = self.body_bytes.saturating_add(u64::from(bytes));
                    return;
                }
                self.send_manifest(&ManifestRecord::Hole { offset, bytes });
            }
            7 => {
                let entry = self.some_entry(input);
                self.send_manifest(&ManifestRecord::Void { entry, reason: VoidReason::Changed });
            }
            8 => self.send_end(input),
            9 | 10 => self.send_digest(input),
            11..=14 => self.send_body(input),
            15 => self.send_stream_bytes(input),
            16 => self.send_raw(input),
            17 => self.send_frame(input, |input| {
                Frame::Probe(Probe {
                    srtt_us: input.odd_u32(),
                    window_packets: input.odd_u32(),
                    answers: input.odd_u64() % (1 << 48),
                    datagram_bytes: 0,
                })
            }),
            18 => self.next_number = self.some_number(input),
            19 => self.shell_reports(input),
            _ => {
                for _ in 0..input.below(8) {
                    self.shell_acts(input);
                }
            }
        }
        self.receiver.handle_timeout(self.now);
    }

    // ---- what the sender sends ----

    fn some_number(&self, input: &mut Input<'_>) -> u64 {
        let near = self.next_number.wrapping_add(input.odd_u64() % 20_000);
        let behind = near.wrapping_sub(10_000);
        // Further ahead than this a packet's 32 bits mean a number behind.
        if behind > u64::MAX / 2 { near } else { behind }
    }

    fn some_entry(&self, input: &mut Input<'_>) -> u32 {
        match input.byte() % 8 {
            0 => input.odd_u32() % u32::MAX,
            _ => input.below(u64::from(self.entries.clamp(1, 65_000))) as u32,
        }
    }

    fn number(&mut self) -> PacketNumber {
        let number = self.next_number;
        self.next_number += 1;
        PacketNumber(number)
    }

    fn hand(&mut self, number: PacketNumber, flags: Flags, frame: Frame<'_>, bytes: usize) {
        let connection = self.accepted.connection;
        let packet = Packet { connection, number, flags, frame, datagram_bytes: bytes };
        self.handed.insert(number.0);
        self.receiver.handle_packet(self.now, &packet);
    }

    fn send_frame(
        &mut self,
        input: &mut Input<'_>,
        frame: impl FnOnce(&mut Input<'_>) -> Frame<'static>,
    ) {
        let number = self.number();
        let ack_now = input.flag();
        let frame = frame(input);
        self.hand(number, Flags { ack_now }, frame, 60);
    }

    fn send_data(&mut self, space: Space, offset: u64, payload: &[u8]) {
        if payload.is_empty() || offset + payload.len() as u64 > limits::SPACE_BYTES_MAX {
            return;
        }
        let number = self.number();
        let data = Frame::Data(Data { space, offset, payload });
        self.hand(number, Flags::default(), data, payload.len() + limits::DATA_HEADER_BYTES);
    }

    fn send_manifest(&mut self, record: &ManifestRecord<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.send_data(Space::Manifest, self.manifest, &bytes);
        self.manifest += bytes.len() as u64;
    }

    fn send_entry(&mut self, input: &mut Input<'_>) {
        use EntryKind::{Directory, File, HardLink, Pipe, Symlink};
        let mut kind = input.one_of(&[File, HardLink, Directory, Symlink, File]);
        let mut size = match kind {
            File | Pipe => input.odd_u64() % (1 << 48),
            HardLink => 7,
            Directory | Symlink => 0,
        };
        self.has_pipe = kind == File && size % 16 == 1;
        if self.has_pipe {
            (kind, size) = (Pipe, limits::BLOCK_BYTES);
        }
        let path = format!("d/{}", input.below(64));
        let identity = Identity { device: 1, inode: 2, ctime_seconds: 3, ctime_nanos: 4 };
        self.send_manifest(&ManifestRecord::Entry(Entry {
            kind,
            mode: 0o644,
            mtime_seconds: 5,
            mtime_nanos: 6,
            size,
            identity,
            path: path.as_bytes(),
            target: match kind {
                Symlink | HardLink => b"t",
                File | Directory | Pipe => b"",
            },
        }));
        self.entries += 1;
        let has_body = matches!(kind, File | Pipe);
        let body = if has_body { size } else { 0 };
        self.body_bytes = self.body_bytes.saturating_add(body);
    }

    fn send_end(&mut self, input: &mut Input<'_>) {
        let honest = input.byte() % 4 != 1;
        let digest = vec![0; self.accepted.greeting.digest.digest_bytes()];
        self.send_manifest(&ManifestRecord::End {
            entries: if honest { self.entries } else { input.odd_u32() },
            body_bytes: if honest { self.body_bytes } else { input.odd_u64() } % (1 << 48),
            digests_bytes: if honest { self.digests } else { input.odd_u64() % (1 << 48) },
            digest: Digest::from_slice(&digest).expect("the length of an algorithm"),
        });
    }

    fn send_digest(&mut self, input: &mut Input<'_>) {
        let digest = vec![input.byte(); self.accepted.greeting.digest.digest_bytes()];
        let record = DigestRecord {
            entry: self.some_entry(input),
            block: input.one_of(&[0, 0, 0, 1, 2, u32::MAX >> 4]),
            epoch: input.one_of(&[0, 0, 0, 0, 1, 2, 3]),
            digest: Digest::from_slice(&digest).expect("the length of an algorithm"),
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.send_data(Space::Digests, self.digests, &bytes);
        self.digests += bytes.len() as u64;
    }

    /// A run as the shell gathers them from packets whose checks are right.
    fn send_body(&mut self, input: &mut Input<'_>) {
        let packets = 1 + input.below(64);
        let payload_bytes = 1 + input.odd_u64() % 65_487;
        let last = 1 + input.odd_u64() % payload_bytes;
        let bytes = (packets - 1) * payload_bytes + last;
        let offset = match input.byte() % 4 {
            0 => input.odd_u64() % (1 << 48),
            1 => self.body_bytes.saturating_sub(input.below(10_000)),
            _ => (input.below(4_096) * 1_024) % self.body_bytes.max(1),
        };
        if offset + bytes > limits::SPACE_BYTES_MAX {
            return;
        }
        let first = PacketNumber(self.next_number);
        self.next_number += packets;
        self.handed.extend(first.0..first.0 + packets);
        let ack_now = input.flag();
        let run = ReceivedRun { first, packets, offset, payload_bytes, bytes, ack_now };
        let mut places = Vec::new();
        self.receiver.handle_body(self.now, &run, &mut places);
        for place in &places {
            assert!(place.bytes > 0 && place.run_offset + place.bytes <= bytes, "{place:?}");
            let entries = self.receiver.progress().entries;
            assert!(place.entry < entries, "bytes for a file that was never announced");
            self.features |= 1;
        }
        self.receiver.on_written(places.iter().map(|place| place.bytes).sum());
    }

    fn send_stream_bytes(&mut self, input: &mut Input<'_>) {
        let space = input.one_of(&[Space::Manifest, Space::Digests, Space::Answers]);
        let offset = match input.byte() % 4 {
            0 => input.odd_u64() % (1 << 48),
            1 => self.manifest,
            2 => self.digests,
            _ => input.below(5_000),
        };
        let count = input.below(200) as usize;
        let payload = input.bytes(count).to_vec();
        self.send_data(space, offset, &payload);
    }

    /// Any frame, through the opener.
    fn send_raw(&mut self, input: &mut Input<'_>) {
        let number = self.number();
        let (frame_type, flags) = (input.byte() % 9, input.byte() % 16);
        let count = if input.flag() { input.below(4) } else { input.below(300) } as usize;
        let frame = input.bytes(count);
        let Accepted { connection, seed, .. } = self.accepted;
        let datagram = forge::packet(frame_type, flags, frame, connection, seed, number.0);
        match self.receiver.opener().open(&datagram) {
            // The shell hands body on as runs.
            Ok(Packet { frame: Frame::Data(Data { space: Space::Body, .. }), .. }) => {}
            Ok(packet) => {
                self.handed.insert(packet.number.0);
                self.receiver.handle_packet(self.now, &packet);
                self.features |= 2 << (frame_type % 8);
            }
            Err(_) => self.receiver.handle_invalid(),
        }
    }

    // ---- what the shell does ----

    fn shell_reports(&mut self, input: &mut Input<'_>) {
        match input.byte() % 6 {
            0 => self.receiver.handle_refused(self.now),
            2 => self.receiver.set_room(input.below(5_000)),
            3 => self.receiver.set_drops(input.odd_u32()),
            4 if input.byte() == 7 => self.receiver.cancel(CloseCode::Cancelled),
            _ => {
                let entry = self.some_entry(input);
                if entry < self.entries {
                    self.receiver.entry_failed(entry, RefuseCode::Disk, "full");
                }
            }
        }
    }

    /// Does the oldest thing the machine asked for, well or badly.
    fn shell_acts(&mut self, input: &mut Input<'_>) {
        let Some(event) = self.pending.pop_front() else { return };
        let luck = input.byte();
        let receiver = &mut self.receiver;
        match event {
            ReceiverEvent::Entry(entry) => {
                let number = entry.entry;
                match (entry.kind, luck % 8) {
                    (_, 1) => receiver.entry_present(number),
                    (_, 2) => receiver.entry_refused(number, RefuseCode::Exists, "there"),
                    (EntryKind::File, 3) => {
                        receiver.blocks_kept(number, u32::from(luck / 64), u32::from(luck / 8 % 4));
                    }
                    (EntryKind::File | EntryKind::Pipe, _) if !receiver.is_dry_run() => {}
                    _ => receiver.entry_committed(number),
                }
            }
            ReceiverEvent::Verify { entry, block, .. } if luck % 4 == 1 => {
                receiver.block_differs(entry, block);
            }
            ReceiverEvent::Verify { entry, block, .. } => receiver.block_verified(entry, block),
            ReceiverEvent::Commit { entry } if luck % 8 == 1 => {
                receiver.entry_failed(entry, RefuseCode::Space, "");
            }
            ReceiverEvent::Commit { entry } => receiver.entry_committed(entry),
            ReceiverEvent::Abandon { entry, code, .. } => receiver.entry_failed(entry, code, ""),
            ReceiverEvent::Settled => receiver.finish(self.now),
            ReceiverEvent::Hole { .. }
            | ReceiverEvent::More { .. }
            | ReceiverEvent::Finished
            | ReceiverEvent::Closed(_) => {}
        }
    }

    // ---- what must hold ----

    fn observe(&mut self) {
        while let Some(event) = self.receiver.poll_event() {
            self.features |= 1 << (10 + event_kind(&event));
            self.pending.push_back(event);
        }
        for count in 0.. {
            assert!(count < TRANSMITS_MAX, "it never stops to send");
            let Some(datagram) = self.receiver.poll_transmit(self.now) else { break };
            self.check_datagram(&datagram);
        }
        assert!(self.receiver.memory_bytes() < MEMORY_BYTES_MAX, "memory is not bounded");
        let timeout = self.receiver.poll_timeout(self.now);
        assert_eq!(timeout.is_none(), self.receiver.is_closed(), "an end of the waiting");
    }

    fn check_datagram(&mut self, datagram: &[u8]) {
        assert!(datagram.len() <= limits::DATAGRAM_BYTES_MIN, "{} bytes", datagram.len());
        let Greeting { connection, seed, .. } = self.accepted.greeting;
        let expected = PacketNumber(self.transmitted);
        let packet = Opener { connection, seed, expected }.open(datagram).expect("a good packet");
        assert_eq!(packet.number, expected, "numbers count up by one");
        self.transmitted += 1;
        match packet.frame {
            Frame::Ack(ack) => {
                let Credit { number, manifest, digests, largest } = self.ack;
                assert!(self.handed.contains(&ack.largest.0), "acknowledges what never came");
                assert!(ack.largest.0 >= largest && ack.max_number.0 >= number, "retreats");
                assert!(ack.max_manifest >= manifest && ack.max_digests >= digests, "retreats");
                self.ack = Credit {
                    number: ack.max_number.0,
                    manifest: ack.max_manifest,
                    digests: ack.max_digests,
                    largest: ack.largest.0,
                };
                for bit in 0..ack.bitmap.words() as u64 * 64 {
                    let is_set = ack.bitmap.bits(bit as usize, 1) == 1;
                    let known = self.handed.contains(&(ack.base.0 + bit));
                    assert!(!is_set || known, "acknowledges {}", ack.base.0 + bit);
                }
            }
            Frame::Data(Data { space: Space::Answers, offset, payload }) => {
                self.answers.take(offset, payload);
                let announced = self.receiver.progress().entries;
                self.answers.read(self.accepted.greeting.dry_run, announced);
            }
            Frame::Close(_) => self.features |= 1 << 30,
            frame => panic!("a receiver sends no {frame:?}"),
        }
    }

    /// The sender has fallen silent, and the shell does its work.
    fn wait_for_the_end(&mut self) {
        let until = self.now + PATIENCE;
        let mut idle = 0;
        while !self.receiver.is_closed() {
            while !self.pending.is_empty() {
                self.shell_acts(&mut Input::new(&[]));
            }
            let before = self.transmitted;
            self.receiver.handle_timeout(self.now);
            self.observe();
            let Some(at) = self.receiver.poll_timeout(self.now) else { break };
            let stands_still =
                at <= self.now && before == self.transmitted && self.pending.is_empty();
            idle = if stands_still { idle + 1 } else { 0 };
            assert!(idle < 10, "asks to be called again and again for nothing");
            self.now = self.now.max(at);
            assert!(self.now <= until, "waits without end");
        }
        self.observe();
        while let Some(event) = self.pending.pop_front() {
            self.features |= 1 << (10 + event_kind(&event));
        }
        self.features |= u64::from(self.answers.ended) << 31;
    }
}

fn event_kind(event: &ReceiverEvent) -> u32 {
    match event {
        ReceiverEvent::Entry(_) => 0,
        ReceiverEvent::Hole { .. } | ReceiverEvent::More { .. } => 1,
        ReceiverEvent::Verify { .. } => 2,
        ReceiverEvent::Commit { .. } => 3,
        ReceiverEvent::Abandon { .. } => 4,
        ReceiverEvent::Settled => 5,
        ReceiverEvent::Finished => 6,
        // One of a few classes, so that each broken rule is a feature of its own.
        ReceiverEvent::Closed(error) => 7 + crc32fast::hash(error.to_string().as_bytes()) % 12,
    }
}
