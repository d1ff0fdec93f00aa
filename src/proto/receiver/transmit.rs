//! Makes the receiver's packets: CLOSE, ACK, answers.

use std::time::Duration;

use super::Receiver;
use super::ack_timing::Due;
use super::lifetime::State;
use crate::proto::sabotage::Bug;
use crate::proto::stream::SendStream;
use crate::proto::time::Time;
use crate::wire::{Ack, Close, Data, Flags, Frame, PacketNumber, Space, encode_words, limits};

/// Answers are repeated after max(2 srtt, this), doubled each time (proto.md, "Loss detection").
const ANSWERS_TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// ... up to this.
const ANSWERS_TIMEOUT_MAX: Duration = Duration::from_secs(1);

impl Receiver {
    /// The next datagram to send now.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        match self.state {
            State::Closed => return None,
            State::Closing { left, code } => {
                self.state = match left {
                    0 | 1 => State::Closed,
                    _ => State::Closing { left: left - 1, code },
                };
                let frame = Frame::Close(Close { code, text: "" });
                return Some(self.seal(&frame));
            }
            State::Open | State::Lingering { .. } => {}
        }
        let largest = self.sack.largest().unwrap_or_default();
        if self.credit.update(largest) {
            self.ack_timing.at_once();
        }
        if self.ack_due() == Due::Now {
            return Some(self.transmit_ack(now));
        }
        if let Due::At(at) = self.ack_due()
            && at <= now
        {
            return Some(self.transmit_ack(now));
        }
        self.transmit_answers(now)
    }

    fn ack_due(&self) -> Due {
        let left = self.credit.left(self.sack.largest().unwrap_or_default());
        self.ack_timing.due(self.smoothed_rtt, self.window_packets, left)
    }

    fn transmit_ack(&mut self, now: Time) -> Vec<u8> {
        let mut words = Vec::with_capacity(limits::BITMAP_WORDS_MAX);
        let base = self.sack.bitmap(self.bitmap_words(), &mut words);
        let mut bitmap = Vec::new();
        let saturated = |value: u128| u32::try_from(value).unwrap_or(u32::MAX);
        let first_count = self.config.first_count;
        let ack = Ack {
            largest: self.sack.largest().unwrap_or_default(),
            arrival_us: self.config.clock_start_us
                + self.arrival.saturating_since(self.started).as_micros() as u64,
            delay_us: saturated(now.saturating_since(self.arrival).as_micros()),
            received_packets: self.stats.packets_received,
            received_bytes: self.stats.datagram_bytes_received,
            duplicates: first_count.wrapping_add(self.stats.duplicates as u32),
            drops: first_count.wrapping_add(self.stats.drops),
            ecn_ce: 0,
            max_number: self.max_number(),
            max_manifest: self.manifest.limit(),
            max_digests: self.digests.limit(),
            max_body: self.credit.max_body(),
            written: self.stats.written,
            datagram_bytes: saturated(self.credit.datagram_bytes() as u128),
            limit: self.credit.limit(),
            base,
            bitmap: encode_words(&words, &mut bitmap),
        };
        let mut datagram = Vec::with_capacity(limits::ACK_BYTES_MIN + bitmap_bytes(&ack));
        self.sealer.seal(self.next_number, Flags::default(), &Frame::Ack(ack), &mut datagram);
        self.next_number = self.next_number.next();
        self.ack_timing.on_sent(now);
        self.credit.on_told();
        self.stats.acks += 1;
        self.stats.packets_sent += 1;
        self.stats.datagram_bytes_sent += datagram.len() as u64;
        datagram
    }

    fn max_number(&self) -> PacketNumber {
        let most = self.credit.max_number();
        let retreats = self.config.sabotage.has(Bug::RetreatCredit) && self.stats.acks % 2 == 1;
        PacketNumber(most.0 - u64::from(retreats))
    }

    /// Words that reach back srtt, a reordering window and three ACK intervals: at most 2.5
    /// windows and some; everything that fits if the window is not known yet.
    fn bitmap_words(&self) -> usize {
        let packets = self.window_packets.saturating_mul(5) / 2 + 256;
        usize::try_from(packets / 64).unwrap_or(usize::MAX).min(limits::BITMAP_WORDS_MAX)
    }

    fn transmit_answers(&mut self, now: Time) -> Option<Vec<u8>> {
        self.flush_answers();
        if let Some(sent_at) = self.answers_sent_at
            && now >= sent_at + self.answers_timeout()
        {
            self.answers.on_all_lost();
            self.answers_backoff += 1;
            self.answers_sent_at = Some(now);
        }
        let most = (limits::DATAGRAM_BYTES_MIN - limits::DATA_HEADER_BYTES) as u64;
        let chunk = self.answers.next_chunk(most)?;
        let mut payload = Vec::with_capacity(most as usize);
        self.answers.copy_chunk(&chunk, &mut payload);
        self.answers_sent_at.get_or_insert(now);
        if matches!(self.state, State::Lingering { .. }) && !self.end_repeated {
            // The end is sent twice at once: its loss would cost the sender two round trips.
            self.end_repeated = true;
            self.answers.on_lost(chunk.clone());
        }
        let data = Data { space: Space::Answers, offset: chunk.start, payload: &payload };
        Some(self.seal(&Frame::Data(data)))
    }

    fn answers_timeout(&self) -> Duration {
        let timeout = (self.smoothed_rtt * 2).max(ANSWERS_TIMEOUT_MIN);
        timeout.saturating_mul(1 << self.answers_backoff.min(16)).min(ANSWERS_TIMEOUT_MAX)
    }

    fn seal(&mut self, frame: &Frame<'_>) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(limits::DATAGRAM_BYTES_MIN);
        self.sealer.seal(self.next_number, Flags::default(), frame, &mut datagram);
        self.next_number = self.next_number.next();
        self.stats.packets_sent += 1;
        self.stats.datagram_bytes_sent += datagram.len() as u64;
        datagram
    }

    /// When [`Receiver::handle_timeout`] and [`Receiver::poll_transmit`] must be called next.
    pub fn poll_timeout(&self, now: Time) -> Option<Time> {
        let mut at = match self.state {
            State::Closed => return None,
            State::Closing { .. } => return Some(now),
            State::Open => self.silence_deadline(),
            State::Lingering { until } => until,
        };
        at = match self.ack_due() {
            Due::Now => now,
            Due::At(due) => at.min(due),
        };
        if let Some(sent_at) = self.answers_sent_at {
            at = at.min(sent_at + self.answers_timeout());
        }
        if SendStream::has_chunk(&self.answers)
            || self.committed.is_some()
            || self.present.is_some()
            || self.kept.is_some()
        {
            at = now;
        }
        Some(at)
    }
}

fn bitmap_bytes(ack: &Ack<'_>) -> usize {
    ack.bitmap.words() * 8
}
