//! What a transfer's writing end is told of how to store entries.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::patience::Patience;
use crate::io::confine::Root;
use crate::io::descriptors::Descriptors;
use crate::io::existing::OnExisting;
use crate::io::metadata::ModePolicy;
use crate::io::name::Links;
use crate::proto::Attributes;
use crate::wire::DigestAlgorithm;

/// How entries are stored.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// For what others hold.
    pub patience: Arc<Patience>,
    /// Shared by all transfers of the receiver.
    pub descriptors: Arc<Descriptors>,
    /// The receive directory.
    pub root: Arc<Root>,
    /// Where the one file of the transfer is handed on to, instead of storing it.
    pub output: Option<Arc<OwnedFd>>,
    /// Which symbolic links are taken.
    pub links: Links,
    /// What becomes of what has another's name.
    pub existing: OnExisting,
    /// Owners and extended attributes are kept.
    pub archive: bool,
    /// What becomes of modes.
    pub modes: ModePolicy,
    /// Make files safe against a power cut before they count as committed.
    pub fsync: bool,
    /// The transfer's digest.
    pub digest: DigestAlgorithm,
    /// Nothing is to be stored.
    pub dry_run: bool,
    /// What comes is dropped.
    pub discard: bool,
    /// The sender is on this machine: its devices and inodes are ours.
    pub is_same_machine: bool,
}

impl SinkOptions {
    /// What is made of a mode: all of it is kept with its owner, else as the process would.
    pub fn modes_for(&self, attributes: &Attributes) -> ModePolicy {
        match self.archive && attributes.owner.is_some() {
            true => ModePolicy::EXACT,
            false => self.modes,
        }
    }
}
