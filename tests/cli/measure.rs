//! `ufx bench HOST`: measures a real path, leaves nothing at the receiver.

use std::net::{TcpListener, TcpStream};
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::content::{names, room, write_random};
use crate::support::process::{Finished, Program, ufx};
use crate::support::root::Pair;
use crate::support::transfer::Receiver;

/// `ufx bench` to a receiver over loopback.
#[track_caller]
fn bench(port: u16, options: &[&str]) -> Finished {
    let port = port.to_string();
    let words = [&["bench", "127.0.0.1", "--port", &port, "--runs", "2"], options].concat();
    Program::start(&mut ufx(words)).wait()
}

//= proto.md#handshake
//= type=test
//# DISCARD measures the path: all is sent, acknowledged and answered as without it, but the
//# receiver stores nothing, looks at no file, and COMMITTED says only that an entry's
//# bytes have arrived.
#[test]
fn ufx_and_tcp_are_measured_and_nothing_is_stored_or_used_up() {
    let room = room();
    let dir = room.path().join("to");
    let mut receiver = Receiver::start(&dir, &["--once"]);
    assert!(TcpStream::connect(("127.0.0.1", receiver.port)).is_err(), "nobody measures yet");

    let ended = bench(receiver.port, &["--size", "3M", "--json"]).expect_code(0);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let [ours, theirs] = report["contestants"].as_array().unwrap().as_slice() else {
        panic!("{report}");
    };
    assert_eq!((&ours["contestant"], &report["no_tcp"]), (&"ufx".into(), &Value::Null));
    assert!(theirs["contestant"].as_str().unwrap().starts_with("TCP "), "{report}");
    for cell in [ours, theirs] {
        assert!(cell["goodput"]["median"].as_f64().unwrap() > 0.0, "{report}");
        let resent = cell["resent_share"].as_f64().unwrap();
        assert!((0.0..0.5).contains(&resent), "{report}");
    }
    assert_eq!(report["file_bytes"], 3_000_000);
    assert!(report["limited_by"].is_string(), "{report}");
    for _ in 0..2 {
        let measured = receiver.next_report();
        assert_eq!(
            (&measured["result"], &measured["bytes"]),
            (&"measured".into(), &3_000_000.into())
        );
    }
    assert_eq!(names(&dir), [""; 0]);

    // The one transfer that the receiver was started for is still to come.
    let source = write_random(&room.path().join("a.bin"), 1_000, 1);
    receiver.send(&[&source], &[]).expect_code(0);
    let ended = receiver.program.wait().expect_code(0);
    assert!(ended.stderr.contains("measured for 127.0.0.1:"), "{}", ended.stderr);
    assert!(ended.stderr.contains(": 3 MB dropped in "), "{}", ended.stderr);
    assert_eq!(names(&dir), ["a.bin"]);
}

#[test]
fn ctrl_c_ends_it_and_the_receiver_goes_on() {
    let room = room();
    let dir = room.path().join("to");
    let mut receiver = Receiver::start(&dir, &["--once"]);
    let port = receiver.port.to_string();
    let words = ["bench", "127.0.0.1", "--port", &port, "--runs=1000", "--size=20M", "--quiet"];
    let bench = Program::start(&mut ufx(words));
    let scratch = Path::new("/dev/shm").join(format!("ufx-bench-{}", bench.id()));
    // Its first run is over: it is in the middle of its work.
    assert_eq!(receiver.next_report()["result"], "measured");
    assert!(scratch.exists());
    bench.signal(Signal::INT);
    let ended = bench.wait().expect_code(130);
    assert_eq!(ended.stdout, "");
    assert!(!scratch.exists());

    let source = write_random(&room.path().join("a.bin"), 1_000, 1);
    receiver.send(&[&source], &[]).expect_code(0);
    receiver.program.wait().expect_code(0);
    assert_eq!(names(&dir), ["a.bin"]);
}

#[test]
fn without_size_it_finds_one_and_says_who_is_faster() {
    let room = room();
    let receiver = Receiver::start(room.path(), &[]);
    let ended = bench(receiver.port, &["--quiet"]).expect_code(0);
    assert!(ended.stdout.contains("limits ufx."), "{}", ended.stdout);
    assert!(ended.stdout.contains("TCP "), "{}", ended.stdout);
    assert_eq!(ended.stderr, "");
}

#[test]
fn where_somebody_else_has_the_tcp_port_it_says_so() {
    let room = room();
    let receiver = Receiver::start(room.path(), &[]);
    let other = TcpListener::bind(("127.0.0.1", receiver.port)).unwrap();
    let other = std::thread::spawn(move || drop(other.accept()));
    let ended = bench(receiver.port, &["--size=1M"]).expect_code(0);
    other.join().unwrap();
    assert!(ended.stdout.contains("There is no TCP to compare with (cannot"), "{}", ended.stdout);
}

#[test]
fn who_may_not_send_may_not_measure() {
    let Some(pair) = Pair::new(1_500) else { return };
    // The sender comes from an address that is neither private nor on the receiver's link.
    pair.sender.ip("address add 198.51.100.1/32 dev eth0");
    pair.sender.ip("route replace 10.77.0.0/24 dev eth0 src 198.51.100.1");
    pair.receiver.ip("route add 198.51.100.1/32 via 10.77.0.1");
    let room = room();
    let receiver = Receiver::start_in(&pair.receiver, room.path(), &[]);
    let port = receiver.port.to_string();
    let words = ["bench", Pair::RECEIVER, "--port", &port, "--size=1M"];
    let ended =
        Program::start(&mut pair.sender.ufx(words.map(Into::into).to_vec())).wait().expect_code(4);
    assert!(ended.stderr.contains("does not take files from this address"), "{}", ended.stderr);
}

#[test]
fn options_of_the_emulated_link_are_refused_with_a_host() {
    for option in ["--loss=1", "--rate=1M", "--against=ufx", "--native", "--cap=1s", "--seed=2"] {
        let ended = Program::start(&mut ufx(["bench", "127.0.0.1", option])).wait().expect_code(2);
        let name = option.split('=').next().unwrap();
        assert!(ended.stderr.contains(name), "{option}: {}", ended.stderr);
        assert!(ended.stderr.contains("cannot be used with"), "{option}: {}", ended.stderr);
    }
    let ended = Program::start(&mut ufx(["bench", "--port=1"])).wait().expect_code(2);
    assert!(ended.stderr.contains("HOST"), "{}", ended.stderr);
}
