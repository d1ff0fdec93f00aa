//! IPv4 packets as far as the emulator looks into them: what they carry, and where that starts.

/// Offset of the protocol number in an IPv4 header (RFC 791).
const PROTOCOL_OFFSET: usize = 9;

/// The least IPv4 header.
const IPV4_HEADER_BYTES_MIN: usize = 20;

/// The UDP header (RFC 768).
const UDP_HEADER_BYTES: usize = 8;

/// Offset of the byte whose upper half is the length of a TCP header in words (RFC 9293).
const TCP_DATA_OFFSET: usize = 12;

/// What an IPv4 packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Anything else, or a header cut short; all of it counts as payload.
    Other,
}

/// Splits the payload off an IPv4 packet; none if it is none.
pub fn transport(packet: &[u8]) -> Option<(Transport, &[u8])> {
    let first = *packet.first()?;
    if first >> 4 != 4 {
        return None;
    }
    let header_bytes = usize::from(first & 0xf) * 4;
    if header_bytes < IPV4_HEADER_BYTES_MIN {
        return None;
    }
    let segment = packet.get(header_bytes..)?;
    let (transport, payload) = match packet.get(PROTOCOL_OFFSET) {
        Some(&6) => {
            let words = segment.get(TCP_DATA_OFFSET).map_or(0, |byte| byte >> 4);
            (Transport::Tcp, segment.get(usize::from(words) * 4..))
        }
        Some(&17) => (Transport::Udp, segment.get(UDP_HEADER_BYTES..)),
        _ => (Transport::Other, Some(segment)),
    };
    Some(payload.map_or((Transport::Other, segment), |payload| (transport, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; usize::from(first & 0xf) * 4];
        if let Some(byte) = packet.first_mut() {
            *byte = first;
        }
        if let Some(byte) = packet.get_mut(PROTOCOL_OFFSET) {
            *byte = protocol;
        }
        packet.extend(rest);
        packet
    }

    #[test]
    fn payload_starts_behind_both_headers_whatever_their_options() {
        let udp = packet(0x46, 17, b"8 bytes.payload");
        assert_eq!(transport(&udp), Some((Transport::Udp, &b"payload"[..])));
        let mut segment = [0; 24];
        segment[TCP_DATA_OFFSET] = 6 << 4;
        let tcp = packet(0x45, 6, &[&segment[..], b"payload"].concat());
        assert_eq!(transport(&tcp), Some((Transport::Tcp, &b"payload"[..])));
        let icmp = packet(0x45, 1, b"echo");
        assert_eq!(transport(&icmp), Some((Transport::Other, &b"echo"[..])));
    }

    #[test]
    fn what_is_no_ipv4_packet_is_none() {
        for bytes in [&[][..], &[0x60; 40], &[0x44; 40], &[0x45; 19]] {
            assert_eq!(transport(bytes), None, "{bytes:?}");
        }
        let cut = packet(0x45, 17, b"short");
        assert_eq!(transport(&cut), Some((Transport::Other, &b"short"[..])));
    }
}
