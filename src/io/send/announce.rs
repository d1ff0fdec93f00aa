//! Walks the sources on a thread of its own: a slow directory must not keep ACKs waiting.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::io::source::{EntryKind, SourceEntry, SourceError, Sources};
use crate::io::wait::Doorbell;
use crate::io::walk::{Skipped, WalkItem};
use crate::wire::limits;

/// Entries walked ahead of need; as many again may have been taken at once.
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

/// What was found and not taken yet. Taken all at once: to wake the walk for each entry costs as
/// much as to find it.
#[derive(Debug, Default)]
struct Shelf {
    found: VecDeque<Found>,
    /// Nobody takes anything any more.
    is_closed: bool,
    /// Nothing more will be put.
    has_ended: bool,
}

/// A shelf that two threads use.
#[derive(Debug, Default)]
struct Shared {
    shelf: Mutex<Shelf>,
    /// Rings when the shelf was emptied, or closed.
    emptied: Condvar,
}

impl Shared {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Whole between any two of its uses.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what was found, as soon as there is room. False if nobody takes it.
    fn put(&self, found: Found) -> bool {
        let is_full = |shelf: &mut Shelf| shelf.found.len() >= AHEAD && !shelf.is_closed;
        let waited = self.emptied.wait_while(self.shelf(), is_full);
        let mut shelf = waited.unwrap_or_else(PoisonError::into_inner);
        if !shelf.is_closed {
            shelf.found.push_back(found);
        }
        !shelf.is_closed
    }
}

/// Says that the walk has ended, by whatever way.
struct Farewell {
    shared: Arc<Shared>,
    doorbell: Arc<Doorbell>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.shared.shelf().has_ended = true;
        self.doorbell.ring();
    }
}

/// The walking thread.
#[derive(Debug)]
pub struct Announcer {
    shared: Arc<Shared>,
    /// What was taken from the shelf.
    taken: VecDeque<Found>,
    thread: Option<JoinHandle<()>>,
}

impl Announcer {
    /// Starts to walk; `doorbell` rings when something was found after none was left.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn start(sources: Arc<Sources>, doorbell: Arc<Doorbell>) -> std::io::Result<Announcer> {
        let shared = Arc::new(Shared::default());
        let farewell = Farewell { shared: Arc::clone(&shared), doorbell };
        let thread = std::thread::Builder::new()
            .name("walk".into())
            .spawn(move || walk(&sources, &farewell.shared, &farewell.doorbell))?;
        Ok(Announcer { shared, taken: VecDeque::new(), thread: Some(thread) })
    }

    /// The next thing found, if there is one.
    pub fn next(&mut self) -> Result<Found, Nothing> {
        if let Some(found) = self.taken.pop_front() {
            return Ok(found);
        }
        let mut shelf = self.shared.shelf();
        std::mem::swap(&mut self.taken, &mut shelf.found);
        let has_ended = shelf.has_ended;
        drop(shelf);
        if self.taken.len() >= AHEAD {
            self.shared.emptied.notify_one();
        }
        match self.taken.pop_front() {
            Some(found) => Ok(found),
            None if has_ended => Err(Nothing::Died),
            None => Err(Nothing::StillLooking),
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
        // The walk ends at its next find.
        self.shared.shelf().is_closed = true;
        self.shared.emptied.notify_one();
        if let Some(thread) = self.thread.take() {
            // A walk that hangs in a dead network file system must not keep the program.
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

fn walk(sources: &Sources, shared: &Shared, doorbell: &Doorbell) {
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
        if !shared.put(found) {
            return;
        }
        doorbell.ring();
    }
    // If nobody takes it, nobody needs it.
    shared.put(Found::End);
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
    fn everything_is_found_in_order_however_far_the_walk_is_ahead() {
        let place = tempfile::tempdir().unwrap();
        let files = 3 * AHEAD;
        for number in 0..files {
            std::fs::write(place.path().join(format!("{number:05}")), "").unwrap();
        }
        let sources = Arc::new(Sources::new(&[place.path().to_owned()]).unwrap());
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let mut announcer = Announcer::start(Arc::clone(&sources), Arc::clone(&doorbell)).unwrap();
        let mut names = Vec::new();
        loop {
            match announcer.next() {
                Ok(Found::Entry(entry, _)) => names.push(entry.name.split().1.to_vec()),
                Ok(Found::End) => break,
                Ok(other) => panic!("{other:?}"),
                Err(Nothing::StillLooking) => std::thread::yield_now(),
                Err(Nothing::Died) => panic!("the walk died"),
            }
        }
        let expected = (0..files).map(|number| format!("{number:05}").into_bytes());
        assert!(names.into_iter().skip(1).eq(expected));
        // One whose finds nobody takes ends, too.
        let ended = Announcer::start(sources, doorbell).unwrap();
        let shared = Arc::clone(&ended.shared);
        drop(ended);
        while !shared.shelf().has_ended {
            std::thread::yield_now();
        }
    }

    #[test]
    fn of_too_many_holes_the_largest_are_announced_in_their_order() {
        let mut holes = vec![0..5, 10..12, 20..29, 30..31];
        keep_largest(&mut holes, 4);
        assert_eq!(holes.len(), 4);
        keep_largest(&mut holes, 2);
        assert_eq!(holes, [0..5, 20..29]);
    }
}
