//! Looks at every packet of a simulation and checks the invariants of proto.md, "Invariants".
//!
//! It sees what both machines send and what reaches them, and trusts neither. That content is
//! whole is checked where it is committed (`receiving_host.rs`).

use std::time::Duration;

use crate::proto::{BodyRun, ReceiverConfig, Sender, Time};
use crate::wire::{
    Ack, Data, Frame, FrameType, Greeting, Opener, PacketNumber, Probe, Space, limits, peek,
};

/// Packets one probe timeout may send beyond window and credit.
const PROBE_PACKETS: u64 = 2;

/// Packets that an end may send into silence, beside what its window allows: two for each of the
/// first probe timeouts, which double; all answers that may be outstanding, a few times.
const STORM_PACKETS: u64 = 2_500;

/// ... and for each second of it. Probe timeouts are 50 ms apart at least
/// when they have doubled, answers 1 s.
const STORM_PACKETS_A_SECOND: u64 = 300;

/// Before so long a silence a sender may go on at its pace: it is no storm, and bounded by what may
/// be under way.
const SILENCE_MIN: Duration = Duration::from_millis(20);

/// The type of DATA on the wire (proto.md, "Frames").
const DATA_TYPE: usize = 4;

/// What an end has sent since it heard anything of the other one.
#[derive(Clone, Copy, Debug, Default)]
struct Unheard {
    packets: u64,
    since: Time,
    /// The largest window in this time: timeouts make it smaller.
    window_packets: u64,
}

impl Unheard {
    /// Packets leave, of an end that may have so many under way; none is a storm.
    fn on_sent(&mut self, now: Time, packets: u64, window_packets: u64) {
        if now.saturating_since(self.since) < SILENCE_MIN {
            return;
        }
        self.packets += packets;
        self.window_packets = self.window_packets.max(window_packets);
        let silence = now.saturating_since(self.since).as_secs();
        if self.packets > STORM_PACKETS + STORM_PACKETS_A_SECOND * silence {
            // Each loss of a whole window halves it.
            let allowed =
                3 * self.window_packets + STORM_PACKETS + STORM_PACKETS_A_SECOND * silence;
            let sent = self.packets;
            assert!(sent <= allowed, "a storm: {sent} packets in {silence} s of silence");
        }
    }

    fn on_heard(&mut self, now: Time) {
        *self = Unheard { since: now, ..Unheard::default() };
    }
}

/// What is known of one transfer.
#[derive(Debug, Default)]
pub struct Watch {
    /// Of the transfer, and of each HELLO that asked for it later.
    greetings: Vec<Greeting>,
    /// The sender's next packet number, once its transfer runs.
    next_number: u64,
    /// The receiver's.
    next_answer: u64,
    /// The word (of 64 numbers) that holds the sender's first number.
    first_word: usize,
    /// Bit of each number from there on that was handed to the receiver's machine.
    handed: Vec<u64>,
    /// Credit that has reached the sender; one more than the largest number.
    credit_end: u64,
    /// Content packets sent beyond it.
    beyond_credit: u64,
    /// Packets of body sent beyond the window, each alone.
    beyond_window: u64,
    /// What was sent since anything was heard: by the sender, by the receiver.
    unheard: [Unheard; 2],
    /// The largest max_number the receiver has told.
    told_max: u64,
    /// Distinct numbers of these.
    handed_packets: u64,
    /// One more than the largest of these: somebody on the path may have sent it.
    handed_end: u64,
    /// All packets that were handed to it, with those that came twice.
    handings: u64,
    /// What the receiver's 32-bit counters began with.
    first_count: u32,
    /// `duplicates` and `drops` of its last ACK.
    told_counts: [u32; 2],
    /// The largest limit told for manifest, digests and body.
    told_limits: [u64; 3],
    /// START has proved the sender's address.
    proven: bool,
    /// Datagrams sent by type: to the receiver, to the sender.
    pub sent: [[u64; 8]; 2],
    /// End of what was sent of manifest and digests, and of the answers.
    sent_end: [u64; 3],
}

impl Watch {
    /// A transfer whose sender counts packets from `first_number` on, and a receiver like this.
    pub fn new(first_number: u64, receiver: &ReceiverConfig) -> Watch {
        Watch {
            next_number: first_number,
            next_answer: receiver.first_number,
            first_word: first_number as usize / 64,
            first_count: receiver.first_count,
            told_counts: [receiver.first_count; 2],
            ..Watch::default()
        }
    }

    /// The transfer's HELLO, once one was sent.
    pub fn greeting(&self) -> Option<&Greeting> {
        self.greetings.first()
    }

    /// The numbers of the next packets of the sender and of the receiver.
    pub fn next_numbers(&self) -> [PacketNumber; 2] {
        [PacketNumber(self.next_number), PacketNumber(self.next_answer)]
    }

    /// The sender emits a datagram.
    pub fn on_sender_datagram(&mut self, now: Time, datagram: &[u8], sender: &Sender) -> u64 {
        self.unheard[0].on_sent(now, 1, window_packets(self.unheard[0].since, sender));
        if let Ok(packet) = Opener::hello().open(datagram) {
            if let Frame::Hello(hello) = packet.frame
                && !self.greetings.contains(&hello.greeting)
            {
                self.greetings.push(hello.greeting);
            }
            self.sent[0][usize::from(datagram[0])] += 1;
            return 0;
        }
        let sealer = sender.sealer();
        let opener = Opener {
            connection: sealer.connection,
            seed: sealer.seed,
            expected: PacketNumber(self.next_number),
        };
        let packet = opener.open(datagram).expect("a sender's packet is valid");
        self.on_number(packet.number.0, 1);
        self.sent[0][usize::from(datagram[0])] += 1;
        match packet.frame {
            Frame::Data(Data { space, offset, payload }) => {
                assert_ne!(space, Space::Answers, "a sender has no answers");
                let end = &mut self.sent_end[usize::from(space == Space::Digests)];
                *end = (*end).max(offset + payload.len() as u64);
                self.check_credit(packet.number.0, 1, sender);
            }
            Frame::Probe(Probe { answers, .. }) => {
                assert!(answers <= self.sent_end[2], "answers acknowledged that were not sent");
            }
            Frame::Start(_) | Frame::Close(_) => {}
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Ack(_) => {
                panic!("a sender sent {:?}", packet.frame)
            }
        }
        packet.number.0
    }

    /// The sender emits packets of body.
    pub fn on_sender_body(&mut self, now: Time, run: &BodyRun, sender: &Sender) {
        let packets = run.packets();
        self.unheard[0].on_sent(now, packets, window_packets(self.unheard[0].since, sender));
        assert!(packets > 0 && run.range.start < run.range.end, "an empty run");
        let (_, body_end) = sender.announced();
        assert!(run.range.end <= body_end, "body that was not announced");
        self.on_number(run.first.0, packets);
        self.sent[0][DATA_TYPE] += packets;
        self.check_credit(run.first.0, packets, sender);
        let (in_flight, window) = (sender.in_flight_bytes(), sender.window_bytes(now));
        let datagram = run.payload_bytes + limits::DATA_HEADER_BYTES as u64;
        if packets > 1 {
            let probes = PROBE_PACKETS * datagram;
            assert!(in_flight <= window + probes, "{in_flight} bytes in flight, window {window}");
        } else if in_flight > window.max(datagram) {
            // A probe's packet may exceed the window, and is alone.
            self.beyond_window += 1;
            let allowed = PROBE_PACKETS * sender.stats().probe_timeouts;
            let beyond = self.beyond_window;
            assert!(beyond <= allowed, "{beyond} packets beyond the window");
        }
    }

    fn on_number(&mut self, number: u64, packets: u64) {
        assert_eq!(number, self.next_number, "packet numbers rise by one");
        self.next_number = number + packets;
    }

    fn check_credit(&mut self, first: u64, packets: u64, sender: &Sender) {
        let beyond = (first + packets).saturating_sub(self.credit_end.max(first));
        if beyond > 0 {
            self.beyond_credit += beyond;
            let allowed = PROBE_PACKETS * sender.stats().probe_timeouts;
            assert!(self.beyond_credit <= allowed, "{} packets beyond credit", self.beyond_credit);
        }
    }

    /// The receiver's host answers a stranger.
    pub fn on_answer(&mut self, datagram: &[u8]) {
        let opens = |greeting: &Greeting| {
            let (connection, seed) = (greeting.connection, greeting.seed);
            let opener = Opener { connection, seed, expected: PacketNumber(0) };
            match opener.open(datagram).map(|packet| packet.frame) {
                Ok(Frame::Welcome(_) | Frame::Close(_)) => true,
                Ok(frame) => panic!("a stranger was answered by {frame:?}"),
                Err(_) => false,
            }
        };
        assert!(self.greetings.iter().any(opens), "an answer to no HELLO");
        self.sent[1][usize::from(datagram[0])] += 1;
    }

    /// The receiver's machine emits a datagram.
    pub fn on_receiver_datagram(&mut self, now: Time, datagram: &[u8]) -> u64 {
        self.unheard[1].on_sent(now, 1, 0);
        let greeting = self.greetings.first().expect("nobody answers before HELLO");
        assert!(self.proven, "an unproven address is sent a packet");
        let opener = Opener {
            connection: greeting.connection,
            seed: greeting.seed,
            expected: PacketNumber(self.next_answer),
        };
        let packet = opener.open(datagram).expect("a receiver's packet is valid");
        assert!(datagram.len() <= limits::DATAGRAM_BYTES_MIN, "too long a packet to the sender");
        match &packet.frame {
            Frame::Ack(ack) => self.on_receiver_ack(ack),
            Frame::Data(data) => {
                assert_eq!(data.space, Space::Answers, "a receiver sends answers only");
                let end = data.offset + data.payload.len() as u64;
                self.sent_end[2] = self.sent_end[2].max(end);
            }
            Frame::Close(_) => {}
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Start(_) | Frame::Probe(_) => {
                panic!("a receiver sent {:?}", packet.frame)
            }
        }
        assert_eq!(packet.number.0, self.next_answer, "packet numbers rise by one");
        self.next_answer += 1;
        self.sent[1][usize::from(datagram[0])] += 1;
        packet.number.0
    }

    fn on_receiver_ack(&mut self, ack: &Ack<'_>) {
        let end = self.next_number.max(self.handed_end);
        assert!(ack.largest.0 < end, "an ACK of what was not sent");
        assert!(ack.max_number.0 >= self.told_max, "credit retreats");
        self.told_max = ack.max_number.0;
        let told = [ack.max_manifest, ack.max_digests, ack.max_body];
        for (before, now) in self.told_limits.iter_mut().zip(told) {
            assert!(now >= *before, "the credit of a space retreats");
            *before = now;
        }
        for index in 0..ack.bitmap.words() {
            let word = (ack.base.0 as usize / 64 + index) - self.first_word;
            let handed = self.handed.get(word).copied().unwrap_or(0);
            assert_eq!(ack.bitmap.word(index) & !handed, 0, "a bit for what never arrived");
        }
        let (counted, handed) = (ack.received_packets, self.handed_packets);
        assert!(counted <= handed, "{counted} packets are counted, {handed} arrived");
        let counts = [ack.duplicates, ack.drops];
        for (before, now) in self.told_counts.iter_mut().zip(counts) {
            assert!(now.wrapping_sub(*before) < 1 << 31, "a counter runs backwards");
            *before = now;
        }
        let (twice, handings) = (ack.duplicates.wrapping_sub(self.first_count), self.handings);
        assert!(u64::from(twice) <= handings, "{twice} came twice of {handings} packets");
    }

    /// START has proven the address, and a machine was made.
    pub fn on_accepted(&mut self, now: Time, number: u64) {
        self.proven = true;
        self.on_handed(now, number, 1);
    }

    /// The receiver's process is gone.
    pub fn on_restart(&mut self) {
        self.proven = false;
    }

    /// Packets are handed to the receiver's machine.
    pub fn on_handed(&mut self, now: Time, first: u64, packets: u64) {
        self.unheard[1].on_heard(now);
        self.handings += packets;
        self.handed_end = self.handed_end.max(first + packets);
        for number in first..first + packets {
            let word = number as usize / 64 - self.first_word;
            if self.handed.len() <= word {
                self.handed.resize(word + 1, 0);
            }
            let bit = 1 << (number % 64);
            self.handed_packets += u64::from(self.handed[word] & bit == 0);
            self.handed[word] |= bit;
        }
    }

    /// A datagram reaches the sender, possibly damaged.
    pub fn on_sender_host(&mut self, now: Time, datagram: &[u8]) {
        self.unheard[0].on_heard(now);
        let Some(greeting) = self.greetings.first().copied() else { return };
        // WELCOME is outside the count.
        let expected = match peek(datagram) {
            Some((FrameType::Ack, _)) => PacketNumber(self.next_answer),
            Some((FrameType::Welcome, _)) => PacketNumber(0),
            _ => return,
        };
        let opener = Opener { connection: greeting.connection, seed: greeting.seed, expected };
        match opener.open(datagram).map(|packet| packet.frame) {
            Ok(Frame::Ack(ack)) if ack.largest.0 >= self.next_number => {}
            Ok(Frame::Ack(ack)) => self.credit_end = self.credit_end.max(ack.max_number.next().0),
            Ok(Frame::Welcome(welcome)) if self.credit_end == 0 => {
                self.credit_end = self.next_number + u64::from(welcome.credit);
            }
            _ => {}
        }
    }
}

/// Packets that a sender's window allows, were they as short as records may be.
fn window_packets(heard_at: Time, sender: &Sender) -> u64 {
    sender.window_bytes(heard_at) / 256
}
