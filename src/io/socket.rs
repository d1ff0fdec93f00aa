//! UDP sockets with the options that ufx needs, and what the kernel really granted. How datagrams
//! get in and out is in `batch`; who may send to us, and what, is decided by the callers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Type};

use super::batch::{Offload, ReceiveOutcome, Receiving, SendOutcome, Sending};
use super::buffer::Buffer;
use super::sys::{self, SocketMemory};

/// Why a socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {address}: {source}")]
pub struct SocketError {
    /// What was tried, as in "cannot listen on".
    pub action: &'static str,
    /// Our address or the peer's, whichever `action` speaks of.
    pub address: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

impl SocketError {
    /// Whether another receiver, or another program, has the address.
    pub fn is_address_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// What a socket is asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Bytes of SO_RCVBUF to ask for. Default 8 MiB: what a fast link delivers while the reader
    /// is not scheduled for a few milliseconds. The kernel may grant less.
    pub receive_buffer_bytes: usize,
    /// Bytes of SO_SNDBUF to ask for. Default 8 MiB.
    pub send_buffer_bytes: usize,
    /// The best means to send and receive by. Default: segmentation.
    pub offload: Offload,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            receive_buffer_bytes: 8 << 20,
            send_buffer_bytes: 8 << 20,
            offload: Offload::default(),
        }
    }
}

/// The buffers that the kernel granted, as it counts them: it doubles what is asked for, and
/// charges its own overhead (a datagram of 1,472 bytes costs 2,304; merged ones less) to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What may be queued for reading.
    pub receive_bytes: usize,
    /// What may be queued for sending.
    pub send_bytes: usize,
}

/// A UDP socket. Never fragments, never blocks.
#[derive(Debug)]
pub struct Socket {
    inner: socket2::Socket,
    local: SocketAddr,
    peer: Option<SocketAddr>,
    granted: Granted,
    sending: Sending,
    receiving: Receiving,
}

impl Socket {
    /// A socket that takes anybody's datagrams at `address` and knows which of our addresses each
    /// was sent to. `[::]` takes IPv4 as well. Fails if the port is taken, by us or by others.
    pub fn listen(address: SocketAddr, options: &SocketOptions) -> Result<Socket, SocketError> {
        let failed = |source| SocketError { action: "listen on", address, source };
        // SO_REUSEPORT, which the sockets of transfers need, would let a second receiver take half
        // of the senders in silence. A bind without it fails instead.
        if address.port() != 0 {
            let probe = open(address).map_err(failed)?;
            probe.bind(&address.into()).map_err(failed)?;
        }
        let inner = open(address).map_err(failed)?;
        ask_for_local_address(&inner, address).map_err(failed)?;
        let granted = set_up(&inner, address, options).map_err(failed)?;
        inner.set_reuse_port(true).map_err(failed)?;
        inner.bind(&address.into()).map_err(failed)?;
        Socket::new(inner, None, granted, options).map_err(failed)
    }

    /// Listens on `port` of all our addresses, IPv6 and IPv4, or IPv4 alone where there is no IPv6.
    pub fn listen_everywhere(port: u16, options: &SocketOptions) -> Result<Socket, SocketError> {
        match Socket::listen((Ipv6Addr::UNSPECIFIED, port).into(), options) {
            Err(error) if lacks_family(&error.source) => {
                Socket::listen((Ipv4Addr::UNSPECIFIED, port).into(), options)
            }
            result => result,
        }
    }

    /// A socket for one peer of a listening socket: `local` is the address that the peer's first
    /// datagram came to. From now on the peer's datagrams come here. So may a few of others that
    /// arrived while the socket was made: compare `Arrival::from` with `peer_address`, and hand
    /// those on. They were sent to `local`.
    pub fn accept_from(
        local: SocketAddr,
        peer: SocketAddr,
        options: &SocketOptions,
    ) -> Result<Socket, SocketError> {
        let failed = |source| SocketError { action: "accept", address: peer, source };
        let inner = open(local).map_err(failed)?;
        let granted = set_up(&inner, local, options).map_err(failed)?;
        inner.set_reuse_port(true).map_err(failed)?;
        inner.bind(&local.into()).map_err(failed)?;
        inner.connect(&peer.into()).map_err(failed)?;
        Socket::new(inner, Some(peer), granted, options).map_err(failed)
    }

    /// A socket that talks to `peer` only, from a port of the kernel's choice. Whether somebody
    /// listens there is not known yet.
    pub fn connect(peer: SocketAddr, options: &SocketOptions) -> Result<Socket, SocketError> {
        let failed = |source| SocketError { action: "reach", address: peer, source };
        let inner = open(peer).map_err(failed)?;
        let granted = set_up(&inner, peer, options).map_err(failed)?;
        inner.connect(&peer.into()).map_err(failed)?;
        Socket::new(inner, Some(peer), granted, options).map_err(failed)
    }

    fn new(
        inner: socket2::Socket,
        peer: Option<SocketAddr>,
        granted: Granted,
        options: &SocketOptions,
    ) -> io::Result<Socket> {
        let local = inner.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        let receiving = Receiving::new(inner.as_fd(), options.offload, local.port(), peer);
        let sending = Sending::new(options.offload);
        Ok(Socket { inner, local, peer, granted, sending, receiving })
    }

    /// Our address; `[::]` or `0.0.0.0` where the socket listens on all of them.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The only peer, of a connected socket.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The buffers that the kernel granted.
    pub fn granted(&self) -> Granted {
        self.granted
    }

    /// The largest IP packet (headers included) that the route to the peer takes, as far as the
    /// kernel knows. Fails on a socket that is not connected.
    pub fn path_mtu(&self) -> Result<usize, Errno> {
        sys::path_mtu(self.inner.as_fd())
    }

    /// How full the queues are, and what the kernel dropped here.
    pub fn memory(&self) -> Result<SocketMemory, Errno> {
        sys::socket_memory(self.inner.as_fd())
    }

    /// The means to send by that are in use.
    pub fn send_offload(&self) -> Offload {
        self.sending.offload()
    }

    /// The means to receive by that are in use.
    pub fn receive_offload(&self) -> Offload {
        self.receiving.offload()
    }

    /// Datagrams that were received and lost, because they were longer than any before.
    pub fn cut(&self) -> u64 {
        self.receiving.cut()
    }

    /// Sends one datagram to the peer of a connected socket.
    pub fn send(&mut self, datagram: &[u8]) -> SendOutcome {
        self.send_segments(datagram, datagram.len().max(1))
    }

    /// Sends to the peer of a connected socket the datagrams that stand end to end in
    /// `datagrams`, each `segment_bytes` long but the last, which may be shorter.
    ///
    /// # Panics
    /// If `segment_bytes` is zero.
    pub fn send_segments(&mut self, datagrams: &[u8], segment_bytes: usize) -> SendOutcome {
        self.sending.send_segments(self.inner.as_fd(), datagrams, segment_bytes)
    }

    /// Sends one datagram from a listening socket to `to`, leaving from our address `from`
    /// (`Arrival::to` of what is answered; the kernel's choice if `None`).
    pub fn send_to(
        &mut self,
        datagram: &[u8],
        to: SocketAddr,
        from: Option<SocketAddr>,
    ) -> SendOutcome {
        let interface = match from {
            Some(SocketAddr::V6(from)) => from.scope_id(),
            _ => 0,
        };
        let family = self.local.ip();
        let from = from.map(|from| (in_family(from.ip(), family), interface));
        let to = match to {
            SocketAddr::V6(to) => to.into(),
            SocketAddr::V4(to) => SocketAddr::new(in_family((*to.ip()).into(), family), to.port()),
        };
        self.sending.send_to(self.inner.as_fd(), datagram, &SockAddr::from(to), from)
    }

    /// Receives what one system call brings into `buffer`, behind what it holds already.
    pub fn receive(&mut self, buffer: &mut Buffer) -> ReceiveOutcome {
        self.receiving.receive(self.inner.as_fd(), buffer)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Whether `address` is in a network of one of our interfaces, so that no router is on the way.
pub fn on_link(address: IpAddr) -> io::Result<bool> {
    let address = address.to_canonical();
    let networks = sys::interface_networks()?;
    Ok(networks.iter().any(|network| network.contains(&address)))
}

/// A socket of the family of `address`; for `[::]` one that takes IPv4 as well.
fn open(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Sets what all sockets have in common, before any datagram can arrive.
fn set_up(
    socket: &socket2::Socket,
    address: SocketAddr,
    options: &SocketOptions,
) -> io::Result<Granted> {
    let fd = socket.as_fd();
    // Don't fragment, and send what we are told to even if it is larger than the path is thought
    // to take: our own probes find that out (RFC 8899). An IPv6 socket may send IPv4.
    sys::set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    if address.is_ipv6() {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
        sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
    }
    ask_for_buffer(fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, options.receive_buffer_bytes)?;
    ask_for_buffer(fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, options.send_buffer_bytes)?;
    Ok(Granted {
        receive_bytes: socket.recv_buffer_size()?,
        send_bytes: socket.send_buffer_size()?,
    })
}

/// Asks for a buffer by `force`, which takes a privilege but knows no limit, else by `plain`,
/// which is silently cut to net.core.rmem_max or wmem_max.
fn ask_for_buffer(fd: BorrowedFd<'_>, force: i32, plain: i32, bytes: usize) -> io::Result<()> {
    // The kernel doubles the value, which must not overflow.
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX).min(i32::MAX / 2);
    sys::set_option(fd, libc::SOL_SOCKET, force, bytes)
        .or_else(|_| sys::set_option(fd, libc::SOL_SOCKET, plain, bytes))?;
    Ok(())
}

/// Makes the kernel say which of our addresses a datagram was sent to.
fn ask_for_local_address(socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
    let (level, name) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    Ok(sys::set_option(socket.as_fd(), level, name, 1)?)
}

/// `address` as a socket of the family of `family` writes it.
fn in_family(address: IpAddr, family: IpAddr) -> IpAddr {
    match (address, family) {
        (IpAddr::V4(address), IpAddr::V6(_)) => address.to_ipv6_mapped().into(),
        (address, _) => address,
    }
}

/// Whether the system has no IPv6, or none at the moment.
fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::buffer::{BufferPool, RECEIVE_BYTES};
    use super::super::wait::{Interest, wait};
    use super::*;

    /// One datagram: bytes, sender, and the address it was sent to.
    type Seen = (Vec<u8>, SocketAddr, Option<SocketAddr>);

    fn options() -> SocketOptions {
        SocketOptions { receive_buffer_bytes: 200_000, ..SocketOptions::default() }
    }

    fn listen(address: &str) -> Socket {
        Socket::listen(address.parse().unwrap(), &options()).unwrap()
    }

    /// What is in the socket's queue, waiting for a first datagram.
    fn receive(socket: &mut Socket) -> Vec<Seen> {
        let mut ready = Vec::new();
        let patience = Some(Duration::from_secs(10));
        wait(&[Interest::Read(socket.as_fd())], patience, &mut ready).unwrap();
        assert_eq!(ready, [0], "nothing came");
        let mut buffer = BufferPool::new(1, 4 * RECEIVE_BYTES).take().unwrap();
        while socket.receive(&mut buffer) != ReceiveOutcome::Empty {}
        let seen = |datagram: super::super::buffer::Datagram<'_>| {
            (datagram.bytes.to_vec(), datagram.arrival.from, datagram.arrival.to)
        };
        buffer.datagrams().map(seen).collect()
    }

    #[test]
    fn a_second_listener_on_the_port_fails_and_says_so() {
        for (first, second) in [
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[::]", "[::]"),
            ("[::]", "0.0.0.0"),
            ("0.0.0.0", "[::]"),
            ("[::]", "127.0.0.1"),
        ] {
            let first = listen(&format!("{first}:0"));
            let port = first.local_address().port();
            let second = format!("{second}:{port}").parse().unwrap();

            let error = Socket::listen(second, &options()).unwrap_err();

            assert!(error.is_address_in_use(), "{error}");
            assert!(error.to_string().starts_with(&format!("cannot listen on {second}: ")));
        }
    }

    #[test]
    fn an_accepted_socket_gets_its_peers_datagrams_and_the_listener_all_others() {
        for (bound, ip) in [
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("[::]", "127.0.0.1"),
            ("[::]", "::1"),
        ] {
            let mut listener = listen(&format!("{bound}:0"));
            let ip: IpAddr = ip.parse().unwrap();
            let port = listener.local_address().port();
            let mut peers = Vec::new();
            for round in 0..32_u8 {
                let mut peer = Socket::connect((ip, port).into(), &options()).unwrap();
                peer.send(&[round]);
                let seen = receive(&mut listener);
                let local = SocketAddr::new(ip, port);
                assert_eq!(
                    seen,
                    [(vec![round], peer.local_address(), Some(local))],
                    "{bound} {ip}"
                );

                let accepted = Socket::accept_from(local, seen[0].1, &options()).unwrap();
                assert_eq!(accepted.peer_address(), Some(peer.local_address()));
                assert_eq!(accepted.local_address(), local);
                peers.push((peer, accepted));
            }
            for (round, (peer, accepted)) in peers.iter_mut().enumerate() {
                peer.send(b"to the accepted socket");
                let seen = receive(accepted);
                assert_eq!(
                    seen,
                    [(b"to the accepted socket".to_vec(), peer.local_address(), None)]
                );
                assert_eq!(accepted.send(&[round as u8]), SendOutcome::Sent);
                assert_eq!(receive(peer)[0].0, [round as u8]);
            }
        }
    }

    #[test]
    fn a_listeners_answer_leaves_from_the_address_that_was_asked() {
        for (bound, asked) in [
            ("0.0.0.0", "127.0.0.7"),
            ("[::]", "127.0.0.7"),
            ("[::]", "::1"),
            ("127.0.0.1", "127.0.0.1"),
        ] {
            let mut listener = listen(&format!("{bound}:0"));
            let asked: IpAddr = asked.parse().unwrap();
            let address = SocketAddr::new(asked, listener.local_address().port());
            let mut peer = Socket::connect(address, &options()).unwrap();
            peer.send(b"question");
            let (_, from, to) = receive(&mut listener).remove(0);
            assert_eq!(to, Some(address));

            assert_eq!(listener.send_to(b"answer", from, to), SendOutcome::Sent);

            // A connected socket takes datagrams of that very address only.
            assert_eq!(receive(&mut peer), [(b"answer".to_vec(), address, None)]);
        }
    }

    #[test]
    fn link_local_addresses_keep_their_interface() {
        let own = sys::interface_networks().unwrap().into_iter().find_map(|network| {
            let IpAddr::V6(address) = network.addr() else {
                return None;
            };
            address.is_unicast_link_local().then_some(address)
        });
        let Some(address) = own else {
            return eprintln!("skipped: no interface has a link-local IPv6 address");
        };
        let mut listener = Socket::listen_everywhere(0, &options()).unwrap();
        let port = listener.local_address().port();
        // The index of its interface is not told: one of them works.
        let target = |index| std::net::SocketAddrV6::new(address, port, 0, index).into();
        let connected = (1..100).find_map(|index| {
            let mut peer = Socket::connect(target(index), &options()).ok()?;
            (peer.send(b"hello") == SendOutcome::Sent).then_some((peer, index))
        });
        let (mut peer, index) = connected.unwrap();

        let (_, from, to) = receive(&mut listener).remove(0);
        assert_eq!((from, to), (peer.local_address(), Some(target(index))));
        assert_eq!(listener.send_to(b"welcome", from, to), SendOutcome::Sent);
        assert_eq!(receive(&mut peer)[0].0, b"welcome");
        let mut accepted = Socket::accept_from(target(index), from, &options()).unwrap();
        peer.send(b"start");
        assert_eq!(receive(&mut accepted)[0].0, b"start");
    }

    #[test]
    fn granted_buffers_are_what_the_kernel_counts() {
        let asked = SocketOptions {
            receive_buffer_bytes: 65_536,
            send_buffer_bytes: 32_768,
            ..SocketOptions::default()
        };
        let socket = Socket::listen("127.0.0.1:0".parse().unwrap(), &asked).unwrap();
        let granted = Granted { receive_bytes: 131_072, send_bytes: 65_536 };
        assert_eq!(socket.granted(), granted);
        let memory = socket.memory().unwrap();
        assert_eq!((memory.receive_limit_bytes, memory.send_limit_bytes), (131_072, 65_536));
    }

    #[test]
    fn buffers_beyond_any_limit_are_granted_in_part() {
        let asked = SocketOptions {
            receive_buffer_bytes: usize::MAX,
            send_buffer_bytes: 0,
            ..SocketOptions::default()
        };
        let socket = Socket::listen("[::1]:0".parse().unwrap(), &asked).unwrap();
        assert!(socket.granted().receive_bytes >= 65_536);
        assert!(socket.granted().send_bytes > 0);
    }

    #[test]
    fn a_full_receive_queue_is_visible() {
        let small = SocketOptions { receive_buffer_bytes: 4_096, ..SocketOptions::default() };
        let mut listener = Socket::listen("127.0.0.1:0".parse().unwrap(), &small).unwrap();
        let mut sender = Socket::connect(listener.local_address(), &options()).unwrap();
        assert_eq!(listener.memory().unwrap().drops, 0);
        for _ in 0..20 {
            sender.send(&[0; 1_400]);
        }
        assert!(listener.memory().unwrap().receive_queued_bytes > 0);
        let mut received = 0;
        loop {
            let drops = listener.memory().unwrap().drops as usize;
            if received + drops == 20 {
                assert!(drops > 0);
                break;
            }
            received += receive(&mut listener).len();
        }
    }

    #[test]
    fn packets_are_never_fragmented() {
        for ip in ["127.0.0.1", "::1"] {
            let listener = Socket::listen((ip.parse::<IpAddr>().unwrap(), 0).into(), &options());
            let listener = listener.unwrap();
            let socket = Socket::connect(listener.local_address(), &options()).unwrap();
            for fd in [listener.as_fd(), socket.as_fd()] {
                let option = |level, name| sys::option(fd, level, name).unwrap();
                assert_eq!(
                    option(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
                    libc::IP_PMTUDISC_PROBE
                );
                if listener.local_address().is_ipv6() {
                    assert_eq!(
                        option(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
                        libc::IPV6_PMTUDISC_PROBE
                    );
                    assert_eq!(option(libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG), 1);
                }
            }
        }
    }

    #[test]
    fn the_loopback_path_takes_packets_of_64_kib() {
        // The interface takes 65,536 bytes, but an IPv4 packet cannot be longer than 65,535.
        for (address, mtu) in [("127.0.0.1:9", 65_535), ("[::1]:9", 65_536)] {
            let socket = Socket::connect(address.parse().unwrap(), &options()).unwrap();
            assert_eq!(socket.path_mtu().unwrap(), mtu);
        }
        assert!(listen("127.0.0.1:0").path_mtu().is_err());
    }

    #[test]
    fn neighbours_are_on_link_and_the_internet_is_not() {
        let on_link = |address: &str| on_link(address.parse().unwrap()).unwrap();
        assert!(on_link("127.8.9.10"));
        assert!(on_link("::ffff:127.0.0.1"));
        assert!(on_link("::1"));
        assert!(!on_link("203.0.113.1"));
        assert!(!on_link("2001:db8::1"));
    }
}
