//! What happened in a simulation: a hash over everything, and the last events in words.
//!
//! The hash tells whether two runs are the same; the events are printed when a check fails.

use std::collections::VecDeque;
use std::fmt::Write;

use super::impairment::mix;
use crate::proto::Time;

/// Events that are kept for a failure's report.
const EVENTS_KEPT: usize = 100;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A datagram left a sender: number, bytes.
    SenderSent,
    /// A run of body packets left a sender: first number, packets, offset.
    SenderSentBody,
    /// A datagram reached a sender: bytes.
    SenderGot,
    /// A datagram left a receiver: number, bytes.
    ReceiverSent,
    /// A datagram reached a receiver's socket: bytes.
    ReceiverGot,
    /// A receiver's socket was full: bytes.
    SocketDrop,
    /// A machine told its shell something: which of its events.
    Told,
    /// A packet was lost in the network: direction, bytes.
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    at: Time,
    transfer: usize,
    happening: Happening,
    details: [u64; 3],
}

/// The record of one simulation.
#[derive(Debug, Default)]
pub struct Trace {
    events: VecDeque<Event>,
    notes: VecDeque<(Time, usize, String)>,
    hash: u64,
}

impl Trace {
    /// Notes an event.
    pub fn add(&mut self, at: Time, transfer: usize, happening: Happening, details: [u64; 3]) {
        let words = [at.as_nanos(), transfer as u64, happening as u64];
        for word in words.into_iter().chain(details) {
            self.hash = mix(self.hash ^ word);
        }
        // Arrivals are many and say little; losses are what is missing of them.
        if matches!(happening, Happening::ReceiverGot | Happening::Lost) {
            return;
        }
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(Event { at, transfer, happening, details });
    }

    /// Notes something rare, in words.
    pub fn note(&mut self, at: Time, transfer: usize, words: String) {
        self.add(at, transfer, Happening::Told, [words.len() as u64, 0, 0]);
        if self.notes.len() == EVENTS_KEPT {
            self.notes.pop_front();
        }
        self.notes.push_back((at, transfer, words));
    }

    /// The hash over all events so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last events, one a line.
    pub fn report(&self) -> String {
        let mut report = String::new();
        let stamp = |at: Time| at.as_nanos() as f64 / 1e6;
        for event in &self.events {
            let Event { at, transfer, happening, details } = event;
            let at = stamp(*at);
            let _ = writeln!(report, "{at:12.4} ms  #{transfer} {happening:?} {details:?}");
        }
        for (at, transfer, words) in &self.notes {
            let at = stamp(*at);
            let _ = writeln!(report, "{at:12.4} ms  #{transfer} {words}");
        }
        report
    }
}
