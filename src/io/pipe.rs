//! What is sent of standard input: read block by block on a thread of its own, and held until the
//! receiver has it, because it cannot be read twice. Leaves to `source_file` who reads it.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::metadata::{Identity, Timestamp};
use super::name::RelativePath;
use super::source::{EntryKind, Place, SourceEntry, SourceError};
use super::wait::{Interest, wait};
use super::walk::{SkipReason, WalkItem, skipped};
use crate::proto::Attributes;
use crate::wire::limits;

/// What messages call it.
const SHOWN: &str = "standard input";

/// Blocks that are held at most: what 1 Gbit/s has under way over 250 ms, and some that are read
/// ahead.
const HELD_MAX: usize = 40;

/// Stack of the thread: its buffers are on the heap.
const STACK_BYTES: usize = 128 << 10;

/// Permissions of what has none: as of a file that a shell makes, less the receiver's umask.
const MODE: u32 = 0o666;

/// A stream of bytes of unknown length, read once.
#[derive(Debug)]
pub struct Pipe {
    name: RelativePath,
    since: Timestamp,
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    /// Number of the first block that is still held.
    first: u64,
    blocks: VecDeque<Arc<Vec<u8>>>,
    end: Option<End>,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug)]
enum End {
    /// That was all.
    Whole,
    /// Reading failed.
    Broken(Errno),
    /// The receiver does not want it.
    Unwanted,
}

/// A block, as far as it is known.
#[derive(Clone, Copy, Debug)]
enum Block {
    /// It has so many bytes.
    Bytes(u64),
    /// There is none.
    None(End),
}

impl Pipe {
    /// Starts to read `input`, which is to be sent under `name`.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn start(name: RelativePath, input: OwnedFd) -> std::io::Result<Arc<Pipe>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let pipe = Arc::new(Pipe {
            name,
            since: Timestamp::new(now.as_secs().cast_signed(), now.subsec_nanos())
                .unwrap_or_default(),
            held: Mutex::default(),
            changed: Condvar::new(),
        });
        let reader = Arc::clone(&pipe);
        // Detached: nobody waits for a pipe that nothing is written to.
        let thread = std::thread::Builder::new().name("stdin".into()).stack_size(STACK_BYTES);
        thread.spawn(move || reader.read_all(&input))?;
        Ok(pipe)
    }

    fn read_all(&self, input: &OwnedFd) {
        loop {
            let (block, end) = read_block(input);
            let mut held = self.lock();
            while held.blocks.len() >= HELD_MAX && held.end.is_none() {
                held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
            }
            if held.end.is_some() {
                return;
            }
            // Of what breaks off nothing is committed: its last bytes are of no use.
            if !block.is_empty() && !matches!(end, Some(End::Broken(_))) {
                held.blocks.push_back(Arc::new(block));
            }
            held.end = end;
            self.changed.notify_all();
            if end.is_some() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is known what block `number` is.
    fn block(&self, number: u64) -> Block {
        let mut held = self.lock();
        loop {
            let index = number.saturating_sub(held.first) as usize;
            if let Some(block) = held.blocks.get(index) {
                return Block::Bytes(block.len() as u64);
            }
            if let Some(end) = held.end {
                return Block::None(end);
            }
            held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets go of all whole blocks below `offset`: the receiver has them.
    pub fn release(&self, offset: u64) {
        let mut held = self.lock();
        while (held.first + 1) * limits::BLOCK_BYTES <= offset && held.blocks.pop_front().is_some()
        {
            held.first += 1;
            self.changed.notify_all();
        }
    }

    /// Whether its first byte is still held, so that it can be sent from the beginning.
    pub fn is_held_from_start(&self) -> bool {
        self.lock().first == 0
    }

    /// Nothing more is wanted of it.
    pub fn close(&self) {
        let mut held = self.lock();
        held.end.get_or_insert(End::Unwanted);
        held.blocks.clear();
        self.changed.notify_all();
    }

    /// Fills `buffers` from byte `offset` on with what is held.
    ///
    /// # Errors
    /// Some of it is held no more.
    pub(super) fn read_at(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        mut offset: u64,
    ) -> Result<(), Errno> {
        let held = self.lock();
        for buffer in buffers {
            let mut rest: &mut [u8] = buffer;
            while !rest.is_empty() {
                let number = offset / limits::BLOCK_BYTES;
                let index = number.checked_sub(held.first).ok_or(Errno::SPIPE)? as usize;
                let block = held.blocks.get(index).ok_or(Errno::SPIPE)?;
                let from = (offset % limits::BLOCK_BYTES) as usize;
                let part = block.get(from..).filter(|part| !part.is_empty());
                let part = part.ok_or(Errno::SPIPE)?;
                let bytes = part.len().min(rest.len());
                let (now, later) = rest.split_at_mut(bytes);
                now.copy_from_slice(part.get(..bytes).unwrap_or_default());
                rest = later;
                offset += bytes as u64;
            }
        }
        Ok(())
    }

    /// What is announced of it, block by block as they come.
    pub fn items(&self) -> impl Iterator<Item = WalkItem> + '_ {
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let number = next?;
            let (item, more) = if number == 0 { self.first_item() } else { self.more(number) };
            next = more.then_some(number + 1);
            item
        })
    }

    /// The entry, and whether blocks may follow. What ends within its first block is a file.
    fn first_item(&self) -> (Option<WalkItem>, bool) {
        let entry = |kind, bytes| Some(WalkItem::Entry(self.entry(kind, bytes)));
        let file = |bytes| entry(EntryKind::File { may_have_holes: false }, bytes);
        match self.block(0) {
            Block::None(End::Whole) => (file(0), false),
            Block::None(End::Broken(errno)) => {
                let reason = SkipReason::Unreadable(errno.into());
                (Some(skipped(self.name.as_bytes(), reason)), false)
            }
            Block::None(End::Unwanted) => (None, false),
            Block::Bytes(bytes) if bytes < limits::BLOCK_BYTES => (file(bytes), false),
            Block::Bytes(bytes) => match self.block(1) {
                Block::None(End::Whole) => (file(bytes), false),
                Block::None(_) | Block::Bytes(_) => (entry(EntryKind::Pipe, bytes), true),
            },
        }
    }

    fn more(&self, number: u64) -> (Option<WalkItem>, bool) {
        match self.block(number) {
            Block::Bytes(bytes) => (Some(WalkItem::More(bytes as u32)), true),
            Block::None(End::Broken(errno)) => {
                let (action, path) = ("read", SHOWN.to_owned());
                let error = SourceError::Io { action, path, source: errno.into() };
                (Some(WalkItem::Broken(error)), false)
            }
            Block::None(End::Whole | End::Unwanted) => (None, false),
        }
    }

    fn entry(&self, kind: EntryKind, size: u64) -> SourceEntry {
        let (modified, changed) = (self.since, self.since);
        SourceEntry {
            place: Place::STDIN,
            name: self.name.clone(),
            kind,
            mode: MODE,
            identity: Identity { device: 0, inode: 0, size, modified, changed },
            attributes: Attributes::default(),
            has_other_names: false,
        }
    }

    /// What messages call it.
    pub(super) fn shown(&self) -> String {
        SHOWN.to_owned()
    }
}

/// Reads until a block is full, or the end, which is told.
fn read_block(input: &OwnedFd) -> (Vec<u8>, Option<End>) {
    let mut block = vec![0; limits::BLOCK_BYTES as usize];
    let mut filled = 0;
    let end = loop {
        let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) else {
            break None;
        };
        match rustix::io::read(input, rest) {
            Ok(0) => break Some(End::Whole),
            Ok(bytes) => filled += bytes,
            Err(Errno::INTR) => {}
            // Somebody else who has the other end of a terminal or socket set it so.
            Err(Errno::AGAIN) => {
                let _ = wait(&[Interest::Read(input.as_fd())], LOOK, &mut Vec::new());
            }
            Err(errno) => break Some(End::Broken(errno)),
        }
    };
    block.truncate(filled);
    block.shrink_to_fit();
    (block, end)
}

/// How long to wait at once for input that is not to be waited for by reading it.
const LOOK: Option<Duration> = Some(Duration::from_secs(1));

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const BLOCK: usize = limits::BLOCK_BYTES as usize;

    /// A pipe whose input is `content`.
    fn pipe(content: Vec<u8>) -> Arc<Pipe> {
        let (input, mut output) = std::io::pipe().unwrap();
        std::thread::spawn(move || output.write_all(&content));
        Pipe::start(RelativePath::parse(b"in").unwrap(), input.into()).unwrap()
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|index| (index * 7 / 3) as u8).collect()
    }

    /// The items as text.
    fn listing(pipe: &Pipe) -> Vec<String> {
        let line = |item| match item {
            WalkItem::Entry(entry) => {
                format!("{} {:?} {}", entry.name, entry.kind, entry.identity.size)
            }
            WalkItem::More(bytes) => format!("more {bytes}"),
            WalkItem::Broken(error) => error.to_string(),
            WalkItem::Skipped(skipped) => skipped.to_string(),
        };
        pipe.items().map(line).collect()
    }

    #[test]
    fn what_ends_within_a_block_is_a_file_and_what_goes_on_is_a_pipe() {
        let file = |bytes: usize| format!("in File {{ may_have_holes: false }} {bytes}");
        for bytes in [0, 1, BLOCK - 1, BLOCK] {
            assert_eq!(listing(&pipe(content(bytes))), [file(bytes)]);
        }
        let first = format!("in Pipe {BLOCK}");
        assert_eq!(listing(&pipe(content(BLOCK + 1))), [&*first, "more 1"]);
        let more = format!("more {BLOCK}");
        assert_eq!(listing(&pipe(content(3 * BLOCK))), [&*first, &*more, &*more]);
    }

    #[test]
    fn what_is_released_cannot_be_read_again_and_makes_room() {
        let bytes = content((HELD_MAX + 3) * BLOCK + 5);
        let pipe = pipe(bytes.clone());
        let read = |offset: usize, length: usize| {
            let mut buffer = vec![0; length];
            pipe.read_at(&mut [IoSliceMut::new(&mut buffer)], offset as u64).map(|()| buffer)
        };
        let mut items = pipe.items();
        items.by_ref().take(HELD_MAX).for_each(drop);
        assert_eq!(read(BLOCK - 3, 7).unwrap(), bytes[BLOCK - 3..BLOCK + 4]);
        assert_eq!(read(HELD_MAX * BLOCK, 1), Err(Errno::SPIPE), "it is not read yet");
        assert!(pipe.is_held_from_start());
        pipe.release(2 * limits::BLOCK_BYTES - 1);
        assert_eq!(read(0, 1), Err(Errno::SPIPE));
        assert_eq!(read(BLOCK, 5).unwrap(), bytes[BLOCK..BLOCK + 5]);
        assert!(!pipe.is_held_from_start());
        assert!(matches!(items.next(), Some(WalkItem::More(_))));
        pipe.release(u64::MAX);
        assert_eq!(items.count(), 3);
    }

    #[test]
    fn input_that_cannot_be_read_is_named() {
        let directory = std::fs::File::open("/").unwrap();
        let name = RelativePath::parse(b"in").unwrap();
        let pipe = Pipe::start(name, directory.into()).unwrap();
        assert_eq!(listing(&pipe), ["in: cannot be read: Is a directory (os error 21)"]);
    }
}
