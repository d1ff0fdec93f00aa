//! Asks a receiver that fell silent whether it was restarted (proto.md, "Handshake"): one that was
//! answers HELLO, one that still has the transfer does not.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use super::{Sender, State, Transmit};
use crate::proto::config::SenderConfig;
use crate::proto::error::Error;
use crate::proto::time::Time;
use crate::wire::{
    CloseCode, Flags, Frame, Greeting, Hello, Mode, Opener, PacketNumber, Sealer, Welcome, limits,
};

/// After this silence of a transfer HELLO asks whether the receiver was restarted (proto.md,
/// "Handshake") ...
const SILENCE_ASKED: Duration = Duration::from_secs(3);

/// ... so often.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// HELLO to a receiver that may have been restarted.
#[derive(Debug)]
pub struct Asked {
    greeting: Greeting,
    at: Time,
}

impl Sender {
    /// When a receiver that was heard before, and then no more, is asked whether it was restarted.
    pub(super) fn ask_deadline(&self) -> Option<Time> {
        let first = self.last_heard + SILENCE_ASKED;
        let next = self.asked.as_ref().map_or(first, |asked| asked.at + ASK_INTERVAL);
        self.confirmed.then_some(next)
    }

    /// HELLO anew. It is no packet of the transfer, and puts no probe off.
    pub(super) fn transmit_asking(&mut self, now: Time) -> Transmit {
        let greeting = match &self.asked {
            Some(asked) => asked.greeting,
            None => new_greeting(&mut self.random, &self.config),
        };
        self.asked = Some(Asked { greeting, at: now });
        let mut datagram = Vec::with_capacity(limits::DATAGRAM_BYTES_MIN);
        Sealer { connection: 0, seed: 0 }.seal(
            PacketNumber(0),
            Flags::default(),
            &Frame::Hello(Hello { greeting }),
            &mut datagram,
        );
        self.stats.packets_sent += 1;
        self.stats.datagram_bytes_sent += datagram.len() as u64;
        Transmit::Datagram(datagram)
    }

    /// A datagram that is none of the transfer's: it may answer a later HELLO.
    pub(super) fn on_answer_to_asking(&mut self, datagram: &[u8]) {
        let asked = self.asked.as_ref().filter(|_| self.state == State::Open);
        let answer = asked.and_then(|Asked { greeting, .. }| {
            let Greeting { connection, seed, .. } = *greeting;
            let opener = Opener { connection, seed, expected: PacketNumber(0) };
            Some((greeting, opener.open(datagram).ok()?.frame))
        });
        match answer {
            Some((greeting, Frame::Welcome(welcome))) if answers(&welcome, greeting) => {
                self.end(Error::Forgotten);
            }
            Some((_, Frame::Close(close))) if close.code != CloseCode::Busy => {
                self.end(Error::ClosedByPeer { code: close.code, text: close.text.to_owned() });
            }
            _ => self.stats.invalid += 1,
        }
    }
}

/// What a sender presents itself with: different each time.
pub fn new_greeting(random: &mut StdRng, config: &SenderConfig) -> Greeting {
    let mut nonce = [0; 16];
    random.fill_bytes(&mut nonce);
    Greeting {
        version_max: 1,
        version_min: 1,
        mode: Mode::Open,
        digest: config.digest,
        dry_run: config.dry_run,
        discard: config.discard,
        connection: random.random_range(1..=u32::MAX),
        seed: random.random(),
        nonce,
        key_share: [0; 32],
    }
}

/// Whether WELCOME answers this HELLO.
pub fn answers(welcome: &Welcome, greeting: &Greeting) -> bool {
    welcome.version == 1
        && welcome.nonce == greeting.nonce
        && welcome.mode == greeting.mode
        && welcome.digest == greeting.digest
}

/// A WELCOME that answers this HELLO, and grants the least.
#[cfg(test)]
pub fn welcome_to(greeting: &Greeting) -> Welcome {
    Welcome {
        version: 1,
        mode: greeting.mode,
        digest: greeting.digest,
        nonce: greeting.nonce,
        connection: 5,
        seed: 6,
        socket_bytes: 1,
        datagram_bytes_max: 1_472,
        credit: 2,
        key_share: [0; 32],
        proof: [0; 16],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::event::SenderEvent;
    use crate::wire::{Close, DigestAlgorithm, Packet};

    /// A sender whose receiver was heard at time 0 and then no more.
    fn unheard() -> Sender {
        let mut sender = Sender::new(Time::ZERO, SenderConfig::default(), [7; 32]);
        sender.sealer.connection = 1;
        sender.state = State::Open;
        sender.start_due = 0;
        sender.confirmed = true;
        sender
    }

    /// The HELLO that it sends at `milliseconds`, if any.
    fn asked(sender: &mut Sender, milliseconds: u64) -> Option<Greeting> {
        let now = Time::ZERO + Duration::from_millis(milliseconds);
        sender.handle_timeout(now);
        while let Some(Transmit::Datagram(datagram)) = sender.poll_transmit(now) {
            if let Ok(Packet { frame: Frame::Hello(hello), .. }) = Opener::hello().open(&datagram) {
                return Some(hello.greeting);
            }
        }
        None
    }

    fn answer(sender: &mut Sender, greeting: &Greeting, frame: &Frame<'_>) {
        let mut datagram = Vec::new();
        let sealer = Sealer { connection: greeting.connection, seed: greeting.seed };
        sealer.seal(PacketNumber(0), Flags::default(), frame, &mut datagram);
        sender.handle_datagram(sender.last_call, &datagram);
    }

    //= proto.md#handshake
    //= type=test
    //# A sender that has heard the transfer, and then nothing for 3 s, also sends HELLO once a
    //# second, with another connection, seed and nonce, until it hears the transfer again.
    #[test]
    fn a_silent_receiver_is_asked_whether_it_was_restarted() {
        let mut sender = unheard();
        let first = sender.greeting;
        assert_eq!(asked(&mut sender, 2_999), None);
        let greeting = asked(&mut sender, 3_000).unwrap();
        assert!(greeting.nonce != first.nonce && greeting.seed != first.seed);
        assert_eq!(asked(&mut sender, 3_999), None);
        assert_eq!(asked(&mut sender, 4_000), Some(greeting), "the answer may come late");

        answer(&mut sender, &first, &Frame::Welcome(welcome_to(&first)));
        assert_eq!(sender.poll_event(), None, "a copy of the first WELCOME tells nothing");
        let busy = Frame::Close(Close { code: CloseCode::Busy, text: "" });
        answer(&mut sender, &greeting, &busy);
        assert_eq!(sender.poll_event(), None, "it may be busy with this transfer");
        answer(&mut sender, &greeting, &Frame::Welcome(welcome_to(&greeting)));
        assert_eq!(sender.poll_event(), Some(SenderEvent::Closed(Error::Forgotten)));
        assert!(sender.is_closed());
    }

    #[test]
    fn a_receiver_that_was_never_heard_is_not_asked() {
        let mut sender = unheard();
        sender.confirmed = false;
        for milliseconds in (1_000..20_000).step_by(1_000) {
            assert_eq!(asked(&mut sender, milliseconds), None);
        }
    }

    #[test]
    fn only_a_welcome_to_that_very_hello_is_an_answer() {
        let mut sender = unheard();
        let greeting = asked(&mut sender, 3_000).unwrap();
        let right = welcome_to(&greeting);
        let mut nonce = right.nonce;
        nonce[15] ^= 1;
        let digest = DigestAlgorithm::Blake3;
        assert_ne!(digest, right.digest);
        for wrong in [
            Welcome { version: 2, ..right },
            Welcome { nonce, ..right },
            Welcome { mode: Mode::Keyed, ..right },
            Welcome { digest, ..right },
        ] {
            assert!(!answers(&wrong, &greeting), "{wrong:?}");
        }
        assert!(answers(&right, &greeting));
    }
}
