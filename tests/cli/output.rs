//! What people read at the end: one line for success, names and an error for failure, and
//! nothing that a program would have to take apart. Reports are checked wherever they occur.

use rustix::process::Signal;

use crate::support::content::{room, write_random};
use crate::support::process::{Program, ufx};
use crate::support::transfer::{Receiver, transfer};

/// Asserts that `line` is made of `parts` in this order, with a number of any unit between.
#[track_caller]
fn assert_line(line: &str, parts: &[&str]) {
    let mut rest = line;
    for part in parts {
        let found = rest.find(part).unwrap_or_else(|| panic!("{part:?} is not in {line:?}"));
        let between = &rest[..found];
        let is_number = |letter: char| letter.is_ascii_alphanumeric() || " .<%/:".contains(letter);
        assert!(between.chars().all(is_number), "{between:?} before {part:?} in {line:?}");
        rest = &rest[found + part.len()..];
    }
}

#[test]
fn a_transfer_ends_with_one_line_at_each_end() {
    let room = room();
    let source = write_random(&room.path().join("a.bin"), 5_000_000, 1);
    let dir = room.path().join("to");
    let dir = dir.to_str().unwrap();
    let mut command = ufx(["recv", "--once", "--port", "0", "--dir", dir]);
    let receiver = Receiver::listening(Program::start(&mut command));
    let port = receiver.port.to_string();
    let words = ["send", "--port", &port, source.to_str().unwrap(), "127.0.0.1"];
    let sender = Program::start(&mut ufx(words)).wait().expect_code(0);
    let receiver = receiver.program.wait().expect_code(0);

    assert_eq!((sender.stdout.as_str(), receiver.stdout.as_str()), ("", ""));
    assert_eq!(sender.stderr.lines().count(), 1, "{}", sender.stderr);
    let rate = "bit/s)";
    assert_line(
        &sender.stderr,
        &[
            "sent 1 file, 5 MB in ",
            " (",
            rate,
            ", ",
            " resent, overhead ",
            " headers + ",
            " ACKs, limited by ",
        ],
    );
    let lines: Vec<&str> = receiver.stderr.lines().collect();
    let listening = format!("receiving into {dir} on port {port}/udp, open to local networks");
    assert_eq!(lines[0], listening);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_line(
        lines[1],
        &[
            "received 1 file, 5 MB from 127.0.0.1:",
            " in ",
            " (",
            rate,
            ", ",
            " resent, overhead ",
            " headers + ",
            " ACKs, limited by ",
        ],
    );
}

#[test]
fn quiet_ends_say_nothing_and_verbose_ones_say_more() {
    let room = room();
    let source = write_random(&room.path().join("a.bin"), 5_000, 2);
    let dir = room.path().join("to");
    // A quiet receiver does not say its port: one that was just free will do.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let path = dir.to_str().unwrap();
    let receiver =
        Program::start(&mut ufx(["recv", "-q", "--once", "--port", &port, "--dir", path]));
    let words = ["send", "-q", "--port", &port, source.to_str().unwrap(), "127.0.0.1"];
    let sender = Program::start(&mut ufx(words)).wait().expect_code(0);
    let receiver = receiver.wait().expect_code(0);
    for finished in [&sender, &receiver] {
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", ""));
    }

    let receiver = Receiver::start(&dir, &["-v"]);
    let words = ["send", "-v", "--port", &receiver.port.to_string()].map(str::to_owned);
    let operands = [source.to_str().unwrap().to_owned(), "127.0.0.1".to_owned()];
    let sender = Program::start(&mut ufx(words.iter().chain(&operands))).wait().expect_code(0);
    assert!(sender.stderr.contains("1 already there"), "{}", sender.stderr);
    receiver.program.signal(Signal::INT);
    let receiver = receiver.program.wait().expect_code(0);
    assert!(receiver.stderr.contains("the kernel granted"), "{}", receiver.stderr);
    assert!(receiver.stderr.contains("begins to send"), "{}", receiver.stderr);
}

#[test]
fn a_failure_names_the_files_and_ends_with_the_error() {
    let room = room();
    let source = write_random(&room.path().join("red \u{1b}[31m.bin"), 5_000, 3);
    let dir = room.path().join("to");
    transfer(&[&source], &dir, &[], &[]);
    write_random(&source, 6_000, 4);
    let receiver = Receiver::start(&dir, &[]);
    let words = ["send", "--port", &receiver.port.to_string()].map(str::to_owned);
    let operands = [source.to_str().unwrap().to_owned(), "127.0.0.1".to_owned()];
    let sender = Program::start(&mut ufx(words.iter().chain(&operands))).wait().expect_code(6);
    assert_eq!(sender.stdout, "");
    let lines: Vec<&str> = sender.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with(r"ufx: red \x1b[31m.bin: "), "{lines:?}");
    assert_eq!(lines[1], "ufx: send: the receiver stored nothing (the reasons are named above)");
    assert!(!sender.stderr.contains('\u{1b}'), "no escape code reaches the terminal");
}
