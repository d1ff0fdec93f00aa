//! A receiver that stores nothing and says what it is told to say: honest ACKs and answers where
//! the misdeed is over, anything else before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ufx::wire::{
    Ack, AnswerRecord, Bitmap, CloseCode, Data, Flags, Frame, Greeting, Limit, ManifestRecord,
    Mode, Opener, PacketNumber, Sealer, Space, Welcome, encode_words, limits,
};

use crate::forge;
use crate::support::process::LIMIT;

/// Silence after which it says again what it has.
const PAUSE: Duration = Duration::from_millis(20);

/// For packets to it.
const OWN: Sealer = Sealer { connection: 0x0bad_0002, seed: 0x5eed };

/// Packets that it lets be under way: less than its socket takes.
const CREDIT: u32 = 64;

/// See the module's description.
pub struct HostileReceiver {
    /// Where it listens.
    pub socket: UdpSocket,
    /// The sender, once it has said HELLO.
    pub peer: Option<SocketAddr>,
    /// What HELLO said.
    pub greeting: Option<Greeting>,
    /// The number of the next packet.
    pub number: u64,
    /// Packets that came.
    pub got: BTreeSet<u64>,
    /// Entries that were announced.
    pub entries: u32,
    /// Whether the manifest has ended.
    pub has_ended: bool,
    /// Why the sender closed.
    pub closed: Option<CloseCode>,
    bytes: u64,
    manifest: BTreeMap<u64, Vec<u8>>,
    /// Answers so far.
    pub answers: Vec<u8>,
}

impl HostileReceiver {
    /// Listens on a free port.
    pub fn new() -> HostileReceiver {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PAUSE)).unwrap();
        HostileReceiver {
            socket,
            peer: None,
            greeting: None,
            number: 0,
            got: BTreeSet::new(),
            entries: 0,
            has_ended: false,
            closed: None,
            bytes: 0,
            manifest: BTreeMap::new(),
            answers: Vec::new(),
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    // ---- what comes ----

    /// Takes in the next datagram; false if none came in a moment.
    pub fn take_in(&mut self) -> bool {
        let mut datagram = vec![0; 65_536];
        let Ok((bytes, from)) = self.socket.recv_from(&mut datagram) else { return false };
        datagram.truncate(bytes);
        if let Ok(packet) = Opener::hello().open(&datagram)
            && let Frame::Hello(hello) = packet.frame
        {
            // Later ones only ask whether the transfer is forgotten.
            self.greeting.get_or_insert(hello.greeting);
            self.peer = Some(from);
            return true;
        }
        let expected = PacketNumber(self.got.last().map_or(0, |last| last + 1));
        let Sealer { connection, seed } = OWN;
        let Ok(packet) = Opener { connection, seed, expected }.open(&datagram) else { return true };
        if self.got.insert(packet.number.0) {
            self.bytes += bytes as u64;
        }
        match packet.frame {
            Frame::Data(Data { space: Space::Manifest, offset, payload }) => {
                self.manifest.insert(offset, payload.to_vec());
                self.read_manifest();
            }
            Frame::Close(close) => self.closed = Some(close.code),
            _ => {}
        }
        true
    }

    fn read_manifest(&mut self) {
        let mut bytes: Vec<u8> = Vec::new();
        for (offset, payload) in &self.manifest {
            if let Some(known) = (bytes.len() as u64).checked_sub(*offset) {
                bytes.extend(payload.iter().skip(known as usize));
            }
        }
        let (mut rest, mut entries) = (&bytes[..], 0);
        while let Ok(Some((record, used))) = ManifestRecord::decode(rest) {
            rest = &rest[used..];
            entries += u32::from(matches!(record, ManifestRecord::Entry(_)));
            self.has_ended |= matches!(record, ManifestRecord::End { .. });
        }
        self.entries = entries;
    }

    /// Takes in what comes until `happened` or the sender closed.
    #[track_caller]
    pub fn wait(&mut self, what: &str, happened: impl Fn(&HostileReceiver) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while self.closed.is_none() && !happened(self) {
            assert!(Instant::now() < deadline, "waited in vain: {what}");
            self.take_in();
        }
    }

    /// The same, with honest ACKs.
    #[track_caller]
    pub fn serve(&mut self, what: &str, happened: impl Fn(&HostileReceiver) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while self.closed.is_none() && !happened(self) {
            assert!(Instant::now() < deadline, "waited in vain: {what}");
            let before = self.got.len();
            let came = self.take_in();
            if !came || self.got.len() > before {
                self.ack(|_| {});
            }
        }
    }

    // ---- what goes out ----

    /// Sends any bytes.
    pub fn send_datagram(&self, datagram: &[u8]) {
        let Some(peer) = self.peer else { return };
        // It may be gone.
        let _ = self.socket.send_to(datagram, peer);
    }

    /// Seals packets as the sender wants them.
    pub fn sealer(&self) -> Sealer {
        let greeting = self.greeting.expect("HELLO has come");
        Sealer { connection: greeting.connection, seed: greeting.seed }
    }

    /// Sends a frame under the next number.
    pub fn send(&mut self, frame: &Frame<'_>) {
        let mut datagram = Vec::new();
        let number = match frame {
            Frame::Welcome(_) => 0,
            _ => self.next_number(),
        };
        self.sealer().seal(PacketNumber(number), Flags::default(), frame, &mut datagram);
        self.send_datagram(&datagram);
    }

    /// Sends a packet of any type and content that is sealed well.
    pub fn send_forged(&mut self, frame_type: u8, flags: u8, frame: &[u8]) {
        let Sealer { connection, seed } = self.sealer();
        let number = self.next_number();
        self.send_datagram(&forge::packet(frame_type, flags, frame, connection, seed, number));
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number - 1
    }

    /// WELCOME as it should be; HELLO must have come.
    pub fn welcome(&self) -> Welcome {
        let greeting = self.greeting.expect("HELLO has come");
        Welcome {
            version: 1,
            mode: Mode::Open,
            digest: greeting.digest,
            nonce: greeting.nonce,
            connection: OWN.connection,
            seed: OWN.seed,
            socket_bytes: 100_000,
            datagram_bytes_max: limits::BASE_DATAGRAM_BYTES as u32,
            credit: CREDIT,
            key_share: [0; 32],
            proof: [0; 16],
        }
    }

    /// Waits for HELLO.
    #[track_caller]
    pub fn listen(&mut self) {
        self.wait("HELLO", |one| one.greeting.is_some());
    }

    /// Listens, welcomes as it should, and waits for the first packets.
    #[track_caller]
    pub fn meet(&mut self) {
        self.meet_with(|_| {});
    }

    /// The same with a WELCOME that was changed.
    #[track_caller]
    pub fn meet_with(&mut self, change: fn(&mut Welcome)) {
        self.listen();
        let mut welcome = self.welcome();
        change(&mut welcome);
        self.send(&Frame::Welcome(welcome));
        self.serve("an entry", |one| one.entries > 0);
    }

    /// Sends an ACK of all that came, after a change; at least one packet must have come.
    pub fn ack(&mut self, change: impl FnOnce(&mut Ack<'_>)) {
        let Some(&largest) = self.got.last() else { return };
        let base = largest.saturating_sub(8_000) & !63;
        let mut words = vec![0; ((largest - base) / 64 + 1) as usize];
        for number in self.got.range(base..) {
            let bit = number - base;
            words[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        let mut buffer = Vec::new();
        let mut ack = Ack {
            largest: PacketNumber(largest),
            arrival_us: self.number * 100,
            delay_us: 0,
            received_packets: self.got.len() as u64,
            received_bytes: self.bytes,
            duplicates: 0,
            drops: 0,
            ecn_ce: 0,
            max_number: PacketNumber(largest + u64::from(CREDIT)),
            max_manifest: limits::OFFSET_MAX,
            max_digests: limits::OFFSET_MAX,
            max_body: limits::OFFSET_MAX,
            written: 0,
            datagram_bytes: limits::BASE_DATAGRAM_BYTES as u32,
            limit: Limit::Nothing,
            base: PacketNumber(base),
            bitmap: encode_words(&words, &mut buffer),
        };
        change(&mut ack);
        self.send(&Frame::Ack(ack));
    }

    /// An ACK of nothing but what `change` makes it say.
    pub fn bare_ack(&mut self, change: impl FnOnce(&mut Ack<'_>)) {
        self.ack(|ack| {
            ack.base = PacketNumber(0);
            ack.bitmap = Bitmap::EMPTY;
            change(ack);
        });
    }

    /// Sends an ACK that the library would not make.
    pub fn send_raw_ack(&mut self, largest: u64, base: u64, bitmap: &[u8]) {
        let mut frame = vec![0; limits::ACK_BYTES_MIN - limits::HEADER_BYTES];
        frame[..8].copy_from_slice(&largest.to_be_bytes());
        frame[48..56].copy_from_slice(&u64::MAX.to_be_bytes());
        frame[90..].copy_from_slice(&base.to_be_bytes());
        frame.extend(bitmap);
        self.send_forged(5, 0, &frame);
    }

    /// Appends an answer and sends it.
    pub fn answer(&mut self, record: AnswerRecord<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.answer_bytes(&bytes);
    }

    /// The same with any bytes.
    pub fn answer_bytes(&mut self, bytes: &[u8]) {
        self.answers.extend(bytes);
        self.repeat_answers();
    }

    /// Sends all answers.
    pub fn repeat_answers(&mut self) {
        let answers = std::mem::take(&mut self.answers);
        for (index, payload) in answers.chunks(1_000).enumerate() {
            let offset = index as u64 * 1_000;
            self.send(&Frame::Data(Data { space: Space::Answers, offset, payload }));
        }
        self.answers = answers;
    }

    /// Sends a chunk of the answers that is none of the honest ones.
    pub fn send_answers(&mut self, offset: u64, payload: &[u8]) {
        self.send(&Frame::Data(Data { space: Space::Answers, offset, payload }));
    }

    /// Goes on honestly: takes everything, says that it is committed, and waits for CLOSE.
    #[track_caller]
    pub fn finish(&mut self) {
        if self.greeting.is_none() {
            self.meet();
        }
        self.serve("the end of the manifest", |one| one.has_ended);
        let entries = self.entries;
        if self.answers.is_empty() {
            self.answer(AnswerRecord::Committed { first_entry: 0, entries });
            self.answer(AnswerRecord::End { committed: entries, present: 0, failed: 0 });
        }
        let deadline = Instant::now() + LIMIT;
        while self.closed.is_none() {
            assert!(Instant::now() < deadline, "the sender does not close");
            self.ack(|_| {});
            if !self.take_in() {
                self.repeat_answers();
            }
        }
        assert_eq!(self.closed, Some(CloseCode::Done), "the sender's reason");
    }
}
