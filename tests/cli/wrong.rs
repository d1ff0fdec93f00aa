//! Wrong and odd input: what is typed, the exit code, and all that is said about it.
//!
//! Every row runs in one directory that holds `a.txt`, `b/a.txt`, `tree/` with a file, `empty/`,
//! `pipe`, `socket`, `out -> /etc`, `dangling -> none`, a file with an escape code in its name and
//! one with the name of an unfinished file. `PORT` is a receiver into `to/`, which holds
//! a different `b/a.txt`, a file called `tree` and a directory called `a.txt`; `FREE` is a port
//! without one.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::content::room;
use crate::support::root::run;
use crate::support::transfer::Receiver;
use crate::text;

/// Words, exit code, all of stderr but its last line end.
type Row = (&'static [&'static str], i32, &'static str);

const PATHS_NEEDED: &str =
    "ufx: send: needs at least one PATH and, last, a HOST (as in: ufx send photos nas)";

const ARGUMENTS: &[Row] = &[
    (&[], 2, r#"ufx: nothing to do: say send, recv or bench (see "ufx --help")"#),
    (&["help"], 2, r#"ufx: unrecognized subcommand 'help' (see "ufx --help")"#),
    (&["get", "x"], 2, r#"ufx: unrecognized subcommand 'get' (see "ufx --help")"#),
    (&["-x"], 2, r#"ufx: unexpected argument '-x' found (see "ufx --help")"#),
    (&["--json"], 2, r#"ufx: unexpected argument '--json' found (see "ufx --help")"#),
    (&["send"], 2, PATHS_NEEDED),
    (&["send", "nas"], 2, PATHS_NEEDED),
    (&["send", "-n", "nas"], 2, PATHS_NEEDED),
    (
        &["send", "--port", "0", "a.txt", "nas"],
        2,
        "ufx: --port 0: must be a number from 1 to 65535",
    ),
    (
        &["send", "--port", "65536", "a.txt", "nas"],
        2,
        "ufx: --port 65536: must be a number from 1 to 65535",
    ),
    (&["send", "--port=-1", "a.txt", "nas"], 2, "ufx: --port -1: must be a number from 1 to 65535"),
    (
        &["send", "--rate", "fast", "a.txt", "nas"],
        2,
        "ufx: --rate fast: a rate looks like 100M, 950Mbit/s, 1.5Gbps or, in bytes, 100MB/s",
    ),
    (
        &["send", "--rate", "0", "a.txt", "nas"],
        2,
        "ufx: --rate 0: a rate is from 100 kbit/s to 1 Tbit/s",
    ),
    (
        &["send", "--rate", "5", "a.txt", "nas"],
        2,
        "ufx: --rate 5: a rate is from 100 kbit/s to 1 Tbit/s",
    ),
    (
        &["send", "--mtu", "1279", "a.txt", "nas"],
        2,
        "ufx: --mtu 1279: must be a number from 1280 to 65536",
    ),
    (
        &["send", "--mtu", "70000", "a.txt", "nas"],
        2,
        "ufx: --mtu 70000: must be a number from 1280 to 65536",
    ),
    (
        &["send", "--timeout", "1s", "a.txt", "nas"],
        2,
        "ufx: --timeout 1s: a time here is from 2 s to 24 h 00 min",
    ),
    (
        &["send", "--timeout", "10", "a.txt", "nas"],
        2,
        "ufx: --timeout 10: a time looks like 500ms, 10s or 2m",
    ),
    (
        &["send", "--wait", "1ms", "a.txt", "nas"],
        2,
        "ufx: --wait 1ms: a time here is from 100 ms to 24 h 00 min",
    ),
    (
        &["send", "--wait", "soon", "a.txt", "nas"],
        2,
        "ufx: --wait soon: a time looks like 500ms, 10s or 2m",
    ),
    (
        &["send", "--cc", "fixed", "a.txt", "nas"],
        2,
        "ufx: --cc fixed: needs a rate (add --rate RATE)",
    ),
    (
        &["send", "--digest", "md5", "a.txt", "nas"],
        2,
        "ufx: invalid value 'md5' for '--digest <KIND>' [possible values: xxh3, blake3, none] \
      (see \"ufx send --help\")",
    ),
    (
        &["send", "--offload", "\u{202e}gso", "a.txt", "nas"],
        2,
        "ufx: invalid value '\\u{202e}gso' for '--offload <KIND>' \
         [possible values: gso, batch, single] (see \"ufx send --help\")",
    ),
    (
        &["send", "--fsync", "a.txt", "nas"],
        2,
        r#"ufx: unexpected argument '--fsync' found (see "ufx send --help")"#,
    ),
    (
        &["send", "--existing", "skip", "a.txt", "nas"],
        2,
        "ufx: unexpected argument '--existing' found (see \"ufx send --help\")",
    ),
    (
        &["send", "--exclude", "[a", "a.txt", "nas"],
        2,
        "ufx: --exclude [a: unclosed character class; missing ']' \
      (a pattern looks like *.tmp, photos/raw or cache/)",
    ),
    (
        &["send", "--exclude", "/", "a.txt", "nas"],
        2,
        "ufx: --exclude /: matches nothing (a pattern looks like *.tmp, photos/raw or cache/)",
    ),
    (
        &["send", "--files-from", "list", "a.txt", "nas"],
        2,
        "ufx: --files-from: stands instead of PATHs (add those to the list)",
    ),
    (
        &["send", "-0", "a.txt", "nas"],
        2,
        "ufx: the following required arguments were not provided: --files-from <FILE> \
      (see \"ufx send --help\")",
    ),
    (
        &["send", "-q", "-v", "a.txt", "nas"],
        2,
        "ufx: the argument '--quiet' cannot be used with '--verbose' (see \"ufx send --help\")",
    ),
    (
        &["recv", "incoming"],
        2,
        r#"ufx: unexpected argument 'incoming' found (see "ufx recv --help")"#,
    ),
    (
        &["recv", "--dir"],
        2,
        "ufx: a value is required for '--dir <DIR>' but none was supplied \
         (see \"ufx recv --help\")",
    ),
    (&["recv", "--port", "x"], 2, "ufx: --port x: must be a number from 0 to 65535"),
    (&["recv", "--port", "65536"], 2, "ufx: --port 65536: must be a number from 0 to 65535"),
    (&["recv", "--timeout", "1s"], 2, "ufx: --timeout 1s: a time here is from 2 s to 24 h 00 min"),
    (
        &["recv", "--buffer", "64K"],
        2,
        "ufx: --buffer 64K: a size looks like 65536, 10MB (decimal) or 64KiB (binary)",
    ),
    (
        &["recv", "--bind", "eth0"],
        2,
        "ufx: --bind: eth0: is not an address (give one of this machine, as in 10.0.0.1)",
    ),
    (
        &["recv", "--allow", "lan"],
        2,
        "ufx: --allow lan: a network looks like 203.0.113.0/24, 2001:db8::/32, 203.0.113.7 or any",
    ),
    (&["recv", "--buffer", "1kB"], 2, "ufx: --buffer 1kB: a size here is from 4.1 kB to 1.07 GB"),
    (
        &["recv", "--existing", "overwrite"],
        2,
        "ufx: invalid value 'overwrite' for '--existing <WHAT>' \
      [possible values: refuse, skip, rename, replace, update] (see \"ufx recv --help\")",
    ),
];

const DESTINATIONS: &[Row] = &[
    (&["send", "a.txt", ""], 2, "ufx: the HOST is empty (give a name or an address)"),
    (
        &["send", "a.txt", "nas:9000"],
        2,
        "ufx: nas:9000: a port is not part of HOST (say: --port 9000 ... nas)",
    ),
    (
        &["send", "a.txt", "[::1]:9000"],
        2,
        "ufx: [::1]:9000: a port is not part of HOST (say: --port 9000 ... ::1)",
    ),
    (
        &["send", "a.txt", "me@nas:dir"],
        2,
        "ufx: me@nas:dir: copying through ssh (HOST:DIR) is not built yet \
      (start \"ufx recv --dir DIR\" there and give the host alone)",
    ),
    (
        &["send", "a.txt", "nas:dir"],
        2,
        "ufx: nas:dir: copying through ssh (HOST:DIR) is not built yet \
      (start \"ufx recv --dir DIR\" there and give the host alone)",
    ),
    (
        &["send", "a.txt", "ufx://nas/dir"],
        2,
        "ufx: ufx://nas/dir: ufx:// addresses are not built yet (give the host alone)",
    ),
    (
        &["send", "a.txt", "fe80::1"],
        2,
        "ufx: fe80::1: a link-local address needs its interface (name it, as in fe80::1%eth0)",
    ),
    (
        &["send", "a.txt", "fe80::1%nosuch0"],
        2,
        "ufx: fe80::1%nosuch0: there is no interface nosuch0 (see \"ip link\")",
    ),
    (
        &["send", "a.txt", "tree/"],
        2,
        "ufx: tree/: is not a host (HOST comes last: ufx send PATH... HOST)",
    ),
    (
        &["send", "a.txt", "\u{1b}[31mred"],
        2,
        r"ufx: \x1b[31mred: is not a host (HOST comes last: ufx send PATH... HOST)",
    ),
    (
        &["send", "--port", "FREE", "a.txt", "127.0.0.1"],
        3,
        "ufx: 127.0.0.1:FREE: nobody listens on port FREE/udp there (start \"ufx recv\" on it)",
    ),
    (
        &["recv", "--bind", "203.0.113.1"],
        1,
        "ufx: recv: cannot listen on 203.0.113.1:8390: \
         Cannot assign requested address (os error 99)",
    ),
    (
        &["recv", "--bind", "127.0.0.1", "--port", "PORT"],
        1,
        "ufx: recv: another program has port PORT/udp \
      (is \"ufx recv\" running already? else choose another --port)",
    ),
    (
        &["recv", "--dir", "a.txt"],
        5,
        "ufx: --dir: cannot open the directory a.txt: Not a directory (os error 20)",
    ),
    (
        &["recv", "--dir", "none/deep"],
        5,
        "ufx: --dir: cannot create the directory none/deep: No such file or directory (os error 2)",
    ),
    (
        &["recv", "--dir", "dangling"],
        5,
        "ufx: --dir: cannot open the directory dangling: No such file or directory (os error 2)",
    ),
    (
        &["recv", "--dir", ""],
        2,
        "ufx: a value is required for '--dir <DIR>' but none was supplied \
         (see \"ufx recv --help\")",
    ),
];

const SOURCES: &[Row] = &[
    (&["send", "", "nas"], 2, r#"ufx: a PATH is empty ("." is the current directory)"#),
    (&["send", "/", "nas"], 2, "ufx: /: has no name to land under (name the directories in it)"),
    (
        &["send", "/..", "nas"],
        2,
        "ufx: /.. is the root directory, which has no name to send it under \
      (name the directories in it)",
    ),
    (&["send", "none", "nas"], 5, "ufx: cannot send none: No such file or directory (os error 2)"),
    (
        &["send", "none/..", "nas"],
        5,
        "ufx: cannot send none/..: No such file or directory (os error 2)",
    ),
    (&["send", "a.txt/x", "nas"], 5, "ufx: cannot send a.txt/x: Not a directory (os error 20)"),
    (
        &["send", "a.txt", "a.txt", "nas"],
        2,
        "ufx: a.txt and a.txt would both land as a.txt (send them one after the other)",
    ),
    (
        &["send", "a.txt", "./b/../a.txt", "nas"],
        2,
        "ufx: a.txt and ./b/../a.txt would both land as a.txt (send them one after the other)",
    ),
    (
        &["send", "a.txt", "b/a.txt", "nas"],
        2,
        "ufx: a.txt and b/a.txt would both land as a.txt (send them one after the other)",
    ),
    (
        &["send", "tree", "tree/.", "nas"],
        2,
        "ufx: tree and tree/. would both land as tree (send them one after the other)",
    ),
    (
        &["send", ".ufx-0123456789abcdef.part", "nas"],
        2,
        "ufx: cannot send .ufx-0123456789abcdef.part: the name is one that ufx gives to unfinished \
      files (rename it)",
    ),
    (
        &["send", "--files-from", "none", "nas"],
        5,
        "ufx: --files-from none: cannot be read: No such file or directory (os error 2)",
    ),
    (
        &["send", "--files-from", "tree", "nas"],
        5,
        "ufx: --files-from tree: cannot be read: Is a directory (os error 21)",
    ),
    (
        &["send", "-q", "--port", "PORT", "pipe", "127.0.0.1"],
        5,
        "ufx: send: nothing of it can be sent (the reasons are named above)",
    ),
    (
        &["send", "-q", "--port", "PORT", "socket", "127.0.0.1"],
        5,
        "ufx: send: nothing of it can be sent (the reasons are named above)",
    ),
    (
        &["send", "-q", "--port", "PORT", "out", "127.0.0.1"],
        5,
        "ufx: send: nothing of it can be sent (the reasons are named above)",
    ),
];

const NAMES: &[Row] = &[
    (&["send", "-q", "--port", "PORT", "empty/", "127.0.0.1"], 0, ""),
    (&["send", "-q", "--port", "PORT", "dangling", "127.0.0.1"], 0, ""),
    (
        &["send", "-q", "--port", "PORT", "-", "a.txt", "127.0.0.1"],
        2,
        "ufx: -: standard input is sent alone (a file called \"-\" is ./-)",
    ),
    (
        &["send", "-q", "--port", "PORT", "-n", "-", "127.0.0.1"],
        2,
        "ufx: -: standard input is not there to be listed (leave out --dry-run)",
    ),
    (
        &["send", "-q", "--port", "PORT", "--name", "in", "a.txt", "127.0.0.1"],
        2,
        "ufx: --name: names standard input, and goes with the PATH \"-\"",
    ),
    (
        &["send", "-q", "--port", "PORT", "--name", "in/x", "-", "127.0.0.1"],
        2,
        "ufx: --name in/x: is no name but a path",
    ),
    (
        &["recv", "--output", "file"],
        2,
        "ufx: --output file: can only be standard output (write --output -, or --dir DIR)",
    ),
    (
        &["recv", "-o", "-", "--dir", "to"],
        2,
        "ufx: the argument '--output <->' cannot be used with '--dir <DIR>' \
         (see \"ufx recv --help\")",
    ),
    (
        &["send", "-q", "--port", "PORT", "b/a.txt", "127.0.0.1"],
        6,
        "ufx: a.txt: to/a.txt exists already and was left untouched\n\
      ufx: send: the receiver stored nothing (the reasons are named above)",
    ),
    (
        &["send", "-q", "--port", "PORT", "b", "127.0.0.1"],
        6,
        "ufx: b/a.txt: to/b/a.txt exists already and was left untouched\n\
      ufx: send: the receiver stored nothing (the reasons are named above)",
    ),
    (
        &["send", "-q", "--port", "PORT", "tree", "127.0.0.1"],
        6,
        "ufx: tree: to/tree exists already and was left untouched\n\
      ufx: tree/file: to/tree/file lies behind a symbolic link or behind something that is no \
      directory\n\
      ufx: send: the receiver stored nothing (the reasons are named above)",
    ),
    (
        &["send", "-qn", "--port", "PORT", "tree", "127.0.0.1"],
        6,
        "ufx: tree: to/tree exists already and was left untouched\n\
      ufx: tree/file: to/tree/file lies behind a symbolic link or behind something that is no \
      directory\n\
      ufx: send: the receiver stored nothing (the reasons are named above)",
    ),
    (
        &["send", "-q", "--port", "PORT", "tree", "empty", "red \u{1b}[31m", "127.0.0.1"],
        7,
        "ufx: tree: to/tree exists already and was left untouched\n\
         ufx: tree/file: to/tree/file lies behind a symbolic link or behind something that is no \
         directory\n\
         ufx: send: 2 of 4 were not committed (the reasons are named above)",
    ),
    (&["send", "-q", "--port", "PORT", "red \u{1b}[31m", "127.0.0.1"], 0, ""),
];

fn fill(room: &Path) {
    for directory in ["b", "tree", "empty", "to/b", "to/a.txt"] {
        std::fs::create_dir_all(room.join(directory)).unwrap();
    }
    let files = [
        "a.txt",
        "b/a.txt",
        "tree/file",
        "to/tree",
        "red \u{1b}[31m",
        ".ufx-0123456789abcdef.part",
    ];
    for file in files {
        std::fs::write(room.join(file), file).unwrap();
    }
    std::fs::write(room.join("to/b/a.txt"), "different").unwrap();
    run("mkfifo", [room.join("pipe")]);
    symlink("/etc", room.join("out")).unwrap();
    symlink("none", room.join("dangling")).unwrap();
}

#[test]
fn whatever_is_wrong_is_told_in_these_words() {
    let room = room();
    fill(room.path());
    let _socket = UnixListener::bind(room.path().join("socket")).unwrap();
    // Relative, as in its messages.
    let words = ["recv", "--json", "--bind", "127.0.0.1", "--port", "0", "--dir", "to"];
    let mut command = crate::support::process::ufx(words);
    command.current_dir(room.path());
    let receiver = Receiver::listening(crate::support::process::Program::start(&mut command));
    let port = receiver.port.to_string();
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let free = free.port().to_string();

    let rows = [ARGUMENTS, DESTINATIONS, SOURCES, NAMES].concat();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    let mut wrong = String::new();
    for (words, code, message) in &rows {
        let filled = |text: &str| text.replace("PORT", &port).replace("FREE", &free);
        let output = Command::new(env!("CARGO_BIN_EXE_ufx"))
            .args(words.iter().map(|word| filled(word)))
            .current_dir(room.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = text(&output.stderr);
        let (said, message) = (said.trim_end_matches('\n'), filled(message));
        if output.status.code() != Some(*code) || said != message || !output.stdout.is_empty() {
            wrong += &format!(
                "\n{words:?}\n  ends with {:?}, not {code}, and says\n{said}\n  not\n{message}\n{}",
                output.status.code(),
                text(&output.stdout)
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
