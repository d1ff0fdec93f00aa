//! Drives one `proto::Sender`: sockets, files and the clock around the machine.
//!
//! One thread does the network, reads the files and digests them; another one walks the sources,
//! and a third, `reader`, is started when something is not in memory.
//! `batch` fills datagrams, `outgoing` knows which bytes of the body are whose, `announce` walks,
//! `outcome` turns the end into a report.

mod announce;
mod batch;
mod outcome;
mod outgoing;
mod reader;
mod transfer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batch::Offload;
use super::report::{Counters, Operation, Report};
use super::socket::SocketError;
use super::source::{PathError, Sources};
use super::stop::Stop;
use crate::proto::{self, SenderConfig};

pub use self::outcome::SendError;

/// Transfers begun anew, one after the other, of which nothing was written: a receiver that answers
/// and then takes nothing is no better than one that is silent.
const VAIN_MAX: u32 = 3;

/// What to send, where to, and how.
#[derive(Debug)]
pub struct SendRequest {
    /// The PATHs, checked.
    pub sources: Arc<Sources>,
    /// The receiver's addresses: each is tried in turn until one answers.
    pub addresses: Vec<SocketAddr>,
    /// The machine's tunables. `route_datagram_bytes` is filled in from the route.
    pub config: SenderConfig,
    /// Largest IP packet to use, if the user says so.
    pub mtu_bytes: Option<u32>,
    /// How datagrams are handed to the kernel.
    pub offload: Offload,
}

/// What `-n` lists: an entry's path and what would become of it.
pub type Listing<'a> = &'a mut dyn FnMut(&[u8], &str);

/// Told when the receiver was restarted and all is announced to it anew.
pub type Notice<'a> = &'a mut dyn FnMut();

/// Sends everything. The report is filled in as far as the run got, whatever the result.
///
/// # Errors
/// Why not everything is committed.
pub fn send(
    request: &SendRequest,
    counters: &Counters,
    stop: &Stop<'_>,
    listing: Listing<'_>,
    begins_anew: Notice<'_>,
) -> (Report, Result<(), SendError>) {
    let (mut report, mut result) = send_once(request, counters, stop, &mut *listing);
    let mut vain = 0;
    let may_go_on = || !stop.is_asked() && request.sources.can_begin_anew();
    while was_forgotten(&result) && vain < VAIN_MAX && may_go_on() {
        vain = if counters.bytes_written.load(Ordering::Relaxed) > 0 { 0 } else { vain + 1 };
        begins_anew();
        counters.reset();
        let (next, next_result) = send_once(request, counters, stop, &mut *listing);
        report = next.continuing(report);
        result = next_result;
    }
    (report, result)
}

/// Whether the receiver would take the same transfer once more.
fn was_forgotten(result: &Result<(), SendError>) -> bool {
    matches!(result, Err(SendError::Ended(proto::Error::Forgotten)))
}

/// One transfer, to the first address that answers.
fn send_once(
    request: &SendRequest,
    counters: &Counters,
    stop: &Stop<'_>,
    listing: Listing<'_>,
) -> (Report, Result<(), SendError>) {
    let mut report = Report::new(Operation::Send);
    let mut result = Err(SendError::NoAddress);
    for (index, &address) in request.addresses.iter().enumerate() {
        report.peer = Some(address.to_string());
        // Several addresses share the patience; the last one has what is left to it.
        let left = request.addresses.len() - index;
        let wait = request.config.wait / u32::try_from(left).unwrap_or(1);
        result = transfer::run(request, address, wait, counters, stop, &mut *listing, &mut report);
        let unanswered = matches!(
            &result,
            Err(SendError::Ended(proto::Error::NoAnswer { .. }) | SendError::Socket(_))
        );
        if !unanswered || stop.is_asked() {
            break;
        }
    }
    (report, result)
}

impl From<PathError> for SendError {
    fn from(error: PathError) -> SendError {
        SendError::Path(error)
    }
}

impl From<SocketError> for SendError {
    fn from(error: SocketError) -> SendError {
        SendError::Socket(error)
    }
}
