//! Two hosts on one machine: network namespaces, and what connects them. Everything in a lab
//! lives as long as its descriptors, so nothing is left when the process ends, however it ends.
//!
//! What happens to packets between the hosts is for `emulator`; what runs on them, for `contest`.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, LinkNameSpaceType, move_into_link_name_space};

use super::netlink::{DeviceSettings, Netlink, VethEnd};
use super::port::Port;
use crate::io::sys::namespace::{self, DeviceOffload};
use crate::io::sys::packet::PacketSocket;

/// The largest IP packet on an emulated link: Ethernet's (RFC 894).
pub const MTU_BYTES: usize = 1_500;

/// Packets that may wait in a TUN device until the emulator reads them: 0.2 s at 1 Gbit/s. It
/// must never fill, because what it drops, no seed has named.
const DEVICE_QUEUE_PACKETS: u32 = 16_384;

/// Bytes that may wait in a packet socket, for the same reason.
const PACKET_BUFFER_BYTES: i32 = 32 << 20;

/// The hosts' network: private (RFC 1918), and nobody outside the namespaces sees it.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2)];
const PREFIX_BITS: u8 = 24;

/// What the devices of a host are called; names count within a namespace only.
const DEVICE: &str = "ufx0";
const OUTER_DEVICE: &str = "ufx1";

/// Ethernet addresses of a host's device and of the one behind it, from the local range.
const ETHERNET_ADDRESSES: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

/// Why no lab can be built here.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// No rights, and no way to get them.
    #[error("cannot make a user namespace: {0}")]
    UserNamespace(Errno),
    /// The user namespace was made, but its user got no name in it.
    #[error("cannot write {path}: {error}")]
    UserMap {
        /// The file that would not take it.
        path: &'static str,
        /// Why.
        error: io::Error,
    },
    /// No network namespace.
    #[error("cannot make a network namespace: {0}")]
    Network(Errno),
    /// Neither TUN nor veth works.
    #[error("cannot make a network device: /dev/net/tun says {tun}, and veth says {veth}")]
    Device {
        /// Why there is no TUN device.
        tun: Errno,
        /// Why there is no pair of Ethernet devices.
        veth: Errno,
    },
    /// A step that nothing special is known about.
    #[error("cannot {step}: {error}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

impl LabError {
    /// What the user may run to have it work.
    pub fn advice(&self) -> &'static str {
        match self {
            LabError::UserNamespace(_) | LabError::UserMap { .. } => {
                "allow user namespaces (sysctl user.max_user_namespaces=10000, and where they \
                 exist kernel.unprivileged_userns_clone=1 and \
                 kernel.apparmor_restrict_unprivileged_userns=0), or run it with sudo; in a \
                 container, start that with --privileged"
            }
            LabError::Network(_) => {
                "run it with sudo; in a container, start that with --privileged; on Ubuntu also: \
                 sysctl kernel.apparmor_restrict_unprivileged_userns=0"
            }
            LabError::Device { .. } => "run as root: modprobe tun, or modprobe veth",
            LabError::Step { .. } => "run it with sudo",
        }
    }
}

/// Gets the calling process the rights to build labs, if need be in a user namespace of its own.
/// For that it must have one thread only, and it cannot go back.
///
/// # Errors
/// The process has no rights and user namespaces are closed.
pub fn acquire_rights() -> Result<Rights, LabError> {
    let needed = CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
    let held = rustix::thread::capabilities(None);
    if held.is_ok_and(|held| held.effective.contains(needed)) {
        return Ok(Rights::Root);
    }
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    namespace::enter_new_user_namespace().map_err(LabError::UserNamespace)?;
    for (path, text) in [
        // Without this the kernel lets nobody without rights map a group.
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ] {
        fs::write(path, text).map_err(|error| LabError::UserMap { path, error })?;
    }
    Ok(Rights::UserNamespace)
}

/// Where the rights to build labs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// The process had them.
    Root,
    /// It is root in a user namespace of its own.
    UserNamespace,
}

/// A host: a network namespace.
#[derive(Debug)]
pub struct Host {
    network: OwnedFd,
    /// Where others reach it.
    pub address: Ipv4Addr,
}

impl Host {
    /// A namespace whose loopback device is up.
    fn new(address: Ipv4Addr) -> Result<Host, LabError> {
        let made = thread::spawn(|| {
            namespace::enter_new_network().map_err(LabError::Network)?;
            let network = own_network()?;
            step("set the loopback device up", || {
                Netlink::open()?.set_up("lo", DeviceSettings::default())
            })?;
            Ok(network)
        });
        Ok(Host { network: made.join().map_err(|_| thread_lost())??, address })
    }

    /// Runs `work` on a thread that is on this host.
    pub fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, LabError> + Send,
    ) -> Result<T, LabError> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                self.enter()?;
                work()
            });
            worker.join().map_err(|_| thread_lost())?
        })
    }

    /// Moves the calling thread, and the processes it starts from now on, to this host.
    pub fn enter(&self) -> Result<(), LabError> {
        step("enter a network namespace", || {
            move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))
        })
    }

    /// A TUN device, or where that is closed a veth pair with a packet socket behind it.
    fn open_port(&self) -> Result<Port, LabError> {
        self.run(|| {
            let tun = match namespace::create_tun(DEVICE) {
                Ok(device) => {
                    self.set_device_up()?;
                    return Ok(Port::Tun(device));
                }
                Err(errno) => errno,
            };
            match self.create_tapped_veth() {
                Ok(socket) => {
                    self.set_device_up()?;
                    Ok(Port::Packets(socket))
                }
                Err(veth) => Err(LabError::Device { tun, veth }),
            }
        })
    }

    /// Ethernet without offloads, so that the socket sees packets as a wire would.
    fn create_tapped_veth(&self) -> Result<PacketSocket, Errno> {
        let netlink = Netlink::open()?;
        let [address, outer_address] = ETHERNET_ADDRESSES;
        netlink.create_veth(
            VethEnd { name: DEVICE, address, network: None },
            VethEnd { name: OUTER_DEVICE, address: outer_address, network: None },
        )?;
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        for device in [DEVICE, OUTER_DEVICE] {
            for offload in [
                DeviceOffload::SendChecksum,
                DeviceOffload::TcpSegmentation,
                DeviceOffload::Segmentation,
                DeviceOffload::Merging,
            ] {
                namespace::switch_offload_off(&socket, device, offload)?;
            }
        }
        let settings = DeviceSettings { without_arp: true, ..DeviceSettings::default() };
        netlink.set_up(OUTER_DEVICE, settings)?;
        PacketSocket::open(netlink.index(OUTER_DEVICE)?, address, PACKET_BUFFER_BYTES)
    }

    fn set_device_up(&self) -> Result<(), LabError> {
        step("set a network device up", || {
            let netlink = Netlink::open()?;
            let settings = DeviceSettings {
                mtu_bytes: Some(MTU_BYTES as u32),
                queue_packets: Some(DEVICE_QUEUE_PACKETS),
                without_arp: true,
            };
            netlink.set_up(DEVICE, settings)?;
            netlink.add_address(DEVICE, self.address, PREFIX_BITS)
        })
    }

    /// Packets that the host's device dropped instead of carrying them.
    pub fn device_drops(&self) -> Result<u64, LabError> {
        let path = "/proc/thread-self/net/dev";
        let table = self.run(|| {
            fs::read_to_string(path)
                .map_err(|error| LabError::Step { step: "read the device's counters", error })
        })?;
        Ok(table.lines().filter(|line| !line.trim_start().starts_with("lo:")).map(drops).sum())
    }
}

/// Two hosts and what connects them.
#[derive(Debug)]
pub struct Lab {
    /// The host that sends files.
    pub sender: Host,
    /// The host that receives them, unless both are one.
    receiver: Option<Host>,
    /// The devices of an emulated link, the sender's first.
    pub ports: Option<[Port; 2]>,
}

impl Lab {
    /// Two hosts whose devices a program carries the packets between.
    pub fn emulated() -> Result<Lab, LabError> {
        let [sender, receiver] = [Host::new(ADDRESSES[0])?, Host::new(ADDRESSES[1])?];
        let ports = [sender.open_port()?, receiver.open_port()?];
        Ok(Lab { sender, receiver: Some(receiver), ports: Some(ports) })
    }

    /// Two hosts with a pair of Ethernet devices, all offloads on.
    pub fn veth() -> Result<Lab, LabError> {
        let [sender, receiver] = [Host::new(ADDRESSES[0])?, Host::new(ADDRESSES[1])?];
        let [address, other_address] = ETHERNET_ADDRESSES;
        sender.run(|| {
            step("make a pair of Ethernet devices", || {
                let other_network = Some(receiver.network.as_fd());
                Netlink::open()?.create_veth(
                    VethEnd { name: DEVICE, address, network: None },
                    VethEnd { name: DEVICE, address: other_address, network: other_network },
                )
            })
        })?;
        for host in [&sender, &receiver] {
            host.run(|| {
                step("set a network device up", || {
                    let netlink = Netlink::open()?;
                    netlink.set_up(DEVICE, DeviceSettings::default())?;
                    netlink.add_address(DEVICE, host.address, PREFIX_BITS)
                })
            })?;
        }
        Ok(Lab { sender, receiver: Some(receiver), ports: None })
    }

    /// One host that talks to itself.
    pub fn loopback() -> Result<Lab, LabError> {
        Ok(Lab { sender: Host::new(Ipv4Addr::LOCALHOST)?, receiver: None, ports: None })
    }

    /// The host that receives files.
    pub fn receiver(&self) -> &Host {
        self.receiver.as_ref().unwrap_or(&self.sender)
    }
}

/// The namespace of the calling thread.
fn own_network() -> Result<OwnedFd, LabError> {
    step("open a network namespace", || {
        rustix::fs::open(
            "/proc/thread-self/ns/net",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    })
}

/// The dropped packets in a line of net/dev: `name: bytes packets errs drop ...`, eight figures
/// for what came in, then the same for what went out.
fn drops(line: &str) -> u64 {
    let Some((_, figures)) = line.split_once(':') else { return 0 };
    let figures: Vec<u64> =
        figures.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    let drops = |position: usize| figures.get(position).copied().unwrap_or(0);
    drops(3) + drops(11)
}

fn step<T>(step: &'static str, work: impl FnOnce() -> Result<T, Errno>) -> Result<T, LabError> {
    work().map_err(|errno| LabError::Step { step, error: errno.into() })
}

fn thread_lost() -> LabError {
    LabError::Step { step: "run a thread", error: io::Error::other("it ended by itself") }
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.network.as_fd()
    }
}
