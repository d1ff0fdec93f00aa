//! `ufx recv`: what a program reads where it refuses before it listens (words: `wrong.rs`).

use super::{text, ufx};

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
