//! Records, bytes and digests that contradict each other or the protocol.

use ufx::wire::{CloseCode, Space, limits};

use crate::bystander::{Bystander, Misdeed, Then, connect_and_say, content_of};
use crate::forge;
use crate::sender::HostileSender;

const FORM_RULE: &str = "A record that breaks a rule of this document, or is longer or shorter \
    than its fields (text aside), ends the transfer with CLOSE `protocol`, at either end.";
const HOLE_RULE: &str = "**HOLE** follows the ENTRY of its file, or another HOLE of it, directly.";
const RANGES_RULE: &str = "Ranges of one file come in ascending order and do not touch";
const END_RULE: &str = "**END** comes once; no ENTRY, HOLE or MORE follows, VOID may.";
const DIGEST_RULE: &str =
    "A record of an unknown block, or after END of an unknown entry, breaks a rule.";
const HELD_RULE: &str = "It MUST NOT hold a packet that ends beyond its credit or beyond the \
    entries it knows";
const CLOSE_RULE: &str =
    "CLOSE ends a transfer at any time; what was committed stays, nothing else does.";
const SUM_RULE: &str = "The sum of the sizes of files MUST NOT exceed 2^48 - 1.";

/// A misdeed that ends the transfer with CLOSE `protocol`.
const fn broken(name: &'static str, rule: &'static str, does: fn(&mut HostileSender)) -> Misdeed {
    Misdeed { name, rule, does, then: Then::Closed(CloseCode::Protocol), leaves: &[] }
}

/// Records that break a rule.
pub const RECORDS: &[Misdeed] = &[
    broken("a record of no kind", FORM_RULE, |peer| {
        connect_and_say(peer, forge::record(9, b"what is this"));
    }),
    broken("a record that is too long", FORM_RULE, |peer| {
        connect_and_say(peer, forge::record(1, &[0; 8_301]));
    }),
    broken("an entry that ends early", FORM_RULE, |peer| {
        connect_and_say(peer, forge::record(1, &[1; 40]));
    }),
    broken("a hole in nothing", HOLE_RULE, |peer| connect_and_say(peer, forge::hole(0, 1))),
    broken("a hole in a directory", HOLE_RULE, |peer| {
        peer.connect();
        peer.manifest(&[forge::directory(b"d"), forge::hole(0, 1)]);
        peer.is_mute = true;
    }),
    broken("a hole beyond its file", "offset + bytes at most the size", |peer| {
        peer.connect();
        peer.manifest(&[forge::file(b"x", 3_000), forge::hole(2_000, 1_001)]);
    }),
    broken("holes that overlap", RANGES_RULE, |peer| {
        peer.connect();
        let holes = [forge::hole(0, 1_000), forge::hole(999, 1_000)];
        peer.manifest(&[vec![forge::file(b"x", 3_000)], holes.to_vec()].concat());
    }),
    broken("holes that go backwards", RANGES_RULE, |peer| {
        peer.connect();
        let holes = [forge::hole(1_000, 10), forge::hole(10, 10)];
        peer.manifest(&[vec![forge::file(b"x", 3_000)], holes.to_vec()].concat());
    }),
    broken("more holes than a file may have", "| holes of a file | 16,384 |", |peer| {
        peer.connect();
        let mut records = vec![forge::file(b"x", 1 << 20)];
        records.extend((0..=limits::HOLES_MAX as u64).map(|hole| forge::hole(hole * 2, 1)));
        peer.manifest(&records);
    }),
    broken(
        "a void of what was never announced",
        "The entry MUST be one announced before",
        |peer| connect_and_say(peer, forge::void(0)),
    ),
    broken("the end twice", END_RULE, |peer| {
        peer.connect();
        peer.announce_file(b"x", 3_000);
        let end = peer.end_record();
        peer.manifest(&[end.clone(), end]);
    }),
    broken("an entry behind the end", END_RULE, |peer| {
        peer.connect();
        peer.announce_file(b"x", 3_000);
        let end = peer.end_record();
        peer.manifest(&[end, forge::file(b"y", 1)]);
    }),
    broken(
        "an end that counts more than there was",
        "entries is their count, body_bytes the sum of sizes.",
        |peer| connect_and_say(peer, forge::end(1, 0, 0, &[0; 16])),
    ),
    Misdeed {
        name: "an end whose digest lies",
        rule: "A receiver that finds another value MUST end with CLOSE `integrity`.",
        does: |peer| connect_and_say(peer, forge::end(0, 0, 0, &[7; 16])),
        then: Then::Closed(CloseCode::Integrity),
        leaves: &[],
    },
    broken("more bytes than there can be", SUM_RULE, |peer| {
        peer.connect();
        peer.manifest(&[forge::file(b"x", limits::BODY_BYTES_MAX), forge::file(b"y", 1)]);
    }),
    Misdeed {
        name: "a file larger than any disk",
        rule: "| 4 | space | no room |",
        does: |peer| {
            connect_and_say(peer, forge::file(b"x", limits::BODY_BYTES_MAX));
            peer.send_data(Space::Body, 1 << 47, b"one byte or two");
        },
        then: Then::Settled(&["failed Space"]),
        leaves: &[],
    },
    Misdeed {
        name: "a void of a file that is committed",
        rule: "unless it has settled it already or verified all its blocks",
        does: |peer| {
            peer.connect();
            peer.send_file(b"x", &content_of(b"x"));
            peer.wait("the file", |peer| peer.outcomes.len() == 1);
            peer.manifest(&[forge::void(0)]);
        },
        then: Then::Ignored,
        leaves: &["x"],
    },
];

/// Bytes and digests that lie.
pub const BYTES: &[Misdeed] = &[
    Misdeed {
        name: "the end before the data",
        rule: CLOSE_RULE,
        does: |peer| {
            peer.connect();
            peer.announce_file(b"x", 3_000);
            let end = peer.end_record();
            peer.manifest(&[end]);
            peer.close(CloseCode::Done);
            peer.close(CloseCode::Done);
        },
        then: Then::Told,
        leaves: &[],
    },
    Misdeed {
        name: "half a file, and all is said to be done",
        rule: CLOSE_RULE,
        does: |peer| {
            peer.connect();
            peer.announce_file(b"x", 3_000);
            peer.deliver(Space::Body, 0, &content_of(b"x")[..1_452]);
            peer.close(CloseCode::Done);
        },
        then: Then::Told,
        leaves: &[],
    },
    Misdeed {
        name: "data of files that were not announced",
        rule: HELD_RULE,
        does: |peer| {
            peer.connect();
            let sent = [0, 1_452, 1 << 40].map(|at| peer.send_data(Space::Body, at, &[1; 1_452]));
            peer.expect_dropped(&sent);
        },
        then: Then::Ignored,
        leaves: &[],
    },
    Misdeed {
        name: "data that begins in a file and ends beyond it",
        rule: HELD_RULE,
        does: |peer| {
            peer.connect();
            peer.announce_file(b"x", 3_000);
            let sent = peer.send_data(Space::Body, 2_000, &[1; 1_001]);
            peer.expect_dropped(&[sent]);
            peer.deliver(Space::Body, 0, &content_of(b"x"));
            peer.digests(&[forge::digest(0, 0, 0, &forge::xxh3(&content_of(b"x")))]);
        },
        then: Then::Ignored,
        leaves: &["x"],
    },
    Misdeed {
        name: "the same bytes again, and different",
        rule: "The receiver keeps the first bytes it gets for an offset, until AGAIN.",
        does: |peer| {
            let content = content_of(b"x");
            peer.connect();
            peer.announce_file(b"x", 3_000);
            peer.deliver(Space::Body, 0, &content[..2_000]);
            peer.deliver(Space::Body, 0, &[0; 1_000]);
            peer.deliver(
                Space::Body,
                1_000,
                &[[0; 1_000], content[2_000..].try_into().unwrap()].concat(),
            );
            peer.digests(&[forge::digest(0, 0, 0, &forge::xxh3(&content))]);
        },
        then: Then::Ignored,
        leaves: &["x"],
    },
    Misdeed {
        name: "a digest that lies every time",
        rule: "When a block differs in epoch 3, too, the file is FAILED `changed`.",
        does: |peer| {
            peer.connect();
            peer.announce_file(b"x", 3_000);
            for epoch in 0..=limits::EPOCH_MAX {
                peer.deliver(Space::Body, 0, &content_of(b"x"));
                peer.digests(&[forge::digest(0, 0, epoch, &[7; 16])]);
                peer.wait("an answer", |peer| {
                    peer.again.len() > usize::from(epoch) || !peer.outcomes.is_empty()
                });
            }
            assert_eq!(peer.again, [(0, 0, 1), (0, 0, 2), (0, 0, 3)]);
        },
        then: Then::Settled(&["failed Changed"]),
        leaves: &[],
    },
    Misdeed {
        name: "two digests of one block",
        rule: "a second record of the same block and epoch is ignored",
        does: |peer| {
            let content = content_of(b"x");
            peer.connect();
            peer.announce_file(b"x", 3_000);
            let lie = forge::digest(0, 0, 0, &[7; 16]);
            peer.digests(&[forge::digest(0, 0, 0, &forge::xxh3(&content)), lie]);
            peer.deliver(Space::Body, 0, &content);
        },
        then: Then::Ignored,
        leaves: &["x"],
    },
    Misdeed {
        name: "a digest of an epoch that nobody asked for",
        rule: "or of another epoch than the block's is ignored",
        does: |peer| {
            peer.connect();
            peer.announce_file(b"x", 3_000);
            peer.digests(&[forge::digest(0, 0, 2, &[7; 16])]);
            peer.deliver(Space::Body, 0, &content_of(b"x"));
            peer.digests(&[forge::digest(0, 0, 0, &forge::xxh3(&content_of(b"x")))]);
        },
        then: Then::Settled(&["committed"]),
        leaves: &["x"],
    },
    broken("a digest of a block that does not exist", DIGEST_RULE, |peer| {
        peer.connect();
        peer.announce_file(b"x", 3_000);
        peer.digests(&[forge::digest(0, 1, 0, &[7; 16])]);
    }),
    broken("a digest of the last block there could be", DIGEST_RULE, |peer| {
        peer.connect();
        peer.announce_file(b"x", 3_000);
        peer.digests(&[forge::digest(0, limits::BLOCKS_MAX - 1, 0, &[7; 16])]);
    }),
    broken("a digest of no entry, behind the end", DIGEST_RULE, |peer| {
        peer.connect();
        peer.announce_file(b"x", 3_000);
        let end = peer.end_record();
        peer.manifest(&[end]);
        peer.digests(&[forge::digest(7, 0, 0, &[7; 16])]);
    }),
    broken("a digest of a fifth epoch", "| epochs of a block | 4: 0 to 3 |", |peer| {
        peer.connect();
        peer.announce_file(b"x", 3_000);
        peer.digests(&[forge::digest(0, 0, 4, &[7; 16])]);
    }),
    Misdeed {
        name: "data in a dry run",
        rule: "DRY_RUN: only the manifest is sent; nothing is created",
        does: |peer| {
            peer.greeting.dry_run = true;
            peer.connect();
            peer.announce_file(b"x", 3_000);
            for at in [0, 1_000, 2_000] {
                peer.send_data(Space::Body, at, &content_of(b"x")[..1_000]);
            }
            peer.sync();
        },
        then: Then::Settled(&["take"]),
        leaves: &[],
    },
    Misdeed {
        name: "a measurement that hopes to leave something",
        rule: "the receiver stores nothing, looks at no file",
        does: |peer| {
            peer.greeting.digest = ufx::wire::DigestAlgorithm::None;
            peer.greeting.discard = true;
            peer.connect();
            peer.announce_file(b"x", 3_000);
            peer.deliver(Space::Body, 0, &content_of(b"x"));
            peer.digests(&[forge::digest(0, 0, 0, &[])]);
        },
        then: Then::Settled(&["committed"]),
        leaves: &[],
    },
];

#[test]
fn records_that_break_a_rule_end_the_transfer() {
    Bystander::new(&[]).suffers_all(RECORDS);
}

#[test]
fn bytes_and_digests_that_lie_never_become_a_file() {
    Bystander::new(&[]).suffers_all(BYTES);
}
