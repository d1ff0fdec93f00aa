//! Admission: answers HELLO without keeping anything, and proves START (proto.md, "Handshake").

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::config::ReceiverConfig;
use super::receiver::first_credit;
use super::sabotage::Bug;
use super::time::Time;
use crate::wire::{
    Close, CloseCode, Flags, Frame, Greeting, Mode, Opener, PacketNumber, Sealer, Welcome, limits,
    parse_start_unchecked,
};

/// A cookie is good for one to two of these (15 s).
const BUCKET_NANOS: u64 = 15_000_000_000;

/// A transfer that START has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The sender's fields.
    pub greeting: Greeting,
    /// Connection of packets to the receiver.
    pub connection: u32,
    /// Their seed.
    pub seed: u32,
    /// RTT of the handshake, as the sender measured it.
    pub srtt_us: u32,
    /// The number of START's packet.
    pub number: PacketNumber,
    /// Bytes of START's datagram.
    pub datagram_bytes: usize,
}

/// Answers strangers. Holds a key, but nothing about anybody.
#[derive(Debug)]
pub struct Admission {
    key: [u8; 32],
    config: ReceiverConfig,
}

impl Admission {
    /// `seed` must be unpredictable: cookies rest on it.
    pub fn new(config: ReceiverConfig, seed: [u8; 32]) -> Admission {
        let mut key = [0; 32];
        StdRng::from_seed(seed).fill_bytes(&mut key);
        Admission { key, config }
    }

    /// The answer to a HELLO from `peer` (its address and port as bytes): WELCOME, or CLOSE if
    /// `refusal`, which is asked only for a HELLO that is one, says why; or nothing. Never longer
    /// than the HELLO.
    pub fn answer_hello(
        &self,
        now: Time,
        peer: &[u8],
        datagram: &[u8],
        refusal: impl FnOnce() -> Option<CloseCode>,
    ) -> Option<Vec<u8>> {
        let packet = Opener::hello().open(datagram).ok()?;
        let Frame::Hello(hello) = packet.frame else { return None };
        let greeting = hello.greeting;
        let refusal = match refusal() {
            Some(code) => Some(code),
            None if !greeting.speaks_our_version() => Some(CloseCode::Version),
            None if greeting.mode != Mode::Open => Some(CloseCode::Mode),
            None => None,
        };
        let sealer = Sealer { connection: greeting.connection, seed: greeting.seed };
        let mut answer = Vec::with_capacity(limits::WELCOME_BYTES);
        let frame = match refusal {
            Some(code) => Frame::Close(Close { code, text: "" }),
            None => Frame::Welcome(self.welcome(now, peer, &greeting)),
        };
        sealer.seal(PacketNumber(0), Flags::default(), &frame, &mut answer);
        debug_assert!(answer.len() <= datagram.len());
        Some(answer)
    }

    fn welcome(&self, now: Time, peer: &[u8], greeting: &Greeting) -> Welcome {
        let (connection, seed) = self.cookie(peer, greeting, now.as_nanos() / BUCKET_NANOS);
        let saturated = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Welcome {
            version: limits::VERSION,
            mode: Mode::Open,
            digest: greeting.digest,
            nonce: greeting.nonce,
            connection,
            seed,
            socket_bytes: saturated(self.config.socket_payload_bytes()),
            datagram_bytes_max: saturated(self.config.datagram_bytes_max as u64),
            credit: saturated(first_credit(&self.config)),
            key_share: [0; 32],
            proof: [0; 16],
        }
    }

    /// Opens START from `peer`; none if it is no answer to a WELCOME of ours of the last 15 to
    /// 30 s.
    pub fn open_start(&self, now: Time, peer: &[u8], datagram: &[u8]) -> Option<Accepted> {
        let (start, connection) = parse_start_unchecked(datagram).ok()?;
        if !start.greeting.speaks_our_version() || start.greeting.mode != Mode::Open {
            return None;
        }
        let bucket = now.as_nanos() / BUCKET_NANOS;
        [Some(bucket), bucket.checked_sub(1)].into_iter().flatten().find_map(|bucket| {
            let (expected_connection, seed) = self.cookie(peer, &start.greeting, bucket);
            if expected_connection != connection {
                return None;
            }
            let expected = PacketNumber(self.config.peer_first_number);
            let opener = Opener { connection, seed, expected };
            let packet = opener.open(datagram).ok()?;
            Some(Accepted {
                greeting: start.greeting,
                connection,
                seed,
                srtt_us: start.srtt_us,
                number: packet.number,
                datagram_bytes: datagram.len(),
            })
        })
    }

    /// Connection and seed for packets to us: 64 bits that only `peer` learns.
    fn cookie(&self, peer: &[u8], greeting: &Greeting, bucket: u64) -> (u32, u32) {
        let peer = if self.config.sabotage.has(Bug::IgnoreAddress) { &[] } else { peer };
        let mut mac = blake3::Hasher::new_keyed(&self.key);
        mac.update(&(peer.len() as u64).to_be_bytes());
        mac.update(peer);
        mac.update(&greeting.to_bytes());
        mac.update(&bucket.to_be_bytes());
        let hash = mac.finalize();
        let bytes = hash.as_bytes();
        let word = |at: usize| {
            bytes
                .get(at..at + 4)
                .and_then(|four| four.try_into().ok())
                .map_or(0, u32::from_be_bytes)
        };
        (word(0).max(1), word(4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{DigestAlgorithm, Hello, Start};
    use std::time::Duration;

    fn greeting() -> Greeting {
        Greeting {
            version_max: 1,
            version_min: 1,
            mode: Mode::Open,
            digest: DigestAlgorithm::Xxh3,
            dry_run: false,
            discard: false,
            connection: 77,
            seed: 88,
            nonce: [3; 16],
            key_share: [0; 32],
        }
    }

    fn hello(greeting: Greeting) -> Vec<u8> {
        let mut datagram = Vec::new();
        let frame = Frame::Hello(Hello { greeting });
        Sealer::hello().seal(PacketNumber(0), Flags::default(), &frame, &mut datagram);
        datagram
    }

    fn welcome_of(answer: &[u8]) -> Welcome {
        let opener = Opener { connection: 77, seed: 88, expected: PacketNumber(0) };
        match opener.open(answer).unwrap().frame {
            Frame::Welcome(welcome) => welcome,
            other => panic!("{other:?}"),
        }
    }

    fn start(welcome: &Welcome) -> Vec<u8> {
        let mut datagram = Vec::new();
        let frame = Frame::Start(Start { greeting: greeting(), srtt_us: 9 });
        Sealer { connection: welcome.connection, seed: welcome.seed }.seal(
            PacketNumber(0),
            Flags::default(),
            &frame,
            &mut datagram,
        );
        datagram
    }

    //= proto.md#handshake
    //= type=test
    #[test]
    fn start_is_taken_only_from_the_address_that_got_the_welcome_and_in_time() {
        let admission = Admission::new(ReceiverConfig::default(), [1; 32]);
        let now = Time::ZERO + Duration::from_secs(100);
        let answer = admission.answer_hello(now, b"peer", &hello(greeting()), || None).unwrap();
        assert!(answer.len() <= 1_200);
        let start = start(&welcome_of(&answer));
        let accepted = admission.open_start(now, b"peer", &start).unwrap();
        assert_eq!((accepted.greeting, accepted.srtt_us), (greeting(), 9));
        assert_eq!(admission.open_start(now, b"reep", &start), None);
        let later = now + Duration::from_secs(14);
        assert!(admission.open_start(later, b"peer", &start).is_some());
        let too_late = now + Duration::from_secs(31);
        assert_eq!(admission.open_start(too_late, b"peer", &start), None);
        let other = Admission::new(ReceiverConfig::default(), [2; 32]);
        assert_eq!(other.open_start(now, b"peer", &start), None);
    }

    #[test]
    fn versions_to_come_and_the_keyed_mode_are_refused_and_never_opened() {
        let admission = Admission::new(ReceiverConfig::default(), [1; 32]);
        let later = Greeting { version_min: 2, version_max: 3, ..greeting() };
        let keyed = Greeting { mode: Mode::Keyed, ..greeting() };
        for (greeting, code) in [(later, CloseCode::Version), (keyed, CloseCode::Mode)] {
            let hello = hello(greeting);
            let answer = admission.answer_hello(Time::ZERO, b"p", &hello, || None).unwrap();
            let opener = Opener { connection: 77, seed: 88, expected: PacketNumber(0) };
            let frame = opener.open(&answer).unwrap().frame;
            assert_eq!(frame, Frame::Close(Close { code, text: "" }));
            // Not even with the right cookie.
            let (connection, seed) = admission.cookie(b"p", &greeting, 0);
            let mut start = Vec::new();
            let frame = Frame::Start(Start { greeting, srtt_us: 9 });
            let sealer = Sealer { connection, seed };
            sealer.seal(PacketNumber(0), Flags::default(), &frame, &mut start);
            assert_eq!(admission.open_start(Time::ZERO, b"p", &start), None);
        }
    }

    #[test]
    fn a_refusal_is_told_and_garbage_is_not_answered() {
        let admission = Admission::new(ReceiverConfig::default(), [1; 32]);
        let refusal = || Some(CloseCode::Forbidden);
        let answer = admission.answer_hello(Time::ZERO, b"p", &hello(greeting()), refusal).unwrap();
        let opener = Opener { connection: 77, seed: 88, expected: PacketNumber(0) };
        let frame = opener.open(&answer).unwrap().frame;
        assert_eq!(frame, Frame::Close(Close { code: CloseCode::Forbidden, text: "" }));
        let mut short = hello(greeting());
        short.truncate(1_199);
        let unasked = || panic!("whether it may send matters only for a HELLO");
        assert_eq!(admission.answer_hello(Time::ZERO, b"p", &short, unasked), None);
        assert_eq!(admission.answer_hello(Time::ZERO, b"p", &[0; 1_400], unasked), None);
    }
}
