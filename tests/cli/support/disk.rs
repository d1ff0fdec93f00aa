//! A file system of its own in a file, so that it can be stopped without stopping anything else.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::root::{Mount, run};

/// What a [`Disk`] needs beside root.
pub const DISK_TOOLS: [&str; 4] = ["mkfs.ext4", "mount", "umount", "fsfreeze"];

/// A mounted ext4.
pub struct Disk {
    /// Where.
    pub mount: Mount,
}

impl Disk {
    /// Makes one of `bytes` and mounts it at `path`; its image lies beside it.
    pub fn new(path: &Path, bytes: u64) -> Disk {
        let image = path.with_extension("img");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        run("mkfs.ext4", [Path::new("-q"), Path::new("-F"), &image]);
        std::fs::create_dir(path).unwrap();
        Disk { mount: Mount::new(&format!("-o loop {}", image.display()), path) }
    }

    /// Stops every write for `span`, as a disk does that spins up or is busy elsewhere.
    pub fn stall(&self, span: Duration) {
        let _frozen = self.freeze();
        std::thread::sleep(span);
    }

    /// Stops every write until the answer is dropped. Whoever writes cannot even be killed.
    pub fn freeze(&self) -> Frozen<'_> {
        let frozen = Frozen(&self.mount.path);
        run("fsfreeze", [Path::new("--freeze"), frozen.0]);
        frozen
    }
}

/// Thaws on drop: a file system that stays frozen stops whoever touches it, for ever.
pub struct Frozen<'a>(&'a Path);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(self.0).status();
    }
}
