//! Looks at every packet of a simulation and checks the invariants of proto.md, "Invariants".
//!
//! It sees what both machines send and what reaches them, and trusts neither. That content is
//! whole is checked where it is committed (`receiving_host.rs`).

use crate::proto::{BodyRun, Sender};
use crate::wire::{
    Ack, Data, Frame, FrameType, Greeting, Opener, PacketNumber, Probe, Space, limits, peek,
};

/// Packets one probe timeout may send beyond window and credit.
const PROBE_PACKETS: u64 = 2;

/// What is known of one transfer.
#[derive(Debug, Default)]
pub struct Watch {
    greeting: Option<Greeting>,
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
    /// The largest max_number the receiver has told.
    told_max: u64,
    /// Bytes from and to the sender's address before START proved it.
    unproven_in: u64,
    unproven_out: u64,
    proven: bool,
    /// End of what was sent of manifest and digests, and of the answers.
    sent_end: [u64; 3],
}

impl Watch {
    /// A transfer whose sender counts from `first_number` on.
    pub fn new(first_number: u64) -> Watch {
        let first_word = first_number as usize / 64;
        Watch { next_number: first_number, first_word, ..Watch::default() }
    }

    /// The sender emits a datagram.
    pub fn on_sender_datagram(&mut self, datagram: &[u8], sender: &Sender) -> u64 {
        if let Ok(packet) = Opener::hello().open(datagram) {
            if let Frame::Hello(hello) = packet.frame {
                // Later ones ask a receiver that fell silent; here none is restarted.
                self.greeting.get_or_insert(hello.greeting);
            }
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
    pub fn on_sender_body(&mut self, run: &BodyRun, sender: &Sender) {
        let packets = run.packets();
        assert!(packets > 0 && run.range.start < run.range.end, "an empty run");
        let (_, body_end) = sender.announced();
        assert!(run.range.end <= body_end, "body that was not announced");
        self.on_number(run.first.0, packets);
        self.check_credit(run.first.0, packets, sender);
        // A probe's packet may exceed the window, and is alone.
        if packets > 1 {
            let (in_flight, window) = (sender.in_flight_bytes(), sender.window_bytes());
            let probes = PROBE_PACKETS * (run.payload_bytes + limits::DATA_HEADER_BYTES as u64);
            assert!(in_flight <= window + probes, "{in_flight} bytes in flight, window {window}");
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

    /// The receiver's host emits a datagram, `proven` or not.
    pub fn on_receiver_datagram(&mut self, datagram: &[u8]) -> u64 {
        let greeting = self.greeting.expect("nobody answers before HELLO");
        if !self.proven {
            self.unproven_out += datagram.len() as u64;
            let (sent, got) = (self.unproven_out, self.unproven_in);
            assert!(sent <= got, "{sent} bytes to an unproven address, {got} came from it");
        }
        let opener = Opener {
            connection: greeting.connection,
            seed: greeting.seed,
            expected: PacketNumber(self.next_answer),
        };
        let packet = opener.open(datagram).expect("a receiver's packet is valid");
        assert!(datagram.len() <= limits::DATAGRAM_BYTES_MIN, "too long a packet to the sender");
        match &packet.frame {
            Frame::Welcome(_) => return 0,
            Frame::Ack(ack) => self.on_receiver_ack(ack),
            Frame::Data(data) => {
                assert_eq!(data.space, Space::Answers, "a receiver sends answers only");
                let end = data.offset + data.payload.len() as u64;
                self.sent_end[2] = self.sent_end[2].max(end);
            }
            Frame::Close(_) => {}
            Frame::Hello(_) | Frame::Start(_) | Frame::Probe(_) => {
                panic!("a receiver sent {:?}", packet.frame)
            }
        }
        if self.proven {
            assert_eq!(packet.number.0, self.next_answer, "packet numbers rise by one");
            self.next_answer += 1;
        }
        packet.number.0
    }

    fn on_receiver_ack(&mut self, ack: &Ack<'_>) {
        assert!(ack.largest.0 < self.next_number, "an ACK of what was not sent");
        assert!(ack.max_number.0 >= self.told_max, "credit retreats");
        self.told_max = ack.max_number.0;
        for index in 0..ack.bitmap.words() {
            let word = (ack.base.0 as usize / 64 + index) - self.first_word;
            let handed = self.handed.get(word).copied().unwrap_or(0);
            assert_eq!(ack.bitmap.word(index) & !handed, 0, "a bit for what never arrived");
        }
        let distinct = ack.received_packets;
        assert!(distinct <= self.next_number, "{distinct} packets received of fewer");
    }

    /// A datagram reaches the receiver's host.
    pub fn on_receiver_host(&mut self, bytes: usize) {
        if !self.proven {
            self.unproven_in += bytes as u64;
        }
    }

    /// START has proven the address.
    pub fn on_proven(&mut self) {
        self.proven = true;
    }

    /// Packets are handed to the receiver's machine.
    pub fn on_handed(&mut self, first: u64, packets: u64) {
        for number in first..first + packets {
            let word = number as usize / 64 - self.first_word;
            if self.handed.len() <= word {
                self.handed.resize(word + 1, 0);
            }
            self.handed[word] |= 1 << (number % 64);
        }
    }

    /// A datagram reaches the sender, possibly damaged.
    pub fn on_sender_host(&mut self, datagram: &[u8]) {
        let Some(greeting) = self.greeting else { return };
        let expected = PacketNumber(self.next_answer);
        let opener = Opener { connection: greeting.connection, seed: greeting.seed, expected };
        let kind = peek(datagram).map(|(kind, _)| kind);
        if !matches!(kind, Some(FrameType::Ack | FrameType::Welcome)) {
            return;
        }
        match opener.open(datagram).map(|packet| packet.frame) {
            Ok(Frame::Ack(ack)) => self.credit_end = self.credit_end.max(ack.max_number.0 + 1),
            Ok(Frame::Welcome(welcome)) if self.credit_end == 0 => {
                self.credit_end = self.next_number + u64::from(welcome.credit);
            }
            _ => {}
        }
    }
}
