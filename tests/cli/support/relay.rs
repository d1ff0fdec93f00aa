//! A link in user space: datagrams of any number of senders go through it to one receiver and
//! back, and on the way some are lost, and senders get other ports, as from a NAT that forgot them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::content::Random;

/// How often the wishes of the test are looked at while nothing comes.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What the test wants of the link, and what it has done.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    /// Of 1,000 datagrams in each direction, so many are lost.
    loss_per_mille: AtomicU64,
    /// Whether all senders are to get other ports.
    rebinds: AtomicBool,
    /// Whether all senders are gone.
    forgets: AtomicBool,
    lost: AtomicU64,
    rebound: AtomicU64,
}

/// The link, until it is dropped.
pub struct Relay {
    /// Where senders send to.
    pub port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// A link without loss to the receiver at `port`.
    pub fn start(port: u16, seed: u64) -> Relay {
        let front = socket();
        let relay_port = front.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let link = Link {
            front,
            to: SocketAddr::from(([127, 0, 0, 1], port)),
            senders: BTreeMap::new(),
            random: Random::new(seed),
            shared: Arc::clone(&shared),
            buffer: vec![0; 1 << 16],
        };
        let thread = Some(std::thread::spawn(move || link.run()));
        Relay { port: relay_port, shared, thread }
    }

    /// From now on so many of 1,000 datagrams are lost in each direction.
    pub fn lose(&self, per_mille: u64) {
        self.shared.loss_per_mille.store(per_mille, Ordering::Relaxed);
    }

    /// Gives all senders other ports. What was under way to the old ones is lost.
    pub fn rebind(&self) {
        self.shared.rebinds.store(true, Ordering::Relaxed);
    }

    /// Gives up the ports of all senders: none of them is there any more.
    pub fn forget(&self) {
        self.shared.forgets.store(true, Ordering::Relaxed);
    }

    /// Datagrams lost, and senders that got another port.
    pub fn counts(&self) -> [u64; 2] {
        [&self.shared.lost, &self.shared.rebound].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Link {
    front: UdpSocket,
    to: SocketAddr,
    /// Each sender's socket towards the receiver.
    senders: BTreeMap<SocketAddr, UdpSocket>,
    random: Random,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
}

impl Link {
    fn run(mut self) {
        while !self.shared.is_over.load(Ordering::Relaxed) {
            if self.shared.forgets.swap(false, Ordering::Relaxed) {
                self.senders.clear();
            }
            if self.shared.rebinds.swap(false, Ordering::Relaxed) {
                let senders: Vec<SocketAddr> = self.senders.keys().copied().collect();
                self.shared.rebound.fetch_add(senders.len() as u64, Ordering::Relaxed);
                for sender in senders {
                    self.senders.insert(sender, self.upstream());
                }
            }
            let sockets = std::iter::once(&self.front).chain(self.senders.values());
            let mut polled: Vec<_> =
                sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
            let _ = poll(&mut polled, Some(&INTERVAL));
            let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
            if ready.first() == Some(&true) {
                self.forward();
            }
            let senders: Vec<SocketAddr> = self.senders.keys().copied().collect();
            for (sender, _) in senders.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
                self.back(*sender);
            }
        }
    }

    fn upstream(&self) -> UdpSocket {
        let socket = socket();
        socket.connect(self.to).unwrap();
        socket
    }

    fn is_lost(&mut self) -> bool {
        let is_lost = self.random.below(1_000) < self.shared.loss_per_mille.load(Ordering::Relaxed);
        self.shared.lost.fetch_add(u64::from(is_lost), Ordering::Relaxed);
        is_lost
    }

    /// What senders have sent. A full queue loses the rest, as everywhere.
    fn forward(&mut self) {
        while let Ok((bytes, sender)) = self.front.recv_from(&mut self.buffer) {
            if self.is_lost() {
                continue;
            }
            if !self.senders.contains_key(&sender) {
                let upstream = self.upstream();
                self.senders.insert(sender, upstream);
            }
            let _ = self.senders[&sender].send(&self.buffer[..bytes]);
        }
    }

    /// What the receiver has sent to `sender`.
    fn back(&mut self, sender: SocketAddr) {
        loop {
            let received = self.senders[&sender].recv(&mut self.buffer);
            match received {
                Ok(bytes) if !self.is_lost() => {
                    let _ = self.front.send_to(&self.buffer[..bytes], sender);
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Nobody is there any more: the note is read, and that is all.
                Err(_) => return,
            }
        }
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}
