//! One file that is being received: taken up from an interrupted transfer or made anew, its blocks
//! digested while they are written. What is written when, and what follows, is `sink`'s business.

use std::collections::BTreeMap;
use std::thread::sleep;

use super::job::Done;
use super::sink::SinkOptions;
use crate::io::confine::FileError;
use crate::io::digest::BlockHasher;
use crate::io::existing::Landing;
use crate::io::files::{Resumed, TempFile};
use crate::io::journal::{Kept, Subject};
use crate::io::metadata::Timestamp;
use crate::io::name::RelativePath;
use crate::wire::{DigestAlgorithm, limits};

/// Blocks of one file that are digested while they are written; of others the rest is read back.
const PARTIAL_MAX: usize = 16;

/// A file that is being received.
#[derive(Debug)]
pub struct Incoming {
    pub path: RelativePath,
    pub mode: u32,
    pub modified: Timestamp,
    pub size: u64,
    pub landing: Landing,
    pub subject: Subject,
    pub holes: Vec<(u64, u64)>,
    /// Taken up from an interrupted transfer, or made with the first byte or at commit.
    pub file: Option<TempFile>,
    /// What the interrupted transfer has left.
    pub kept: Kept,
    /// Blocks digested as far as they were written in order: block -> how far.
    pub partial: BTreeMap<u32, Partial>,
}

/// A block that is digested as far as it was written in order.
#[derive(Debug)]
pub struct Partial {
    pub hasher: BlockHasher,
    /// Offset in the file of the next byte to digest.
    pub next: u64,
}

impl Incoming {
    /// The file, made if this is the first time it is needed.
    pub fn opened(&mut self, options: &SinkOptions) -> Result<&TempFile, FileError> {
        if self.file.is_none() {
            self.file = Some(options.patience.while_busy(sleep, || self.create(options))?);
        }
        match &self.file {
            Some(file) => Ok(file),
            None => Err(FileError::Exists { path: options.root.shown(&self.path) }),
        }
    }

    fn create(&self, options: &SinkOptions) -> Result<TempFile, FileError> {
        let has_holes = !self.holes.is_empty();
        TempFile::create(&options.root, &self.path, &self.subject, has_holes)
    }

    /// Takes up what an interrupted transfer has left of the file.
    pub fn resume(
        &mut self,
        options: &SinkOptions,
        entry: u32,
        done: &mut Vec<Done>,
    ) -> Result<(), FileError> {
        let find = || TempFile::resume(&options.root, &self.path, &self.subject);
        match options.patience.while_busy(sleep, find)? {
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
            if at.is_multiple_of(limits::BLOCK_BYTES) && self.partial.len() < PARTIAL_MAX {
                let hasher = BlockHasher::new(algorithm, block, self.size);
                self.partial.insert(key, Partial { hasher, next: at });
            }
            if let Some(partial) = self.partial.get_mut(&key)
                && partial.next == at
            {
                partial.hasher.update(now);
                partial.next += now.len() as u64;
            }
            at += now.len() as u64;
            bytes = later;
        }
    }
}
