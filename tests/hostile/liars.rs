//! Misdeeds of receivers, against `ufx send`: ACKs, credit and answers that lie.

use std::net::UdpSocket;

use ufx::wire::{
    AnswerRecord, Close, CloseCode, Data, DigestAlgorithm, Flags, Frame, PacketNumber, RefuseCode,
    Sealer, Space,
};

use crate::bystander::words;
use crate::forge;
use crate::receiver::HostileReceiver;
use crate::support::content::{room, write_random};
use crate::support::process::Program;
use crate::support::report::checked;
use crate::support::transfer::send_command;

/// What a lie may add to the resident memory of the sender.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

/// Three blocks and some.
const SOURCE_BYTES: u64 = 3_200_000;

/// One way to lie.
struct Lie {
    /// What is said, in a few words.
    name: &'static str,
    /// What proto.md says about it.
    rule: &'static str,
    /// Says it.
    tells: fn(&mut HostileReceiver),
    /// What comes of it.
    then: Ends,
}

/// How the sender ends.
enum Ends {
    /// Well: the receiver can go on honestly.
    Well,
    /// With this exit code, and these words in its error.
    With(i32, &'static str),
}

const ANSWER_RULE: &str = "Answers about entries or blocks that were not announced, about settled \
    entries, or that do not fit the mode of the transfer break a rule";
const END_RULE: &str = "and so does an END whose counts differ from the answers.";
const SUCCESS_RULE: &str = "Only then does a sender succeed.";
const WELCOME_RULE: &str = "The sender MUST drop a WELCOME whose nonce, mode or digest is not its \
    own or whose version is out of its range.";
const ACK_RULE: &str = "The sender drops an ACK as a whole if it never sent `largest`, or if its \
    counters run backwards with a larger `largest`";
const CREDIT_RULE: &str = "max_number, max_manifest, max_digests and max_body never retreat; \
    the sender keeps the largest value it has seen.";
const FRAME_RULE: &str = "a value outside its range, or goes in the wrong direction, makes its \
    packet dropped.";
const RECORD_RULE: &str = "ends the transfer with CLOSE `protocol`, at either end.";

const fn harmless(name: &'static str, rule: &'static str, tells: fn(&mut HostileReceiver)) -> Lie {
    Lie { name, rule, tells, then: Ends::Well }
}

/// A lie that breaks the protocol.
const fn broken(
    name: &'static str,
    rule: &'static str,
    words: &'static str,
    tells: fn(&mut HostileReceiver),
) -> Lie {
    Lie { name, rule, tells, then: Ends::With(1, words) }
}

const ACKS: &[Lie] = &[
    harmless("an ACK of what was never sent", ACK_RULE, |peer| {
        peer.meet();
        for ahead in [1_000, 1 << 31, 1 << 62, u64::MAX - 1_000] {
            peer.bare_ack(|ack| {
                ack.largest.0 += ahead;
                ack.max_number.0 = ack.largest.0;
            });
        }
    }),
    Lie {
        name: "an optimistic ACK, and nothing stored",
        rule: SUCCESS_RULE,
        tells: |peer| {
            peer.meet();
            for _ in 0..200 {
                peer.take_in();
                // What is behind it was sent, but has not come, or never will.
                let largest = peer.got.last().copied().unwrap_or(0);
                peer.got.extend(0..largest);
                peer.ack(|_| {});
            }
        },
        then: Ends::With(3, "nothing was heard"),
    },
    harmless("counters that run backwards", ACK_RULE, |peer| {
        peer.meet();
        peer.serve("packets", |peer| peer.got.len() > 100);
        peer.wait("more packets", |peer| peer.got.len() > 101);
        peer.ack(|ack| (ack.received_packets, ack.received_bytes) = (1, 1));
    }),
    Lie {
        name: "counters at the end of their range",
        rule: "or if its counters run backwards with a larger `largest`",
        tells: |peer| {
            peer.meet();
            peer.serve("packets", |peer| peer.got.len() > 100);
            peer.ack(|ack| {
                (ack.received_packets, ack.received_bytes) = (u64::MAX, u64::MAX);
                (ack.arrival_us, ack.delay_us) = (u64::MAX, u32::MAX);
                (ack.duplicates, ack.drops, ack.ecn_ce) = (u32::MAX, u32::MAX, u32::MAX);
                ack.written = u64::MAX;
            });
        },
        then: Ends::With(3, "nothing was heard"),
    },
    harmless(
        "a clock that runs backwards and jumps",
        "microseconds of the receiver's clock",
        |peer| {
            peer.meet();
            for arrival_us in [u64::MAX, 0, 1 << 63, 1, u64::MAX - 1] {
                peer.wait("a packet", |peer| !peer.got.is_empty());
                peer.ack(|ack| (ack.arrival_us, ack.delay_us) = (arrival_us, u32::MAX));
                peer.take_in();
            }
        },
    ),
    harmless("a million drops", "`drops` moved", |peer| {
        peer.meet();
        for drops in [1, 1_000_000, 5, u32::MAX] {
            peer.take_in();
            peer.ack(|ack| (ack.drops, ack.duplicates, ack.ecn_ce) = (drops, drops, drops));
        }
    }),
    harmless("credit without end", "A controller MUST bound bytes in flight", |peer| {
        peer.meet_with(|welcome| (welcome.credit, welcome.socket_bytes) = (u32::MAX, u32::MAX));
        for _ in 0..50 {
            peer.take_in();
            peer.ack(|ack| ack.max_number.0 = 1 << 62);
        }
        peer.ack(|ack| ack.max_number.0 = u64::MAX);
    }),
    harmless("credit that shrinks", CREDIT_RULE, |peer| {
        peer.meet();
        for _ in 0..50 {
            peer.take_in();
            peer.ack(|ack| {
                ack.max_number.0 = 0;
                (ack.max_manifest, ack.max_digests, ack.max_body) = (0, 0, 0);
            });
        }
    }),
    harmless("bits for what has not been sent", "Bits above `largest` are zero.", |peer| {
        peer.meet();
        peer.send_raw_ack(5, 0, &[0xff; 8]);
        peer.send_raw_ack(5, 64, &[0xff; 8]);
        peer.send_raw_ack(5, u64::MAX - 63, &[0xff; 8]);
    }),
    harmless("bitmaps of no valid form", "bitmap | 112 | 8 n | n from 0 to 136", |peer| {
        peer.meet();
        peer.send_raw_ack(1_000_000, 0, &[0xff; 137 * 8]);
        peer.send_raw_ack(100, 0, &[0xff; 7]);
        peer.send_raw_ack(100, 1, &[0; 8]);
        peer.send_raw_ack(100, 63, &[0; 8]);
    }),
    harmless(
        "datagram sizes out of this world",
        "A sender uses datagrams above 1,472 bytes only up to the last ACK's datagram_bytes",
        |peer| {
            peer.meet_with(|welcome| welcome.datagram_bytes_max = 65_507);
            for datagram_bytes in [0, 1, u32::MAX, 65_508] {
                peer.take_in();
                peer.ack(|ack| ack.datagram_bytes = datagram_bytes);
            }
        },
    ),
    harmless("20,000 ACKs that say the same", "at most 8,704 numbers", |peer| {
        peer.meet();
        for _ in 0..20_000 {
            peer.ack(|_| {});
        }
    }),
];

const WELCOMES: &[Lie] = &[
    harmless("WELCOMEs that do not fit HELLO", WELCOME_RULE, |peer| {
        peer.listen();
        let good = peer.welcome();
        let mut nonce = good;
        nonce.nonce[3] ^= 1;
        let mut digest = good;
        digest.digest = DigestAlgorithm::Blake3;
        let mut mode = good;
        mode.mode = ufx::wire::Mode::Keyed;
        let mut version = good;
        version.version = 2;
        for welcome in [nonce, digest, mode, version] {
            peer.send(&Frame::Welcome(ufx::wire::Welcome { connection: 99, ..welcome }));
        }
        peer.meet();
    }),
    harmless("WELCOMEs with values out of range", FRAME_RULE, |peer| {
        peer.listen();
        let mut good = Vec::new();
        let welcome = Frame::Welcome(peer.welcome());
        peer.sealer().seal(PacketNumber(0), Flags::default(), &welcome, &mut good);
        let good = good.split_off(14);
        let changes: [(usize, &[u8]); 6] = [
            (3, &[1]),                       // reserved
            (20, &[0; 4]),                   // connection 0
            (32, &1_199_u32.to_be_bytes()),  // datagram_bytes_max
            (32, &65_508_u32.to_be_bytes()), // datagram_bytes_max
            (36, &[0; 4]),                   // credit
            (36, &[0, 0, 0, 1]),             // credit
        ];
        let Sealer { connection, seed } = peer.sealer();
        for (at, bytes) in changes {
            let mut frame = good.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            peer.send_datagram(&forge::packet(2, 0, &frame, connection, seed, 0));
        }
        peer.meet();
    }),
    harmless(
        "a second WELCOME that says otherwise",
        "It keeps the first good one; later ones change nothing.",
        |peer| {
            peer.meet();
            for connection in 1..50 {
                let welcome = peer.welcome();
                peer.send(&Frame::Welcome(ufx::wire::Welcome {
                    connection,
                    seed: connection,
                    credit: 2,
                    ..welcome
                }));
            }
        },
    ),
    harmless("a socket that takes nothing", "but may always be two datagrams", |peer| {
        peer.meet_with(|welcome| (welcome.socket_bytes, welcome.credit) = (0, 2));
    }),
    harmless("the smallest datagrams there are", "| datagram | 1,200 to 65,507;", |peer| {
        peer.meet_with(|welcome| welcome.datagram_bytes_max = 1_200);
    }),
    Lie {
        name: "a welcome, and then silence",
        rule: "A peer is gone after 20 s of silence (configurable)",
        tells: HostileReceiver::meet,
        then: Ends::With(3, "nothing was heard"),
    },
    Lie {
        name: "no version that anybody speaks",
        rule: "| 2 | version | no common version |",
        tells: |peer| {
            peer.listen();
            let Sealer { connection, seed } = peer.sealer();
            let close = [&[2][..], b"\x1b[2Jgo away\x07"].concat();
            peer.send_datagram(&forge::packet(7, 0, &close, connection, seed, 0));
        },
        then: Ends::With(1, "version"),
    },
    harmless(
        "CLOSE by who does not know the seed, or is not the receiver",
        "Connection and seed together make 64 bits that a forger who does not see the packets has \
         to guess",
        |peer| {
            peer.meet();
            let Sealer { connection, seed } = peer.sealer();
            let other = UdpSocket::bind("127.0.0.1:0").unwrap();
            for guess in 1..500 {
                let wrong = forge::packet(7, 0, &[0], connection, seed ^ guess, 1_000);
                peer.send_datagram(&wrong);
                let right = forge::packet(7, 0, &[0], connection, seed, u64::from(guess));
                let _ = other.send_to(&right, peer.peer.unwrap());
            }
        },
    ),
    harmless("CLOSE for no reason that exists", "A CLOSE with another code is dropped.", |peer| {
        peer.meet();
        [12, 99, 255].into_iter().for_each(|code| peer.send_forged(7, 0, &[code]));
    }),
    harmless("frames cut short, and of no type", "Frames of unknown type are dropped.", |peer| {
        peer.meet();
        for frame_type in 0..12 {
            (0..98).for_each(|bytes| peer.send_forged(frame_type, 0, &vec![0xff; bytes]));
        }
    }),
    harmless("frames in the wrong direction", FRAME_RULE, |peer| {
        peer.meet();
        for space in [Space::Body, Space::Manifest, Space::Digests] {
            peer.send(&Frame::Data(Data { space, offset: 0, payload: &[1; 1_000] }));
        }
        peer.send_forged(6, 1, &[0xff; 14]);
        peer.send_forged(3, 0, &[0xff; 70]);
        peer.send_forged(1, 0, &[0; 1_186]);
    }),
    Lie {
        name: "an end with words that paint the terminal",
        rule: "Anything a peer sends may be hostile",
        tells: |peer| {
            peer.meet();
            let text = "\u{1b}[31m\u{202e}dnuorgkcab\r\nufx: all is well\u{7}";
            peer.send(&Frame::Close(Close { code: CloseCode::Disk, text }));
            peer.closed = Some(CloseCode::Disk);
        },
        then: Ends::With(6, "disk"),
    },
];

const ANSWERS: &[Lie] = &[
    broken("blocks kept of a file that nobody offered", ANSWER_RULE, "unknown blocks", |peer| {
        peer.meet();
        peer.answer(AnswerRecord::Have { entry: 77, first_block: 0, blocks: 1 });
    }),
    broken("blocks kept that the file does not have", ANSWER_RULE, "unknown blocks", |peer| {
        peer.meet();
        peer.answer(AnswerRecord::Have { entry: 0, first_block: 3, blocks: 2 });
    }),
    broken("all blocks that there could be", ANSWER_RULE, "unknown blocks", |peer| {
        peer.meet();
        peer.answer(AnswerRecord::Have { entry: 0, first_block: 0, blocks: 1 << 28 });
    }),
    broken("a file committed that nobody offered", ANSWER_RULE, "never sent", |peer| {
        peer.meet();
        peer.answer(AnswerRecord::Committed { first_entry: 5, entries: 1 });
    }),
    broken("four thousand million files committed", ANSWER_RULE, "never sent", |peer| {
        peer.meet();
        peer.answer(AnswerRecord::Committed { first_entry: 0, entries: u32::MAX });
    }),
    broken("entries beyond the end of numbers", RECORD_RULE, "", |peer| {
        peer.meet();
        peer.answer_bytes(&forge::record(5, &[0xff; 8]));
    }),
    broken("a file committed twice", ANSWER_RULE, "settled twice", |peer| {
        peer.meet();
        peer.answer(AnswerRecord::Committed { first_entry: 0, entries: 1 });
        peer.answer(AnswerRecord::Committed { first_entry: 0, entries: 1 });
    }),
    broken("a file kept, refused and failed", ANSWER_RULE, "settled twice", |peer| {
        peer.meet();
        peer.answer(AnswerRecord::Kept { first_entry: 0, entries: 1 });
        let (code, text) = (RefuseCode::Disk, "");
        peer.answer(AnswerRecord::Refused { entry: 0, code, text });
        peer.answer(AnswerRecord::Failed { entry: 0, code, text });
    }),
    broken("the end before the files", END_RULE, "does not agree", |peer| {
        peer.meet();
        peer.answer(AnswerRecord::End { committed: 0, present: 0, failed: 0 });
    }),
    broken("an end that counts too many", END_RULE, "does not agree", |peer| {
        peer.meet();
        peer.serve("the manifest's end", |peer| peer.has_ended);
        peer.answer(AnswerRecord::Committed { first_entry: 0, entries: 1 });
        peer.answer(AnswerRecord::End { committed: 2, present: 0, failed: 0 });
    }),
    broken("a dry run that nobody asked for", ANSWER_RULE, "no dry run", |peer| {
        peer.meet();
        peer.answer(AnswerRecord::Take { first_entry: 0, entries: 1 });
    }),
    broken("a block again that does not exist", ANSWER_RULE, "asked for again", |peer| {
        peer.meet();
        peer.answer(AnswerRecord::Again { entry: 0, block: 4, epoch: 1 });
    }),
    broken(
        "a block again, and one time skipped",
        "one more than before: 1 to 3",
        "asked for again",
        |peer| {
            peer.meet();
            peer.answer(AnswerRecord::Again { entry: 0, block: 0, epoch: 2 });
        },
    ),
    broken("a block again of a file that is committed", ANSWER_RULE, "asked for again", |peer| {
        peer.meet();
        peer.answer(AnswerRecord::Committed { first_entry: 0, entries: 1 });
        peer.answer(AnswerRecord::Again { entry: 0, block: 0, epoch: 1 });
    }),
    broken(
        "a block again, a fourth time",
        "| epochs of a block | 4: 0 to 3 |",
        "malformed",
        |peer| {
            peer.meet();
            let again = |epoch: u8| forge::record(4, &[0, 0, 0, 0, 0, 0, 0, 0, epoch]);
            peer.serve("the manifest's end", |peer| peer.has_ended);
            (1..=4).for_each(|epoch| peer.answer_bytes(&again(epoch)));
        },
    ),
    broken("an answer of no kind", RECORD_RULE, "malformed", |peer| {
        peer.meet();
        peer.answer_bytes(&forge::record(10, b"what is this"));
    }),
    broken("an answer that is too long", RECORD_RULE, "malformed", |peer| {
        peer.meet();
        peer.answer_bytes(&[3, 0xff, 0xff, 0, 0, 0, 0, 1]);
    }),
    broken(
        "a reason that is no text",
        "text is UTF-8 of at most 255 bytes.",
        "malformed",
        |peer| {
            peer.meet();
            peer.answer_bytes(&forge::record(3, b"\0\0\0\0\x05\xff\xfe"));
        },
    ),
    Lie {
        name: "a reason that paints the terminal",
        rule: "Anything a peer sends may be hostile",
        tells: |peer| {
            peer.meet();
            let (code, text) =
                (RefuseCode::Disk, "\u{1b}]0;owned\u{7}\u{202e}\r\nufx: all is well");
            peer.answer(AnswerRecord::Refused { entry: 0, code, text });
            peer.serve("the manifest's end", |peer| peer.has_ended);
            peer.answer(AnswerRecord::End { committed: 0, present: 0, failed: 1 });
        },
        then: Ends::With(6, "the receiver stored nothing"),
    },
    harmless("answers from far ahead", "At most 256 KiB are outstanding.", |peer| {
        peer.meet();
        for offset in [1 << 20, 1 << 40, (1 << 48) - 1_000] {
            peer.send_answers(offset, &[8; 1_000]);
        }
    }),
    harmless(
        "answers in ten thousand pieces, and the first one missing",
        "| pieces of a record space held behind a gap | 4,096;",
        |peer| {
            peer.meet();
            (0..10_000).for_each(|piece| peer.send_answers(100 + 2 * piece, &[8]));
        },
    ),
];

#[track_caller]
fn tell_all(lies: &[Lie]) {
    let spec = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/proto.md"));
    let spec = words(&spec.unwrap());
    let room = room();
    let source = write_random(&room.path().join("a.bin"), SOURCE_BYTES, 91);
    let before = std::fs::metadata(&source).unwrap().modified().unwrap();
    let run = |lie: &Lie| {
        let name = lie.name;
        let mut peer = HostileReceiver::new();
        // So slow that its memory is looked at several times, see `Program`.
        let options = ["--timeout", "2s", "--wait", "5s", "--rate", "200M"];
        let mut command = send_command(&[&source], &options, "127.0.0.1", peer.port());
        let sender = Program::start(&mut command);
        (lie.tells)(&mut peer);
        let (code, says) = match lie.then {
            Ends::Well => {
                peer.finish();
                (0, "")
            }
            Ends::With(code, says) => (code, says),
        };
        let ended = sender.wait();
        assert_eq!(ended.code, Some(code), "{name}: {ended:#?}");
        let error = checked(&ended.stdout)["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(says), "{name}: {error}");
        let strange = |letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}';
        assert!(!ended.stderr.contains(strange), "{name}: foreign bytes: {}", ended.stderr);
        assert!(!ended.stdout.contains(strange), "{name}: foreign bytes: {}", ended.stdout);
        ended.peak_bytes
    };
    let behaves = harmless("behaves", SUCCESS_RULE, |_| {});
    let baseline_bytes = run(&behaves).max(run(&behaves));
    for lie in lies {
        assert!(spec.contains(&words(lie.rule)), "{}: not in proto.md", lie.name);
        let growth = run(lie).saturating_sub(baseline_bytes);
        println!("{}: {} KiB", lie.name, growth >> 10);
        assert!(growth <= GROWTH_BYTES_MAX, "{}: memory grew by {growth} bytes", lie.name);
    }
    assert_eq!(std::fs::metadata(&source).unwrap().modified().unwrap(), before);
}

#[test]
fn acks_that_lie_move_no_sender() {
    tell_all(ACKS);
}

#[test]
fn welcomes_and_ends_that_lie_deceive_no_sender() {
    tell_all(WELCOMES);
}

#[test]
fn answers_that_lie_end_in_no_success() {
    tell_all(ANSWERS);
}
