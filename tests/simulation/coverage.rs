//! Which faults and which transitions of the machines a set of runs has met, and which it must.

use ufx::proto::{Error, Outcome, ReceiverEvent, SenderEvent};
use ufx::sim::{Counters, Stored, TransferOutcome};
use ufx::wire::{Limit, RefuseCode};

/// Names of the frames by their type on the wire.
const SENT: [[&str; 8]; 2] = [
    ["", "HELLO sent", "", "START sent", "DATA sent", "", "PROBE sent", "CLOSE by a sender"],
    ["", "", "WELCOME sent", "", "answers sent", "ACK sent", "", "CLOSE by a receiver"],
];

/// Counts what the machines of a transfer went through.
pub fn count_transitions(transfer: &TransferOutcome, counters: &mut Counters) {
    for (names, sent) in SENT.iter().zip(&transfer.sent) {
        for (name, count) in names.iter().zip(sent).filter(|(name, _)| !name.is_empty()) {
            counters.add(name, *count);
        }
    }
    let sender = &transfer.sender;
    counters.add("packet lost", sender.packets_lost);
    counters.add("packet sent again", sender.packets_resent);
    counters.add("spurious loss", sender.packets_spurious);
    counters.add("probe timeout", sender.probe_timeouts);
    counters.add("drop at the socket told", sender.receiver_drops);
    counters.add("packet to a sender dropped", sender.invalid);
    counters.add("sender held by the socket", u64::from(sender.limit == Some(Limit::Socket)));
    counters.add("sender held by the disk", u64::from(sender.limit == Some(Limit::Disk)));
    counters.add("larger datagrams", u64::from(sender.datagram_bytes > 1_472));
    counters.add("smaller datagrams", u64::from(sender.datagram_bytes < 1_472));
    let receiver = &transfer.receiver;
    counters.add("packet to a receiver dropped", receiver.invalid);
    counters.add("duplicate seen", receiver.duplicates);
    counters.add("packet not held", receiver.unplaced);
    counters.add("blocks kept", receiver.body_bytes_kept);
    transfer.events.iter().for_each(|event| count_sender_event(event, counters));
    match &transfer.receiver_end {
        None => counters.count("receiver: no end"),
        Some(ReceiverEvent::Closed(error)) => counters.count(receiver_error(error)),
        Some(_) => counters.count("receiver: finished"),
    }
    for stored in transfer.stored.iter().flatten() {
        counters.count(match stored {
            Stored::Committed => "entry committed",
            Stored::Present => "entry present",
            Stored::Refused(RefuseCode::Busy) => "entry refused: busy",
            Stored::Refused(_) => "entry refused",
            Stored::Failed(_) => "entry failed",
        });
    }
}

/// Counts which 32-bit counters of ACKs, begun with `first_count`, went from their end to 0.
pub fn count_wraps(transfer: &TransferOutcome, first_count: u32, counters: &mut Counters) {
    let left = u64::from(u32::MAX - first_count);
    let (drops, duplicates) = (transfer.sender.receiver_drops, transfer.receiver.duplicates);
    counters.add("drops count from 0 again", u64::from(drops > left));
    counters.add("duplicates count from 0 again", u64::from(duplicates > left));
}

fn count_sender_event(event: &SenderEvent, counters: &mut Counters) {
    counters.count(match event {
        SenderEvent::Connected => "sender: connected",
        SenderEvent::Settled { outcome: Outcome::Present, .. } => "sender: present",
        SenderEvent::Settled { .. } => "sender: settled",
        SenderEvent::Failed { refused: true, .. } => "sender: refused",
        SenderEvent::Failed { code: RefuseCode::Source, .. } => "sender: failed, source",
        SenderEvent::Failed { code: RefuseCode::Changed, .. } => "sender: failed, changed",
        SenderEvent::Failed { code: RefuseCode::Space, .. } => "sender: failed, space",
        SenderEvent::Failed { .. } => "sender: failed",
        SenderEvent::Have { .. } => "sender: HAVE",
        SenderEvent::Again { epoch: 1, .. } => "sender: AGAIN, epoch 1",
        SenderEvent::Again { epoch: 2, .. } => "sender: AGAIN, epoch 2",
        SenderEvent::Again { .. } => "sender: AGAIN, epoch 3",
        SenderEvent::Finished { failed: 0, .. } => "sender: finished",
        SenderEvent::Finished { .. } => "sender: finished with failures",
        SenderEvent::Closed(error) => match error {
            Error::NoAnswer { refused: true, .. } => "sender: no answer, closed port",
            Error::NoAnswer { .. } => "sender: no answer",
            Error::Silence { .. } => "sender: silence",
            Error::Forgotten => "sender: forgotten",
            Error::ClosedByPeer { .. } => "sender: closed by the peer",
            Error::Protocol { .. } => "sender: protocol",
            Error::Integrity => "sender: integrity",
            Error::Cancelled { .. } => "sender: cancelled",
        },
    });
}

fn receiver_error(error: &Error) -> &'static str {
    match error {
        Error::Silence { .. } => "receiver: silence",
        Error::ClosedByPeer { .. } => "receiver: closed by the peer",
        Error::Protocol { .. } => "receiver: protocol",
        Error::Integrity => "receiver: integrity",
        Error::NoAnswer { .. } | Error::Forgotten | Error::Cancelled { .. } => "receiver: other",
    }
}

/// Faults that a slice must have met.
pub const FAULTS: [&str; 56] = [
    "loss",
    "loss in bursts",
    "black-out to the receiver",
    "black-out to the sender",
    "full queue",
    "policer",
    "too long for the path",
    "duplication",
    "replay",
    "reordering",
    "jitter",
    "corruption: a flipped bit",
    "corruption: cut short",
    "corruption: lengthened",
    "corruption: swapped words",
    "corruption: neutral to UDP's checksum",
    "corruption: spliced",
    "change of rate",
    "change of delay",
    "change of MTU",
    "change of address",
    "late timer",
    "stall of a process",
    "no room to send",
    "error in sending",
    "datagram too long for its own host",
    "drop at a receiver's socket",
    "drop at a sender's socket",
    "port closed, told to a sender",
    "port closed, told to a receiver",
    "first number near an edge",
    "clock near an edge",
    "counters of ACKs near their end",
    "several transfers at once",
    "dry run",
    "discard",
    "pipe at the sender",
    "pipe at the receiver",
    "body as long as can be",
    "kill of a sender",
    "restart of a process",
    "power cut",
    "slow disk",
    "stall of a disk",
    "full disk",
    "error of a disk",
    "short write",
    "packet of another attempt",
    "hostile: noise",
    "hostile: a reflected packet",
    "hostile: an ACK of what was not sent",
    "hostile: a false CLOSE",
    "hostile: other bytes with a right check",
    "hostile: HELLO or START from elsewhere",
    "hostile: a false closed port",
    "hostile: a PROBE of what was not sent",
];

/// Transitions that a slice must have met.
pub const TRANSITIONS: [&str; 51] = [
    "HELLO sent",
    "WELCOME sent",
    "START sent",
    "DATA sent",
    "ACK sent",
    "PROBE sent",
    "answers sent",
    "CLOSE by a sender",
    "packet lost",
    "packet sent again",
    "spurious loss",
    "probe timeout",
    "drop at the socket told",
    "drops count from 0 again",
    "duplicates count from 0 again",
    "packet to a sender dropped",
    "packet to a receiver dropped",
    "sender held by the socket",
    "sender held by the disk",
    "larger datagrams",
    "smaller datagrams",
    "duplicate seen",
    "packet not held",
    "blocks kept",
    "sender: connected",
    "sender: settled",
    "sender: present",
    "sender: refused",
    "sender: failed",
    "sender: failed, source",
    "sender: failed, changed",
    "sender: failed, space",
    "sender: HAVE",
    "sender: AGAIN, epoch 1",
    "sender: AGAIN, epoch 2",
    "sender: AGAIN, epoch 3",
    "sender: finished",
    "sender: finished with failures",
    "sender: no answer",
    "sender: no answer, closed port",
    "sender: silence",
    "sender: forgotten",
    "sender: closed by the peer",
    "receiver: finished",
    "receiver: no end",
    "receiver: silence",
    "receiver: closed by the peer",
    "entry committed",
    "entry present",
    "entry refused: busy",
    "entry failed",
];

/// Prints what was met, and names what was not.
pub fn report(counters: &Counters) -> Vec<&'static str> {
    for (title, names) in [("faults", FAULTS.as_slice()), ("transitions", TRANSITIONS.as_slice())] {
        println!("{title}:");
        for name in names {
            println!("  {:>12}  {name}", counters.get(name));
        }
    }
    let all = FAULTS.iter().chain(&TRANSITIONS);
    all.filter(|name| counters.get(name) == 0).copied().collect()
}
