//! HELLO and START from strangers: never more bytes back than came, and nothing opens that is not
//! an answer to a WELCOME of ours, given to the same address, in time.

use std::time::Duration;

use ufx::proto::{Admission, ReceiverConfig, Time};
use ufx::wire::{CloseCode, Flags, Frame, Opener, PacketNumber, Sealer, Start};

use crate::forge;
use crate::input::Input;

/// Runs one input.
pub fn run(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let admission = Admission::new(ReceiverConfig::default(), [7; 32]);
    let now = Time::ZERO + Duration::from_millis(u64::from(input.u32() >> 8));
    let refusal = input.one_of(&[None, None, None, Some(CloseCode::Busy)]);
    let start_number = u64::from(input.u32() >> 1);
    let delay = Duration::from_millis(input.below(40_000));
    let other_peer = input.byte() == 1;
    let changes = input.bytes(6);

    // A HELLO of any bytes, lengthened as the protocol wants most of the time.
    let mut hello = vec![1, 0];
    hello.resize(forge::HEADER_BYTES, 0);
    hello.extend_from_slice(input.rest());
    if changes.first() != Some(&0xff) {
        hello.resize(hello.len().max(1_200), 0);
    }
    forge::sign(&mut hello, 0, 0, 0);
    assert_eq!(admission.open_start(now, b"peer", &hello), None, "a HELLO opens nothing");

    let Some(answer) = admission.answer_hello(now, b"peer", &hello, || refusal) else { return 0 };
    assert!(answer.len() <= hello.len(), "more goes to a stranger than came");
    let packet = Opener::hello().open(&hello).expect("only a HELLO is answered");
    let Frame::Hello(sent) = packet.frame else { panic!("only a HELLO is answered") };
    let greeting = sent.greeting;
    let opener =
        Opener { connection: greeting.connection, seed: greeting.seed, expected: PacketNumber(0) };
    let welcome = match opener.open(&answer).expect("an answer can be opened").frame {
        Frame::Welcome(welcome) => welcome,
        Frame::Close(close) => return 1 + close.code as u64,
        frame => panic!("HELLO was answered with {frame:?}"),
    };
    assert_eq!(welcome.nonce, greeting.nonce);
    assert!(refusal.is_none());

    let mut start = Vec::new();
    let sealer = Sealer { connection: welcome.connection, seed: welcome.seed };
    let frame = Frame::Start(Start { greeting, srtt_us: 5 });
    sealer.seal(PacketNumber(start_number), Flags::default(), &frame, &mut start);
    let genuine = start.clone();
    for change in changes.chunks_exact(2) {
        let at = usize::from(change[0]) % start.len();
        start[at] ^= change[1];
    }
    // A forger who knows the check's algorithm, but neither seed nor key.
    if changes.len() == 5 {
        forge::sign(&mut start, welcome.connection, 0, start_number);
    }
    let peer: &[u8] = if other_peer { b"reep" } else { b"peer" };
    let accepted = admission.open_start(now + delay, peer, &start);
    let Some(accepted) = accepted else {
        let must_open = start == genuine && !other_peer && delay < Duration::from_secs(15);
        assert!(!must_open, "a genuine START was turned away");
        return 32;
    };
    assert!(start == genuine, "a changed START was taken");
    assert!(!other_peer, "START was taken from another address");
    assert!(delay <= Duration::from_secs(30), "START was taken too late");
    assert_eq!((accepted.greeting, accepted.number.0), (greeting, start_number));
    33
}
