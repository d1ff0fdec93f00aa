//! Packet sockets: the IP packets that pass one Ethernet device, read and written from outside
//! the kernel's IP stack.

use std::ffi::c_int;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;

use super::{last_errno, set_option};

/// A socket that receives the IPv4 packets that come in on a device and sends such packets out
/// of it, always to one Ethernet address. Neither ever waits.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    peer: libc::sockaddr_ll,
}

impl PacketSocket {
    /// Opens it on the device with this index in the calling thread's network namespace, with
    /// room for about `buffer_bytes` if the kernel allows so much.
    pub fn open(
        interface: u32,
        peer_address: [u8; 6],
        buffer_bytes: c_int,
    ) -> Result<PacketSocket, Errno> {
        let protocol = (libc::ETH_P_IP as u16).to_be();
        let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: socket takes integers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, c_int::from(protocol)) };
        if fd < 0 {
            return Err(last_errno());
        }
        // SAFETY: the descriptor is new, open and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // Either may be refused without rights in the first user namespace; the smaller buffer
        // that remains shows in `drops`.
        let _ = set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, buffer_bytes);
        let _ = set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, buffer_bytes);
        // SAFETY: all-zero bytes are a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as _;
        address.sll_protocol = protocol;
        address.sll_ifindex = interface as _;
        // SAFETY: the pointer and the length describe `address`, which outlives the call.
        let result = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                ptr::from_ref(&address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if result < 0 {
            return Err(last_errno());
        }
        address.sll_halen = peer_address.len() as _;
        for (to, from) in address.sll_addr.iter_mut().zip(peer_address) {
            *to = from;
        }
        Ok(PacketSocket { fd, peer: address })
    }

    /// Receives one packet; what does not fit into `buffer` is cut off.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the pointer and the length describe `buffer`, which outlives the call.
        let length =
            unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        usize::try_from(length).map_err(|_| last_errno())
    }

    /// Sends one packet.
    pub fn send(&self, packet: &[u8]) -> Result<(), Errno> {
        // SAFETY: pointers and lengths describe `packet` and the address, which outlive the call.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                ptr::from_ref(&self.peer).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(last_errno()) } else { Ok(()) }
    }

    /// Packets dropped since this was last asked, because nobody received them in time.
    pub fn drops(&self) -> Result<u32, Errno> {
        // SAFETY: all-zero bytes are a valid `tpacket_stats`.
        let mut stats: libc::tpacket_stats = unsafe { zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the pointer and the length describe `stats`, which outlives the call.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                ptr::from_mut(&mut stats).cast(),
                &raw mut length,
            )
        };
        if result < 0 { Err(last_errno()) } else { Ok(stats.tp_drops) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
