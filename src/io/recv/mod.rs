//! Drives many `proto::Receiver`s: one thread for the network of all transfers, one writing
//! thread a transfer.
//!
//! The data's way: socket -> buffer -> runs of packets -> the machine says where they belong ->
//! job for the writing thread, which owns the buffer until the bytes are in the file. `transfer`
//! is one transfer on the network thread, `sink` its writing end, `incoming` one file of it,
//! `output` what hands one on instead, `writer` the thread of that, `job` what they say to each
//! other, `policy` who may send, `drain` TCP for who measures, `ends` and `outcome` how it ended.

mod address;
mod drain;
mod ends;
mod incoming;
mod job;
mod options;
mod outcome;
mod output;
mod patience;
mod policy;
mod sink;
mod tempo;
mod transfer;
mod writer;
mod writing_end;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ipnet::IpNet;

use self::address::{peer_bytes, with_scope};
use self::drain::Drain;
use self::options::SinkOptions;
use self::patience::{Patience, SILENT_HOLDER, Waiting};
use self::tempo::Tempo;
use self::transfer::{BUFFERS_SHARED, SLAB_BYTES, Transfer};
use super::batch::ReceiveOutcome;
use super::buffer::{Arrival, Buffer, BufferPool};
use super::clock::Clock;
use super::confine::Root;
use super::descriptors::Descriptors;
use super::entropy::unpredictable;
use super::existing::OnExisting;
use super::metadata::ModePolicy;
use super::name::Links;
use super::report::{Counters, Report};
use super::socket::{Socket, SocketOptions};
use super::stop::Stop;
use super::sys::give_back_what_is_freed;
use super::wait::{Doorbell, Interest, doze, set_shortest_timer_slack, wait};
use crate::proto::{Admission, Receiver, ReceiverConfig, Time};
use crate::wire::{CloseCode, FrameType, limits, peek};

pub use self::outcome::RecvError;

/// Transfers at one time; more are told to come later.
const TRANSFERS_MAX: usize = 256;

/// Receives from one socket before the others have their turn.
const RECEIVES_PER_TURN: usize = 8;

/// The kernel's drop counters are read so often.
const DROPS_INTERVAL: Duration = Duration::from_millis(10);

/// How long a receiver that goes on listening keeps the result of a transfer for a sender that
/// does not confirm it: one with a longer `--timeout` learns of it after a cut.
const LINGER: Duration = Duration::from_secs(60);

/// How to receive.
#[derive(Clone, Debug)]
pub struct RecvRequest {
    /// The receive directory.
    pub root: Arc<Root>,
    /// Where the one file of a transfer is handed on to, in order, instead of storing it. Needs
    /// `once`.
    pub output: Option<Arc<OwnedFd>>,
    /// Where to listen; none for everywhere.
    pub bind: Option<SocketAddr>,
    /// The port, 0 for any.
    pub port: u16,
    /// End after one transfer.
    pub once: bool,
    /// Who may send beside local networks.
    pub allow: Vec<IpNet>,
    /// Make files safe against a power cut before they count as committed.
    pub fsync: bool,
    /// Which symbolic links are taken.
    pub links: Links,
    /// What becomes of what has another's name.
    pub existing: OnExisting,
    /// Keep owners and extended attributes.
    pub archive: bool,
    /// What to ask of the socket.
    pub socket: SocketOptions,
    /// Silence that ends a transfer.
    pub timeout: Duration,
}

/// What the receiver tells while it runs.
pub trait Watcher {
    /// It listens there.
    fn listening(&mut self, address: SocketAddr, receive_buffer_bytes: usize);
    /// A sender was turned away.
    fn turned_away(&mut self, peer: SocketAddr);
    /// A transfer began.
    fn began(&mut self, peer: SocketAddr);
    /// A transfer is over.
    fn ended(&mut self, report: Report, result: Result<(), RecvError>);
}

/// How the receiver itself ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// After its one transfer.
    Once,
    /// By a signal, with nothing under way.
    Idle,
    /// By a signal, with transfers cut.
    Cut,
}

/// The receiver.
struct Server<'a> {
    request: &'a RecvRequest,
    clock: Clock,
    listener: Socket,
    drain: Drain,
    /// What comes to the listener: one buffer, as nothing keeps it beyond its turn.
    pool: BufferPool,
    /// What all transfers draw on beyond what each has for itself.
    shared: BufferPool,
    /// Goes with jobs that need no bytes.
    reserve: Arc<Buffer>,
    admission: Admission,
    config: ReceiverConfig,
    modes: ModePolicy,
    doorbell: Arc<Doorbell>,
    waiting: Arc<Waiting>,
    descriptors: Arc<Descriptors>,
    transfers: Vec<Transfer>,
    counters: &'a Counters,
    tempo: Tempo,
    drops_at: Time,
    finished_bytes: u64,
}

/// Receives until stopped, or once.
///
/// # Errors
/// The receiver could not listen. Errors of transfers go to `watcher`.
pub fn receive(
    request: &RecvRequest,
    counters: &Counters,
    stop: &Stop<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Ended, RecvError> {
    let listener = match request.bind {
        Some(address) => Socket::listen(address, &request.socket)?,
        None => Socket::listen_everywhere(request.port, &request.socket)?,
    };
    let descriptors = Arc::new(Descriptors::of_process(request.root.as_directory()));
    if !request.once {
        // One transfer is soon over, and blocks for standard output are faster from the heap.
        give_back_what_is_freed();
    }
    // Without it every doze would last 50 us longer: slower, not wrong.
    let _ = set_shortest_timer_slack();
    let clock = Clock::start();
    let now = clock.now();
    let granted = listener.granted().receive_bytes;
    let defaults = ReceiverConfig::default();
    let config = ReceiverConfig {
        socket_bytes: granted as u64,
        timeout: request.timeout,
        ordered_window_bytes: request.output.as_ref().map(|_| limits::ORDERED_WINDOW_BYTES),
        linger: if request.once { defaults.linger } else { LINGER },
        ..defaults
    };
    let pool = BufferPool::new(1, SLAB_BYTES);
    let Some(reserve) = BufferPool::new(1, 0).take() else {
        return Err(RecvError::System(std::io::ErrorKind::OutOfMemory.into()));
    };
    let mut server = Server {
        request,
        clock,
        drain: Drain::new(clock, listener.local_address()),
        listener,
        pool,
        shared: BufferPool::new(BUFFERS_SHARED, SLAB_BYTES),
        reserve: Arc::new(reserve),
        admission: Admission::new(config.clone(), unpredictable()?),
        config,
        modes: ModePolicy::of_process()?,
        doorbell: Arc::new(Doorbell::new()?),
        waiting: Arc::default(),
        descriptors,
        transfers: Vec::new(),
        counters,
        tempo: Tempo::new(now),
        drops_at: now,
        finished_bytes: 0,
    };
    // Not before all is there that could fail: whoever waits for this sends at once.
    watcher.listening(server.listener.local_address(), granted);
    server.run(stop, watcher)
}

impl Server<'_> {
    fn run(&mut self, stop: &Stop<'_>, watcher: &mut dyn Watcher) -> Result<Ended, RecvError> {
        loop {
            let mut busy = self.take_from_listener(watcher);
            for index in 0..self.transfers.len() {
                busy |= self.take_from_transfer(index, watcher);
            }
            let now = self.clock.now();
            for transfer in &mut self.transfers {
                busy |= transfer.take_done(now);
            }
            self.look_at_drops(now);
            self.give_up_silent_holders(now);
            let sharers = self.transfers.len();
            for transfer in &mut self.transfers {
                transfer.transmit(now, &self.reserve, sharers);
            }
            self.report_settled(now, watcher);
            let once_over = self.remove_ended(now, watcher);
            self.show();
            if once_over {
                return Ok(Ended::Once);
            }
            if stop.is_asked() {
                return Ok(self.stop(now, watcher));
            }
            if !busy {
                self.rest(now, stop);
            }
        }
    }

    fn rest(&mut self, now: Time, stop: &Stop<'_>) {
        let at = self.transfers.iter().filter_map(|transfer| transfer.next_call(now)).min();
        let timeout = at.map(|at| at.saturating_since(now));
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return;
        }
        if let Some(span) = self.tempo.doze(now, self.transfers.len()) {
            doze(timeout.map_or(span, |timeout| timeout.min(span)));
            return;
        }
        self.doorbell.before_sleep();
        let mut any = false;
        for transfer in &mut self.transfers {
            transfer.dispatch(&self.reserve);
            any |= transfer.take_done(now);
            // A thread that ends rings, too.
            any |= transfer.is_over() && transfer.has_closed(now);
        }
        if !any {
            let mut interests = vec![Interest::Read(self.listener.as_fd())];
            // A stalled transfer's socket is readable and of no use: its disk rings instead.
            let listening = self.transfers.iter().filter(|one| !one.is_stalled);
            interests.extend(listening.map(|one| Interest::Read(one.socket.as_fd())));
            interests.push(Interest::Read(self.doorbell.waker().as_fd()));
            interests.push(Interest::Read(stop.wake));
            // A failing poll would only make this loop spin until the next timeout.
            let _ = wait(&interests, timeout, &mut Vec::new());
        }
        self.doorbell.after_sleep();
    }

    // ---- packets ----

    fn take_from_listener(&mut self, watcher: &mut dyn Watcher) -> bool {
        let mut any = false;
        for _ in 0..RECEIVES_PER_TURN {
            let Some(mut buffer) = self.pool.take() else { break };
            if !matches!(self.listener.receive(&mut buffer), ReceiveOutcome::Received { .. }) {
                break;
            }
            any = true;
            let now = self.clock.now();
            for datagram in buffer.datagrams() {
                self.tempo.on_datagram(datagram.bytes.len());
                self.route(now, datagram.bytes, datagram.arrival, watcher);
            }
        }
        any
    }

    fn take_from_transfer(&mut self, index: usize, watcher: &mut dyn Watcher) -> bool {
        let Some(transfer) = self.transfers.get_mut(index) else { return false };
        let Some(mut slab) = transfer.take_slab() else {
            transfer.receiver.handle_deaf(self.clock.now());
            return false;
        };
        let taken = slab.arrivals().len();
        let mut refused = false;
        for _ in 0..RECEIVES_PER_TURN {
            match transfer.socket.receive(&mut slab) {
                ReceiveOutcome::Received { .. } => {}
                ReceiveOutcome::Refused => refused = true,
                ReceiveOutcome::Empty | ReceiveOutcome::Full => break,
                ReceiveOutcome::Failed { .. } => break,
            }
        }
        // Only now: a stamp from before the receive would be too early by what this thread was
        // held up in between, and the sender would see a round trip that is too short.
        let now = self.clock.now();
        if refused {
            transfer.receiver.handle_refused(now);
        }
        let any = slab.arrivals().len() > taken;
        let peer = transfer.peer;
        for datagram in slab.datagrams_from(taken) {
            let start = datagram.range.start;
            self.tempo.on_datagram(datagram.bytes.len());
            if datagram.arrival.from == peer {
                if let Some(transfer) = self.transfers.get_mut(index) {
                    transfer.take(now, datagram.bytes, start);
                }
            } else {
                // A stranger's datagram that came between bind and connect.
                self.route(now, datagram.bytes, datagram.arrival, watcher);
            }
        }
        if let Some(transfer) = self.transfers.get_mut(index) {
            transfer.put_slab(now, slab, &self.reserve);
        }
        self.counters.packets_heard.fetch_add(u64::from(any), Relaxed);
        any || refused
    }

    /// A datagram that came to no transfer's own socket, or from somebody else.
    fn route(&mut self, now: Time, datagram: &[u8], arrival: &Arrival, watcher: &mut dyn Watcher) {
        let Some((kind, connection)) = peek(datagram) else { return };
        if kind == FrameType::Hello {
            // Whoever has a transfer here asks whether it is forgotten: it is not.
            if !self.transfers.iter().any(|one| one.peer == arrival.from && !one.is_over()) {
                self.answer_hello(now, datagram, arrival, watcher);
            }
            return;
        }
        let known = self
            .transfers
            .iter()
            .position(|one| one.peer == arrival.from && one.connection == connection);
        if let Some(transfer) = known.and_then(|index| self.transfers.get_mut(index)) {
            transfer.take_stray(now, datagram, arrival, &self.reserve);
        } else if kind == FrameType::Start {
            self.open_transfer(now, datagram, arrival, watcher);
        }
    }

    fn answer_hello(
        &mut self,
        now: Time,
        datagram: &[u8],
        arrival: &Arrival,
        watcher: &mut dyn Watcher,
    ) {
        let from = arrival.from;
        let answer = self.admission.answer_hello(now, &peer_bytes(from), datagram, || {
            if !policy::may_send(from.ip(), &self.request.allow) {
                watcher.turned_away(from);
                Some(CloseCode::Forbidden)
            } else if self.is_full() {
                Some(CloseCode::Busy)
            } else {
                None
            }
        });
        if let Some(answer) = answer {
            // A lost answer is asked for again.
            let _ = self.listener.send_to(&answer, from, arrival.to);
        }
    }

    fn is_full(&self) -> bool {
        let taken = self.request.once && self.transfers.iter().any(Transfer::stores);
        taken || self.transfers.len() >= TRANSFERS_MAX
    }

    /// START from a proven address: makes the transfer.
    fn open_transfer(
        &mut self,
        now: Time,
        datagram: &[u8],
        arrival: &Arrival,
        watcher: &mut dyn Watcher,
    ) {
        let from = arrival.from;
        if self.is_full() || !policy::may_send(from.ip(), &self.request.allow) {
            return;
        }
        let Some(accepted) = self.admission.open_start(now, &peer_bytes(from), datagram) else {
            return;
        };
        let local = arrival.to.unwrap_or(self.listener.local_address());
        let local = SocketAddr::new(local.ip(), self.listener.local_address().port());
        let Ok(socket) =
            Socket::accept_from(with_scope(local, arrival.to), from, &self.request.socket)
        else {
            return;
        };
        let config = ReceiverConfig {
            socket_bytes: socket.granted().receive_bytes as u64,
            ..self.config.clone()
        };
        let receiver = Receiver::new(now, config, &accepted);
        let options = SinkOptions {
            patience: Arc::new(Patience::new(Arc::clone(&self.waiting))),
            descriptors: Arc::clone(&self.descriptors),
            root: Arc::clone(&self.request.root),
            output: self.request.output.clone(),
            links: self.request.links,
            existing: self.request.existing,
            archive: self.request.archive,
            modes: self.modes,
            fsync: self.request.fsync,
            digest: receiver.digest_algorithm(),
            dry_run: receiver.is_dry_run(),
            discard: accepted.greeting.discard,
            is_same_machine: from.ip() == local.ip(),
        };
        let doorbell = Arc::clone(&self.doorbell);
        let shared = self.shared.clone();
        // If there is no thread to be had the sender repeats START, perhaps in better times.
        if let Ok(mut transfer) =
            Transfer::new(now, from, receiver, socket, options, doorbell, shared)
        {
            transfer.visit = accepted.greeting.discard.then(|| self.drain.welcome(from.ip()));
            self.transfers.push(transfer);
            self.counters.transfers.fetch_add(1, Relaxed);
            watcher.began(from);
        }
    }

    /// A file that somebody waits for may be held by a transfer whose sender is dead.
    fn give_up_silent_holders(&mut self, now: Time) {
        if !self.waiting.is_any() {
            return;
        }
        for transfer in &mut self.transfers {
            let receiver = &transfer.receiver;
            let silence = now.saturating_since(receiver.last_heard());
            if silence > SILENT_HOLDER || receiver.is_refused() {
                transfer.receiver.cancel(CloseCode::Timeout);
            }
        }
    }

    fn look_at_drops(&mut self, now: Time) {
        if now.saturating_since(self.drops_at) < DROPS_INTERVAL {
            return;
        }
        self.drops_at = now;
        for transfer in &mut self.transfers {
            if let Ok(memory) = transfer.socket.memory() {
                transfer.receiver.set_drops(memory.drops);
            }
        }
    }

    // ---- what is shown ----

    fn show(&self) {
        let (mut written, mut total) = (self.finished_bytes, self.finished_bytes);
        let (mut done, mut files) = (0, 0);
        let mut is_final = true;
        for transfer in &self.transfers {
            let progress = transfer.receiver.progress();
            written += progress.written;
            total += progress.body_bytes;
            done += u64::from(progress.settled);
            files += u64::from(progress.entries);
            is_final &= progress.is_final;
        }
        self.counters.bytes_written.store(written, Relaxed);
        self.counters.bytes_total.store(total, Relaxed);
        self.counters.files_done.store(done, Relaxed);
        self.counters.files_total.store(files, Relaxed);
        self.counters.totals_final.store(is_final, Relaxed);
    }
}
