//! Names and links of every evil kind.

use ufx::wire::CloseCode;

use crate::bystander::{Bystander, Misdeed, Then, announce_and_end, connect_and_name, content_of};
use crate::forge::{self, Named};
use crate::sender::HostileSender;

const PATH_RULE: &str = "it MUST NOT be empty, start or end with \"/\", hold an empty component, \
    \".\", \"..\" or a NUL byte";
const LENGTH_RULE: &str =
    "a component has at most 255 bytes, a path 4,096 bytes and 256 components";
const LINK_RULE: &str = "The receiver MUST answer it with REFUSED `link`.";
const PREFIX_RULE: &str =
    "A receiver that finds no directory there answers REFUSED or FAILED, `name` or `disk`.";

const fn malformed(name: &'static str, does: fn(&mut HostileSender)) -> Misdeed {
    let rule = PATH_RULE;
    Misdeed { name, rule, does, then: Then::Closed(CloseCode::Protocol), leaves: &[] }
}

const fn too_long(name: &'static str, does: fn(&mut HostileSender)) -> Misdeed {
    let rule = LENGTH_RULE;
    Misdeed { name, rule, does, then: Then::Closed(CloseCode::Protocol), leaves: &[] }
}

/// Names that no file may have.
pub const NAMES: &[Misdeed] = &[
    malformed("the parent directory", |peer| connect_and_name(peer, b"..")),
    malformed("up and out", |peer| connect_and_name(peer, b"../elsewhere/precious")),
    malformed("down and further up", |peer| connect_and_name(peer, b"a/../../elsewhere/x")),
    malformed("the directory itself", |peer| connect_and_name(peer, b".")),
    malformed("an absolute path", |peer| connect_and_name(peer, b"/tmp/ufx-hostile")),
    malformed("no name at all", |peer| connect_and_name(peer, b"")),
    malformed("a NUL in the middle", |peer| connect_and_name(peer, b"good\0/../../x")),
    malformed("two slashes", |peer| connect_and_name(peer, b"a//etc/passwd")),
    malformed("a slash at the end", |peer| connect_and_name(peer, b"a/")),
    too_long("a component of 256 bytes", |peer| connect_and_name(peer, &[b'x'; 256])),
    too_long("a path of 4,097 bytes", |peer| {
        connect_and_name(peer, &deep(b"sixteen-letters/", 257))
    }),
    too_long("257 components", |peer| connect_and_name(peer, &deep(b"d/", 257))),
    Misdeed {
        name: "256 components, and none of them there",
        rule: PREFIX_RULE,
        does: |peer| announce_and_end(peer, &[forge::file(&deep(b"d/", 256), 0)]),
        then: Then::Settled(&["refused Disk"]),
        leaves: &[],
    },
    Misdeed {
        name: "the name of an unfinished file",
        rule: "| 2 | name | the name breaks a rule or cannot be made here |",
        does: |peer| {
            announce_and_end(peer, &[forge::file(b".ufx-0123456789abcdef.part", 0)]);
        },
        then: Then::Settled(&["refused Name"]),
        leaves: &[],
    },
    Misdeed {
        name: "names that mean something elsewhere",
        rule: "It need not be UTF-8.",
        does: |peer| {
            peer.connect();
            peer.announce(&[forge::directory(b"dev")]);
            for name in [&b"dev/null"[..], b"CON", b"~", b"-rf", b"C:\\x", b"|sh"] {
                peer.send_file(name, &content_of(name));
            }
        },
        then: Then::Ignored,
        leaves: &["dev", "dev/null", "CON", "~", "-rf", "C:\\x", "|sh"],
    },
    Misdeed {
        name: "names that paint the terminal",
        rule: "names are escaped before they reach a terminal",
        does: |peer| {
            peer.connect();
            peer.announce(&[forge::link(b"\x1b[2J\x1b]0;owned\x07\r\n", b"/etc/\x1b[31m")]);
            peer.wait("the refusal", |peer| !peer.outcomes.is_empty());
        },
        then: Then::Settled(&["refused Link"]),
        leaves: &[],
    },
];

/// Names and links that lead elsewhere.
pub const TREES: &[Misdeed] = &[
    Misdeed {
        name: "a file as the parent of a file",
        rule: PREFIX_RULE,
        does: |peer| {
            peer.connect();
            peer.send_file(b"f", &content_of(b"f"));
            peer.wait("the file", |peer| peer.outcomes.len() == 1);
            peer.announce(&[forge::file(b"f/x", 0)]);
        },
        then: Then::Settled(&["committed", "refused Disk"]),
        leaves: &["f"],
    },
    Misdeed {
        name: "a symbolic link, then a path through it",
        rule: "links are never followed",
        does: |peer| {
            peer.connect();
            let link = forge::link(b"d/way", b"other");
            peer.announce(&[forge::directory(b"d"), forge::directory(b"d/other"), link]);
            peer.announce(&[forge::file(b"d/way/x", 0)]);
        },
        then: Then::Settled(&["committed", "committed", "committed", "refused Disk"]),
        leaves: &["d", "d/other", "d/way"],
    },
    Misdeed {
        name: "a link to the root",
        rule: LINK_RULE,
        does: |peer| announce_and_end(peer, &[forge::link(b"way", b"/")]),
        then: Then::Settled(&["refused Link"]),
        leaves: &[],
    },
    Misdeed {
        name: "a link that climbs out",
        rule: LINK_RULE,
        does: |peer| announce_and_end(peer, &[forge::link(b"way", b"../elsewhere")]),
        then: Then::Settled(&["refused Link"]),
        leaves: &[],
    },
    Misdeed {
        name: "a link that climbs out behind a directory",
        rule: LINK_RULE,
        does: |peer| announce_and_end(peer, &[forge::link(b"way", b"a/../../elsewhere")]),
        then: Then::Settled(&["refused Link"]),
        leaves: &[],
    },
    Misdeed {
        name: "a link in the place of a directory that is to be filled",
        rule: "the second finds the first there",
        does: |peer| {
            let again = forge::directory(b"d");
            announce_and_end(peer, &[forge::link(b"d", b"."), again, forge::file(b"d/x", 0)]);
        },
        then: Then::Settled(&["committed", "refused Exists", "refused Disk"]),
        leaves: &["d"],
    },
    Misdeed {
        name: "a hard link to a file that was never sent",
        rule: "If it has no such file by then it answers REFUSED or FAILED.",
        does: |peer| announce_and_end(peer, &[hard_link(b"way", b"elsewhere/precious")]),
        then: Then::Settled(&["refused Disk"]),
        leaves: &[],
    },
    malformed("a hard link out of the directory", |peer| {
        peer.connect();
        peer.manifest(&[hard_link(b"way", b"../elsewhere/precious")]);
    }),
    Misdeed {
        name: "a hard link to a directory",
        rule: "If it has no such file by then it answers REFUSED or FAILED.",
        does: |peer| announce_and_end(peer, &[forge::directory(b"d"), hard_link(b"way", b"d")]),
        then: Then::Settled(&["committed", "refused Disk"]),
        leaves: &["d"],
    },
    Misdeed {
        name: "the same name twice, with other bytes",
        rule: "Of two entries with the same path the second finds the first there",
        does: |peer| {
            peer.connect();
            peer.send_file(b"twice", &content_of(b"twice"));
            peer.wait("the first", |peer| peer.outcomes.len() == 1);
            peer.announce(&[forge::file(b"twice", 9)]);
        },
        then: Then::Settled(&["committed", "refused Exists"]),
        leaves: &["twice"],
    },
    Misdeed {
        name: "a program that runs as its owner",
        rule: "and MAY drop setuid, setgid and sticky",
        does: |peer| {
            peer.connect();
            let entry = Named { kind: 1, mode: 0o6777, size: 0, path: b"root", target: b"" };
            peer.announce(&[entry.record()]);
        },
        then: Then::Settled(&["committed"]),
        leaves: &["root"],
    },
    Misdeed {
        name: "a mode with bits that no mode has",
        rule: "mode: the permission bits and setuid, setgid, sticky (0o7777).",
        does: |peer| {
            peer.connect();
            let entry = Named { kind: 1, mode: 0o170_644, size: 0, path: b"fifo", target: b"" };
            peer.manifest(&[entry.record()]);
        },
        then: Then::Closed(CloseCode::Protocol),
        leaves: &[],
    },
    Misdeed {
        name: "an entry of a kind that does not exist",
        rule: "type: 1 file, 2 directory, 3 symbolic link, 4 hard link",
        does: |peer| {
            peer.connect();
            let entry = Named { kind: 6, mode: 0o644, size: 0, path: b"device", target: b"" };
            peer.manifest(&[entry.record()]);
        },
        then: Then::Closed(CloseCode::Protocol),
        leaves: &[],
    },
];

/// `count` components, without a slash at the end.
fn deep(component: &[u8], count: usize) -> Vec<u8> {
    let mut path = component.repeat(count);
    path.pop();
    path
}

fn hard_link(path: &[u8], target: &[u8]) -> Vec<u8> {
    Named { kind: 4, mode: 0o644, size: 0, path, target }.record()
}

#[test]
fn no_name_reaches_outside_or_harms_anybody() {
    Bystander::new(&[]).suffers_all(NAMES);
}

#[test]
fn no_link_and_no_tree_leads_outside() {
    Bystander::new(&[]).suffers_all(TREES);
}
