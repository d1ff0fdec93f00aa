//! Many datagrams per system call, by the best means that kernel and path allow: segmentation
//! offload (UDP_SEGMENT, UDP_GRO), plain batches (`sendmmsg`, `recvmmsg`), or one at a time. All
//! three move the same datagrams in the same order. No call here ever waits.
//!
//! UDP_SEGMENT is a socket option, so it sticks: a later datagram that is longer would be split.
//! Hence nothing but [`Sending`] sends on a socket, and it clears the option where it would hurt.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::SockAddr;

use super::buffer::{Arrival, Buffer, RECEIVE_BYTES};
use super::sys;

/// The most that one call may send: beyond it the datagrams arrive unmerged (measured).
const SEND_BYTES_MAX: usize = 65_493;

/// The most segments of one call. Kernels before 6.9 refuse more than 64, later ones more than
/// 128; only segments below 1,024 bytes would gain from more.
const SEGMENTS_MAX: usize = 64;

/// What IP and UDP headers take from a packet at least, in bytes: IPv4 without options.
const HEADERS_BYTES_MIN: usize = 28;

/// Receives in which merging is judged.
const TRIAL_RECEIVES: u32 = 256;

/// Batches after which merging is tried again: some hundred thousand datagrams.
const BATCHES_PER_TRIAL: u32 = 4_096;

/// Room for one datagram in a batch, at first: above the usual MTU of 1,500.
const SLOT_BYTES_MIN: usize = 2_048;

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

/// The sending half of a socket's state.
#[derive(Debug)]
pub struct Sending {
    offload: Offload,
    /// What UDP_SEGMENT is set to on the socket; zero is off.
    segment_bytes: usize,
}

impl Sending {
    /// A socket whose UDP_SEGMENT was never set, sending by `offload` or what is below it.
    pub fn new(offload: Offload) -> Sending {
        Sending { offload, segment_bytes: 0 }
    }

    /// The means in use; falls when the kernel or the path refuses a better one.
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// Sends the datagrams that stand end to end in `datagrams`, each `segment_bytes` long but
    /// the last, which may be shorter, on the connected socket `fd`.
    pub fn send_segments(
        &mut self,
        fd: BorrowedFd<'_>,
        datagrams: &[u8],
        segment_bytes: usize,
    ) -> SendOutcome {
        assert!(segment_bytes > 0, "datagrams have a size");
        let mut done = 0;
        let mut refused = false;
        let mut retried = false;
        let mut lost = None;
        while done < datagrams.len() {
            let rest = &datagrams[done..];
            let piece = &rest[..rest.len().min(self.piece_bytes(segment_bytes))];
            let errno = match self.send_piece(fd, piece, segment_bytes) {
                Ok(bytes) => {
                    done += bytes;
                    retried = false;
                    continue;
                }
                Err(errno) => errno,
            };
            match errno {
                Errno::INTR => {}
                Errno::AGAIN | Errno::NOBUFS => {
                    return SendOutcome::WouldBlock { sent: done / segment_bytes };
                }
                Errno::MSGSIZE => return SendOutcome::TooBig,
                // What the kernel had noted of an earlier datagram; this one did not leave.
                Errno::CONNREFUSED if !retried => (refused, retried) = (true, true),
                _ if self.segmentation_is_to_blame(fd, errno) => {
                    if piece.len() > segment_bytes {
                        if exceeds_path_mtu(fd, segment_bytes) {
                            return SendOutcome::TooBig;
                        }
                        self.offload = Offload::Batch;
                    }
                }
                Errno::NOSYS if self.offload == Offload::Batch => self.offload = Offload::Single,
                _ => {
                    lost = Some(errno);
                    // A plain batch fails at its first datagram only.
                    done += match self.offload {
                        Offload::Segmentation => piece.len(),
                        Offload::Batch | Offload::Single => piece.len().min(segment_bytes),
                    };
                }
            }
        }
        match lost {
            _ if refused => SendOutcome::Refused,
            Some(errno) => SendOutcome::Lost { errno },
            None => SendOutcome::Sent,
        }
    }

    /// Sends one datagram of any size from an unconnected socket to `to`, from the local address
    /// `from` and its interface.
    pub fn send_to(
        &mut self,
        fd: BorrowedFd<'_>,
        datagram: &[u8],
        to: &SockAddr,
        from: Option<(IpAddr, u32)>,
    ) -> SendOutcome {
        debug_assert_eq!(self.segment_bytes, 0, "only connected sockets send segments");
        // Once more for an interruption, and once for a note about an earlier datagram.
        let mut refused = false;
        for _ in 0..3 {
            match sys::send_message(fd, datagram, to, from) {
                Ok(()) if refused => return SendOutcome::Refused,
                Ok(()) => return SendOutcome::Sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return SendOutcome::WouldBlock { sent: 0 },
                Err(Errno::MSGSIZE) => return SendOutcome::TooBig,
                Err(Errno::CONNREFUSED) => refused = true,
                Err(errno) => return SendOutcome::Lost { errno },
            }
        }
        SendOutcome::Lost { errno: if refused { Errno::CONNREFUSED } else { Errno::INTR } }
    }

    /// The bytes that one call may be given: whole datagrams, one of any size.
    fn piece_bytes(&self, segment_bytes: usize) -> usize {
        let segments = match self.offload {
            Offload::Segmentation => (SEND_BYTES_MAX / segment_bytes).clamp(1, SEGMENTS_MAX),
            Offload::Batch => sys::MESSAGES_MAX,
            Offload::Single => 1,
        };
        segments.saturating_mul(segment_bytes)
    }

    /// One system call. Says how many bytes of `piece` the kernel took, whole datagrams always.
    fn send_piece(
        &mut self,
        fd: BorrowedFd<'_>,
        piece: &[u8],
        segment_bytes: usize,
    ) -> Result<usize, Errno> {
        if piece.len() <= segment_bytes {
            // A single datagram no longer than the option's value leaves whole, and leaving the
            // option alone saves a system call.
            if piece.len() > self.segment_bytes {
                self.set_segment_bytes(fd, 0)?;
            }
        } else if self.offload == Offload::Segmentation {
            self.set_segment_bytes(fd, segment_bytes)?;
        } else {
            self.set_segment_bytes(fd, 0)?;
            let sent = sys::send_messages(fd, piece, segment_bytes)?;
            return Ok(piece.len().min(sent * segment_bytes));
        }
        rustix::net::send(fd, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    }

    /// Whether a send failed only because UDP_SEGMENT is set, which it then is no longer. EIO: the
    /// interface cannot checksum segments, or the route encrypts. EINVAL: the kernel knows a limit
    /// that we do not; before 6.14 also a segment larger than the path takes.
    fn segmentation_is_to_blame(&mut self, fd: BorrowedFd<'_>, errno: Errno) -> bool {
        match errno {
            // A kernel before 4.18: the option was not even set.
            Errno::NOPROTOOPT => self.offload == Offload::Segmentation,
            Errno::INVAL | Errno::IO => {
                self.segment_bytes > 0 && self.set_segment_bytes(fd, 0).is_ok()
            }
            _ => false,
        }
    }

    fn set_segment_bytes(&mut self, fd: BorrowedFd<'_>, bytes: usize) -> Result<(), Errno> {
        if self.segment_bytes != bytes {
            let value = i32::try_from(bytes).map_err(|_| Errno::MSGSIZE)?;
            sys::set_option(fd, libc::SOL_UDP, libc::UDP_SEGMENT, value)?;
            self.segment_bytes = bytes;
        }
        Ok(())
    }
}

/// Whether a datagram of `datagram_bytes` is beyond what the route takes: then EINVAL says nothing
/// against segmentation.
fn exceeds_path_mtu(fd: BorrowedFd<'_>, datagram_bytes: usize) -> bool {
    sys::path_mtu(fd).is_ok_and(|mtu| datagram_bytes + HEADERS_BYTES_MIN > mtu)
}

/// The receiving half of a socket's state.
#[derive(Debug)]
pub struct Receiving {
    mode: ReceiveMode,
    /// Whether the kernel can merge, and may.
    merges: bool,
    /// The room of one datagram in a batch: the largest so far.
    slot_bytes: usize,
    /// Our own port, which completes the addresses that datagrams were sent to.
    port: u16,
    cut: u64,
}

/// How the next receive is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReceiveMode {
    /// UDP_GRO is on: one message of merged datagrams a call. Counts what it brings.
    Merged(Trial),
    /// UDP_GRO is off: many messages a call.
    Batched { batches: u32 },
    /// UDP_GRO is off: one message a call.
    Single,
}

/// What a trial of merging has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trial {
    receives: u32,
    datagrams: u32,
    /// Looks at an empty socket.
    empties: u32,
}

impl Trial {
    /// Whether the trial is over and batches are better: hardly anything merges although several
    /// receives in a row find something. (Where every receive empties the socket, a batch would
    /// hold one datagram as well.)
    fn speaks_for_batches(&self) -> bool {
        self.receives >= TRIAL_RECEIVES
            && self.datagrams * 2 < self.receives * 3
            && self.empties * 4 < self.receives
    }
}

impl Receiving {
    /// Sets the socket `fd`, bound to `port`, up for receiving by `offload` or what is below it.
    pub fn new(fd: BorrowedFd<'_>, offload: Offload, port: u16) -> Receiving {
        let merges = offload == Offload::Segmentation && set_merging(fd, true).is_ok();
        let mode = match offload {
            _ if merges => ReceiveMode::Merged(Trial::default()),
            Offload::Segmentation | Offload::Batch => ReceiveMode::Batched { batches: 0 },
            Offload::Single => ReceiveMode::Single,
        };
        Receiving { mode, merges, slot_bytes: SLOT_BYTES_MIN, port, cut: 0 }
    }

    /// The means in use at the moment; changes with what the path merges.
    pub fn offload(&self) -> Offload {
        match self.mode {
            ReceiveMode::Merged(_) => Offload::Segmentation,
            ReceiveMode::Batched { .. } => Offload::Batch,
            ReceiveMode::Single => Offload::Single,
        }
    }

    /// Datagrams lost here since the start, because they were longer than any before.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Fills `buffer` by one system call.
    pub fn receive(&mut self, fd: BorrowedFd<'_>, buffer: &mut Buffer) -> ReceiveOutcome {
        if !buffer.has_room() {
            return ReceiveOutcome::Full;
        }
        let listed = buffer.arrivals().len();
        let result = match self.mode {
            ReceiveMode::Merged(_) | ReceiveMode::Single => self.receive_one(fd, buffer),
            ReceiveMode::Batched { .. } => self.receive_batch(fd, buffer),
        };
        let datagrams = buffer.arrivals()[listed..]
            .iter()
            .map(|arrival| arrival.length.div_ceil(arrival.segment_bytes))
            .sum();
        self.choose_mode(fd, datagrams, result == Err(Errno::AGAIN));
        match result {
            Ok(()) => ReceiveOutcome::Received { datagrams },
            Err(Errno::AGAIN | Errno::INTR) => ReceiveOutcome::Empty,
            Err(Errno::CONNREFUSED) => ReceiveOutcome::Refused,
            Err(errno) => ReceiveOutcome::Failed { errno },
        }
    }

    fn receive_one(&mut self, fd: BorrowedFd<'_>, buffer: &mut Buffer) -> Result<(), Errno> {
        let start = buffer.filled();
        let room = buffer.unused().len();
        let message = sys::receive_message(fd, buffer.unused())?;
        self.note(buffer, start, room, message);
        Ok(())
    }

    fn receive_batch(&mut self, fd: BorrowedFd<'_>, buffer: &mut Buffer) -> Result<(), Errno> {
        let start = buffer.filled();
        let slot_bytes = self.slot_bytes;
        let slots = buffer.arrivals_left();
        let room = buffer.unused();
        let room_bytes = room.len().min(slots * slot_bytes);
        let mut found = [None; sys::MESSAGES_MAX];
        sys::receive_messages(fd, &mut room[..room_bytes], slot_bytes, |slot, message| {
            found[slot] = Some(message);
        })?;
        for (slot, message) in found.into_iter().flatten().enumerate() {
            self.note(buffer, start + slot * slot_bytes, slot_bytes, message);
        }
        Ok(())
    }

    /// Lists `message`, which begins at `start` and was given `room` bytes, in the buffer. One
    /// that was cut is lost, but the next one of its size finds a larger slot.
    fn note(&mut self, buffer: &mut Buffer, start: usize, room: usize, message: sys::Message) {
        let segment_bytes = message.segment_bytes.unwrap_or(message.length);
        let largest = segment_bytes.next_multiple_of(64).clamp(SLOT_BYTES_MIN, RECEIVE_BYTES);
        self.slot_bytes = self.slot_bytes.max(largest);
        if message.length > room {
            self.cut += 1;
            return;
        }
        let Some(from) = message.from else { return };
        buffer.push(Arrival {
            start,
            length: message.length,
            segment_bytes: segment_bytes.max(1),
            from,
            to: message.to.map(|(address, scope)| local_address(address, self.port, scope)),
            // The two lowest bits are ECN; both set say "congestion experienced".
            congestion_experienced: message.traffic_class & 0b11 == 0b11,
        });
    }

    /// Goes from merging to batches where nothing is merged, and back now and then to look.
    fn choose_mode(&mut self, fd: BorrowedFd<'_>, datagrams: usize, empty: bool) {
        match &mut self.mode {
            ReceiveMode::Merged(trial) if empty => {
                trial.empties += 1;
                // Only with an empty queue: what was merged before would come without its
                // segment size once merging is off.
                if trial.speaks_for_batches() && set_merging(fd, false).is_ok() {
                    self.mode = ReceiveMode::Batched { batches: 0 };
                }
            }
            ReceiveMode::Merged(trial) => {
                if trial.receives >= 2 * TRIAL_RECEIVES {
                    *trial = Trial::default();
                }
                trial.receives += 1;
                trial.datagrams += u32::try_from(datagrams).unwrap_or(u32::MAX);
            }
            ReceiveMode::Batched { batches } if self.merges && !empty => {
                *batches += 1;
                if *batches >= BATCHES_PER_TRIAL && set_merging(fd, true).is_ok() {
                    self.mode = ReceiveMode::Merged(Trial::default());
                }
            }
            ReceiveMode::Batched { .. } | ReceiveMode::Single => {}
        }
    }
}

/// Whether the kernel may merge datagrams on their way to this socket.
fn set_merging(fd: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    sys::set_option(fd, libc::SOL_UDP, libc::UDP_GRO, i32::from(on))
}

/// `address` with `port`, and with the interface where the address means nothing without it.
fn local_address(address: IpAddr, port: u16, interface: u32) -> SocketAddr {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            SocketAddrV6::new(address, port, 0, interface).into()
        }
        address => SocketAddr::new(address, port),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::super::buffer::BufferPool;
    use super::super::socket::{Socket, SocketOptions};
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
            assert!(bursts <= BATCHES_PER_TRIAL, "merging is not tried again");
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
        for _ in 0..2 * TRIAL_RECEIVES {
            sender.send(b"one");
            assert_eq!(receive(&mut receiver, 1), [b"one"]);
        }
        assert_eq!(receiver.receive_offload(), Offload::Segmentation);
    }

    #[test]
    fn congestion_marks_are_passed_on() {
        for ip in ["127.0.0.1", "::1"] {
            for receiving in LEVELS {
                let (mut sender, mut receiver) = pair(ip, Offload::Single, receiving);
                let mut buffer = BufferPool::new(1, 4 * RECEIVE_BYTES).take().unwrap();
                let (level, name) = match sender.local_address() {
                    SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
                    SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
                };
                for (mark, experienced) in [(0b11, true), (0b10, false), (0b00, false)] {
                    sys::set_option(sender.as_fd(), level, name, mark).unwrap();
                    sender.send(b"marked");
                    buffer.clear();
                    await_ready(&receiver);
                    receiver.receive(&mut buffer);
                    assert_eq!(buffer.arrivals()[0].congestion_experienced, experienced);
                }
            }
        }
    }
}
