//! What the kernel counts of a TCP connection, which the bench compares ufx with.

use std::mem::{offset_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;

use super::last_errno;

/// What a TCP connection has sent so far, from TCP_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSent {
    /// Bytes of data, those sent again among them.
    pub bytes: u64,
    /// Of these the bytes sent again.
    pub resent_bytes: u64,
}

/// What a TCP connection has sent; `None` where the kernel does not count it (before 4.19).
pub fn tcp_sent(fd: BorrowedFd<'_>) -> Result<Option<TcpSent>, Errno> {
    // SAFETY: all-zero bytes are a valid `tcp_info`.
    let mut info: libc::tcp_info = unsafe { zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the pointers describe `info` and `length`, which outlive the call, and the kernel
    // writes `length` bytes at most.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            ptr::from_mut(&mut info).cast(),
            &mut length,
        )
    };
    if result != 0 {
        return Err(last_errno());
    }
    let end_of_counters = offset_of!(libc::tcp_info, tcpi_bytes_retrans) + size_of::<u64>();
    let sent = TcpSent { bytes: info.tcpi_bytes_sent, resent_bytes: info.tcpi_bytes_retrans };
    Ok((length as usize >= end_of_counters).then_some(sent))
}
