//! Transfers that are cut: killed processes, signals, a peer that is not there. Whoever is left
//! says so in time, and nothing half-written stays.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::content::{names, room, same_bytes, write_random};
use crate::support::process::Program;
use crate::support::report::report_of;
use crate::support::transfer::{Receiver, both_succeed, send_command, transfer};

/// A peer that was killed is noticed within 10 s where the kernel refuses its packets, and
/// within 20 s of silence anyway; the rest is for a machine that is busy with other tests.
const REFUSED: Duration = Duration::from_secs(10 + 2);
const SILENT: Duration = Duration::from_secs(20 + 2);

/// A transfer of many seconds, if nobody ends it.
struct UnderWay {
    room: TempDir,
    source: PathBuf,
    sender: Program,
    receiver: Receiver,
}

impl UnderWay {
    /// Starts one, and waits until file bytes have been written.
    fn start(recv_options: &[&str]) -> UnderWay {
        UnderWay::start_with(100 << 20, recv_options)
    }

    fn start_with(bytes: u64, recv_options: &[&str]) -> UnderWay {
        let room = room();
        let source = write_random(&room.path().join("source.bin"), bytes, 1);
        let dir = room.path().join("to");
        let receiver = Receiver::start(&dir, recv_options);
        let sender = Program::start(&mut receiver.sender(&[&source], &["--rate", "28M"]));
        // At least a block of it is verified.
        receiver.wait_for_written(3_000_000);
        UnderWay { room, source, sender, receiver }
    }

    fn dir(&self) -> PathBuf {
        self.room.path().join("to")
    }
}

/// Asserts that one unfinished file and its journal are there, and nothing under a final name.
#[track_caller]
fn assert_kept(dir: &Path) {
    let names = names(dir);
    let suffixes: Vec<_> = names.iter().map(|name| name.rsplit('.').next().unwrap()).collect();
    assert_eq!(suffixes, ["journal", "part"], "{names:?}");
}

#[test]
fn a_sender_notices_that_its_receiver_was_killed_and_a_rerun_completes() {
    let transfer_cut = UnderWay::start(&[]);
    transfer_cut.receiver.program.signal(Signal::KILL);
    let killed = Instant::now();
    let dir = transfer_cut.dir();
    let UnderWay { room: _room, source, sender, receiver } = transfer_cut;
    assert_eq!(receiver.program.wait().signal, Some(Signal::KILL.as_raw()));
    let sender = sender.wait_for(REFUSED).expect_code(3);
    assert!(killed.elapsed() < REFUSED);
    let report = report_of(&sender);
    assert_eq!(report["files"], 0);
    assert!(report["error"].as_str().unwrap().contains("was lost"), "{report}");
    assert!(report["seconds"].as_f64().unwrap() > 0.0, "{report}");
    assert!(!dir.join("source.bin").exists(), "nothing half-written under a final name");

    transfer(&[&source], &dir, &[], &[]);
    assert!(same_bytes(&source, &dir.join("source.bin")));
    assert_eq!(names(&dir), ["source.bin"], "the rerun took over what was unfinished");
}

#[test]
fn a_receiver_notices_that_its_sender_was_killed_and_keeps_what_is_verified() {
    let transfer_cut = UnderWay::start(&["--once"]);
    transfer_cut.sender.signal(Signal::KILL);
    let dir = transfer_cut.dir();
    let UnderWay { room: _room, sender, receiver, .. } = transfer_cut;
    assert_eq!(sender.wait().signal, Some(Signal::KILL.as_raw()));
    let receiver = receiver.program.wait_for(SILENT).expect_code(3);
    let report = report_of(&receiver);
    assert!(report["error"].as_str().unwrap().contains("was lost"), "{report}");
    assert_kept(&dir);
}

#[test]
fn a_rerun_takes_over_from_a_sender_that_was_killed_a_moment_ago() {
    let transfer_cut = UnderWay::start(&[]);
    transfer_cut.sender.signal(Signal::KILL);
    let dir = transfer_cut.dir();
    let UnderWay { room: _room, source, sender, receiver } = transfer_cut;
    assert_eq!(sender.wait().signal, Some(Signal::KILL.as_raw()));
    receiver.send(&[&source], &[]).expect_code(0);
    assert!(same_bytes(&source, &dir.join("source.bin")));
    assert_eq!(names(&dir), ["source.bin"]);
}

#[test]
fn a_signal_at_the_sender_ends_both_at_once() {
    for (signal, code, result) in
        [(Signal::INT, 130, "interrupted"), (Signal::TERM, 143, "terminated")]
    {
        let transfer_cut = UnderWay::start(&["--once"]);
        transfer_cut.sender.signal(signal);
        let dir = transfer_cut.dir();
        let UnderWay { room: _room, sender, receiver, .. } = transfer_cut;
        let sender = sender.wait_for(Duration::from_secs(5)).expect_code(code);
        assert_eq!(report_of(&sender)["result"], result);
        let receiver = receiver.program.wait_for(Duration::from_secs(5)).expect_code(3);
        let report = report_of(&receiver);
        assert!(report["error"].as_str().unwrap().contains("cancelled"), "{report}");
        assert_kept(&dir);
    }
}

#[test]
fn a_signal_at_the_receiver_ends_both_at_once() {
    for (signal, code, result) in
        [(Signal::INT, 130, "interrupted"), (Signal::TERM, 143, "terminated")]
    {
        let transfer_cut = UnderWay::start(&[]);
        transfer_cut.receiver.program.signal(signal);
        let dir = transfer_cut.dir();
        let UnderWay { room: _room, sender, receiver, .. } = transfer_cut;
        let receiver = receiver.program.wait_for(Duration::from_secs(5)).expect_code(code);
        assert_eq!(report_of(&receiver)["result"], result);
        let sender = sender.wait_for(Duration::from_secs(5)).expect_code(3);
        let report = report_of(&sender);
        assert!(report["error"].as_str().unwrap().contains("was stopped there"), "{report}");
        assert_kept(&dir);
    }
}

#[test]
fn an_idle_receiver_ends_well_on_a_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        let room = room();
        let receiver = Receiver::start(room.path(), &[]);
        receiver.program.signal(signal);
        let finished = receiver.program.wait_for(Duration::from_secs(5)).expect_code(0);
        assert_eq!(finished.stdout, "", "no transfer, no object");
    }
}

/// Which end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Sender,
    Receiver,
}

/// Stops one end for `span`. Returns the transfer's room, its source, and both ends.
fn stopped(side: Side, bytes: u64, span: Duration) -> UnderWay {
    let transfer_cut = UnderWay::start_with(bytes, &["--once"]);
    let program = match side {
        Side::Sender => &transfer_cut.sender,
        Side::Receiver => &transfer_cut.receiver.program,
    };
    program.signal(Signal::STOP);
    // The length of the pause is what is tested; whatever happens meanwhile, it must end well.
    std::thread::sleep(span);
    program.signal(Signal::CONT);
    transfer_cut
}

#[test]
fn an_end_that_is_stopped_for_seconds_goes_on() {
    // proto.md, "End": a peer is lost after 20 s of silence.
    let is_long = std::env::var_os("UFX_LONG").is_some();
    let span = Duration::from_secs(if is_long { 10 } else { 4 });
    for side in [Side::Sender, Side::Receiver] {
        let transfer_cut = stopped(side, 12 << 20, span);
        let dir = transfer_cut.dir();
        let UnderWay { room: _room, source, sender, receiver } = transfer_cut;
        both_succeed(sender, receiver);
        assert!(same_bytes(&source, &dir.join("source.bin")));
    }
}

#[test]
fn an_end_that_is_stopped_for_too_long_ends_cleanly_and_a_rerun_resumes() {
    if std::env::var_os("UFX_LONG").is_none() {
        return;
    }
    for side in [Side::Sender, Side::Receiver] {
        let transfer_cut = stopped(side, 60 << 20, Duration::from_secs(45));
        let dir = transfer_cut.dir();
        let UnderWay { room: _room, source, sender, receiver } = transfer_cut;
        for finished in [sender.wait(), receiver.program.wait()] {
            let report = report_of(&finished.expect_code(3));
            assert!(report["error"].as_str().unwrap().contains("was lost"), "{side:?}: {report}");
        }
        assert_kept(&dir);
        let reports = transfer(&[&source], &dir, &[], &[]);
        assert!(reports.sender["resumed_bytes"].as_u64().unwrap() > 0, "{side:?}");
        assert!(same_bytes(&source, &dir.join("source.bin")));
        assert_eq!(names(&dir), ["source.bin"]);
    }
}

#[test]
fn a_sender_waits_for_a_receiver_that_is_just_starting() {
    let room = room();
    let source = write_random(&room.path().join("source.bin"), 1_000_000, 2);
    let dir = room.path().join("to");
    // Whoever holds the port sees the first HELLO; the receiver then takes the port over.
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let sender = Program::start(&mut send_command(&[&source], &[], "127.0.0.1", port));
    holder.recv(&mut [0; 2_048]).unwrap();
    drop(holder);
    let receiver = Receiver::start_on(port, &dir, &["--once"]);
    both_succeed(sender, receiver);
    assert!(same_bytes(&source, &dir.join("source.bin")));
}

#[test]
fn a_host_without_a_receiver_is_given_up_in_time() {
    let room = room();
    let source = write_random(&room.path().join("source.bin"), 1_000, 3);
    // A port that is surely closed: held a moment ago, and freed.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sender = Program::start(&mut send_command(&[&source], &[], "127.0.0.1", port));
    let sender = sender.wait_for(Duration::from_secs(4)).expect_code(3);
    let error = report_of(&sender)["error"].as_str().unwrap().to_owned();
    let expected = format!(
        "127.0.0.1:{port}: nobody listens on port {port}/udp there (start \"ufx recv\" on it)"
    );
    assert_eq!(error, expected);
}

#[test]
fn a_host_that_never_answers_is_given_up_after_the_wait() {
    let room = room();
    let source = write_random(&room.path().join("source.bin"), 1_000, 4);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let options = ["--wait", "700ms"];
    let sender = Program::start(&mut send_command(&[&source], &options, "127.0.0.1", port));
    let sender = sender.wait_for(Duration::from_secs(4)).expect_code(3);
    let error = report_of(&sender)["error"].as_str().unwrap().to_owned();
    let expected = format!(
        "127.0.0.1:{port}: port {port}/udp did not answer within 700ms (is \"ufx recv\" running \
         there, and does a firewall let UDP through?)"
    );
    assert_eq!(error, expected);
}

#[test]
fn a_second_receiver_on_the_same_port_is_refused() {
    let room = room();
    let first = Receiver::start(room.path(), &[]);
    let port = first.port.to_string();
    let dir = room.path().to_str().unwrap();
    let mut command =
        crate::support::process::ufx(["recv", "--json", "--port", &port, "--dir", dir]);
    let second = Program::start(&mut command).wait_for(Duration::from_secs(5)).expect_code(1);
    let error = report_of(&second)["error"].as_str().unwrap().to_owned();
    assert_eq!(
        error,
        format!(
            "recv: another program has port {port}/udp (is \"ufx recv\" running already? else \
             choose another --port)"
        )
    );
}
