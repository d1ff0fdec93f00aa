//! How a transfer goes on and ends at the receiver: silence, CLOSE, the end that is answered and
//! repeated (proto.md, "End").

use std::time::Duration;

use super::Receiver;
use super::answers::push_answer;
use crate::proto::error::Error;
use crate::proto::event::ReceiverEvent;
use crate::proto::time::Time;
use crate::wire::{AnswerRecord, CloseCode};

/// Where the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The transfer runs.
    Open,
    /// The end is answered; it is repeated until the sender has it, or until then.
    Lingering { until: Time },
    /// CLOSE is to be sent `left` times; then it is over.
    Closing { left: u32, code: CloseCode },
    /// Over.
    Closed,
}

impl Receiver {
    /// Something happens at `now`: whether this process had stalled shows here.
    pub(super) fn on_call(&mut self, now: Time) {
        if now.saturating_since(self.last_call) > Duration::from_secs(2) {
            self.judge_from = now + Duration::from_secs(1);
        }
        let span = now.saturating_since(self.last_call);
        self.credit.on_time(span, self.sack.largest().unwrap_or_default());
        self.last_call = now;
    }

    /// Time has passed; call it when [`Receiver::poll_timeout`] is reached.
    pub fn handle_timeout(&mut self, now: Time) {
        self.on_call(now);
        match self.state {
            State::Open if now >= self.silence_deadline() => {
                let silence = now.saturating_since(self.last_heard);
                self.end(Error::Silence { silence, refused: self.refused });
            }
            State::Lingering { until } if now >= until => self.finished(),
            _ => {}
        }
    }

    /// When the sender is given up if nothing is heard.
    pub(super) fn silence_deadline(&self) -> Time {
        let patience = match self.refused {
            true => self.config.timeout / 2,
            false => self.config.timeout,
        };
        (self.last_heard + patience).max(self.judge_from)
    }

    /// The sender says that it is over.
    pub(super) fn on_close(&mut self, code: CloseCode, text: String) {
        match self.state {
            State::Lingering { .. } => self.finished(),
            State::Open => self.end(Error::ClosedByPeer { code, text }),
            State::Closing { .. } | State::Closed => {}
        }
    }

    /// All came to its end.
    pub(super) fn finished(&mut self) {
        self.state = State::Closed;
        self.events.push_back(ReceiverEvent::Finished);
    }

    fn end(&mut self, error: Error) {
        if matches!(self.state, State::Open) {
            self.state = State::Closed;
            self.events.push_back(ReceiverEvent::Closed(error));
        }
    }

    /// Ends early, and tells the sender.
    pub(super) fn fail(&mut self, error: Error, code: CloseCode) {
        if matches!(self.state, State::Open) {
            self.end(error);
            self.state = State::Closing { left: 2, code };
        }
    }

    /// The sender's host reported its port closed (ICMP).
    pub fn handle_refused(&mut self, now: Time) {
        self.on_call(now);
        self.refused = true;
        if matches!(self.state, State::Lingering { .. }) {
            self.finished();
        }
    }

    /// Ends the transfer; the sender is told why.
    pub fn cancel(&mut self, code: CloseCode) {
        self.fail(Error::Cancelled { code }, code);
    }

    /// Directories are finished, in answer to [`ReceiverEvent::Settled`].
    pub fn finish(&mut self, now: Time) {
        if self.state != State::Open || !self.settled_told {
            return;
        }
        self.flush_answers();
        push_answer(
            &mut self.answers,
            &AnswerRecord::End {
                committed: self.stats.committed,
                present: self.stats.present,
                failed: self.stats.failed,
            },
        );
        self.state = State::Lingering { until: now + self.config.linger };
    }

    /// Whether nothing will be sent or expected any more.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether the end is answered, and only the sender may not have heard of it.
    pub fn has_answered_end(&self) -> bool {
        matches!(self.state, State::Lingering { .. })
    }

    /// Whether the sender's host reports its port closed, and nothing was heard since.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// When something of the sender was heard last.
    pub fn last_heard(&self) -> Time {
        self.last_heard
    }
}
