//! Where an emulated link meets a host: IP packets go in and come out here, one by one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::io::sys::packet::PacketSocket;

/// The wire side of a host's network device.
#[derive(Debug)]
pub enum Port {
    /// A TUN device.
    Tun(OwnedFd),
    /// A packet socket on the far end of a veth pair.
    Packets(PacketSocket),
}

impl Port {
    /// Takes a packet that the host sent; `AGAIN` when there is none.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Port::Tun(device) => rustix::io::read(device, buffer),
            Port::Packets(socket) => socket.receive(buffer),
        }
    }

    /// Hands the host a packet.
    pub fn write(&self, packet: &[u8]) -> Result<(), Errno> {
        match self {
            Port::Tun(device) => rustix::io::write(device, packet).map(|_| ()),
            Port::Packets(socket) => socket.send(packet),
        }
    }

    /// Packets of the host that were dropped before they could be read, since last asked. (A TUN
    /// device counts its own as the device's.)
    pub fn drops(&self) -> u64 {
        match self {
            Port::Tun(_) => 0,
            Port::Packets(socket) => socket.drops().map_or(0, u64::from),
        }
    }

    /// How it is reached, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Port::Tun(_) => "TUN",
            Port::Packets(_) => "veth with packet sockets",
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Port::Tun(device) => device.as_fd(),
            Port::Packets(socket) => socket.as_fd(),
        }
    }
}
