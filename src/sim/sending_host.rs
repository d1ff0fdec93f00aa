//! The shell of a simulated sender: reads a source, digests, fills packets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::host::{HostConfig, Wake, charged_bytes};
use super::impairment::mix;
use super::plan::TransferPlan;
use super::source::SimFile;
use crate::proto::{BodyRun, RangeSet, Sender, SenderEvent, Time, Transmit};
use crate::wire::{
    DigestAlgorithm, Entry, EntryKind, Flags, Identity, PacketNumber, Space, VoidReason, limits,
};

/// What a link of the simulation carries.
#[derive(Clone, Debug)]
pub enum SimPacket {
    /// A whole datagram.
    Datagram(Vec<u8>),
    /// DATA of the body without its bytes.
    Body(BodyPacket),
}

/// DATA of the body of which only the place is simulated.
#[derive(Clone, Copy, Debug)]
pub struct BodyPacket {
    /// Its number.
    pub number: PacketNumber,
    /// Offset in the body.
    pub offset: u64,
    /// Payload.
    pub bytes: u64,
    /// It asks for an ACK.
    pub ack_now: bool,
    /// When its payload was read; none if it is not the sender's.
    pub read_at: Option<Time>,
}

impl SimPacket {
    /// Bytes of its datagram.
    pub fn datagram_bytes(&self) -> usize {
        match self {
            SimPacket::Datagram(bytes) => bytes.len(),
            SimPacket::Body(body) => body.bytes as usize + limits::DATA_HEADER_BYTES,
        }
    }
}

/// What the sender's shell keeps of an entry.
#[derive(Clone, Debug, Default)]
struct Announced {
    start: u64,
    settled: bool,
    void: bool,
    /// Blocks that the receiver has.
    had: RangeSet,
}

/// A sending process.
#[derive(Debug)]
pub struct SendingHost {
    /// The machine.
    pub machine: Sender,
    /// Every event it has told.
    pub events: Vec<SenderEvent>,
    /// When it runs next.
    pub wake: Wake,
    /// Scheduling.
    pub host: HostConfig,
    /// When it was over.
    pub finished_at: Option<Time>,
    /// The most memory the machine held.
    pub memory_bytes_max: usize,
    files: Arc<[SimFile]>,
    key: u64,
    payload: bool,
    dry_run: bool,
    socket: VecDeque<Vec<u8>>,
    socket_charged: u64,
    socket_bytes: u64,
    /// What late timers are drawn from, and how many came late.
    late_key: u64,
    /// Timers that came late.
    pub late_timers: u64,
    /// Runs that the machine has sent, and that never left.
    pub unsent: Vec<BodyRun>,
    announced: Vec<Announced>,
    /// The next block to be digested.
    cursor: (usize, u64),
    ended: bool,
    /// All of a pipe is announced.
    pipe_ended: bool,
    /// The walk has gone on for its turn and wants another one.
    more_to_announce: bool,
    runs: u64,
}

/// Memory is counted in one of so many runs: it means to walk through all tables.
pub const MEMORY_RUNS: u64 = 16;

/// The receive buffer of a sender's socket: Linux's default.
const SOCKET_BYTES: u64 = 212_992;

/// Bytes of a pipe that are held to be sent again.
const PIPE_HELD_BYTES: u64 = 8 * limits::BLOCK_BYTES;

/// Entries announced in one turn.
const ENTRIES_PER_TURN: usize = 256;

/// What such a turn takes: about 0.5 us for the stat of a cached inode.
const TURN_SPAN: Duration = Duration::from_micros(128);

impl SendingHost {
    /// A process that starts at `now` by `plan`. `content_key` decides the bytes of its files,
    /// `key` everything else.
    pub fn new(
        now: Time,
        plan: &TransferPlan,
        content_key: u64,
        key: u64,
        payload: bool,
    ) -> SendingHost {
        let mut seed = [0; 32];
        seed.as_chunks_mut::<8>().0.iter_mut().zip(1..).for_each(|(bytes, index)| {
            *bytes = mix(mix(key) ^ index).to_be_bytes();
        });
        let mut wake = Wake::default();
        wake.by(now);
        SendingHost {
            dry_run: plan.config.dry_run,
            machine: Sender::new(now, plan.config.clone(), seed),
            events: Vec::new(),
            wake,
            host: plan.host.clone(),
            finished_at: None,
            memory_bytes_max: 0,
            files: plan.files.clone().into(),
            key: content_key,
            payload,
            socket: VecDeque::new(),
            socket_charged: 0,
            socket_bytes: plan.socket_bytes.unwrap_or(SOCKET_BYTES),
            late_key: mix(key ^ 0x1a7e),
            late_timers: 0,
            unsent: Vec::new(),
            announced: Vec::new(),
            cursor: (0, 0),
            ended: false,
            pipe_ended: false,
            more_to_announce: false,
            runs: 0,
        }
    }

    /// The key of an entry's content.
    pub fn content_key(key: u64, entry: u32) -> u64 {
        mix(key ^ u64::from(entry))
    }

    /// Whether the process has ended, by itself or not.
    pub fn is_over(&self, now: Time) -> bool {
        self.finished_at.is_some() || self.host.is_dead(now)
    }

    /// A datagram reaches the socket. False if it is full.
    pub fn receive(&mut self, now: Time, datagram: Vec<u8>) -> bool {
        let charge = charged_bytes(datagram.len());
        if self.socket_charged + charge > self.socket_bytes && self.socket_charged > 0 {
            return false;
        }
        self.socket_charged += charge;
        self.socket.push_back(datagram);
        self.wake.by(now + self.host.wake_latency);
        true
    }

    /// The process runs: takes in what has come, which it shows, and announces entries.
    pub fn run(&mut self, now: Time, mut show: impl FnMut(&[u8])) {
        self.wake.clear();
        while let Some(datagram) = self.socket.pop_front() {
            self.socket_charged -= charged_bytes(datagram.len());
            show(&datagram);
            self.machine.handle_datagram(now, &datagram);
        }
        self.machine.handle_timeout(now);
        self.announce();
    }

    /// The machine's next event, acted upon.
    pub fn next_event(&mut self, now: Time) -> Option<SenderEvent> {
        let event = self.machine.poll_event()?;
        match event {
            SenderEvent::Settled { first_entry, entries, .. } => {
                let first = first_entry as usize;
                let settled = self.announced.iter_mut().skip(first).take(entries as usize);
                settled.for_each(|entry| entry.settled = true);
            }
            SenderEvent::Failed { entry, .. } => self.announced[entry as usize].settled = true,
            SenderEvent::Have { entry, first_block, blocks } => {
                let range = u64::from(first_block)..u64::from(first_block) + u64::from(blocks);
                self.announced[entry as usize].had.insert(range);
            }
            SenderEvent::Again { entry, block, epoch } => self.again(now, entry, block, epoch),
            SenderEvent::Connected | SenderEvent::Finished { .. } | SenderEvent::Closed(_) => {}
        }
        self.events.push(event.clone());
        Some(event)
    }

    /// The next packets, filled.
    pub fn next_transmit(&mut self, now: Time) -> Option<Transmit> {
        loop {
            let transmit = self.machine.poll_transmit(now)?;
            match &transmit {
                Transmit::Body(run) if run.is_new => self.digest_until(now, run.range.end),
                // Without digests nobody else sees that a repetition differs from what was sent.
                Transmit::Body(run) if self.machine.digest_algorithm() == DigestAlgorithm::None => {
                    if self.void_changed(now, run) {
                        self.unsent.push(run.clone());
                        continue;
                    }
                }
                Transmit::Body(_) | Transmit::Datagram(_) => {}
            }
            return Some(transmit);
        }
    }

    /// Gives up the files of a run that have changed. True if there is one: the run must not
    /// leave.
    fn void_changed(&mut self, now: Time, run: &BodyRun) -> bool {
        let first = self.announced.partition_point(|entry| entry.start <= run.range.start);
        let entries = first.saturating_sub(1)..self.announced.len();
        let changed: Vec<usize> = entries
            .take_while(|&entry| self.announced[entry].start < run.range.end)
            .filter(|&entry| self.files[entry].size > 0 && self.files[entry].is_changed(now))
            .collect();
        changed.iter().for_each(|&entry| self.void(entry, VoidReason::Changed));
        !changed.is_empty()
    }

    /// After all is done: ends the manifest once all is read, and says when to run again.
    pub fn settle(&mut self, now: Time) {
        self.runs += 1;
        if self.runs % MEMORY_RUNS == 1 {
            self.memory_bytes_max = self.memory_bytes_max.max(self.machine.memory_bytes());
        }
        if self.machine.is_closed() {
            self.finished_at.get_or_insert(now);
            return;
        }
        if let Some(at) = self.machine.poll_timeout(now) {
            let mut late = if at <= now { Duration::ZERO } else { self.host.wake_latency };
            if at > now {
                let lateness = self.host.lateness(now, self.late_key ^ self.runs);
                self.late_timers += u64::from(!lateness.is_zero());
                late += lateness;
            }
            self.wake.by(at.max(now) + late);
        }
        if std::mem::take(&mut self.more_to_announce) {
            self.wake.by(now + TURN_SPAN);
        }
    }

    fn announce(&mut self) {
        for _ in 0..ENTRIES_PER_TURN {
            let entry = self.announced.len();
            let Some(file) = self.files.get(entry) else { break };
            if !self.machine.wants_entries() {
                return;
            }
            let (_, start) = self.machine.announced();
            let number = self.machine.push_entry(&Entry {
                kind: file.kind,
                mode: 0o644,
                mtime_seconds: 1,
                mtime_nanos: 2,
                size: file.announced_size(),
                identity: Identity::default(),
                path: &file.path(entry as u32),
                target: file.target(),
            });
            assert_eq!(number as usize, entry, "entries are numbered in order");
            for hole in &file.holes {
                self.machine.push_hole(hole.start, hole.end - hole.start);
            }
            self.announced.push(Announced { start, ..Announced::default() });
        }
        self.announce_more();
        if self.announced.len() < self.files.len() {
            self.more_to_announce = true;
        }
    }

    /// Takes in as much of a pipe as there is room for.
    fn announce_more(&mut self) {
        let files = Arc::clone(&self.files);
        let Some(file) = files.last().filter(|file| file.kind == EntryKind::Pipe) else { return };
        let Some(announced) = self.announced.get(files.len() - 1).cloned() else { return };
        let mut known = self.machine.announced().1;
        let end = announced.start + file.size;
        let is_wanted = !announced.settled && !announced.void;
        let released = self.machine.delivered().max(announced.start);
        while known < end && is_wanted && known < released + PIPE_HELD_BYTES {
            let bytes = limits::BLOCK_BYTES.min(end - known);
            self.machine.push_more(bytes as u32);
            known += bytes;
        }
        self.pipe_ended = known == end || !is_wanted;
    }

    /// Whether all entries are announced with all that is known to belong to them.
    fn has_announced_all(&self) -> bool {
        let is_pipe = self.files.last().is_some_and(|file| file.kind == EntryKind::Pipe);
        self.announced.len() == self.files.len() && (!is_pipe || self.pipe_ended || self.dry_run)
    }

    /// Ends the manifest once every file is announced and read. True if it did so now.
    pub fn end_manifest(&mut self, now: Time) -> bool {
        let all_read = self.has_announced_all() && self.machine.unsent_body_bytes() == 0;
        if self.ended || !all_read {
            return false;
        }
        if !self.dry_run {
            self.digest_until(now, u64::MAX);
        }
        self.machine.finish_manifest();
        self.ended = true;
        true
    }

    /// New body up to `end` was read: digests the blocks that are complete by it.
    fn digest_until(&mut self, now: Time, end: u64) {
        let files = Arc::clone(&self.files);
        while let Some(announced) = self.announced.get(self.cursor.0) {
            let entry = self.cursor.0;
            let file = &files[entry];
            let block = file.next_data_block(self.cursor.1);
            if announced.settled || announced.void || block >= file.blocks() {
                self.cursor = (entry + 1, 0);
                continue;
            }
            let range = file.block_range(block);
            if announced.had.contains(&(block..block + 1)) {
                // It was not read, or in vain.
            } else if let Some(data) = file.data_ranges(range).last() {
                if announced.start + data.end > end {
                    return;
                }
                self.digest_block(now, entry, block);
            }
            self.cursor.1 = block + 1;
        }
    }

    fn digest_block(&mut self, now: Time, entry: usize, block: u64) {
        let files = Arc::clone(&self.files);
        let file = &files[entry];
        let changed = file.is_changed(now);
        if let Some(reason) = file.void.or(changed.then_some(VoidReason::Changed)) {
            self.void(entry, reason);
            return;
        }
        let algorithm = self.machine.digest_algorithm();
        let key = SendingHost::content_key(self.key, entry as u32);
        let digest = file.block_digest(key, changed, block, algorithm, self.payload);
        self.machine.push_digest(entry as u32, block as u32, digest);
    }

    fn void(&mut self, entry: usize, reason: VoidReason) {
        if !self.announced[entry].void {
            self.announced[entry].void = true;
            self.machine.push_void(entry as u32, reason);
        }
    }

    fn again(&mut self, now: Time, entry: u32, block: u32, epoch: u8) {
        let files = Arc::clone(&self.files);
        let file = &files[entry as usize];
        if file.is_changed(now) {
            return self.void(entry as usize, VoidReason::Changed);
        }
        let start = self.announced[entry as usize].start + file.block_range(u64::from(block)).start;
        if file.kind == EntryKind::Pipe && start < self.machine.delivered() {
            return self.void(entry as usize, VoidReason::Unreadable);
        }
        let algorithm = self.machine.digest_algorithm();
        let key = SendingHost::content_key(self.key, entry);
        let digest = file.block_digest(key, false, u64::from(block), algorithm, self.payload);
        self.machine.resend_block(entry, block, epoch, digest);
    }

    /// The packet of a run that has this index, with its bytes if payload is simulated.
    pub fn fill(&self, now: Time, run: &BodyRun, index: u64) -> SimPacket {
        let offset = run.range.start + index * run.payload_bytes;
        let bytes = run.payload_bytes.min(run.range.end - offset);
        let number = PacketNumber(run.first.0 + index);
        let ack_now = run.ack_now && index + 1 == run.packets();
        if !self.payload {
            let read_at = Some(now);
            return SimPacket::Body(BodyPacket { number, offset, bytes, ack_now, read_at });
        }
        let mut datagram = vec![0; limits::DATA_HEADER_BYTES + bytes as usize];
        self.read_body(now, offset, &mut datagram[limits::DATA_HEADER_BYTES..]);
        let sealer = self.machine.sealer();
        sealer.seal_data(number, Flags { ack_now }, Space::Body, offset, &mut datagram);
        SimPacket::Datagram(datagram)
    }

    /// Reads the body from `offset` on, across files.
    fn read_body(&self, now: Time, offset: u64, out: &mut [u8]) {
        let mut filled = 0;
        let mut entry = self.announced.partition_point(|entry| entry.start <= offset) - 1;
        while filled < out.len() {
            let (file, start) = (&self.files[entry], self.announced[entry].start);
            let position = offset + filled as u64 - start;
            let bytes = (file.size.saturating_sub(position)).min((out.len() - filled) as u64);
            let part = &mut out[filled..filled + bytes as usize];
            let key = SendingHost::content_key(self.key, entry as u32);
            file.read(key, file.is_changed(now), position, part);
            filled += bytes as usize;
            entry += 1;
        }
    }
}
