//! Receivers that were made to keep one thing as often as proto.md, "Limits", lets a sender.

use ufx::proto::{Accepted, ReceivedRun, Receiver, ReceiverConfig, ReceiverEvent, Time};
use ufx::wire::{
    Data, Digest, DigestAlgorithm, DigestRecord, Entry, EntryKind, Flags, Frame, Greeting,
    Identity, ManifestRecord, Mode, Packet, PacketNumber, RefuseCode, Space, limits,
};

/// What is hoarded, and the receiver that does.
pub type Hoard = (&'static str, fn() -> Receiver);

/// All of them.
pub const HOARDS: [Hoard; 9] = [
    ("stored ranges", || {
        let mut peer = Peer::new();
        peer.file(1, 1 << 30);
        (0..60_000).for_each(|at| peer.body(1_000 * at, 500));
        peer.receiver
    }),
    ("stored ranges, from the end to the start", || {
        let mut peer = Peer::new();
        peer.file(1, 1 << 30);
        (0..60_000).rev().for_each(|at| peer.body(1_000 * at, 500));
        peer.receiver
    }),
    ("pieces of the manifest behind a gap", || {
        let mut peer = Peer::new();
        (0..4_000).for_each(|at| peer.data(Space::Manifest, 100 + 110 * at, &[1; 100]));
        peer.receiver
    }),
    ("files that never come", || {
        let mut peer = Peer::new();
        (0..8_000).for_each(|name| peer.file(name, 3 << 20));
        peer.shell();
        peer.receiver
    }),
    ("files that the shell has not heard of", || {
        let mut peer = Peer::new();
        (0..8_000).for_each(|name| peer.file(name, 3 << 20));
        peer.receiver
    }),
    ("files of which a block is verified, and one begun", || {
        let mut peer = Peer::new();
        for number in 0..4_000 {
            peer.file(number, 3 << 20);
            (0..3).for_each(|block| peer.digest(number as u32, block));
            let start = u64::from(number as u32) * (3 << 20);
            peer.body(start, 1 << 20);
            peer.body(start + (2 << 20), 1_000);
        }
        peer.shell();
        peer.receiver
    }),
    ("digests of blocks that never come", || {
        let mut peer = Peer::new();
        peer.file(1, 60_000 << 20);
        (0..60_000).for_each(|block| peer.digest(0, block));
        peer.receiver
    }),
    ("holes of files that never come", || {
        let mut peer = Peer::new();
        for name in 0..2 {
            peer.file(name, 1 << 30);
            for hole in 0..16_000 {
                peer.manifest(&ManifestRecord::Hole { offset: 10_000 * hole, bytes: 4_096 });
            }
        }
        peer.shell();
        peer.receiver
    }),
    ("answers that nobody acknowledges", || {
        let mut peer = Peer::new();
        for name in 0..6_000 {
            peer.file(name, 0);
            peer.receiver.entry_refused(name as u32, RefuseCode::Exists, "it is there");
            while peer.receiver.poll_event().is_some() {}
        }
        peer.receiver
    }),
];

/// Who sends that.
struct Peer {
    receiver: Receiver,
    number: u64,
    ends: [u64; 2],
}

impl Peer {
    fn new() -> Peer {
        let greeting = Greeting {
            version_max: 1,
            version_min: 1,
            mode: Mode::Open,
            digest: DigestAlgorithm::Xxh3,
            dry_run: false,
            discard: false,
            connection: 1,
            seed: 2,
            nonce: [3; 16],
            key_share: [0; 32],
        };
        let accepted = Accepted {
            greeting,
            connection: 4,
            seed: 5,
            srtt_us: 100,
            number: PacketNumber(0),
            datagram_bytes: 84,
        };
        let receiver = Receiver::new(Time::ZERO, ReceiverConfig::default(), &accepted);
        Peer { receiver, number: 1, ends: [0; 2] }
    }

    fn data(&mut self, space: Space, offset: u64, payload: &[u8]) {
        let packet = Packet {
            connection: 4,
            number: PacketNumber(self.number),
            flags: Flags::default(),
            frame: Frame::Data(Data { space, offset, payload }),
            datagram_bytes: payload.len() + limits::DATA_HEADER_BYTES,
        };
        self.number += 1;
        self.receiver.handle_packet(Time::ZERO, &packet);
    }

    fn manifest(&mut self, record: &ManifestRecord<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.data(Space::Manifest, self.ends[0], &bytes);
        self.ends[0] += bytes.len() as u64;
    }

    fn file(&mut self, name: usize, size: u64) {
        let path = format!("{name:0100}");
        self.manifest(&ManifestRecord::Entry(Entry {
            kind: EntryKind::File,
            mode: 0o644,
            mtime_seconds: 5,
            mtime_nanos: 6,
            size,
            identity: Identity { device: 1, inode: 2, ctime_seconds: 3, ctime_nanos: 4 },
            path: path.as_bytes(),
            target: b"",
        }));
    }

    fn digest(&mut self, entry: u32, block: u32) {
        let digest = Digest::from_slice(&[7; 16]).expect("the length of an algorithm");
        let mut bytes = Vec::new();
        DigestRecord { entry, block, epoch: 0, digest }.encode(&mut bytes);
        self.data(Space::Digests, self.ends[1], &bytes);
        self.ends[1] += bytes.len() as u64;
    }

    fn body(&mut self, offset: u64, bytes: u64) {
        let first = PacketNumber(self.number);
        let packets = bytes.div_ceil(1_452);
        let run =
            ReceivedRun { first, packets, offset, payload_bytes: 1_452, bytes, ack_now: false };
        self.number += packets;
        let mut places = Vec::new();
        self.receiver.handle_body(Time::ZERO, &run, &mut places);
        self.receiver.on_written(places.iter().map(|place| place.bytes).sum());
    }

    /// The shell does what it is told, and all goes well.
    fn shell(&mut self) {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Verify { entry, block, .. } => {
                    self.receiver.block_verified(entry, block);
                }
                ReceiverEvent::Commit { entry } => self.receiver.entry_committed(entry),
                _ => {}
            }
        }
    }
}
