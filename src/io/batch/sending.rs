//! The sending half: segmentation offload, plain batches, or one datagram at a time, and the way
//! down from one to the next.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::SockAddr;

use super::{Offload, SendOutcome};
use crate::io::sys;
use crate::io::sys::message::{MESSAGES_MAX, send_message, send_messages};

/// The most that one call may send: beyond it the datagrams arrive unmerged (measured).
const SEND_BYTES_MAX: usize = 65_493;

/// The most segments of one call. Kernels before 6.9 refuse more than 64, later ones more than
/// 128; only segments below 1,024 bytes would gain from more.
const SEGMENTS_MAX: usize = 64;

/// What IP and UDP headers take from a packet at least, in bytes: IPv4 without options.
const HEADERS_BYTES_MIN: usize = 28;

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
            match send_message(fd, datagram, to, from) {
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
            Offload::Batch => MESSAGES_MAX,
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
            let sent = send_messages(fd, piece, segment_bytes)?;
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
