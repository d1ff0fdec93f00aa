//! One transfer at the receiver: its machine, its socket, and its writing thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::drain::Visit;
use super::job::{Action, Done, Job, cut};
use super::options::SinkOptions;
use super::outcome::Tally;
use super::writer::{Died, Writer};
use super::writing_end::WritingEnd;
use crate::io::batch::SendOutcome;
use crate::io::buffer::{Arrival, Buffer, BufferPool};
use crate::io::socket::Socket;
use crate::io::wait::Doorbell;
use crate::proto::{
    EntryWindow, Error, Place, ReceivedRun, Receiver, ReceiverEvent, ReceiverStats, Time,
};
use crate::wire::{CloseCode, EntryKind, Frame, Packet, PacketNumber, Space, limits};

/// Received bytes wait at most so long for more that are written with them, while datagrams come
/// too fast for this thread to sleep: at 1 Gbit/s a wake-up of the writing thread for every few
/// datagrams cost more than the writing (see benches/RESULTS.md).
const WRITE_DELAY: Duration = Duration::from_micros(500);

/// Buffers that each transfer has for itself: 8 MiB.
const BUFFERS_OWN: usize = 32;

/// Buffers that all transfers draw on beyond their own: 24 MiB. What waits for the disk is thereby
/// bounded to 32 MiB for one transfer, and to 24 + 8 MiB each for many. Credit is never more than
/// the buffers hold, so this also bounds the window of a transfer that is alone: 22,000 packets of
/// 1,472 bytes, 1 Gbit/s over 250 ms.
pub const BUFFERS_SHARED: usize = 96;

/// Bytes of a buffer.
pub const SLAB_BYTES: usize = 256 << 10;

/// How long the writing thread of a transfer that is over may take to clean up before the
/// transfer is reported without it.
pub const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Said of the first entry that it is true of.
const ATTRIBUTES_IGNORED: &str =
    "here and below, owners and attributes not kept: the receiver runs without --archive";

/// One transfer.
pub struct Transfer {
    /// Where the sender is.
    pub peer: SocketAddr,
    /// The connection of packets to us.
    pub connection: u32,
    /// The machine.
    pub receiver: Receiver,
    /// Connected to the sender.
    pub socket: Socket,
    /// Owners and attributes are not kept, and that was not said.
    ignores_attributes: bool,
    /// It measures the path: nothing is stored.
    pub visit: Option<Visit>,
    /// The disk holds every buffer: there is no use in reading the socket.
    pub is_stalled: bool,
    pool: BufferPool,
    shared: BufferPool,
    /// The buffer that datagrams are received into; what it holds was taken, but may not be
    /// written yet.
    slab: Option<Buffer>,
    /// Since when something waits to be written.
    waiting_since: Option<Time>,
    /// What came of entries so far.
    pub tally: Tally,
    /// The user was told how it ended.
    pub is_reported: bool,
    /// Why it ended, if it did before its end.
    pub error: Option<Error>,
    /// When it began.
    pub started: Time,
    /// When all was settled, or when it ended.
    pub ended: Option<Time>,
    writer: Writer,
    /// It is over, and its writing thread is not waited for beyond this.
    closing_until: Option<Time>,
    /// Entries that are not settled.
    entries: EntryWindow<Unsettled>,
    /// The job that is being put together.
    pieces: Vec<(u32, u32)>,
    actions: Vec<Action>,
    run: Option<OpenRun>,
    places: Vec<Place>,
}

/// What is kept of an entry until it is settled.
struct Unsettled {
    path: Vec<u8>,
    bytes: u64,
    kind: EntryKind,
}

/// DATA of the body whose packets continue each other, and where its payloads stand.
struct OpenRun {
    run: ReceivedRun,
    /// The payloads' positions in the buffer.
    payloads: Vec<(u32, u32)>,
}

impl Transfer {
    /// Starts the writing thread. `shared` are the buffers that all transfers draw on.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn new(
        now: Time,
        peer: SocketAddr,
        receiver: Receiver,
        socket: Socket,
        options: SinkOptions,
        doorbell: Arc<Doorbell>,
        shared: BufferPool,
    ) -> std::io::Result<Transfer> {
        let abandoned = options.patience.abandoned();
        let ignores_attributes = !options.archive;
        let mut ending = WritingEnd::new(options);
        let writer = Writer::start(doorbell, abandoned, move |job| {
            let mut outcome = Vec::new();
            ending.run(job, &mut outcome);
            outcome
        })?;
        Ok(Transfer {
            peer,
            connection: receiver.opener().connection,
            receiver,
            socket,
            ignores_attributes,
            visit: None,
            is_stalled: false,
            pool: BufferPool::new(BUFFERS_OWN, SLAB_BYTES),
            shared,
            slab: None,
            waiting_since: None,
            tally: Tally::default(),
            is_reported: false,
            error: None,
            started: now,
            ended: None,
            writer,
            closing_until: None,
            entries: EntryWindow::default(),
            pieces: Vec::new(),
            actions: Vec::new(),
            run: None,
            places: Vec::new(),
        })
    }

    // ---- packets in ----

    /// Takes a datagram that stands at `start` in the buffer being read.
    pub fn take(&mut self, now: Time, datagram: &[u8], start: usize) {
        let Ok(packet) = self.receiver.opener().open(datagram) else {
            self.receiver.handle_invalid();
            return;
        };
        match &packet.frame {
            Frame::Data(data) if data.space == Space::Body => {
                let payload_start = start + limits::DATA_HEADER_BYTES;
                let payload = (payload_start as u32, data.payload.len() as u32);
                if !self.extend_run(&packet, data.offset, payload) {
                    self.end_run(now);
                    self.begin_run(&packet, data.offset, payload);
                }
            }
            _ => {
                self.end_run(now);
                self.receiver.handle_packet(now, &packet);
                self.collect(now);
            }
        }
    }

    fn begin_run(&mut self, packet: &Packet<'_>, offset: u64, payload: (u32, u32)) {
        let bytes = u64::from(payload.1);
        self.run = Some(OpenRun {
            run: ReceivedRun {
                first: packet.number,
                packets: 1,
                offset,
                payload_bytes: bytes,
                bytes,
                ack_now: packet.flags.ack_now,
            },
            payloads: vec![payload],
        });
    }

    /// Whether the packet continues the open run; then it is part of it.
    fn extend_run(&mut self, packet: &Packet<'_>, offset: u64, payload: (u32, u32)) -> bool {
        let Some(open) = &mut self.run else { return false };
        let run = &mut open.run;
        let bytes = u64::from(payload.1);
        let continues = packet.number == PacketNumber(run.first.0 + run.packets)
            && offset == run.offset + run.bytes
            && run.bytes == run.packets * run.payload_bytes
            && bytes <= run.payload_bytes;
        if continues {
            run.packets += 1;
            run.bytes += bytes;
            run.ack_now |= packet.flags.ack_now;
            open.payloads.push(payload);
        }
        continues
    }

    /// Hands the open run to the machine and notes where its payloads go.
    fn end_run(&mut self, now: Time) {
        let Some(OpenRun { run, payloads }) = self.run.take() else { return };
        let mut places = std::mem::take(&mut self.places);
        self.receiver.handle_body(now, &run, &mut places);
        for place in places.drain(..) {
            let first = self.pieces.len();
            cut(&payloads, run.payload_bytes, place.run_offset, place.bytes, &mut self.pieces);
            self.push_write(&place, first);
        }
        self.places = places;
        self.collect(now);
    }

    /// The pieces from `first` on go to `place`: with one write if they continue the last one.
    fn push_write(&mut self, place: &Place, first: usize) {
        let added = self.pieces.len() - first;
        if let Some(Action::Write { entry, offset, first_piece, pieces, bytes }) =
            self.actions.last_mut()
            && *entry == place.entry
            && *offset + *bytes == place.file_offset
            && *first_piece + *pieces == first
        {
            *pieces += added;
            *bytes += place.bytes;
            return;
        }
        self.actions.push(Action::Write {
            entry: place.entry,
            offset: place.file_offset,
            first_piece: first,
            pieces: added,
            bytes: place.bytes,
        });
    }

    /// Gives the writing thread its work. `empty` goes with work that needs no bytes.
    pub fn dispatch(&mut self, empty: &Arc<Buffer>) {
        self.waiting_since = None;
        let slab = self.slab.take();
        if self.actions.is_empty() {
            // It may have been filled with duplicates.
            self.slab = slab.filter(Buffer::has_room);
            return;
        }
        let buffer = slab.map_or_else(|| Arc::clone(empty), Arc::new);
        self.writer.put(Job::taking(buffer, &mut self.pieces, &mut self.actions));
    }

    /// Gives the writing thread its work if that has waited long enough.
    fn dispatch_due(&mut self, now: Time, empty: &Arc<Buffer>) {
        if self.actions.is_empty() {
            return;
        }
        let since = *self.waiting_since.get_or_insert(now);
        if now.saturating_since(since) >= WRITE_DELAY {
            self.dispatch(empty);
        }
    }

    /// A buffer to receive into, perhaps with datagrams that were taken already. While the disk
    /// holds all buffers the socket is not read: its queue and credit stop the sender, and the
    /// machine must not take that for silence.
    pub fn take_slab(&mut self) -> Option<Buffer> {
        let slab = self.slab.take().or_else(|| self.pool.take()).or_else(|| self.shared.take());
        self.is_stalled = slab.is_none();
        slab
    }

    /// All datagrams of the buffer were taken: it is filled further, or written.
    pub fn put_slab(&mut self, now: Time, slab: Buffer, empty: &Arc<Buffer>) {
        self.end_run(now);
        let has_room = slab.has_room();
        self.slab = Some(slab).filter(|slab| !slab.is_empty());
        if !has_room {
            self.dispatch(empty);
        }
    }

    /// Takes a datagram that came to another socket. It is copied, so that a disk that stalls this
    /// transfer holds no buffers but its own; when it holds those, the datagram is lost.
    pub fn take_stray(
        &mut self,
        now: Time,
        datagram: &[u8],
        arrival: &Arrival,
        empty: &Arc<Buffer>,
    ) {
        let Some(mut slab) = self.take_slab() else { return };
        if let Some(start) = slab.copy(datagram, arrival) {
            self.take(now, datagram, start);
        }
        self.put_slab(now, slab, empty);
    }

    // ---- the writing thread ----

    /// Tells the machine what the writing thread has done. Returns whether there was anything.
    pub fn take_done(&mut self, now: Time) -> bool {
        let mut any = false;
        loop {
            let done = match self.writer.take() {
                Ok(Some(done)) => done,
                Ok(None) => return any,
                Err(Died) => {
                    // Nothing will be written any more.
                    self.receiver.cancel(CloseCode::Internal);
                    self.collect(now);
                    return true;
                }
            };
            any = true;
            for one in done {
                self.note(&one);
                one.tell(&mut self.receiver, now);
            }
            self.collect(now);
        }
    }

    fn note(&mut self, done: &Done) {
        match done {
            Done::Present(entry) => match self.settle(*entry) {
                Some(one) if one.kind == EntryKind::Directory => {
                    self.tally.directories_present += 1;
                }
                _ => self.tally.present += 1,
            },
            Done::Kept(entry) => {
                self.tally.kept += 1;
                self.settle(*entry);
            }
            Done::Committed(entry) => match self.settle(*entry) {
                Some(one) if one.kind == EntryKind::Directory => {
                    self.tally.directories_committed += 1;
                }
                one => {
                    self.tally.committed += 1;
                    self.tally.committed_bytes += one.map_or(0, |one| one.bytes);
                }
            },
            Done::Refused(entry, code, text) | Done::Failed(entry, code, text) => {
                match code {
                    crate::wire::RefuseCode::Changed => self.tally.integrity_failures += 1,
                    crate::wire::RefuseCode::Source => self.tally.source_failures += 1,
                    _ => {}
                }
                if let Some(one) = self.settle(*entry) {
                    self.tally.failed.push(&one.path, text.as_str());
                }
            }
            Done::Note(path, text) => self.tally.notes.push(path, text.as_str()),
            Done::Have(..)
            | Done::Written(_)
            | Done::HandedOn(_)
            | Done::Verified(..)
            | Done::Differs(..)
            | Done::Finished => {}
        }
    }

    fn settle(&mut self, entry: u32) -> Option<Unsettled> {
        self.entries.remove(entry)
    }

    /// Turns the machine's events into work.
    fn collect(&mut self, now: Time) {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Entry(entry) => {
                    if self.ignores_attributes && !entry.attributes.is_empty() {
                        self.ignores_attributes = false;
                        self.tally.notes.push(&entry.path, ATTRIBUTES_IGNORED);
                    }
                    self.tally.has_files |= entry.kind != EntryKind::Directory;
                    let kind = entry.kind;
                    let bytes = match kind {
                        EntryKind::File | EntryKind::Pipe => entry.size,
                        EntryKind::Directory | EntryKind::Symlink | EntryKind::HardLink => 0,
                    };
                    self.entries.push(bytes, Unsettled { path: entry.path.clone(), bytes, kind });
                    self.actions.push(Action::Entry(entry));
                }
                ReceiverEvent::Hole { entry, offset, bytes } => {
                    self.actions.push(Action::Hole { entry, offset, bytes });
                }
                ReceiverEvent::More { entry, bytes } => {
                    if let Some(one) = self.entries.get_mut(entry) {
                        one.bytes += bytes;
                    }
                    self.actions.push(Action::More { entry, bytes });
                }
                ReceiverEvent::Verify { entry, block, digest } => {
                    self.actions.push(Action::Verify { entry, block, digest });
                }
                ReceiverEvent::Commit { entry } => self.actions.push(Action::Commit { entry }),
                ReceiverEvent::Abandon { entry, code, reason } => {
                    self.actions.push(Action::Abandon { entry, code, reason });
                }
                ReceiverEvent::Settled => {
                    self.ended = Some(now);
                    self.actions.push(Action::Finish);
                }
                ReceiverEvent::Finished => {
                    self.ended.get_or_insert(now);
                }
                ReceiverEvent::Closed(error) => {
                    self.ended = Some(now);
                    self.error = Some(error);
                }
            }
        }
    }

    // ---- packets out ----

    /// Sends what the machine has to say, and hands over work that needs no bytes.
    /// `sharers` transfers draw on the shared buffers.
    pub fn transmit(&mut self, now: Time, empty: &Arc<Buffer>, sharers: usize) {
        self.receiver.handle_timeout(now);
        self.collect(now);
        self.dispatch_due(now, empty);
        self.receiver.set_room(self.room_packets(sharers));
        while let Some(datagram) = self.receiver.poll_transmit(now) {
            match self.socket.send(&datagram) {
                SendOutcome::Refused => self.receiver.handle_refused(now),
                // Lost like any packet; the machine repeats what matters.
                SendOutcome::Sent
                | SendOutcome::WouldBlock { .. }
                | SendOutcome::Lost { .. }
                | SendOutcome::TooBig => {}
            }
        }
        self.collect(now);
    }

    /// Packets of the largest size seen for which there are free buffers. The last receive into
    /// a slab needs 64 KiB, whatever it brings.
    fn room_packets(&self, sharers: usize) -> u64 {
        let datagram = self.receiver.datagram_bytes() as u64;
        let usable = (SLAB_BYTES as u64 / datagram.max(1))
            .min(1 + (SLAB_BYTES as u64 - 65_536) / datagram.max(1));
        let buffers = self.pool.available() + self.shared.available() / sharers.max(1);
        buffers as u64 * usable
    }

    /// How long all has been settled that was announced; none if it is not, or it ended before.
    pub fn settled_since(&self, now: Time) -> Option<Duration> {
        let is_settled = self.error.is_none() && self.receiver.has_answered_end();
        let ended = self.ended.filter(|_| is_settled)?;
        Some(now.saturating_since(ended))
    }

    /// Whether it is there to store something, which is what `--once` waits for.
    pub fn stores(&self) -> bool {
        !self.receiver.is_dry_run() && self.visit.is_none()
    }

    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        self.receiver.is_closed()
    }

    /// For a transfer that is over: whether its writing thread has cleaned up, or was given time
    /// enough for it. What is still queued is not done any more; what is verified of unfinished
    /// files is kept, the rest removed.
    pub fn has_closed(&mut self, now: Time) -> bool {
        if self.closing_until.is_none() {
            self.writer.abandon();
        }
        let until = *self.closing_until.get_or_insert(now + CLOSE_PATIENCE);
        self.writer.has_ended() || now >= until
    }

    /// When it must be looked after at the latest.
    pub fn next_call(&self, now: Time) -> Option<Time> {
        self.receiver.poll_timeout(now).or(self.closing_until)
    }

    /// The machine's counters.
    pub fn stats(&self) -> ReceiverStats {
        self.receiver.stats()
    }
}
