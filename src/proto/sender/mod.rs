//! The sending machine: what to send next, and when.
//!
//! In order of priority ([`Sender::poll_transmit`]):
//! 1. CLOSE; HELLO until WELCOME, and when the receiver is silent; START until it is heard
//! 2. PROBE that acknowledges answers or tells a changed RTT
//! 3. up to two packets after a probe timeout: exempt from window and credit
//! 4. PROBE that tests a larger datagram
//! 5. within window, pacing and credit: manifest, digests, lost body, new body
//!
//! The parts: `body` (what waits), `in_flight` (what is under way), `loss_count`, `rtt`, `pacer`,
//! `flow_control`, `path_mtu`, `congestion`; `acks` takes ACKs in and finds losses, `answers` reads
//! the receiver's records, `asking` looks for a receiver that was restarted, `transmit` makes
//! packets.

mod acks;
mod answers;
mod asking;
mod body;
pub mod congestion;
mod flow_control;
mod in_flight;
mod loss_count;
mod pacer;
mod path_mtu;
mod rtt;
mod transmit;

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::asking::{Asked, answers, new_greeting};
use self::body::BodyQueue;
use self::congestion::Controller;
use self::flow_control::FlowControl;
use self::in_flight::{InFlight, Mark};
use self::loss_count::LossCount;
use self::pacer::Pacer;
use self::path_mtu::PathMtu;
use self::rtt::{OneWayDelay, RttEstimator};
use super::config::SenderConfig;
use super::error::Error;
use super::event::SenderEvent;
use super::stats::{Held, SenderStats};
use super::stream::{ReceiveStream, SendStream};
use super::time::Time;
use super::transcript::Transcript;
use crate::wire::{
    CloseCode, Digest, DigestAlgorithm, DigestRecord, Entry, Frame, Greeting, ManifestRecord,
    Opener, PacketNumber, Sealer, VoidReason, Welcome, limits,
};

pub use self::transmit::{BodyRun, Transmit};

/// HELLO is repeated so long after the first one (proto.md, "Handshake"); then every 300 ms.
const HELLO_TIMES_MS: [u64; 5] = [0, 20, 60, 140, 300];

/// A receiver whose host reports the port closed is waited for this long.
const REFUSED_WAIT: Duration = Duration::from_secs(2);

/// Something is sent at least this often (proto.md, "End").
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Doublings of the probe timeout while credit alone holds the sender (proto.md, "Loss detection").
const CREDIT_BACKOFF_MAX: u32 = 2;

/// The probe timeout at most, unless two RTTs are longer. Bursts of losses last for packets rather
/// than for time: a peer that sends one a second does not see their end.
const PTO_MAX: Duration = Duration::from_millis(300);

/// A shell that calls later than this after it was due has stalled; a busy one is not so late.
const LATENESS_MAX: Duration = Duration::from_millis(10);

/// Manifest and digest bytes the sender holds at most before it takes no more entries.
const STREAM_HELD_BYTES: u64 = 512 * 1_024;

/// Entries that are not settled at most: half of what a receiver takes, so that it never stops
/// reading before the VOID that would settle one. Each may cost the receiver a descriptor.
const UNSETTLED_MAX: usize = limits::UNSETTLED_MAX as usize / 2;

/// Holes of entries that are not settled at most before another file is announced.
const UNSETTLED_HOLES_MAX: usize = limits::UNSETTLED_HOLES_MAX / 4;

/// Where the machine is.
#[derive(Debug, PartialEq)]
enum State {
    /// HELLO was sent `sent` times.
    Hello { sent: usize, next: Time, since: Time, refused_since: Option<Time> },
    /// The transfer runs.
    Open,
    /// CLOSE is to be sent `left` times; then it is over.
    Closing { left: u32, code: CloseCode },
    /// Over.
    Closed,
}

/// The sending end of one transfer. See the module's description and `proto`'s run loop.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    random: StdRng,
    state: State,
    greeting: Greeting,
    /// What a receiver that fell silent was asked with last.
    asked: Option<Asked>,
    sealer: Sealer,
    /// One more than the largest number of the receiver's packets.
    expected: PacketNumber,
    start_due: u32,
    /// Whether anything came from the receiver's transfer: START need not be sent any more.
    confirmed: bool,

    manifest: SendStream,
    digests: SendStream,
    transcript: Transcript,
    manifest_ended: bool,
    answers: ReceiveStream,
    answers_ack_due: bool,
    body: BodyQueue,
    settled: Settled,

    in_flight: InFlight,
    rtt: RttEstimator,
    one_way_delay: OneWayDelay,
    /// The receiver's largest ACK delay.
    ack_delay_max: Duration,
    reordering_window: Duration,
    reordering_rounds: u32,
    loss_deadline: Option<Time>,
    loss_count: LossCount,
    pto_backoff: u32,
    probes_due: u32,
    /// The probes that are due carry no content: credit forbids new one, and none was lost.
    probes_are_bare: bool,
    controller: Box<dyn Controller>,
    pacer: Pacer,
    flow: FlowControl,
    mtu: PathMtu,
    mark: Mark,
    /// The first mark: the first flight's rate is measured from it.
    train: Option<Mark>,
    last_ack: Option<LastAck>,
    round_end: PacketNumber,
    told: Told,

    last_sent: Time,
    last_heard: Time,
    last_call: Time,
    /// When the shell was told to call again, and the last call that came much later.
    call_due: Option<Time>,
    late_at: Option<Time>,
    /// The probe timeout runs from here: see [`Sender::pto_deadline`].
    pto_from: Time,
    refused: bool,
    judge_from: Time,
    held: Held,
    held_since: Time,
    events: VecDeque<SenderEvent>,
    stats: SenderStats,
}

/// Entries by outcome.
#[derive(Debug, Default)]
struct Settled {
    committed: u32,
    present: u32,
    failed: u32,
}

/// Counters of the newest ACK.
#[derive(Clone, Copy, Debug)]
struct LastAck {
    largest: PacketNumber,
    received_packets: u64,
    received_bytes: u64,
    drops: u32,
}

/// What the receiver was last told by PROBE.
#[derive(Debug)]
struct Told {
    smoothed_rtt: Duration,
    window_packets: u64,
    at: Time,
}

impl Sender {
    /// A sender that starts now. `seed` must be unpredictable: ids and seeds come from it.
    pub fn new(now: Time, config: SenderConfig, seed: [u8; 32]) -> Sender {
        let mut random = StdRng::from_seed(seed);
        let greeting = new_greeting(&mut random, &config);
        let first = PacketNumber(config.first_number);
        let window = limits::STREAM_WINDOW_BYTES;
        Sender {
            controller: config.algorithm.build(now, Duration::ZERO, config.rate_bytes_max, 0),
            mtu: PathMtu::new(config.route_datagram_bytes, limits::DATAGRAM_BYTES_MAX),
            transcript: Transcript::new(config.digest),
            random,
            state: State::Hello { sent: 0, next: now, since: now, refused_since: None },
            greeting,
            asked: None,
            sealer: Sealer { connection: 0, seed: 0 },
            expected: PacketNumber(0),
            start_due: 2,
            confirmed: false,
            manifest: SendStream::new(window),
            digests: SendStream::new(window),
            manifest_ended: false,
            answers: ReceiveStream::new(limits::ANSWERS_OUTSTANDING_MAX),
            answers_ack_due: false,
            body: BodyQueue::default(),
            settled: Settled::default(),
            in_flight: InFlight::new(first),
            rtt: RttEstimator::default(),
            one_way_delay: OneWayDelay::default(),
            ack_delay_max: Duration::from_millis(5),
            reordering_window: Duration::ZERO,
            reordering_rounds: 0,
            loss_deadline: None,
            loss_count: LossCount::default(),
            pto_backoff: 0,
            probes_due: 0,
            probes_are_bare: false,
            pacer: Pacer::new(now),
            flow: FlowControl::new(first, 1),
            mark: Mark::default(),
            train: None,
            last_ack: None,
            round_end: first,
            told: Told { smoothed_rtt: Duration::ZERO, window_packets: 0, at: now },
            last_sent: now,
            last_heard: now,
            last_call: now,
            call_due: None,
            late_at: None,
            pto_from: now,
            refused: false,
            judge_from: now,
            held: Held::Source,
            held_since: now,
            events: VecDeque::new(),
            stats: SenderStats::default(),
            config,
        }
    }

    /// A datagram came from the receiver's address.
    pub fn handle_datagram(&mut self, now: Time, datagram: &[u8]) {
        self.on_call(now);
        let opener = Opener {
            connection: self.greeting.connection,
            seed: self.greeting.seed,
            expected: self.expected,
        };
        let Ok(packet) = opener.open(datagram) else {
            return self.on_answer_to_asking(datagram);
        };
        match (&self.state, packet.frame) {
            (State::Hello { .. }, Frame::Welcome(welcome)) => self.on_welcome(now, &welcome),
            (State::Hello { .. } | State::Open, Frame::Close(close)) => {
                let text = close.text.to_owned();
                self.end(Error::ClosedByPeer { code: close.code, text });
            }
            (State::Open, frame @ (Frame::Ack(_) | Frame::Data(_))) => {
                self.expected = self.expected.max(packet.number.next());
                self.last_heard = now;
                self.refused = false;
                self.confirmed = true;
                self.asked = None;
                self.stats.packets_received += 1;
                self.stats.datagram_bytes_received += datagram.len() as u64;
                match frame {
                    Frame::Ack(ack) => self.on_ack(now, &ack),
                    Frame::Data(data) => self.on_answers(&data),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn on_welcome(&mut self, now: Time, welcome: &Welcome) {
        if !answers(welcome, &self.greeting) {
            self.stats.invalid += 1;
            return;
        }
        let State::Hello { since, sent, .. } = self.state else { return };
        // With one HELLO out the answer is surely to it; else the sample may be too long.
        if sent == 1 && !self.is_late(now) {
            self.rtt.on_sample(now, now.saturating_since(since));
        }
        self.sealer = Sealer { connection: welcome.connection, seed: welcome.seed };
        self.flow = FlowControl::new(self.in_flight.next_number(), welcome.credit);
        self.mtu =
            PathMtu::new(self.config.route_datagram_bytes, welcome.datagram_bytes_max as usize);
        let (rtt, rate) = (self.rtt.smoothed(), self.config.rate_bytes_max);
        let seed = self.random.random();
        self.controller = self.config.algorithm.build(now, rtt, rate, seed);
        self.pacer.bound_burst(u64::from(welcome.socket_bytes) / 4);
        self.state = State::Open;
        self.last_heard = now;
        self.refused = false;
        self.set_pace(now);
        self.events.push_back(SenderEvent::Connected);
    }

    /// The host reported the receiver's port closed (ICMP).
    pub fn handle_refused(&mut self, now: Time) {
        self.on_call(now);
        self.refused = true;
        if let State::Hello { refused_since, .. } = &mut self.state {
            refused_since.get_or_insert(now);
        }
    }

    /// The socket refused a datagram of `bytes` as larger than the path takes.
    pub fn handle_too_big(&mut self, now: Time, bytes: usize) {
        self.on_call(now);
        self.mtu.on_too_big(bytes);
        self.set_pace(now);
    }

    /// Ends the transfer; the receiver is told why.
    pub fn cancel(&mut self, code: CloseCode) {
        // What ended it first is what the receiver is told: after `done`, too.
        if self.is_over() {
            return;
        }
        self.end(Error::Cancelled { code });
        self.state = match self.state {
            _ if self.sealer.connection == 0 => State::Closed,
            _ => State::Closing { left: 2, code },
        };
    }

    fn end(&mut self, error: Error) {
        if !self.is_over() {
            self.state = State::Closed;
            self.events.push_back(SenderEvent::Closed(error));
        }
    }

    fn fail_protocol(&mut self, rule: &'static str) {
        if !self.is_over() {
            self.end(Error::Protocol { rule });
            self.state = State::Closing { left: 2, code: CloseCode::Protocol };
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Closed)
    }

    /// Whether nothing will be sent or expected any more.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    // ---- what the source tells ----

    /// Whether the manifest takes another entry now. Otherwise ask again after the next batch.
    pub fn wants_entries(&self) -> bool {
        !self.manifest_ended
            && self.manifest.held_bytes() < STREAM_HELD_BYTES
            && self.digests.held_bytes() < STREAM_HELD_BYTES
            && self.body.unsettled() < UNSETTLED_MAX
            && self.body.unsettled_holes() < UNSETTLED_HOLES_MAX
            && !self.is_over()
    }

    /// Announces an entry; returns its number.
    pub fn push_entry(&mut self, entry: &Entry<'_>) -> u32 {
        self.push_manifest(&ManifestRecord::Entry(*entry));
        self.body.push_entry(entry.body_bytes(), !self.config.dry_run)
    }

    /// A range of the last entry's file has no data.
    pub fn push_hole(&mut self, offset: u64, bytes: u64) {
        self.push_manifest(&ManifestRecord::Hole { offset, bytes });
        self.body.push_hole(offset, bytes);
    }

    /// The file of an entry cannot be sent as announced.
    pub fn push_void(&mut self, entry: u32, reason: VoidReason) {
        self.push_manifest(&ManifestRecord::Void { entry, reason });
        self.body.close(entry);
    }

    /// The digest of a block that was read for the first time.
    pub fn push_digest(&mut self, entry: u32, block: u32, digest: Digest) {
        self.push_digest_record(entry, block, 0, digest);
    }

    /// Sends a block again under a new epoch, in answer to [`SenderEvent::Again`].
    pub fn resend_block(&mut self, entry: u32, block: u32, epoch: u8, digest: Digest) {
        self.push_digest_record(entry, block, epoch, digest);
        self.body.resend_block(entry, block, self.in_flight.next_number());
    }

    fn push_digest_record(&mut self, entry: u32, block: u32, epoch: u8, digest: Digest) {
        let mut bytes = Vec::with_capacity(41);
        DigestRecord { entry, block, epoch, digest }.encode(&mut bytes);
        if epoch == 0 {
            self.transcript.update_digests(&bytes);
        }
        self.digests.push(&bytes);
    }

    fn push_manifest(&mut self, record: &ManifestRecord<'_>) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        if !self.manifest_ended {
            self.transcript.update_manifest(&bytes);
        }
        self.manifest.push(&bytes);
    }

    /// Every file is announced, read and digested: ends the manifest.
    pub fn finish_manifest(&mut self) {
        if self.manifest_ended {
            return;
        }
        self.manifest_ended = true;
        self.push_manifest(&ManifestRecord::End {
            entries: self.body.entries(),
            body_bytes: self.body.end(),
            digests_bytes: self.digests.end(),
            digest: self.transcript.digest(),
        });
    }

    /// Body bytes that have never been sent: 0 means that all announced files are read.
    pub fn unsent_body_bytes(&self) -> u64 {
        self.body.unsent_bytes()
    }

    /// Where an entry's bytes lie in the body. None once it is settled.
    pub fn body_range(&self, entry: u32) -> Option<std::ops::Range<u64>> {
        self.body.range(entry)
    }

    /// Number of entries announced so far, and the length of their bodies.
    pub fn announced(&self) -> (u32, u64) {
        (self.body.entries(), self.body.end())
    }

    // ---- what the shell asks ----

    /// Seals packets to the receiver.
    pub fn sealer(&self) -> Sealer {
        self.sealer
    }

    /// The digest algorithm of this transfer.
    pub fn digest_algorithm(&self) -> DigestAlgorithm {
        self.config.digest
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<SenderEvent> {
        self.events.pop_front()
    }

    /// Body bytes the receiver says it has written.
    pub fn written(&self) -> u64 {
        self.stats.written
    }

    /// The counters.
    pub fn stats(&self) -> SenderStats {
        SenderStats {
            smoothed_rtt: self.rtt.smoothed(),
            min_rtt: self.rtt.minimum(),
            datagram_bytes: self.mtu.datagram_bytes(),
            limit: Some(self.flow.limit()),
            ..self.stats.clone()
        }
    }

    /// Bytes of datagrams that are neither reported nor lost.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight.bytes()
    }

    /// Bytes that may be in flight: what the controller allows, halved at each probe timeout
    /// after the first until something is heard.
    pub fn window_bytes(&self) -> u64 {
        let halvings = self.pto_backoff.saturating_sub(1).min(32);
        let least = 2 * self.mtu.datagram_bytes() as u64;
        let window = self.controller.window_bytes();
        (window >> halvings).max(least.min(window))
    }

    /// Bytes of memory held, for the simulation's bound.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Sender>()
            + self.in_flight.memory_bytes()
            + self.body.memory_bytes()
            + self.manifest.memory_bytes()
            + self.digests.memory_bytes()
            + self.answers.memory_bytes()
            + self.events.capacity() * size_of::<SenderEvent>()
    }

    // ---- time ----

    fn on_call(&mut self, now: Time) {
        if self.call_due.is_some_and(|due| now > due + LATENESS_MAX) {
            self.late_at = Some(now);
        }
        // After a stall of our own the silence may be ours: probe before judging.
        if now.saturating_since(self.last_call) > KEEPALIVE * 2 && self.state == State::Open {
            self.judge_from = now + KEEPALIVE;
            self.probes_due = self.probes_due.max(1);
            self.stats.probe_timeouts += 1;
        }
        self.last_call = now;
    }

    /// Whether this call comes so late that what is read now may have waited at this host: it
    /// says nothing about the path's RTT.
    pub(super) fn is_late(&self, now: Time) -> bool {
        self.late_at == Some(now)
    }

    /// Time has passed; call it when [`Sender::poll_timeout`] is reached.
    pub fn handle_timeout(&mut self, now: Time) {
        self.on_call(now);
        match &self.state {
            State::Hello { since, refused_since, .. } => {
                let waited = now.saturating_since(*since);
                let refused =
                    refused_since.is_some_and(|at| now.saturating_since(at) >= REFUSED_WAIT);
                if waited >= self.config.wait || refused {
                    self.end(Error::NoAnswer { waited, refused });
                }
            }
            State::Open => {
                let silence = now.saturating_since(self.last_heard);
                if now >= self.silence_deadline() {
                    self.end(Error::Silence { silence, refused: self.refused });
                    return;
                }
                if self.loss_deadline.is_some_and(|deadline| deadline <= now) {
                    self.detect_losses(now);
                }
                if self.pto_deadline().is_some_and(|deadline| deadline <= now) {
                    self.on_probe_timeout(now);
                }
            }
            State::Closing { .. } | State::Closed => {}
        }
    }

    fn silence_deadline(&self) -> Time {
        let patience = match self.refused {
            true => self.config.timeout / 2,
            false => self.config.timeout,
        };
        (self.last_heard + patience).max(self.judge_from)
    }

    /// When a probe is due if nothing is heard until then.
    ///
    /// The timeout runs from the last news (an ACK that reported something, a probe) or, when
    /// nothing was under way, from the packet that left. Were it to run from the last packet
    /// alone, a slowly paced sender that hears nothing would put it off for ever.
    fn pto_deadline(&self) -> Option<Time> {
        if self.probes_due > 0 {
            return None;
        }
        let waiting = self.in_flight.has_open() || (!self.confirmed && self.start_due == 0);
        if !waiting && !self.held_by_credit() {
            return Some(self.last_sent + KEEPALIVE);
        }
        // One bad sample must not keep the sender silent for long.
        let bound = PTO_MAX.max(self.rtt.smoothed() * 2);
        let timeout = self.rtt.probe_timeout(self.ack_delay_max).min(bound);
        // Held by credit alone there is no sign of loss, and the ACK that ends it may be lost.
        let credit_alone = self.held_by_credit() && !self.in_flight.has_open_content();
        let backoff_max = if credit_alone { CREDIT_BACKOFF_MAX } else { 16 };
        let doublings = self.pto_backoff.saturating_sub(1).min(backoff_max);
        let doubled = timeout.saturating_mul(1 << doublings);
        let from = if waiting { self.pto_from } else { self.last_sent };
        Some(from + doubled.min(bound))
    }

    fn on_probe_timeout(&mut self, now: Time) {
        self.pto_backoff += 1;
        self.pto_from = now;
        self.probes_due = 2;
        self.stats.probe_timeouts += 1;
        if !self.confirmed {
            self.start_due = 1;
        }
        if self.in_flight.has_open_content() {
            // What is sent while there is nothing to send says nothing of the size of datagrams.
            self.mtu.on_timeout();
        }
        let mut lost = in_flight::Lost::default();
        self.in_flight.take_oldest(2, &mut lost);
        if self.pto_backoff > 1 && self.rtt.has_sample() {
            // Two in a row: what left before the first one is gone, or nothing can come back.
            let timeout = self.rtt.probe_timeout(self.ack_delay_max);
            self.in_flight.take_older(now, timeout, &mut lost);
        }
        self.probes_are_bare = lost.chunks.is_empty() && self.held_by_credit();
        self.requeue(&lost);
        self.controller.on_probe_timeout();
    }

    /// When [`Sender::handle_timeout`] or [`Sender::poll_transmit`] must be called next.
    pub fn poll_timeout(&mut self, now: Time) -> Option<Time> {
        self.call_due = self.next_call(now);
        self.call_due
    }

    fn next_call(&mut self, now: Time) -> Option<Time> {
        match &self.state {
            State::Hello { next, since, refused_since, .. } => {
                let give_up = *since + self.config.wait;
                let refused = refused_since.map_or(give_up, |at| at + REFUSED_WAIT);
                Some((*next).min(give_up).min(refused))
            }
            State::Open => {
                let mut at = self.silence_deadline();
                at = self.pto_deadline().map_or(at, |deadline| at.min(deadline));
                at = self.ask_deadline().map_or(at, |deadline| at.min(deadline));
                at = self.loss_deadline.map_or(at, |deadline| at.min(deadline));
                if self.has_content()
                    && !self.held_by_credit()
                    && !self.held_by_window()
                    && let Err(ready) = self.pacer.ready_at(now)
                {
                    at = at.min(ready);
                }
                Some(at)
            }
            State::Closing { .. } => Some(now),
            State::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_that_is_over_is_not_cancelled() {
        for code in [CloseCode::Done, CloseCode::Protocol] {
            let mut sender = Sender::new(Time::ZERO, SenderConfig::default(), [7; 32]);
            sender.sealer.connection = 1;
            sender.state = State::Closing { left: 1, code };
            sender.cancel(CloseCode::Cancelled);
            assert!(matches!(sender.state, State::Closing { left: 1, code: told } if told == code));
            assert_eq!(sender.poll_event(), None);
        }
    }

    #[test]
    fn a_transfer_that_runs_is_cancelled_once() {
        let mut sender = Sender::new(Time::ZERO, SenderConfig::default(), [7; 32]);
        sender.sealer.connection = 1;
        sender.cancel(CloseCode::Cancelled);
        sender.cancel(CloseCode::Internal);
        let error = Error::Cancelled { code: CloseCode::Cancelled };
        assert_eq!(sender.poll_event(), Some(SenderEvent::Closed(error)));
        assert_eq!(sender.poll_event(), None);
    }

    #[test]
    fn timeouts_while_there_is_nothing_to_send_make_no_black_hole() {
        let mut sender = Sender::new(Time::ZERO, SenderConfig::default(), [7; 32]);
        let welcome = Welcome {
            version: 1,
            mode: sender.greeting.mode,
            digest: sender.greeting.digest,
            nonce: sender.greeting.nonce,
            connection: 1,
            seed: 2,
            socket_bytes: 1 << 20,
            datagram_bytes_max: 65_507,
            credit: 1_000,
            key_share: [0; 32],
            proof: [0; 16],
        };
        sender.on_welcome(Time::ZERO, &welcome);
        for second in 1..8 {
            let now = Time::ZERO + Duration::from_secs(second);
            while sender.poll_transmit(now).is_some() {}
            sender.handle_timeout(now);
        }
        assert!(sender.stats.probe_timeouts >= 5, "{}", sender.stats.probe_timeouts);
        sender.mtu.on_large_lost(40);
        sender.mtu.on_reported(40);
        assert_eq!(sender.mtu.datagram_bytes(), 1_472);
    }
}
