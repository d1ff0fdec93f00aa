//! A whole `Sender` under a hostile receiver that knows connection and seed: whatever comes, it
//! keeps to the credit, never uses a number twice, and comes to an end.

use std::collections::VecDeque;
use std::time::Duration;

use ufx::proto::{Algorithm, BodyRun, Sender, SenderConfig, SenderEvent, Time, Transmit};
use ufx::wire::{
    Ack, AnswerRecord, Close, CloseCode, Data, Digest, DigestAlgorithm, Entry, EntryKind, Flags,
    Frame, Greeting, Identity, Limit, Mode, Opener, PacketNumber, RefuseCode, Sealer, Space,
    VoidReason, Welcome, encode_words, limits,
};

use crate::forge;
use crate::input::{Input, STEPS_MAX};

/// What the sender may hold: streams, packets in flight, lost ranges, 16,384 entries.
const MEMORY_BYTES_MAX: usize = 64 << 20;

/// Longer than every patience of the sender together.
const PATIENCE: Duration = Duration::from_secs(120);

/// Transmits that one moment may cause at most.
const TRANSMITS_MAX: usize = 5_000;

/// Connection and seed that the hostile receiver chooses.
const SEALER: Sealer = Sealer { connection: 0x00ec, seed: 0x1234 };

/// The feature of [`SenderEvent::Connected`].
const CONNECTED: u64 = 2;

/// A hostile peer, and the machine that it speaks to.
pub struct Hostile {
    now: Time,
    /// The machine.
    pub sender: Sender,
    /// The files still to be announced, by size.
    files: VecDeque<u64>,
    entries: u32,
    digest: DigestAlgorithm,
    /// The last HELLO, and when it came.
    greeting: Option<(Greeting, Time)>,
    /// Number of our next packet.
    next_number: u64,
    /// One more than the largest number of the sender.
    sent: u64,
    /// Offset of the next answer.
    answers: u64,
    settled: u32,
    credit: u64,
    over_credit: u64,
    transmits: u64,
    /// How often the sender was not called for more than 2 s.
    stalls: u64,
    again: Vec<(u32, u32, u8)>,
    features: u64,
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
        hostile.observe();
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
        let digest = input.one_of(&[DigestAlgorithm::Xxh3, DigestAlgorithm::None]);
        let files = (0..input.below(40)).map(|_| input.odd_u64() % (1 << 38)).collect();
        let rate_bytes_max = input.one_of(&[None, Some(1_000_000), Some(20_000)]);
        let config = SenderConfig {
            digest,
            dry_run: input.byte() % 8 == 1,
            algorithm: match rate_bytes_max {
                Some(_) if input.flag() => Algorithm::Fixed,
                _ => Algorithm::Auto,
            },
            rate_bytes_max,
            route_datagram_bytes: input.one_of(&[1_472, 1_200, 8_972, 65_493]),
            first_number: input.one_of(&[0, 1, (1 << 31) - 1]),
            ..SenderConfig::default()
        };
        let now = Time::ZERO + Duration::from_secs(1_000);
        Hostile {
            now,
            sent: config.first_number,
            sender: Sender::new(now, config, [5; 32]),
            files,
            entries: 0,
            digest,
            greeting: None,
            next_number: 0,
            answers: 0,
            settled: 0,
            credit: 0,
            over_credit: 0,
            transmits: 0,
            stalls: 0,
            again: Vec::new(),
            features: 0,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 20 {
            0 => self.now += Duration::from_micros(input.below(2_000)),
            1 => {
                let span = Duration::from_millis(input.below(3_000));
                self.now += span;
                self.stalls += u64::from(span > Duration::from_secs(2));
            }
            2 => self.send_welcome(input),
            3..=6 => self.send_ack(input, true),
            7 => self.send_ack(input, false),
            8..=11 => self.send_answer(input),
            12 => self.send_answer_bytes(input),
            13 => self.send_raw(input),
            14 => self.next_number = self.next_number.wrapping_add(input.odd_u64() % (1 << 31)),
            15 => self.shell_reports(input),
            16 if input.byte() % 8 == 1 => {
                let code = input.one_of(&[CloseCode::Done, CloseCode::Disk, CloseCode::Protocol]);
                self.send_frame(&Frame::Close(Close { code, text: "no" }));
            }
            _ => self.shell_acts(input),
        }
        self.sender.handle_timeout(self.now);
    }

    // ---- what the receiver sends ----

    fn deliver(&mut self, datagram: &[u8]) {
        self.sender.handle_datagram(self.now, datagram);
    }

    fn send_frame(&mut self, frame: &Frame<'_>) {
        let Some((Greeting { connection, seed, .. }, _)) = self.greeting else { return };
        let number = match frame {
            Frame::Welcome(_) => 0,
            _ => {
                self.next_number += 1;
                self.next_number - 1
            }
        };
        let mut datagram = Vec::new();
        let sealer = Sealer { connection, seed };
        sealer.seal(PacketNumber(number), Flags::default(), frame, &mut datagram);
        self.deliver(&datagram);
    }

    fn send_welcome(&mut self, input: &mut Input<'_>) {
        let Some((greeting, _)) = self.greeting else { return };
        let credit = 2 + input.odd_u32() % (u32::MAX - 2);
        let is_first = self.credit == 0;
        let welcome = Welcome {
            version: input.one_of(&[1, 1, 1, 2]),
            mode: Mode::Open,
            digest: input.one_of(&[greeting.digest, greeting.digest, DigestAlgorithm::Blake3]),
            nonce: greeting.nonce,
            connection: SEALER.connection,
            seed: SEALER.seed,
            socket_bytes: input.odd_u32(),
            datagram_bytes_max: input.one_of(&[65_507, 1_200, 9_000]),
            credit,
            key_share: [0; 32],
            proof: [0; 16],
        };
        self.send_frame(&Frame::Welcome(welcome));
        while let Some(event) = self.sender.poll_event() {
            if event == SenderEvent::Connected && is_first {
                // Packets from the first one on; numbers below this may be used.
                self.credit = self.sent + u64::from(credit);
            }
            self.take_event(event);
        }
    }

    fn send_ack(&mut self, input: &mut Input<'_>, honest: bool) {
        let newest = self.sent.saturating_sub(1);
        let largest = match honest {
            true => newest - input.below(300).min(newest),
            false => input.odd_u64(),
        };
        let base = match honest {
            true => (largest - input.below(8_000).min(largest)) & !63,
            false => input.odd_u64() & !63,
        };
        let words = (largest.saturating_sub(base) / 64 + 1).min(136) as usize;
        let pattern = input.one_of(&[u64::MAX, u64::MAX, 0, 0x5555_5555_5555_5555]);
        let mut bits: Vec<u64> = (0..words).map(|_| pattern).collect();
        // No bit above the largest.
        let last = (largest.saturating_sub(base)).min(words as u64 * 64 - 1);
        if let Some(word) = bits.get_mut(last as usize / 64) {
            *word &= u64::MAX >> (63 - last % 64);
        }
        let max_number = match input.byte() % 4 {
            0 => input.odd_u64(),
            1 => largest,
            _ => largest.saturating_add(input.below(10_000)),
        };
        let grown = |input: &mut Input<'_>| input.odd_u64() % (1 << 48);
        let mut buffer = Vec::new();
        let ack = Ack {
            largest: PacketNumber(largest),
            arrival_us: self.now.as_micros() + input.odd_u64() % 1_000_000,
            delay_us: input.odd_u32() >> 8,
            received_packets: if honest { largest } else { input.odd_u64() },
            received_bytes: if honest { largest * 1_000 } else { input.odd_u64() },
            duplicates: 0,
            drops: input.below(3) as u32,
            ecn_ce: 0,
            max_number: PacketNumber(max_number),
            max_manifest: grown(input),
            max_digests: grown(input),
            max_body: limits::OFFSET_MAX,
            written: grown(input),
            datagram_bytes: input.one_of(&[1_472, 65_507, 0, u32::MAX]),
            limit: input.one_of(&[Limit::Nothing, Limit::Socket, Limit::Disk]),
            base: PacketNumber(base),
            bitmap: encode_words(&bits, &mut buffer),
        };
        if largest < base {
            return;
        }
        let taken_before = self.sender.stats().acks;
        self.send_frame(&Frame::Ack(ack));
        if self.sender.stats().acks > taken_before {
            assert!(largest < self.sent, "an ACK of what was never sent was taken");
            self.credit = self.credit.max(max_number.saturating_add(1));
        }
        self.features |= 1;
    }

    fn send_answer(&mut self, input: &mut Input<'_>) {
        let entry = match input.byte() % 4 {
            0 => input.below(50) as u32,
            _ => self.settled,
        };
        let entries = 1 + input.below(3) as u32;
        let code = input.one_of(&[RefuseCode::Exists, RefuseCode::Disk]);
        let left = self.entries.saturating_sub(self.settled);
        let record = match input.byte() % 9 {
            0 => AnswerRecord::Have { entry, first_block: 0, blocks: entries },
            1 => AnswerRecord::Present { first_entry: entry, entries },
            2 => AnswerRecord::Refused { entry, code, text: "\u{1b}[2J" },
            3 => AnswerRecord::Again { entry, block: input.below(3) as u32, epoch: 1 },
            4 => AnswerRecord::Failed { entry, code, text: "" },
            5 => AnswerRecord::Take { first_entry: entry, entries },
            7 => AnswerRecord::Kept { first_entry: entry, entries },
            6 => AnswerRecord::End { committed: self.settled, present: 0, failed: 0 },
            _ => AnswerRecord::Committed { first_entry: entry, entries: left.max(1) },
        };
        if let AnswerRecord::Committed { entries, .. } = record {
            self.settled = entry.saturating_add(entries);
        }
        let mut payload = Vec::new();
        record.encode(&mut payload);
        let data = Data { space: Space::Answers, offset: self.answers, payload: &payload };
        self.send_frame(&Frame::Data(data));
        self.answers += payload.len() as u64;
    }

    fn send_answer_bytes(&mut self, input: &mut Input<'_>) {
        let offset = match input.byte() % 3 {
            0 => input.odd_u64() % ((1 << 48) - 300),
            1 => self.answers,
            _ => input.below(2_000),
        };
        let space = input.one_of(&[Space::Answers, Space::Answers, Space::Body, Space::Manifest]);
        let count = 1 + input.below(200) as usize;
        let payload = input.bytes(count);
        if !payload.is_empty() {
            self.send_frame(&Frame::Data(Data { space, offset, payload }));
        }
    }

    fn send_raw(&mut self, input: &mut Input<'_>) {
        let Some((Greeting { connection, seed, .. }, _)) = self.greeting else { return };
        let (frame_type, flags) = (input.byte() % 9, input.byte() % 16);
        let count = if input.flag() { input.below(4) } else { input.below(300) } as usize;
        let frame = input.bytes(count);
        let number = self.next_number;
        let datagram = forge::packet(frame_type, flags, frame, connection, seed, number);
        // It may grant credit of its own; what that is does not matter for other rules.
        if frame_type == 5 && datagram.len() >= limits::ACK_BYTES_MIN {
            self.credit = u64::MAX;
        }
        self.deliver(&datagram);
    }

    // ---- what the shell does ----

    fn shell_reports(&mut self, input: &mut Input<'_>) {
        match input.byte() % 8 {
            0 => self.sender.handle_refused(self.now),
            1..=3 => self.sender.handle_too_big(self.now, 1_200 + input.below(60_000) as usize),
            4 if input.byte() == 7 => self.sender.cancel(CloseCode::Cancelled),
            5 if self.entries > 0 => {
                let entry = input.below(u64::from(self.entries)) as u32;
                self.sender.push_void(entry, VoidReason::Vanished);
            }
            _ => {}
        }
    }

    fn shell_acts(&mut self, input: &mut Input<'_>) {
        if let Some((entry, block, epoch)) = self.again.pop() {
            let digest = self.some_digest();
            self.sender.resend_block(entry, block, epoch, digest);
            return;
        }
        for _ in 0..=input.below(8) {
            self.announce();
        }
    }

    fn some_digest(&self) -> Digest {
        Digest::from_slice(&vec![3; self.digest.digest_bytes()]).expect("a length of an algorithm")
    }

    fn announce(&mut self) {
        if !self.sender.wants_entries() {
            return;
        }
        let Some(size) = self.files.pop_front() else {
            if self.sender.unsent_body_bytes() == 0 {
                self.sender.finish_manifest();
            }
            return;
        };
        let identity = Identity { device: 1, inode: 2, ctime_seconds: 3, ctime_nanos: 4 };
        let entry = self.sender.push_entry(&Entry {
            kind: EntryKind::File,
            mode: 0o644,
            mtime_seconds: 5,
            mtime_nanos: 6,
            size,
            identity,
            path: b"f",
            target: b"",
        });
        assert_eq!(entry, self.entries);
        self.entries += 1;
        if size > 3 << 20 {
            self.sender.push_hole(1 << 20, 1 << 20);
        }
    }

    // ---- what must hold ----

    fn take_event(&mut self, event: SenderEvent) {
        let kind = match event {
            SenderEvent::Connected => 0,
            SenderEvent::Settled { first_entry, entries, .. } => {
                assert!(first_entry + entries <= self.entries, "settles what was not announced");
                1
            }
            SenderEvent::Failed { entry, .. } => {
                assert!(entry < self.entries, "fails what was not announced");
                2
            }
            SenderEvent::Have { entry, blocks, .. } => {
                assert!(entry < self.entries && blocks > 0, "has what was not announced");
                29
            }
            SenderEvent::Again { entry, block, epoch } => {
                self.again.push((entry, block, epoch));
                3
            }
            SenderEvent::Finished { committed, present, failed } => {
                assert_eq!(committed + present + failed, self.entries, "not all is settled");
                4
            }
            SenderEvent::Closed(error) => 5 + crc32fast::hash(error.to_string().as_bytes()) % 24,
        };
        self.features |= 2 << kind;
    }

    fn observe(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            self.take_event(event);
        }
        for count in 0.. {
            assert!(count < TRANSMITS_MAX, "it never stops to send");
            let Some(transmit) = self.sender.poll_transmit(self.now) else { break };
            self.transmits += 1;
            match transmit {
                Transmit::Datagram(datagram) => self.check_datagram(&datagram),
                Transmit::Body(run) => self.check_run(&run),
            }
        }
        assert!(self.sender.memory_bytes() < MEMORY_BYTES_MAX, "memory is not bounded");
        let timeout = self.sender.poll_timeout(self.now);
        assert_eq!(timeout.is_none(), self.sender.is_closed(), "an end of the waiting");
    }

    fn check_datagram(&mut self, datagram: &[u8]) {
        assert!(datagram.len() <= limits::DATAGRAM_BYTES_MAX);
        if let Ok(packet) = Opener::hello().open(datagram) {
            let Frame::Hello(hello) = packet.frame else { panic!("not a HELLO") };
            if self.greeting.is_some_and(|(known, at)| known != hello.greeting && !self.may_ask(at))
            {
                panic!("another HELLO");
            }
            self.greeting = Some((hello.greeting, self.now));
            return;
        }
        let Sealer { connection, seed } = SEALER;
        let expected = PacketNumber(self.sent);
        let packet = Opener { connection, seed, expected }.open(datagram).expect("a good packet");
        self.check_numbers(packet.number.0, 1, matches!(packet.frame, Frame::Data(_)));
    }

    fn check_run(&mut self, run: &BodyRun) {
        assert!(run.range.start < run.range.end && run.payload_bytes > 0, "an empty run");
        assert!(run.range.end <= self.sender.announced().1, "body beyond its end");
        let datagram_bytes = run.payload_bytes as usize + limits::DATA_HEADER_BYTES;
        assert!(datagram_bytes <= limits::DATAGRAM_BYTES_MAX, "a datagram too large");
        self.check_numbers(run.first.0, run.packets(), true);
    }

    /// Whether a receiver that was heard may be asked by another HELLO if the last one was at `at`.
    fn may_ask(&self, at: Time) -> bool {
        self.features & CONNECTED != 0 && self.now.saturating_since(at) >= Duration::from_secs(1)
    }

    /// Numbers go up by one, and content keeps to the credit but for two packets a timeout.
    fn check_numbers(&mut self, first: u64, packets: u64, is_content: bool) {
        assert_eq!(first, self.sent, "numbers count up by one");
        self.sent = first + packets;
        if is_content {
            self.over_credit += self.sent.saturating_sub(self.credit).min(packets);
            // A stall of ours probes once without a timeout.
            let exempt = 2 * self.sender.stats().probe_timeouts + self.stalls;
            assert!(self.over_credit <= exempt, "sends more than the credit allows");
        }
    }

    /// The receiver has fallen silent.
    fn wait_for_the_end(&mut self) {
        let until = self.now + PATIENCE;
        let mut idle = 0;
        while !self.sender.is_closed() {
            let before = self.transmits;
            self.sender.handle_timeout(self.now);
            self.observe();
            let Some(at) = self.sender.poll_timeout(self.now) else { break };
            let stands_still = at <= self.now && before == self.transmits;
            idle = if stands_still { idle + 1 } else { 0 };
            assert!(idle < 10, "asks to be called again and again for nothing");
            self.now = self.now.max(at);
            assert!(self.now <= until, "waits without end");
        }
        self.observe();
    }
}
