//! Single files arrive as they were: sizes around every border, names with any byte, every
//! digest, every way through the kernel.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::support::content::{names, room, room_for, same_bytes, write_random};
use crate::support::process::Program;
use crate::support::transfer::{Receiver, both_succeed, send_command, transfer};
use crate::support::tree::assert_same_trees;

/// Payload of a full packet at MTU 1,500 over IPv4 (proto.md, "DATA").
const PAYLOAD_BYTES: u64 = 1_452;

#[test]
fn files_of_every_size_around_a_border_arrive_byte_for_byte() {
    let mebibyte = 1 << 20;
    let sizes = [
        0,
        1,
        PAYLOAD_BYTES - 1,
        PAYLOAD_BYTES,
        PAYLOAD_BYTES + 1,
        mebibyte - 1,
        mebibyte,
        mebibyte + 1,
        64 * mebibyte + 7,
    ];
    let room = room();
    for (seed, bytes) in sizes.into_iter().enumerate() {
        let source = write_random(&room.path().join(format!("{bytes}.bin")), bytes, seed as u64);
        for mtu in ["1500", "65536"] {
            let dir = room.path().join(format!("to-{bytes}-{mtu}"));
            let reports = transfer(&[&source], &dir, &["--mtu", mtu], &[]);
            assert!(same_bytes(&source, &dir.join(source.file_name().unwrap())), "{bytes}");
            assert_eq!(names(&dir).len(), 1, "nothing beside the file");
            for report in [&reports.sender, &reports.receiver] {
                assert_eq!((&report["files"], &report["bytes"]), (&1.into(), &bytes.into()));
                assert_eq!(report["verified"], "digest");
            }
        }
        std::fs::remove_file(source).unwrap();
    }
}

#[test]
fn a_name_of_any_bytes_arrives_as_it_is() {
    let room = room();
    let source = room.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let table: [&[u8]; 12] = [
        b" leading and trailing ",
        b"line\nbreak\r",
        b"quotes ' \" `",
        b"\x1b[2J\x1b[31mred\x07",
        b"invalid \xff\xfe\x80 UTF-8",
        b"-n",
        b"--",
        b"*?[a]{b,c}$HOME ~ ; & |",
        br"back\slash \n \xff",
        "gr\u{fc}n \u{65e5}\u{672c} \u{1f600} \u{202e}".as_bytes(),
        &[b'x'; 255],
        &[0xff; 255],
    ];
    for (seed, name) in table.iter().enumerate() {
        let path = source.join(OsString::from_vec(name.to_vec()));
        write_random(&path, 100 + seed as u64, seed as u64);
    }
    let dir = room.path().join("to");
    let reports = transfer(&[&source], &dir, &[], &[]);
    let (files, _) = assert_same_trees(&source, &dir.join("source"));
    assert_eq!(files, table.len() as u64);
    assert_eq!(reports.sender["files"], table.len() as u64);

    // Each as a PATH of its own, too.
    let paths: Vec<PathBuf> =
        table.iter().map(|name| source.join(OsString::from_vec(name.to_vec()))).collect();
    let alone = room.path().join("alone");
    transfer(&paths, &alone, &[], &[]);
    assert_eq!(assert_same_trees(&source, &alone).0, table.len() as u64);
}

#[test]
fn every_digest_verifies_and_blake3_is_the_one_that_b3sum_prints() {
    let room = room();
    for (seed, bytes) in [0, 1, 1_000, 1 << 20, (1 << 20) + 1, 10_000_000].into_iter().enumerate() {
        let source = write_random(&room.path().join("source.bin"), bytes, 40 + seed as u64);
        let content = std::fs::read(&source).unwrap();
        let blocks: Vec<_> = content.chunks(1 << 20).map(twox_hash::XxHash3_128::oneshot).collect();
        let xxh3 = match blocks[..] {
            [] => twox_hash::XxHash3_128::oneshot(b""),
            [one] => one,
            _ => {
                let joined: Vec<u8> = blocks.iter().flat_map(|one| one.to_be_bytes()).collect();
                twox_hash::XxHash3_128::oneshot(&joined)
            }
        };
        let table = [
            ("xxh3", Some(format!("{xxh3:032x}")), "digest"),
            ("blake3", Some(blake3::hash(&content).to_string()), "digest"),
            ("none", None, "crc"),
        ];
        for (kind, digest, verified) in table {
            let dir = room.path().join(format!("{kind}-{bytes}"));
            let reports = transfer(&[&source], &dir, &["--digest", kind], &[]);
            assert!(same_bytes(&source, &dir.join("source.bin")), "{kind} {bytes}");
            assert_eq!(reports.sender["digest"].as_str(), digest.as_deref(), "{kind} {bytes}");
            assert_eq!(reports.sender["verified"], verified, "{kind} {bytes}");
            assert_eq!(reports.receiver["verified"], verified, "{kind} {bytes}");
        }
    }
}

#[test]
fn every_way_through_the_kernel_gives_the_same_result() {
    let bytes = (24 << 20) + 5;
    let room = room_for(8 * bytes);
    let source = write_random(&room.path().join("source.bin"), bytes, 3);
    for at_sender in ["gso", "batch", "single"] {
        for at_receiver in ["gso", "batch", "single"] {
            let dir = room.path().join("to");
            let options = ["--offload", at_sender, "--mtu", "1500"];
            let reports = transfer(&[&source], &dir, &options, &["--offload", at_receiver]);
            let both = format!("{at_sender} to {at_receiver}");
            assert!(same_bytes(&source, &dir.join("source.bin")), "{both}");
            assert_eq!(reports.sender["gso"], at_sender == "gso", "{both}");
            // A receiver that is given nothing merged stops to ask for it.
            let merged = at_sender == "gso" && at_receiver == "gso";
            assert_eq!(reports.receiver["gso"], merged, "{both}");
            assert_eq!(reports.sender["mtu"], 1_500, "{both}");
            std::fs::remove_dir_all(dir).unwrap();
        }
    }
}

#[test]
fn a_file_goes_over_ipv6_and_to_a_name_as_well() {
    let room = room();
    let source = write_random(&room.path().join("source.bin"), 3_000_000, 6);
    for host in ["::1", "[::1]", "localhost"] {
        let dir = room.path().join("to");
        let receiver = Receiver::start(&dir, &["--once"]);
        let mut command = send_command(&[&source], &[], host, receiver.port);
        both_succeed(Program::start(&mut command), receiver);
        assert!(same_bytes(&source, &dir.join("source.bin")), "{host}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn one_receiver_takes_one_transfer_after_the_other() {
    let room = room();
    let dir = room.path().join("to");
    let mut receiver = Receiver::start(&dir, &[]);
    for seed in 0..5 {
        let source = write_random(&room.path().join(format!("{seed}.bin")), 200_000, seed);
        receiver.send(&[&source], &[]).expect_code(0);
        assert_eq!(receiver.next_report()["files"], 1);
        assert!(same_bytes(&source, &dir.join(source.file_name().unwrap())));
    }
    receiver.program.signal(rustix::process::Signal::TERM);
    receiver.program.wait().expect_code(0);
}
