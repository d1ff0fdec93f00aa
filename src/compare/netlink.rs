//! The few requests of rtnetlink(7) that a lab needs: devices up, addresses, veth pairs.
//! Knows nothing of what the devices are for.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// How a device is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceSettings {
    /// The largest IP packet.
    pub mtu_bytes: Option<u32>,
    /// Packets that may wait in it.
    pub queue_packets: Option<u32>,
    /// Whether the addresses of neighbours are not asked for: there is only one.
    pub without_arp: bool,
}

/// One end of a new pair of Ethernet devices.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// The device's name.
    pub name: &'a str,
    /// Its Ethernet address.
    pub address: [u8; 6],
    /// The namespace it goes to; none for that of the connection.
    pub network: Option<BorrowedFd<'a>>,
}

/// A connection to the kernel about the network namespace it was opened in.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Opens one for the calling thread's network namespace.
    pub fn open() -> Result<Netlink, Errno> {
        // Protocol 0 is NETLINK_ROUTE.
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Netlink { socket })
    }

    /// The index of the device of this name.
    pub fn index(&self, device: &str) -> Result<u32, Errno> {
        rustix::net::netdevice::name_to_index(&self.socket, device)
    }

    /// Changes a device and sets it up.
    pub fn set_up(&self, device: &str, settings: DeviceSettings) -> Result<(), Errno> {
        let no_arp = if settings.without_arp { libc::IFF_NOARP as u32 } else { 0 };
        let flags = libc::IFF_UP as u32 | no_arp;
        let mut request = Request::new(libc::RTM_NEWLINK, 0);
        request.interface(self.index(device)?, flags);
        for (kind, value) in
            [(libc::IFLA_MTU, settings.mtu_bytes), (libc::IFLA_TXQLEN, settings.queue_packets)]
        {
            if let Some(value) = value {
                request.attribute(kind, &value.to_ne_bytes());
            }
        }
        self.ask(request)
    }

    /// Gives a device an address; its network of `prefix_bits` is reached through it.
    pub fn add_address(
        &self,
        device: &str,
        address: Ipv4Addr,
        prefix_bits: u8,
    ) -> Result<(), Errno> {
        let mut request = Request::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        // struct ifaddrmsg: family, prefix, flags, scope, index.
        request.bytes.extend([libc::AF_INET as u8, prefix_bits, 0, 0]);
        request.bytes.extend(self.index(device)?.to_ne_bytes());
        request.attribute(libc::IFA_LOCAL, &address.octets());
        request.attribute(libc::IFA_ADDRESS, &address.octets());
        self.ask(request)
    }

    /// Makes two Ethernet devices that are connected to each other.
    pub fn create_veth(&self, one: VethEnd<'_>, other: VethEnd<'_>) -> Result<(), Errno> {
        /// VETH_INFO_PEER of include/uapi/linux/veth.h.
        const PEER: u16 = 1;
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        request.interface(0, 0);
        request.veth_end(one);
        request.nested(libc::IFLA_LINKINFO, |info| {
            info.attribute(libc::IFLA_INFO_KIND, b"veth");
            info.nested(libc::IFLA_INFO_DATA, |data| {
                data.nested(PEER, |peer| {
                    peer.interface(0, 0);
                    peer.veth_end(other);
                });
            });
        });
        self.ask(request)
    }

    /// Sends a request and waits for the kernel's verdict.
    fn ask(&self, request: Request) -> Result<(), Errno> {
        send(&self.socket, &request.finish(), SendFlags::empty())?;
        let mut answer = [0; 4_096];
        let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        // struct nlmsghdr (16 bytes), then struct nlmsgerr, which begins with a negative errno;
        // zero is consent. Nothing else can come on a socket that asked for nothing else.
        let verdict = answer.get(16..20).filter(|_| length >= 20).ok_or(Errno::BADMSG)?;
        match i32::from_ne_bytes(verdict.try_into().map_err(|_| Errno::BADMSG)?) {
            0 => Ok(()),
            errno => Err(Errno::from_raw_os_error(-errno)),
        }
    }
}

/// A message under construction. Attributes are 4 bytes of length and kind, then the value,
/// filled up to a multiple of 4.
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: i32) -> Request {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        let mut bytes = Vec::with_capacity(256);
        // The length, filled in at the end; kind; flags; sequence number; port.
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        Request { bytes }
    }

    /// struct ifinfomsg: family, padding, type, index, flags, and which flags are meant.
    fn interface(&mut self, index: u32, flags: u32) {
        self.bytes.extend([0; 4]);
        self.bytes.extend(index.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
    }

    fn veth_end(&mut self, end: VethEnd<'_>) {
        self.attribute(libc::IFLA_IFNAME, end.name.as_bytes());
        self.attribute(libc::IFLA_ADDRESS, &end.address);
        if let Some(network) = end.network {
            self.attribute(libc::IFLA_NET_NS_FD, &network.as_raw_fd().to_ne_bytes());
        }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |request| request.bytes.extend(value));
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Request)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}
