//! Fields to packets.

use ufx::wire::{
    Ack, Bitmap, Close, CloseCode, DATA_HEADER_BYTES, Data, DecodeError, DigestAlgorithm, Flags,
    Frame, Greeting, HEADER_BYTES, Hello, Limit, Mode, Opener, PROBE_BYTES_MIN, Packet,
    PacketNumber, Probe, Sealer, Space, Start, Welcome,
};

use crate::vector::Vector;

impl Vector {
    pub fn open(&self) -> Result<Packet<'_>, DecodeError> {
        let (connection, seed) = (self.hex("connection"), self.hex("seed"));
        let expected = PacketNumber(self.number("expected"));
        Opener { connection, seed, expected }.open(&self.bytes)
    }

    /// Asserts that sealing this gives the bytes of the file.
    pub fn assert_sealed(&self, number: PacketNumber, flags: Flags, frame: &Frame<'_>) {
        let sealer = Sealer { connection: self.hex("connection"), seed: self.hex("seed") };
        let padding_bytes: u16 = self.number("padding");
        let mut sealed = Vec::new();
        sealer.seal(number, flags, frame, &mut sealed);
        match frame {
            Frame::Data(data) => {
                let mut datagram = vec![0xee; DATA_HEADER_BYTES];
                datagram.extend_from_slice(data.payload);
                if padding_bytes == 0 {
                    sealer.seal_data(number, flags, data.space, data.offset, &mut datagram);
                    assert_eq!(sealed, self.bytes, "{}", self.name);
                } else {
                    datagram.resize(self.bytes.len(), 0xee);
                    let (space, offset) = (data.space, data.offset);
                    let datagram = &mut datagram;
                    sealer.seal_data_padded(number, flags, space, offset, datagram, padding_bytes);
                }
                assert_eq!(datagram, self.bytes, "{}", self.name);
            }
            _ if padding_bytes == 0 => assert_eq!(sealed, self.bytes, "{}", self.name),
            _ => {
                // Of these no padded ones are made; the frame is the same.
                let frame_end = self.bytes.len() - usize::from(padding_bytes);
                let frame = &self.bytes[HEADER_BYTES..frame_end];
                assert_eq!(&sealed[HEADER_BYTES..], frame, "{}", self.name);
            }
        }
    }

    /// Which is judged by the state machines: `wire` knows no peer.
    pub fn goes_the_wrong_way(&self, frame: &Frame<'_>) -> bool {
        let to_sender = self.get("direction") == "to_sender";
        match frame {
            Frame::Hello(_) | Frame::Start(_) | Frame::Probe(_) => to_sender,
            Frame::Welcome(_) | Frame::Ack(_) => !to_sender,
            Frame::Data(data) => (data.space == Space::Answers) != to_sender,
            Frame::Close(_) => false,
        }
    }

    pub fn frame<'a>(&self, text: &'a str, bitmap: &'a [u8], payload: &'a [u8]) -> Frame<'a> {
        match self.kind() {
            "hello" => Frame::Hello(Hello { greeting: self.greeting() }),
            "welcome" => Frame::Welcome(self.welcome()),
            "start" => {
                let srtt_us = self.number("field.srtt_us");
                Frame::Start(Start { greeting: self.greeting(), srtt_us })
            }
            "data" => {
                let offset = self.number("field.offset");
                Frame::Data(Data { space: self.space(), offset, payload })
            }
            "ack" => Frame::Ack(self.ack(bitmap)),
            "probe" => Frame::Probe(Probe {
                srtt_us: self.number("field.srtt_us"),
                window_packets: self.number("field.window_packets"),
                answers: self.number("field.answers"),
                datagram_bytes: PROBE_BYTES_MIN + self.number::<usize>("field.zeros"),
            }),
            "close" => Frame::Close(Close { code: self.close_code(), text }),
            other => panic!("{}: frame {other}", self.name),
        }
    }

    fn greeting(&self) -> Greeting {
        let options = self.hex("field.options");
        assert!(options <= 2, "{}", self.name);
        assert_eq!(self.get("field.magic"), "75667800", "{}", self.name);
        Greeting {
            version_max: self.number("field.version_max"),
            version_min: self.number("field.version_min"),
            mode: self.mode(),
            digest: self.digest_algorithm(),
            dry_run: options == 1,
            discard: options == 2,
            connection: self.hex("field.connection"),
            seed: self.hex("field.seed"),
            nonce: self.array("field.nonce"),
            key_share: self.array("field.key_share"),
        }
    }

    fn welcome(&self) -> Welcome {
        Welcome {
            version: self.number("field.version"),
            mode: self.mode(),
            digest: self.digest_algorithm(),
            nonce: self.array("field.nonce"),
            connection: self.hex("field.connection"),
            seed: self.hex("field.seed"),
            socket_bytes: self.number("field.socket_bytes"),
            datagram_bytes_max: self.number("field.datagram_bytes_max"),
            credit: self.number("field.credit"),
            key_share: self.array("field.key_share"),
            proof: self.array("field.proof"),
        }
    }

    fn ack<'a>(&self, bitmap: &'a [u8]) -> Ack<'a> {
        Ack {
            largest: PacketNumber(self.number("field.largest")),
            arrival_us: self.number("field.arrival_us"),
            delay_us: self.number("field.delay_us"),
            received_packets: self.number("field.received_packets"),
            received_bytes: self.number("field.received_bytes"),
            duplicates: self.number("field.duplicates"),
            drops: self.number("field.drops"),
            ecn_ce: self.number("field.ecn_ce"),
            max_number: PacketNumber(self.number("field.max_number")),
            max_manifest: self.number("field.max_manifest"),
            max_digests: self.number("field.max_digests"),
            max_body: self.number("field.max_body"),
            written: self.number("field.written"),
            datagram_bytes: self.number("field.datagram_bytes"),
            limit: [Limit::Nothing, Limit::Socket, Limit::Disk]
                [self.number::<usize>("field.limit")],
            base: PacketNumber(self.number("field.base")),
            bitmap: Bitmap::from_bytes(bitmap).expect("whole words"),
        }
    }

    fn mode(&self) -> Mode {
        [Mode::Open, Mode::Keyed][self.number::<usize>("field.mode")]
    }

    fn digest_algorithm(&self) -> DigestAlgorithm {
        [DigestAlgorithm::None, DigestAlgorithm::Xxh3, DigestAlgorithm::Blake3]
            [self.number::<usize>("field.digest")]
    }

    fn space(&self) -> Space {
        match self.get("field.space") {
            "body" => Space::Body,
            "manifest" => Space::Manifest,
            "digests" => Space::Digests,
            "answers" => Space::Answers,
            other => panic!("{}: space {other}", self.name),
        }
    }

    fn close_code(&self) -> CloseCode {
        [
            CloseCode::Done,
            CloseCode::Protocol,
            CloseCode::Version,
            CloseCode::Forbidden,
            CloseCode::Busy,
            CloseCode::Cancelled,
            CloseCode::Disk,
            CloseCode::Integrity,
            CloseCode::Timeout,
            CloseCode::Internal,
            CloseCode::Mode,
            CloseCode::Digest,
        ][self.number::<usize>("field.code")]
    }
}
