//! Messages of datagram sockets, one or many a call, with the addresses and options that the kernel
//! tells of each.

use std::ffi::{c_int, c_uint};
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;
use socket2::SockAddr;

use super::{last_errno, read_address};

/// Messages of one `sendmmsg` or `recvmmsg` at most: beyond 64 a call costs no less (measured).
pub const MESSAGES_MAX: usize = 64;

/// Never wait in a call, and never die of a closed peer.
const SEND_FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Never wait in a call; say the true length of a datagram that did not fit.
const RECEIVE_FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_TRUNC;

/// What the kernel tells of one received message.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Its true length, which may exceed the room it was given.
    pub length: usize,
    /// With UDP_GRO: the size of each merged datagram but the last. `None` for a single one.
    pub segment_bytes: Option<usize>,
    /// Its sender; `None` where that is no internet address.
    pub from: Option<SocketAddr>,
    /// The address it was sent to and the index of the interface, if the socket asked for it.
    pub to: Option<(IpAddr, u32)>,
}

/// Sends one datagram to `to` from the local address `from` (with an interface index, which
/// only link-local addresses need, else 0). Both must be of the socket's family.
pub fn send_message(
    fd: BorrowedFd<'_>,
    datagram: &[u8],
    to: &SockAddr,
    from: Option<(IpAddr, u32)>,
) -> Result<(), Errno> {
    let mut vector = io_vector(datagram.as_ptr().cast_mut(), datagram.len());
    let mut control = Control([0; CONTROL_BYTES]);
    // SAFETY: all-zero bytes are a valid `msghdr`.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = to.as_ptr().cast_mut().cast();
    header.msg_namelen = to.len();
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    if let Some((address, interface)) = from {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: the header's control buffer is live, aligned and CONTROL_BYTES long, which is
        // more than either packet info takes.
        header.msg_controllen = unsafe { write_source(&header, address, interface) } as _;
    }
    // SAFETY: every pointer in the header refers to a local of this function, to `to` or to
    // `datagram`, with its true length; sendmsg only reads through them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, SEND_FLAGS) };
    if sent < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Sends the datagrams that stand end to end in `datagrams`, each `segment_bytes` long (not
/// zero) but the last, on a connected socket. Says how many of them were taken, at least one.
pub fn send_messages(
    fd: BorrowedFd<'_>,
    datagrams: &[u8],
    segment_bytes: usize,
) -> Result<usize, Errno> {
    let mut vectors = [io_vector(ptr::null_mut(), 0); MESSAGES_MAX];
    // SAFETY: all-zero bytes are valid `mmsghdr`s.
    let mut headers: [libc::mmsghdr; MESSAGES_MAX] = unsafe { zeroed() };
    let mut count = 0;
    for ((header, vector), datagram) in
        headers.iter_mut().zip(&mut vectors).zip(datagrams.chunks(segment_bytes))
    {
        *vector = io_vector(datagram.as_ptr().cast_mut(), datagram.len());
        header.msg_hdr.msg_iov = ptr::from_mut(vector);
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` headers point to vectors that point into `datagrams`, with the
    // true lengths; sendmmsg writes nothing but the headers' `msg_len`.
    let sent = unsafe {
        libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count as c_uint, SEND_FLAGS as _)
    };
    usize::try_from(sent).map_err(|_| last_errno())
}

/// Receives one datagram, or several that the kernel merged, into `room`.
pub fn receive_message(fd: BorrowedFd<'_>, room: &mut [u8]) -> Result<Message, Errno> {
    let mut vector = io_vector(room.as_mut_ptr(), room.len());
    let mut details = Details::EMPTY;
    // SAFETY: all-zero bytes are a valid `msghdr`.
    let mut header: libc::msghdr = unsafe { zeroed() };
    details.attach(&mut header, &mut vector);
    // SAFETY: every pointer in the header refers to `room`, `vector` or `details`, which outlive
    // the call, with its true length.
    let length = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, RECEIVE_FLAGS) };
    let length = usize::try_from(length).map_err(|_| last_errno())?;
    // SAFETY: the kernel has filled this header, and its buffers are still the ones attached.
    Ok(unsafe { details.read(&header, length) })
}

/// Receives up to as many datagrams as `room` has whole slots of `slot_bytes` (not zero), at
/// most [`MESSAGES_MAX`], the first into the first slot. `found` is told slot and message of
/// each; a message may be longer than its slot, and then its rest is lost.
pub fn receive_messages(
    fd: BorrowedFd<'_>,
    room: &mut [u8],
    slot_bytes: usize,
    mut found: impl FnMut(usize, Message),
) -> Result<(), Errno> {
    let mut vectors = [io_vector(ptr::null_mut(), 0); MESSAGES_MAX];
    let mut details = [const { Details::EMPTY }; MESSAGES_MAX];
    // SAFETY: all-zero bytes are valid `mmsghdr`s.
    let mut headers: [libc::mmsghdr; MESSAGES_MAX] = unsafe { zeroed() };
    let mut count = 0;
    for (((header, vector), details), slot) in headers
        .iter_mut()
        .zip(&mut vectors)
        .zip(&mut details)
        .zip(room.chunks_exact_mut(slot_bytes))
    {
        *vector = io_vector(slot.as_mut_ptr(), slot.len());
        details.attach(&mut header.msg_hdr, vector);
        count += 1;
    }
    // SAFETY: the first `count` headers point into `vectors` and `details`, which outlive the
    // call, and the vectors to disjoint slots of `room`, all with true lengths.
    let received = unsafe { receive_many(fd, &mut headers[..count]) }?;
    for (slot, (header, details)) in headers.iter().zip(&details).take(received).enumerate() {
        // SAFETY: the kernel has filled the first `received` headers, and their buffers are
        // still the ones attached.
        found(slot, unsafe { details.read(&header.msg_hdr, header.msg_len as usize) });
    }
    Ok(())
}

/// As [`receive_messages`], of datagrams of which only the length is wanted: a sixth of the work of
/// a small one (see benches/RESULTS.md).
pub fn receive_payloads(
    fd: BorrowedFd<'_>,
    room: &mut [u8],
    slot_bytes: usize,
    lengths: &mut [usize; MESSAGES_MAX],
) -> Result<usize, Errno> {
    let mut vectors = [io_vector(ptr::null_mut(), 0); MESSAGES_MAX];
    // SAFETY: all-zero bytes are valid `mmsghdr`s.
    let mut headers: [libc::mmsghdr; MESSAGES_MAX] = unsafe { zeroed() };
    let mut count = 0;
    for ((header, vector), slot) in
        headers.iter_mut().zip(&mut vectors).zip(room.chunks_exact_mut(slot_bytes))
    {
        *vector = io_vector(slot.as_mut_ptr(), slot.len());
        header.msg_hdr.msg_iov = ptr::from_mut(vector);
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` headers point into `vectors`, which outlive the call, and the
    // vectors to disjoint slots of `room`, all with true lengths.
    let received = unsafe { receive_many(fd, &mut headers[..count]) }?;
    for (length, header) in lengths.iter_mut().zip(&headers).take(received) {
        *length = header.msg_len as usize;
    }
    Ok(received)
}

/// Receives into as many messages as there are headers, without waiting for the last of them.
///
/// # Safety
/// Whatever the headers point to must be live and writable, with the lengths they say.
unsafe fn receive_many(fd: BorrowedFd<'_>, headers: &mut [libc::mmsghdr]) -> Result<usize, Errno> {
    // SAFETY: the pointer and the length describe `headers`; the caller vouches for the rest.
    let received = unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            headers.len() as c_uint,
            RECEIVE_FLAGS as _,
            ptr::null_mut(),
        )
    };
    usize::try_from(received).map_err(|_| last_errno())
}

/// Room for control messages: packet info of either family (40 bytes each, and a socket for both
/// may get both) and a segment size (24).
const CONTROL_BYTES: usize = 104;

/// Control messages must be aligned like their header.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// Where the kernel writes all but the bytes of one message.
#[derive(Clone, Copy)]
struct Details {
    /// Large enough for an address of either family.
    name: libc::sockaddr_in6,
    control: Control,
}

impl Details {
    const EMPTY: Details = Details {
        name: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
        control: Control([0; CONTROL_BYTES]),
    };

    /// Points `header` at these details and at `vector`; all three must outlive the call.
    fn attach(&mut self, header: &mut libc::msghdr, vector: &mut libc::iovec) {
        header.msg_name = ptr::from_mut(&mut self.name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        header.msg_iov = ptr::from_mut(vector);
        header.msg_iovlen = 1;
        header.msg_control = self.control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES as _;
    }

    /// What the kernel wrote for a message of `length` bytes.
    ///
    /// # Safety
    /// `header` must be attached to these details and filled by a successful receive.
    unsafe fn read(&self, header: &libc::msghdr, length: usize) -> Message {
        // SAFETY: the name is large enough for either family.
        let from = unsafe { read_address(ptr::from_ref(&self.name).cast()) };
        let mut message = Message { length, segment_bytes: None, from, to: None };
        // SAFETY: the caller vouches for the header, hence for its control buffer and length.
        let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
        while !next.is_null() {
            // SAFETY: the kernel wrote whole control messages, the data of each as its level
            // and type say; CMSG_NXTHDR stays within the buffer.
            unsafe {
                read_control(next, &mut message);
                next = libc::CMSG_NXTHDR(header, next);
            }
        }
        message
    }
}

/// Notes what one control message says; others than those asked for are passed over.
///
/// # Safety
/// `control` must be a control message that the kernel wrote, with its data behind it.
unsafe fn read_control(control: *const libc::cmsghdr, message: &mut Message) {
    // SAFETY: the data follows the header; the reads below are as large as what the kernel
    // writes for that level and type, and may be unaligned.
    unsafe {
        let data = libc::CMSG_DATA(control);
        match ((*control).cmsg_level, (*control).cmsg_type) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let bytes = data.cast::<c_int>().read_unaligned();
                message.segment_bytes = usize::try_from(bytes).ok();
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                let address = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                message.to = Some((address.into(), info.ipi_ifindex as u32));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                message.to = Some((IpAddr::from(address).to_canonical(), info.ipi6_ifindex as u32));
            }
            _ => {}
        }
    }
}

/// Writes the packet info that makes a datagram leave from `address`; returns its length.
///
/// # Safety
/// The control buffer of `header` must be live, aligned like a `cmsghdr`, and have room for a
/// packet info of either family.
unsafe fn write_source(header: &libc::msghdr, address: IpAddr, interface: u32) -> usize {
    /// One control message with `data` as its content.
    ///
    /// # Safety
    /// As for the function around it.
    unsafe fn write<T>(header: &libc::msghdr, level: c_int, kind: c_int, data: T) -> usize {
        let bytes = size_of::<T>() as c_uint;
        // SAFETY: the caller vouches for the buffer; its length was set, so the first header
        // is not null.
        unsafe {
            let control = libc::CMSG_FIRSTHDR(header);
            (*control).cmsg_level = level;
            (*control).cmsg_type = kind;
            (*control).cmsg_len = libc::CMSG_LEN(bytes) as _;
            libc::CMSG_DATA(control).cast::<T>().write_unaligned(data);
            libc::CMSG_SPACE(bytes) as usize
        }
    }
    match address {
        IpAddr::V4(address) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: interface as c_int,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(address).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            // SAFETY: the caller vouches for the buffer.
            unsafe { write(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info) }
        }
        IpAddr::V6(address) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                ipi6_ifindex: interface,
            };
            // SAFETY: the caller vouches for the buffer.
            unsafe { write(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info) }
        }
    }
}

fn io_vector(start: *mut u8, length: usize) -> libc::iovec {
    libc::iovec { iov_base: start.cast(), iov_len: length }
}
