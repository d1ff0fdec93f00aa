//! The objects that `--json` prints, checked for form: every key, of the right type, alike for
//! success and failure.

use serde_json::Value;

use super::process::Finished;

/// What a value of a report may be.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    TextOrNull,
    Count,
    CountOrNull,
    Seconds,
    FlagOrNull,
    Named,
    Object(&'static [(&'static str, Form)]),
}

const PACKETS: &[(&str, Form)] = &[
    ("sent", Form::CountOrNull),
    ("resent", Form::CountOrNull),
    ("lost", Form::CountOrNull),
    ("spurious", Form::CountOrNull),
    ("body_bytes", Form::CountOrNull),
];

const OVERHEAD: &[(&str, Form)] =
    &[("header_bytes", Form::CountOrNull), ("ack_bytes", Form::CountOrNull)];

const NAMED: &[(&str, Form)] = &[("path", Form::Text), ("reason", Form::Text)];

/// Keys that programs may rely on. New ones may come.
const REPORT: &[(&str, Form)] = &[
    ("op", Form::Text),
    ("peer", Form::TextOrNull),
    ("result", Form::Text),
    ("exit", Form::Count),
    ("error", Form::TextOrNull),
    ("files", Form::Count),
    ("directories", Form::Count),
    ("bytes", Form::Count),
    ("resumed_bytes", Form::Count),
    ("seconds", Form::Seconds),
    ("bytes_per_second", Form::Count),
    ("packets", Form::Object(PACKETS)),
    ("acks", Form::Count),
    ("rtt_us", Form::CountOrNull),
    ("mtu", Form::CountOrNull),
    ("gso", Form::FlagOrNull),
    ("receiver_drops", Form::CountOrNull),
    ("digest", Form::TextOrNull),
    ("verified", Form::TextOrNull),
    ("already_there", Form::Count),
    ("kept", Form::Count),
    ("failed", Form::Named),
    ("failed_total", Form::Count),
    ("skipped", Form::Named),
    ("skipped_total", Form::Count),
    ("notes", Form::Named),
    ("notes_total", Form::Count),
    ("overhead", Form::Object(OVERHEAD)),
    ("limited_by", Form::TextOrNull),
];

/// The word for each exit code of a report that is no success.
const RESULTS: &[(i64, &[&str])] = &[
    (0, &["committed", "listed", "measured"]),
    (1, &["failed"]),
    (2, &["usage"]),
    (3, &["unreachable"]),
    (4, &["not_allowed"]),
    (5, &["local_file"]),
    (6, &["remote_file"]),
    (7, &["partial"]),
    (8, &["integrity"]),
    (130, &["interrupted"]),
    (143, &["terminated"]),
];

/// The one report of a program that has ended, checked against its exit code and its stderr.
#[track_caller]
pub fn report_of(finished: &Finished) -> Value {
    let report = checked(&finished.stdout);
    assert_eq!(report["exit"].as_i64(), finished.code.map(i64::from), "{finished:#?}");
    if let Some(error) = report["error"].as_str() {
        let last = finished.stderr.lines().last().unwrap_or_default();
        assert_eq!(last, format!("ufx: {error}"), "the error line comes last: {finished:#?}");
    }
    report
}

/// The one object in `line`, checked for form.
#[track_caller]
pub fn checked(line: &str) -> Value {
    assert_eq!(line.lines().count(), 1, "one object on one line: {line:?}");
    let report: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    check_object("", &report, REPORT);
    let exit = report["exit"].as_i64().unwrap_or(-1);
    let result = report["result"].as_str().unwrap_or_default();
    let words = RESULTS.iter().find(|(code, _)| *code == exit).map_or(&[][..], |(_, words)| words);
    assert!(words.contains(&result), "exit {exit} is not {result}: {line}");
    assert_eq!(exit == 0, report["error"].is_null(), "an error exactly after a failure: {line}");
    report
}

fn check_object(path: &str, value: &Value, keys: &[(&str, Form)]) {
    for (key, form) in keys {
        let path = format!("{path}.{key}");
        let value = value.get(key).unwrap_or_else(|| panic!("{path} is missing in {value}"));
        check(&path, value, *form);
    }
}

fn check(path: &str, value: &Value, form: Form) {
    let holds = match form {
        Form::Text => value.is_string(),
        Form::TextOrNull => value.is_string() || value.is_null(),
        Form::Count => value.is_u64(),
        Form::CountOrNull => value.is_u64() || value.is_null(),
        Form::Seconds => value.as_f64().is_some_and(|seconds| seconds >= 0.0),
        Form::FlagOrNull => value.is_boolean() || value.is_null(),
        Form::Object(keys) => {
            check_object(path, value, keys);
            value.is_object()
        }
        Form::Named => {
            let named = value.as_array().unwrap_or_else(|| panic!("{path}: {value}"));
            named.iter().for_each(|one| check_object(path, one, NAMED));
            true
        }
    };
    assert!(holds, "{path} is {value}, not {form:?}");
}
