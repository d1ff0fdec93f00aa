//! Reads the records of a journal, and tells what they vouch for.

use std::collections::VecDeque;

use super::form::{BLOCK, RECORD_BYTES, SESSION, SYNCED, decode_record};
use super::{Kept, Session, Subject};
use crate::wire::{Digest, DigestAlgorithm, limits};

/// Digests of found blocks kept in memory, from the first block on: as much as can be under way
/// before the sender hears that it need not be sent, and some.
const DIGESTS_KEPT: usize = 1_024;

/// Reads records one after the other.
pub struct Scan {
    now: Session,
    block_count: u64,
    digest: DigestAlgorithm,
    checksum: u32,
    /// Records so far.
    pub index: u64,
    /// The session of what comes next.
    pub session: Option<Session>,
    /// Records of blocks so far.
    pub blocks: u64,
    /// Blocks of other sessions that no mark has vouched for yet.
    pub pending: VecDeque<Pending>,
    /// Index of the first record that is no record: the end, if none follows.
    pub torn_at: Option<u64>,
    pub kept: Kept,
}

/// A block that nothing vouches for yet.
pub struct Pending {
    pub index: u64,
    block: u32,
    digest: Digest,
}

impl Scan {
    /// Nothing was read yet; `now` is the session of who reads.
    pub fn new(now: Session, subject: &Subject, checksum: u32) -> Scan {
        Scan {
            now,
            block_count: subject.source.size.div_ceil(limits::BLOCK_BYTES),
            digest: subject.digest,
            checksum,
            index: 0,
            session: None,
            blocks: 0,
            pending: VecDeque::new(),
            torn_at: None,
            kept: Kept::default(),
        }
    }

    /// The next record. None if the journal is odd.
    pub fn take(&mut self, record: &[u8; RECORD_BYTES]) -> Option<()> {
        let decoded = decode_record(self.checksum, self.index, record);
        match (decoded, self.torn_at) {
            (None, None) => self.torn_at = Some(self.index),
            (None, Some(_)) => {}
            // Something behind a damage: it is not the torn end of the last write.
            (Some(_), Some(_)) => return None,
            (Some((kind, number, payload)), None) => self.on_record(kind, number, payload)?,
        }
        self.index += 1;
        Some(())
    }

    fn on_record(&mut self, kind: u8, number: u32, payload: &[u8; 32]) -> Option<()> {
        match kind {
            BLOCK => {
                let digest = Digest::from_slice(payload.get(..self.digest.digest_bytes())?)?;
                self.session.filter(|_| u64::from(number) < self.block_count)?;
                self.blocks += 1;
                if self.now.is_same(self.session) {
                    self.keep(number, digest);
                } else {
                    let index = self.index;
                    self.pending.push_back(Pending { index, block: number, digest });
                }
            }
            SESSION => {
                // Who writes in a new session first cuts off what nothing vouches for.
                if !self.pending.is_empty() {
                    return None;
                }
                let boot = *payload.first_chunk()?;
                let mount = u64::from_be_bytes(*payload.get(16..)?.first_chunk()?);
                self.session = Some(Session { boot, mount });
            }
            SYNCED => {
                // All but the last `blocks - number` records of blocks are vouched for.
                let later = self.blocks.checked_sub(u64::from(number))?;
                while self.pending.len() as u64 > later {
                    let Pending { block, digest, .. } = self.pending.pop_front()?;
                    self.keep(block, digest);
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn keep(&mut self, block: u32, digest: Digest) {
        self.kept.blocks.insert(u64::from(block)..u64::from(block) + 1);
        self.kept.digests.insert(block, digest);
        if self.kept.digests.len() > DIGESTS_KEPT {
            self.kept.digests.pop_last();
        }
    }
}
