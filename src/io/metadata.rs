//! What ufx keeps of a file beside its bytes: times, the identity of a source, permissions.

use std::io;

use rustix::fs::{FileType, Stat, Timespec, Timestamps, UTIME_OMIT};

/// A point in time of a file system: seconds since 1970 (negative: before) and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

impl Timestamp {
    /// The time `seconds` plus `nanoseconds`; `None` from one whole second of nanoseconds on,
    /// where the kernel gives some values another meaning ("now", "leave it").
    pub fn new(seconds: i64, nanoseconds: u32) -> Option<Timestamp> {
        (nanoseconds < 1_000_000_000).then_some(Timestamp { seconds, nanoseconds })
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds on top of the seconds, less than a second.
    pub fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }

    /// The time of the last change of content.
    pub fn modified(stat: &Stat) -> Timestamp {
        Timestamp { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 }
    }

    /// The time of the last change of content or of anything else about the file.
    pub fn changed(stat: &Stat) -> Timestamp {
        Timestamp { seconds: stat.st_ctime, nanoseconds: stat.st_ctime_nsec as u32 }
    }

    /// What the kernel takes to set this as modification time and leave the access time alone.
    pub(super) fn as_modification(self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds.into() },
        }
    }
}

/// What tells one state of a source file from every other: where it is stored, how long it is,
/// when it changed. Equal identities mean equal bytes as far as a file system can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device the file system lies on.
    pub device: u64,
    /// The inode on that device.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last change of content.
    pub modified: Timestamp,
    /// Last change of content, name, mode or owner; unlike `modified` nobody can set it back.
    pub changed: Timestamp,
}

impl Identity {
    /// The identity of what `stat` describes.
    pub fn of(stat: &Stat) -> Identity {
        Identity {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: size_of(stat),
            modified: Timestamp::modified(stat),
            changed: Timestamp::changed(stat),
        }
    }
}

/// Whether it is an ordinary file.
pub(super) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// The length of what `stat` describes, in bytes.
pub(super) fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Whether parts of the file may be holes. Only a hint: compressed files look the same.
pub(super) fn may_have_holes(stat: &Stat) -> bool {
    // st_blocks counts in 512 bytes on Linux, whatever the block size of the file system.
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size_of(stat)
}

/// setuid, setgid and sticky.
pub const SPECIAL_BITS: u32 = 0o7000;

/// Those of setuid, setgid and sticky that `mode` has, in words; none if it has none.
pub fn special_bits(mode: u32) -> Option<String> {
    let bits = [(0o4000, "setuid"), (0o2000, "setgid"), (0o1000, "sticky")];
    let there = bits.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, word)| *word);
    let words: Vec<&str> = there.collect();
    (!words.is_empty()).then(|| words.join(" and "))
}

/// What a receiver makes of the modes that a sender names.
#[derive(Clone, Copy, Debug)]
pub struct ModePolicy {
    /// Bits that are taken away, as by the shell's `umask`.
    pub umask: u32,
    /// Keep setuid, setgid and sticky; otherwise they are dropped.
    pub keep_special_bits: bool,
}

impl ModePolicy {
    /// The policy of this process: its own umask, no special bits.
    ///
    /// # Errors
    /// When /proc is not there to read the umask from.
    pub fn of_process() -> io::Result<ModePolicy> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let umask = parse_umask(&status).ok_or(io::ErrorKind::InvalidData)?;
        Ok(ModePolicy { umask, keep_special_bits: false })
    }

    /// Modes become what they were, whatever this process would make of them.
    pub const EXACT: ModePolicy = ModePolicy { umask: 0, keep_special_bits: true };

    /// The policy where the umask cannot be read: private, which nobody regrets.
    pub const PRIVATE: ModePolicy = ModePolicy { umask: 0o077, keep_special_bits: false };

    /// The permission bits that a file of the sender's `mode` gets here.
    pub fn apply(&self, mode: u32) -> u32 {
        let special = if self.keep_special_bits { mode & SPECIAL_BITS } else { 0 };
        (mode & 0o777 & !self.umask) | special
    }
}

/// The line `Umask:` of /proc/self/status. The system call can only read the umask by setting
/// it, and a file created by another thread in between would be open to everybody.
fn parse_umask(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_that_the_kernel_reads_as_commands_are_refused() {
        assert!(Timestamp::new(0, 999_999_999).is_some());
        assert_eq!(Timestamp::new(0, 1_000_000_000), None);
        assert_eq!(Timestamp::new(0, UTIME_OMIT as u32), None);
    }

    #[test]
    fn special_bits_go_unless_asked_for_and_the_umask_applies() {
        let plain = ModePolicy { umask: 0o022, keep_special_bits: false };
        assert_eq!(plain.apply(0o107_777), 0o755);
        let keeping = ModePolicy { umask: 0o027, keep_special_bits: true };
        assert_eq!(keeping.apply(0o4777), 0o4750);
    }

    #[test]
    fn special_bits_have_words() {
        let table = [
            (0o755, None),
            (0o4755, Some("setuid")),
            (0o3775, Some("setgid and sticky")),
            (0o7000, Some("setuid and setgid and sticky")),
        ];
        for (mode, words) in table {
            assert_eq!(special_bits(mode).as_deref(), words, "{mode:o}");
        }
    }

    #[test]
    fn the_umask_is_read_from_the_status_of_the_process() {
        assert_eq!(parse_umask("Name:\tufx\nUmask:\t0022\nState:\tR\n"), Some(0o022));
        assert_eq!(parse_umask("Name:\tufx\n"), None);
        assert!(ModePolicy::of_process().is_ok());
    }
}
