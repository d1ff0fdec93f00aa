//! How a sending transfer reads its files: without waiting for a disk on the thread of the network.

use std::io::IoSliceMut;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::Transfer;
use crate::io::send::batch::payload_slots;
use crate::io::send::reader::Reader;
use crate::io::source::SourceError;
use crate::io::source_file::{ReadNow, SourceFile};
use crate::io::wait::{Interest, wait};
use crate::proto::BodyRun;
use crate::wire::DigestAlgorithm;

/// Read at once when something is not in memory: then the kernel has it for the runs that follow.
const AHEAD_BYTES: u64 = 1 << 20;

/// While a read hangs, whether a keepalive is due is looked at so often.
const KEEPALIVE_LOOK: Duration = Duration::from_millis(250);

impl Transfer<'_> {
    /// Reads the run's bytes into their slots, and digests them if they are new. Bytes of a
    /// file that cannot be read become zeros: its digest is never sent, so it is never committed.
    ///
    /// False if the run must not leave: it is a repetition that differs from what was sent, or may,
    /// and nobody else would see that, for there are no digests.
    pub(super) fn read_body(
        &mut self,
        run: &BodyRun,
        datagrams: &mut [u8],
        datagram_bytes: usize,
    ) -> bool {
        let is_unseen = !run.is_new && self.request.config.digest == DigestAlgorithm::None;
        let mut may_leave = true;
        let parts: Vec<_> = self.list.parts(run.range.clone()).collect();
        for (entry, range) in parts {
            let Some(outgoing) = self.list.get(entry) else { continue };
            let from = (outgoing.body.start + range.start - run.range.start) as usize;
            let to = from + (range.end - range.start) as usize;
            let mut slots = payload_slots(datagrams, datagram_bytes, from, to);
            let is_void = outgoing.is_void;
            let result = match self.file(entry) {
                Ok(_) if is_void => Err(SourceError::Vanished { path: String::new() }),
                Ok(file) => match self.read(entry, &file, &mut slots, range.start) {
                    Ok(()) if run.is_new => self.digest(entry, &file, range.start, &slots),
                    //= proto.md#digest-records
                    //# body that is read again after its record MUST NOT be
                    //# sent unless the file is still unchanged after that; if it is not, VOID is
                    //# sent.
                    Ok(()) if is_unseen => file.check_unchanged(),
                    Ok(()) => file.check_once(),
                    // What cannot be read may be something else by now, and no file at all.
                    Err(error) => file.check_once().and(Err(error)),
                },
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                for slot in &mut slots {
                    slot.fill(0);
                }
                may_leave &= !is_unseen;
                self.give_up(entry, &error);
            }
        }
        may_leave
    }

    /// Digests what was read, and announces the blocks that are complete.
    fn digest(
        &mut self,
        entry: u32,
        file: &SourceFile,
        mut offset: u64,
        slots: &[IoSliceMut<'_>],
    ) -> Result<(), SourceError> {
        let mut done = Vec::new();
        let Some(outgoing) = self.list.get(entry) else { return Ok(()) };
        for slot in slots {
            self.digester.update(entry, outgoing, offset, slot, &mut done);
            offset += slot.len() as u64;
        }
        if done.is_empty() {
            return file.check_once();
        }
        // Behind the read and before the digest: nobody commits a file that changed. Of each block,
        // as any may turn out to be the last one that the receiver needs.
        file.check_unchanged()?;
        for (entry, block, digest) in done {
            self.sender.push_digest(entry, block, digest);
        }
        if self.digester.has_ended(entry) {
            self.counters_read(entry);
        }
        Ok(())
    }

    fn counters_read(&mut self, entry: u32) {
        // Retransmissions open it again; most files need none.
        if self.list.get(entry).is_some_and(|one| one.body.end - one.body.start < 65_536) {
            self.open.close(u64::from(entry));
        }
    }

    /// Fills `slots` from byte `offset` of a file on. What is not in memory is waited for, and the
    /// receiver is told meanwhile that this end is there.
    pub(super) fn read(
        &mut self,
        entry: u32,
        file: &Arc<SourceFile>,
        slots: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> Result<(), SourceError> {
        let bytes: u64 = slots.iter().map(|slot| slot.len() as u64).sum();
        let end = offset + bytes;
        let is_ahead = self.ahead.as_ref().is_some_and(|(read, range)| {
            *read == entry && range.start <= offset && range.end >= end
        });
        if !is_ahead && self.in_memory != Some(file.device()) {
            match file.read_now(slots, offset) {
                ReadNow::Read => return Ok(()),
                ReadNow::Never if file.is_in_memory() => self.in_memory = Some(file.device()),
                ReadNow::Never | ReadNow::NotNow => self.wait_for(entry, file, offset, end)?,
            }
        }
        file.read_at(slots, offset)
    }

    /// Has the reader read the range, and as much behind it as is worth one request.
    fn wait_for(
        &mut self,
        entry: u32,
        file: &Arc<SourceFile>,
        offset: u64,
        end: u64,
    ) -> Result<(), SourceError> {
        let range = offset..end.max((offset + AHEAD_BYTES).min(file.size()));
        if self.reader.is_none() {
            // Without a thread it is read here: slower to answer, not wrong.
            self.reader = Reader::start(Arc::clone(&self.doorbell)).ok();
        }
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.ask(Arc::clone(file), range.clone());
        while !self.reader.as_mut().is_none_or(Reader::is_done) {
            if self.stop.is_asked() {
                return Err(file.interrupted());
            }
            self.doorbell.before_sleep();
            if !self.reader.as_mut().is_none_or(Reader::is_done) {
                let interests =
                    [Interest::Read(self.doorbell.waker().as_fd()), Interest::Read(self.stop.wake)];
                // Failing, it would only make this loop spin.
                let _ = wait(&interests, Some(KEEPALIVE_LOOK), &mut Vec::new());
            }
            self.doorbell.after_sleep();
            if let Some(datagram) = self.sender.keep_alive(self.clock.now()) {
                // A lost one is no loss: the next one follows.
                let _ = self.socket.send(&datagram);
            }
        }
        self.ahead = Some((entry, range));
        Ok(())
    }
}
