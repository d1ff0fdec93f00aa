//! `ufx send`: what it refuses before anything reaches the network.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use super::{check, text, ufx};

#[test]
fn paths_and_a_host_are_needed() {
    let needs = "ufx: send: needs at least one PATH and, last, a HOST (as in: ufx send photos nas)";
    check(&[
        (&["send"], 2, needs),
        (&["send", "photos"], 2, needs),
        (&["send", "-n", "photos"], 2, needs),
        (&["send", "", "nas"], 2, r#"ufx: a PATH is empty ("." is the current directory)"#),
        (
            &["send", "/", "nas"],
            2,
            "ufx: /: has no name to land under (name the directories in it)",
        ),
    ]);
}

#[test]
fn a_host_that_is_none_is_told_what_to_write_instead() {
    check(&[
        (
            &["send", "a", "nas:9000"],
            2,
            "ufx: nas:9000: a port is not part of HOST (say: --port 9000 ... nas)",
        ),
        (
            &["send", "a", "[::1]:9000"],
            2,
            "ufx: [::1]:9000: a port is not part of HOST (say: --port 9000 ... ::1)",
        ),
        (
            &["send", "a", "me@nas:dir"],
            2,
            "ufx: me@nas:dir: copying through ssh (HOST:DIR) is not built yet \
             (start \"ufx recv --dir DIR\" there and give the host alone)",
        ),
        (
            &["send", "a", "nas:dir"],
            2,
            "ufx: nas:dir: copying through ssh (HOST:DIR) is not built yet \
             (start \"ufx recv --dir DIR\" there and give the host alone)",
        ),
        (
            &["send", "a", "ufx://nas/dir"],
            2,
            "ufx: ufx://nas/dir: ufx:// addresses are not built yet (give the host alone)",
        ),
        (
            &["send", "a", "fe80::1"],
            2,
            "ufx: fe80::1: a link-local address needs its interface \
             (name it, as in fe80::1%eth0)",
        ),
        (
            &["send", "a", "fe80::1%nosuch0"],
            2,
            "ufx: fe80::1%nosuch0: there is no interface nosuch0 (see \"ip link\")",
        ),
        (
            &["send", "a", "b/"],
            2,
            "ufx: b/: is not a host (HOST comes last: ufx send PATH... HOST)",
        ),
        (
            &["send", "a", "\u{1b}[31mred"],
            2,
            r"ufx: \x1b[31mred: is not a host (HOST comes last: ufx send PATH... HOST)",
        ),
    ]);
}

#[test]
fn options_say_which_forms_and_ranges_they_take() {
    check(&[
        (
            &["send", "a", "--port", "0", "nas"],
            2,
            "ufx: --port 0: must be a number from 1 to 65535",
        ),
        (
            &["send", "--rate", "fast", "a", "nas"],
            2,
            "ufx: --rate fast: a rate looks like 100M, 950Mbit/s, 1.5Gbps or, in bytes, 100MB/s",
        ),
        (
            &["send", "--rate", "5", "a", "nas"],
            2,
            "ufx: --rate 5: a rate is from 100 kbit/s to 1 Tbit/s",
        ),
        (
            &["send", "--mtu", "1279", "a", "nas"],
            2,
            "ufx: --mtu 1279: must be a number from 1280 to 65536",
        ),
        (
            &["send", "--timeout", "10", "a", "nas"],
            2,
            "ufx: --timeout 10: a time looks like 500ms, 10s or 2m",
        ),
        (
            &["send", "--wait", "1ms", "a", "nas"],
            2,
            "ufx: --wait 1ms: a time here is from 100 ms to 24 h 00 min",
        ),
        (
            &["send", "--cc", "fixed", "a", "nas"],
            2,
            "ufx: --cc fixed: needs a rate (add --rate RATE)",
        ),
        (
            &["send", "--digest", "md5", "a", "nas"],
            2,
            "ufx: invalid value 'md5' for '--digest <KIND>' \
             [possible values: xxh3, blake3, none] (see \"ufx send --help\")",
        ),
        (
            &["send", "--offload", "\u{202e}gso", "a", "nas"],
            2,
            "ufx: invalid value '\\u{202e}gso' for '--offload <KIND>' \
             [possible values: gso, batch, single] (see \"ufx send --help\")",
        ),
        (
            &["send", "--fsync", "a", "nas"],
            2,
            r#"ufx: unexpected argument '--fsync' found (see "ufx send --help")"#,
        ),
        (
            &["send", "-q", "-v", "a", "nas"],
            2,
            "ufx: the argument '--quiet' cannot be used with '--verbose' \
             (see \"ufx send --help\")",
        ),
    ]);
}

#[test]
fn a_host_that_is_not_utf_8_is_refused_and_shown_escaped() {
    let output = Command::new(env!("CARGO_BIN_EXE_ufx"))
        .args([OsStr::new("send"), OsStr::new("a"), OsStr::from_bytes(b"n\xffs")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = "ufx: n\\xffs: is not a host (a host is a name or an address)\n";
    assert_eq!(text(&output.stderr), message);
}

#[test]
fn a_name_that_does_not_resolve_is_unreachable() {
    // RFC 6761: .invalid never resolves; the resolver's own words differ from system to system.
    let output = ufx(&["send", "Cargo.toml", "nas.invalid"]);
    assert_eq!(output.status.code(), Some(3));
    let message = text(&output.stderr);
    assert!(message.starts_with("ufx: nas.invalid: the name cannot be looked up: "), "{message}");
    assert!(message.ends_with("(check the name, or give the address)\n"), "{message}");
}

#[test]
fn json_is_one_object_on_stdout_even_for_wrong_usage() {
    for words in [
        &["send", "--json", "--rate", "5", "a", "nas"][..],
        &["send", "--json", "a"],
        &["send", "--nonsense", "--json", "a", "nas"],
    ] {
        let output = ufx(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let stdout = text(&output.stdout);
        assert_eq!(stdout.lines().count(), 1, "{words:?}: {stdout}");
        let object: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(object["op"], "send", "{words:?}");
        assert_eq!(object["result"], "usage", "{words:?}");
        assert_eq!(object["exit"], 2, "{words:?}");
        let error = object["error"].as_str().unwrap();
        assert_eq!(text(&output.stderr), format!("ufx: {error}\n"), "{words:?}");
    }
}

#[test]
fn a_closed_stdout_or_stderr_changes_nothing() {
    for closed in [">&-", "2>&-", ">&- 2>&-", "2>/dev/full"] {
        let script = format!("exec \"$0\" send --json --rate 5 a nas {closed}");
        let status = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_ufx")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(2), "{closed}");
    }
}
