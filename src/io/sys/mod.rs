//! System calls that the crates lack, each wrapped into a safe function, and all `unsafe` of ufx.
//! What the calls are good for is decided elsewhere: datagrams in `batch`, options in `socket`,
//! namespaces, devices and measured processes in the bench.

#![expect(unsafe_code, reason = "system calls that no crate wraps, or none safely")]

pub mod message;
pub mod namespace;
pub mod packet;
pub mod process;
pub mod tcp;

use std::ffi::c_int;
use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use ipnet::IpNet;
use rustix::io::Errno;

/// The memory of a socket, from SO_MEMINFO. Bytes count the kernel's overhead as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketMemory {
    /// Received and not yet read.
    pub receive_queued_bytes: u32,
    /// What may be queued for reading; beyond it the kernel drops.
    pub receive_limit_bytes: u32,
    /// Sent and still in the queue of an interface.
    pub send_queued_bytes: u32,
    /// What may be queued for sending.
    pub send_limit_bytes: u32,
    /// Socket buffers dropped since the socket was made, a merged one counted once.
    pub drops: u32,
}

/// Sets a socket option that is an integer.
pub fn set_option(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> Result<(), Errno> {
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Reads a socket option that is an integer.
pub fn option(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> Result<c_int, Errno> {
    let mut value = [0];
    read_option(fd, level, name, &mut value)?;
    Ok(value[0])
}

/// The largest IP packet that the route of a connected socket takes, as far as is known.
pub fn path_mtu(fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mtu = option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU)
        .or_else(|_| option(fd, libc::IPPROTO_IP, libc::IP_MTU))?;
    usize::try_from(mtu).map_err(|_| Errno::RANGE)
}

/// How full the socket's queues are, and what was dropped.
pub fn socket_memory(fd: BorrowedFd<'_>) -> Result<SocketMemory, Errno> {
    // SK_MEMINFO_VARS = 9 in include/uapi/linux/sock_diag.h; older kernels fill fewer.
    let mut values = [0; 9];
    read_option(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut values)?;
    let value = |position: c_int| values[position as usize] as u32;
    Ok(SocketMemory {
        receive_queued_bytes: value(libc::SK_MEMINFO_RMEM_ALLOC),
        receive_limit_bytes: value(libc::SK_MEMINFO_RCVBUF),
        send_queued_bytes: value(libc::SK_MEMINFO_WMEM_ALLOC),
        send_limit_bytes: value(libc::SK_MEMINFO_SNDBUF),
        drops: value(libc::SK_MEMINFO_DROPS),
    })
}

/// The networks that our interfaces are in, each with our own address in it.
pub fn interface_networks() -> io::Result<Vec<IpNet>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: on success the call stores a list, which is freed below and not used after that.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut networks = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is an entry of the list, which is not freed yet.
        let entry = unsafe { &*next };
        // SAFETY: both pointers are null or refer to a socket address of the list, as long as
        // its family says.
        let (address, mask) =
            unsafe { (read_address(entry.ifa_addr), read_address(entry.ifa_netmask)) };
        if let (Some(address), Some(mask)) = (address, mask) {
            networks.extend(IpNet::with_netmask(address.ip(), mask.ip()));
        }
        next = entry.ifa_next;
    }
    // SAFETY: `list` came from getifaddrs; nothing read from it is borrowed any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(networks)
}

/// The internet address at `address`, an IPv4 one always as such; `None` for other families.
///
/// # Safety
/// `address` must be null, or point to a socket address that is as long as its family says.
unsafe fn read_address(address: *const libc::sockaddr) -> Option<SocketAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: the caller vouches for the length that the family implies; the reads may be
    // unaligned.
    unsafe {
        match c_int::from(ptr::addr_of!((*address).sa_family).read_unaligned()) {
            libc::AF_INET => {
                let address = address.cast::<libc::sockaddr_in>().read_unaligned();
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
            }
            libc::AF_INET6 => {
                let address = address.cast::<libc::sockaddr_in6>().read_unaligned();
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                let port = u16::from_be(address.sin6_port);
                Some(match ip.to_ipv4_mapped() {
                    Some(ip) => SocketAddrV4::new(ip, port).into(),
                    None => SocketAddrV6::new(ip, port, 0, address.sin6_scope_id).into(),
                })
            }
            _ => None,
        }
    }
}

/// Reads a socket option that is a list of integers; what the kernel does not fill keeps its value.
fn read_option(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    values: &mut [c_int],
) -> Result<(), Errno> {
    let mut length = size_of_val(values) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `values`; any bytes are valid integers.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, values.as_mut_ptr().cast(), &raw mut length)
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Has every allocation of more than 128 KiB go back to the kernel as soon as it is freed. Else
/// glibc raises that bound to the largest that was ever freed (mallopt(3)), and cuts what is
/// smaller from a heap that one small allocation at its end keeps from ever shrinking.
pub fn give_back_what_is_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two integers. Refused, all stays as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// The error of the system call that has just failed on this thread.
fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn the_loopback_network_is_among_the_interfaces() {
        let networks = interface_networks().unwrap();
        let loopback: IpAddr = "127.1.2.3".parse().unwrap();
        assert!(networks.iter().any(|network| network.contains(&loopback)), "{networks:?}");
    }
}
