//! The loop of one sending transfer. What it announces is in `announcing`, how it reads files in
//! `reading`.

mod announcing;
mod reading;

use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::announce::Announcer;
use super::batch::Batch;
use super::outcome::{Ending, SendError};
use super::outgoing::{Digester, Outgoing, OutgoingList, SharedFiles};
use super::reader::Reader;
use super::{Listing, SendRequest};
use crate::io::batch::ReceiveOutcome;
use crate::io::buffer::BufferPool;
use crate::io::clock::Clock;
use crate::io::digest::BlockHasher;
use crate::io::entropy::unpredictable;
use crate::io::report::{Counters, Report};
use crate::io::socket::{Socket, SocketOptions};
use crate::io::source::{OpenSources, SourceError};
use crate::io::source_file::SourceFile;
use crate::io::stop::Stop;
use crate::io::wait::{Doorbell, Interest, wait};
use crate::proto::{BodyRun, Outcome, Sender, SenderConfig, SenderEvent, Transmit};
use crate::wire::{CloseCode, Flags, Space, VoidReason, limits};

/// Receives before the rest of the loop has its turn, whatever floods the socket.
const RECEIVES_PER_TURN: usize = 64;

/// Runs sent before the socket is looked at for ACKs again: 16 batches of 64 KiB.
const RUNS_PER_TURN: usize = 16;

/// IP and UDP headers in front of a datagram.
fn header_bytes(address: &SocketAddr) -> usize {
    if address.is_ipv4() { 28 } else { 48 }
}

/// One transfer under way.
struct Transfer<'a> {
    request: &'a SendRequest,
    clock: Clock,
    socket: Socket,
    sender: Sender,
    announcer: Announcer,
    walk_ended: bool,
    list: OutgoingList,
    shared: SharedFiles,
    open: OpenSources,
    digester: Digester,
    batch: Batch,
    counters: &'a Counters,
    listing: Listing<'a>,
    ending: Ending,
    doorbell: Arc<Doorbell>,
    stop: &'a Stop<'a>,
    /// Started when something is not in memory.
    reader: Option<Reader>,
    /// What the reader has read last: of which entry, and which range of its file.
    ahead: Option<(u32, Range<u64>)>,
    /// The entry that is a pipe and may go on.
    pipe_entry: Option<u32>,
    /// A device that lives in memory: reading it never waits.
    in_memory: Option<u64>,
}

/// Sends to one address. Fills in `report`.
pub fn run(
    request: &SendRequest,
    address: SocketAddr,
    wait_for_answer: Duration,
    counters: &Counters,
    stop: &Stop<'_>,
    listing: Listing<'_>,
    report: &mut Report,
) -> Result<(), SendError> {
    let options = SocketOptions {
        offload: request.offload,
        receive_buffer_bytes: 1 << 20,
        ..SocketOptions::default()
    };
    let socket = Socket::connect(address, &options)?;
    let clock = Clock::start();
    let mtu = socket.path_mtu().unwrap_or(1_500);
    let mtu = request.mtu_bytes.map_or(mtu, |asked| mtu.min(asked as usize));
    let config = SenderConfig {
        route_datagram_bytes: mtu.saturating_sub(header_bytes(&address)),
        wait: wait_for_answer,
        ..request.config.clone()
    };
    let digester = Digester::new(config.digest);
    let seed = unpredictable().map_err(SendError::System)?;
    let doorbell = Arc::new(Doorbell::new().map_err(SendError::System)?);
    let mut transfer = Transfer {
        request,
        sender: Sender::new(clock.now(), config, seed),
        clock,
        socket,
        announcer: Announcer::start(Arc::clone(&request.sources), Arc::clone(&doorbell))
            .map_err(SendError::System)?,
        walk_ended: false,
        list: OutgoingList::default(),
        shared: SharedFiles::default(),
        open: OpenSources::default(),
        digester,
        batch: Batch::new(),
        counters,
        listing,
        ending: Ending::default(),
        doorbell: Arc::clone(&doorbell),
        stop,
        reader: None,
        ahead: None,
        pipe_entry: None,
        in_memory: None,
    };
    transfer.drive(&doorbell, stop);
    transfer.fill(report, header_bytes(&address) as u64);
    transfer.ending.result(report)
}

impl Transfer<'_> {
    fn drive(&mut self, doorbell: &Doorbell, stop: &Stop<'_>) {
        let pool = BufferPool::new(1, 4 * 65_536);
        let Some(mut buffer) = pool.take() else { return };
        let mut stopping = false;
        while !self.sender.is_closed() {
            self.receive(&mut buffer);
            let now = self.clock.now();
            if stop.is_asked() && !stopping {
                stopping = true;
                self.ending.interrupted = true;
                self.sender.cancel(CloseCode::Cancelled);
            }
            self.sender.handle_timeout(now);
            self.announce();
            self.handle_events();
            let sent = self.transmit();
            self.handle_events();
            self.show();
            if !sent {
                self.rest(doorbell, stop, stopping);
            }
        }
    }

    /// Waits for the network, the walk, a signal, or the machine's next timeout.
    fn rest(&mut self, doorbell: &Doorbell, stop: &Stop<'_>, stopping: bool) {
        let now = self.clock.now();
        let Some(at) = self.sender.poll_timeout(now) else { return };
        let timeout = at.saturating_since(now);
        if timeout.is_zero() {
            return;
        }
        doorbell.before_sleep();
        // What the walk found between the last look and the bell's setting is not rung for.
        if self.announce() {
            doorbell.after_sleep();
            return;
        }
        let interests = [
            Interest::Read(self.socket.as_fd()),
            Interest::Read(doorbell.waker().as_fd()),
            Interest::Read(stop.wake),
        ];
        let interests = if stopping { &interests[..2] } else { &interests[..] };
        // A failing poll would only make this loop spin until the machine's next timeout.
        let _ = wait(interests, Some(timeout), &mut Vec::new());
        doorbell.after_sleep();
    }

    fn receive(&mut self, buffer: &mut crate::io::buffer::Buffer) {
        for _ in 0..RECEIVES_PER_TURN {
            let outcome = self.socket.receive(buffer);
            // Only now: a stamp from before would make round trips too short by what this
            // thread was held up in between.
            let now = self.clock.now();
            match outcome {
                ReceiveOutcome::Received { .. } => {
                    for datagram in buffer.datagrams() {
                        self.sender.handle_datagram(now, datagram.bytes);
                    }
                    self.counters.packets_heard.fetch_add(1, Relaxed);
                    buffer.clear();
                }
                ReceiveOutcome::Refused => self.sender.handle_refused(now),
                ReceiveOutcome::Empty | ReceiveOutcome::Failed { .. } => return,
                ReceiveOutcome::Full => buffer.clear(),
            }
        }
    }

    // ---- events ----

    fn handle_events(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Connected => {
                    self.counters.transfers.store(1, Relaxed);
                    self.ending.connected(self.clock.now());
                }
                SenderEvent::Settled { first_entry, entries, outcome } => {
                    for entry in first_entry..first_entry.saturating_add(entries) {
                        self.on_settled(entry, outcome);
                    }
                }
                SenderEvent::Failed { entry, code, text, .. } => {
                    if let Some(outgoing) = self.list.get(entry) {
                        self.ending.failed(outgoing, code, &text);
                        self.digester.forget(entry);
                    }
                    self.settle(entry);
                }
                SenderEvent::Have { entry, first_block, blocks } => {
                    self.on_have(entry, first_block, blocks);
                }
                SenderEvent::Again { entry, block, epoch } => self.send_again(entry, block, epoch),
                SenderEvent::Finished { .. } => self.ending.finished(self.clock.now()),
                SenderEvent::Closed(error) => self.ending.closed(self.clock.now(), error),
            }
        }
    }

    fn on_settled(&mut self, entry: u32, outcome: Outcome) {
        if let Some(outgoing) = self.list.get(entry) {
            if self.request.config.dry_run {
                let what = match outcome {
                    Outcome::Present => "is already there",
                    Outcome::Kept => "is kept as it is there",
                    Outcome::Committed | Outcome::WouldStore => "would be sent",
                };
                (self.listing)(outgoing.source.name.as_bytes(), what);
            }
            if matches!(outcome, Outcome::Present | Outcome::Kept) && outgoing.is_file() {
                self.digester.forget(entry);
            }
            self.ending.settled(outgoing, outcome);
        }
        self.settle(entry);
    }

    /// The receiver has blocks from an interrupted transfer: they are neither read nor sent.
    fn on_have(&mut self, entry: u32, first_block: u32, blocks: u32) {
        let Some(outgoing) = self.list.get(entry) else { return };
        let bytes = outgoing.data_bytes(first_block, blocks);
        self.ending.resumed_bytes += bytes;
        let left = |total: u64| Some(total.saturating_sub(bytes));
        let _ = self.counters.bytes_total.fetch_update(Relaxed, Relaxed, left);
        self.digester.skips();
    }

    fn settle(&mut self, entry: u32) {
        self.close_pipe(entry);
        self.open.close(u64::from(entry));
        self.list.settle(entry);
        self.counters.files_done.fetch_add(1, Relaxed);
    }

    /// The receiver's copy of a block differs: look at the file again, and send the block anew.
    fn send_again(&mut self, entry: u32, block: u32, epoch: u8) {
        let Some(range) = self.list.get(entry).map(|outgoing| {
            let start = u64::from(block) * limits::BLOCK_BYTES;
            let size = outgoing.body.end - outgoing.body.start;
            start..(start + limits::BLOCK_BYTES).min(size)
        }) else {
            return;
        };
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let result = self.file(entry).and_then(|file| {
            let slots = &mut [std::io::IoSliceMut::new(&mut bytes)];
            self.read(entry, &file, slots, range.start)?;
            file.check_unchanged()
        });
        match result {
            Ok(()) => {
                let algorithm = self.sender.digest_algorithm();
                let size = self.list.get(entry).map_or(0, Outgoing::digested_size);
                let mut hasher = BlockHasher::new(algorithm, u64::from(block), size);
                hasher.update(&bytes);
                self.sender.resend_block(entry, block, epoch, hasher.finish());
            }
            Err(error) => self.give_up(entry, &error),
        }
    }

    /// A file cannot be sent as it was announced.
    fn give_up(&mut self, entry: u32, error: &SourceError) {
        let Some(outgoing) = self.list.get_mut(entry) else { return };
        if outgoing.is_void {
            return;
        }
        outgoing.is_void = true;
        self.ending.unreadable(outgoing.source.name.as_bytes(), error);
        self.digester.forget(entry);
        self.open.close(u64::from(entry));
        let reason = match error {
            SourceError::Changed { .. } => VoidReason::Changed,
            SourceError::Vanished { .. } => VoidReason::Vanished,
            SourceError::Io { .. } => VoidReason::Unreadable,
        };
        self.sender.push_void(entry, reason);
        self.close_pipe(entry);
    }

    fn file(&mut self, entry: u32) -> Result<Arc<SourceFile>, SourceError> {
        match self.list.get(entry) {
            Some(outgoing) => {
                self.open.get(&self.request.sources, u64::from(entry), &outgoing.source)
            }
            None => Err(SourceError::Vanished { path: String::new() }),
        }
    }

    // ---- packets ----

    /// Sends what may leave now, for one turn. Returns whether anything did.
    fn transmit(&mut self) -> bool {
        let mut runs = 0;
        while runs < RUNS_PER_TURN {
            let now = self.clock.now();
            let Some(transmit) = self.sender.poll_transmit(now) else { break };
            runs += 1;
            match transmit {
                Transmit::Datagram(datagram) => {
                    if !self.batch.has_room(1, datagram.len()) {
                        self.flush();
                    }
                    self.batch.append(datagram.len(), datagram.len()).copy_from_slice(&datagram);
                }
                Transmit::Body(run) => self.transmit_body(&run),
            }
        }
        self.flush();
        runs > 0
    }

    fn transmit_body(&mut self, run: &BodyRun) {
        let bytes = (run.range.end - run.range.start) as usize;
        let packets = run.packets() as usize;
        let payload = run.payload_bytes as usize;
        // A run of one short packet need not be padded to the size of the others.
        let datagram_bytes = payload.min(bytes) + limits::DATA_HEADER_BYTES;
        let total = bytes + packets * limits::DATA_HEADER_BYTES;
        if !self.batch.has_room(packets, datagram_bytes) {
            self.flush();
        }
        let mut batch = std::mem::replace(&mut self.batch, Batch::empty());
        let datagrams = batch.append(total, datagram_bytes);
        if !self.read_body(run, datagrams, datagram_bytes) {
            // Their numbers stay unused; what else they carry is sent again like what is lost.
            batch.take_back(total);
            self.batch = batch;
            return;
        }
        let sealer = self.sender.sealer();
        for (index, datagram) in datagrams.chunks_mut(datagram_bytes).enumerate() {
            let number = crate::wire::PacketNumber(run.first.0 + index as u64);
            let offset = run.range.start + index as u64 * run.payload_bytes;
            let flags = Flags { ack_now: run.ack_now && index + 1 == packets };
            sealer.seal_data(number, flags, Space::Body, offset, datagram);
        }
        self.batch = batch;
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let flushed = self.batch.flush(&mut self.socket);
        let now = self.clock.now();
        if flushed.refused {
            self.sender.handle_refused(now);
        }
        if let Some(bytes) = flushed.too_big {
            self.sender.handle_too_big(now, bytes);
        }
    }

    fn show(&self) {
        self.counters.bytes_written.store(self.sender.written(), Relaxed);
    }

    fn fill(&mut self, report: &mut Report, headers: u64) {
        let stats = self.sender.stats();
        self.ending.fill(report, &stats, headers, self.request.config.digest);
        report.digest = self.digester.finish().map(|digest| digest.to_string());
        report.gso = Some(self.socket.send_offload() == crate::io::batch::Offload::Segmentation);
    }
}
