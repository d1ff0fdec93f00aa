//! The resident memory of both processes stays small whatever they move, and whatever the disk
//! does. 1 GiB in plain test runs; 5 GiB with UFX_LONG=1.

use std::time::Duration;

use crate::support::content::{alone, room_for, same_bytes, write_random};
use crate::support::disk::{DISK_TOOLS, Disk};
use crate::support::process::Program;
use crate::support::root::is_root_with;
use crate::support::transfer::{Receiver, both_succeed, transfer};

fn body_bytes() -> u64 {
    let is_long = std::env::var_os("UFX_LONG").is_some_and(|value| value == "1");
    if is_long { 5 << 30 } else { 1 << 30 }
}

#[test]
fn memory_stays_small_while_gigabytes_move() {
    let _alone = alone();
    let bytes = body_bytes();
    let room = room_for(2 * bytes);
    let source = write_random(&room.path().join("large.bin"), bytes, 31);
    let dir = room.path().join("to");
    let reports = transfer(&[&source], &dir, &[], &[]);
    assert!(same_bytes(&source, &dir.join("large.bin")));
    reports.assert_small();
}

#[test]
fn memory_stays_small_while_the_disk_stalls() {
    let _alone = alone();
    if !is_root_with(&DISK_TOOLS) {
        return;
    }
    let bytes = body_bytes();
    let room = room_for(bytes * 5 / 2);
    let source = write_random(&room.path().join("large.bin"), bytes, 32);
    let disk = Disk::new(&room.path().join("disk"), bytes * 5 / 4);
    let dir = disk.mount.path.join("to");
    let receiver = Receiver::start(&dir, &["--once"]);
    let sender = Program::start(&mut receiver.sender(&[&source], &["--rate", "2G"]));
    receiver.wait_for_written(bytes / 8);
    disk.stall(Duration::from_secs(2));
    let reports = both_succeed(sender, receiver);
    assert!(same_bytes(&source, &dir.join("large.bin")));
    assert_eq!(reports.sender["receiver_drops"], 0, "a full buffer is credit, not loss");
    reports.assert_small();
}
