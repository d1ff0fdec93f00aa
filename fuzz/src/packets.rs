//! Any datagram, opened with a right check: no panic, and what opens seals and opens again to the
//! same packet.

use ufx::wire::{Frame, Opener, PacketNumber, Sealer, parse_start_unchecked, peek};

use crate::forge;
use crate::input::Input;

/// Runs one input.
pub fn run(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let expected = PacketNumber(input.u64());
    let mut datagram = input.rest().to_vec();
    let (connection, seed) = if kind & 1 == 1 { (0, 0) } else { (0x0102_0304, 0x0a0b_0c0d) };
    // Some inputs keep the check they have, which is wrong but for few.
    if kind & 2 == 0 && datagram.len() >= forge::HEADER_BYTES {
        let mut low = [0; 4];
        low.copy_from_slice(&datagram[6..10]);
        let number = PacketNumber::expand(u32::from_be_bytes(low), expected);
        forge::sign(&mut datagram, connection, seed, number.0);
    }
    let peeked = peek(&datagram);
    let start = parse_start_unchecked(&datagram);
    let opener = Opener { connection, seed, expected };
    let packet = match opener.open(&datagram) {
        Ok(packet) => packet,
        // The words of the refusal tell apart which rule was reached.
        Err(error) => return signature(&error.to_string()),
    };
    let frame_type = packet.frame.frame_type();
    assert_eq!(peeked, Some((frame_type, connection)));
    if let Frame::Start(opened) = packet.frame {
        assert_eq!(start, Ok((opened, connection)));
    }
    if let Frame::Ack(ack) = packet.frame {
        assert_eq!(ack.bitmap.bits(ack.bitmap.words() * 64, 64), 0, "bits behind the end");
    }
    let mut again = Vec::new();
    let sealer = Sealer { connection, seed };
    sealer.seal(packet.number, packet.flags, &packet.frame, &mut again);
    let reopened = opener.open(&again).expect("what was opened can be sealed");
    assert_eq!((reopened.number, reopened.flags), (packet.number, packet.flags));
    match (reopened.frame, packet.frame) {
        // Its size is that of the datagram, whatever is padding.
        (Frame::Probe(one), Frame::Probe(other)) => {
            assert_eq!((one.srtt_us, one.window_packets), (other.srtt_us, other.window_packets));
            assert_eq!(one.answers, other.answers);
        }
        (one, other) => assert_eq!(one, other),
    }
    signature(&format!("{frame_type:?} {}", packet.flags.ack_now))
}

fn signature(text: &str) -> u64 {
    u64::from(crc32fast::hash(text.as_bytes()))
}
