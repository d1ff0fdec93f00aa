//! What people and programs read: lines on stderr for people, data on stdout, numbers with units,
//! and names made harmless for a terminal. Leaves the live progress line to `progress`.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use indicatif::ProgressBar;

use super::exit::{Exit, Failure};
use crate::io::report::{Limit, Named, Operation, Outcome, Report};

/// Names listed one by one at the end of a run; `-v` lists all, and so does `--json`.
const NAMES_SHOWN_MAX: usize = 20;

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only (`-q`).
    Quiet,
    /// Errors, warnings, progress, the summary.
    #[default]
    Normal,
    /// Details too (`-v`).
    Verbose,
}

/// Where everything is said. Errors in writing to stderr are ignored: nobody is left to be told.
#[derive(Clone, Debug)]
pub struct Console {
    /// How much the user wants to read.
    pub verbosity: Verbosity,
    /// Whether the report goes to stdout.
    pub json: bool,
    /// The live line, which steps aside while anything else is printed.
    bar: ProgressBar,
}

impl Console {
    /// A console without a live line (`progress` adds one).
    pub fn new(verbosity: Verbosity, json: bool) -> Console {
        Console { verbosity, json, bar: ProgressBar::hidden() }
    }

    /// The same console, over a live line.
    #[must_use]
    pub fn with_bar(&self, bar: ProgressBar) -> Console {
        Console { bar, ..self.clone() }
    }

    /// Says what went wrong; `-q` does not silence it.
    pub fn error(&self, failure: &Failure) {
        self.line(&format!("ufx: {failure}"));
    }

    /// Says what the user should know although the run goes on.
    pub fn warn(&self, text: &str) {
        self.say(&format!("ufx: warning: {text}"));
    }

    /// Says something to people; `-q` silences it.
    pub fn say(&self, text: &str) {
        if self.verbosity >= Verbosity::Normal {
            self.line(text);
        }
    }

    /// Says what only `-v` wants to know.
    pub fn detail(&self, text: &str) {
        if self.verbosity >= Verbosity::Verbose {
            self.line(text);
        }
    }

    /// Writes one line of data to stdout.
    ///
    /// # Errors
    /// stdout takes no more, except that a reader who went away (`| head`) is no error.
    pub fn data(&self, text: &str) -> io::Result<()> {
        self.bar.suspend(|| {
            let mut stdout = io::stdout().lock();
            let written = stdout.write_all(format!("{text}\n").as_bytes());
            match written.and_then(|()| stdout.flush()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                result => result,
            }
        })
    }

    /// Whether standard output carries JSON only.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Ends a transfer: names what was skipped and what failed, then says the summary or the
    /// error, then prints the JSON object if it was asked for. Returns the exit code.
    pub fn finish(&self, mut report: Report, failure: Option<&Failure>) -> Exit {
        if let Some(failure) = failure {
            report.result = failure.outcome;
        }
        let exit = Exit::from(report.result);
        report.exit = exit.code();
        report.error = match failure {
            Some(failure) => Some(failure.to_string()),
            None => unexplained(&report),
        };
        for line in closing_lines(&report, self.verbosity) {
            self.line(&line);
        }
        if !self.json {
            return exit;
        }
        match self.print_json(&report) {
            Ok(()) => exit,
            Err(error) => {
                self.error(&Failure::new(Outcome::Failed, "standard output", error.to_string()));
                if exit == Exit::Success { Exit::Other } else { exit }
            }
        }
    }

    fn print_json(&self, report: &Report) -> io::Result<()> {
        self.data(&ascii_where_deceptive(&serde_json::to_string(report)?))
    }

    /// Writes one line to stderr, in one piece so that it does not mix with another process's.
    fn line(&self, text: &str) {
        let line = format!("{}\n", printable(text));
        self.bar.suspend(|| {
            // A closed or full stderr must neither panic nor change what the program does.
            let _ = io::stderr().lock().write_all(line.as_bytes());
        });
    }
}

/// What is said on stderr at the end, in this order, so that the error comes last.
fn closing_lines(report: &Report, verbosity: Verbosity) -> Vec<String> {
    let mut lines = Vec::new();
    if verbosity >= Verbosity::Normal {
        let skipped = (&report.skipped[..], report.skipped_total);
        push_names(&mut lines, "skipped ", skipped, verbosity);
        push_names(&mut lines, "note: ", (&report.notes, report.notes_total), verbosity);
    }
    push_names(&mut lines, "", (&report.failed, report.failed_total), verbosity);
    let moved = report.files + report.directories > 0 || report.error.is_none();
    if moved && verbosity >= Verbosity::Normal {
        lines.push(summary(report));
    }
    lines.extend(report.error.as_ref().map(|error| format!("ufx: {error}")));
    lines
}

fn push_names(
    lines: &mut Vec<String>,
    what: &str,
    (names, total): (&[Named], u64),
    verbosity: Verbosity,
) {
    let limit = if verbosity >= Verbosity::Verbose { usize::MAX } else { NAMES_SHOWN_MAX };
    for named in names.iter().take(limit) {
        let path = escape_name(named.path.as_bytes());
        lines.push(format!("ufx: {what}{path}: {}", named.reason));
    }
    let rest = total.saturating_sub(names.len().min(limit) as u64);
    if rest > 0 {
        let advice = if names.len() > limit { " (-v or --json names more)" } else { "" };
        lines.push(format!("ufx: {what}{rest} more{advice}"));
    }
}

/// The error of a report that is no success and names none.
fn unexplained(report: &Report) -> Option<String> {
    match report.result {
        Outcome::Committed | Outcome::Listed | Outcome::Measured => None,
        Outcome::Interrupted => Some("interrupted (run the same command again to go on)".into()),
        Outcome::Terminated => Some("terminated (run the same command again to go on)".into()),
        _ => Some(format!("{} not committed", count(report.failed_total, "file"))),
    }
}

/// The one line that ends a run, as in `sent 12 files, 1.07 GB in 1.2 s (7.1 Gbit/s), 0.3 % resent,
/// overhead 1.4 % headers + 0.02 % ACKs, limited by the receiver's disk`.
pub fn summary(report: &Report) -> String {
    let mut text = moved(report);
    if report.result != Outcome::Listed {
        let seconds = Duration::try_from_secs_f64(report.seconds).unwrap_or_default();
        let bits_per_second = report.bytes_per_second.saturating_mul(8);
        text += &format!(" in {} ({})", duration(seconds), rate(bits_per_second));
    }
    for (number, what) in [
        (report.already_there, "already there"),
        (report.kept, "kept"),
        (report.skipped_total, "skipped"),
        (report.failed_total, "failed"),
    ] {
        if number > 0 {
            text += &format!(", {number} {what}");
        }
    }
    if let (Some(resent), Some(sent)) = (report.packets.resent, report.packets.sent) {
        text += &format!(", {} resent", percent(resent, sent));
    }
    if let (Some(headers), Some(acks), true) =
        (report.overhead.header_bytes, report.overhead.ack_bytes, report.bytes > 0)
    {
        // Of a few bytes, a share would say nothing but that packets have headers.
        let share = |part| match headers <= report.bytes {
            true => percent(part, report.bytes),
            false => bytes(part),
        };
        let (headers, acks) = (share(headers), share(acks));
        text += &format!(", overhead {headers} headers + {acks} ACKs");
    }
    if let Some(limit) = report.limited_by {
        text += &format!(", limited by {}", limit_words(limit));
    }
    text
}

/// What was moved, from where.
fn moved(report: &Report) -> String {
    let peer = report.peer.as_deref();
    if report.result == Outcome::Measured {
        let dropped = bytes(report.bytes);
        return format!("measured for {}: {dropped} dropped", peer.unwrap_or("somebody"));
    }
    let mut text = match (report.op, report.result) {
        (_, Outcome::Listed) => "would send ".to_owned(),
        (Operation::Send, _) => "sent ".to_owned(),
        (Operation::Recv, _) => "received ".to_owned(),
    };
    text += &count(report.files, "file");
    if report.directories > 0 {
        let noun = if report.directories == 1 { "directory" } else { "directories" };
        text += &format!(", {} {noun}", report.directories);
    }
    text += &format!(", {}", bytes(report.bytes));
    if report.resumed_bytes > 0 {
        text += &format!(" ({} of it resumed)", bytes(report.resumed_bytes));
    }
    if let (Operation::Recv, Some(peer)) = (report.op, &report.peer) {
        // A receiver has many peers; a sender knows its one.
        text += &format!(" from {peer}");
    }
    text
}

fn limit_words(limit: Limit) -> &'static str {
    match limit {
        Limit::SourceDisk => "reading the files",
        Limit::SenderCpu => "the sender's processor",
        Limit::Network => "the network",
        Limit::ReceiverBuffer => "the receiver's buffer",
        Limit::ReceiverDisk => "the receiver's disk",
        Limit::RateCap => "--rate",
        Limit::SenderOrNetwork => "the sender or the network",
    }
}

/// `1 file`, `12 files`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Bytes in decimal units: `999 B`, `1.07 GB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes, ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Bits per second in decimal units: `941 Mbit/s`.
pub fn rate(bits_per_second: u64) -> String {
    let units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s", "Ebit/s"];
    scaled(bits_per_second, units)
}

/// Three significant digits without idle zeros, and the unit that makes them fit.
fn scaled(value: u64, units: [&str; 7]) -> String {
    let mut number = value as f64;
    let mut unit = units[0];
    let mut decimals = 0;
    for larger in &units[1..] {
        // What would round to 1000 is 1 of the next unit.
        if number < 999.5 {
            break;
        }
        number /= 1_000.0;
        unit = larger;
        decimals = if number < 9.995 { 2 } else { usize::from(number < 99.95) };
    }
    format!("{} {unit}", trimmed(number, decimals))
}

fn trimmed(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A duration: `850 ms`, `12.3 s`, `2 min 05 s`, `1 h 02 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let whole = duration.saturating_add(Duration::from_millis(500)).as_secs();
    if seconds == 0.0 {
        "0 s".to_owned()
    } else if seconds < 0.001 {
        "< 1 ms".to_owned()
    } else if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1_000.0)
    } else if whole < 60 {
        format!("{} s", trimmed(seconds, 1))
    } else if whole < 3_600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60)
    }
}

/// A duration as it is typed, `10s` or `500ms`: for defaults in help.
pub fn duration_typed(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

/// A share with two significant digits: `12 %`, `1.4 %`, `0.02 %`.
pub fn percent(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    match percent {
        9.95.. => format!("{percent:.0} %"),
        0.995.. => format!("{} %", trimmed(percent, 1)),
        0.01.. => format!("{} %", trimmed(percent, 2)),
        _ => "< 0.01 %".to_owned(),
    }
}

/// A name as it may be shown on a terminal: readable text stands as it is; bytes that are not
/// UTF-8, control characters and what reorders or hides text become `\xHH` or `\u{HHHH}`; a
/// backslash is doubled, so that no name can pose as an escape.
pub fn escape_name(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    for part in name.utf8_chunks() {
        for letter in part.valid().chars() {
            match letter {
                '\\' => shown.push_str("\\\\"),
                _ => push_printable(&mut shown, letter),
            }
        }
        for byte in part.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// A whole line made harmless: the last guard before the terminal, for text whose names are
/// escaped already and for reasons that a peer gave.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|letter| push_printable(&mut shown, letter));
    shown
}

fn push_printable(shown: &mut String, letter: char) {
    // Writing to a String cannot fail.
    let _ = match letter {
        '\0'..='\x1f' | '\x7f' => write!(shown, "\\x{:02x}", u32::from(letter)),
        _ if is_deceptive(letter) => write!(shown, "\\u{{{:x}}}", u32::from(letter)),
        _ => shown.write_char(letter),
    };
}

/// The same JSON, in which every character that a terminal would obey is an escape of JSON's own:
/// `--json` may be read by people, too. Such characters stand nowhere but in strings.
fn ascii_where_deceptive(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter == '\x7f' || is_deceptive(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Characters beyond ASCII that command a terminal (C1), break lines, reorder text (Unicode's
/// Bidi_Control), or are invisible. Joiners stay: whole scripts and emoji need them.
fn is_deceptive(letter: char) -> bool {
    matches!(letter,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'
        | '\u{180e}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::report::{Overhead, Packets};

    #[test]
    fn json_says_the_same_without_a_character_that_a_terminal_obeys() {
        let said = "\u{1b}[2J\u{9b}31m\u{202e}txt\u{7f}\u{e0001}gr\u{fc}n \\ \"";
        let json = ascii_where_deceptive(&serde_json::to_string(said).unwrap());
        assert_eq!(
            json,
            "\"\\u001b[2J\\u009b31m\\u202etxt\\u007f\\udb40\\udc01gr\u{fc}n \\\\ \\\"\""
        );
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), said);
    }

    #[test]
    fn names_cannot_command_a_terminal() {
        let table: [(&[u8], &str); 10] = [
            (b"plain name.txt", "plain name.txt"),
            ("gr\u{fc}n \u{65e5}\u{672c}.txt".as_bytes(), "gr\u{fc}n \u{65e5}\u{672c}.txt"),
            (b"a\nb\tc", r"a\x0ab\x09c"),
            (b"\x1b[2J\x07", r"\x1b[2J\x07"),
            (b"\xff\xfe", r"\xff\xfe"),
            (b"\x7f", r"\x7f"),
            ("\u{9b}31m".as_bytes(), r"\u{9b}31m"),
            ("exe\u{202e}txt".as_bytes(), r"exe\u{202e}txt"),
            (br"poses\x1b", r"poses\\x1b"),
            ("\u{2066}a\u{2069}\u{feff}\u{2028}".as_bytes(), r"\u{2066}a\u{2069}\u{feff}\u{2028}"),
        ];
        for (name, shown) in table {
            assert_eq!(escape_name(name), shown, "{name:?}");
            assert_eq!(printable(shown), shown, "the last guard changed {shown}");
        }
    }

    #[test]
    fn sizes_and_rates_have_three_digits_and_decimal_units() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1 kB"),
            (1_234, "1.23 kB"),
            (12_345, "12.3 kB"),
            (999_499, "999 kB"),
            (999_500, "1 MB"),
            (1_073_741_824, "1.07 GB"),
            (100_000_000_000, "100 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (number, text) in table {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(rate(941_400_000), "941 Mbit/s");
        assert_eq!(rate(7_100_000_000), "7.1 Gbit/s");
    }

    #[test]
    fn durations_grow_coarser() {
        let table = [
            (0.0, "0 s"),
            (0.0004, "< 1 ms"),
            (0.85, "850 ms"),
            (0.9999, "1 s"),
            (1.2, "1.2 s"),
            (12.34, "12.3 s"),
            (59.7, "1 min 00 s"),
            (125.0, "2 min 05 s"),
            (3_720.0, "1 h 02 min"),
        ];
        for (seconds, text) in table {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), text);
        }
    }

    #[test]
    fn shares_keep_what_is_small_visible() {
        let table = [
            (0, 0, "0 %"),
            (5, 0, "0 %"),
            (3, 1_000, "0.3 %"),
            (14, 1_000, "1.4 %"),
            (2, 10_000, "0.02 %"),
            (1, 1_000_000, "< 0.01 %"),
            (12, 100, "12 %"),
            (1, 1, "100 %"),
        ];
        for (part, whole, text) in table {
            assert_eq!(percent(part, whole), text, "{part} of {whole}");
        }
    }

    fn finished(op: Operation) -> Report {
        let mut report = Report::new(op);
        report.result = Outcome::Committed;
        report.files = 12;
        report.bytes = 1_073_741_824;
        report.set_seconds(1.21);
        report
    }

    #[test]
    fn the_summary_says_how_fast_it_was_and_what_held_it_back() {
        let mut report = finished(Operation::Send);
        report.packets = Packets { sent: Some(100_000), resent: Some(300), ..Packets::default() };
        report.overhead = Overhead { header_bytes: Some(15_000_000), ack_bytes: Some(215_000) };
        report.limited_by = Some(Limit::ReceiverDisk);
        assert_eq!(
            summary(&report),
            "sent 12 files, 1.07 GB in 1.2 s (7.1 Gbit/s), 0.3 % resent, \
             overhead 1.4 % headers + 0.02 % ACKs, limited by the receiver's disk"
        );
    }

    #[test]
    fn the_summary_leaves_out_what_is_not_known_and_names_what_was_left_behind() {
        let mut report = finished(Operation::Recv);
        report.files = 1;
        report.already_there = 3;
        report.peer = Some("10.0.0.7:4242".into());
        let named = Named { path: b"x".as_slice().into(), reason: "is a socket".into() };
        report.skipped = vec![named.clone(), named];
        report.skipped_total = 2;
        assert_eq!(
            summary(&report),
            "received 1 file, 1.07 GB from 10.0.0.7:4242 in 1.2 s (7.1 Gbit/s), \
             3 already there, 2 skipped"
        );
        report.op = Operation::Send;
        report.result = Outcome::Listed;
        assert_eq!(summary(&report), "would send 1 file, 1.07 GB, 3 already there, 2 skipped");
    }

    #[test]
    fn directories_are_no_files_and_the_overhead_of_a_few_bytes_is_no_share() {
        let mut report = finished(Operation::Send);
        report.bytes = 5;
        report.directories = 2;
        report.set_seconds(0.01);
        report.overhead = Overhead { header_bytes: Some(3_000), ack_bytes: Some(300) };
        assert_eq!(
            summary(&report),
            "sent 12 files, 2 directories, 5 B in 10 ms (4 kbit/s), \
             overhead 3 kB headers + 300 B ACKs"
        );
    }

    #[test]
    fn a_report_that_failed_without_words_gets_some() {
        let mut report = finished(Operation::Send);
        assert_eq!(unexplained(&report), None);
        report.result = Outcome::Partial;
        report.failed = vec![Named { path: b"x".as_slice().into(), reason: "exists".into() }];
        report.failed_total = 1;
        assert_eq!(unexplained(&report).as_deref(), Some("1 file not committed"));
    }

    fn named(name: &[u8], reason: &str) -> Named {
        Named { path: name.into(), reason: reason.into() }
    }

    #[test]
    fn a_run_ends_with_what_failed_then_the_summary_then_the_error() {
        let mut report = finished(Operation::Send);
        report.skipped = vec![named(b"pipe", "is no regular file")];
        report.failed = vec![named(b"a\x1bb", "exists already")];
        (report.skipped_total, report.failed_total) = (1, 1);
        report.result = Outcome::Partial;
        report.error = unexplained(&report);
        let normal = [
            "ufx: skipped pipe: is no regular file",
            r"ufx: a\x1bb: exists already",
            "sent 12 files, 1.07 GB in 1.2 s (7.1 Gbit/s), 1 skipped, 1 failed",
            "ufx: 1 file not committed",
        ];
        assert_eq!(closing_lines(&report, Verbosity::Normal), normal);
        let quiet = [normal[1], normal[3]];
        assert_eq!(closing_lines(&report, Verbosity::Quiet), quiet);
    }

    #[test]
    fn a_run_that_moved_nothing_says_only_why() {
        let mut report = Report::new(Operation::Send);
        report.error = Some("nas: did not answer".into());
        assert_eq!(closing_lines(&report, Verbosity::Verbose), ["ufx: nas: did not answer"]);
    }

    #[test]
    fn a_long_list_of_names_is_cut_unless_all_is_wanted() {
        let mut report = finished(Operation::Send);
        report.skipped = vec![named(b"x", "is a socket"); NAMES_SHOWN_MAX + 5];
        report.skipped_total = 1_000_000;
        let lines = closing_lines(&report, Verbosity::Normal);
        assert_eq!(lines.len(), NAMES_SHOWN_MAX + 2);
        assert_eq!(lines[NAMES_SHOWN_MAX], "ufx: skipped 999980 more (-v or --json names more)");
        let lines = closing_lines(&report, Verbosity::Verbose);
        assert_eq!(lines.len(), NAMES_SHOWN_MAX + 5 + 2);
        assert_eq!(lines[NAMES_SHOWN_MAX + 5], "ufx: skipped 999975 more");
    }
}
