//! Interrupted transfers that go on where they were cut: nothing is read, sent, digested or
//! written twice. What cannot be trusted starts again, without an error.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::content::{names, room, room_for, same_bytes, write_random};
use crate::support::process::{Program, wait_until};
use crate::support::report::report_of;
use crate::support::root::{Mount, is_installed, is_root_with, skip};
use crate::support::transfer::{Receiver, Reports, send_words, transfer};

const MEBIBYTE: u64 = 1 << 20;

/// Large enough that what is under way when HAVE arrives is little of it.
const BYTES: u64 = 512 * MEBIBYTE;

/// A file that was received in part.
struct Cut {
    room: TempDir,
    source: PathBuf,
}

/// Which end is ended, and how.
#[derive(Clone, Copy, Debug)]
enum End {
    Sender(Signal),
    Receiver(Signal),
}

impl Cut {
    /// Receives about half of a file of `bytes`.
    fn half_of(bytes: u64, end: End) -> Cut {
        Cut::half_with(bytes, end, &[])
    }

    fn half_with(bytes: u64, end: End, send_options: &[&str]) -> Cut {
        let room = room_for(3 * bytes);
        let source = write_random(&room.path().join("source.bin"), bytes, 1);
        let cut = Cut { room, source };
        cut.run_half(end, send_options);
        cut
    }

    /// Sends until half of the file is written, then ends one side and waits for both.
    fn run_half(&self, end: End, send_options: &[&str]) {
        let receiver = Receiver::start(&self.dir(), &["--once"]);
        // Slow enough to be cut in time.
        let options = [&["--rate", "4G"], send_options].concat();
        let sender = Program::start(&mut receiver.sender(&[&self.source], &options));
        receiver.wait_for_written(self.bytes() / 2);
        match end {
            End::Sender(signal) => sender.signal(signal),
            End::Receiver(signal) => receiver.program.signal(signal),
        }
        if let End::Receiver(Signal::KILL) = end {
            // It would wait for another receiver: that is another test.
            sender.signal(Signal::INT);
        }
        sender.wait();
        receiver.program.wait();
        assert!(!self.copy().exists(), "it was not cut in time");
    }

    fn bytes(&self) -> u64 {
        self.source.metadata().unwrap().len()
    }

    fn dir(&self) -> PathBuf {
        self.room.path().join("to")
    }

    fn copy(&self) -> PathBuf {
        self.dir().join("source.bin")
    }

    /// The unfinished file or its journal.
    fn leftover(&self, suffix: &str) -> PathBuf {
        let name = names(&self.dir()).into_iter().find(|name| name.ends_with(suffix));
        self.dir().join(name.unwrap_or_else(|| panic!("no {suffix} in {:?}", names(&self.dir()))))
    }

    /// Sends once more; it must succeed and leave nothing else behind.
    #[track_caller]
    fn rerun(&self) -> Reports {
        let reports = transfer(&[&self.source], &self.dir(), &[], &[]);
        assert!(same_bytes(&self.source, &self.copy()));
        assert_eq!(names(&self.dir()), ["source.bin"]);
        assert_eq!(reports.sender["bytes"], self.bytes());
        assert_eq!(reports.sender["resumed_bytes"], reports.receiver["resumed_bytes"]);
        reports
    }
}

fn resumed(reports: &Reports) -> u64 {
    reports.sender["resumed_bytes"].as_u64().unwrap()
}

/// Body bytes on the wire, from the sender's counters.
fn sent(report: &Value) -> u64 {
    report["packets"]["body_bytes"].as_u64().unwrap()
}

#[test]
fn after_any_end_of_either_side_only_the_rest_is_moved() {
    for end in [
        End::Sender(Signal::KILL),
        End::Receiver(Signal::KILL),
        End::Sender(Signal::INT),
        End::Receiver(Signal::TERM),
    ] {
        let cut = Cut::half_of(BYTES, end);
        let reports = cut.rerun();
        // Half was written; 8 blocks may have waited for their turn in the journal, and those
        // that were written in part are lost.
        let kept = resumed(&reports);
        assert!(kept >= BYTES / 2 - 24 * MEBIBYTE, "{end:?}: {kept} bytes kept");
        let again = sent(&reports.sender) - (BYTES - kept);
        assert!(again <= BYTES / 100 + 8 * MEBIBYTE, "{end:?}: {again} bytes sent in vain");
    }
}

#[test]
fn a_file_is_resumed_again_and_again() {
    let cut = Cut::half_of(BYTES, End::Receiver(Signal::KILL));
    let journal = cut.leftover(".journal").metadata().unwrap().len();
    let room_left = Cut { room: cut.room, source: cut.source };
    // What is written from now on comes on top of what is there.
    let receiver = Receiver::start(&room_left.dir(), &["--once"]);
    let sender = Program::start(&mut receiver.sender(&[&room_left.source], &["--rate", "1G"]));
    receiver.wait_for_written(BYTES / 4);
    receiver.program.signal(Signal::KILL);
    sender.signal(Signal::KILL);
    sender.wait();
    receiver.program.wait();
    let grown = room_left.leftover(".journal").metadata().unwrap().len();
    assert!(grown > journal, "{grown} bytes of journal after {journal}");
    let kept = resumed(&room_left.rerun());
    assert!(kept >= BYTES * 3 / 4 - 48 * MEBIBYTE, "{kept} bytes kept");
}

#[test]
fn every_digest_and_holes_are_resumed_but_no_file_without_digest() {
    for (digest, is_kept) in [("xxh3", true), ("blake3", true), ("none", false)] {
        let options = ["--digest", digest];
        let cut = Cut::half_with(64 * MEBIBYTE, End::Sender(Signal::INT), &options);
        assert_eq!(names(&cut.dir()).len(), if is_kept { 2 } else { 0 }, "{digest}");
        let reports = transfer(&[&cut.source], &cut.dir(), &options, &[]);
        assert_eq!(resumed(&reports) > 0, is_kept, "{digest}");
        assert!(same_bytes(&cut.source, &cut.copy()));
        assert_eq!(names(&cut.dir()), ["source.bin"]);
    }
    let room = room();
    let source = room.path().join("source.bin");
    let file = File::create(&source).unwrap();
    file.set_len(256 * MEBIBYTE).unwrap();
    // Data in every other half block, from 64 MiB on.
    for at in 64..192 {
        let bytes = vec![at as u8; MEBIBYTE as usize / 2];
        file.write_all_at(&bytes, at * MEBIBYTE + (at % 2) * MEBIBYTE / 2).unwrap();
    }
    drop(file);
    let cut = Cut { room, source };
    let receiver = Receiver::start(&cut.dir(), &["--once"]);
    let sender = Program::start(&mut receiver.sender(&[&cut.source], &["--rate", "400M"]));
    receiver.wait_for_written(32 * MEBIBYTE);
    sender.signal(Signal::KILL);
    sender.wait();
    receiver.program.signal(Signal::TERM);
    receiver.program.wait();
    let reports = cut.rerun();
    let kept = resumed(&reports);
    assert!((20 * MEBIBYTE..60 * MEBIBYTE).contains(&kept), "{kept}");
    assert!(sent(&reports.sender) <= 64 * MEBIBYTE - kept + 8 * MEBIBYTE);
}

#[test]
fn a_changed_source_starts_again_and_says_so() {
    let cut = Cut::half_of(64 * MEBIBYTE, End::Sender(Signal::INT));
    let file = File::options().write(true).open(&cut.source).unwrap();
    file.write_all_at(b"changed", 12_345).unwrap();
    drop(file);
    let receiver = Receiver::start(&cut.dir(), &["--once"]);
    let sender = Program::start(&mut receiver.sender(&[&cut.source], &[])).wait().expect_code(0);
    let receiver = receiver.program.wait().expect_code(0);
    assert_eq!(report_of(&sender)["resumed_bytes"], 0);
    let told = "source.bin: has changed since the interrupted copy: starting again";
    assert!(receiver.stderr.contains(told), "{}", receiver.stderr);
    assert!(same_bytes(&cut.source, &cut.copy()));
    assert_eq!(names(&cut.dir()), ["source.bin"]);
}

#[test]
fn a_journal_that_is_odd_makes_the_file_start_again_without_an_error() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 6] = [
        ("empty", |bytes| bytes.clear()),
        ("a header cut short", |bytes| bytes.truncate(79)),
        ("a bit of the header flipped", |bytes| bytes[20] ^= 4),
        ("a bit of a record flipped", |bytes| bytes[80 + 48 * 3 + 9] ^= 1),
        ("of a later version", |bytes| {
            bytes[8] = 2;
            let check = crc32fast::hash(&bytes[..76]).to_be_bytes();
            bytes[76..80].copy_from_slice(&check);
        }),
        ("garbage", |bytes| *bytes = b"garbage ".repeat(1_000)),
    ];
    for (what, damage) in damages {
        let cut = Cut::half_of(32 * MEBIBYTE, End::Sender(Signal::INT));
        let journal = cut.leftover(".journal");
        let mut bytes = fs::read(&journal).unwrap();
        damage(&mut bytes);
        fs::write(&journal, bytes).unwrap();
        assert_eq!(resumed(&cut.rerun()), 0, "{what}");
    }
}

#[test]
fn a_journal_without_its_file_or_of_another_file_is_not_believed() {
    let cut = Cut::half_of(32 * MEBIBYTE, End::Sender(Signal::INT));
    fs::remove_file(cut.leftover(".part")).unwrap();
    assert_eq!(resumed(&cut.rerun()), 0);

    let cut = Cut::half_of(32 * MEBIBYTE, End::Sender(Signal::INT));
    let part = cut.leftover(".part");
    let aside = cut.dir().join("aside");
    fs::copy(&part, &aside).unwrap();
    fs::remove_file(&part).unwrap();
    fs::rename(&aside, &part).unwrap();
    assert_eq!(resumed(&cut.rerun()), 0, "the same name and bytes, but another file");

    // A torn end is what a kill leaves: all before it holds.
    let cut = Cut::half_of(32 * MEBIBYTE, End::Sender(Signal::INT));
    let journal = cut.leftover(".journal");
    let bytes = fs::read(&journal).unwrap();
    fs::write(&journal, &bytes[..bytes.len() - 7]).unwrap();
    assert!(resumed(&cut.rerun()) > 0);
}

#[test]
fn a_leftover_is_removed_when_the_file_turns_out_to_be_there() {
    let cut = Cut::half_of(32 * MEBIBYTE, End::Sender(Signal::INT));
    // As a kill between rename and the journal's end leaves it, or a copy by other means.
    let copied = Command::new("cp").arg("-p").arg(&cut.source).arg(cut.copy()).status().unwrap();
    assert!(copied.success());
    let reports = transfer(&[&cut.source], &cut.dir(), &[], &[]);
    assert_eq!(reports.sender["already_there"], 1);
    assert_eq!(names(&cut.dir()), ["source.bin"]);
}

#[test]
fn a_leftover_is_removed_when_its_source_has_become_a_small_file() {
    let cut = Cut::half_of(32 * MEBIBYTE, End::Sender(Signal::INT));
    write_random(&cut.source, 1_000, 2);
    cut.leftover(".part");
    let reports = transfer(&[&cut.source], &cut.dir(), &[], &[]);
    assert_eq!(reports.sender["files"], 1);
    assert!(same_bytes(&cut.source, &cut.copy()));
    assert_eq!(names(&cut.dir()), ["source.bin"]);
}

#[test]
fn a_rerun_takes_over_at_once_from_a_sender_that_was_just_killed() {
    let room = room_for(3 * BYTES);
    let source = write_random(&room.path().join("source.bin"), BYTES, 1);
    let cut = Cut { room, source };
    let mut receiver = Receiver::start(&cut.dir(), &[]);
    let sender = Program::start(&mut receiver.sender(&[&cut.source], &["--rate", "2G"]));
    receiver.wait_for_written(BYTES / 2);
    sender.signal(Signal::KILL);
    sender.wait();
    let report = report_of(&receiver.send(&[&cut.source], &[]).expect_code(0));
    assert_eq!(receiver.next_report()["result"], "unreachable", "the killed one");
    assert!(same_bytes(&cut.source, &cut.copy()));
    assert_eq!(names(&cut.dir()), ["source.bin"]);
    let kept = report["resumed_bytes"].as_u64().unwrap();
    assert!(kept >= BYTES / 2 - 24 * MEBIBYTE, "{kept} bytes kept");
}

//= proto.md#handshake
//= type=test
//# So a WELCOME
//# to such a HELLO says that the receiver was restarted, or has given the transfer up: the sender
//# ends the transfer without CLOSE and SHOULD begin a new one with all its entries.
#[test]
fn a_receiver_that_is_restarted_is_picked_up_by_the_sender() {
    let room = room_for(3 * BYTES);
    let first = write_random(&room.path().join("a.bin"), 3 * MEBIBYTE, 2);
    let source = write_random(&room.path().join("b.bin"), BYTES, 3);
    let dir = room.path().join("to");
    let receiver = Receiver::start(&dir, &[]);
    let port = receiver.port;
    let mut sender = Program::start(&mut receiver.sender(&[&first, &source], &["--rate", "2G"]));
    receiver.wait_for_written(BYTES / 2);
    receiver.program.signal(Signal::KILL);
    receiver.program.wait();
    let receiver = Receiver::start_on(port, &dir, &["--once"]);
    sender.stderr_line("the receiver was restarted: going on with what it does not have");
    let report = report_of(&sender.wait().expect_code(0));
    let received = report_of(&receiver.program.wait().expect_code(0));
    assert_eq!(report["files"], 2, "both were sent by this run");
    assert_eq!(report["bytes"], BYTES + 3 * MEBIBYTE);
    assert_eq!((&report["already_there"], &report["resumed_bytes"]), (&0.into(), &0.into()));
    assert_eq!((&received["files"], &received["already_there"]), (&1.into(), &1.into()));
    let kept = received["resumed_bytes"].as_u64().unwrap();
    assert!(kept >= BYTES / 2 - 24 * MEBIBYTE, "{kept} bytes kept");
    assert_eq!(names(&dir), ["a.bin", "b.bin"]);
    assert!(same_bytes(&source, &dir.join("b.bin")));
}

/// Bytes that the calls on `file` in a trace returned, reads or writes as `call` names them.
fn traced_bytes(trace: &Path, call: &str, file: &str) -> u64 {
    let text = fs::read_to_string(trace).unwrap();
    let calls = text.lines().filter(|line| line.contains(call) && line.contains(file));
    calls.filter_map(|line| line.rsplit(" = ").next()?.trim().parse::<u64>().ok()).sum()
}

#[test]
fn system_calls_show_that_nothing_is_read_twice() {
    if !is_installed("strace") {
        return skip("needs the program strace");
    }
    let cut = Cut::half_of(128 * MEBIBYTE, End::Sender(Signal::KILL));
    let [read, written] = ["read", "written"].map(|name| cut.room.path().join(name));
    let strace = |trace: &Path| {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-y", "-e", "trace=pread64,preadv,preadv2,read,readv", "-o"])
            .arg(trace);
        command.arg(env!("CARGO_BIN_EXE_ufx"));
        command
    };
    let mut recv = strace(&written);
    recv.args(["recv", "--json", "--once", "--port", "0", "--dir"]).arg(cut.dir());
    let receiver = Receiver::listening(Program::start(&mut recv));
    // What is not in memory is brought there by a read of its own.
    fs::read(&cut.source).unwrap();
    let mut send = strace(&read);
    send.args(send_words(&[&cut.source], &[], "127.0.0.1", receiver.port));
    let report = report_of(&Program::start(&mut send).wait().expect_code(0));
    receiver.program.wait().expect_code(0);
    assert!(same_bytes(&cut.source, &cut.copy()));
    let kept = report["resumed_bytes"].as_u64().unwrap();
    assert!(kept > 32 * MEBIBYTE, "{kept}");
    let bytes_read = traced_bytes(&read, "pread", "source.bin");
    assert_eq!(bytes_read, sent(&report), "what is read is sent, and nothing else is read");
    assert_eq!(traced_bytes(&written, "read", ".part"), 0, "no block is read back");
}

#[test]
fn a_full_disk_keeps_what_is_verified() {
    if !is_root_with(&["mount"]) {
        return;
    }
    let room = room();
    let source = write_random(&room.path().join("source.bin"), 100 * MEBIBYTE, 5);
    let dir = room.path().join("to");
    fs::create_dir(&dir).unwrap();
    let mount = Mount::new("-t tmpfs -o size=300m none", &dir);
    let receiver = Receiver::start(&dir, &["--once"]);
    let sender = Program::start(&mut receiver.sender(&[&source], &["--rate", "400M"]));
    receiver.wait_for_written(30 * MEBIBYTE);
    // Somebody else takes the rest of the disk.
    let filler = dir.join("filler");
    let full = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", &format!("of={}", filler.display())])
        .output()
        .unwrap();
    assert!(!full.status.success());
    let sender = sender.wait();
    assert_eq!(sender.code, Some(6), "{sender:?}");
    receiver.program.wait();
    fs::remove_file(&filler).unwrap();
    let reports = transfer(&[&source], &dir, &[], &[]);
    let kept = resumed(&reports);
    assert!(kept >= 20 * MEBIBYTE, "{kept}");
    assert!(same_bytes(&source, &dir.join("source.bin")));
    assert_eq!(names(&dir), ["source.bin"]);
    drop(mount);
}

#[test]
fn a_lost_network_costs_only_what_was_under_way() {
    let room = room_for(3 * BYTES);
    let source = write_random(&room.path().join("source.bin"), BYTES, 1);
    let cut = Cut { room, source };
    let receiver = Receiver::start(&cut.dir(), &["--once", "--timeout", "3s"]);
    let options = ["--rate", "2G", "--timeout", "3s"];
    let sender = Program::start(&mut receiver.sender(&[&cut.source], &options));
    receiver.wait_for_written(BYTES / 2);
    // Each end alone sees silence, as of a network that is gone.
    sender.signal(Signal::STOP);
    receiver.program.wait().expect_code(3);
    sender.signal(Signal::CONT);
    sender.wait().expect_code(3);
    wait_until("both are gone", || true);
    let kept = resumed(&cut.rerun());
    assert!(kept >= BYTES / 2 - 24 * MEBIBYTE, "{kept} bytes kept");
}
