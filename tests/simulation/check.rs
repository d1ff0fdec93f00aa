//! Runs a scenario, and looks at its end: what proto.md, "Invariants", says of whole transfers.
//! What it says of single packets is checked by `sim` while it runs.

use std::time::Duration;

use ufx::proto::{ReceiverEvent, SenderEvent};
use ufx::sim::{Counters, Decision, Outcome, Simulation, Stored, TransferOutcome};
use ufx::wire::limits;

use crate::coverage::{count_transitions, count_wraps};
use crate::scenario::{Fault, Purpose, Scenario, What, at};

/// What a run was like.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Packets offered to the network.
    pub packets: u64,
    /// Processes that sent.
    pub attempts: usize,
    /// Whether a process was killed while it had something to do.
    pub has_kill: bool,
    /// Equal for equal runs.
    pub trace_hash: u64,
    /// How often each thing happened.
    pub counters: Counters,
}

/// Runs a scenario to its end. Panics where an invariant does not hold.
pub fn run(scenario: &Scenario, tells: bool) -> Summary {
    let mut simulation = scenario.simulation();
    simulation.tells = tells;
    run_as(scenario, simulation)
}

/// The same, with a simulation that was made from it.
pub fn run_as(scenario: &Scenario, simulation: Simulation) -> Summary {
    let first_count = simulation.receivers[0].config.first_count;
    let outcome = simulation.run();
    let mut counters = outcome.counters.clone();
    for transfer in &outcome.transfers {
        check_told(transfer);
        check_bounds(transfer);
        count_transitions(transfer, &mut counters);
        count_wraps(transfer, first_count, &mut counters);
    }
    for tree in 0..scenario.transfers.len() {
        check_tree(tree, &outcome);
    }
    check_progress(scenario, &outcome);
    count_drawn(scenario, &mut counters);
    Summary {
        packets: counters.get("packets"),
        attempts: outcome.transfers.len(),
        has_kill: ["kill of a sender", "restart of a process", "power cut"]
            .iter()
            .any(|name| counters.get(name) > 0),
        trace_hash: outcome.trace_hash,
        counters,
    }
}

/// Both ends tell what is stored, and the sender no other drops than there were.
fn check_told(transfer: &TransferOutcome) {
    let (told, drops) = (transfer.sender.receiver_drops, transfer.drops);
    assert!(told <= u64::from(drops), "{told} drops are told, there were {drops}");
    let count = |wanted: fn(&Stored) -> bool| {
        transfer.stored.iter().flatten().filter(|stored| wanted(stored)).count() as u32
    };
    let committed = count(|stored| *stored == Stored::Committed);
    let present = count(|stored| *stored == Stored::Present);
    let failed = count(|stored| matches!(stored, Stored::Refused(_) | Stored::Failed(_)));
    let told = transfer.events.iter().find_map(|event| match event {
        SenderEvent::Finished { committed, present, failed } => {
            Some([*committed, *present, *failed])
        }
        _ => None,
    });
    // After a restart the receiver's files are known to the disk alone.
    let remembers = transfer.receiver.entries > 0 || transfer.files.is_empty();
    if let Some(told) = told {
        let settled = told.iter().sum::<u32>() as usize;
        assert_eq!(settled, transfer.files.len(), "success before all was settled");
        if remembers && transfer.receiver_end.is_some() {
            assert_eq!(told, [committed, present, failed], "another success than happened");
        }
        check_committed(transfer, told[2]);
    }
    if transfer.receiver_end == Some(ReceiverEvent::Finished) {
        let all = transfer.stored.iter().all(Option::is_some);
        assert!(all, "a receiver's success before all was settled");
        check_committed(transfer, failed);
    }
}

/// A success without failures means that everything has its final name.
fn check_committed(transfer: &TransferOutcome, failed: u32) {
    for (file, committed) in transfer.files.iter().zip(&transfer.committed) {
        let is_to_be = file.decision == Decision::Take && stores(transfer);
        if failed == 0 && is_to_be {
            assert!(committed, "a success without {file:?}");
        }
    }
}

/// Whether anything is to be on the disk when all is over.
fn stores(transfer: &TransferOutcome) -> bool {
    !transfer.dry_run && !transfer.discard
}

/// What is tried until it works has worked.
fn check_tree(tree: usize, outcome: &Outcome) {
    let last = outcome.transfers.iter().rfind(|it| it.tree == tree).expect("all began");
    assert!(
        last.is_finished(),
        "the last attempt failed: {:?}, {:?}",
        last.sender_error(),
        last.receiver_error(),
    );
    for (entry, (file, committed)) in last.files.iter().zip(&last.committed).enumerate() {
        let can_be = file.decision == Decision::Take && !file.is_spoiled() && stores(last);
        assert!(*committed || !can_be, "entry {entry} is missing: {file:?}");
    }
}

/// What both machines held is within what proto.md, "Limits", lets them keep of a transfer like
/// this: it goes by its entries and by what is under way, not by its length.
fn check_bounds(transfer: &TransferOutcome) {
    let entries = transfer.files.len();
    let holes: usize = transfer.files.iter().map(|file| file.holes.len()).sum();
    let blocks = transfer.data_bytes() / limits::BLOCK_BYTES + 2 * (entries + holes) as u64;
    let kept = MACHINE_BYTES + ENTRY_BYTES * entries + RANGE_BYTES * (holes + blocks as usize);

    let sent = transfer.sender.packets_sent.min(REMEMBERED_PACKETS) as usize;
    let (held, bound) = (transfer.sender_memory_bytes, kept + SENT_BYTES * sent);
    assert!(held <= bound, "{held} bytes held by a sender, {bound} at most");

    let came = transfer.receiver.packets_received.min(limits::STORED_RANGES_MAX as u64) as usize;
    let (held, bound) = (transfer.receiver_memory_bytes, kept + RANGE_BYTES * came);
    assert!(held <= bound, "{held} bytes held by a receiver, {bound} at most");
}

/// A machine of a transfer of nothing, with its timers, windows and row of answers.
const MACHINE_BYTES: usize = 16 << 10;

/// An entry that is not settled, at either end, its record and its answer, in rows that grow by
/// doubling.
const ENTRY_BYTES: usize = 1_024;

/// A hole, a block and its digest record, or a stored range: each packet may come behind a gap.
const RANGE_BYTES: usize = 128;

/// A packet that left and is not settled: its run, in a row that grows by doubling, and its range
/// where it is to be sent again.
const SENT_BYTES: usize = 400;

/// Packets further back are forgotten by a sender, if they were lost (`InFlight`).
const REMEMBERED_PACKETS: u64 = 200_000;

/// Once faults have stopped all comes to an end, in a time that goes with what is to be sent.
fn check_progress(scenario: &Scenario, outcome: &Outcome) {
    let Some(quiet_at) = scenario.quiet_at else { return };
    let last = scenario.faults.iter().map(ends_at).fold(quiet_at, u64::max);
    let bytes: u64 = scenario.transfers.iter().flatten().map(|file| file.size).sum();
    let wire = slowest(scenario).map_or(0.0, |rate| bytes as f64 * 8.0 / rate as f64);
    let delay = Duration::from_micros(slowest_delay_us(scenario));
    let bound = Duration::from_secs(180)
        + Duration::from_secs_f64(20.0 * wire)
        + 200 * delay
        + 20 * Duration::from_millis(scenario.again_after)
        + full_writes(scenario) * PAUSE_MAX
        + short_queue(scenario);
    let took = outcome.finished_at.saturating_since(at(last));
    assert!(took <= bound, "{took:?} after the last fault, {bound:?} are allowed");
}

/// Pauses between attempts are not longer, of which each may meet a full disk once.
const PAUSE_MAX: Duration = Duration::from_secs(25);

/// So many writes find the disk full, at whatever time.
fn full_writes(scenario: &Scenario) -> u32 {
    let writes = scenario.faults.iter().map(|fault| match *fault {
        Fault::DiskFull(_, writes) => writes as u32,
        _ => 0,
    });
    writes.sum()
}

/// Of a burst a queue that is shorter takes one packet at least, and all others are lost. So a
/// round trip and the probe timeout behind it (proto.md, "Loss detection": at most 300 ms or 2
/// srtt) bring one packet at least, of 1,000 bytes where paths are as they are drawn. Of 13,700
/// seeds three have needed any of it, the slowest 0.3.
fn short_queue(scenario: &Scenario) -> Duration {
    let is_short = scenario.queue_packets.is_some_and(|packets| packets < BURST_PACKETS);
    let bytes: u64 = scenario.transfers.iter().flatten().map(|file| file.size).sum();
    let trip = Duration::from_micros(slowest_delay_us(scenario));
    let round = trip + Duration::from_millis(300).max(2 * trip);
    if is_short { round * (bytes / 1_000) as u32 } else { Duration::ZERO }
}

/// A burst has at most so many datagrams (proto.md, "Pacing and congestion control").
const BURST_PACKETS: usize = 44;

/// When a fault is over that goes by the clock.
fn ends_at(fault: &Fault) -> u64 {
    match *fault {
        Fault::Blackout(_, from, span)
        | Fault::Stall(_, from, span)
        | Fault::DiskStall(from, span)
        | Fault::Restart(from, span, _) => from + span,
        // Long after its packet, a replay; a late timer, when it ends at last.
        Fault::Replay(_, _, after) => after,
        _ => 0,
    }
}

fn slowest(scenario: &Scenario) -> Option<u64> {
    let rates = scenario.faults.iter().filter_map(|fault| match *fault {
        Fault::Policer(rate, _) | Fault::RateChange(_, rate) => Some(rate),
        Fault::SlowDisk(_, bytes) => Some(bytes * 8),
        _ => None,
    });
    rates.chain(scenario.rate).chain(scenario.fixed_rate.map(|bytes| bytes * 8)).min()
}

fn slowest_delay_us(scenario: &Scenario) -> u64 {
    let changed = scenario.faults.iter().filter_map(|fault| match *fault {
        Fault::DelayChange(_, delay) => Some(delay),
        _ => None,
    });
    let [there, back] = scenario.delay_us;
    changed.chain([there]).max().unwrap_or(there) + back
}

/// Faults that nothing counts but their being there.
fn count_drawn(scenario: &Scenario, counters: &mut Counters) {
    for fault in &scenario.faults {
        match fault {
            Fault::Jitter(..) => counters.count("jitter"),
            Fault::Stall(..) => counters.count("stall of a process"),
            Fault::FirstNumber(..) => counters.count("first number near an edge"),
            Fault::FirstClock(..) => counters.count("clock near an edge"),
            Fault::FirstCount(..) => counters.count("counters of ACKs near their end"),
            Fault::RateChange(..) => counters.count("change of rate"),
            Fault::DelayChange(..) => counters.count("change of delay"),
            Fault::MtuChange(..) => counters.count("change of MTU"),
            Fault::SlowDisk(..) => counters.count("slow disk"),
            Fault::DiskStall(..) => counters.count("stall of a disk"),
            _ => {}
        }
    }
    if scenario.transfers.len() > 1 {
        counters.count("several transfers at once");
    }
    match scenario.purpose {
        Purpose::Store => {}
        Purpose::DryRun => counters.count("dry run"),
        Purpose::Discard => counters.count("discard"),
    }
    if scenario.ordered_window.is_some() {
        counters.count("pipe at the receiver");
    }
    for file in scenario.transfers.iter().flatten() {
        match file.what {
            What::Pipe => counters.count("pipe at the sender"),
            What::Far => counters.count("body as long as can be"),
            _ => {}
        }
    }
}
