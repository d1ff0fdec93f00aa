//! `ufx recv`: what it refuses before it listens.

use super::{check, text, ufx};

#[test]
fn options_say_which_forms_and_ranges_they_take() {
    check(&[
        (&["recv", "--port", "65536"], 2, "ufx: --port 65536: must be a number from 0 to 65535"),
        (
            &["recv", "--bind", "eth0"],
            2,
            "ufx: --bind: eth0: is not an address (give one of this machine, as in 10.0.0.1)",
        ),
        (
            &["recv", "--allow", "lan"],
            2,
            "ufx: --allow lan: a network looks like \
             203.0.113.0/24, 2001:db8::/32, 203.0.113.7 or any",
        ),
        (
            &["recv", "--buffer", "64K"],
            2,
            "ufx: --buffer 64K: a size looks like 65536, 10MB (decimal) or 64KiB (binary)",
        ),
        (
            &["recv", "--buffer", "1kB"],
            2,
            "ufx: --buffer 1kB: a size here is from 4.1 kB to 1.07 GB",
        ),
        (
            &["recv", "--timeout", "1s"],
            2,
            "ufx: --timeout 1s: a time here is from 2 s to 24 h 00 min",
        ),
        (
            &["recv", "--dir"],
            2,
            "ufx: a value is required for '--dir <DIR>' but none was supplied \
             (see \"ufx recv --help\")",
        ),
        (
            &["recv", "incoming"],
            2,
            r#"ufx: unexpected argument 'incoming' found (see "ufx recv --help")"#,
        ),
    ]);
}

#[test]
fn json_is_one_object_on_stdout_even_for_wrong_usage() {
    for words in [&["recv", "--json", "--port", "x"][..], &["recv", "--json", "incoming"]] {
        let output = ufx(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&object["op"], &object["exit"]), (&"recv".into(), &2.into()), "{words:?}");
        assert!(text(&output.stderr).starts_with("ufx: "), "{words:?}");
    }
}
