//! Whether an emulated link does what was asked: loss by the names the seed gives, delay and rate
//! by the clock, all measured with sockets of the hosts, before anybody is compared on it.

use std::collections::BTreeSet;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::contest::ContestError;
use super::emulator::{Emulator, EmulatorConfig, Tally};
use super::lab::{Host, Lab, LabError};
use crate::io::clock::Clock;
use crate::io::sys::process::run_before_others;
use crate::io::wait::doze;
use crate::proto::Time;
use crate::sim::{Direction, Fate, Fates, LinkConfig, Path};

/// Datagrams sent one by one in each direction, and the time they may take.
const PROBES_MAX: u32 = 300;
const PROBES_SPAN: Duration = Duration::from_millis(300);

/// The least distance between two of them.
const PROBE_DISTANCE: Duration = Duration::from_micros(500);

/// Bytes of such a datagram, and of one of the flood that fills the link.
const PROBE_BYTES: usize = 100;
const FLOOD_BYTES: usize = 1_472;

/// What IPv4 and UDP add.
const HEADER_BYTES: usize = 28;

/// How long the link is flooded, and by how much more than it carries.
const FLOOD_SPAN: Duration = Duration::from_millis(500);
const FLOOD_FACTOR: f64 = 1.2;

/// The sleep between two bursts of the flood.
const FLOOD_DOZE: Duration = Duration::from_micros(200);

/// A socket that is silent for so much longer than the path takes gets nothing more.
const SILENCE: Duration = Duration::from_millis(250);

/// What the socket that is flooded may hold, in bytes, if the kernel allows so much.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// The error that a delay or a rate may have.
const TOLERANCE: f64 = 0.05;

/// The error that any delay may have: a busy machine wakes a program so much later.
const DELAY_TOLERANCE: Duration = Duration::from_micros(150);

/// What was measured on a link, beside what was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Packets sent one by one, both directions together.
    pub probes: usize,
    /// Of these, packets that the seed names lost.
    pub named_lost: usize,
    /// Of all, packets that met another fate than the seed names.
    pub wrong_fates: usize,
    /// The delay of a direction in seconds: asked, and the median.
    pub delay_asked: f64,
    /// The median of the delays measured.
    pub delay: f64,
    /// Bits per second: asked, and measured when flooded.
    pub rate_asked: Option<f64>,
    /// What got through, plus what was lost behind the queue.
    pub rate: Option<f64>,
}

impl Measured {
    /// What is not as it was asked for; none if all is.
    pub fn complaint(&self) -> Option<String> {
        let Measured { probes, wrong_fates, delay, delay_asked, .. } = *self;
        if wrong_fates > 0 {
            return Some(format!("{wrong_fates} of {probes} packets met a fate not their own"));
        }
        let tolerance = (delay_asked * TOLERANCE).max(DELAY_TOLERANCE.as_secs_f64());
        if (delay - delay_asked).abs() > tolerance {
            return Some(format!(
                "the delay was {:.2} ms instead of {:.2} ms",
                delay * 1e3,
                delay_asked * 1e3
            ));
        }
        match (self.rate, self.rate_asked) {
            (Some(rate), Some(asked)) if (rate / asked - 1.0).abs() > TOLERANCE => Some(format!(
                "the rate was {:.1} Mbit/s instead of {:.1} Mbit/s",
                rate / 1e6,
                asked / 1e6
            )),
            _ => None,
        }
    }
}

/// The most lateness that half of the packets may have, for a link to count as emulated.
pub fn lateness_max(path: &Path) -> Duration {
    path.forward.delay.mul_f64(TOLERANCE).max(DELAY_TOLERANCE)
}

/// Measures a link.
///
/// # Errors
/// No lab, no socket, no thread.
pub fn measure(path: &Path, seed: u64) -> Result<Measured, ContestError> {
    let (lab, emulator, clock) = start(path, seed)?;
    let there = probe(&lab.sender, lab.receiver(), &path.forward, clock)?;
    let back = probe(lab.receiver(), &lab.sender, &path.backward, clock)?;
    drop(emulator);
    let there = there.compare(&path.forward, seed, Direction::Forward);
    let back = back.compare(&path.backward, seed, Direction::Backward);
    let mut delays = there.delays;
    delays.extend(&back.delays);
    delays.sort_unstable();
    let rate = match path.forward.rate_bits_per_second {
        Some(rate) => flood(path, seed, rate)?,
        None => None,
    };
    Ok(Measured {
        probes: there.sent + back.sent,
        named_lost: there.named_lost + back.named_lost,
        wrong_fates: there.wrong_fates + back.wrong_fates,
        delay_asked: expected_delay(&path.forward).as_secs_f64(),
        delay: delays.get(delays.len() / 2).map_or(f64::INFINITY, Duration::as_secs_f64),
        rate_asked: path.forward.rate_bits_per_second.map(|rate| rate as f64),
        rate,
    })
}

fn start(path: &Path, seed: u64) -> Result<(Lab, Emulator, Clock), ContestError> {
    let mut lab = Lab::emulated()?;
    let clock = Clock::start();
    let Some(ports) = lab.ports.take() else {
        return Err(failed("open the link's ports")(io::ErrorKind::NotFound.into()));
    };
    let config = EmulatorConfig { path: path.clone(), seed, step_bytes: u64::MAX };
    let emulator = Emulator::start(ports, &config, clock).map_err(failed("start the emulator"))?;
    Ok((lab, emulator, clock))
}

/// Delay, time on the wire, and half of the jitter's range.
fn expected_delay(link: &LinkConfig) -> Duration {
    let jitter = link.impairments.jitter.map_or(Duration::ZERO, |jitter| match jitter.shape {
        crate::sim::JitterShape::Uniform { max } => max / 2,
        crate::sim::JitterShape::Normal { mean, .. } => mean,
    });
    link.delay + wire_time(link, PROBE_BYTES) + jitter
}

fn wire_time(link: &LinkConfig, payload_bytes: usize) -> Duration {
    link.rate_bits_per_second.map_or(Duration::ZERO, |rate| {
        let bits = (payload_bytes + HEADER_BYTES) as f64 * 8.0;
        Duration::from_secs_f64(bits / rate.max(1) as f64)
    })
}

/// A socket on a host. It stays there, whichever thread uses it.
fn socket(host: &Host) -> Result<UdpSocket, LabError> {
    host.run(|| {
        UdpSocket::bind((host.address, 0))
            .map_err(|error| LabError::Step { step: "bind a socket", error })
    })
}

/// What came of the datagrams sent one by one.
struct Probed {
    sent_at: Vec<Time>,
    arrivals: Vec<(u32, Time)>,
}

fn probe(from: &Host, to: &Host, link: &LinkConfig, clock: Clock) -> Result<Probed, ContestError> {
    let (sender, receiver) = (socket(from)?, socket(to)?);
    let address = receiver.local_addr().map_err(failed("look at a socket"))?;
    let distance = (2 * wire_time(link, PROBE_BYTES)).max(PROBE_DISTANCE);
    let count = (PROBES_SPAN.as_nanos() / distance.as_nanos()).clamp(20, PROBES_MAX.into()) as u32;
    let silence = SILENCE + 2 * link.delay + 2 * distance;
    receiver.set_read_timeout(Some(silence)).map_err(failed("set a timeout"))?;
    thread::scope(|scope| {
        let listener = scope.spawn(|| listen(&receiver, clock));
        let mut sent_at = Vec::new();
        for number in 0..count {
            let mut datagram = [0; PROBE_BYTES];
            datagram[..4].copy_from_slice(&number.to_be_bytes());
            sent_at.push(clock.now());
            sender.send_to(&datagram, address).map_err(failed("send a probe"))?;
            doze(distance);
        }
        let arrivals = listener.join().unwrap_or_default();
        Ok(Probed { sent_at, arrivals })
    })
}

/// Numbers and times of all that arrives, until nothing does any more.
fn listen(socket: &UdpSocket, clock: Clock) -> Vec<(u32, Time)> {
    run_before_others();
    let mut arrivals = Vec::new();
    let mut datagram = [0; 2_048];
    while let Ok(length) = socket.recv(&mut datagram) {
        let number =
            datagram[..length].first_chunk().map_or(u32::MAX, |it| u32::from_be_bytes(*it));
        arrivals.push((number, clock.now()));
    }
    arrivals
}

/// What probes say about a direction.
struct Compared {
    sent: usize,
    named_lost: usize,
    wrong_fates: usize,
    delays: Vec<Duration>,
}

impl Probed {
    fn compare(&self, link: &LinkConfig, seed: u64, direction: Direction) -> Compared {
        let fates: Vec<Fate> = Fates::new(link.impairments.clone(), seed, direction)
            .take(self.sent_at.len())
            .collect();
        let arrived: BTreeSet<u32> = self.arrivals.iter().map(|&(number, _)| number).collect();
        let wrong = |(number, fate): &(usize, &Fate)| {
            // A damaged probe may have lost its number.
            fate.corruption.is_none() && fate.lost.is_none() != arrived.contains(&(*number as u32))
        };
        let delay = |&(number, at): &(u32, Time)| {
            let sent_at = *self.sent_at.get(number as usize)?;
            let fate = fates.get(number as usize)?;
            fate.held_back.is_none().then(|| at.saturating_since(sent_at))
        };
        Compared {
            sent: fates.len(),
            named_lost: fates.iter().filter(|fate| fate.lost.is_some()).count(),
            wrong_fates: fates.iter().enumerate().filter(wrong).count(),
            delays: self.arrivals.iter().filter_map(delay).collect(),
        }
    }
}

/// Sends more than the link carries and measures what comes out; none where too little does.
fn flood(path: &Path, seed: u64, rate: u64) -> Result<Option<f64>, ContestError> {
    let (lab, emulator, clock) = start(path, seed)?;
    let (sender, receiver) = (socket(&lab.sender)?, socket(lab.receiver())?);
    let address = receiver.local_addr().map_err(failed("look at a socket"))?;
    let link = &path.forward;
    let silence = SILENCE + 2 * link.delay + 2 * wire_time(link, FLOOD_BYTES);
    receiver.set_read_timeout(Some(silence)).map_err(failed("set a timeout"))?;
    // The kernel may grant less; what does not fit is missed, and the check fails then.
    let _ = socket2::SockRef::from(&receiver.as_fd()).set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    let wire_bytes = (FLOOD_BYTES + HEADER_BYTES) as f64;
    let packets_per_second = FLOOD_FACTOR * rate as f64 / 8.0 / wire_bytes;
    let span = FLOOD_SPAN.max(20 * wire_time(link, FLOOD_BYTES));
    let arrivals = thread::scope(|scope| {
        let listener = scope.spawn(|| listen(&receiver, clock));
        scope.spawn(|| {
            run_before_others();
            let began = clock.now();
            let mut sent = 0.0;
            loop {
                let elapsed = clock.now().saturating_since(began);
                if elapsed >= span {
                    break;
                }
                while sent < elapsed.as_secs_f64() * packets_per_second {
                    // A full queue of the device would show as a rate that is too low.
                    let _ = sender.send_to(&[0; FLOOD_BYTES], address);
                    sent += 1.0;
                }
                doze(FLOOD_DOZE);
            }
        });
        listener.join().unwrap_or_default()
    });
    let tally = emulator.finish();
    Ok(flood_rate(&arrivals, &tally, wire_bytes))
}

fn flood_rate(arrivals: &[(u32, Time)], tally: &Tally, wire_bytes: f64) -> Option<f64> {
    let (&(_, first), &(_, last)) = (arrivals.first()?, arrivals.last()?);
    let link = &tally.forward.link;
    let lost_in_queue = link.lost.queue + link.lost.policer + link.lost.mtu;
    let on_wire = link.offered_packets.saturating_sub(lost_in_queue) as f64;
    let delivered = link.delivered_packets.max(1) as f64;
    let span = last.saturating_since(first).as_secs_f64();
    // What was lost behind the queue, or doubled there, took its time on the wire once.
    let packets = (arrivals.len() - 1) as f64 * on_wire / delivered;
    (span > 0.0).then(|| packets * wire_bytes * 8.0 / span)
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> ContestError {
    move |error| ContestError::Io { step, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        Measured {
            probes: 600,
            named_lost: 6,
            wrong_fates: 0,
            delay_asked: 0.005,
            delay: 0.00524,
            rate_asked: Some(1e8),
            rate: Some(0.96e8),
        }
    }

    #[test]
    fn what_is_within_5_percent_is_as_asked() {
        assert_eq!(measured().complaint(), None);
        let short = Measured { delay_asked: 0.000_1, delay: 0.000_24, ..measured() };
        assert_eq!(short.complaint(), None, "150 us are allowed whatever was asked");
    }

    #[test]
    fn what_is_not_as_asked_is_named() {
        let late = Measured { delay: 0.0053, ..measured() };
        assert_eq!(late.complaint().unwrap(), "the delay was 5.30 ms instead of 5.00 ms");
        let slow = Measured { rate: Some(0.94e8), ..measured() };
        assert_eq!(slow.complaint().unwrap(), "the rate was 94.0 Mbit/s instead of 100.0 Mbit/s");
        let wrong = Measured { wrong_fates: 1, ..measured() };
        assert_eq!(wrong.complaint().unwrap(), "1 of 600 packets met a fate not their own");
    }
}
