//! The writing end of one transfer: makes entries, writes and checks their bytes, commits them.
//!
//! Runs on a thread of its own, so that a slow disk never keeps the network waiting. What it is
//! to do comes as jobs (see `job`), in order; what became of it goes back the same way.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

use super::incoming::{FurtherName, Incoming};
use super::job::{
    Action, Done, Job, abandon_text, has_found, note_commit, note_name, refuse_code, settled, text,
};
use super::options::SinkOptions;
use crate::io::attributes;
use crate::io::confine::FileError;
use crate::io::existing::{Landing, Verdict};
use crate::io::files::TempFile;
use crate::io::journal::{Kept, Subject};
use crate::io::metadata::{Identity, Timestamp};
use crate::io::name::RelativePath;
use crate::io::tree::{
    Directories, Made, is_directory, is_one_file, make_hard_link, make_link, sync_name,
};
use crate::proto::ReceivedEntry;
use crate::wire::{Digest, DigestAlgorithm, EntryKind, RefuseCode, VoidReason, limits};

/// Bytes read back at once when a block is compared.
const READ_BACK_BYTES: usize = 128 << 10;

/// Pieces in one write call at most (UIO_MAXIOV of Linux).
const PIECES_MAX: usize = 1_024;

/// See the module's description.
#[derive(Debug)]
pub struct Sink {
    options: SinkOptions,
    /// In boxes, as the tree moves what it holds.
    files: BTreeMap<u32, Box<Incoming>>,
    directories: Directories,
    /// Whether anything was there already.
    has_found: bool,
    scratch: Vec<u8>,
}

impl Sink {
    /// A sink without entries.
    pub fn new(options: SinkOptions) -> Sink {
        Sink {
            options,
            files: BTreeMap::new(),
            directories: Directories::default(),
            has_found: false,
            scratch: Vec::new(),
        }
    }

    /// Does a job and appends what became of it.
    pub fn run(&mut self, job: &Job, done: &mut Vec<Done>) {
        if self.options.discard {
            done.extend(job.actions.iter().filter_map(Action::discarded));
            return;
        }
        for action in &job.actions {
            match action {
                Action::Entry(entry) => self.take_entry(entry, done),
                Action::Hole { entry, offset, bytes } => self.hole(*entry, *offset, *bytes, done),
                Action::More { entry, bytes } => {
                    if let Some(incoming) = self.files.get_mut(entry) {
                        incoming.grow(*bytes);
                    }
                }
                Action::Write { entry, offset, first_piece, pieces, .. } => {
                    let pieces = job.pieces.get(*first_piece..first_piece + pieces);
                    self.write(*entry, *offset, job, pieces.unwrap_or_default(), done);
                }
                Action::Verify { entry, block, digest } => {
                    self.verify(*entry, *block, digest, done);
                }
                Action::Commit { entry } => self.commit(*entry, done),
                Action::Abandon { entry, code, reason } => {
                    self.abandon(*entry, *reason, done);
                    done.push(Done::Failed(*entry, *code, abandon_text(*code, *reason).into()));
                }
                Action::Finish => self.finish(done),
            }
        }
        self.has_found |= has_found(done);
    }

    /// All entries are settled.
    fn finish(&mut self, done: &mut Vec<Done>) {
        let root = &self.options.root;
        let fsync = self.options.fsync && !self.options.dry_run;
        // What cannot be set on a directory fails no file: the files are committed.
        for (path, error) in std::mem::take(&mut self.directories).finish(root, fsync) {
            done.push(Done::Note(path, text(&error)));
        }
        // Whoever made what was there already may have synced nothing of it.
        if fsync
            && (self.has_found || has_found(done))
            && let Err(error) = root.sync_file_system()
        {
            done.push(Done::Note(b".".to_vec(), text(&error)));
        }
        done.push(Done::Finished);
    }

    // ---- entries ----

    fn take_entry(&mut self, entry: &ReceivedEntry, done: &mut Vec<Done>) {
        let number = entry.entry;
        let path = match RelativePath::parse(&entry.path) {
            Ok(path) => path,
            Err(error) => {
                done.push(Done::Refused(number, RefuseCode::Name, error.to_string()));
                return;
            }
        };
        let modified = Timestamp::new(entry.mtime.0, entry.mtime.1).unwrap_or_default();
        let patience = Arc::clone(&self.options.patience);
        let outcome = patience.retry(std::thread::sleep, || match entry.kind {
            EntryKind::Directory => self.take_directory(entry, &path, modified),
            EntryKind::Symlink => self.take_link(entry, &path, modified, done),
            EntryKind::File | EntryKind::Pipe => self.take_file(entry, &path, modified, done),
            EntryKind::HardLink => self.take_hard_link(entry, &path, modified, done),
        });
        let secure = |outcome| self.secure(&path, outcome);
        match outcome.and_then(|outcome| outcome.map(secure).transpose()) {
            Ok(Some(outcome)) => done.push(outcome),
            Ok(None) => {}
            Err(error) => done.push(Done::Refused(number, refuse_code(&error), text(&error))),
        }
    }

    /// With `fsync` a name that was made counts only once no power cut can take it away.
    fn secure(&self, path: &RelativePath, outcome: Done) -> Result<Done, FileError> {
        let SinkOptions { root, fsync, dry_run, .. } = &self.options;
        if *fsync && !dry_run && matches!(outcome, Done::Committed(_)) {
            sync_name(root, path)?;
        }
        Ok(outcome)
    }

    fn take_directory(
        &mut self,
        entry: &ReceivedEntry,
        path: &RelativePath,
        modified: Timestamp,
    ) -> Result<Option<Done>, FileError> {
        let root = &self.options.root;
        let identity = &entry.identity;
        if self.options.is_same_machine && root.is(identity.device, identity.inode) {
            // What is stored would be found and sent again, ever deeper.
            return Err(FileError::Itself { path: root.shown(path) });
        }
        if self.options.dry_run {
            return match root.stat(path)? {
                None => Ok(Some(Done::Committed(entry.entry))),
                Some(stat) if is_directory(&stat) => Ok(Some(Done::Present(entry.entry))),
                Some(_) => Err(FileError::Exists { path: root.shown(path) }),
            };
        }
        let mode = u32::from(entry.mode);
        let modes = self.options.modes_for(&entry.attributes);
        let made = self.directories.make(root, path, mode, modified, &modes)?;
        if self.options.archive && made == Made::Created {
            attributes::set_at(root, path, &entry.attributes, true)?;
        }
        Ok(Some(settled(entry.entry, made)))
    }

    /// How an entry lands, or, where nothing is to be stored, what it is settled as.
    fn settle(&self, entry: u32, verdict: Verdict) -> Result<Landing, Done> {
        match verdict {
            Verdict::Present => Err(Done::Present(entry)),
            Verdict::Keep => Err(Done::Kept(entry)),
            Verdict::Store(_) if self.options.dry_run => Err(Done::Committed(entry)),
            Verdict::Store(landing) => Ok(landing),
        }
    }

    fn take_link(
        &mut self,
        entry: &ReceivedEntry,
        path: &RelativePath,
        modified: Timestamp,
        done: &mut Vec<Done>,
    ) -> Result<Option<Done>, FileError> {
        let SinkOptions { root, links, existing, .. } = &self.options;
        if !links.allow(path, &entry.target) {
            return Err(FileError::LinkLeavesTree { path: root.shown(path) });
        }
        let verdict = existing.judge_link(root, path, &entry.target, modified)?;
        Ok(Some(match self.settle(entry.entry, verdict) {
            Err(settled) => settled,
            Ok(landing) => {
                let name = make_link(root, path, &entry.target, modified, landing)?;
                if self.options.archive && name.is_none() {
                    attributes::set_at(root, path, &entry.attributes, false)?;
                }
                note_name(path, name, done);
                Done::Committed(entry.entry)
            }
        }))
    }

    fn take_file(
        &mut self,
        entry: &ReceivedEntry,
        path: &RelativePath,
        modified: Timestamp,
        done: &mut Vec<Done>,
    ) -> Result<Option<Done>, FileError> {
        let SinkOptions { root, existing, dry_run, .. } = &self.options;
        let is_pipe = entry.kind == EntryKind::Pipe;
        // Of a pipe nobody can tell whether it is there already.
        let size = if is_pipe { u64::MAX } else { entry.size };
        let is_fresh = self.directories.is_fresh(path);
        let verdict = match is_fresh {
            // Three system calls less for each of many small files.
            true => Verdict::Store(existing.landing()),
            false => existing.judge_file(root, path, size, modified)?,
        };
        // What is stored goes on with it if it is large. The source may have been larger before.
        let is_small = entry.size <= limits::BLOCK_BYTES;
        if !dry_run && !is_fresh && is_small == matches!(verdict, Verdict::Store(_)) {
            TempFile::remove_leftover(root, path);
        }
        let landing = match self.settle(entry.entry, verdict) {
            Err(settled) => return Ok(Some(settled)),
            Ok(landing) => landing,
        };
        let identity = Identity {
            device: entry.identity.device,
            inode: entry.identity.inode,
            size: entry.size,
            modified,
            changed: Timestamp::new(entry.identity.ctime_seconds, entry.identity.ctime_nanos)
                .unwrap_or_default(),
        };
        let mut incoming = Box::new(Incoming {
            path: path.clone(),
            mode: self.options.modes_for(&entry.attributes).apply(u32::from(entry.mode)),
            attributes: self.options.archive.then(|| entry.attributes.clone()),
            modified,
            size: entry.size,
            is_pipe,
            names: Vec::new(),
            landing,
            // Nothing is kept of a file without digests, nor of a pipe.
            subject: Subject {
                source: identity,
                digest: if is_pipe { DigestAlgorithm::None } else { self.options.digest },
            },
            holes: Vec::new(),
            file: None,
            kept: Kept::default(),
            ticket: None,
            spooled: None,
            partial: Vec::new(),
        });
        incoming.resume(&self.options, entry.entry, done)?;
        self.files.insert(entry.entry, incoming);
        Ok(None)
    }

    fn take_hard_link(
        &mut self,
        entry: &ReceivedEntry,
        path: &RelativePath,
        modified: Timestamp,
        done: &mut Vec<Done>,
    ) -> Result<Option<Done>, FileError> {
        let SinkOptions { root, existing, dry_run, .. } = &self.options;
        let Ok(first) = RelativePath::parse(&entry.target) else {
            return Err(FileError::Fileless { path: root.shown(path) });
        };
        if *dry_run {
            let verdict = existing.judge_file(root, path, entry.size, modified)?;
            return Ok(self.settle(entry.entry, verdict).err());
        }
        if let Some(incoming) = self.files.values_mut().find(|one| one.path == first) {
            incoming.names.push(FurtherName { entry: entry.entry, path: path.clone() });
            return Ok(None);
        }
        self.link(entry.entry, path, &first, entry.size, modified, done).map(Some)
    }

    /// Gives the file `first` the further name `path`.
    fn link(
        &self,
        entry: u32,
        path: &RelativePath,
        first: &RelativePath,
        size: u64,
        modified: Timestamp,
        done: &mut Vec<Done>,
    ) -> Result<Done, FileError> {
        let SinkOptions { root, existing, .. } = &self.options;
        let Some(first) = existing.find_file(root, first, size, modified)? else {
            return Err(FileError::Fileless { path: root.shown(path) });
        };
        if is_one_file(root, &first, path)? {
            return Ok(Done::Present(entry));
        }
        let verdict = existing.judge_file(root, path, size, modified)?;
        Ok(match self.settle(entry, verdict) {
            Err(settled) => settled,
            Ok(landing) => {
                let name = make_hard_link(root, &first, path, landing)?;
                note_name(path, name, done);
                Done::Committed(entry)
            }
        })
    }

    /// Decides on the hard links that waited for a file.
    fn settle_names(&self, incoming: &Incoming, done: &mut Vec<Done>) {
        for FurtherName { entry, path } in &incoming.names {
            let Incoming { path: first, size, modified, .. } = incoming;
            let linked = self.link(*entry, path, first, *size, *modified, done);
            let secured = linked.and_then(|outcome| self.secure(path, outcome));
            done.push(
                secured.unwrap_or_else(|error| {
                    Done::Failed(*entry, refuse_code(&error), text(&error))
                }),
            );
        }
    }

    fn hole(&mut self, entry: u32, offset: u64, bytes: u64, done: &mut Vec<Done>) {
        let Some(incoming) = self.files.get_mut(&entry) else { return };
        incoming.holes.push((offset, bytes));
        // Body overtook the manifest, and the file was made without holes.
        if let Some(file) = &incoming.file
            && let Err(error) = file.punch_hole(offset, bytes)
        {
            self.fail(entry, &error, done);
        }
    }

    /// Gives a file up for the sender's reasons. One that cannot be read now may be read later.
    fn abandon(&mut self, entry: u32, reason: Option<VoidReason>, done: &mut Vec<Done>) {
        let Some(mut incoming) = self.files.remove(&entry) else { return };
        self.settle_names(&incoming, done);
        if let Some(file) = incoming.file.take()
            && reason != Some(VoidReason::Unreadable)
        {
            file.abandon();
        }
    }

    /// Gives a file up after an error of ours. What is verified of it is kept for another run.
    fn fail(&mut self, entry: u32, error: &FileError, done: &mut Vec<Done>) {
        if let Some(incoming) = self.files.remove(&entry) {
            done.push(Done::Failed(entry, refuse_code(error), text(error)));
            self.settle_names(&incoming, done);
        }
    }

    // ---- bytes ----

    fn write(
        &mut self,
        entry: u32,
        offset: u64,
        job: &Job,
        pieces: &[(u32, u32)],
        done: &mut Vec<Done>,
    ) {
        let Some(incoming) = self.files.get_mut(&entry) else { return };
        let bytes = job.buffer.bytes();
        let slice_of = |&(start, length): &(u32, u32)| {
            bytes.get(start as usize..start as usize + length as usize).unwrap_or_default()
        };
        if incoming
            .kept
            .has_any(offset..offset + pieces.iter().map(|one| u64::from(one.1)).sum::<u64>())
        {
            return self.write_around_kept(entry, offset, job, pieces, done);
        }
        let mut at = offset;
        for group in pieces.chunks(PIECES_MAX) {
            let mut slices: Vec<IoSlice<'_>> =
                group.iter().map(|piece| IoSlice::new(slice_of(piece))).collect();
            let result = incoming.store(&self.options, &mut slices, at);
            if let Err(error) = result {
                return self.fail(entry, &error, done);
            }
            for piece in group {
                let slice = slice_of(piece);
                incoming.digest(self.options.digest, at, slice);
                at += slice.len() as u64;
            }
        }
        done.push(Done::Written(at - offset));
    }

    /// The same where bytes were under way already when the sender heard what is kept.
    fn write_around_kept(
        &mut self,
        entry: u32,
        mut offset: u64,
        job: &Job,
        pieces: &[(u32, u32)],
        done: &mut Vec<Done>,
    ) {
        for &(mut start, mut length) in pieces {
            while length > 0 {
                let room = limits::BLOCK_BYTES - offset % limits::BLOCK_BYTES;
                let part = length.min(room as u32);
                let Some(incoming) = self.files.get(&entry) else { return };
                if !incoming.kept.has_any(offset..offset + u64::from(part)) {
                    self.write(entry, offset, job, &[(start, part)], done);
                }
                (start, length) = (start + part, length - part);
                offset += u64::from(part);
            }
        }
    }

    fn verify(&mut self, entry: u32, block: u32, digest: &Digest, done: &mut Vec<Done>) {
        let Some(incoming) = self.files.get_mut(&entry) else { return };
        if self.options.digest == DigestAlgorithm::None {
            done.push(Done::Verified(entry, block));
            return;
        }
        let start = u64::from(block) * limits::BLOCK_BYTES;
        if incoming.kept.has_any(start..start + 1) {
            let known = incoming.kept.digests.get(&block);
            if known.is_none_or(|known| known == digest) {
                done.push(Done::Verified(entry, block));
            } else {
                // Another content under the same identity: nothing that is kept can be trusted.
                self.abandon(entry, None, done);
                let (code, text) = (RefuseCode::Changed, "its source changed unseen".into());
                done.push(Done::Failed(entry, code, text));
            }
            return;
        }
        let end = (start + limits::BLOCK_BYTES).min(incoming.size);
        let mut partial = incoming.take_partial(self.options.digest, block);
        while partial.next < end {
            let length = READ_BACK_BYTES.min((end - partial.next) as usize);
            self.scratch.resize(length, 0);
            let read = incoming.load(&self.options, &mut self.scratch, partial.next);
            if let Err(error) = read {
                return self.fail(entry, &error, done);
            }
            partial.hasher.update(&self.scratch);
            partial.next += length as u64;
        }
        if partial.hasher.finish() != *digest {
            done.push(Done::Differs(entry, block));
            return;
        }
        if let Some(file) = &mut incoming.file {
            file.on_verified(block, digest);
        }
        done.push(Done::Verified(entry, block));
    }

    fn commit(&mut self, entry: u32, done: &mut Vec<Done>) {
        let Some(mut incoming) = self.files.remove(&entry) else { return };
        let SinkOptions { root, existing, fsync, .. } = &self.options;
        let result = incoming.complete(&self.options).and_then(|()| match incoming.file.take() {
            Some(mut file) => {
                if let Some(attributes) = &incoming.attributes
                    && let Err(error) = file.set_attributes(attributes)
                {
                    file.abandon();
                    return Err(error);
                }
                file.commit_as(incoming.mode, incoming.modified, *fsync, incoming.landing)
            }
            None => Err(FileError::Fileless { path: root.shown(&incoming.path) }),
        });
        let Incoming { path, size, modified, .. } = &*incoming;
        let outcome = match result {
            Ok(committed) => {
                note_commit(path, committed, done);
                Done::Committed(entry)
            }
            // Somebody else took the name meanwhile.
            Err(error @ FileError::Exists { .. }) => {
                match existing.judge_file(root, path, *size, *modified) {
                    Ok(Verdict::Present) => Done::Present(entry),
                    Ok(Verdict::Keep) => Done::Kept(entry),
                    _ => Done::Failed(entry, refuse_code(&error), text(&error)),
                }
            }
            Err(error) => Done::Failed(entry, refuse_code(&error), text(&error)),
        };
        done.push(outcome);
        self.settle_names(&incoming, done);
    }
}

#[cfg(test)]
mod tests {
    use super::super::patience::Patience;
    use super::*;
    use crate::io::buffer::{Arrival, BufferPool};
    use crate::io::confine::Root;
    use crate::io::descriptors::Descriptors;
    use crate::io::digest::BlockHasher;
    use crate::io::existing::OnExisting;
    use crate::io::metadata::ModePolicy;
    use crate::io::name::Links;
    use crate::proto::Attributes;
    use crate::wire;

    const FILES: u32 = 40;
    const BYTES: usize = 100;

    fn options(root: Root, files_max: usize) -> SinkOptions {
        SinkOptions {
            patience: Arc::new(Patience::new(Arc::default())),
            descriptors: Arc::new(Descriptors::with_files_max(files_max, root.as_directory())),
            root: Arc::new(root),
            output: None,
            links: Links::default(),
            existing: OnExisting::default(),
            archive: false,
            modes: ModePolicy { umask: 0o022, keep_special_bits: false },
            fsync: false,
            digest: DigestAlgorithm::Xxh3,
            dry_run: false,
            discard: false,
            is_same_machine: false,
        }
    }

    fn entry(entry: u32) -> Action {
        Action::Entry(ReceivedEntry {
            entry,
            kind: EntryKind::File,
            mode: 0o644,
            mtime: (7, 0),
            size: BYTES as u64,
            identity: wire::Identity { device: 0, inode: 0, ctime_seconds: 0, ctime_nanos: 0 },
            path: format!("{entry}").into_bytes(),
            target: Vec::new(),
            attributes: Attributes::default(),
        })
    }

    /// A directory that takes `a` and `A` for one name, as far as a receiver can see it: whatever
    /// gets one of them has the other.
    #[test]
    fn of_two_names_that_a_directory_takes_for_one_the_second_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let mut sink = Sink::new(options(Root::open(place.path()).unwrap(), 3));
        let named = |number: u32, path: &[u8], seconds: i64| {
            let Action::Entry(file) = entry(number) else { unreachable!("it is an entry") };
            let (path, mtime) = (path.to_vec(), (seconds, 0));
            Action::Entry(ReceivedEntry { path, mtime, ..file })
        };
        let mut run = |actions: Vec<Action>| {
            let buffer = Arc::new(BufferPool::new(1, 0).take().unwrap());
            let mut done = Vec::new();
            sink.run(&Job { buffer, pieces: Vec::new(), actions }, &mut done);
            done
        };
        // Both are under way before either is there.
        run(vec![named(0, b"a", 1), named(1, b"A", 2)]);
        let done = run(vec![Action::Commit { entry: 0 }]);
        assert!(matches!(done[..], [Done::Committed(0)]), "{done:?}");
        std::fs::hard_link(place.path().join("a"), place.path().join("A")).unwrap();
        let done = run(vec![Action::Commit { entry: 1 }]);
        assert!(matches!(done[..], [Done::Failed(1, RefuseCode::Exists, _)]), "{done:?}");
        // Or the second comes when the first is there.
        let done = run(vec![named(2, b"A", 3)]);
        assert!(matches!(done[..], [Done::Refused(2, RefuseCode::Exists, _)]), "{done:?}");
        let modified = std::fs::metadata(place.path().join("a")).unwrap().modified().unwrap();
        let seconds = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(seconds, 1, "the first was touched");
    }

    /// Every file is incomplete before any is complete, as on a path that reorders or loses.
    #[test]
    fn more_files_are_incomplete_at_a_time_than_may_be_open() {
        let place = tempfile::tempdir().unwrap();
        let mut sink = Sink::new(options(Root::open(place.path()).unwrap(), 3));
        let content: Vec<u8> = (0..BYTES as u8).collect();
        let mut buffer = BufferPool::new(1, 0).take().unwrap();
        let arrival = Arrival {
            start: 0,
            length: 0,
            segment_bytes: 1,
            from: ([127, 0, 0, 1], 1).into(),
            to: None,
        };
        buffer.copy(&content, &arrival).unwrap();
        // The first ten bytes of the last file are a hole.
        let hole = |file: u32| if file == FILES - 1 { 10 } else { 0 };
        let pieces = (0..FILES).map(|file| (hole(file), BYTES as u32 - hole(file)));
        let write = |file: u32| Action::Write {
            entry: file,
            offset: u64::from(hole(file)),
            bytes: u64::from(BYTES as u32 - hole(file)),
            first_piece: file as usize,
            pieces: 1,
        };
        let mut job = Job {
            buffer: Arc::new(buffer),
            pieces: pieces.collect(),
            actions: (0..FILES).map(entry).collect(),
        };
        job.actions.push(Action::Hole { entry: FILES - 1, offset: 0, bytes: 10 });
        job.actions.extend((0..FILES).map(write));
        let mut done = Vec::new();
        sink.run(&job, &mut done);
        assert_eq!(sink.files.len(), FILES as usize);
        assert_eq!(sink.files.values().filter(|file| file.file.is_some()).count(), 3);

        let mut sparse = content.clone();
        sparse[..10].fill(0);
        let expected = |file: u32| if file == FILES - 1 { &sparse } else { &content };
        let digest = |file: u32| {
            let mut hasher = BlockHasher::new(DigestAlgorithm::Xxh3, 0, BYTES as u64);
            hasher.update(expected(file));
            hasher.finish()
        };
        let verify = |file| Action::Verify { entry: file, block: 0, digest: digest(file) };
        job.actions = (0..FILES).map(verify).collect();
        job.actions.extend((0..FILES).map(|file| Action::Commit { entry: file }));
        done.clear();
        sink.run(&job, &mut done);
        for file in 0..FILES {
            let is_verified = |one: &Done| matches!(one, Done::Verified(it, 0) if *it == file);
            assert!(done.iter().any(is_verified), "{file}: {done:?}");
            assert!(done.iter().any(|one| matches!(one, Done::Committed(it) if *it == file)));
            let stored = std::fs::read(place.path().join(file.to_string())).unwrap();
            assert_eq!(&stored, expected(file));
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), FILES as usize);
    }
}
