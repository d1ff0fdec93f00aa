//! `ufx send`: what it refuses before anything reaches the network (words: `wrong.rs`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use super::{text, ufx};

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
