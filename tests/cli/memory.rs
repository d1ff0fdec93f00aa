//! The resident memory of both processes stays small whatever they move, and whatever the disk
//! does. 1 GiB in plain test runs; 5 GiB with UFX_LONG=1.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::content::{alone, room_for, same_bytes, write_random};
use crate::support::process::Program;
use crate::support::root::{Mount, is_root_with, run};
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

/// A file system of its own in a file, so that it can be stopped without stopping anything else.
struct Disk {
    mount: Mount,
}

impl Disk {
    fn new(room: &Path, bytes: u64) -> Disk {
        let image = room.join("disk.img");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        run("mkfs.ext4", [Path::new("-q"), Path::new("-F"), &image]);
        let path: PathBuf = room.join("disk");
        std::fs::create_dir(&path).unwrap();
        Disk { mount: Mount::new(&format!("-o loop {}", image.display()), &path) }
    }

    /// Stops every write for `span`, as a disk does that spins up or is busy elsewhere.
    fn stall(&self, span: Duration) {
        let frozen = Frozen(&self.mount.path);
        run("fsfreeze", [Path::new("--freeze"), frozen.0]);
        std::thread::sleep(span);
    }
}

/// Thaws on drop: a file system that stays frozen stops whoever touches it, for ever.
struct Frozen<'a>(&'a Path);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(self.0).status();
    }
}

#[test]
fn memory_stays_small_while_the_disk_stalls() {
    let _alone = alone();
    if !is_root_with(&["mkfs.ext4", "mount", "umount", "fsfreeze"]) {
        return;
    }
    let bytes = body_bytes();
    let room = room_for(bytes * 5 / 2);
    let source = write_random(&room.path().join("large.bin"), bytes, 32);
    let disk = Disk::new(room.path(), bytes * 5 / 4);
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
