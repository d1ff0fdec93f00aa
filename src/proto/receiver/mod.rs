//! The receiving machine: takes packets, says where their payloads belong, answers.
//!
//! The parts: `sack` (what has arrived), `ack_timing` (when to say so), `credit` (what may come),
//! `reassembly` (bytes, blocks, entries); `records` reads manifest and digests, `answers` says
//! what became of entries, `transmit` makes packets, `lifetime` knows when all is over. The shell
//! moves the bytes and speaks back by the `entry_*` and `block_*` commands.

mod ack_timing;
mod answers;
mod credit;
mod lifetime;
mod reassembly;
mod records;
mod sack;
mod transmit;

use std::collections::VecDeque;
use std::time::Duration;

use self::ack_timing::AckTiming;
use self::answers::push_answer;
use self::credit::Credit;
use self::lifetime::State;
use self::reassembly::Reassembly;
use self::records::{End, Following};
use self::sack::Sack;
use super::config::ReceiverConfig;
use super::event::ReceiverEvent;
use super::handshake::Accepted;
use super::sabotage::Bug;
use super::stats::ReceiverStats;
use super::stream::{ReceiveStream, SendStream};
use super::time::Time;
use super::transcript::Transcript;
use crate::wire::{
    AnswerRecord, DigestAlgorithm, Frame, Opener, Packet, PacketNumber, Probe, RefuseCode, Sealer,
    VoidReason, limits,
};

pub use self::credit::first_credit;
pub use self::reassembly::Place;

/// DATA packets with consecutive numbers and contiguous body ranges, as the shell found them in
/// a batch.
#[derive(Clone, Debug)]
pub struct ReceivedRun {
    /// Number of the first packet.
    pub first: PacketNumber,
    /// How many packets.
    pub packets: u64,
    /// Offset of the first payload byte in the body.
    pub offset: u64,
    /// Payload of every packet but the last.
    pub payload_bytes: u64,
    /// Payload of all together.
    pub bytes: u64,
    /// One of them asks for an ACK at once.
    pub ack_now: bool,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Body bytes that are in files.
    pub written: u64,
    /// Length of the body as far as the manifest is known, without what interrupted transfers
    /// have left of it.
    pub body_bytes: u64,
    /// Entries whose outcome is decided.
    pub settled: u32,
    /// Entries in the manifest so far.
    pub entries: u32,
    /// The manifest has ended: the totals will not grow.
    pub is_final: bool,
}

/// The receiving end of one transfer.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    state: State,
    opener: Opener,
    sealer: Sealer,
    digest: DigestAlgorithm,
    dry_run: bool,
    next_number: PacketNumber,

    sack: Sack,
    arrival: Time,
    ack_timing: AckTiming,
    credit: Credit,
    smoothed_rtt: Duration,
    window_packets: u64,

    manifest: ReceiveStream,
    digests: ReceiveStream,
    /// Digests are not read on: too many wait for the bytes of their blocks.
    digests_wait: bool,
    transcript: Transcript,
    /// Which records may come next.
    following: Following,
    end: Option<End>,
    /// END's digest was compared.
    end_checked: bool,
    settled_told: bool,
    body: Reassembly,
    answers: SendStream,
    /// Committed entries that wait to be told in one record.
    committed: Option<(u32, u32)>,
    present: Option<(u32, u32)>,
    kept: Option<(u32, u32)>,
    answers_sent_at: Option<Time>,
    answers_backoff: u32,
    /// The packet with the end was sent once more without being asked.
    end_repeated: bool,

    started: Time,
    last_heard: Time,
    last_call: Time,
    judge_from: Time,
    refused: bool,
    events: VecDeque<ReceiverEvent>,
    stats: ReceiverStats,
}

impl Receiver {
    /// The receiving end of a transfer that [`super::Admission`] has opened.
    pub fn new(now: Time, config: ReceiverConfig, accepted: &Accepted) -> Receiver {
        let first = accepted.number;
        let mut receiver = Receiver {
            state: State::Open,
            opener: Opener {
                connection: accepted.connection,
                seed: accepted.seed,
                expected: first,
            },
            sealer: Sealer {
                connection: accepted.greeting.connection,
                seed: accepted.greeting.seed,
            },
            digest: accepted.greeting.digest,
            dry_run: accepted.greeting.dry_run,
            next_number: PacketNumber(config.first_number),
            sack: Sack::new(first),
            arrival: now,
            ack_timing: AckTiming::new(now),
            credit: Credit::new(now, &config, first),
            smoothed_rtt: Duration::from_micros(u64::from(accepted.srtt_us)),
            window_packets: u64::MAX,
            manifest: ReceiveStream::new(limits::STREAM_WINDOW_BYTES),
            digests: ReceiveStream::new(limits::STREAM_WINDOW_BYTES),
            digests_wait: false,
            transcript: Transcript::new(accepted.greeting.digest),
            following: Following::default(),
            end: None,
            end_checked: false,
            settled_told: false,
            body: Reassembly::default(),
            answers: SendStream::new(limits::ANSWERS_OUTSTANDING_MAX),
            committed: None,
            present: None,
            kept: None,
            answers_sent_at: None,
            answers_backoff: 0,
            end_repeated: false,
            started: now,
            last_heard: now,
            last_call: now,
            judge_from: now,
            refused: false,
            events: VecDeque::new(),
            stats: ReceiverStats::default(),
            config,
        };
        receiver.take_number(now, first, accepted.datagram_bytes);
        receiver.sack.hold(first);
        receiver.ack_timing.at_once();
        receiver
    }

    /// Opens the packets of this transfer. Ask again after each batch: the expected number moves.
    pub fn opener(&self) -> Opener {
        self.opener
    }

    /// The digest algorithm of this transfer.
    pub fn digest_algorithm(&self) -> DigestAlgorithm {
        self.digest
    }

    /// Whether nothing is to be stored.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    // ---- what comes from the network ----

    /// Counts an arrival; returns false for a duplicate.
    fn take_number(&mut self, now: Time, number: PacketNumber, datagram_bytes: usize) -> bool {
        let is_largest = self.sack.largest().is_none_or(|largest| number > largest);
        if !self.sack.see(number) && !self.config.sabotage.has(Bug::SkipDuplicateCheck) {
            self.stats.duplicates += 1;
            return false;
        }
        if is_largest {
            self.arrival = now;
        }
        self.opener.expected = self.opener.expected.max(number.next());
        self.stats.packets_received += 1;
        self.stats.datagram_bytes_received += datagram_bytes as u64;
        self.stats.datagram_bytes_max = self.stats.datagram_bytes_max.max(datagram_bytes);
        true
    }

    fn heard(&mut self, now: Time, packets: u64, datagram_bytes: usize, ack_now: bool) {
        self.on_call(now);
        self.last_heard = now;
        self.refused = false;
        self.ack_timing.on_packets(now, packets);
        self.credit.on_packets(now, packets, datagram_bytes, self.smoothed_rtt);
        if ack_now {
            self.ack_timing.at_once();
        }
    }

    /// A datagram that could not be opened came to this transfer's socket.
    pub fn handle_invalid(&mut self) {
        self.stats.invalid += 1;
    }

    /// The shell has no room to read its socket: what is not heard now is no silence.
    pub fn handle_deaf(&mut self, now: Time) {
        self.on_call(now);
        self.last_heard = now;
    }

    /// The largest datagram that came: credit is stated for it.
    pub fn datagram_bytes(&self) -> usize {
        self.credit.datagram_bytes()
    }

    /// Any packet but DATA of the body.
    pub fn handle_packet(&mut self, now: Time, packet: &Packet<'_>) {
        if matches!(self.state, State::Closing { .. } | State::Closed) {
            return;
        }
        if !packet.frame.may_go_to_receiver() {
            self.stats.invalid += 1;
            return;
        }
        self.heard(now, 1, packet.datagram_bytes, packet.flags.ack_now);
        let is_fresh = self.take_number(now, packet.number, packet.datagram_bytes);
        if !is_fresh && self.sack.is_held(packet.number) {
            return;
        }
        let held = match &packet.frame {
            Frame::Data(data) => self.on_records(data),
            Frame::Probe(probe) => {
                let filling = packet.datagram_bytes.saturating_sub(limits::PROBE_BYTES_MIN);
                self.stats.filling_bytes_received += filling as u64;
                self.on_probe(now, probe);
                true
            }
            Frame::Start(_) => {
                self.ack_timing.at_once();
                true
            }
            Frame::Close(close) => {
                let text = close.text.to_owned();
                self.on_close(close.code, text);
                true
            }
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Ack(_) => false,
        };
        if held {
            self.sack.hold(packet.number);
        } else {
            self.stats.unplaced += 1;
        }
    }

    /// DATA of the body. Appends to `places` where the payload belongs; what is not named there
    /// is not wanted.
    pub fn handle_body(&mut self, now: Time, run: &ReceivedRun, places: &mut Vec<Place>) {
        if self.state != State::Open {
            return;
        }
        let largest_payload = run.payload_bytes.min(run.bytes) as usize;
        let datagram_bytes = largest_payload + limits::DATA_HEADER_BYTES;
        self.heard(now, run.packets, datagram_bytes, run.ack_now);
        let run_end = run.offset + run.bytes;
        let mut held_end = run.offset;
        let mut fresh = false;
        for index in 0..run.packets {
            let number = PacketNumber(run.first.0 + index);
            let start = run.offset + index * run.payload_bytes;
            let end = (start + run.payload_bytes).min(run_end);
            let datagram = (end - start) as usize + limits::DATA_HEADER_BYTES;
            if self.take_number(now, number, datagram) {
                self.stats.body_bytes_received += end - start;
            }
            fresh |= !self.sack.is_held(number);
            if held_end == start
                && end <= self.credit.max_body()
                && self.body.accepts(&(run.offset..end))
            {
                held_end = end;
                self.sack.hold(number);
            } else {
                self.stats.unplaced += 1;
                if self.config.sabotage.has(Bug::AcknowledgeEarly) {
                    self.sack.hold(number);
                }
            }
        }
        if fresh && held_end > run.offset {
            self.stats.body_bytes_again +=
                self.body.store(run.offset..held_end, places, &mut self.events);
            if self.digests_wait {
                // Blocks that are complete now make room for the digests of others.
                self.check_settled();
            }
        }
    }

    fn on_probe(&mut self, now: Time, probe: &Probe) {
        if probe.srtt_us > 0 {
            self.smoothed_rtt = Duration::from_micros(u64::from(probe.srtt_us));
        }
        self.window_packets = u64::from(probe.window_packets.max(1));
        if probe.answers > self.answers.base() && probe.answers <= self.answers.next_offset() {
            self.answers.on_acknowledged(0..probe.answers);
            self.answers.raise_limit(probe.answers + limits::ANSWERS_OUTSTANDING_MAX);
            self.answers_backoff = 0;
            self.answers_sent_at = (!self.answers.is_acknowledged()).then_some(now);
            // Entries may have waited for this, see `may_take_entry`.
            self.check_settled();
        }
        if matches!(self.state, State::Lingering { .. }) && self.answers.is_acknowledged() {
            self.finished();
        }
    }

    // ---- what the shell tells ----

    /// Free buffers for so many more packets.
    pub fn set_room(&mut self, packets: u64) {
        self.credit.set_room(packets);
    }

    /// The kernel's count of datagrams dropped at the socket.
    pub fn set_drops(&mut self, drops: u32) {
        self.stats.drops = drops;
    }

    /// More body bytes are in files.
    pub fn on_written(&mut self, bytes: u64) {
        self.stats.written += bytes;
    }

    /// A block is as announced.
    pub fn block_verified(&mut self, entry: u32, block: u32) {
        self.body.on_verified(entry, block, &mut self.events);
        if self.config.sabotage.has(Bug::CommitEarly) {
            self.events.push_back(ReceiverEvent::Commit { entry });
        }
    }

    /// A block differs from its digest: it is asked for again, or the file is given up.
    pub fn block_differs(&mut self, entry: u32, block: u32) {
        match self.body.on_differs(entry, block) {
            Some(_) if self.config.sabotage.has(Bug::IgnoreDifference) => {}
            Some(epoch) => {
                self.flush_answers();
                push_answer(&mut self.answers, &AnswerRecord::Again { entry, block, epoch });
            }
            None => self.abandon(entry, RefuseCode::Changed, None),
        }
    }

    fn abandon(&mut self, entry: u32, code: RefuseCode, reason: Option<VoidReason>) {
        if self.body.close(entry) {
            self.events.push_back(ReceiverEvent::Abandon { entry, code, reason });
        }
    }

    /// Whether another entry may be read: of a sender that completes none, or that acknowledges no
    /// answers, entries, their names and holes, or answers would pile up without bound.
    fn may_take_entry(&self) -> bool {
        self.body.unsettled() < limits::UNSETTLED_MAX
            && self.body.unsettled_holes() < limits::UNSETTLED_HOLES_MAX
            && self.body.unsettled_name_bytes() < limits::UNSETTLED_NAME_BYTES_MAX
            && self.answers.held_bytes() <= limits::ANSWERS_OUTSTANDING_MAX
    }

    /// Tells the shell once everything is settled and what was announced arrived undamaged.
    fn check_settled(&mut self) {
        self.read_records();
        let done = self.end_checked && self.body.unsettled() == 0 && !self.settled_told;
        if done && self.state == State::Open {
            self.settled_told = true;
            self.events.push_back(ReceiverEvent::Settled);
        }
    }

    // ---- what the shell asks ----

    /// The next thing to do.
    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        self.events.pop_front()
    }

    /// What progress shows.
    pub fn progress(&self) -> Progress {
        Progress {
            written: self.stats.written,
            body_bytes: self.body.body_end() - self.body.kept_bytes(),
            settled: self.body.entries() - self.body.unsettled(),
            entries: self.body.entries(),
            is_final: self.end.is_some(),
        }
    }

    /// The counters.
    pub fn stats(&self) -> ReceiverStats {
        let (held_by_socket, held_by_disk) = self.credit.held();
        ReceiverStats {
            packets_numbered: self.opener.expected.0,
            held_by_socket,
            held_by_disk,
            body_bytes: self.body.body_end(),
            body_bytes_kept: self.body.kept_bytes(),
            entries: self.body.entries(),
            ..self.stats.clone()
        }
    }

    /// Bytes of memory held, for the simulation's bound.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Receiver>()
            + self.transcript.memory_bytes()
            + self.sack.memory_bytes()
            + self.manifest.memory_bytes()
            + self.digests.memory_bytes()
            + self.body.memory_bytes()
            + self.answers.memory_bytes()
            + self.events.capacity() * size_of::<ReceiverEvent>()
            + self.events.iter().map(ReceiverEvent::memory_bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
