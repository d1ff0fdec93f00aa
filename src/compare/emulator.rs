//! An emulated link between two hosts: reads the packets that each of them sends, lets
//! `sim::Link` decide what becomes of them, and hands over in time what arrives.
//!
//! One thread carries both directions. It never allocates for a packet (only while its pool
//! grows), sleeps when nothing is due, and keeps count of how late it was, because a machine too
//! slow to emulate a link must not pass for a slow link.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::packet::{self, Transport};
use super::port::Port;
use crate::io::clock::Clock;
use crate::io::sys::process::run_before_others;
use crate::io::wait::{Waker, set_shortest_timer_slack};
use crate::proto::Time;
use crate::sim::{Delivery, Direction, Link, LinkCounters, Path};

/// Packets read in one direction before the other gets its turn.
const BATCH_PACKETS: usize = 64;

/// Room for a packet: more than the largest that a device of this MTU sends.
const SLOT_BYTES: usize = 2_048;

/// Packets under way that the pool has room for without moving: 0.2 s at 1 Gbit/s. The memory
/// is the kernel's until it is used.
const POOL_SLOTS: usize = 16_384;

/// The shortest sleep. A wake-up costs about as much as carrying two packets, so at high rates
/// packets go in small groups, at most so much too late.
const NAP: Duration = Duration::from_micros(25);

/// What an emulated link does, and what is to be noted about it.
#[derive(Clone, Debug)]
pub struct EmulatorConfig {
    /// Both directions, forward from the first port to the second.
    pub path: Path,
    /// Names the fates: the n-th packet offered in a direction meets the same one in every run.
    pub seed: u64,
    /// Note the time whenever so many more bytes of payload have arrived at the second port.
    pub step_bytes: u64,
}

/// What a link did, when it has ended.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// From the first port to the second.
    pub forward: WayTally,
    /// From the second port to the first.
    pub backward: WayTally,
    /// How many bytes of payload had arrived at the second port, and when by the clock given: an
    /// entry for every `EmulatorConfig::step_bytes`.
    pub progress: Vec<(u64, Time)>,
    /// How late packets were handed over.
    pub lateness: Lateness,
    /// Processor time of the emulator. Much of the kernel's work for the hosts is in it: what a
    /// packet causes where it arrives is done by who hands it over.
    pub cpu: Duration,
}

/// What one direction of a link did.
#[derive(Clone, Debug, Default)]
pub struct WayTally {
    /// The model's own count.
    pub link: LinkCounters,
    /// Bytes behind TCP headers, as offered.
    pub tcp_payload_offered: u64,
    /// Bytes behind UDP headers, as offered.
    pub udp_payload_offered: u64,
    /// Bytes behind TCP or UDP headers that arrived.
    pub payload_delivered: u64,
    /// Packets that the host did not take, or that were dropped before they could be read.
    pub device_drops: u64,
}

/// How late packets were: a histogram by powers of two of a microsecond.
#[derive(Clone, Debug, Default)]
pub struct Lateness {
    counts: [u64; 32],
}

impl Lateness {
    fn add(&mut self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        // 0 us falls in class 0, 1 in 1, 2 and 3 in 2, and so on.
        let class = (u64::BITS - micros.leading_zeros()) as usize;
        self.counts[class.min(self.counts.len() - 1)] += 1;
    }

    /// A bound that this share of the packets kept, from 0 to 1.
    pub fn quantile(&self, share: f64) -> Duration {
        let total: u64 = self.counts.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut sum = 0;
        for (class, count) in self.counts.iter().enumerate() {
            sum += count;
            if sum >= wanted {
                return Duration::from_micros((1 << class) - 1);
            }
        }
        Duration::ZERO
    }
}

/// A running link. Dropping it cuts the connection and closes the ports.
#[derive(Debug)]
pub struct Emulator {
    control: Arc<Control>,
    thread: Option<JoinHandle<Tally>>,
}

#[derive(Debug)]
struct Control {
    stop: AtomicBool,
    waker: Waker,
}

impl Emulator {
    /// Starts to carry packets between the ports.
    ///
    /// # Errors
    /// The system gave no thread or no descriptor.
    pub fn start(
        ports: [Port; 2],
        config: &EmulatorConfig,
        clock: Clock,
    ) -> std::io::Result<Emulator> {
        let control = Arc::new(Control { stop: AtomicBool::new(false), waker: Waker::new()? });
        let mut wire = Wires::new(ports, config, clock);
        let thread = thread::Builder::new().name("emulator".into()).spawn({
            let control = Arc::clone(&control);
            move || {
                // Without it packets are up to 50 us later: more than the rest of the loop costs.
                let _ = set_shortest_timer_slack();
                run_before_others();
                while !control.stop.load(Ordering::Relaxed) {
                    if !wire.carry() {
                        wire.sleep(&control.waker);
                    }
                }
                wire.tally()
            }
        })?;
        Ok(Emulator { control, thread: Some(thread) })
    }

    /// Ends the link and says what it did.
    pub fn finish(mut self) -> Tally {
        self.stop().unwrap_or_default()
    }

    fn stop(&mut self) -> Option<Tally> {
        self.control.stop.store(true, Ordering::Relaxed);
        self.control.waker.wake();
        self.thread.take()?.join().ok()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Both directions and the packets under way.
struct Wires {
    ports: [Port; 2],
    forward: Way,
    backward: Way,
    pool: Pool,
    clock: Clock,
    step_bytes: u64,
    progress: Vec<(u64, Time)>,
    lateness: Lateness,
}

/// One direction.
struct Way {
    link: Link<Slot>,
    tally: WayTally,
}

impl Wires {
    fn new(ports: [Port; 2], config: &EmulatorConfig, clock: Clock) -> Wires {
        let way = |link, direction| Way {
            link: Link::new(link, config.seed, direction),
            tally: WayTally::default(),
        };
        Wires {
            ports,
            forward: way(config.path.forward.clone(), Direction::Forward),
            backward: way(config.path.backward.clone(), Direction::Backward),
            pool: Pool::new(),
            clock,
            step_bytes: config.step_bytes.max(1),
            progress: Vec::new(),
            lateness: Lateness::default(),
        }
    }

    /// Takes in what the hosts sent and hands over what is due; whether there was anything.
    fn carry(&mut self) -> bool {
        let Wires { ports: [first, second], forward, backward, pool, clock, lateness, .. } = self;
        let mut moved = forward.take_in(first, pool, clock);
        moved += backward.take_in(second, pool, clock);
        moved += forward.hand_over(second, pool, clock, lateness);
        moved += backward.hand_over(first, pool, clock, lateness);
        let delivered = forward.tally.payload_delivered;
        let noted = self.progress.last().map_or(0, |&(bytes, _)| bytes);
        if delivered - noted >= self.step_bytes {
            self.progress.push((delivered, clock.now()));
        }
        moved > 0
    }

    /// Sleeps until a packet is due, comes in, or the waker is woken.
    fn sleep(&self, waker: &Waker) {
        let due =
            [&self.forward, &self.backward].into_iter().filter_map(|way| way.link.next_delivery());
        let span = due.min().map(|due| due.saturating_since(self.clock.now()).max(NAP));
        let timeout = span.map(|span| Timespec {
            tv_sec: span.as_secs() as i64,
            tv_nsec: i64::from(span.subsec_nanos()),
        });
        let [first, second] = &self.ports;
        let mut polled = [
            PollFd::new(first, PollFlags::IN),
            PollFd::new(second, PollFlags::IN),
            PollFd::from_borrowed_fd(waker.as_fd(), PollFlags::IN),
        ];
        // A signal that cuts the sleep short does no harm.
        let _ = poll(&mut polled, timeout.as_ref());
    }

    fn tally(self) -> Tally {
        let drops = self.ports.each_ref().map(Port::drops);
        let tally = |way: Way, drops: u64| WayTally {
            link: *way.link.counters(),
            device_drops: way.tally.device_drops + drops,
            ..way.tally
        };
        Tally {
            forward: tally(self.forward, drops[0]),
            backward: tally(self.backward, drops[1]),
            progress: self.progress,
            lateness: self.lateness,
            cpu: thread_cpu(),
        }
    }
}

impl Tally {
    /// When all but the last `1 / divisor` of the bytes that arrived had arrived.
    pub fn tail_began(&self, divisor: u64) -> Option<Time> {
        let bytes = self.forward.payload_delivered;
        let reached = bytes - bytes / divisor;
        self.progress.iter().find(|(bytes, _)| *bytes >= reached).map(|&(_, at)| at)
    }
}

impl Way {
    /// Reads a batch of packets from a port and offers them to the link.
    fn take_in(&mut self, port: &Port, pool: &mut Pool, clock: &Clock) -> usize {
        for taken in 0..BATCH_PACKETS {
            let slot = pool.take();
            let length = match port.read(pool.bytes_mut(slot)) {
                Ok(length) => length,
                // AGAIN: nothing more. Anything else: the device is gone, and so is its host.
                Err(_) => {
                    pool.release(slot);
                    return taken;
                }
            };
            match packet::transport(&pool.bytes(slot)[..length]) {
                // Only IPv4 packets count: what the kernel says of itself on a new device must
                // not take the fates of those that are measured.
                None => pool.release(slot),
                Some((transport, payload)) => {
                    match transport {
                        Transport::Tcp => self.tally.tcp_payload_offered += payload.len() as u64,
                        Transport::Udp => self.tally.udp_payload_offered += payload.len() as u64,
                        Transport::Other => {}
                    }
                    let copies = self.link.counters().duplicated_packets;
                    let lost = self.link.offer(clock.now(), slot, length);
                    if lost.is_some() {
                        pool.release(slot);
                    } else if self.link.counters().duplicated_packets > copies {
                        pool.keep_twice(slot);
                    }
                }
            }
        }
        BATCH_PACKETS
    }

    /// Writes what has arrived by now to a port.
    fn hand_over(
        &mut self,
        port: &Port,
        pool: &mut Pool,
        clock: &Clock,
        lateness: &mut Lateness,
    ) -> usize {
        let mut now = clock.now();
        for handed in 0..BATCH_PACKETS {
            let Some(delivery) = self.link.poll_delivery(now) else {
                return handed;
            };
            lateness.add(now.saturating_since(delivery.at));
            let bytes = &pool.bytes(delivery.packet)[..delivery.bytes];
            if let Some((_, payload)) = packet::transport(bytes) {
                self.tally.payload_delivered += payload.len() as u64;
            }
            if write(port, bytes, &delivery).is_err() {
                self.tally.device_drops += 1;
            }
            pool.release(delivery.packet);
            now = clock.now();
        }
        BATCH_PACKETS
    }
}

/// Processor time of the calling thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn write(port: &Port, bytes: &[u8], delivery: &Delivery<Slot>) -> Result<(), Errno> {
    match (delivery.corruption, packet::transport(bytes)) {
        (Some(corruption), Some((_, payload))) => {
            let mut payload = payload.to_vec();
            corruption.apply(&mut payload);
            let headers = &bytes[..bytes.len() - payload_length(bytes)];
            port.write(&[headers, &payload].concat())
        }
        _ => port.write(bytes),
    }
}

fn payload_length(bytes: &[u8]) -> usize {
    packet::transport(bytes).map_or(0, |(_, payload)| payload.len())
}

/// The place of a packet in the pool.
type Slot = u32;

/// The packets under way. A slot may be kept by two deliveries of one packet.
struct Pool {
    slots: Vec<[u8; SLOT_BYTES]>,
    /// Deliveries to come, beyond the one that every slot in use has.
    extra: Vec<u8>,
    free: Vec<Slot>,
}

impl Pool {
    fn new() -> Pool {
        Pool { slots: Vec::with_capacity(POOL_SLOTS), extra: Vec::new(), free: Vec::new() }
    }

    fn take(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push([0; SLOT_BYTES]);
            self.extra.push(0);
            (self.slots.len() - 1) as Slot
        })
    }

    fn bytes(&self, slot: Slot) -> &[u8; SLOT_BYTES] {
        &self.slots[slot as usize]
    }

    fn bytes_mut(&mut self, slot: Slot) -> &mut [u8; SLOT_BYTES] {
        &mut self.slots[slot as usize]
    }

    fn keep_twice(&mut self, slot: Slot) {
        self.extra[slot as usize] += 1;
    }

    fn release(&mut self, slot: Slot) {
        match &mut self.extra[slot as usize] {
            0 => self.free.push(slot),
            extra => *extra -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_bounded_by_the_next_power_of_two() {
        let mut lateness = Lateness::default();
        for micros in [0, 1, 3, 3, 100] {
            lateness.add(Duration::from_micros(micros));
        }
        assert_eq!(lateness.quantile(0.2), Duration::ZERO);
        assert_eq!(lateness.quantile(0.5), Duration::from_micros(3));
        assert_eq!(lateness.quantile(1.0), Duration::from_micros(127));
        lateness.add(Duration::MAX);
        assert!(lateness.quantile(1.0) > Duration::from_secs(1_000));
    }

    #[test]
    fn a_slot_is_free_again_after_the_last_of_its_deliveries() {
        let mut pool = Pool::new();
        let slot = pool.take();
        pool.keep_twice(slot);
        pool.release(slot);
        assert_ne!(pool.take(), slot);
        pool.release(slot);
        assert_eq!(pool.take(), slot);
    }
}
