//! Before and around START: HELLOs that are none, proofs that are stolen or made up, packets in
//! others' names, sessions played again.

use std::net::UdpSocket;

use ufx::wire::{Close, CloseCode, Flags, Frame, PacketNumber, Sealer, Space};

use crate::bystander::{Bystander, Misdeed, Then, content_of};
use crate::forge;
use crate::sender::HostileSender;

const HELLO_RULE: &str = "with another magic, connection 0 or versions out of range it drops the \
    packet";
const PROOF_RULE: &str = "START proves the address: the receiver recomputes connection and seed";
const GUESS_RULE: &str = "Connection and seed together make 64 bits that a forger who does not see \
    the packets has to guess";

/// A misdeed that comes to nothing.
const fn ignored(name: &'static str, rule: &'static str, does: fn(&mut HostileSender)) -> Misdeed {
    Misdeed { name, rule, does, then: Then::Ignored, leaves: &[] }
}

/// HELLOs that are none.
pub const GREETINGS: &[Misdeed] = &[
    ignored(
        "a HELLO of 1,199 bytes",
        "A HELLO shorter than 1,200 bytes MUST be dropped.",
        |peer| {
            spoiled(peer, |frame| frame.truncate(1_185));
        },
    ),
    ignored("another magic", HELLO_RULE, |peer| spoiled(peer, |frame| frame[0] = b'U')),
    ignored("version 0", HELLO_RULE, |peer| spoiled(peer, |frame| frame[5] = 0)),
    ignored("versions upside down", HELLO_RULE, |peer| spoiled(peer, |frame| frame[5] = 2)),
    ignored("connection 0", HELLO_RULE, |peer| spoiled(peer, |frame| frame[10..14].fill(0))),
    ignored("a mode that does not exist", "has a value outside its range", |peer| {
        spoiled(peer, |frame| frame[6] = 2);
    }),
    ignored("a digest that does not exist", "has a value outside its range", |peer| {
        spoiled(peer, |frame| frame[7] = 3);
    }),
    ignored("an option that does not exist", "has a value outside its range", |peer| {
        spoiled(peer, |frame| frame[8] = 0x80);
    }),
    ignored("HELLO with a flag", "Header: connection 0, packet number 0, flags 0.", |peer| {
        let hello = peer.hello();
        unanswered(peer, &forge::packet(1, 1, &hello[14..], 0, 0, 0));
    }),
    ignored("HELLO with a number", "Header: connection 0, packet number 0, flags 0.", |peer| {
        let hello = peer.hello();
        unanswered(peer, &forge::packet(1, 0, &hello[14..], 0, 0, 1));
    }),
    ignored("HELLO with a wrong check", "A packet whose check is wrong MUST be dropped", |peer| {
        let mut hello = peer.hello();
        hello[1_100] ^= 1;
        unanswered(peer, &hello);
    }),
    Misdeed {
        name: "only versions to come",
        rule: "it answers CLOSE `version` whatever the rest holds",
        does: |peer| refused(peer, [9, 2, 200, 200], CloseCode::Version),
        then: Then::Told,
        leaves: &[],
    },
    Misdeed {
        name: "a keyed transfer with an open receiver",
        rule: "| 10 | mode | open or keyed mode is required |",
        does: |peer| refused(peer, [1, 1, 1, 1], CloseCode::Mode),
        then: Then::Told,
        leaves: &[],
    },
    ignored(
        "20,000 half-open transfers",
        "A receiver answers HELLO with WELCOME and MUST NOT keep state for it.",
        |peer| {
            let nonce = peer.greeting.nonce;
            for round in 0..20_000_u32 {
                peer.greeting.nonce[..4].copy_from_slice(&round.to_be_bytes());
                peer.greeting.connection = round + 1;
                peer.send_datagram(&peer.hello());
            }
            peer.greeting.nonce = nonce;
            while peer.receive().is_some() {}
        },
    ),
];

/// Proofs that are none, and packets in the name of others.
pub const PROOFS: &[Misdeed] = &[
    ignored("a START out of thin air", PROOF_RULE, |peer| {
        for guess in 1..1_000 {
            peer.sealer = Sealer { connection: guess, seed: guess };
            peer.number = 0;
            let start = peer.start();
            peer.send_datagram(&start);
        }
        peer.number = 0;
    }),
    ignored("a proof for another port", PROOF_RULE, |peer| {
        peer.greet();
        let start = peer.start();
        peer.number = 0;
        elsewhere(peer).send(&start).unwrap();
    }),
    ignored("a START that asks for something else than HELLO", PROOF_RULE, |peer| {
        peer.greet();
        peer.greeting.dry_run = true;
        let start = peer.start();
        peer.send_datagram(&start);
        peer.number = 0;
        peer.greeting.dry_run = false;
    }),
    ignored(
        "data before START",
        "What arrives before START is dropped: not counted, not answered.",
        |peer| {
            peer.greet();
            let file = forge::file(b"early", 0);
            for number in 1..50 {
                peer.number = number;
                peer.send_data(Space::Manifest, 0, &file);
            }
            peer.number = 0;
            assert!(peer.receive().is_none(), "an answer before START");
        },
    ),
    ignored(
        "HELLO in the middle of a transfer",
        "A receiver MUST NOT answer HELLO from an address and port with which it has a transfer \
         that is not over.",
        |peer| {
            peer.connect();
            let greeting = peer.greeting;
            peer.greeting.nonce = [0xee; 16];
            for _ in 0..100 {
                peer.send_datagram(&peer.hello());
            }
            peer.greeting = greeting;
            let welcomes = peer.welcomes;
            peer.sync();
            assert_eq!(peer.welcomes, welcomes, "HELLO was answered");
        },
    ),
    ignored("CLOSE by somebody who does not know the seed", GUESS_RULE, |peer| {
        peer.connect();
        let Sealer { connection, seed } = peer.sealer;
        for guess in 1..1_000 {
            peer.send_datagram(&close(connection, seed ^ guess, u64::from(guess)));
            peer.send_datagram(&close(connection ^ guess, seed, u64::from(guess)));
        }
    }),
    ignored(
        "CLOSE from another port, by somebody who knows all",
        "packets from elsewhere are dropped",
        |peer| {
            peer.connect();
            let Sealer { connection, seed } = peer.sealer;
            let other = elsewhere(peer);
            for number in 1..100 {
                other.send(&close(connection, seed, number)).unwrap();
            }
        },
    ),
    ignored("CLOSE for no reason that exists", "A CLOSE with another code is dropped.", |peer| {
        peer.connect();
        let sent = [12, 99, 255].map(|code| peer.send_forged(7, 0, &[code]));
        peer.expect_dropped(&sent);
    }),
    Misdeed {
        name: "every packet of the transfer again, and again",
        rule: "The receiver drops a packet whose number it has seen, and counts it",
        does: |peer| {
            let sent = send_recorded_file(peer);
            for datagram in sent.iter().chain(&sent) {
                peer.send_datagram(datagram);
            }
        },
        then: Then::Ignored,
        leaves: &["x"],
    },
    Misdeed {
        name: "another's transfer again",
        rule: "packets from elsewhere are dropped",
        does: |peer| {
            let sent = send_recorded_file(peer);
            let other = elsewhere(peer);
            for datagram in sent {
                // HELLO aside, which anybody may say.
                if datagram[0] != 1 {
                    other.send(&datagram).unwrap();
                }
            }
            other.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
            assert!(other.recv(&mut [0; 2_000]).is_err(), "somebody else was answered");
        },
        then: Then::Ignored,
        leaves: &["x"],
    },
];

/// Connects and sends the file `x`; all datagrams that this took.
fn send_recorded_file(peer: &mut HostileSender) -> Vec<Vec<u8>> {
    peer.records = true;
    peer.connect();
    peer.send_file(b"x", &content_of(b"x"));
    peer.records = false;
    peer.wait("the file", |peer| peer.outcomes.len() == 1);
    peer.sent.take()
}

/// A CLOSE that says all is done.
fn close(connection: u32, seed: u32, number: u64) -> Vec<u8> {
    let mut datagram = Vec::new();
    let frame = Frame::Close(Close { code: CloseCode::Done, text: "" });
    let sealer = Sealer { connection, seed };
    sealer.seal(PacketNumber(number), Flags::default(), &frame, &mut datagram);
    datagram
}

/// Another port of the same host.
fn elsewhere(peer: &HostileSender) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(peer.socket.peer_addr().unwrap()).unwrap();
    socket
}

/// Says a HELLO whose frame was changed; nothing must come back.
#[track_caller]
fn spoiled(peer: &mut HostileSender, change: fn(&mut Vec<u8>)) {
    let mut frame = peer.hello().split_off(14);
    change(&mut frame);
    unanswered(peer, &forge::packet(1, 0, &frame, 0, 0, 0));
}

/// Sends what nothing may answer. A good HELLO behind it tells: what comes first answers that.
#[track_caller]
fn unanswered(peer: &mut HostileSender, datagram: &[u8]) {
    peer.greeting.nonce[15] = 0xaa;
    peer.send_datagram(datagram);
    peer.greet();
}

/// Says HELLO with these four bytes behind the magic; CLOSE must come back.
#[track_caller]
fn refused(peer: &mut HostileSender, fields: [u8; 4], code: CloseCode) {
    let mut frame = peer.hello().split_off(14);
    frame[4..8].copy_from_slice(&fields);
    let hello = forge::packet(1, 0, &frame, 0, 0, 0);
    let mut answer = None;
    for _ in 0..100 {
        peer.send_datagram(&hello);
        answer = peer.receive();
        if answer.is_some() {
            break;
        }
    }
    let answer = answer.expect("HELLO is answered");
    assert!(answer.len() <= hello.len(), "more goes to a stranger than came");
    match peer.open_first(&answer) {
        Some(Frame::Close(close)) => assert_eq!(close.code, code),
        other => panic!("HELLO was answered with {other:?}"),
    }
}

#[test]
fn no_stranger_gets_more_than_an_answer() {
    Bystander::new(&[]).suffers_all(GREETINGS);
}

#[test]
fn nobody_speaks_in_the_name_of_another() {
    Bystander::new(&[]).suffers_all(PROOFS);
}
