//! Standard input and output instead of files: `ufx send -` and `ufx recv --output -`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::content::{alone, names, room, room_for, same_bytes, write_random};
use crate::support::process::{Program, peak_bytes, ufx, wait_until};
use crate::support::report::report_of;
use crate::support::root::{is_installed, skip};
use crate::support::transfer::{Receiver, send_words};

const MIB: u64 = 1 << 20;

/// `ufx recv --output -` that hands on to `output`.
fn recv_to(output: impl Into<Stdio>, options: &[&str]) -> Receiver {
    let words = [&["recv", "--port", "0", "--output", "-"], options].concat();
    Receiver::listening(Program::start_between(Stdio::null(), output, &mut ufx(words)))
}

/// `ufx send -` of `input`.
fn send_from(input: impl Into<Stdio>, port: u16, options: &[&str]) -> Program {
    let mut command = ufx(send_words(&["-"], options, "127.0.0.1", port));
    Program::start_between(input, Stdio::piped(), &mut command)
}

fn open(path: &Path) -> File {
    File::open(path).unwrap()
}

#[test]
fn from_a_file_or_standard_input_into_a_file_or_standard_output() {
    let room = room();
    let path = |name: &str| room.path().join(name);
    for bytes in [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 9 * MIB + 5] {
        for digest in ["xxh3", "blake3", "none"] {
            let source = write_random(&path("source"), bytes, bytes);
            let options = ["--digest", digest];

            let receiver = Receiver::start(&path("to"), &["--once"]);
            let named = [&options[..], &["--name", "piped"]].concat();
            let sender = send_from(open(&source), receiver.port, &named).wait().expect_code(0);
            receiver.program.wait().expect_code(0);
            assert!(same_bytes(&source, &path("to").join("piped")), "{bytes} bytes from stdin");
            assert_eq!(names(&path("to")), ["piped"]);
            fs::remove_file(path("to").join("piped")).unwrap();
            if digest == "blake3" {
                let expected = blake3::hash(&fs::read(&source).unwrap()).to_hex();
                assert_eq!(report_of(&sender)["digest"].as_str(), Some(expected.as_str()));
            }

            let receiver = recv_to(File::create(path("out")).unwrap(), &[]);
            receiver.send(&[&source], &options).expect_code(0);
            receiver.program.wait().expect_code(0);
            assert!(same_bytes(&source, &path("out")), "{bytes} bytes to stdout");

            let receiver = recv_to(File::create(path("out")).unwrap(), &[]);
            send_from(open(&source), receiver.port, &options).wait().expect_code(0);
            receiver.program.wait().expect_code(0);
            assert!(same_bytes(&source, &path("out")), "{bytes} bytes from stdin to stdout");
        }
    }
}

#[test]
fn a_tree_goes_through_tar_at_both_ends() {
    if !is_installed("tar") {
        return skip("needs the program tar");
    }
    let room = room();
    let tree = room.path().join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    write_random(&tree.join("a"), 3 * MIB, 1);
    write_random(&tree.join("sub/b"), 10, 2);
    fs::create_dir(room.path().join("to")).unwrap();
    let mut unpack = Command::new("tar");
    let unpack = unpack.args(["x", "-C"]).arg(room.path().join("to"));
    let mut unpacking = unpack.stdin(Stdio::piped()).spawn().unwrap();
    let receiver = recv_to(unpacking.stdin.take().unwrap(), &[]);
    let mut pack = Command::new("tar");
    let pack = pack.args(["c", "-C"]).arg(room.path()).arg("tree").stdout(Stdio::piped());
    let mut packing = pack.spawn().unwrap();
    let sender = send_from(packing.stdout.take().unwrap(), receiver.port, &[]);
    sender.wait().expect_code(0);
    receiver.program.wait().expect_code(0);
    assert!(packing.wait().unwrap().success() && unpacking.wait().unwrap().success());
    for name in ["a", "sub/b"] {
        assert!(same_bytes(&tree.join(name), &room.path().join("to/tree").join(name)), "{name}");
    }
}

#[test]
fn holes_go_to_standard_output_as_zeros() {
    let room = room();
    let source = room.path().join("sparse");
    let file = File::create(&source).unwrap();
    file.set_len(12 * MIB + 17).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 5 * MIB + 3).unwrap();
    let out = room.path().join("out");
    let receiver = recv_to(File::create(&out).unwrap(), &[]);
    receiver.send(&[&source], &[]).expect_code(0);
    receiver.program.wait().expect_code(0);
    assert!(same_bytes(&source, &out));
}

/// What neither end may hold: the window of body in order, and the buffers of what waits.
const RESIDENT_BYTES_MAX: u64 = 112 << 20;

#[test]
fn a_reader_that_takes_nothing_holds_the_sender_and_no_memory() {
    let _alone = alone();
    let room = room_for(200 * MIB);
    let source = write_random(&room.path().join("source"), 200 * MIB, 7);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let receiver = recv_to(writer, &[]);
    let sender = send_from(open(&source), receiver.port, &[]);
    // It reads on until all that may be held is held.
    let read = || {
        let counters = fs::read_to_string(format!("/proc/{}/io", sender.id())).unwrap();
        let line = counters.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    wait_until("the sender reads ahead", || read() > 70 * MIB);
    assert!(read() < 150 * MIB, "more was read than may be held");
    let mut handed_on = vec![0; 1 << 20];
    let mut expected = vec![0; 1 << 20];
    let mut file = open(&source);
    for _ in 0..200 {
        reader.read_exact(&mut handed_on).unwrap();
        file.read_exact(&mut expected).unwrap();
        assert!(handed_on == expected);
    }
    let peaks = [sender.id(), receiver.program.id()].map(|id| peak_bytes(id).unwrap_or(0));
    sender.wait().expect_code(0);
    receiver.program.wait().expect_code(0);
    assert!(peaks.iter().all(|&peak| peak < RESIDENT_BYTES_MAX), "{peaks:?}");
    assert_eq!(reader.read(&mut handed_on).unwrap(), 0);
}

#[test]
fn a_reader_that_goes_away_is_told_of_at_both_ends() {
    let room = room();
    let source = write_random(&room.path().join("source"), 20 * MIB, 3);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let receiver = recv_to(writer, &[]);
    let sender = send_from(open(&source), receiver.port, &[]).wait().expect_code(6);
    let receiver = receiver.program.wait().expect_code(5);
    let reason = "cannot write to standard output: Broken pipe";
    assert!(receiver.stderr.contains(reason), "{}", receiver.stderr);
    assert!(sender.stderr.contains(reason), "{}", sender.stderr);
}

#[test]
fn only_one_file_goes_to_standard_output_and_the_others_are_named() {
    let room = room();
    let one = write_random(&room.path().join("one"), 2 * MIB, 1);
    let other = write_random(&room.path().join("other"), 3 * MIB, 2);
    let out = room.path().join("out");
    let receiver = recv_to(File::create(&out).unwrap(), &[]);
    let sender = receiver.send(&[&one, &other], &[]).expect_code(7);
    receiver.program.wait().expect_code(7);
    assert!(same_bytes(&one, &out));
    assert!(sender.stderr.contains("other: only one file goes to standard output"));
}

#[test]
fn input_that_breaks_off_leaves_nothing_under_its_name() {
    if !is_installed("strace") {
        return skip("needs the program strace");
    }
    for (good_reads, stays) in [(0, 5), (3, 5)] {
        let room = room();
        let source = write_random(&room.path().join("source"), 8 * MIB, 4);
        let dir = room.path().join("to");
        let receiver = Receiver::start(&dir, &["--once"]);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=read", "-P"]).arg(&source);
        command.arg("-e").arg(format!("inject=read:error=EIO:when={}+", good_reads + 1));
        command.arg(env!("CARGO_BIN_EXE_ufx"));
        command.args(send_words(&["-"], &["--name", "in"], "127.0.0.1", receiver.port));
        let sender = Program::start_between(open(&source), Stdio::piped(), &mut command);
        let sender = sender.wait().expect_code(stays);
        assert!(sender.stderr.contains("Input/output error"), "{}", sender.stderr);
        let receiver = receiver.program.wait();
        assert!([Some(0), Some(6)].contains(&receiver.code), "{receiver:?}");
        assert_eq!(names(&dir), [""; 0]);
    }
}

#[test]
fn whatever_cuts_a_pipe_leaves_nothing_behind() {
    let room = room();
    let to = room.path().join("to");
    let cut = |signal: Signal, is_sender: bool| -> Vec<String> {
        let receiver = Receiver::start(&to, &["--once", "--timeout", "2s"]);
        let (input, mut output) = std::io::pipe().unwrap();
        let sender = send_from(input, receiver.port, &["--timeout", "2s"]);
        let written = std::thread::spawn(move || while output.write_all(&[7; 1 << 16]).is_ok() {});
        receiver.wait_for_written(3 * MIB);
        let victim = if is_sender { &sender } else { &receiver.program };
        victim.signal(signal);
        assert_ne!(sender.wait().code, Some(0));
        receiver.program.wait();
        written.join().unwrap();
        names(&to)
    };
    for signal in [Signal::KILL, Signal::INT] {
        assert_eq!(cut(signal, true), [""; 0], "{signal:?} of the sender");
        assert_eq!(cut(signal, false), [""; 0], "{signal:?} of the receiver");
    }
}

#[test]
fn a_pipe_under_a_name_that_is_taken_is_refused_and_not_read_on() {
    let room = room();
    let to: PathBuf = room.path().join("to");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("stdin"), "mine").unwrap();
    let receiver = Receiver::start(&to, &["--once"]);
    let (input, mut output) = std::io::pipe().unwrap();
    let sender = send_from(input, receiver.port, &[]);
    // Whoever writes learns that nobody reads any more.
    while output.write_all(&[7; 1 << 16]).is_ok() {}
    sender.wait().expect_code(6);
    receiver.program.wait().expect_code(5);
    assert_eq!(fs::read(to.join("stdin")).unwrap(), b"mine");
}
