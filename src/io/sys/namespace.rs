//! New namespaces for the calling thread or process, TUN devices, and the switches of a network
//! device that only ioctl reaches. Addresses and links are set through netlink, without `unsafe`,
//! by whoever builds a network.

use std::ffi::c_int;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::last_errno;

/// Moves the calling thread into a network namespace of its own, with nothing in it but a
/// loopback device that is down. Threads and processes it starts from then on are in it too.
pub fn enter_new_network() -> Result<(), Errno> {
    unshare(UnshareFlags::NEWNET)
}

/// Lets the next process that the calling thread starts be the first of a process namespace:
/// when it ends, the kernel kills all its descendants. That thread can start no other one then.
pub fn isolate_next_process() -> Result<(), Errno> {
    unshare(UnshareFlags::NEWPID)
}

/// Moves the process into a user namespace of its own, in which it may do everything. It must
/// have one thread only.
pub fn enter_new_user_namespace() -> Result<(), Errno> {
    unshare(UnshareFlags::NEWUSER)
}

fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: the callers pass no FILES, the one flag that could pull a descriptor from under
    // another thread.
    unsafe { unshare_unsafe(flags) }
}

/// Makes a TUN device in the calling thread's network namespace: whole IP packets, nothing in
/// front of them, no offloads. Reading and writing never wait. The device lives as long as the
/// descriptor.
pub fn create_tun(name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    let mut request = interface_request(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as _;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if result < 0 { Err(last_errno()) } else { Ok(device) }
}

/// What a network device may leave to the hardware or put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceOffload {
    /// Checksums of what is sent; without them there is no segmentation either.
    SendChecksum,
    /// Segmentation of TCP.
    TcpSegmentation,
    /// Segmentation of anything, in software behind the queues.
    Segmentation,
    /// Merging of what is received.
    Merging,
}

impl DeviceOffload {
    /// The command of include/uapi/linux/ethtool.h that sets it.
    fn command(self) -> u32 {
        match self {
            DeviceOffload::SendChecksum => 0x17,
            DeviceOffload::TcpSegmentation => 0x1f,
            DeviceOffload::Segmentation => 0x24,
            DeviceOffload::Merging => 0x2c,
        }
    }
}

/// Switches an offload of a device off; `socket` is any socket of the device's namespace.
pub fn switch_offload_off(
    socket: impl AsFd,
    device: &str,
    offload: DeviceOffload,
) -> Result<(), Errno> {
    /// `struct ethtool_value` of include/uapi/linux/ethtool.h.
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        data: u32,
    }
    let mut value = EthtoolValue { command: offload.command(), data: 0 };
    let mut request = interface_request(device)?;
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut value).cast();
    let fd: BorrowedFd<'_> = socket.as_fd();
    // SAFETY: SIOCETHTOOL reads and writes one `ifreq` and, behind its pointer, as much as the
    // command says, which is one `EthtoolValue`; both outlive the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// From include/uapi/linux/sockios.h.
const SIOCETHTOOL: c_int = 0x8946;

/// A request about the device of this name, which must be shorter than IFNAMSIZ.
fn interface_request(name: &str) -> Result<libc::ifreq, Errno> {
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // The last byte stays zero and ends the name.
    if name.len() >= request.ifr_name.len() {
        return Err(Errno::INVAL);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as _;
    }
    Ok(request)
}
