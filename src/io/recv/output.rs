//! The other kind of writing end: hands the one file of a transfer on to a descriptor (a pipe, most
//! often), in order, each block once it is verified.
//!
//! What comes early is held here. Credit bounds it: the machine is told how far the file was
//! handed on, and grants `limits::ORDERED_WINDOW_BYTES` beyond that.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::job::{Action, Done, Job, abandon_text};
use crate::io::digest::BlockHasher;
use crate::io::wait::{Interest, wait};
use crate::proto::{RangeSet, ReceivedEntry};
use crate::wire::{Digest, DigestAlgorithm, EntryKind, RefuseCode, limits};

/// What messages call it.
const SHOWN: &str = "standard output";

/// How long to wait at once for room in a descriptor that is not to be waited for by writing.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// See the module's description.
#[derive(Debug)]
pub struct Output {
    out: Arc<OwnedFd>,
    digest: DigestAlgorithm,
    dry_run: bool,
    /// The one file.
    entry: Option<u32>,
    /// As far as it is known.
    size: u64,
    is_pipe: bool,
    holes: RangeSet,
    /// Blocks that are not handed on yet.
    blocks: BTreeMap<u64, Block>,
    /// The next one to be handed on.
    next: u64,
    /// It was taken and is not over.
    is_open: bool,
}

#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    /// Of these, what is no hole.
    data_bytes: u64,
    is_verified: bool,
}

impl Output {
    /// An end that hands on to `out`.
    pub fn new(out: Arc<OwnedFd>, digest: DigestAlgorithm, dry_run: bool) -> Output {
        Output {
            out,
            digest,
            dry_run,
            entry: None,
            size: 0,
            is_pipe: false,
            holes: RangeSet::new(),
            blocks: BTreeMap::new(),
            next: 0,
            is_open: false,
        }
    }

    /// Does a job and appends what became of it.
    pub fn run(&mut self, job: &Job, done: &mut Vec<Done>) {
        for action in &job.actions {
            let is_mine = |entry: &u32| self.is_open && self.entry == Some(*entry);
            match action {
                Action::Entry(entry) => self.take_entry(entry, done),
                Action::Hole { entry, offset, bytes } if is_mine(entry) => {
                    self.holes.insert(*offset..offset + bytes);
                    self.hand_on(done);
                }
                Action::More { entry, bytes } if is_mine(entry) => self.size += bytes,
                Action::Write { entry, offset, first_piece, pieces, .. } if is_mine(entry) => {
                    let pieces = job.pieces.get(*first_piece..first_piece + pieces);
                    self.hold(*offset, job, pieces.unwrap_or_default());
                }
                Action::Verify { entry, block, digest } if is_mine(entry) => {
                    self.verify(*entry, *block, digest, done);
                }
                Action::Commit { entry } if is_mine(entry) => self.commit(*entry, done),
                Action::Abandon { entry, code, reason } => {
                    if is_mine(entry) {
                        self.give_up();
                    }
                    let text = abandon_text(*code, *reason).to_owned();
                    done.push(Done::Failed(*entry, *code, text));
                }
                Action::Hole { .. }
                | Action::More { .. }
                | Action::Write { .. }
                | Action::Verify { .. }
                | Action::Commit { .. } => {}
                Action::Finish => done.push(Done::Finished),
            }
        }
    }

    fn take_entry(&mut self, entry: &ReceivedEntry, done: &mut Vec<Done>) {
        let is_file = matches!(entry.kind, EntryKind::File | EntryKind::Pipe);
        if !is_file || self.entry.is_some() {
            let text = format!("only one file goes to {SHOWN}");
            done.push(Done::Refused(entry.entry, RefuseCode::Name, text));
            return;
        }
        self.entry = Some(entry.entry);
        if self.dry_run {
            done.push(Done::Committed(entry.entry));
            return;
        }
        self.is_open = true;
        self.size = entry.size;
        self.is_pipe = entry.kind == EntryKind::Pipe;
    }

    fn block_bytes(&self, block: u64) -> u64 {
        let start = block * limits::BLOCK_BYTES;
        self.size.saturating_sub(start).min(limits::BLOCK_BYTES)
    }

    /// Keeps bytes until their block is verified.
    fn hold(&mut self, mut offset: u64, job: &Job, pieces: &[(u32, u32)]) {
        let bytes = job.buffer.bytes();
        for &(start, length) in pieces {
            let piece = bytes.get(start as usize..start as usize + length as usize);
            let mut rest = piece.unwrap_or_default();
            while !rest.is_empty() {
                let (number, from) = (offset / limits::BLOCK_BYTES, offset % limits::BLOCK_BYTES);
                let whole = self.block_bytes(number);
                let (now, later) =
                    rest.split_at(rest.len().min((whole - from.min(whole)) as usize));
                if now.is_empty() {
                    return;
                }
                let block = self.blocks.entry(number).or_default();
                block.bytes.resize(whole as usize, 0);
                if let Some(place) = block.bytes.get_mut(from as usize..from as usize + now.len()) {
                    place.copy_from_slice(now);
                }
                block.data_bytes += now.len() as u64;
                offset += now.len() as u64;
                rest = later;
            }
        }
    }

    fn verify(&mut self, entry: u32, number: u32, digest: &Digest, done: &mut Vec<Done>) {
        let whole = self.block_bytes(u64::from(number)) as usize;
        // A pipe counts as a file of several blocks from its first one on.
        let size = if self.is_pipe { limits::BODY_BYTES_MAX } else { self.size };
        let block = self.blocks.entry(u64::from(number)).or_default();
        block.bytes.resize(whole, 0);
        if self.digest != DigestAlgorithm::None {
            let mut hasher = BlockHasher::new(self.digest, u64::from(number), size);
            hasher.update(&block.bytes);
            if hasher.finish() != *digest {
                self.blocks.remove(&u64::from(number));
                done.push(Done::Differs(entry, number));
                return;
            }
        }
        block.is_verified = true;
        done.push(Done::Verified(entry, number));
        self.hand_on(done);
    }

    /// Writes what is verified and next, or in holes completely.
    fn hand_on(&mut self, done: &mut Vec<Done>) {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let before = self.next;
        while self.is_open {
            let whole = self.block_bytes(self.next);
            let start = self.next * limits::BLOCK_BYTES;
            let is_next = self.blocks.get(&self.next).is_some_and(|block| block.is_verified);
            let written = if is_next {
                let block = self.blocks.remove(&self.next).unwrap_or_default();
                done.push(Done::Written(block.data_bytes));
                write_all(&self.out, &block.bytes)
            } else if whole > 0 && self.holes.contains(&(start..start + whole)) {
                let zeros = ZEROS.chunks(ZEROS.len()).cycle();
                let mut left = whole as usize;
                zeros.take(whole.div_ceil(ZEROS.len() as u64) as usize).try_for_each(|zeros| {
                    let part = zeros.get(..left.min(zeros.len())).unwrap_or_default();
                    left -= part.len();
                    write_all(&self.out, part)
                })
            } else {
                break;
            };
            if let Err(errno) = written {
                return self.fail(errno, done);
            }
            self.next += 1;
        }
        if self.next > before {
            done.push(Done::HandedOn((self.next * limits::BLOCK_BYTES).min(self.size)));
        }
    }

    fn commit(&mut self, entry: u32, done: &mut Vec<Done>) {
        self.hand_on(done);
        if !self.is_open {
            return;
        }
        debug_assert!(self.next == self.size.div_ceil(limits::BLOCK_BYTES), "all is verified");
        self.give_up();
        done.push(Done::Committed(entry));
    }

    fn fail(&mut self, errno: Errno, done: &mut Vec<Done>) {
        let Some(entry) = self.entry else { return };
        self.give_up();
        let text = format!("cannot write to {SHOWN}: {}", std::io::Error::from(errno));
        done.push(Done::Failed(entry, RefuseCode::Disk, text));
    }

    /// Nothing more is wanted.
    fn give_up(&mut self) {
        self.is_open = false;
        self.blocks.clear();
    }
}

/// Writes all, however long the other end takes.
fn write_all(out: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(out, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Somebody else who has it set it so.
            Err(Errno::AGAIN) => {
                let _ = wait(&[Interest::Write(out.as_fd())], Some(ROOM_WAIT), &mut Vec::new());
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
