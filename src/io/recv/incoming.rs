//! One file that is being received: taken up from an interrupted transfer or made anew, its blocks
//! digested while they are written. What is written when, and what follows, is `sink`'s business.

use std::io::IoSlice;
use std::thread::sleep;

use super::job::Done;
use super::options::SinkOptions;
use crate::io::confine::{FileError, io_error};
use crate::io::descriptors::{SPOOLED_BYTES_MAX, Spooled, Ticket};
use crate::io::digest::BlockHasher;
use crate::io::existing::Landing;
use crate::io::files::{Resumed, TempFile};
use crate::io::journal::{Kept, Subject};
use crate::io::metadata::Timestamp;
use crate::io::name::RelativePath;
use crate::proto::Attributes;
use crate::wire::{DigestAlgorithm, limits};

/// Blocks of one file that are digested while they are written; of others the rest is read back.
const PARTIAL_MAX: usize = 16;

/// A file that is being received.
#[derive(Debug)]
pub struct Incoming {
    pub path: RelativePath,
    pub mode: u32,
    pub modified: Timestamp,
    /// Of a pipe: as far as it is known.
    pub size: u64,
    /// Its size is not known before its end.
    pub is_pipe: bool,
    /// What is to be set beside.
    pub attributes: Option<Attributes>,
    /// Further names it gets when it is committed.
    pub names: Vec<FurtherName>,
    pub landing: Landing,
    pub subject: Subject,
    pub holes: Vec<(u64, u64)>,
    /// Taken up from an interrupted transfer, or made with the first byte or at commit.
    pub file: Option<TempFile>,
    /// The right to hold it open.
    pub ticket: Option<Ticket>,
    /// Where its bytes are until the commit, if it did not get that right.
    pub spooled: Option<Spooled>,
    /// What the interrupted transfer has left.
    pub kept: Kept,
    /// Blocks digested as far as they were written in order; a few, in no order.
    pub partial: Vec<Partial>,
}

/// A hard link that waits for its file.
#[derive(Debug)]
pub struct FurtherName {
    pub entry: u32,
    pub path: RelativePath,
}

/// A block that is digested as far as it was written in order.
#[derive(Debug)]
pub struct Partial {
    pub block: u32,
    pub hasher: BlockHasher,
    /// Offset in the file of the next byte to digest.
    pub next: u64,
}

impl Incoming {
    /// A pipe goes on for so many bytes.
    pub fn grow(&mut self, bytes: u64) {
        self.size = self.size.saturating_add(bytes);
        if let Some(file) = &mut self.file {
            file.grow(self.size);
        }
    }

    /// Digests a block of it.
    pub fn hasher(&self, algorithm: DigestAlgorithm, block: u64) -> BlockHasher {
        // A pipe counts as a file of several blocks from its first one on.
        let size = if self.is_pipe { limits::BODY_BYTES_MAX } else { self.size };
        BlockHasher::new(algorithm, block, size)
    }

    /// Writes bytes where the file has them until it is complete.
    pub fn store(
        &mut self,
        options: &SinkOptions,
        slices: &mut [IoSlice<'_>],
        at: u64,
    ) -> Result<(), FileError> {
        if self.file.is_none() && self.spooled.is_none() {
            self.ticket = options.descriptors.ticket();
            if self.ticket.is_none() && self.size <= SPOOLED_BYTES_MAX && !self.is_pipe {
                self.spooled = options.descriptors.spool(self.size);
            }
        }
        match &self.spooled {
            Some(spooled) => spooled
                .write_at(slices, at)
                .map_err(|errno| io_error("write to", options.root.shown(&self.path), errno)),
            None => self.opened(options)?.write_at(slices, at),
        }
    }

    /// Reads bytes back from there.
    pub fn load(
        &mut self,
        options: &SinkOptions,
        bytes: &mut [u8],
        at: u64,
    ) -> Result<(), FileError> {
        match &self.spooled {
            Some(spooled) => spooled
                .read_at(bytes, at)
                .map_err(|errno| io_error("read back", options.root.shown(&self.path), errno)),
            None => self.opened(options)?.read_at(bytes, at),
        }
    }

    /// Makes sure that the file is there with all its bytes.
    pub fn complete(&mut self, options: &SinkOptions) -> Result<(), FileError> {
        let mut bytes = Vec::new();
        if self.spooled.is_some() {
            bytes.resize(self.size as usize, 0);
            self.load(options, &mut bytes, 0)?;
            self.spooled = None;
        }
        self.opened(options)?;
        if let Some(file) = self.file.as_ref().filter(|_| !bytes.is_empty()) {
            file.write_at(&mut [IoSlice::new(&bytes)], 0)?;
            for &(offset, bytes) in &self.holes {
                file.punch_hole(offset, bytes)?;
            }
        }
        Ok(())
    }

    /// The file, made if this is the first time it is needed.
    pub fn opened(&mut self, options: &SinkOptions) -> Result<&TempFile, FileError> {
        if self.file.is_none() {
            self.file = Some(options.patience.retry(sleep, || self.create(options))?);
        }
        match &self.file {
            Some(file) => Ok(file),
            None => Err(FileError::Exists { path: options.root.shown(&self.path) }),
        }
    }

    fn create(&self, options: &SinkOptions) -> Result<TempFile, FileError> {
        let has_holes = !self.holes.is_empty();
        let mut file =
            TempFile::create(&options.root, &self.path, &self.subject, self.mode, has_holes)?;
        if self.is_pipe {
            file.grow(self.size);
        }
        Ok(file)
    }

    /// Takes up what an interrupted transfer has left of the file.
    pub fn resume(
        &mut self,
        options: &SinkOptions,
        entry: u32,
        done: &mut Vec<Done>,
    ) -> Result<(), FileError> {
        let find = || TempFile::resume(&options.root, &self.path, &self.subject);
        match options.patience.retry(sleep, find)? {
            Resumed::Nothing => {}
            Resumed::Changed => {
                let text = "has changed since the interrupted copy: starting again";
                done.push(Done::Note(self.path.as_bytes().to_vec(), text.into()));
            }
            Resumed::Kept(file, kept) => {
                for blocks in kept.blocks.iter() {
                    let count = (blocks.end - blocks.start) as u32;
                    done.push(Done::Have(entry, blocks.start as u32, count));
                }
                self.file = Some(*file);
                self.kept = kept;
            }
        }
        Ok(())
    }

    /// What is digested of a block, which is not digested further while it is written.
    pub fn take_partial(&mut self, algorithm: DigestAlgorithm, block: u32) -> Partial {
        match self.partial.iter().position(|partial| partial.block == block) {
            Some(found) => self.partial.swap_remove(found),
            None => Partial {
                block,
                hasher: self.hasher(algorithm, u64::from(block)),
                next: u64::from(block) * limits::BLOCK_BYTES,
            },
        }
    }

    /// Digests bytes as they are written, where they continue what is digested.
    pub fn digest(&mut self, algorithm: DigestAlgorithm, mut at: u64, mut bytes: &[u8]) {
        if algorithm == DigestAlgorithm::None {
            return;
        }
        while !bytes.is_empty() {
            let block = at / limits::BLOCK_BYTES;
            let room = limits::BLOCK_BYTES - at % limits::BLOCK_BYTES;
            let (now, later) = bytes.split_at(bytes.len().min(room as usize));
            let key = block as u32;
            let end = at + now.len() as u64;
            if at.is_multiple_of(limits::BLOCK_BYTES) {
                // A block that is sent again begins anew.
                self.partial.retain(|partial| partial.block != key);
                if self.partial.len() < PARTIAL_MAX {
                    let hasher = self.hasher(algorithm, block);
                    self.partial.push(Partial { block: key, hasher, next: at });
                }
            }
            let begun = self.partial.iter_mut().find(|partial| partial.block == key);
            if let Some(partial) = begun.filter(|partial| partial.next == at) {
                match end == self.size && at.is_multiple_of(limits::BLOCK_BYTES) && !self.is_pipe {
                    true => partial.hasher.update_whole(now),
                    false => partial.hasher.update(now),
                }
                partial.next = end;
            }
            at = end;
            bytes = later;
        }
    }
}
