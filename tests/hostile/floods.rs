//! Floods, packets that make no sense, and numbers at the edges of their ranges.

use ufx::wire::{CloseCode, Frame, Probe, Space, limits};

use crate::bystander::{Bystander, Misdeed, Then, content_of};
use crate::forge;
use crate::sender::HostileSender;

const DROP_RULE: &str = "A frame that is shorter than its fields, or longer where neither zeros \
    nor text may follow, that has a value outside its range, or goes in the wrong direction, \
    makes its packet dropped.";
const SILENCE_RULE: &str = "A peer is gone after 20 s of silence (configurable)";

/// A misdeed in spite of which the file `x` is committed.
const fn in_spite(name: &'static str, rule: &'static str, does: fn(&mut HostileSender)) -> Misdeed {
    Misdeed { name, rule, does, then: Then::Ignored, leaves: &["x"] }
}

/// A misdeed that comes to nothing.
const fn ignored(name: &'static str, rule: &'static str, does: fn(&mut HostileSender)) -> Misdeed {
    Misdeed { name, rule, does, then: Then::Ignored, leaves: &[] }
}

/// Packets that make no sense.
pub const PACKETS: &[Misdeed] = &[
    ignored("every frame cut short", DROP_RULE, |peer| {
        peer.connect();
        let mut sent = Vec::new();
        for (frame_type, fields) in [(3, 70), (4, 7), (6, 14), (7, 1)] {
            sent.extend((0..fields).map(|bytes| peer.send_forged(frame_type, 0, &vec![0; bytes])));
            peer.sync();
        }
        peer.expect_dropped(&sent);
    }),
    ignored("frames of no type", "Frames of unknown type are dropped.", |peer| {
        peer.connect();
        let types = (0..=255).filter(|frame_type| !(1..=7).contains(frame_type));
        let sent: Vec<u64> = types.map(|one| peer.send_forged(one, 0, &[0; 200])).collect();
        peer.expect_dropped(&sent);
    }),
    ignored("frames in the wrong direction", DROP_RULE, |peer| {
        peer.connect();
        let mut ack = [0; 98];
        ack[7] = 200;
        let welcome = [
            &[1, 0, 1, 0][..],
            &[7; 16],
            &[0, 0, 0, 9],
            &[0, 0, 0, 9],
            &[0, 0, 9, 0],
            &[0, 0, 5, 0],
            &[0, 0, 0, 9],
            &[0; 48],
        ]
        .concat();
        let sent = [peer.send_forged(5, 0, &ack), peer.send_forged(2, 0, &welcome)];
        peer.expect_dropped(&sent);
        let sent =
            [0x0c, 0x0d].map(|flags| peer.send_forged(4, flags, &[0, 0, 0, 0, 0, 0, 8, 0, 12]));
        peer.expect_dropped(&sent);
    }),
    ignored("flags that do not exist", "All other bits MUST be zero", |peer| {
        peer.connect();
        let probe = [0; 14];
        let sent = [0x10, 0x40, 0x80, 0x04].map(|flags| peer.send_forged(6, flags, &probe));
        peer.expect_dropped(&sent);
    }),
    ignored(
        "padding that is longer than its packet",
        "(2 to the length of the datagram less header)",
        |peer| {
            peer.connect();
            let data = |padding: u16| [&[0; 6][..], b"payload", &padding.to_be_bytes()].concat();
            let sent = [0, 1, 9, 15, 16, 65_535].map(|bytes| peer.send_forged(4, 2, &data(bytes)));
            peer.expect_dropped(&sent);
        },
    ),
    ignored("data beyond the end of the space", "offset + length MUST NOT exceed 2^48.", |peer| {
        peer.connect();
        let sent = [0, 4, 8]
            .map(|space| peer.send_forged(4, space, &[255, 255, 255, 255, 255, 255, 1, 2]));
        peer.expect_dropped(&sent);
    }),
    ignored("the largest datagrams there are", "| datagram | 1,200 to 65,507;", |peer| {
        peer.connect();
        for frame_type in 1..=7 {
            peer.send_forged(frame_type, 0, &vec![0xff; 65_507 - 14]);
        }
    }),
    in_spite("a file in datagrams of one byte", "payload | 20 | 1 or more", |peer| {
        peer.connect();
        let (entry, offset) = peer.announce_file(b"x", 3_000);
        let content = content_of(b"x");
        for (at, byte) in (offset..).zip(&content) {
            peer.send_data(Space::Body, at, &[*byte]);
            if at % 64 == 0 {
                peer.sync();
            }
        }
        peer.deliver(Space::Body, offset, &content);
        peer.digests(&[forge::digest(entry, 0, 0, &forge::xxh3(&content))]);
    }),
    ignored(
        "numbers that jump by two thousand million",
        "A receiver keeps the numbers seen of at least the last 65,536",
        |peer| {
            peer.connect();
            for _ in 0..100 {
                peer.number += (1 << 31) - 2;
                peer.sync();
            }
        },
    ),
    ignored(
        "numbers that were never sent before, from long ago",
        "a packet older than it can tell is dropped as a duplicate",
        |peer| {
            peer.connect();
            peer.number += 1_000_000;
            peer.sync();
            let ahead = std::mem::replace(&mut peer.number, 10);
            let old = peer.send_data(Space::Manifest, 0, &forge::file(b"y", 0));
            peer.number = ahead;
            peer.expect_dropped(&[old]);
        },
    ),
    in_spite("one number for two contents", "A sender MUST NOT use a number twice.", |peer| {
        peer.connect();
        peer.announce_file(b"x", 3_000);
        peer.deliver(Space::Body, 0, &content_of(b"x"));
        peer.number -= 1;
        peer.send_data(Space::Body, 0, &[0; 1_452]);
        peer.digests(&[forge::digest(0, 0, 0, &forge::xxh3(&content_of(b"x")))]);
    }),
    ignored(
        "answers acknowledged that were never given",
        "A receiver ignores `answers` above what it has sent.",
        |peer| {
            peer.connect();
            let answers = limits::OFFSET_MAX;
            let (srtt_us, window_packets) = (u32::MAX, u32::MAX);
            let probe = Probe { srtt_us, window_packets, answers, datagram_bytes: 0 };
            peer.send(&Frame::Probe(probe));
            let probe = Probe { srtt_us: 1, window_packets: 0, answers, datagram_bytes: 0 };
            peer.send(&Frame::Probe(probe));
        },
    ),
];

/// Too much of what may be sent.
pub const FLOODS: &[Misdeed] = &[
    Misdeed {
        name: "a manifest without an end",
        rule: SILENCE_RULE,
        does: |peer| {
            peer.connect();
            peer.send_file(b"x", &content_of(b"x"));
            peer.wait("the file", |peer| peer.outcomes.len() == 1);
        },
        then: Then::Lost,
        leaves: &["x"],
    },
    Misdeed {
        name: "a packet now and then, more seldom than the patience lasts",
        rule: SILENCE_RULE,
        does: |peer| {
            peer.connect();
            peer.announce_file(b"x", 3_000);
            peer.deliver(Space::Body, 0, &content_of(b"x")[..1_000]);
        },
        then: Then::Lost,
        leaves: &[],
    },
    Misdeed {
        name: "a million files",
        rule: "exhaustion by strangers (no state before proof, bounded state after it)",
        does: |peer| {
            peer.greeting.dry_run = true;
            peer.connect();
            for thousand in 0..1_000 {
                let names = (0..1_000).map(|file| format!("{thousand}-{file}"));
                let records: Vec<Vec<u8>> =
                    names.map(|name| forge::file(name.as_bytes(), 1)).collect();
                peer.announce(&records);
                peer.streams[0].clear();
                peer.outcomes.clear();
            }
        },
        then: Then::Told,
        leaves: &[],
    },
    ignored(
        "a manifest in ten thousand pieces, and the first one missing",
        "| pieces of a record space held behind a gap | 4,096;",
        |peer| {
            peer.connect();
            for piece in 0..10_000 {
                peer.send_data(Space::Manifest, 100 + 50 * piece, &[1; 49]);
            }
            peer.sync();
        },
    ),
    ignored(
        "a manifest far beyond its credit",
        "max_manifest and max_digests bound what is not consumed yet (1 MiB).",
        |peer| {
            peer.connect();
            let sent: Vec<u64> = (0..1_000)
                .map(|piece| {
                    peer.send_data(Space::Manifest, (1 << 20) + 1_452 * piece, &[1; 1_452])
                })
                .collect();
            peer.expect_dropped(&sent);
        },
    ),
    ignored("50,000 wishes for an ACK", "the receiver MUST answer with an ACK at once", |peer| {
        peer.connect();
        for _ in 0..500 {
            (0..100).for_each(|_| peer.probe());
            peer.sync();
        }
    }),
];

/// Too many transfers.
pub const CROWD: &[Misdeed] = &[Misdeed {
    name: "as many transfers as there can be, and one more",
    rule: "| transfers at one receiver | 256 by default; beyond that CLOSE `busy` |",
    does: |peer| {
        let port = peer.socket.peer_addr().unwrap().port();
        let mut others = Vec::new();
        while let Some(mut other) = unless_busy(HostileSender::new(port, 0xcc)) {
            other.connect();
            others.push(other);
        }
        // The honest one may be there, too.
        assert!((255..=256).contains(&others.len()), "{} transfers", others.len());
        for other in &mut others {
            other.close(CloseCode::Cancelled);
            other.close(CloseCode::Cancelled);
        }
        peer.opened += others.len();
    },
    then: Then::Told,
    leaves: &[],
}];

/// A stranger that may begin a transfer; none if the receiver has too many.
fn unless_busy(stranger: HostileSender) -> Option<HostileSender> {
    for _ in 0..100 {
        stranger.send_datagram(&stranger.hello());
        let Some(answer) = stranger.receive() else { continue };
        match stranger.open_first(&answer) {
            Some(Frame::Welcome(_)) => return Some(stranger),
            Some(Frame::Close(close)) => {
                assert_eq!(close.code, CloseCode::Busy);
                return None;
            }
            other => panic!("HELLO was answered with {other:?}"),
        }
    }
    panic!("nobody answers HELLO");
}

/// What a receiver has to keep for a while.
pub const HOARDS: &[Misdeed] = &[
    Misdeed {
        name: "every second byte of a file",
        rule: "| separate stored ranges of a space | 65,536;",
        does: |peer| {
            peer.connect();
            peer.announce_file(b"never", 1 << 20);
            for window in 0..140 {
                // Buffers in front of the disk are no matter of ranges: it may catch up.
                let stored = (500 * (window + 1)).min(limits::STORED_RANGES_MAX as u64 - 1_000);
                while peer.written < stored {
                    for at in 0..500 {
                        peer.send_data(Space::Body, 1_000 * window + 2 * at, &[1]);
                    }
                    peer.sync();
                }
            }
        },
        then: Then::Told,
        leaves: &[],
    },
    Misdeed {
        name: "answers that are never acknowledged",
        rule: "At most 256 KiB are outstanding.",
        does: |peer| {
            peer.connect();
            peer.ignores_answers = true;
            let link = forge::link(&[b'x'; 200], b"/");
            (0..60).for_each(|_| peer.offer(Space::Manifest, &link.repeat(100)));
            assert!(peer.outcomes.len() < 6_000, "answers pile up");
        },
        then: Then::Told,
        leaves: &[],
    },
    Misdeed {
        name: "names as long as can be, of files that never come",
        rule: "a receiver reads no ENTRY at 8,192",
        does: |peer| {
            peer.connect();
            peer.manifest(&[forge::directory(b"d")]);
            for hundred in 0..90 {
                let names = hundred * 100..hundred * 100 + 100;
                let files: Vec<Vec<u8>> =
                    names.map(|name| forge::file(&long_name(name), 1)).collect();
                peer.offer(Space::Manifest, &files.concat());
            }
        },
        then: Then::Told,
        leaves: &["d"],
    },
    Misdeed {
        name: "digests of blocks that never come",
        rule: "| digests whose blocks are not complete | a receiver reads no further at 65,536 |",
        does: |peer| {
            peer.connect();
            peer.manifest(&[forge::file(b"huge", 66_000 << 20)]);
            let digests: Vec<Vec<u8>> =
                (0..66_000).map(|block| forge::digest(0, block, 0, &[7; 16])).collect();
            for thousand in digests.chunks(1_000) {
                peer.offer(Space::Digests, &thousand.concat());
            }
        },
        then: Then::Told,
        leaves: &[],
    },
    Misdeed {
        name: "holes in many files that never come",
        rule: "a receiver reads no ENTRY at 32,768",
        does: |peer| {
            peer.connect();
            for file in 0..4 {
                let mut records = vec![forge::file(format!("{file}").as_bytes(), 1 << 20)];
                records.extend((0..16_000).map(|hole| forge::hole(2 * hole, 1)));
                peer.offer(Space::Manifest, &records.concat());
            }
        },
        then: Then::Told,
        leaves: &[],
    },
];

/// A path of nearly 4,096 bytes.
fn long_name(number: u32) -> Vec<u8> {
    let component = format!("{number:0254}/");
    let mut path = component.repeat(16).into_bytes();
    path.pop();
    path
}

#[test]
fn packets_that_make_no_sense_change_nothing() {
    Bystander::new(&[]).suffers_all(PACKETS);
}

#[test]
fn floods_are_bounded() {
    Bystander::new(&[]).suffers_all(FLOODS);
}

#[test]
fn what_is_kept_for_a_peer_is_bounded() {
    Bystander::new(&[]).suffers_all(HOARDS);
}

#[test]
fn a_crowd_of_transfers_is_bounded() {
    // Each has proven its address and costs a socket, a thread and its buffers: 24 KiB.
    Bystander::new(&[]).suffers_all(CROWD);
}
