//! TCP for those who measure the path (proto.md, "Handshake", DISCARD): takes connections from the
//! hosts of such transfers, drops what comes, and answers how much it was. Nothing listens while
//! there is no such transfer. Leaves to the caller whose transfers are accepted.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Type};

use crate::io::clock::Clock;
use crate::io::wait::{Interest, wait};
use crate::proto::Time;

/// How long a host may connect after its last transfer.
const STAY: Duration = Duration::from_secs(30);

/// How often the thread looks whether anybody may still connect.
const LOOK: Duration = Duration::from_secs(1);

/// A connection that brings nothing for so long is closed.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A connection is closed after so long, whatever it brings: others wait.
const CONNECTION_MAX: Duration = Duration::from_secs(600);

/// Connections that may wait.
const BACKLOG: i32 = 4;

/// Read at once, as the plain copies of `ufx bench` do.
const READ_BYTES: usize = 256 << 10;

/// Held by a transfer: its host may connect until it is dropped, and for a while after.
pub type Visit = Arc<()>;

/// See the module's description.
#[derive(Debug)]
pub struct Drain {
    clock: Clock,
    address: SocketAddr,
    guests: Arc<Mutex<Guests>>,
}

#[derive(Debug, Default)]
struct Guests {
    /// At most one of each address.
    list: Vec<Guest>,
    /// A thread listens.
    is_open: bool,
}

/// A host that may connect.
#[derive(Debug)]
struct Guest {
    address: IpAddr,
    visit: Weak<()>,
    until: Time,
}

impl Drain {
    /// Will listen at `address`, for whom [`Drain::welcome`] names.
    pub fn new(clock: Clock, address: SocketAddr) -> Drain {
        Drain { clock, address, guests: Arc::default() }
    }

    /// Lets a host connect. Where the port cannot be had it finds nobody there, which it can tell.
    pub fn welcome(&self, address: IpAddr) -> Visit {
        let address = address.to_canonical();
        let until = self.clock.now() + STAY;
        let mut guests = lock(&self.guests);
        let visit = match guests.list.iter_mut().find(|guest| guest.address == address) {
            Some(guest) => {
                let visit = guest.visit.upgrade().unwrap_or_default();
                *guest = Guest { address, visit: Arc::downgrade(&visit), until };
                visit
            }
            None => {
                let visit = Visit::default();
                guests.list.push(Guest { address, visit: Arc::downgrade(&visit), until });
                visit
            }
        };
        if !guests.is_open {
            guests.is_open = self.open().is_ok();
        }
        visit
    }

    fn open(&self) -> io::Result<()> {
        let listener = listen(self.address)?;
        let (clock, guests) = (self.clock, Arc::downgrade(&self.guests));
        let name = "ufx measure".to_owned();
        thread::Builder::new().name(name).spawn(move || serve(listener, clock, &guests))?;
        Ok(())
    }
}

fn lock(guests: &Mutex<Guests>) -> MutexGuard<'_, Guests> {
    // Nobody panics while holding it; a list is whole at any moment.
    guests.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // As the UDP socket: IPv4, too, where all addresses are meant.
        socket.set_only_v6(false)?;
    }
    // A connection that was closed a moment ago must not keep the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Takes connections until nobody may connect any more, or the receiver is gone.
fn serve(listener: TcpListener, clock: Clock, guests: &Weak<Mutex<Guests>>) {
    loop {
        // A failing poll would only make this loop spin until the last guest is gone.
        let _ = wait(&[Interest::Read(listener.as_fd())], Some(LOOK), &mut Vec::new());
        let Some(guests) = guests.upgrade() else { return };
        let connection = listener.accept();
        let mut guests = lock(&guests);
        let now = clock.now();
        guests.list.retain_mut(|guest| {
            if guest.visit.strong_count() > 0 {
                guest.until = now + STAY;
            }
            guest.until > now
        });
        if guests.list.is_empty() {
            // Before anybody else can look: who comes next must be able to have the port.
            drop(listener);
            guests.is_open = false;
            return;
        }
        let is_guest = |from: SocketAddr| {
            guests.list.iter().any(|guest| guest.address == from.ip().to_canonical())
        };
        let taken = connection.ok().filter(|&(_, from)| is_guest(from));
        drop(guests);
        if let Some((stream, _)) = taken {
            // The other end sees that it was closed without an answer.
            let _ = drain(stream, clock);
        }
    }
}

/// Reads to the end and answers how much it was.
fn drain(mut stream: TcpStream, clock: Clock) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let until = clock.now() + CONNECTION_MAX;
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0_u64;
    while clock.now() < until {
        match stream.read(&mut buffer) {
            Ok(0) => return stream.write_all(&bytes.to_be_bytes()),
            Ok(length) => bytes += length as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Shutdown};

    use super::*;

    const GUEST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A drain on a port that was free a moment ago.
    fn drain_somewhere() -> Drain {
        let probe = TcpListener::bind((GUEST, 0)).unwrap();
        Drain::new(Clock::start(), probe.local_addr().unwrap())
    }

    //= proto.md#handshake
    //= type=test
    //# It MUST drop those that do not come from the transfer's
    //# IP address.
    #[test]
    fn only_a_guest_is_answered_and_nobody_listens_before_one_comes() {
        let drain = drain_somewhere();
        assert!(TcpStream::connect(drain.address).is_err(), "nobody listens yet");
        let visit = drain.welcome("127.0.0.2".parse().unwrap());
        let mut stranger = TcpStream::connect(drain.address).unwrap();
        let answer = stranger.read(&mut [0; 8]);
        assert!(matches!(answer, Ok(0) | Err(_)), "{answer:?}");

        let again = drain.welcome(GUEST);
        assert_eq!(lock(&drain.guests).list.len(), 2);
        let mut guest = TcpStream::connect(drain.address).unwrap();
        guest.write_all(&[7; 300_001]).unwrap();
        guest.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        guest.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, 300_001_u64.to_be_bytes());
        drop((visit, again));
    }

    #[test]
    fn a_host_is_on_the_list_once_however_often_it_comes() {
        let drain = drain_somewhere();
        let first = drain.welcome(GUEST);
        let second = drain.welcome("::ffff:127.0.0.1".parse().unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        drop((first, second));
        let _third = drain.welcome(GUEST);
        assert_eq!(lock(&drain.guests).list.len(), 1);
    }
}
