//! Senders and receivers over simulated paths, in virtual time, from one seed.
//!
//! [`Simulation`] is a builder; [`Simulation::run`] drives everything to its end and checks the
//! invariants of proto.md on the way. The same seed gives the same run, event by event. When a
//! check fails, seed and last events are printed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::host::HostConfig;
use super::impairment::{Direction, mix};
use super::link::{Delivery, Link};
use super::outcome::{Outcome, TransferOutcome};
use super::plan::{ReceiverPlan, TransferPlan};
use super::preset::Path;
use super::receiving_host::ReceivingHost;
use super::sending_host::{SendingHost, SimPacket};
use super::source::{Decision, SimFile};
use super::storage::{Storage, Stored};
use super::trace::{Happening, Trace};
use super::watch::Watch;
use crate::proto::{SenderConfig, Time, Transmit};

/// Virtual time after which a run that does not end counts as hung.
const DEADLINE: Duration = Duration::from_secs(3_600);

/// So often may a process run without time passing before it counts as hung.
const RUNS_AT_ONCE_MAX: u32 = 100_000;

/// What is to be simulated. Fields may be changed freely before the run.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// All chance comes from it.
    pub seed: u64,
    /// The transfers; the first one is what most tests are about.
    pub transfers: Vec<TransferPlan>,
    /// The receivers.
    pub receivers: Vec<ReceiverPlan>,
    /// Whether file bytes are simulated. Without, only places and versions are, and a damaged
    /// body packet is one that fails its check.
    pub payload: bool,
    /// Whether hosts report closed ports (ICMP).
    pub icmp: bool,
    /// The run ends then, whatever is still under way. Default never.
    pub ends_at: Option<Time>,
}

impl Simulation {
    /// One sender and one receiver on `path`.
    pub fn new(path: Path) -> Simulation {
        let transfer = TransferPlan {
            path,
            files: Vec::new(),
            config: SenderConfig::default(),
            host: HostConfig::default(),
            starts_at: Time::ZERO,
            receiver: 0,
            shares_path_of: None,
        };
        Simulation {
            seed: 1,
            transfers: vec![transfer],
            receivers: vec![ReceiverPlan::default()],
            payload: false,
            icmp: true,
            ends_at: None,
        }
    }

    /// Another seed than 1.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Simulation {
        self.seed = seed;
        self
    }

    /// Simulates file bytes.
    #[must_use]
    pub fn payload(mut self) -> Simulation {
        self.payload = true;
        self
    }

    /// What the first sender sends.
    #[must_use]
    pub fn files(mut self, files: Vec<SimFile>) -> Simulation {
        self.transfers[0].files = files;
        self
    }

    /// Changes the first transfer.
    #[must_use]
    pub fn sender(mut self, change: impl FnOnce(&mut TransferPlan)) -> Simulation {
        change(&mut self.transfers[0]);
        self
    }

    /// Changes the first receiver.
    #[must_use]
    pub fn receiver(mut self, change: impl FnOnce(&mut ReceiverPlan)) -> Simulation {
        change(&mut self.receivers[0]);
        self
    }

    /// The same command again, after `outcome` of the first transfer was cut: with the same files,
    /// of which the receiver has what it has verified, and nobody is killed.
    #[must_use]
    pub fn again_after(mut self, outcome: &TransferOutcome) -> Simulation {
        let transfer = &mut self.transfers[0];
        transfer.host.killed_at = None;
        self.receivers[transfer.receiver].host.killed_at = None;
        let results = outcome.stored.iter().zip(&outcome.verified);
        for (file, (stored, verified)) in transfer.files.iter_mut().zip(results) {
            file.kept = verified.clone();
            if *stored == Some(Stored::Committed) && file.decision == Decision::Take {
                file.decision = Decision::Present;
            }
        }
        self
    }

    /// Runs with one file of so many bytes.
    pub fn transfer(self, bytes: u64) -> Outcome {
        self.files(vec![SimFile::new(bytes)]).run()
    }

    /// Runs to the end: every machine that lives is closed.
    ///
    /// # Panics
    ///
    /// If an invariant is broken or nothing comes to an end; seed and last events are printed.
    pub fn run(self) -> Outcome {
        let mut running = Running::new(self);
        while let Some(at) = running.next() {
            if running.simulation.ends_at.is_some_and(|end| at > end) {
                break;
            }
            assert!(at < Time::ZERO + DEADLINE, "the transfer does not end");
            running.step(at);
        }
        running.outcome()
    }
}

/// Both directions of a path. Each packet knows its transfer.
#[derive(Debug)]
struct Links {
    forward: Link<(usize, SimPacket)>,
    backward: Link<(usize, SimPacket)>,
}

/// A transfer under way.
#[derive(Debug)]
struct Flow {
    plan: TransferPlan,
    /// Which of the links carry it.
    links: usize,
    sender: Option<SendingHost>,
    /// ICMP messages on their way: to the sender, to the receiver.
    refusals: [Option<Time>; 2],
}

#[derive(Debug)]
struct Running {
    simulation: Simulation,
    now: Time,
    runs_at_once: u32,
    /// By the transfer they belong to; one that shares another's has none in use.
    links: Vec<Links>,
    flows: Vec<Flow>,
    receivers: Vec<ReceivingHost>,
    watches: Vec<Watch>,
    trace: Trace,
}

impl Running {
    fn new(simulation: Simulation) -> Running {
        let seed = simulation.seed;
        let links = |(index, plan): (usize, &TransferPlan)| {
            let link_seed = mix(seed ^ mix(index as u64));
            Links {
                forward: Link::new(plan.path.forward.clone(), link_seed, Direction::Forward),
                backward: Link::new(plan.path.backward.clone(), link_seed, Direction::Backward),
            }
        };
        let flow = |(index, plan): (usize, &TransferPlan)| Flow {
            plan: plan.clone(),
            links: plan.shares_path_of.unwrap_or(index),
            sender: None,
            refusals: [None, None],
        };
        let receiver = |(host, plan): (usize, &ReceiverPlan)| {
            let mine = simulation.transfers.iter().enumerate();
            let mine = mine.filter(|(_, transfer)| transfer.receiver == host);
            let storages: BTreeMap<usize, Storage> = mine
                .map(|(index, transfer)| {
                    let files: Arc<[SimFile]> = transfer.files.clone().into();
                    let dry_run = transfer.config.dry_run;
                    let key = content_key(seed, index);
                    let mut storage = Storage::new(files, key, simulation.payload, dry_run);
                    storage.ordered_window_bytes = plan.config.ordered_window_bytes;
                    (index, storage)
                })
                .collect();
            let mut secret = [host as u8; 32];
            secret[..8].copy_from_slice(&seed.to_be_bytes());
            ReceivingHost::new(plan, secret, storages)
        };
        Running {
            now: Time::ZERO,
            runs_at_once: 0,
            links: simulation.transfers.iter().enumerate().map(links).collect(),
            flows: simulation.transfers.iter().enumerate().map(flow).collect(),
            receivers: simulation.receivers.iter().enumerate().map(receiver).collect(),
            watches: simulation
                .transfers
                .iter()
                .map(|plan| Watch::new(plan.config.first_number))
                .collect(),
            trace: Trace::default(),
            simulation,
        }
    }

    /// When something happens next; none if all is over.
    fn next(&self) -> Option<Time> {
        let flows = self.flows.iter().enumerate().filter_map(|(index, flow)| {
            let receiver = &self.receivers[flow.plan.receiver];
            let sender_over = match &flow.sender {
                None => return Some(flow.plan.starts_at),
                Some(sender) => sender.is_over(self.now),
            };
            let connection = receiver.connections.get(&index);
            let admitted = connection.is_some_and(|connection| connection.machine.is_some());
            let receiver_over = receiver.is_over(self.now, index) || !admitted;
            if sender_over && receiver_over {
                return None;
            }
            let sender = flow.sender.as_ref().filter(|_| !sender_over);
            let wake = sender.and_then(|sender| sender.wake.next(&sender.host));
            let [to_sender, to_receiver] = flow.refusals;
            let links = &self.links[flow.links];
            let links = [links.forward.next_delivery(), links.backward.next_delivery()];
            let times = links.into_iter().chain([wake, to_sender, to_receiver]);
            // A receiver runs on for those that are not over.
            let host = receiver.wake.next(&receiver.host).filter(|_| !receiver_over || admitted);
            times.chain([host]).flatten().min()
        });
        flows.chain(self.waiting_receivers()).min().map(|at| at.max(self.now))
    }

    /// Receivers wake for strangers, too, as long as any sender is there to wait for them.
    fn waiting_receivers(&self) -> impl Iterator<Item = Time> + '_ {
        let any_sender = self
            .flows
            .iter()
            .any(|flow| flow.sender.as_ref().is_some_and(|sender| !sender.is_over(self.now)));
        let receivers = self.receivers.iter().filter(move |_| any_sender);
        receivers.filter_map(|receiver| receiver.wake.next(&receiver.host))
    }

    fn step(&mut self, at: Time) {
        self.runs_at_once = if at > self.now { 0 } else { self.runs_at_once + 1 };
        assert!(self.runs_at_once < RUNS_AT_ONCE_MAX, "time does not pass any more");
        self.now = at;
        for index in 0..self.links.len() {
            self.deliver(index);
        }
        for index in 0..self.flows.len() {
            self.refuse(index);
            if self.sender_is_due(index) {
                self.run_sender(index);
            }
        }
        for host in 0..self.receivers.len() {
            let receiver = &self.receivers[host];
            if receiver.wake.next(&receiver.host).is_some_and(|at| at <= self.now) {
                self.run_receiver(host);
            }
        }
    }

    fn sender_is_due(&mut self, index: usize) -> bool {
        let flow = &mut self.flows[index];
        let now = self.now;
        match &flow.sender {
            None if flow.plan.starts_at <= now => {
                let plan = &flow.plan;
                flow.sender = Some(SendingHost::new(
                    now,
                    plan.host.clone(),
                    plan.config.clone(),
                    plan.files.clone().into(),
                    content_key(self.simulation.seed, index),
                    self.simulation.payload,
                ));
                true
            }
            None => false,
            Some(sender) => {
                !sender.is_over(now) && sender.wake.next(&sender.host).is_some_and(|at| at <= now)
            }
        }
    }

    /// What has arrived by now on these links, in both directions.
    fn deliver(&mut self, links: usize) {
        let now = self.now;
        while let Some(delivery) = self.links[links].forward.poll_delivery(now) {
            self.deliver_to_receiver(delivery);
        }
        while let Some(delivery) = self.links[links].backward.poll_delivery(now) {
            self.deliver_to_sender(delivery);
        }
    }

    fn deliver_to_receiver(&mut self, delivery: Delivery<(usize, SimPacket)>) {
        let now = self.now;
        let (index, packet) = delivery.packet;
        let flow = &mut self.flows[index];
        let receiver = &mut self.receivers[flow.plan.receiver];
        let bytes = delivery.bytes as u64;
        self.watches[index].on_receiver_host(delivery.bytes);
        // A closed connection's socket leaves its port open: the process listens on.
        if receiver.host.is_dead(now) {
            if self.simulation.icmp && flow.refusals[0].is_none() {
                flow.refusals[0] = Some(now + flow.plan.path.backward.delay);
            }
            return;
        }
        self.trace.add(now, index, Happening::ReceiverGot, [bytes, 0, 0]);
        if receiver.is_over(now, index) {
            return;
        }
        if !receiver.receive(now, index, packet, delivery.corruption) {
            self.trace.add(now, index, Happening::SocketDrop, [bytes, 0, 0]);
        }
    }

    fn deliver_to_sender(&mut self, delivery: Delivery<(usize, SimPacket)>) {
        let now = self.now;
        let (index, packet) = delivery.packet;
        let flow = &mut self.flows[index];
        let SimPacket::Datagram(mut datagram) = packet else { return };
        let Some(sender) = flow.sender.as_mut().filter(|sender| !sender.is_over(now)) else {
            if self.simulation.icmp && flow.refusals[1].is_none() {
                flow.refusals[1] = Some(now + flow.plan.path.forward.delay);
            }
            return;
        };
        if let Some(corruption) = delivery.corruption {
            corruption.apply(&mut datagram);
        }
        self.trace.add(now, index, Happening::SenderGot, [datagram.len() as u64, 0, 0]);
        self.watches[index].on_sender_host(&datagram);
        sender.receive(now, datagram);
    }

    /// ICMP messages that have arrived by now.
    fn refuse(&mut self, index: usize) {
        let now = self.now;
        let flow = &mut self.flows[index];
        let receiver = &mut self.receivers[flow.plan.receiver];
        if flow.refusals[0].take_if(|at| *at <= now).is_some()
            && let Some(sender) = flow.sender.as_mut().filter(|sender| !sender.is_over(now))
        {
            sender.machine.handle_refused(now);
            sender.wake.by(now);
        }
        if flow.refusals[1].take_if(|at| *at <= now).is_some() && !receiver.host.is_dead(now) {
            receiver.refused(now, index);
        }
    }

    fn run_sender(&mut self, index: usize) {
        let now = self.now;
        let flow = &mut self.flows[index];
        let links = &mut self.links[flow.links];
        let Some(sender) = flow.sender.as_mut() else { return };
        let (watch, trace) = (&mut self.watches[index], &mut self.trace);
        sender.run(now);
        loop {
            while let Some(transmit) = sender.next_transmit(now) {
                send(now, index, &transmit, sender, &mut links.forward, watch, trace);
            }
            let mut told = false;
            while let Some(event) = sender.next_event(now) {
                trace.note(now, index, format!("sender: {event:?}"));
                told = true;
            }
            if !sender.end_manifest(now) && !told {
                break;
            }
        }
        sender.settle(now);
    }

    fn run_receiver(&mut self, host: usize) {
        let now = self.now;
        let (flows, links, trace) = (&self.flows, &mut self.links, &mut self.trace);
        self.receivers[host].run(now, &mut self.watches, |index, watch, datagram| {
            let number = watch.on_receiver_datagram(&datagram);
            let bytes = datagram.len();
            trace.add(now, index, Happening::ReceiverSent, [number, bytes as u64, 0]);
            let backward = &mut links[flows[index].links].backward;
            let packet = (index, SimPacket::Datagram(datagram));
            if backward.offer(now, packet, bytes).is_some() {
                trace.add(now, index, Happening::Lost, [1, bytes as u64, 0]);
            }
        });
    }

    fn outcome(mut self) -> Outcome {
        let mut transfers = Vec::new();
        for (index, flow) in self.flows.iter_mut().enumerate() {
            let receiver = &mut self.receivers[flow.plan.receiver];
            let stats = receiver.stats(index).unwrap_or_default();
            let connection = receiver.connections.remove(&index);
            let Some((connection, sender)) = connection.zip(flow.sender.take()) else { continue };
            let links = &self.links[flow.links];
            transfers.push(TransferOutcome::new(
                &flow.plan,
                &sender,
                connection,
                stats,
                [links.forward.counters(), links.backward.counters()].map(|counters| *counters),
            ));
        }
        Outcome {
            seed: self.simulation.seed,
            finished_at: self.now,
            trace_hash: self.trace.hash(),
            trace: self.trace.report(),
            transfers,
        }
    }
}

/// Prints what led to a failed check.
impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, now) = (self.simulation.seed, self.now.as_nanos() as f64 / 1e6);
            eprintln!("{}failed at {now:.4} ms; UFX_SEED={seed} replays it", self.trace.report());
        }
    }
}

/// The key of a transfer's content.
fn content_key(seed: u64, index: usize) -> u64 {
    mix(mix(seed) ^ index as u64)
}

/// Brings what a sender transmits onto its link.
fn send(
    now: Time,
    index: usize,
    transmit: &Transmit,
    sender: &SendingHost,
    link: &mut Link<(usize, SimPacket)>,
    watch: &mut Watch,
    trace: &mut Trace,
) {
    let packets = match transmit {
        Transmit::Datagram(datagram) => {
            let number = watch.on_sender_datagram(datagram, &sender.machine);
            let details = [number, datagram.len() as u64, u64::from(datagram[0])];
            trace.add(now, index, Happening::SenderSent, details);
            vec![SimPacket::Datagram(datagram.clone())]
        }
        Transmit::Body(run) => {
            watch.on_sender_body(run, &sender.machine);
            let details = [run.first.0, run.packets(), run.range.start];
            trace.add(now, index, Happening::SenderSentBody, details);
            sender.fill(now, run)
        }
    };
    for packet in packets {
        let bytes = packet.datagram_bytes();
        if link.offer(now, (index, packet), bytes).is_some() {
            trace.add(now, index, Happening::Lost, [0, bytes as u64, 0]);
        }
    }
}
