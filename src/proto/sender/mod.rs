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
//! `flow_control`, `path_mtu`, `congestion`; `announcing` takes entries and digests in, `acks`
//! takes ACKs in and finds losses, `answers` reads the receiver's records, `asking` looks for a
//! receiver that was restarted, `timers` knows what is due, `transmit` makes packets.

mod acks;
mod announcing;
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
mod timers;
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
    CloseCode, DigestAlgorithm, Frame, Greeting, Opener, PacketNumber, Sealer, Welcome, limits,
};

pub use self::transmit::{BodyRun, Transmit};

/// HELLO is repeated so long after the first one (proto.md, "Handshake"); then every 300 ms.
const HELLO_TIMES_MS: [u64; 5] = [0, 20, 60, 140, 300];

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
    /// When an ACK last ended a row of probe timeouts.
    heard_again_at: Time,
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
            heard_again_at: now,
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
                self.stats.packets_received += 1;
                self.stats.datagram_bytes_received += datagram.len() as u64;
                match frame {
                    Frame::Ack(ack) => self.on_ack(now, &ack),
                    Frame::Data(data) => self.on_answers(now, &data),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The receiver has said something about this transfer that can be, and that may be new.
    fn on_heard(&mut self, now: Time) {
        self.last_heard = now;
        self.refused = false;
        self.confirmed = true;
        self.asked = None;
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
        self.expected = PacketNumber(self.config.peer_first_number);
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

    /// Bytes that may be in flight: what the controller allows, for a silent while with what
    /// leaves at its pace meanwhile; halved at each probe timeout after the first until something
    /// is heard.
    pub fn window_bytes(&self, now: Time) -> u64 {
        let halvings = self.pto_backoff.saturating_sub(1).min(32);
        let least = 2 * self.mtu.datagram_bytes() as u64;
        let unheard = now.saturating_since(self.last_heard).min(self.controller.unheard_max());
        let unheard = u128::from(self.controller.pacing_rate()) * unheard.as_micros() / 1_000_000;
        let window = self.controller.window_bytes().saturating_add(unheard as u64);
        (window >> halvings).max(least.min(window))
    }

    /// Bytes of memory held, for the simulation's bound.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Sender>()
            + size_of_val(&*self.controller)
            + self.transcript.memory_bytes()
            + self.in_flight.memory_bytes()
            + self.body.memory_bytes()
            + self.manifest.memory_bytes()
            + self.digests.memory_bytes()
            + self.answers.memory_bytes()
            + self.events.capacity() * size_of::<SenderEvent>()
    }
}

#[cfg(test)]
mod tests;
