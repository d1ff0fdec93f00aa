//! Somebody else swaps directories below the receive directory for links that lead outside, all the
//! while files arrive: nothing is ever made, changed or removed outside.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::content::{names, room, write_random};
use crate::support::process::Program;
use crate::support::transfer::Receiver;

/// Swaps in a normal run, and with `UFX_LONG=1`.
const ROUNDS: [u64; 2] = [5_000, 100_000];

/// Swaps `directory` for a link to `outside` and back until `done`; returns how often.
fn swap(directory: &Path, outside: &Path, done: &AtomicBool) -> u64 {
    let aside = directory.with_file_name("aside");
    let mut rounds = 0;
    while !done.load(Ordering::Relaxed) {
        // Not there yet, in the first moments.
        if std::fs::rename(directory, &aside).is_err() {
            continue;
        }
        // The receiver may have made the directory anew meanwhile: then that one stays.
        if symlink(outside, directory).is_ok() {
            std::fs::remove_file(directory).unwrap();
            rounds += 1;
        }
        if std::fs::rename(&aside, directory).is_err() {
            std::fs::remove_dir_all(&aside).unwrap();
        }
    }
    rounds
}

#[test]
fn nothing_escapes_while_directories_are_swapped_for_links() {
    let rounds = ROUNDS[usize::from(std::env::var_os("UFX_LONG").is_some())];
    let room = room();
    let source = room.path().join("tree");
    for directory in ["deep/sub/one", "deep/sub/two"] {
        std::fs::create_dir_all(source.join(directory)).unwrap();
        for number in 0..150 {
            let bytes = if number == 0 { 1_500_000 } else { number * 10 };
            write_random(&source.join(directory).join(number.to_string()), bytes, number);
            let link = source.join(directory).join(format!("link {number}"));
            symlink("0", link).unwrap();
        }
    }
    // What an escape would find outside: the same directories, and files to replace.
    let outside = room.path().join("outside");
    for directory in ["sub/one", "sub/two"] {
        std::fs::create_dir_all(outside.join(directory)).unwrap();
        std::fs::write(outside.join(directory).join("1"), "precious").unwrap();
    }
    let state = || -> Vec<(Vec<String>, u32, i64, i64)> {
        let directories = [".", "sub", "sub/one", "sub/two", "sub/one/1", "sub/two/1"];
        let look = |name: &&str| {
            let path = outside.join(name);
            let metadata = std::fs::metadata(&path).unwrap();
            let names = if metadata.is_dir() { names(&path) } else { Vec::new() };
            (names, metadata.mode(), metadata.mtime(), metadata.mtime_nsec())
        };
        directories.iter().map(look).collect()
    };
    let before = state();

    let (mut swapped, mut stored) = (0, 0);
    let mut policies = ["refuse", "replace", "rename"].into_iter().cycle();
    while swapped < rounds {
        let dir = room.path().join("to");
        let policy = policies.next().unwrap();
        let mut receiver = Receiver::start(&dir, &["--once", "--existing", policy]);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let target = dir.join("tree/deep");
            let swapper = scope.spawn(|| {
                let target = target;
                swap(&target, &outside, &done)
            });
            // Whether files could be stored is a matter of luck, and no matter.
            Program::start(&mut receiver.sender(&[&source], &[])).wait();
            stored += receiver.next_report()["files"].as_u64().unwrap();
            done.store(true, Ordering::Relaxed);
            swapped += swapper.join().unwrap();
        });
        receiver.program.wait();
        assert_eq!(state(), before, "after {swapped} swaps");
        std::fs::remove_dir_all(&dir).unwrap();
    }
    assert!(stored > 0, "the swaps left nothing to be stored, so nothing was tested");
}
