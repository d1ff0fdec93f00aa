//! Somebody on the way who sends under the honest sender's own address and port: first one who has
//! seen no packet and has to guess, then one who has seen WELCOME and can make every packet good.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use ufx::wire::{Close, CloseCode, Data, Flags, Frame, Hello, PacketNumber, Sealer, Space, Start};

use crate::bystander::Bystander;
use crate::sender::greeting;
use crate::support::process::LIMIT;
use crate::support::root;

/// Headers that come before a datagram: of IPv4 without options, of UDP.
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;

/// What is said while an honest sender is at work.
pub struct Imposture {
    /// What is done, in a few words.
    pub name: &'static str,
    /// What proto.md says about it.
    pub rule: &'static str,
    /// Sends the n-th packet, from 1 on.
    pub says: fn(&Impostor, u32),
    /// What becomes of the honest sender.
    pub then: Victim,
}

/// What becomes of the honest sender.
pub enum Victim {
    /// It succeeds.
    Delivers,
    /// It may fail, but its command succeeds once nobody is in its way.
    DeliversAgain,
}

/// See the module's description.
pub struct Impostor {
    /// UDP headers are made here, so that the port can be anybody's.
    socket: Socket,
    receiver: u16,
    sender: u16,
    /// What makes packets to the receiver good.
    seen: Sealer,
}

impl Impostor {
    /// Listens to what goes over loopback; needs root.
    pub fn new(receiver: u16) -> Impostor {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).unwrap();
        socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Impostor { socket, receiver, sender: 0, seen: Sealer { connection: 0, seed: 0 } }
    }

    /// Waits for the next WELCOME, and plays the sender that it is for.
    #[track_caller]
    pub fn overhear(&mut self) {
        let deadline = Instant::now() + LIMIT;
        let mut packet = [0; IP_BYTES + UDP_BYTES + 2_048];
        while self.sender == 0 {
            assert!(Instant::now() < deadline, "no WELCOME was heard");
            let Ok(bytes) = (&self.socket).read(&mut packet) else { continue };
            let Some((ports, datagram)) = packet[IP_BYTES..bytes].split_at_checked(UDP_BYTES)
            else {
                continue;
            };
            let from = u16::from_be_bytes([ports[0], ports[1]]);
            if from == self.receiver && datagram.first() == Some(&2) && datagram.len() == 102 {
                let number =
                    |at: usize| u32::from_be_bytes(datagram[at..at + 4].try_into().unwrap());
                self.seen = Sealer { connection: number(34), seed: number(38) };
                self.sender = u16::from_be_bytes([ports[2], ports[3]]);
            }
        }
        // Whatever comes now, its own packets too, is no matter.
        self.socket.set_recv_buffer_size(0).unwrap();
    }

    fn send(&self, from: u16, to: u16, datagram: &[u8]) {
        let mut packet = Vec::with_capacity(UDP_BYTES + datagram.len());
        for field in [from, to, (UDP_BYTES + datagram.len()) as u16, 0] {
            packet.extend(field.to_be_bytes());
        }
        packet.extend(datagram);
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        // What the kernel has no room for is lost.
        let _ = self.socket.send_to(&packet, &address.into());
    }

    /// Any bytes from the sender to the receiver.
    pub fn to_receiver(&self, datagram: &[u8]) {
        self.send(self.sender, self.receiver, datagram);
    }

    /// A packet of this number, sealed with what somebody knows or guesses.
    fn say(&self, sealer: Sealer, number: u32, frame: &Frame<'_>) {
        let mut datagram = Vec::new();
        let number = PacketNumber(u64::from(number));
        sealer.seal(number, Flags { ack_now: true }, frame, &mut datagram);
        self.to_receiver(&datagram);
    }
}

/// Of one who has seen nothing.
pub const BLIND: &[Imposture] = &[
    Imposture {
        name: "noise",
        rule: "A packet whose check is wrong MUST be dropped without any answer.",
        says: |impostor, number| impostor.to_receiver(&noise(number)),
        then: Victim::Delivers,
    },
    Imposture {
        name: "noise to the sender",
        rule: "A packet whose check is wrong MUST be dropped without any answer.",
        says: |impostor, number| {
            impostor.send(impostor.receiver, impostor.sender, &noise(number));
        },
        then: Victim::Delivers,
    },
    Imposture {
        name: "HELLO",
        rule: "A receiver MUST NOT answer HELLO from an address and port with which it has a \
               transfer that is not over.",
        says: |impostor, number| {
            impostor.say(Sealer::hello(), 0, &Frame::Hello(Hello { greeting: greeting(number) }));
        },
        then: Victim::Delivers,
    },
    Imposture {
        name: "START of another transfer",
        rule: "START proves the address: the receiver recomputes connection and seed",
        says: |impostor, number| {
            let start = Start { greeting: greeting(number), srtt_us: 1 };
            impostor.say(guess(number), 0, &Frame::Start(start));
        },
        then: Victim::Delivers,
    },
    Imposture {
        name: "CLOSE with a guessed connection and seed",
        rule: "Connection and seed together make 64 bits that a forger who does not see the \
               packets has to guess",
        says: |impostor, number| impostor.say(guess(number), number, &CLOSE),
        then: Victim::Delivers,
    },
    Imposture {
        name: "CLOSE with the right connection and a guessed seed",
        rule: "Connection and seed together make 64 bits that a forger who does not see the \
               packets has to guess",
        says: |impostor, number| {
            let sealer = Sealer { seed: guess(number).seed, ..impostor.seen };
            impostor.say(sealer, number, &CLOSE);
        },
        then: Victim::Delivers,
    },
];

/// Of one who has seen WELCOME.
pub const KNOWING: &[Imposture] = &[
    Imposture {
        name: "other content under a number that has come",
        rule: "The receiver drops a packet whose number it has seen, and counts it",
        says: |impostor, _| impostor.say(impostor.seen, 0, &BODY),
        then: Victim::Delivers,
    },
    Imposture {
        name: "other bytes under numbers to come",
        rule: "A final name holds exactly the source's bytes, checked by digest, or the file that \
               was there before.",
        says: |impostor, number| impostor.say(impostor.seen, number, &BODY),
        then: Victim::DeliversAgain,
    },
    Imposture {
        name: "numbers from far ahead",
        rule: "The sender drops an ACK as a whole if it never sent `largest`",
        says: |impostor, number| impostor.say(impostor.seen, 1_000_000 + number, &BODY),
        then: Victim::DeliversAgain,
    },
    Imposture {
        name: "CLOSE",
        rule: "it has no secrecy and stops no one who sees the packets",
        says: |impostor, number| impostor.say(impostor.seen, number, &CLOSE),
        then: Victim::DeliversAgain,
    },
];

const CLOSE: Frame<'_> = Frame::Close(Close { code: CloseCode::Cancelled, text: "" });

const BODY: Frame<'_> =
    Frame::Data(Data { space: Space::Body, offset: 100_000, payload: &[0x5a; 1_452] });

/// 1,472 bytes that are no packet.
pub fn noise(number: u32) -> Vec<u8> {
    let mut bytes = vec![0x5a; 1_472];
    bytes[..8].copy_from_slice(&mixed(number).to_be_bytes());
    bytes
}

/// A connection and a seed.
fn guess(number: u32) -> Sealer {
    let guess = mixed(number);
    Sealer { connection: (guess >> 32) as u32, seed: guess as u32 }
}

fn mixed(number: u32) -> u64 {
    u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn who_has_seen_nothing_disturbs_no_transfer_under_its_own_address() {
    if root::is_root_with(&[]) {
        Bystander::new(&[]).suffers_impostors(BLIND);
    }
}

#[test]
fn who_has_seen_the_packets_stops_a_transfer_and_spoils_no_file() {
    if root::is_root_with(&[]) {
        Bystander::new(&[]).suffers_impostors(KNOWING);
    }
}
