//! Power cuts: the disk as it was at some moment of transfers with `--fsync`, mounted again.
//!
//! The receive directory lies on an ext4 in a file on an XFS, which can copy that file at once, as
//! it is: all that ext4 has sent to its disk until then, and nothing of what it holds in memory.
//! A plain run cuts the power a few times; with `UFX_LONG=1` 200 times.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::content::{Random, room, same_bytes, write_random};
use crate::support::disk::{DISK_TOOLS, Disk};
use crate::support::process::{Program, wait_until};
use crate::support::root::{Mount, is_root_with, run};
use crate::support::transfer::{Receiver, send_command, transfer};
use crate::support::tree::assert_same_trees;

/// What the ext4 and the XFS around it may hold. Only what is written takes memory.
const DISK_BYTES: u64 = 512 << 20;
const OUTER_BYTES: u64 = 4 << 30;

/// A disk whose state can be kept, and what is sent to it.
struct Stand {
    disk: Disk,
    _outer: Mount,
    room: TempDir,
}

impl Stand {
    fn new() -> Stand {
        let room = room();
        let image = room.path().join("outer.img");
        File::create(&image).unwrap().set_len(OUTER_BYTES).unwrap();
        run("mkfs.xfs", [Path::new("-q"), Path::new("-m"), Path::new("reflink=1"), &image]);
        let outer = room.path().join("outer");
        fs::create_dir(&outer).unwrap();
        let outer = Mount::new(&format!("-o loop {}", image.display()), &outer);
        let disk = Disk::new(&outer.path.join("disk"), DISK_BYTES);
        fs::create_dir(room.path().join("from")).unwrap();
        Stand { disk, _outer: outer, room }
    }

    /// Where the receiver writes.
    fn dir(&self) -> PathBuf {
        self.disk.mount.path.join("to")
    }

    fn source(&self, name: &str) -> PathBuf {
        self.room.path().join("from").join(name)
    }

    /// A tree of everything that can be lost.
    fn make_tree(&self, name: &str, files: u64, seed: u64) -> PathBuf {
        let root = self.source(name);
        fs::create_dir_all(root.join("empty/deep")).unwrap();
        let mut random = Random::new(seed);
        for file in 0..files {
            let directory = root.join(random.below(3).to_string());
            fs::create_dir_all(&directory).unwrap();
            // Nameless, shared, and with a journal.
            let most = [1, 5_000, 300_000, 3_000_000][random.below(4) as usize];
            write_random(&directory.join(file.to_string()), random.below(most), random.next_u64());
        }
        fs::create_dir_all(root.join("names")).unwrap();
        symlink("../empty", root.join("names/symbolic")).unwrap();
        write_random(&root.join("names/first"), 700, seed);
        fs::hard_link(root.join("names/first"), root.join("names/second")).unwrap();
        root
    }

    /// What is on the disk now, as a disk of its own.
    fn cut_power(&self) -> Image {
        let image = self.disk.mount.path.with_extension("img");
        let path = self.disk.mount.path.with_file_name("cut");
        let copy = path.with_extension("img");
        run("cp", [Path::new("--reflink=always"), &image, &copy]);
        fs::create_dir_all(&path).unwrap();
        Image { mount: Some(Mount::new(&format!("-o loop {}", copy.display()), &path)), copy }
    }
}

/// A disk after a power cut.
struct Image {
    mount: Option<Mount>,
    copy: PathBuf,
}

impl Image {
    fn dir(&self) -> PathBuf {
        self.mount.as_ref().unwrap().path.join("to")
    }

    /// Every final name has the bytes of its source, wherever the transfer was. Returns how many
    /// there are.
    fn check_names(&self, stand: &Stand, what: &str) -> u64 {
        let mut files = 0;
        let mut open = vec![PathBuf::new()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(self.dir().join(&directory)).unwrap() {
                let entry = entry.unwrap();
                let path = directory.join(entry.file_name());
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    open.push(path);
                } else if kind.is_file() && !path.to_string_lossy().contains(".ufx-") {
                    let source = stand.room.path().join("from").join(&path);
                    assert!(same_bytes(&source, &entry.path()), "{what}: {path:?} is wrong");
                    files += 1;
                }
            }
        }
        files
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        drop(self.mount.take());
        let _ = fs::remove_file(&self.copy);
    }
}

/// Sends small trees one after the other until told to stop. `promised` are those whose sender has
/// said that they are safe.
fn send_small(
    stand: &Stand,
    port: u16,
    round: u64,
    stop: &AtomicBool,
    promised: &Mutex<Vec<String>>,
) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("small-{round}-{number}");
        let tree = stand.make_tree(&name, 3, round << 32 | number);
        let mut send = send_command(&[&tree], &[], "127.0.0.1", port);
        Program::start(&mut send).wait().expect_code(0);
        promised.lock().unwrap().push(name);
    }
}

#[test]
fn after_a_power_cut_everything_that_was_committed_is_there_and_a_rerun_completes() {
    if !is_root_with(&[&DISK_TOOLS[..], &["mkfs.xfs", "cp"]].concat()) {
        return;
    }
    let stand = Stand::new();
    let rounds = if std::env::var_os("UFX_LONG").is_some() { 200 } else { 10 };
    let receiver = Receiver::start(&stand.dir(), &["--fsync"]);
    let (mut kept, mut found, mut partial) = (0, 0, 0);
    for round in 0..rounds {
        let what = format!("seed {round}");
        let big = stand.make_tree(&format!("big-{round}"), 30, round << 32 | 0xffff_ffff);
        let stop = AtomicBool::new(false);
        let promised = Mutex::new(Vec::new());
        let (image, safe) = std::thread::scope(|scope| {
            let port = receiver.port;
            let (stand, stop, promised) = (&stand, &stop, &promised);
            scope.spawn(move || send_small(stand, port, round, stop, promised));
            let before = receiver.written();
            let sender = Program::start(&mut receiver.sender(&[&big], &["--rate", "800M"]));
            let moment = before + Random::new(round).below(12_000_000);
            wait_until("it writes", || receiver.written() >= moment);
            let safe = promised.lock().unwrap().clone();
            let image = stand.cut_power();
            stop.store(true, Ordering::Relaxed);
            sender.wait().expect_code(0);
            (image, safe)
        });
        found += image.check_names(&stand, &what);
        partial += u64::from(image.dir().join(format!("big-{round}")).exists());
        kept += safe.len();
        for name in &safe {
            println!("{what}: {name} was committed");
            assert_same_trees(&stand.source(name), &image.dir().join(name));
        }
        // The same command again, on what is left.
        transfer(&[&big], &image.dir(), &[], &[]);
        assert_same_trees(&big, &image.dir().join(big.file_name().unwrap()));
        for directory in [stand.room.path().join("from"), stand.dir()] {
            run("find", [&directory, Path::new("-mindepth"), Path::new("1"), Path::new("-delete")]);
        }
    }
    receiver.program.signal(Signal::TERM);
    receiver.program.wait().expect_code(0);
    // A run whose power cuts find nothing on the disk would prove nothing.
    println!("{rounds} power cuts, {kept} trees safe, {found} files, {partial} trees cut");
    assert!(kept > 0 && found > rounds && partial > 0, "{kept} {found} {partial}");
}

#[test]
fn what_was_there_already_survives_a_power_cut_as_well() {
    if !is_root_with(&[&DISK_TOOLS[..], &["mkfs.xfs", "cp"]].concat()) {
        return;
    }
    let stand = Stand::new();
    let tree = stand.make_tree("tree", 30, 1);
    transfer(&[&tree], &stand.dir(), &[], &[]);
    let reports = transfer(&[&tree], &stand.dir(), &[], &["--fsync"]);
    assert_eq!(reports.receiver["files"], 0, "all was there already");
    let image = stand.cut_power();
    assert_same_trees(&tree, &image.dir().join("tree"));
}
