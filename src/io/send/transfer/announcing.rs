//! What a sending transfer announces: entries as the walk finds them, and the blocks of a pipe as
//! they are read.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use super::Transfer;
use crate::io::send::announce::{Found, Nothing};
use crate::io::send::outgoing;
use crate::io::source::{EntryKind, SourceEntry};
use crate::proto::Attributes;
use crate::wire::CloseCode;

impl Transfer<'_> {
    /// Takes in what the walk found. Returns whether there was anything.
    pub(super) fn announce(&mut self) -> bool {
        let mut any = false;
        if let Some(pipe) = self.request.sources.pipe() {
            // It is the only entry, so its offsets are those of the body.
            pipe.release(self.sender.delivered());
        }
        while !self.walk_ended && self.sender.wants_entries() {
            let found = self.announcer.next();
            any |= found.is_ok();
            match found {
                Err(Nothing::StillLooking) => return any,
                Err(Nothing::Died) => {
                    self.walk_ended = true;
                    self.sender.cancel(CloseCode::Internal);
                    return any;
                }
                Ok(Found::More(bytes)) => self.push_more(bytes),
                Ok(Found::Broken(error)) => {
                    if let Some(entry) = self.pipe_entry {
                        self.give_up(entry, &error);
                    }
                }
                Ok(Found::End) => {
                    self.end_pipe();
                    self.walk_ended = true;
                    self.counters.totals_final.store(true, Relaxed);
                }
                Ok(Found::Entry(entry, holes)) => {
                    let digests_holes = !holes.is_empty();
                    self.push_entry(entry, holes);
                    // Their zeros are digested here: let the network have its turn.
                    if digests_holes {
                        return any;
                    }
                }
                Ok(Found::Skipped(skipped)) => self.ending.skipped(&skipped),
                Ok(Found::Unreadable(entry, error)) => {
                    self.ending.announced(&entry);
                    self.ending.unreadable(entry.name.as_bytes(), &error);
                }
            }
        }
        let read = self.request.config.dry_run || self.sender.unsent_body_bytes() == 0;
        if self.walk_ended && read && self.batch.is_empty() {
            self.sender.finish_manifest();
        }
        any
    }

    fn push_entry(&mut self, mut source: SourceEntry, mut holes: Vec<Range<u64>>) {
        self.shared.resolve(&mut source, &mut holes);
        if let EntryKind::HardLink { .. } = source.kind {
            // They belong to the file.
            source.attributes = Attributes::default();
        }
        let attributes = std::mem::take(&mut source.attributes);
        let entry = self.sender.push_entry_with(&attributes, &outgoing::wire_entry(&source));
        source.attributes.owner = attributes.owner;
        if !self.request.config.dry_run {
            for hole in &holes {
                self.sender.push_hole(hole.start, hole.end - hole.start);
            }
        }
        let bytes = source.body_bytes();
        let hole_bytes: u64 = holes.iter().map(|hole| hole.end - hole.start).sum();
        self.counters.bytes_total.fetch_add(bytes - hole_bytes, Relaxed);
        self.counters.files_total.fetch_add(1, Relaxed);
        self.ending.announced(&source);
        if source.kind == EntryKind::Pipe {
            self.pipe_entry = Some(entry);
        }
        self.list.push(source, holes);
        if let Some(outgoing) = self.list.get(entry)
            && outgoing.is_file()
        {
            self.digester.announced(entry, outgoing);
        }
    }

    fn push_more(&mut self, bytes: u32) {
        if self.pipe_entry.is_none() {
            // What was read before somebody said that nothing is wanted.
            return;
        }
        self.sender.push_more(bytes);
        self.list.extend_last(u64::from(bytes));
        self.counters.bytes_total.fetch_add(u64::from(bytes), Relaxed);
    }

    /// A pipe has come to its end.
    fn end_pipe(&mut self) {
        let outgoing = self.pipe_entry.take().and_then(|entry| self.list.get_mut(entry));
        if let Some(outgoing) = outgoing {
            outgoing.may_grow = false;
            self.digester.end_pipe(outgoing.body.end - outgoing.body.start);
        }
    }

    /// Nothing more is wanted of an entry: of a pipe nothing more is read.
    pub(super) fn close_pipe(&mut self, entry: u32) {
        if self.pipe_entry == Some(entry)
            && let Some(pipe) = self.request.sources.pipe()
        {
            self.pipe_entry = None;
            pipe.close();
        }
    }
}
