//! Walks the sources on a thread of its own: a slow directory must not keep ACKs waiting.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use crate::io::source::{EntryKind, SourceEntry, SourceError, Sources};
use crate::io::wait::Doorbell;
use crate::io::walk::{Skipped, WalkItem};
use crate::wire::limits;

/// Entries walked ahead of need.
const AHEAD: usize = 1_024;

/// What the walk finds.
#[derive(Debug)]
pub enum Found {
    /// Something to send, with the ranges of the file that have no data.
    Entry(SourceEntry, Vec<Range<u64>>),
    /// Something that is not sent.
    Skipped(Skipped),
    /// The last entry, a pipe, goes on for another block of so many bytes.
    More(u32),
    /// The last entry, a pipe, cannot be read to its end.
    Broken(SourceError),
    /// Nothing more: the walk is complete.
    End,
    /// A file that cannot be opened.
    Unreadable(SourceEntry, SourceError),
}

/// The walking thread.
#[derive(Debug)]
pub struct Announcer {
    found: Option<Receiver<Found>>,
    thread: Option<JoinHandle<()>>,
}

impl Announcer {
    /// Starts to walk; `doorbell` rings when something was found after none was left.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn start(sources: Arc<Sources>, doorbell: Arc<Doorbell>) -> std::io::Result<Announcer> {
        let (send, found) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new().name("walk".into()).spawn(move || {
            walk(&sources, &send, &doorbell);
            drop(send);
            doorbell.ring();
        })?;
        Ok(Announcer { found: Some(found), thread: Some(thread) })
    }

    /// The next thing found, if there is one.
    pub fn next(&mut self) -> Result<Found, Nothing> {
        match self.found.as_ref().map(Receiver::try_recv) {
            Some(Ok(found)) => Ok(found),
            Some(Err(TryRecvError::Empty)) => Err(Nothing::StillLooking),
            Some(Err(TryRecvError::Disconnected)) | None => Err(Nothing::Died),
        }
    }
}

/// Why nothing was found.
#[derive(Clone, Copy, Debug)]
pub enum Nothing {
    /// The walk goes on.
    StillLooking,
    /// The walk broke off before its end.
    Died,
}

impl Drop for Announcer {
    fn drop(&mut self) {
        // Without a receiver the walk ends at its next find.
        self.found = None;
        if let Some(thread) = self.thread.take() {
            // A walk that hangs in a dead network file system must not keep the program.
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

fn walk(sources: &Sources, send: &SyncSender<Found>, doorbell: &Doorbell) {
    for item in sources.items() {
        let found = match item {
            WalkItem::Entry(mut entry) => match look_into(sources, &mut entry) {
                Ok(holes) => Found::Entry(entry, holes),
                Err(error) => Found::Unreadable(entry, error),
            },
            WalkItem::Skipped(skipped) => Found::Skipped(skipped),
            WalkItem::More(bytes) => Found::More(bytes),
            WalkItem::Broken(error) => Found::Broken(error),
        };
        if send.send(found).is_err() {
            return;
        }
        doorbell.ring();
    }
    // If nobody takes it, nobody needs it.
    let _ = send.send(Found::End);
}

/// What has to be looked up in the file itself: its extended attributes, and the ranges between its
/// data ranges, which are returned.
fn look_into(sources: &Sources, entry: &mut SourceEntry) -> Result<Vec<Range<u64>>, SourceError> {
    let mut holes = Vec::new();
    let EntryKind::File { may_have_holes } = entry.kind else { return Ok(holes) };
    let reads_attributes = sources.archive && sources.pipe().is_none();
    if !may_have_holes && !reads_attributes {
        return Ok(holes);
    }
    let file = sources.open(entry)?;
    if reads_attributes {
        entry.attributes.extended = file.attributes()?;
    }
    if !may_have_holes {
        return Ok(holes);
    }
    let mut end = 0;
    for range in file.data_ranges() {
        let range = range?;
        if range.start > end {
            holes.push(end..range.start);
        }
        if holes.len() >= 2 * limits::HOLES_MAX {
            keep_largest(&mut holes, limits::HOLES_MAX);
        }
        end = range.start + range.bytes;
    }
    if end < entry.identity.size {
        holes.push(end..entry.identity.size);
    }
    keep_largest(&mut holes, limits::HOLES_MAX);
    Ok(holes)
}

/// Leaves the largest of these ranges, in their order. The others are sent as the zeros they read
/// as.
fn keep_largest(holes: &mut Vec<Range<u64>>, most: usize) {
    if holes.len() > most {
        holes.sort_by_key(|hole| Reverse(hole.end - hole.start));
        holes.truncate(most);
        holes.sort_by_key(|hole| hole.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_holes_the_largest_are_announced_in_their_order() {
        let mut holes = vec![0..5, 10..12, 20..29, 30..31];
        keep_largest(&mut holes, 4);
        assert_eq!(holes.len(), 4);
        keep_largest(&mut holes, 2);
        assert_eq!(holes, [0..5, 20..29]);
    }
}
