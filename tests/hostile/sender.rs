//! A sender that does what it is told, step by step: it knows the protocol and keeps to none of
//! it by itself. What it announces honestly it can also end honestly.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use ufx::wire::{
    AnswerRecord, Close, CloseCode, Data, DigestAlgorithm, Flags, Frame, Greeting, Hello, Mode,
    Opener, PacketNumber, Probe, Sealer, Space, Start, Welcome,
};

use crate::forge;
use crate::support::process::LIMIT;

/// Silence after which it asks, or sends again what was not acknowledged.
const PAUSE: Duration = Duration::from_millis(50);

/// Packets under way at most: less than any socket takes.
const WINDOW: usize = 48;

/// See the module's description.
pub struct HostileSender {
    /// Connected to the receiver.
    pub socket: UdpSocket,
    /// What HELLO and START say.
    pub greeting: Greeting,
    /// For packets to the receiver, once there was a WELCOME.
    pub sealer: Sealer,
    /// The number of the next packet.
    pub number: u64,
    /// Transfers that it opened: the receiver reports each.
    pub opened: usize,
    /// Why the receiver closed, if it did.
    pub closed: Option<CloseCode>,
    /// The largest values of the last ACK: packet number, manifest, digests.
    pub credit: [u64; 3],
    /// Body bytes that are in files, by the last ACK.
    pub written: u64,
    /// Packets that an ACK has reported.
    pub held: BTreeSet<u64>,
    /// What became of each entry, in words.
    pub outcomes: BTreeMap<u32, String>,
    /// Blocks that were asked for again: entry, block, epoch.
    pub again: Vec<(u32, u32, u8)>,
    /// Answer END: committed, present, failed.
    pub ended: Option<[u32; 3]>,
    /// It says nothing of its own while it waits.
    pub is_mute: bool,
    /// It never says which answers have come.
    pub ignores_answers: bool,
    /// Every WELCOME that came since START.
    pub welcomes: usize,
    /// Whether it keeps what it sends.
    pub records: bool,
    /// What it sent while it kept it.
    pub sent: RefCell<Vec<Vec<u8>>>,
    /// Everything that was appended to the manifest and the digests.
    pub streams: [Vec<u8>; 2],
    entries: u32,
    body_bytes: u64,
    expected: u64,
    answers: Vec<u8>,
    answers_read: usize,
}

/// What a good HELLO says; another one for each number.
pub fn greeting(number: u32) -> Greeting {
    let mut nonce = [0; 16];
    nonce[..4].copy_from_slice(&number.to_be_bytes());
    Greeting {
        version_max: 1,
        version_min: 1,
        mode: Mode::Open,
        digest: DigestAlgorithm::Xxh3,
        dry_run: false,
        discard: false,
        connection: 0x0bad_0001,
        seed: 0x5eed,
        nonce,
        key_share: [0; 32],
    }
}

impl HostileSender {
    /// A stranger to whoever listens on `port`.
    pub fn new(port: u16, nonce: u8) -> HostileSender {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PAUSE)).unwrap();
        HostileSender {
            socket,
            greeting: Greeting { nonce: [nonce; 16], ..greeting(0) },
            sealer: Sealer { connection: 0, seed: 0 },
            number: 0,
            opened: 0,
            closed: None,
            credit: [0; 3],
            written: 0,
            held: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            again: Vec::new(),
            ended: None,
            is_mute: false,
            ignores_answers: false,
            welcomes: 0,
            records: false,
            sent: RefCell::default(),
            streams: [Vec::new(), Vec::new()],
            entries: 0,
            body_bytes: 0,
            expected: 0,
            answers: Vec::new(),
            answers_read: 0,
        }
    }

    // ---- the handshake ----

    /// HELLO as it should be.
    pub fn hello(&self) -> Vec<u8> {
        let mut datagram = Vec::new();
        let hello = Frame::Hello(Hello { greeting: self.greeting });
        Sealer::hello().seal(PacketNumber(0), Flags::default(), &hello, &mut datagram);
        datagram
    }

    /// Sends HELLO and takes in the WELCOME that must come.
    #[track_caller]
    pub fn greet(&mut self) -> Welcome {
        for _ in 0..100 {
            self.send_datagram(&self.hello());
            let Some(answer) = self.receive() else { continue };
            if let Some(Frame::Welcome(welcome)) = self.open_first(&answer) {
                assert_eq!(welcome.nonce, self.greeting.nonce);
                self.sealer = Sealer { connection: welcome.connection, seed: welcome.seed };
                return welcome;
            }
        }
        panic!("nobody answers HELLO");
    }

    /// An answer to HELLO, opened.
    pub fn open_first<'a>(&self, datagram: &'a [u8]) -> Option<Frame<'a>> {
        let Greeting { connection, seed, .. } = self.greeting;
        let opener = Opener { connection, seed, expected: PacketNumber(0) };
        opener.open(datagram).ok().map(|packet| packet.frame)
    }

    /// START as it should be.
    pub fn start(&mut self) -> Vec<u8> {
        let frame = Frame::Start(Start { greeting: self.greeting, srtt_us: 100 });
        self.sealed(&frame)
    }

    /// The whole handshake; the receiver has a transfer then.
    #[track_caller]
    pub fn connect(&mut self) {
        self.greet();
        self.opened += 1;
        let deadline = Instant::now() + LIMIT;
        while self.held.is_empty() {
            assert!(Instant::now() < deadline, "START was not acknowledged");
            let start = self.start();
            self.send_datagram(&start);
            self.take_in();
        }
    }

    // ---- single packets ----

    /// Sends any bytes.
    pub fn send_datagram(&self, datagram: &[u8]) {
        // A refused datagram is a lost one: ICMP may tell of what was sent long ago.
        let _ = self.socket.send(datagram);
        if self.records {
            self.sent.borrow_mut().push(datagram.to_vec());
        }
    }

    fn sealed(&mut self, frame: &Frame<'_>) -> Vec<u8> {
        let mut datagram = Vec::new();
        self.sealer.seal(PacketNumber(self.number), Flags { ack_now: true }, frame, &mut datagram);
        self.number += 1;
        datagram
    }

    /// Sends a frame under the next number; returns that.
    pub fn send(&mut self, frame: &Frame<'_>) -> u64 {
        let datagram = self.sealed(frame);
        self.send_datagram(&datagram);
        self.number - 1
    }

    /// Sends DATA; returns its number.
    pub fn send_data(&mut self, space: Space, offset: u64, payload: &[u8]) -> u64 {
        self.send(&Frame::Data(Data { space, offset, payload }))
    }

    /// Sends a packet of any type and content that is sealed well; returns its number.
    pub fn send_forged(&mut self, frame_type: u8, flags: u8, frame: &[u8]) -> u64 {
        let Sealer { connection, seed } = self.sealer;
        let datagram = forge::packet(frame_type, flags, frame, connection, seed, self.number);
        self.send_datagram(&datagram);
        self.number += 1;
        self.number - 1
    }

    /// Sends CLOSE.
    pub fn close(&mut self, code: CloseCode) {
        self.send(&Frame::Close(Close { code, text: "" }));
    }

    /// Asks for an ACK, and says which answers have come.
    pub fn probe(&mut self) {
        let answers = if self.ignores_answers { 0 } else { self.answers.len() as u64 };
        self.send(&Frame::Probe(Probe {
            srtt_us: 100,
            window_packets: 64,
            answers,
            datagram_bytes: 0,
        }));
    }

    // ---- what comes back ----

    /// The next datagram, if one comes in a moment.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut datagram = vec![0; 65_536];
        let bytes = self.socket.recv(&mut datagram).ok()?;
        datagram.truncate(bytes);
        Some(datagram)
    }

    /// Takes in the next datagram; false if none came in a moment.
    pub fn take_in(&mut self) -> bool {
        let Some(datagram) = self.receive() else { return false };
        let Greeting { connection, seed, .. } = self.greeting;
        let opener = Opener { connection, seed, expected: PacketNumber(self.expected) };
        let Ok(packet) = opener.open(&datagram) else { return true };
        match packet.frame {
            Frame::Welcome(_) => self.welcomes += 1,
            Frame::Close(close) => self.closed = Some(close.code),
            Frame::Ack(ack) => {
                self.expected = self.expected.max(packet.number.0 + 1);
                let bits = (0..ack.bitmap.words() as u64 * 64)
                    .filter(|bit| ack.bitmap.bits(*bit as usize, 1) == 1);
                self.held.extend(bits.map(|bit| ack.base.0 + bit));
                self.written = ack.written;
                let told = [ack.max_number.0, ack.max_manifest, ack.max_digests];
                for (known, told) in self.credit.iter_mut().zip(told) {
                    *known = told.max(*known);
                }
            }
            Frame::Data(data) => {
                self.expected = self.expected.max(packet.number.0 + 1);
                let known = self.answers.len() as u64;
                if let Some(skip) = known.checked_sub(data.offset) {
                    self.answers.extend(data.payload.iter().skip(skip as usize));
                }
                self.read_answers();
            }
            frame => panic!("a receiver sends no {frame:?}"),
        }
        true
    }

    fn read_answers(&mut self) {
        let answers = std::mem::take(&mut self.answers);
        while let Some((record, used)) =
            AnswerRecord::decode(&answers[self.answers_read..]).unwrap()
        {
            self.answers_read += used;
            let (first, entries, outcome) = match record {
                AnswerRecord::Have { .. } => continue,
                AnswerRecord::Again { entry, block, epoch } => {
                    self.again.push((entry, block, epoch));
                    continue;
                }
                AnswerRecord::End { committed, present, failed } => {
                    self.ended = Some([committed, present, failed]);
                    continue;
                }
                AnswerRecord::Present { first_entry, entries } => {
                    (first_entry, entries, "present".to_owned())
                }
                AnswerRecord::Kept { first_entry, entries } => {
                    (first_entry, entries, "kept".to_owned())
                }
                AnswerRecord::Committed { first_entry, entries } => {
                    (first_entry, entries, "committed".to_owned())
                }
                AnswerRecord::Take { first_entry, entries } => {
                    (first_entry, entries, "take".to_owned())
                }
                AnswerRecord::Refused { entry, code, .. } => {
                    (entry, 1, format!("refused {code:?}"))
                }
                AnswerRecord::Failed { entry, code, .. } => (entry, 1, format!("failed {code:?}")),
            };
            for entry in first..first + entries {
                let before = self.outcomes.insert(entry, outcome.clone());
                assert_eq!(before, None, "entry {entry} was settled twice");
            }
        }
        self.answers = answers;
    }

    /// Takes in what comes, asking now and then, until `happened` or the receiver closed.
    #[track_caller]
    pub fn wait(&mut self, what: &str, happened: impl Fn(&HostileSender) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while self.closed.is_none() && !happened(self) {
            assert!(Instant::now() < deadline, "waited in vain: {what}");
            if !self.take_in() && !self.is_mute {
                self.probe();
            }
        }
    }

    /// Waits until the receiver has seen all packets so far that came through.
    #[track_caller]
    pub fn sync(&mut self) {
        let number = self.number;
        self.probe();
        self.wait("an ACK", |peer| peer.held.range(number..).next().is_some());
    }

    /// Asserts that the receiver has not taken these packets.
    #[track_caller]
    pub fn expect_dropped(&mut self, numbers: &[u64]) {
        self.sync();
        let held: Vec<&u64> = numbers.iter().filter(|one| self.held.contains(one)).collect();
        assert_eq!(held, [&0; 0], "packets were taken");
    }

    // ---- whole contents ----

    /// Sends bytes of a space until all of it is acknowledged, or the receiver closed.
    #[track_caller]
    pub fn deliver(&mut self, space: Space, offset: u64, bytes: &[u8]) {
        let chunks: Vec<(u64, &[u8])> = bytes
            .chunks(forge::PAYLOAD_BYTES)
            .scan(offset, |at, chunk| {
                *at += chunk.len() as u64;
                Some((*at - chunk.len() as u64, chunk))
            })
            .collect();
        for window in chunks.chunks(WINDOW) {
            let mut left = window.to_vec();
            let deadline = Instant::now() + LIMIT;
            while !left.is_empty() && self.closed.is_none() {
                assert!(Instant::now() < deadline, "{space:?} at {offset} was never held");
                let sent: Vec<u64> =
                    left.iter().map(|(at, chunk)| self.send_data(space, *at, chunk)).collect();
                let heard = self.answers.len();
                let all_held =
                    |peer: &HostileSender| sent.iter().all(|one| peer.held.contains(one));
                while !all_held(self) && self.closed.is_none() && self.take_in() {}
                if self.answers.len() > heard {
                    self.probe();
                }
                let held = &self.held;
                let mut numbers = sent.iter();
                left.retain(|_| numbers.next().is_some_and(|number| !held.contains(number)));
            }
        }
    }

    /// Appends records to a space and sends them once, whether they are taken or not.
    #[track_caller]
    pub fn offer(&mut self, space: Space, records: &[u8]) {
        let stream = &mut self.streams[usize::from(space == Space::Digests)];
        let offset = stream.len() as u64;
        stream.extend(records);
        let mut at = offset;
        for window in records.chunks(WINDOW * forge::PAYLOAD_BYTES) {
            for chunk in window.chunks(forge::PAYLOAD_BYTES) {
                self.send_data(space, at, chunk);
                at += chunk.len() as u64;
            }
            self.sync();
        }
    }

    /// Appends records to the manifest and delivers them.
    #[track_caller]
    pub fn manifest(&mut self, records: &[Vec<u8>]) {
        let records = records.concat();
        let offset = self.streams[0].len() as u64;
        self.streams[0].extend(&records);
        self.deliver(Space::Manifest, offset, &records);
    }

    /// Appends records to the digests and delivers them.
    #[track_caller]
    pub fn digests(&mut self, records: &[Vec<u8>]) {
        let records = records.concat();
        let offset = self.streams[1].len() as u64;
        self.streams[1].extend(&records);
        self.deliver(Space::Digests, offset, &records);
    }

    /// Announces entries without a body, which count for an honest end.
    #[track_caller]
    pub fn announce(&mut self, records: &[Vec<u8>]) {
        self.entries += records.len() as u32;
        self.manifest(records);
    }

    /// Announces a file of at most one block; returns its entry and where its body starts.
    #[track_caller]
    pub fn announce_file(&mut self, path: &[u8], bytes: u64) -> (u32, u64) {
        let place = (self.entries, self.body_bytes);
        self.body_bytes += bytes;
        self.announce(&[forge::file(path, bytes)]);
        place
    }

    /// Announces and sends a file of at most one block, as an honest sender would.
    #[track_caller]
    pub fn send_file(&mut self, path: &[u8], content: &[u8]) {
        let (entry, offset) = self.announce_file(path, content.len() as u64);
        self.deliver(Space::Body, offset, content);
        if !content.is_empty() {
            self.digests(&[forge::digest(entry, 0, 0, &forge::xxh3(content))]);
        }
    }

    /// The honest END of what was announced so far.
    pub fn end_record(&self) -> Vec<u8> {
        let [manifest, digests] = &self.streams;
        let digest = forge::xxh3(&[forge::xxh3(manifest), forge::xxh3(digests)].concat());
        forge::end(self.entries, self.body_bytes, digests.len() as u64, &digest)
    }

    /// Ends the manifest honestly and waits for the receiver's END.
    #[track_caller]
    pub fn finish(&mut self) {
        let end = self.end_record();
        self.manifest(&[end]);
        self.wait("the receiver's END", |peer| peer.ended.is_some());
        self.probe();
        self.close(CloseCode::Done);
    }
}
