//! A disk that hangs holds up what is to be written to it, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::support::content::{names, room, room_for, same_bytes, write_random};
use crate::support::disk::{DISK_TOOLS, Disk};
use crate::support::process::{Program, resident_bytes, wait_until};
use crate::support::root::{is_installed, is_root_with, skip};
use crate::support::transfer::{Receiver, both_succeed, send_words};

/// Waits until a thread of the process hangs in the kernel.
fn wait_for_hanging(process: u32) {
    let hangs = |task: &Path| {
        let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D'))
    };
    wait_until("a thread hangs", || {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        tasks.flatten().any(|task| hangs(&task.path()))
    });
}

/// Whether a transfer's thread is still there.
fn has_writing_thread(process: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
    tasks.flatten().any(|task| name(task).is_ok_and(|name| name == "write\n"))
}

#[test]
fn a_source_that_hangs_is_no_silence() {
    if !is_installed("strace") {
        return skip("needs the program strace");
    }
    let room = room();
    let source = write_random(&room.path().join("a.bin"), 3_000_000, 83);
    let dir = room.path().join("to");
    let receiver = Receiver::start(&dir, &["--once", "--timeout", "4s"]);
    // Nothing is in memory, and the first read of the disk takes longer than the receiver waits.
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=preadv2,pread64"]);
    command.args(["-e", "inject=preadv2:error=EAGAIN"]);
    command.args(["-e", "inject=pread64:delay_enter=6000000:when=1"]);
    command.arg(env!("CARGO_BIN_EXE_ufx"));
    command.args(send_words(&[&source], &[], "127.0.0.1", receiver.port));
    let reports = both_succeed(Program::start(&mut command), receiver);
    assert!(same_bytes(&source, &dir.join("a.bin")));
    assert!(reports.sender["seconds"].as_f64().unwrap() > 6.0);
}

#[test]
fn a_disk_that_hangs_keeps_neither_other_transfers_nor_the_end() {
    if !is_root_with(&DISK_TOOLS) {
        return;
    }
    let bytes = 8_000_000;
    let room = room_for(20 * bytes);
    let dir = room.path().join("to");
    fs::create_dir(&dir).unwrap();
    let from = room.path().join("slow");
    fs::create_dir(&from).unwrap();
    write_random(&from.join("a.bin"), bytes, 81);
    let other = write_random(&room.path().join("b.bin"), bytes, 82);
    let disk = Disk::new(&dir.join("slow"), 64 << 20);
    let mut receiver = Receiver::start(&dir, &["-v"]);

    // A transfer is given up while its thread hangs: another one begins and ends meanwhile.
    let frozen = disk.freeze();
    let sender = Program::start(&mut receiver.sender(&[&from], &[]));
    wait_for_hanging(receiver.program.id());
    sender.signal(Signal::INT);
    sender.wait().expect_code(130);
    receiver.send(&[&other], &[]).expect_code(0);
    assert!(same_bytes(&other, &dir.join("b.bin")));
    let mut results = [(); 2].map(|()| receiver.next_report()["result"].to_string());
    results.sort();
    assert_eq!(results, ["\"committed\"", "\"unreachable\""]);
    drop(frozen);
    wait_until("the writing thread ends", || !has_writing_thread(receiver.program.id()));
    assert!(names(&dir.join("slow")).iter().all(|name| !name.starts_with(".ufx")));

    // Nor does a thread that hangs keep the receiver from saying how it ended.
    let frozen = disk.freeze();
    let sender = Program::start(&mut receiver.sender(&[&from], &[]));
    wait_for_hanging(receiver.program.id());
    receiver.program.signal(Signal::TERM);
    assert_eq!(receiver.next_report()["exit"], 143);
    sender.wait().expect_code(3);
    // The kernel ends the process when the thread can be ended.
    drop(frozen);
    receiver.program.wait().expect_code(143);
}

#[test]
fn what_a_disk_that_hung_made_a_receiver_hold_is_given_back() {
    if !is_root_with(&DISK_TOOLS) {
        return;
    }
    let bytes = 12_000_000;
    let room = room_for(20 * bytes);
    let dir = room.path().join("to");
    fs::create_dir(&dir).unwrap();
    let sources: Vec<PathBuf> = (0..3)
        .map(|number| {
            let from = room.path().join(format!("from{number}")).join("slow");
            fs::create_dir_all(&from).unwrap();
            write_random(&from.join(format!("{number}.bin")), bytes, 84 + number);
            from
        })
        .collect();
    let disk = Disk::new(&dir.join("slow"), 128 << 20);
    let receiver = Receiver::start(&dir, &["-v"]);
    let process = receiver.program.id();
    let idle = resident_bytes(process);

    // Their own buffers, and those that all share.
    let frozen = disk.freeze();
    let senders: Vec<Program> = sources
        .iter()
        .map(|from| Program::start(&mut receiver.sender(&[from], &["--timeout", "60s"])))
        .collect();
    wait_until("buffers are filled", || resident_bytes(process) > idle + (28 << 20));
    drop(frozen);
    senders.into_iter().for_each(|sender| drop(sender.wait().expect_code(0)));
    wait_until("their memory is given back", || resident_bytes(process) < idle + (4 << 20));
}
