//! Many datagrams per system call, by the best means that kernel and path allow: segmentation
//! offload (UDP_SEGMENT, UDP_GRO), plain batches (`sendmmsg`, `recvmmsg`), or one at a time. All
//! three move the same datagrams in the same order. No call here ever waits.
//!
//! UDP_SEGMENT is a socket option, so it sticks: a later datagram that is longer would be split.
//! Hence nothing but [`Sending`] sends on a socket, and it clears the option where it would hurt.

mod receiving;
mod sending;

use rustix::io::Errno;

pub use self::receiving::Receiving;
pub use self::sending::Sending;

/// By what means datagrams are sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offload {
    /// One datagram per system call.
    Single,
    /// Several datagrams per system call.
    Batch,
    /// The kernel splits and merges them, on their way through the stack they are one.
    #[default]
    Segmentation,
}

/// What became of the datagrams of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The kernel took them all.
    Sent,
    /// The kernel's queue is full. The first `sent` datagrams are dealt with; the rest must be
    /// kept, and sent again unchanged once the socket is ready.
    WouldBlock {
        /// How many datagrams are dealt with.
        sent: usize,
    },
    /// All are dealt with, but some did not leave, as on a lossy path: a firewall refused them,
    /// or there was no route. The sender goes on.
    Lost {
        /// The last reason.
        errno: Errno,
    },
    /// The route takes no packets of this size. Some datagrams of the call did not leave.
    TooBig,
    /// All are dealt with, but earlier ones were refused: nobody listens at the peer's port, or
    /// a firewall says so.
    Refused,
}

/// What one receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveOutcome {
    /// The buffer holds so many more datagrams.
    Received {
        /// How many.
        datagrams: usize,
    },
    /// Nothing is there.
    Empty,
    /// The buffer has no room for another receive.
    Full,
    /// Nothing yet, but an earlier datagram of ours was refused; see [`SendOutcome::Refused`].
    Refused,
    /// The kernel reports an error, for example of the interface; receiving may go on.
    Failed {
        /// Which.
        errno: Errno,
    },
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::super::buffer::{BufferPool, RECEIVE_BYTES};
    use super::super::socket::{Socket, SocketOptions};
    use super::super::sys;
    use super::super::wait::{Interest, wait};
    use super::*;

    const LEVELS: [Offload; 3] = [Offload::Single, Offload::Batch, Offload::Segmentation];

    /// Longer than any of these tests takes on any machine; only a failing one gets there.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A sender connected to a receiver on the loopback address `ip`.
    fn pair(ip: &str, sending: Offload, receiving: Offload) -> (Socket, Socket) {
        let options = |offload| SocketOptions { offload, ..SocketOptions::default() };
        let ip: IpAddr = ip.parse().unwrap();
        let receiver = Socket::listen((ip, 0).into(), &options(receiving)).unwrap();
        let sender = Socket::connect(receiver.local_address(), &options(sending)).unwrap();
        (sender, receiver)
    }

    /// Waits until `socket` has a datagram or an error to report.
    fn await_ready(socket: &Socket) {
        let mut ready = Vec::new();
        wait(&[Interest::Read(socket.as_fd())], Some(PATIENCE), &mut ready).unwrap();
        assert_eq!(ready, [0], "nothing came");
    }

    /// Waits for `count` datagrams, and looks whether there are more.
    fn receive(socket: &mut Socket, count: usize) -> Vec<Vec<u8>> {
        let pool = BufferPool::new(1, 4 * RECEIVE_BYTES);
        let mut buffer = pool.take().unwrap();
        let mut datagrams = Vec::new();
        loop {
            match socket.receive(&mut buffer) {
                ReceiveOutcome::Received { .. } => {}
                ReceiveOutcome::Full => {
                    datagrams.extend(buffer.datagrams().map(|datagram| datagram.bytes.to_vec()));
                    buffer.clear();
                }
                ReceiveOutcome::Empty => {
                    datagrams.extend(buffer.datagrams().map(|datagram| datagram.bytes.to_vec()));
                    buffer.clear();
                    if datagrams.len() >= count {
                        return datagrams;
                    }
                    let mut ready = Vec::new();
                    wait(&[Interest::Read(socket.as_fd())], Some(PATIENCE), &mut ready).unwrap();
                    assert!(!ready.is_empty(), "{} of {count} datagrams came", datagrams.len());
                }
                outcome => panic!("{outcome:?}"),
            }
        }
    }

    /// Different bytes at every position, so that swapped or shifted datagrams are noticed.
    fn pattern(length: usize) -> Vec<u8> {
        (0..length as u32).flat_map(|word| word.to_be_bytes()).take(length).collect()
    }

    #[test]
    fn every_offload_level_delivers_the_same_datagrams_in_the_same_order() {
        let bytes = pattern(50 * 1_400 + 7);
        let expected: Vec<&[u8]> = bytes.chunks(1_400).collect();
        for ip in ["127.0.0.1", "::1"] {
            for sending in LEVELS {
                for receiving in LEVELS {
                    let (mut sender, mut receiver) = pair(ip, sending, receiving);
                    for _ in 0..2 {
                        assert_eq!(sender.send_segments(&bytes, 1_400), SendOutcome::Sent);
                        assert_eq!(
                            receive(&mut receiver, 51),
                            expected,
                            "{sending:?} {receiving:?}"
                        );
                    }
                    assert_eq!((sender.send_offload(), receiver.cut()), (sending, 0));
                }
            }
        }
    }

    #[test]
    fn what_was_sent_as_one_is_received_as_one() {
        let (mut sender, mut receiver) = pair("::1", Offload::Segmentation, Offload::Segmentation);
        sender.send_segments(&pattern(44 * 1_472), 1_472);
        let mut buffer = BufferPool::new(1, 0).take().unwrap();
        await_ready(&receiver);

        let outcome = receiver.receive(&mut buffer);

        assert_eq!(outcome, ReceiveOutcome::Received { datagrams: 44 });
        assert_eq!(buffer.arrivals().len(), 1);
        assert_eq!(buffer.arrivals()[0].segment_bytes, 1_472);
        assert_eq!(buffer.arrivals()[0].from, sender.local_address());
        assert_eq!(buffer.arrivals()[0].to, Some(receiver.local_address()));
        assert_eq!(receiver.receive(&mut buffer), ReceiveOutcome::Full);
    }

    #[test]
    fn a_long_datagram_after_short_segments_leaves_whole() {
        let (mut sender, mut receiver) = pair("127.0.0.1", Offload::Segmentation, Offload::Single);
        let long = pattern(1_300);
        let short = pattern(90);
        let mut expected = Vec::new();
        for segment_bytes in [100, 400, 90, 1_300] {
            let segments = pattern(10 * segment_bytes);
            assert_eq!(sender.send_segments(&segments, segment_bytes), SendOutcome::Sent);
            assert_eq!(sender.send(&long), SendOutcome::Sent);
            assert_eq!(sender.send(&short), SendOutcome::Sent);
            expected.extend(segments.chunks(segment_bytes).map(<[u8]>::to_vec));
            expected.extend([long.clone(), short.clone()]);
        }
        assert_eq!(receive(&mut receiver, expected.len()), expected);
    }

    #[test]
    fn small_segments_are_split_over_as_many_calls_as_the_kernel_demands() {
        let (mut sender, mut receiver) =
            pair("127.0.0.1", Offload::Segmentation, Offload::Segmentation);
        let bytes = pattern(150 * 10 + 3);
        assert_eq!(sender.send_segments(&bytes, 10), SendOutcome::Sent);
        assert_eq!(receive(&mut receiver, 151), bytes.chunks(10).collect::<Vec<_>>());
        assert_eq!(sender.send_offload(), Offload::Segmentation);
    }

    #[test]
    fn segmentation_that_the_kernel_refuses_is_switched_off_and_nothing_is_lost() {
        let (mut sender, mut receiver) = pair("127.0.0.1", Offload::Segmentation, Offload::Batch);
        // The kernel answers EINVAL to segments without checksums (net/ipv4/udp.c).
        sys::set_option(sender.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
        let bytes = pattern(20 * 1_400);
        assert_eq!(sender.send_segments(&bytes, 1_400), SendOutcome::Sent);
        assert_eq!(receive(&mut receiver, 20), bytes.chunks(1_400).collect::<Vec<_>>());
        assert_eq!(sender.send_offload(), Offload::Batch);
    }

    #[test]
    fn a_full_queue_says_how_many_datagrams_are_dealt_with() {
        let bytes = pattern(2_000 * 100);
        for offload in [Offload::Batch, Offload::Single] {
            // Loopback drops what the receiver cannot queue; a local socket makes us wait.
            let (near, far) = UnixDatagram::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            let mut sending = Sending::new(offload);
            let mut received = Vec::new();
            let mut done = 0;
            let mut waits = 0;
            while done < 2_000 {
                match sending.send_segments(near.as_fd(), &bytes[done * 100..], 100) {
                    SendOutcome::Sent => done = 2_000,
                    SendOutcome::WouldBlock { sent } => {
                        done += sent;
                        waits += 1;
                    }
                    outcome => panic!("{outcome:?}"),
                }
                let mut room = [0; 200];
                while let Ok(length) = far.recv(&mut room) {
                    received.push(room[..length].to_vec());
                }
            }
            assert!(waits > 0);
            assert_eq!(received, bytes.chunks(100).collect::<Vec<_>>(), "{offload:?}");
        }
    }

    #[test]
    fn an_absent_peer_is_reported_by_both_directions_and_ends_nothing() {
        for ip in ["127.0.0.1", "::1"] {
            for offload in LEVELS {
                // Connected elsewhere: it takes nothing of ours, and nobody else gets its port.
                let absent = UdpSocket::bind((ip, 0)).unwrap();
                absent.connect((ip, 9)).unwrap();
                let options = SocketOptions { offload, ..SocketOptions::default() };
                let mut socket = Socket::connect(absent.local_addr().unwrap(), &options).unwrap();
                let mut buffer = BufferPool::new(1, 0).take().unwrap();

                assert_eq!(socket.send(b"anybody?"), SendOutcome::Sent);
                await_ready(&socket);
                assert_eq!(socket.receive(&mut buffer), ReceiveOutcome::Refused);
                assert_eq!(socket.receive(&mut buffer), ReceiveOutcome::Empty);

                assert_eq!(socket.send(b"anybody?"), SendOutcome::Sent);
                await_ready(&socket);
                let outcome = socket.send_segments(&pattern(1_000), 100);
                assert_eq!(outcome, SendOutcome::Refused);
                assert_eq!(socket.send_offload(), offload);
            }
        }
    }

    #[test]
    fn a_datagram_that_no_packet_can_hold_is_too_big() {
        for (ip, bytes_max) in [("127.0.0.1", 65_507), ("::1", 65_487)] {
            for offload in LEVELS {
                let (mut sender, mut receiver) = pair(ip, offload, Offload::Segmentation);
                let bytes = pattern(2 * 65_536);
                assert_eq!(sender.send(&bytes[..65_536]), SendOutcome::TooBig, "{ip}");
                assert_eq!(sender.send_segments(&bytes, 65_528), SendOutcome::TooBig, "{ip}");
                assert_eq!(sender.send(&bytes[..bytes_max]), SendOutcome::Sent, "{ip}");
                assert_eq!(receive(&mut receiver, 1), [&bytes[..bytes_max]]);
                assert_eq!(sender.send_offload(), offload);
            }
        }
    }

    #[test]
    fn a_datagram_too_long_for_its_slot_is_lost_and_the_next_one_is_not() {
        let (mut sender, mut receiver) = pair("127.0.0.1", Offload::Single, Offload::Batch);
        let long = pattern(9_000);
        let mut buffer = BufferPool::new(1, 0).take().unwrap();
        sender.send(&long);
        assert_eq!(receiver.receive(&mut buffer), ReceiveOutcome::Received { datagrams: 0 });
        assert_eq!(receiver.cut(), 1);

        sender.send(b"short");
        sender.send(&long);
        assert_eq!(receive(&mut receiver, 2), [&b"short"[..], &long]);
        assert_eq!(receiver.cut(), 1);
    }

    #[test]
    fn a_receiver_takes_batches_while_nothing_is_merged_and_looks_again_later() {
        let (mut sender, mut receiver) = pair("127.0.0.1", Offload::Batch, Offload::Segmentation);
        let bytes = pattern(16 * 100);
        let expected: Vec<&[u8]> = bytes.chunks(100).collect();
        let mut bursts = 0;
        while receiver.receive_offload() == Offload::Segmentation {
            sender.send_segments(&bytes, 100);
            assert_eq!(receive(&mut receiver, 16), expected);
            bursts += 1;
            assert!(bursts < 100, "still waiting for merged datagrams");
        }
        assert_eq!(receiver.receive_offload(), Offload::Batch);

        // What is sent as one while nothing may be merged arrives as single datagrams.
        let mut bytes = pattern(16 * 1_400);
        let mut sender =
            Socket::connect(receiver.local_address(), &SocketOptions::default()).unwrap();
        let mut bursts = 0;
        while receiver.receive_offload() == Offload::Batch {
            bytes[0] ^= 1;
            sender.send_segments(&bytes, 1_400);
            assert_eq!(receive(&mut receiver, 16), bytes.chunks(1_400).collect::<Vec<_>>());
            bursts += 1;
            assert!(bursts <= receiving::BATCHES_PER_TRIAL, "merging is not tried again");
        }
        let mut buffer = BufferPool::new(1, 0).take().unwrap();
        sender.send_segments(&bytes, 1_400);
        await_ready(&receiver);
        receiver.receive(&mut buffer);
        assert_eq!(buffer.arrivals().len(), 1);
        assert_eq!(receiver.cut(), 0);
    }

    #[test]
    fn single_datagrams_that_come_one_by_one_say_nothing_against_merging() {
        let (mut sender, mut receiver) = pair("127.0.0.1", Offload::Single, Offload::Segmentation);
        for _ in 0..2 * receiving::TRIAL_RECEIVES {
            sender.send(b"one");
            assert_eq!(receive(&mut receiver, 1), [b"one"]);
        }
        assert_eq!(receiver.receive_offload(), Offload::Segmentation);
    }

    #[test]
    fn what_a_stranger_sent_before_the_socket_was_connected_is_not_taken_for_the_peers() {
        for offload in LEVELS {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            let [stranger, peer] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
            let local = socket.local_addr().unwrap();
            let [strangers, peers] = [&stranger, &peer].map(|one| one.local_addr().unwrap());
            stranger.send_to(b"before", local).unwrap();
            socket.connect(peers).unwrap();
            let mut receiving = Receiving::new(socket.as_fd(), offload, local.port(), Some(peers));
            let mut buffer = BufferPool::new(1, 4 * RECEIVE_BYTES).take().unwrap();
            for (datagram, from) in [(b"before", strangers), (b"behind", peers)] {
                receiving.receive(socket.as_fd(), &mut buffer);
                assert_eq!(buffer.datagrams().next().unwrap().bytes, datagram);
                assert_eq!(buffer.arrivals()[0].from, from, "{offload:?}");
                buffer.clear();
                assert_eq!(receiving.receive(socket.as_fd(), &mut buffer), ReceiveOutcome::Empty);
                peer.send_to(b"behind", local).unwrap();
            }
        }
    }

    #[test]
    fn a_connected_socket_takes_datagrams_of_all_sizes_as_its_peers() {
        for offload in LEVELS {
            let options = SocketOptions { offload, ..SocketOptions::default() };
            let listener = Socket::listen("127.0.0.1:0".parse().unwrap(), &options).unwrap();
            let mut peer = Socket::connect(listener.local_address(), &options).unwrap();
            let to_peer =
                || Socket::accept_from(listener.local_address(), peer.local_address(), &options);
            let mut socket = to_peer().unwrap();
            let mut buffer = BufferPool::new(1, 4 * RECEIVE_BYTES).take().unwrap();
            for datagrams in [[1, 1_400], [1_400, 9_000], [9_000, 9_000], [65_507, 7]] {
                assert_eq!(socket.receive(&mut buffer), ReceiveOutcome::Empty);
                buffer.clear();
                for bytes in datagrams {
                    peer.send(&pattern(bytes));
                    await_ready(&socket);
                    let cut = socket.cut();
                    socket.receive(&mut buffer);
                    if socket.cut() > cut {
                        // The first of its size was longer than any before.
                        peer.send(&pattern(bytes));
                        await_ready(&socket);
                        socket.receive(&mut buffer);
                    }
                }
                let came: Vec<_> = buffer.datagrams().map(|one| one.bytes.to_vec()).collect();
                assert_eq!(came, datagrams.map(pattern), "{offload:?}");
                assert!(buffer.arrivals().iter().all(|one| one.from == peer.local_address()));
            }
        }
    }
}
