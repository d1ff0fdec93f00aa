//! Many at once: 32 senders into one receiver, and strangers that shout into the port.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::support::content::{Random, names, room_for, same_bytes, write_random};
use crate::support::process::Program;
use crate::support::report::report_of;
use crate::support::transfer::{Receiver, both_succeed};

const SENDERS: u64 = 32;

#[test]
fn a_receiver_serves_32_senders_at_the_same_time() {
    let bytes = 4_000_000;
    let room = room_for(2 * SENDERS * bytes);
    let dir = room.path().join("to");
    let mut receiver = Receiver::start(&dir, &["-v"]);
    let sources: Vec<PathBuf> = (0..SENDERS)
        .map(|seed| write_random(&room.path().join(format!("{seed}.bin")), bytes + seed, seed))
        .collect();
    // Slow enough that all of them are under way together.
    let senders: Vec<Program> = sources
        .iter()
        .map(|source| Program::start(&mut receiver.sender(&[source], &["--rate", "8M"])))
        .collect();
    for _ in &senders {
        receiver.program.stderr_line("begins to send");
    }
    for sender in senders {
        let sender = sender.wait().expect_code(0);
        assert_eq!(report_of(&sender)["files"], 1);
    }
    let mut committed: Vec<u64> = (0..SENDERS)
        .map(|_| {
            let report = receiver.next_report();
            assert_eq!(report["result"], "committed");
            report["bytes"].as_u64().unwrap()
        })
        .collect();
    committed.sort_unstable();
    assert_eq!(committed, (0..SENDERS).map(|seed| bytes + seed).collect::<Vec<u64>>());
    for source in &sources {
        assert!(same_bytes(source, &dir.join(source.file_name().unwrap())));
    }
    assert_eq!(names(&dir).len(), SENDERS as usize);
    receiver.program.signal(Signal::TERM);
    let peak_bytes = receiver.program.wait().expect_code(0).peak_bytes;
    assert!(peak_bytes < (64 + 8 * SENDERS) << 20, "the receiver held {peak_bytes} bytes");
}

#[test]
fn a_tree_of_small_files_needs_few_descriptors() {
    let room = room_for(0);
    let source = room.path().join("tree");
    for directory in 0..150 {
        let directory = source.join(directory.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        for file in 0..10 {
            write_random(&directory.join(file.to_string()), 2_000 + file, file);
        }
    }
    let dir = room.path().join("to");
    let mut command = Command::new("sh");
    let listen = "ulimit -n 48; exec \"$0\" recv --once --json --port 0 --dir \"$1\"";
    command.args(["-c", listen, env!("CARGO_BIN_EXE_ufx")]).arg(&dir);
    let receiver = Receiver::listening(Program::start(&mut command));
    let sender = Program::start(&mut receiver.sender(&[&source], &[]));
    let reports = both_succeed(sender, receiver);
    assert_eq!(reports.receiver["files"], 1_500);
    assert!(same_bytes(&source.join("149/9"), &dir.join("tree/149/9")));
}

#[test]
fn a_file_is_received_by_one_transfer_at_a_time() {
    let room = room_for(0);
    let source = write_random(&room.path().join("a.bin"), 40_000_000, 40);
    let dir = room.path().join("to");
    let mut receiver = Receiver::start(&dir, &["-v"]);
    let first = Program::start(&mut receiver.sender(&[&source], &["--rate", "20M"]));
    receiver.program.stderr_line("begins to send");
    crate::support::process::wait_until("the first writes", || !names(&dir).is_empty());
    let second = receiver.send(&[&source], &[]).expect_code(6);
    let failed = report_of(&second)["failed"].to_string();
    assert!(failed.contains("already being received"), "{failed}");
    // The first is not disturbed; it need not be waited for.
    first.signal(Signal::INT);
    first.wait().expect_code(130);
    let mut exits = [(); 2].map(|()| receiver.next_report()["exit"].as_u64());
    exits.sort_unstable();
    assert_eq!(exits, [Some(3), Some(5)]);
    assert!(!dir.join("a.bin").exists());
}

/// Sends what no peer would: random bytes, and packets that begin like real ones.
fn shout(port: u16, datagrams: u64, seed: u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    let mut random = Random::new(seed);
    let mut noise = random.bytes(65_536);
    for number in 0..datagrams {
        let bytes = random.below(1_473) as usize;
        let at = random.below(60_000) as usize;
        // Every other one has a valid type (proto.md, "Frames"), and some a valid magic.
        if number % 2 == 0 {
            noise[at] = 1 + random.below(7) as u8;
            noise[at + 1] = 0;
            noise[at + 14..at + 18].copy_from_slice(b"ufx\0");
        }
        // A full queue refuses some; what counts is what was offered.
        let _ = socket.send(&noise[at..at + bytes]);
    }
}

#[test]
fn a_million_garbage_datagrams_disturb_no_transfer() {
    let bytes = 40_000_000;
    let room = room_for(2 * bytes);
    let source = write_random(&room.path().join("a.bin"), bytes, 41);
    let dir = room.path().join("to");
    let mut receiver = Receiver::start(&dir, &["--once", "-v"]);
    let port = receiver.port;
    // Garbage comes before the transfer, too, and does not use up --once.
    shout(port, 1_000, 42);
    let sender = Program::start(&mut receiver.sender(&[&source], &["--rate", "80M"]));
    receiver.program.stderr_line("begins to send");
    std::thread::scope(|scope| {
        for seed in 0..2 {
            scope.spawn(move || shout(port, 500_000, 43 + seed));
        }
    });
    let reports = both_succeed(sender, receiver);
    assert!(same_bytes(&source, &dir.join("a.bin")));
    assert_eq!(names(&dir), ["a.bin"]);
    assert_eq!(reports.receiver["files"], 1);
}
