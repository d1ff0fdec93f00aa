//! The journal of an unfinished file: which of its blocks are verified, for a later run that is
//! sent the same file again. Its form stands in ARCHITECTURE.md, "The journal".
//!
//! Records are appended after the data they describe was written, so they hold after any death of
//! the process. What a power cut may have taken is told by the session a record belongs to and by
//! marks of what was synced. Whatever is odd makes the journal worthless, never an error: the file
//! starts again. Who owns the file that it speaks of is the business of `files`.

mod form;
mod scan;

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use self::form::{
    BLOCK, HEADER_BYTES, RECORD_BYTES, SESSION, SYNCED, checksum_of, encode_header, encode_record,
    is_same_source, is_valid_header,
};
use self::scan::Scan;
use super::claim::is_plainly_ours;
use super::metadata::{Identity, Timestamp};
use super::naming::sync_directory;
use super::whole::{read_some, write_all};
use crate::proto::RangeSet;
use crate::wire::{Digest, DigestAlgorithm, limits};

/// Records are written once there are so many, or so long after the last time: at line rate one
/// small write for 8 MiB. A killed process loses what was not written: 8 blocks at most.
const BATCH_RECORDS: usize = 8;
const BATCH_SPAN: Duration = Duration::from_millis(200);

/// What was written is synced so often, behind the writer's back: a power cut costs a transfer its
/// last minute or two, and one that takes no longer never waits for a disk.
const SYNC_INTERVAL: Duration = Duration::from_secs(60);

/// Records read at once.
const READ_RECORDS: usize = 1_024;

/// What a journal is about: blocks of another subject are worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The source.
    pub source: Identity,
    /// What its blocks were verified by.
    pub digest: DigestAlgorithm,
}

impl Subject {
    /// A file of which nothing is kept for another run.
    pub fn not_kept(size: u64) -> Subject {
        let never = Timestamp::default();
        let source = Identity { device: 0, inode: 0, size, modified: never, changed: never };
        Subject { source, digest: DigestAlgorithm::None }
    }
}

/// The time between two boots, or two mounts, of a file system: nothing written is lost within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    boot: [u8; 16],
    mount: u64,
}

/// Blocks of an unfinished file that are there.
#[derive(Debug, Default)]
pub struct Kept {
    /// Their numbers.
    pub blocks: RangeSet,
    /// The digests of the first of them.
    pub digests: BTreeMap<u32, Digest>,
}

impl Kept {
    /// Whether any byte of this range of the file lies in a block that is there.
    pub fn has_any(&self, bytes: Range<u64>) -> bool {
        if self.blocks.is_empty() {
            return false;
        }
        let blocks = bytes.start / limits::BLOCK_BYTES..bytes.end.div_ceil(limits::BLOCK_BYTES);
        self.blocks.covered_parts(&blocks).next().is_some()
    }
}

/// What was found beside an unfinished file.
#[derive(Debug)]
pub enum Found {
    /// No journal, or none that is of use.
    Nothing,
    /// The journal of another state of the source: the source has changed.
    OfAnother,
    /// The journal, to be continued, and what it vouches for.
    Blocks(Box<Journal>, Kept),
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    place: Place,
    header: [u8; HEADER_BYTES],
    session: Session,
    /// None before the first write.
    file: Option<OwnedFd>,
    /// Records so far, those that wait to be written included; how many of them are of blocks.
    records: u64,
    blocks: u64,
    /// Records to be written.
    waiting: Vec<u8>,
    written_at: Instant,
    /// A write failed: nothing may follow the torn record.
    is_broken: bool,
    sync_interval: Duration,
    synced_at: Instant,
    syncing: Option<Syncing>,
}

/// The names of an unfinished file and its journal, and the directory of both.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory.
    pub parent: Arc<OwnedFd>,
    /// The name of the unfinished file.
    pub temporary: String,
    /// The name of its journal.
    pub journal: String,
}

/// A sync under way, and how many blocks it covers.
#[derive(Debug)]
struct Syncing {
    blocks: u64,
    state: Arc<AtomicU8>,
}

/// States of a [`Syncing`].
const UNDER_WAY: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;

impl Journal {
    /// A journal without any record, of the file with this inode number. Nothing is on disk before
    /// the first records are written.
    pub fn new(place: &Place, subject: &Subject, inode: u64) -> Journal {
        Journal::with(place, subject, inode, Session::of(&place.parent))
    }

    fn with(place: &Place, subject: &Subject, inode: u64, session: Session) -> Journal {
        let now = Instant::now();
        Journal {
            place: place.clone(),
            header: encode_header(subject, inode),
            session,
            file: None,
            records: 0,
            blocks: 0,
            waiting: Vec::new(),
            written_at: now,
            is_broken: false,
            sync_interval: SYNC_INTERVAL,
            synced_at: now,
            syncing: None,
        }
    }

    /// Reads the journal at `place`, where the file that it speaks of is held by the caller.
    pub fn find(place: &Place, subject: &Subject, inode: u64) -> Found {
        Journal::find_in(place, subject, inode, Session::of(&place.parent))
    }

    fn find_in(place: &Place, subject: &Subject, inode: u64, session: Session) -> Found {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::openat(&place.parent, &*place.journal, flags, Mode::empty());
        let Ok(file) = opened else { return Found::Nothing };
        let is_ours = rustix::fs::fstat(&file).is_ok_and(|stat| is_plainly_ours(&stat));
        let mut header = [0; HEADER_BYTES];
        if !is_ours || !read_exactly(&file, &mut header, 0) {
            return Found::Nothing;
        }
        let mut journal = Journal::with(place, subject, inode, session);
        if header != journal.header {
            let is_other = is_valid_header(&header) && !is_same_source(&header, &journal.header);
            return if is_other { Found::OfAnother } else { Found::Nothing };
        }
        match journal.take_over(file, subject) {
            Some(kept) if !kept.blocks.is_empty() => Found::Blocks(Box::new(journal), kept),
            _ => Found::Nothing,
        }
    }

    /// Reads all records, and makes the file end behind the last one to be trusted. None if
    /// anything is odd.
    fn take_over(&mut self, file: OwnedFd, subject: &Subject) -> Option<Kept> {
        let mut scan = Scan::new(self.session, subject, checksum_of(&self.header));
        let mut buffer = vec![0; READ_RECORDS * RECORD_BYTES];
        let mut offset = HEADER_BYTES as u64;
        loop {
            let read = read_some(&file, &mut buffer, offset).ok()?;
            let (records, _) = buffer.get(..read)?.as_chunks::<RECORD_BYTES>();
            for record in records {
                scan.take(record)?;
            }
            offset += (records.len() * RECORD_BYTES) as u64;
            if records.len() < READ_RECORDS {
                break;
            }
        }
        let untrusted = scan.pending.front().map(|pending| pending.index);
        self.records = untrusted.or(scan.torn_at).unwrap_or(scan.index);
        self.blocks = scan.blocks - scan.pending.len() as u64;
        let end = HEADER_BYTES as u64 + self.records * RECORD_BYTES as u64;
        rustix::fs::ftruncate(&file, end).ok()?;
        self.file = Some(file);
        if untrusted.is_some() {
            // The mark that vouched for them stood behind what was cut off.
            self.push(SYNCED, self.blocks as u32, &[]);
        }
        if scan.session != Some(self.session) {
            self.push_session();
        }
        self.write();
        (!self.is_broken).then_some(scan.kept)
    }

    /// A block was written and is verified.
    pub fn record(&mut self, block: u32, digest: &Digest) {
        if self.records == 0 {
            self.push_session();
        }
        self.blocks += 1;
        self.push(BLOCK, block, digest.as_slice());
        let due = self.waiting.len() >= BATCH_RECORDS * RECORD_BYTES;
        if due || self.written_at.elapsed() >= BATCH_SPAN {
            self.mark();
            self.write();
        }
    }

    /// Writes what waits. Whether a journal with any block in it is on disk now.
    pub fn persist(&mut self) -> bool {
        if self.blocks > 0 && !self.waiting.is_empty() {
            self.write();
        }
        self.blocks > 0 && self.file.is_some()
    }

    /// Removes the journal.
    pub fn remove(&mut self) {
        if self.file.take().is_some() {
            remove(&self.place);
        }
        self.is_broken = true;
    }

    fn push_session(&mut self) {
        let mut payload = [0; 24];
        let (boot, mount) = payload.split_at_mut(16);
        boot.copy_from_slice(&self.session.boot);
        mount.copy_from_slice(&self.session.mount.to_be_bytes());
        self.push(SESSION, 0, &payload);
    }

    fn push(&mut self, kind: u8, number: u32, payload: &[u8]) {
        let checksum = checksum_of(&self.header);
        let record = encode_record(checksum, self.records, kind, number, payload);
        self.waiting.extend_from_slice(&record);
        self.records += 1;
    }

    /// Writes what waits. After an error (a full disk) the journal stays as it was: what it says
    /// remains true.
    fn write(&mut self) {
        self.written_at = Instant::now();
        let waiting = std::mem::take(&mut self.waiting);
        if self.is_broken || waiting.is_empty() {
            return;
        }
        let first = self.records - (waiting.len() / RECORD_BYTES) as u64;
        let written = match &self.file {
            Some(file) => {
                let offset = HEADER_BYTES as u64 + first * RECORD_BYTES as u64;
                write_all(file, &waiting, offset)
            }
            None => self.create().and_then(|file| {
                let bytes = [self.header.as_slice(), &waiting].concat();
                let written = write_all(&file, &bytes, 0);
                self.file = Some(file);
                written
            }),
        };
        self.is_broken = written.is_err();
    }

    fn create(&self) -> rustix::io::Result<OwnedFd> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::openat(&self.place.parent, &*self.place.journal, flags, mode)
    }

    /// Notes what a finished sync covers, and starts the next one if it is time.
    fn mark(&mut self) {
        if let Some(Syncing { blocks, state }) = &self.syncing {
            match (state.load(Ordering::Acquire), *blocks) {
                (UNDER_WAY, _) => return,
                (DONE, blocks) => self.push(SYNCED, blocks as u32, &[]),
                _ => {}
            }
            self.syncing = None;
        }
        if self.synced_at.elapsed() < self.sync_interval {
            return;
        }
        self.synced_at = Instant::now();
        let state = Arc::new(AtomicU8::new(UNDER_WAY));
        let (place, told) = (self.place.clone(), Arc::clone(&state));
        let sync = move || {
            let outcome = sync_file(&place).map_or(FAILED, |()| DONE);
            told.store(outcome, Ordering::Release);
        };
        // Without a thread to be had there is no mark, and nothing else changes.
        if std::thread::Builder::new().name("sync".into()).spawn(sync).is_ok() {
            self.syncing = Some(Syncing { blocks: self.blocks, state });
        }
    }
}

/// Removes whatever journal is at `place`.
pub fn remove(place: &Place) {
    // What cannot be removed is found again, and of no use: its file is another one.
    let _ = rustix::fs::unlinkat(&place.parent, &*place.journal, AtFlags::empty());
}

impl Place {
    /// Whether there is an unfinished file, or a journal without one.
    pub(super) fn is_taken(&self) -> bool {
        let temporary = &*self.temporary;
        rustix::fs::statat(&self.parent, temporary, AtFlags::SYMLINK_NOFOLLOW).is_ok()
            || is_there(self)
    }
}

/// Whether there is a journal at `place`.
pub fn is_there(place: &Place) -> bool {
    rustix::fs::statat(&place.parent, &*place.journal, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Makes what was written so far, and its name, safe. By a descriptor of its own: a copy of the
/// writer's would hold the lock as long as this takes.
fn sync_file(place: &Place) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(&place.parent, &*place.temporary, flags, Mode::empty())?;
    rustix::fs::fdatasync(&file)?;
    sync_directory(&place.parent)
}

impl Session {
    /// The session in which `directory` is mounted.
    fn of(directory: &OwnedFd) -> Session {
        static BOOT: OnceLock<[u8; 16]> = OnceLock::new();
        let boot = *BOOT.get_or_init(|| boot_id().unwrap_or([0; 16]));
        Session { boot, mount: mount_id(directory).unwrap_or(0) }
    }

    /// Whether nothing was lost between the two. An unknown boot is equal to none.
    fn is_same(&self, other: Option<Session>) -> bool {
        self.boot != [0; 16] && other == Some(*self)
    }
}

/// The kernel's number of this boot, a UUID in hexadecimal.
fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

/// A number that no other mount has, until the next boot (Linux 6.8); the plain mount number, which
/// may be used again after an unmount, on older kernels; none before 5.8.
fn mount_id(directory: &OwnedFd) -> Option<u64> {
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    for wanted in [UNIQUE, StatxFlags::MNT_ID] {
        let answer = rustix::fs::statx(directory, c"", AtFlags::EMPTY_PATH, wanted).ok()?;
        if answer.stx_mask & wanted.bits() != 0 {
            return Some(answer.stx_mnt_id);
        }
    }
    None
}

fn read_exactly(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> bool {
    let wanted = buffer.len();
    read_some(file, buffer, offset) == Ok(wanted)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use proptest::prelude::*;

    use super::*;

    const BOOT: Session = Session { boot: [7; 16], mount: 5 };
    const INODE: u64 = 9;

    fn subject() -> Subject {
        let time = Timestamp::new(1, 2).unwrap();
        let size = 100 * limits::BLOCK_BYTES + 1;
        let source = Identity { device: 1, inode: 2, size, modified: time, changed: time };
        Subject { source, digest: DigestAlgorithm::Xxh3 }
    }

    struct Room {
        directory: tempfile::TempDir,
        place: Place,
    }

    impl Room {
        fn new() -> Room {
            let directory = tempfile::tempdir().unwrap();
            let parent = Arc::new(OwnedFd::from(File::open(directory.path()).unwrap()));
            fs::write(directory.path().join("part"), "bytes").unwrap();
            let place = Place { parent, temporary: "part".into(), journal: "journal".into() };
            Room { directory, place }
        }

        fn bytes(&self) -> Vec<u8> {
            fs::read(self.directory.path().join("journal")).unwrap()
        }

        fn replace(&self, bytes: &[u8]) {
            fs::write(self.directory.path().join("journal"), bytes).unwrap();
        }

        /// A journal of this session with these blocks.
        fn write(&self, session: Session, blocks: Range<u32>) {
            let mut journal = Journal::with(&self.place, &subject(), INODE, session);
            blocks.for_each(|block| journal.record(block, &digest(block)));
            assert!(journal.persist());
        }

        fn find(&self, session: Session) -> Found {
            Journal::find_in(&self.place, &subject(), INODE, session)
        }

        /// The blocks that are found: first and end of each range.
        fn blocks(&self, session: Session) -> Vec<(u64, u64)> {
            match self.find(session) {
                Found::Blocks(_, kept) => {
                    kept.digests
                        .iter()
                        .for_each(|(block, known)| assert_eq!(*known, digest(*block)));
                    ranges(&kept)
                }
                Found::Nothing => Vec::new(),
                Found::OfAnother => panic!("of another source"),
            }
        }
    }

    fn ranges(kept: &Kept) -> Vec<(u64, u64)> {
        kept.blocks.iter().map(|range| (range.start, range.end)).collect()
    }

    fn digest(block: u32) -> Digest {
        Digest::from_slice(&[block as u8; 16]).unwrap()
    }

    #[test]
    fn what_was_recorded_is_found_again_and_goes_on() {
        let room = Room::new();
        room.write(BOOT, 0..3);
        let Found::Blocks(mut journal, kept) = room.find(BOOT) else { panic!("nothing found") };
        assert_eq!(ranges(&kept), [(0, 3)]);
        journal.record(50, &digest(50));
        assert!(journal.persist());
        assert_eq!(room.blocks(BOOT), [(0, 3), (50, 51)]);
        let records = 1 + 3 + 1;
        assert_eq!(room.bytes().len(), HEADER_BYTES + records * RECORD_BYTES);
        journal.remove();
        assert!(matches!(room.find(BOOT), Found::Nothing));
    }

    #[test]
    fn nothing_is_on_disk_before_there_is_something_to_say() {
        let room = Room::new();
        let mut journal = Journal::with(&room.place, &subject(), INODE, BOOT);
        assert!(!journal.persist());
        journal.remove();
        assert!(!is_there(&room.place));
    }

    #[test]
    fn a_torn_end_is_left_out_and_overwritten() {
        let room = Room::new();
        room.write(BOOT, 0..8);
        let whole = room.bytes();
        for missing in 1..=RECORD_BYTES {
            room.replace(&whole[..whole.len() - missing]);
            let Found::Blocks(mut journal, _) = room.find(BOOT) else { panic!("nothing found") };
            journal.record(9, &digest(9));
            assert!(journal.persist());
            assert_eq!(room.blocks(BOOT), [(0, 7), (9, 10)], "{missing} bytes missing");
        }
        // A power cut may leave zeros instead.
        let mut zeros = whole.clone();
        zeros.extend([0; 3 * RECORD_BYTES + 5]);
        room.replace(&zeros);
        assert_eq!(room.blocks(BOOT), [(0, 8)]);
    }

    #[test]
    fn any_flipped_bit_before_the_end_makes_a_journal_worthless() {
        let room = Room::new();
        room.write(BOOT, 0..4);
        let whole = room.bytes();
        for bit in 0..8 * (whole.len() - RECORD_BYTES) {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            room.replace(&damaged);
            assert!(matches!(room.find(BOOT), Found::Nothing), "bit {bit}");
        }
    }

    #[test]
    fn a_journal_of_another_state_of_the_source_tells_so() {
        let room = Room::new();
        room.write(BOOT, 0..4);
        let Subject { source, digest } = subject();
        let later = Timestamp::new(1, 3).unwrap();
        for source in [
            Identity { device: 9, ..source },
            Identity { inode: 9, ..source },
            Identity { size: 9, ..source },
            Identity { modified: later, ..source },
            Identity { changed: later, ..source },
        ] {
            let found = Journal::find_in(&room.place, &Subject { source, digest }, INODE, BOOT);
            assert!(matches!(found, Found::OfAnother), "{source:?}");
        }
        let other = Subject { source, digest: DigestAlgorithm::Blake3 };
        let found = Journal::find_in(&room.place, &other, INODE, BOOT);
        assert!(matches!(found, Found::Nothing), "verified by another digest");
        let found = Journal::find_in(&room.place, &subject(), INODE + 1, BOOT);
        assert!(matches!(found, Found::Nothing), "of a file that is gone");
        let mut newer = room.bytes();
        newer[8] += 1;
        let check = crc32fast::hash(&newer[..HEADER_BYTES - 4]);
        newer[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&check.to_be_bytes());
        room.replace(&newer);
        assert!(matches!(room.find(BOOT), Found::Nothing), "of another version");
    }

    //= proto.md#resume
    //= type=test
    //# What a power cut or an unmounting may have taken MUST NOT be named: after either, only
    //# blocks that were known to be on the disk before.
    #[test]
    fn after_another_boot_or_mount_only_what_was_synced_counts() {
        for other in [Session { boot: [8; 16], ..BOOT }, Session { mount: 6, ..BOOT }] {
            let room = Room::new();
            room.write(BOOT, 0..4);
            assert_eq!(room.blocks(other), [], "nothing was synced");

            let room = Room::new();
            let mut journal = Journal::with(&room.place, &subject(), INODE, BOOT);
            (0..5).for_each(|block| journal.record(block, &digest(block)));
            journal.push(SYNCED, 3, &[]);
            journal.record(5, &digest(5));
            assert!(journal.persist());
            assert_eq!(room.blocks(BOOT), [(0, 6)]);
            let Found::Blocks(mut journal, kept) = room.find(other) else { panic!("nothing") };
            assert_eq!(ranges(&kept), [(0, 3)]);
            journal.record(70, &digest(70));
            assert!(journal.persist());
            assert_eq!(room.blocks(other), [(0, 3), (70, 71)]);
            let third = Session { boot: [9; 16], mount: 1 };
            assert_eq!(room.blocks(third), [(0, 3)], "what was synced once stays so");
        }
    }

    #[test]
    fn blocks_of_this_session_behind_others_that_nothing_vouches_for_are_odd() {
        let room = Room::new();
        let other = Session { boot: [8; 16], ..BOOT };
        let mut journal = Journal::with(&room.place, &subject(), INODE, other);
        journal.record(27, &digest(27));
        journal.session = BOOT;
        journal.push_session();
        journal.record(0, &digest(0));
        assert!(journal.persist());
        assert!(matches!(room.find(BOOT), Found::Nothing));
    }

    #[test]
    fn a_sync_behind_the_back_is_noted_once_it_is_done() {
        let room = Room::new();
        let mut journal = Journal::with(&room.place, &subject(), INODE, BOOT);
        journal.sync_interval = Duration::ZERO;
        for block in 0..BATCH_RECORDS as u32 {
            journal.record(block, &digest(block));
        }
        let state = Arc::clone(&journal.syncing.as_ref().unwrap().state);
        while state.load(Ordering::Acquire) == UNDER_WAY {
            std::thread::yield_now();
        }
        for block in 20..20 + BATCH_RECORDS as u32 {
            journal.record(block, &digest(block));
        }
        assert!(journal.persist());
        let other = Session { boot: [8; 16], ..BOOT };
        let synced: u64 = room.blocks(other).iter().map(|(start, end)| end - start).sum();
        assert!(synced > 0, "a sync is noted");
    }

    #[test]
    fn this_system_tells_its_boot_and_its_mounts() {
        let room = Room::new();
        let session = Session::of(&room.place.parent);
        assert!(session.is_same(Some(session)));
        assert_ne!(session.boot, [0; 16]);
    }

    proptest! {
        #[test]
        fn garbage_is_never_an_error(
            mut garbage in prop::collection::vec(any::<u8>(), 0..600),
            keep in 0..400_usize,
        ) {
            let room = Room::new();
            room.write(BOOT, 0..4);
            let whole = room.bytes();
            garbage.splice(0..0, whole.iter().take(keep).copied());
            room.replace(&garbage);
            let blocks = room.blocks(BOOT);
            prop_assert!(blocks.is_empty() || (blocks.len() == 1 && blocks[0].1 <= 4));
        }
    }
}
