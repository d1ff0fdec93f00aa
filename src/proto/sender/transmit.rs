//! Makes packets: decides what leaves next (see the priorities in the parent module).

use std::ops::Range;
use std::time::Duration;

use rand::RngExt;

use super::in_flight::{Chunk, RUN_PACKETS_MAX};
use super::timers::KEEPALIVE;
use super::{HELLO_TIMES_MS, Held, Sender, State};
use crate::proto::sabotage::Bug;
use crate::proto::time::Time;
use crate::wire::{
    Close, CloseCode, Data, Flags, Frame, Hello, Limit, PacketNumber, Probe, Sealer, Space, Start,
    limits,
};

/// HELLO after the table of times: every 300 ms with up to 50 ms of random delay.
const HELLO_LATER: Duration = Duration::from_millis(300);

/// What the shell is to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A whole datagram.
    Datagram(Vec<u8>),
    /// Packets of body: the shell reads the bytes and seals them.
    Body(BodyRun),
}

/// A run of DATA packets that carry one contiguous range of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyRun {
    /// Number of the first packet; the others follow it.
    pub first: PacketNumber,
    /// The range of the body.
    pub range: Range<u64>,
    /// Payload of every packet but the last, which has the rest.
    pub payload_bytes: u64,
    /// The last packet asks for an ACK at once.
    pub ack_now: bool,
    /// The range is sent for the first time (and runs of this kind ascend): digest it.
    pub is_new: bool,
}

impl BodyRun {
    /// How many packets.
    pub fn packets(&self) -> u64 {
        (self.range.end - self.range.start).div_ceil(self.payload_bytes)
    }
}

impl Sender {
    /// What to send now; none if nothing may leave before [`Sender::poll_timeout`].
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        match self.state {
            State::Hello { .. } => self.transmit_hello(now),
            State::Open => {
                let transmit = self.transmit_open(now);
                self.account(now, transmit.is_some());
                transmit
            }
            State::Closing { left, code } => {
                self.state = match left {
                    0 | 1 => State::Closed,
                    _ => State::Closing { left: left - 1, code },
                };
                (left > 0).then(|| self.transmit_close(now, code))
            }
            State::Closed => None,
        }
    }

    fn transmit_hello(&mut self, now: Time) -> Option<Transmit> {
        let State::Hello { sent, next, since, .. } = &mut self.state else { return None };
        if now < *next {
            return None;
        }
        *sent += 1;
        *next = match HELLO_TIMES_MS.get(*sent) {
            Some(&milliseconds) => *since + Duration::from_millis(milliseconds),
            None => now + HELLO_LATER + Duration::from_millis(self.random.random_range(0..50)),
        };
        let mut datagram = Vec::with_capacity(limits::DATAGRAM_BYTES_MIN);
        Sealer { connection: 0, seed: 0 }.seal(
            PacketNumber(0),
            Flags::default(),
            &Frame::Hello(Hello { greeting: self.greeting }),
            &mut datagram,
        );
        self.count_sent(now, 1, datagram.len() as u64);
        Some(Transmit::Datagram(datagram))
    }

    fn transmit_open(&mut self, now: Time) -> Option<Transmit> {
        if self.ask_deadline().is_some_and(|deadline| deadline <= now) {
            return Some(self.transmit_asking(now));
        }
        if self.start_due > 0 {
            self.start_due -= 1;
            let srtt_us = micros(self.rtt.smoothed());
            let start = Frame::Start(Start { greeting: self.greeting, srtt_us });
            return Some(self.transmit_frame(now, Flags::default(), &start));
        }
        if self.answers_ack_due || self.must_tell(now) {
            self.answers_ack_due = false;
            let probe = Frame::Probe(self.probe(0));
            return Some(self.transmit_frame(now, Flags::default(), &probe));
        }
        if self.probes_due > 0 {
            self.probes_due -= 1;
            let most = self.payload_bytes();
            // From the second timeout on one probe is small: if it passes and content does not,
            // it is the size.
            let is_small = self.probes_due == 0 && self.pto_backoff >= 2;
            if !self.probes_are_bare
                && !is_small
                && let Some(transmit) = self.transmit_content(now, most, true)
            {
                return Some(transmit);
            }
            self.probes_due = 0;
            let probe = Frame::Probe(self.probe(0));
            return Some(self.transmit_frame(now, Flags { ack_now: true }, &probe));
        }
        if self.confirmed
            && let Some(size) = self.mtu.next_test()
        {
            let number = self.in_flight.next_number();
            let probe = Frame::Probe(self.probe(size));
            self.mtu.on_test_sent(number);
            return Some(self.transmit_frame(now, Flags { ack_now: true }, &probe));
        }
        if self.held_by_credit() || self.held_by_window(now) || self.pacer.ready_at(now).is_err() {
            return None;
        }
        let room = self.window_bytes(now).saturating_sub(self.in_flight.bytes());
        let burst = room.min(self.pacer.burst_bytes());
        let packets = (burst / self.mtu.datagram_bytes() as u64)
            .clamp(1, RUN_PACKETS_MAX)
            .min(self.packets_left());
        self.transmit_content(now, packets * self.payload_bytes(), false)
    }

    /// The next content of at most `bytes_max`, by priority.
    fn transmit_content(&mut self, now: Time, bytes_max: u64, ack_now: bool) -> Option<Transmit> {
        for space in [Space::Manifest, Space::Digests] {
            let most = bytes_max.min(self.payload_bytes());
            let stream = match space {
                Space::Manifest => &mut self.manifest,
                _ => &mut self.digests,
            };
            if let Some(chunk) = stream.next_chunk(most) {
                return Some(self.transmit_record_chunk(now, space, chunk, ack_now));
            }
        }
        let (range, is_new) =
            self.body.next_chunk(bytes_max, self.flow.max_body(), self.repeat_bytes_max())?;
        Some(self.transmit_body(now, range, is_new, ack_now))
    }

    fn transmit_record_chunk(
        &mut self,
        now: Time,
        space: Space,
        chunk: Range<u64>,
        ack_now: bool,
    ) -> Transmit {
        let mut payload = Vec::with_capacity((chunk.end - chunk.start) as usize);
        match space {
            Space::Manifest => self.manifest.copy_chunk(&chunk, &mut payload),
            _ => self.digests.copy_chunk(&chunk, &mut payload),
        }
        let number = self.in_flight.next_number();
        let ack_now = ack_now || !self.has_content();
        let mut datagram = Vec::with_capacity(limits::DATA_HEADER_BYTES + payload.len());
        let data = Frame::Data(Data { space, offset: chunk.start, payload: &payload });
        self.sealer.seal(number, Flags { ack_now }, &data, &mut datagram);
        let bytes = datagram.len() as u64;
        let carried = Chunk { space, range: chunk };
        let payload_bytes = payload.len() as u64;
        self.in_flight.on_sent(now, 1, Some(carried), payload_bytes, bytes, self.mark);
        self.count_sent(now, 1, bytes);
        Transmit::Datagram(datagram)
    }

    fn transmit_body(
        &mut self,
        now: Time,
        range: Range<u64>,
        is_new: bool,
        ack_now: bool,
    ) -> Transmit {
        let payload_bytes = self.payload_bytes();
        let bytes = range.end - range.start;
        let packets = bytes.div_ceil(payload_bytes);
        let datagram_bytes = payload_bytes.min(bytes) + limits::DATA_HEADER_BYTES as u64;
        let chunk = Chunk { space: Space::Body, range: range.clone() };
        let first = self.in_flight.on_sent(
            now,
            packets,
            Some(chunk),
            payload_bytes,
            datagram_bytes,
            self.mark,
        );
        self.stats.body_bytes_sent += bytes;
        match is_new {
            true => self.stats.body_bytes_new += bytes,
            false => self.stats.packets_resent += packets,
        }
        self.count_sent(now, packets, bytes + packets * limits::DATA_HEADER_BYTES as u64);
        // The first flight's spacing tells the rate; one ACK that says so may be lost.
        let is_first_flight = self.mark.received_bytes == 0;
        let ack_now = ack_now || is_first_flight || !self.has_content();
        Transmit::Body(BodyRun { first, range, payload_bytes, ack_now, is_new })
    }

    /// Lost bytes that are sent twice at the end: what takes less than about an RTT, as a window
    /// is about two bandwidth-delay products. Without loss seen there is nothing to insure.
    fn repeat_bytes_max(&self) -> u64 {
        if self.manifest_ended { self.controller.window_bytes() / 2 } else { 0 }
    }

    /// Seals a frame without content under the next number.
    fn transmit_frame(&mut self, now: Time, flags: Flags, frame: &Frame<'_>) -> Transmit {
        let mut datagram = Vec::with_capacity(128);
        let number = self.in_flight.next_number();
        let reused = u64::from(self.config.sabotage.has(Bug::ReuseNumber));
        let sealed = PacketNumber(number.0.saturating_sub(reused));
        self.sealer.seal(sealed, flags, frame, &mut datagram);
        let bytes = datagram.len() as u64;
        self.in_flight.on_sent(now, 1, None, 1, bytes, self.mark);
        self.count_sent(now, 1, bytes);
        Transmit::Datagram(datagram)
    }

    /// A packet for a shell that is held up by its files and polls nothing else meanwhile: none if
    /// the receiver has heard of it within the last second.
    pub fn keep_alive(&mut self, now: Time) -> Option<Vec<u8>> {
        if !matches!(self.state, State::Open) || now < self.last_sent + KEEPALIVE {
            return None;
        }
        let probe = Frame::Probe(self.probe(0));
        match self.transmit_frame(now, Flags { ack_now: true }, &probe) {
            Transmit::Datagram(datagram) => Some(datagram),
            Transmit::Body(_) => None,
        }
    }

    fn transmit_close(&mut self, now: Time, code: CloseCode) -> Transmit {
        self.transmit_frame(now, Flags::default(), &Frame::Close(Close { code, text: "" }))
    }

    fn count_sent(&mut self, now: Time, packets: u64, bytes: u64) {
        self.last_sent = now;
        if self.in_flight.open_packets() <= packets {
            self.pto_from = now;
        }
        self.stats.packets_sent += packets;
        self.stats.datagram_bytes_sent += bytes;
        self.pacer.on_sent(bytes);
    }

    fn probe(&mut self, datagram_bytes: usize) -> Probe {
        let window_packets = self.window_packets();
        self.told.smoothed_rtt = self.rtt.smoothed();
        self.told.window_packets = window_packets;
        self.told.at = self.last_call;
        let filling = datagram_bytes.saturating_sub(limits::PROBE_BYTES_MIN);
        self.stats.filling_bytes_sent += filling as u64;
        Probe {
            srtt_us: micros(self.rtt.smoothed()),
            window_packets: u32::try_from(window_packets).unwrap_or(u32::MAX),
            answers: self.answers.frontier(),
            datagram_bytes,
        }
    }

    fn window_packets(&self) -> u64 {
        self.controller.window_bytes() / self.mtu.datagram_bytes() as u64
    }

    /// Whether RTT or window have changed by a quarter since the receiver was told, an RTT ago
    /// at least.
    fn must_tell(&self, now: Time) -> bool {
        let smoothed = self.rtt.smoothed();
        let since_told = now.saturating_since(self.told.at);
        if !self.confirmed || !self.rtt.has_sample() {
            return false;
        }
        if since_told < smoothed.max(Duration::from_millis(1)) {
            return false;
        }
        let moved = |now: u128, told: u128| now.abs_diff(told) * 4 > told;
        moved(smoothed.as_micros(), self.told.smoothed_rtt.as_micros())
            || moved(u128::from(self.window_packets()), u128::from(self.told.window_packets))
    }

    fn payload_bytes(&self) -> u64 {
        (self.mtu.datagram_bytes() - limits::DATA_HEADER_BYTES) as u64
    }

    /// Whether content waits to be sent (credit for spaces considered, other bounds not).
    pub(super) fn has_content(&self) -> bool {
        self.manifest.has_chunk()
            || self.digests.has_chunk()
            || self.body.has_chunk(self.flow.max_body())
    }

    /// Packets that credit allows.
    fn packets_left(&self) -> u64 {
        match self.config.sabotage.has(Bug::IgnoreCredit) {
            true => u64::MAX,
            false => self.flow.packets_left(self.in_flight.next_number()),
        }
    }

    /// Whether content waits for credit, be it for numbers or for body.
    pub(super) fn held_by_credit(&self) -> bool {
        match self.has_content() {
            true => self.packets_left() == 0,
            false => self.body.has_chunk(u64::MAX),
        }
    }

    pub(super) fn held_by_window(&self, now: Time) -> bool {
        let datagram = self.mtu.datagram_bytes() as u64;
        let in_flight = self.in_flight.bytes();
        if self.config.sabotage.has(Bug::IgnoreWindow) {
            return false;
        }
        self.in_flight.is_full() || in_flight > 0 && in_flight + datagram > self.window_bytes(now)
    }

    pub(super) fn set_pace(&mut self, now: Time) {
        let rate = self.controller.pacing_rate();
        let rate = self.config.rate_bytes_max.map_or(rate, |most| rate.min(most));
        self.pacer.set_rate(now, rate, self.mtu.datagram_bytes() as u64);
    }

    /// Adds the time since the last call to what held the sender until now.
    fn account(&mut self, now: Time, sent: bool) {
        let span = now.saturating_since(self.held_since);
        self.stats.held.add(self.held, span);
        self.held_since = now;
        self.held = if sent {
            Held::Nothing
        } else if self.body.has_chunk(u64::MAX) && !self.has_content() {
            // What the receiver hands on in order, somebody takes too slowly.
            Held::ReceiverDisk
        } else if !self.has_content() {
            match self.manifest_ended && self.body.unsent_bytes() == 0 {
                true => Held::Settling,
                false => Held::Source,
            }
        } else if self.held_by_credit() {
            match self.flow.limit() {
                Limit::Disk => Held::ReceiverDisk,
                _ => Held::ReceiverSocket,
            }
        } else if self
            .config
            .rate_bytes_max
            .is_some_and(|most| most <= self.controller.pacing_rate())
        {
            Held::RateCap
        } else {
            Held::Network
        };
        // While the source has nothing, rates measured say nothing of the path.
        self.mark.limited = matches!(
            self.held,
            Held::Source
                | Held::ReceiverDisk
                | Held::ReceiverSocket
                | Held::RateCap
                | Held::Settling
        );
    }
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}
