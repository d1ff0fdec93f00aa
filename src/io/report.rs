//! What is known about a run: live, as [`Counters`] that progress is drawn from, and at its end,
//! as one [`Report`]. Leaves printing, words for people and exit codes to the command line.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Serialize, Serializer};

/// Counters of a run that goes on: written by the threads that move data (relaxed order is
/// enough, each stands alone), read by progress. One set may be shared by many transfers.
#[derive(Debug, Default)]
pub struct Counters {
    /// Transfers that run now.
    pub transfers: AtomicU64,
    /// Bytes of file bodies that the receiver has written, as the receiver itself counts them.
    pub bytes_written: AtomicU64,
    /// Bytes of all file bodies that are known so far.
    pub bytes_total: AtomicU64,
    /// Files the receiver has committed: written, checked and renamed.
    pub files_done: AtomicU64,
    /// Files that are known so far.
    pub files_total: AtomicU64,
    /// True once the totals will not grow any more: the whole manifest is known.
    pub totals_final: AtomicBool,
    /// Valid packets from the other side. While it stands still, the other side is silent.
    pub packets_heard: AtomicU64,
}

impl Counters {
    /// Everything is counted anew.
    pub fn reset(&self) {
        let Counters {
            transfers,
            bytes_written,
            bytes_total,
            files_done,
            files_total,
            totals_final,
            packets_heard,
        } = self;
        for counter in
            [transfers, bytes_written, bytes_total, files_done, files_total, packets_heard]
        {
            counter.store(0, Ordering::Relaxed);
        }
        totals_final.store(false, Ordering::Relaxed);
    }
}

/// The result of one run: the object that `--json` prints, on one line, for success and failure
/// alike. Every key is always present; what this end does not know is `null`. Names are stable;
/// new ones may be added.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `"send"` or `"recv"`.
    pub op: Operation,
    /// The other end as `ADDRESS:PORT`; before an address is known, the HOST as typed; or null.
    pub peer: Option<String>,
    /// How it ended, in one word; see [`Outcome`].
    pub result: Outcome,
    /// The exit code that `result` stands for; the command line fills it in.
    pub exit: u8,
    /// The error line that was shown, without its `ufx: `; null after success.
    pub error: Option<String>,
    /// Files and links that were committed by this run.
    pub files: u64,
    /// Directories that were made by this run.
    pub directories: u64,
    /// Bytes of file bodies that were committed by this run.
    pub bytes: u64,
    /// Bytes of file bodies that an interrupted run had left at the receiver, so that this one did
    /// not move them. Part of `bytes` as far as their files were committed.
    pub resumed_bytes: u64,
    /// From the first packet to the end, in seconds.
    pub seconds: f64,
    /// `(bytes - resumed_bytes) / seconds`, rounded down.
    pub bytes_per_second: u64,
    /// Packets of this transfer, as its sender counts them.
    pub packets: Packets,
    /// ACK packets that this end sent (recv) or took in (send).
    pub acks: u64,
    /// The smoothed round-trip time at the end, in microseconds.
    pub rtt_us: Option<u64>,
    /// The largest IP packet in use at the end, in bytes.
    pub mtu: Option<u32>,
    /// Whether the kernel cut (send) or merged (recv) datagrams for us until the end.
    pub gso: Option<bool>,
    /// Datagrams that the receiver's kernel dropped because its socket buffer was full.
    pub receiver_drops: Option<u64>,
    /// The digest in hexadecimal: the file's own where one file was sent, else that of the list.
    pub digest: Option<String>,
    /// What the files were checked by; null where nothing was committed.
    pub verified: Option<Verified>,
    /// Files and links that needed no sending: equal in size and time.
    pub already_there: u64,
    /// Files and links that were not stored because the receiver keeps what has their names.
    pub kept: u64,
    /// What was not committed, and why: the first [`NAMED_MAX`].
    pub failed: Vec<Named>,
    /// How many were not committed.
    pub failed_total: u64,
    /// What was left out on purpose (special files, links that leave the tree), and why: the
    /// first [`NAMED_MAX`].
    pub skipped: Vec<Named>,
    /// How many were left out.
    pub skipped_total: u64,
    /// What became otherwise than its source is, though it counts as done (a setuid bit dropped,
    /// a directory's time not set), and how: the first [`NAMED_MAX`].
    pub notes: Vec<Named>,
    /// How many of these there are.
    pub notes_total: u64,
    /// Bytes that were spent beside the payload.
    pub overhead: Overhead,
    /// What held the transfer back most of the time.
    pub limited_by: Option<Limit>,
}

impl Report {
    /// A run that has just begun: nothing known, nothing moved, and failed unless told otherwise.
    pub fn new(op: Operation) -> Report {
        Report {
            op,
            peer: None,
            result: Outcome::Failed,
            exit: 1,
            error: None,
            files: 0,
            directories: 0,
            bytes: 0,
            resumed_bytes: 0,
            seconds: 0.0,
            bytes_per_second: 0,
            packets: Packets::default(),
            acks: 0,
            rtt_us: None,
            mtu: None,
            gso: None,
            receiver_drops: None,
            digest: None,
            verified: None,
            already_there: 0,
            kept: 0,
            failed: Vec::new(),
            failed_total: 0,
            skipped: Vec::new(),
            skipped_total: 0,
            notes: Vec::new(),
            notes_total: 0,
            overhead: Overhead::default(),
            limited_by: None,
        }
    }

    /// The report of a run whose transfer was begun anew: what `earlier` ones have committed is
    /// there already for the last one, but was sent by this run.
    #[must_use]
    pub fn continuing(mut self, earlier: Report) -> Report {
        let add = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
        self.files += earlier.files;
        self.directories += earlier.directories;
        self.bytes += earlier.bytes;
        self.resumed_bytes = earlier.resumed_bytes;
        self.already_there = self.already_there.saturating_sub(earlier.files);
        self.set_seconds(self.seconds + earlier.seconds);
        self.packets = Packets {
            sent: add(self.packets.sent, earlier.packets.sent),
            resent: add(self.packets.resent, earlier.packets.resent),
            lost: add(self.packets.lost, earlier.packets.lost),
            spurious: add(self.packets.spurious, earlier.packets.spurious),
            body_bytes: add(self.packets.body_bytes, earlier.packets.body_bytes),
        };
        self.acks += earlier.acks;
        self.overhead = Overhead {
            header_bytes: add(self.overhead.header_bytes, earlier.overhead.header_bytes),
            ack_bytes: add(self.overhead.ack_bytes, earlier.overhead.ack_bytes),
        };
        self.verified = self.verified.or(earlier.verified);
        self.limited_by = self.limited_by.or(earlier.limited_by);
        self
    }

    /// Sets `seconds` and, from the bytes known so far, `bytes_per_second`.
    pub fn set_seconds(&mut self, seconds: f64) {
        self.seconds = seconds;
        let moved = self.bytes.saturating_sub(self.resumed_bytes);
        // A float becomes an integer by saturation: no time at all gives no rate, not infinity.
        self.bytes_per_second = if seconds > 0.0 { (moved as f64 / seconds) as u64 } else { 0 };
    }
}

/// Which end wrote the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `ufx send`.
    Send,
    /// `ufx recv`.
    Recv,
}

/// How a run ended. The command line gives each its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was committed and verified, or was already there.
    Committed,
    /// A dry run: what would move was listed, nothing was sent.
    Listed,
    /// A measurement: everything arrived, nothing was stored.
    Measured,
    /// Anything that no other word says.
    Failed,
    /// The command line made no sense.
    Usage,
    /// The other side never answered, or fell silent.
    Unreachable,
    /// The other side does not take transfers from here.
    NotAllowed,
    /// A file or disk of this side.
    LocalFile,
    /// A file or disk of the other side.
    RemoteFile,
    /// Some files were committed and some were not; `failed` names those.
    Partial,
    /// Data kept arriving different from what was sent.
    Integrity,
    /// Ctrl-C (SIGINT).
    Interrupted,
    /// SIGTERM.
    Terminated,
}

/// Packets of the data direction. Null where this end does not know. A receiver tells from packet
/// numbers and from bytes that came twice, the sender counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Packets {
    /// All packets sent, resent ones included.
    pub sent: Option<u64>,
    /// Packets whose chunk had been sent before.
    pub resent: Option<u64>,
    /// Packets held for lost, rightly or not.
    pub lost: Option<u64>,
    /// Of those, the ones that had arrived after all.
    pub spurious: Option<u64>,
    /// Bytes of file bodies in them, repetitions included; those that arrived, at the receiver.
    pub body_bytes: Option<u64>,
}

/// What the committed files were checked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// Every block by its digest.
    Digest,
    /// Every packet by its CRC only (`--digest none`).
    Crc,
}

/// Bytes that crossed the network beside file bodies. Null where this end does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overhead {
    /// IP, UDP and ufx headers of the data direction, records, and packets that carry nothing
    /// else. The filling of packets that try larger sizes is not counted.
    pub header_bytes: Option<u64>,
    /// Whole ACK packets, their IP and UDP headers included.
    pub ack_bytes: Option<u64>,
}

/// What held a transfer back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Reading the source files.
    SourceDisk,
    /// The sender's processor.
    SenderCpu,
    /// The path between the two.
    Network,
    /// The receiver's socket buffer or processor.
    ReceiverBuffer,
    /// Writing the files.
    ReceiverDisk,
    /// `--rate`.
    RateCap,
    /// Not the receiver, which is the one that says this and cannot tell more.
    SenderOrNetwork,
}

/// What is named one by one of each kind; more are only counted.
pub const NAMED_MAX: usize = 10_000;

/// Names as they come up during a run: the first [`NAMED_MAX`], and how many there are.
#[derive(Clone, Debug, Default)]
pub struct Names {
    first: Vec<Named>,
    total: u64,
}

impl Names {
    /// One more. `path` is as the receiver has it, relative to its directory.
    pub fn push(&mut self, path: &[u8], reason: impl Into<String>) {
        self.total += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(Named { path: PathText::from(path), reason: reason.into() });
        }
    }

    /// How many there are, named or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The names and their number, for the report.
    pub fn take(&mut self) -> (Vec<Named>, u64) {
        (std::mem::take(&mut self.first), self.total)
    }
}

/// A path and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Which file, as the receiver has it: relative to its directory, at both ends.
    pub path: PathText,
    /// Why, in a few words. May come from the other side.
    pub reason: String,
}

/// A path as bytes, which need not be UTF-8.
///
/// In JSON it is a string: valid UTF-8 stands as it is (JSON's own escapes apart), any other byte
/// becomes the four characters `\xHH`, and a backslash of the name is doubled, so that the bytes
/// can be had back without guessing: the name `a\b<ff>` is the JSON string `"a\\\\b\\xff"`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathText(Vec<u8>);

impl PathText {
    /// The path's bytes as they are.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text that JSON carries.
    fn escaped(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        for part in self.0.utf8_chunks() {
            text.push_str(&part.valid().replace('\\', "\\\\"));
            text.extend(part.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
        }
        text
    }
}

impl std::fmt::Debug for PathText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", self.escaped())
    }
}

impl From<&[u8]> for PathText {
    fn from(bytes: &[u8]) -> PathText {
        PathText(bytes.to_vec())
    }
}

impl Serialize for PathText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.escaped())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(report: &Report) -> serde_json::Value {
        serde_json::to_value(report).unwrap()
    }

    #[test]
    fn a_report_has_every_key_even_when_nothing_is_known() {
        let value = json(&Report::new(Operation::Send));
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = vec![
            "op",
            "peer",
            "result",
            "exit",
            "error",
            "files",
            "directories",
            "bytes",
            "resumed_bytes",
            "seconds",
            "bytes_per_second",
            "packets",
            "acks",
            "rtt_us",
            "mtu",
            "gso",
            "receiver_drops",
            "digest",
            "verified",
            "already_there",
            "kept",
            "failed",
            "failed_total",
            "skipped",
            "skipped_total",
            "notes",
            "notes_total",
            "overhead",
            "limited_by",
        ];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert_eq!(value["op"], "send");
        assert_eq!(value["result"], "failed");
        assert!(value["packets"]["resent"].is_null());
    }

    #[test]
    fn words_in_a_report_are_snake_case() {
        let mut report = Report::new(Operation::Recv);
        report.result = Outcome::NotAllowed;
        report.limited_by = Some(Limit::ReceiverDisk);
        report.verified = Some(Verified::Crc);
        let value = json(&report);
        assert_eq!(value["op"], "recv");
        assert_eq!(value["result"], "not_allowed");
        assert_eq!(value["limited_by"], "receiver_disk");
        assert_eq!(value["verified"], "crc");
    }

    #[test]
    fn a_rate_over_no_time_is_zero_and_not_infinite() {
        let mut report = Report::new(Operation::Send);
        report.bytes = 1_000;
        report.set_seconds(0.0);
        assert_eq!(report.bytes_per_second, 0);
        report.set_seconds(0.5);
        assert_eq!(report.bytes_per_second, 2_000);
        report.resumed_bytes = 750;
        report.set_seconds(0.5);
        assert_eq!(report.bytes_per_second, 500, "what was there already did not move");
    }

    #[test]
    fn a_path_in_json_tells_every_byte_of_its_name() {
        let table: [(&[u8], &str); 5] = [
            (b"plain name", "plain name"),
            ("gr\u{fc}n".as_bytes(), "gr\u{fc}n"),
            (b"bad\xff\xfename", r"bad\xff\xfename"),
            (br"poses as \xff", r"poses as \\xff"),
            (b"cut \xe2\x82", r"cut \xe2\x82"),
        ];
        for (bytes, text) in table {
            let value = serde_json::to_value(PathText::from(bytes)).unwrap();
            assert_eq!(value, text, "{bytes:?}");
        }
    }
}
