//! A simulation under way: hands packets between hosts and links, lets processes run when it is
//! their time. What happens to whole processes (kills, restarts, another try) is in `attempts.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attempts::Flow;
use super::connection::{Connection, Emitted, Queued};
use super::counters::Counters;
use super::host::Sending;
use super::hostile::{Addition, addition};
use super::impairment::{Direction, mix};
use super::journal::Journal;
use super::link::{Delivery, Link};
use super::outcome::Outcome;
use super::plan::{ReceiverPlan, TransferPlan};
use super::receiving_host::ReceivingHost;
use super::sending_host::{SendingHost, SimPacket};
use super::simulation::Simulation;
use super::source::SimFile;
use super::storage::Storage;
use super::trace::{Happening, Trace};
use super::watch::Watch;
use crate::proto::{Receiver, Sender, Time, Transmit};

/// So often may a process run without time passing before it counts as hung.
const RUNS_AT_ONCE_MAX: u32 = 100_000;

/// A packet on a link.
#[derive(Clone, Debug)]
pub struct Carried {
    /// Whose it is.
    pub flow: usize,
    /// The sender's address it comes from or goes to.
    pub address: u64,
    /// What it carries.
    pub packet: SimPacket,
}

/// Both directions of a path.
#[derive(Debug)]
pub struct Links {
    /// To the receiver.
    pub forward: Link<Carried>,
    /// To the sender.
    pub backward: Link<Carried>,
}

/// Bytes from and to an address that has not proven itself.
#[derive(Clone, Copy, Debug, Default)]
struct Stranger {
    came: u64,
    went: u64,
}

/// A simulation under way.
#[derive(Debug)]
pub struct Running {
    /// What was asked for.
    pub simulation: Simulation,
    /// The time.
    pub now: Time,
    runs_at_once: u32,
    /// By the plan they belong to; one that shares another's has none in use.
    pub links: Vec<Links>,
    /// Every attempt of every transfer, the first ones in the order of their plans.
    pub flows: Vec<Flow>,
    /// By host.
    pub receivers: Vec<ReceivingHost>,
    /// By flow.
    pub watches: Vec<Watch>,
    /// What happened.
    pub trace: Trace,
    /// What was counted.
    pub counters: Counters,
    strangers: BTreeMap<u64, Stranger>,
    /// What somebody hostile has added, in the order in which it arrives.
    pub additions: Vec<(usize, u64, Addition)>,
    /// Draws so far.
    pub draws: u64,
}

impl Running {
    /// Nothing has happened yet.
    pub fn new(simulation: Simulation) -> Running {
        let seed = simulation.seed;
        let links = |(index, plan): (usize, &TransferPlan)| {
            let link_seed = mix(seed ^ mix(index as u64));
            Links {
                forward: Link::new(plan.path.forward.clone(), link_seed, Direction::Forward),
                backward: Link::new(plan.path.backward.clone(), link_seed, Direction::Backward),
            }
        };
        let receiver = |(host, plan): (usize, &ReceiverPlan)| {
            let mine = simulation.transfers.iter().enumerate();
            let mine = mine.filter(|(_, transfer)| transfer.receiver == host);
            let journal =
                |plan_of: &TransferPlan| Journal::new(plan_of.files.len(), plan.sync_interval);
            let journals = mine.map(|(index, plan_of)| (index, journal(plan_of))).collect();
            ReceivingHost::new(plan, mix(seed ^ host as u64), journals)
        };
        let mut running = Running {
            now: Time::ZERO,
            runs_at_once: 0,
            links: simulation.transfers.iter().enumerate().map(links).collect(),
            flows: Vec::new(),
            receivers: simulation.receivers.iter().enumerate().map(receiver).collect(),
            watches: Vec::new(),
            trace: Trace::default(),
            counters: Counters::default(),
            strangers: BTreeMap::new(),
            additions: Vec::new(),
            draws: 0,
            simulation,
        };
        for index in 0..running.simulation.transfers.len() {
            let plan = running.simulation.transfers[index].clone();
            running.add(Flow::first(index, plan));
        }
        running
    }

    /// Adds an attempt.
    pub fn add(&mut self, flow: Flow) {
        let (index, simulation) = (self.flows.len(), &self.simulation);
        let receiver = &mut self.receivers[flow.plan.receiver];
        let config = &simulation.receivers[flow.plan.receiver].config;
        self.watches.push(Watch::new(flow.plan.config.first_number, config));
        let files: Arc<[SimFile]> = flow.plan.files.clone().into();
        let key = content_key(simulation.seed, flow.tree);
        let dry_run = flow.plan.config.dry_run;
        let mut storage = Storage::new(files, index, key, simulation.payload, dry_run);
        storage.ordered_window_bytes = config.ordered_window_bytes;
        storage.discard = flow.plan.config.discard;
        receiver.connections.insert(index, Connection::new(storage, flow.tree));
        self.flows.push(flow);
    }

    /// When something happens next; none if all is over.
    pub fn next(&self) -> Option<Time> {
        let flows = (0..self.flows.len()).filter_map(|index| self.next_of(index));
        let next = flows.chain(self.waiting_receivers()).min()?;
        let restarts = self.receivers.iter().filter_map(ReceivingHost::next_restart);
        Some(restarts.chain([next]).min()?.max(self.now))
    }

    /// When something happens next that concerns a flow; none if it is over at both ends.
    fn next_of(&self, index: usize) -> Option<Time> {
        let flow = &self.flows[index];
        let receiver = &self.receivers[flow.plan.receiver];
        let Some(sender) = &flow.sender else { return Some(flow.plan.starts_at) };
        let sender_over = sender.is_over(self.now);
        let connection = receiver.connections.get(&index);
        let admitted = connection.is_some_and(|connection| connection.machine.is_some());
        let receiver_over = receiver.is_over(self.now, index) || !admitted;
        if sender_over && receiver_over {
            return None;
        }
        let wake = if sender_over { None } else { sender.wake.next(&sender.host) };
        let dies = sender.host.killed_at.filter(|_| !sender_over);
        let links = &self.links[flow.links];
        let links = [links.forward.next_delivery(), links.backward.next_delivery()];
        // A receiver runs on for those that are not over.
        let host = receiver.wake.next(&receiver.host).filter(|_| !receiver_over || admitted);
        let others = [wake, dies, host, flow.refusals[0], flow.refusals[1]];
        links.into_iter().chain(others).flatten().min()
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

    /// Lets happen what happens at `at`.
    pub fn step(&mut self, at: Time) {
        self.runs_at_once = if at > self.now { 0 } else { self.runs_at_once + 1 };
        assert!(self.runs_at_once < RUNS_AT_ONCE_MAX, "time does not pass any more");
        self.now = at;
        self.restart_receivers();
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
            let is_due = receiver.wake.next(&receiver.host).is_some_and(|at| at <= self.now);
            if is_due && !receiver.is_down(self.now) {
                self.run_receiver(host);
            }
        }
        self.add_hostile();
        self.try_again();
    }

    fn sender_is_due(&mut self, index: usize) -> bool {
        let now = self.now;
        let (seed, payload) = (self.simulation.seed, self.simulation.payload);
        let flow = &mut self.flows[index];
        match &flow.sender {
            None if flow.plan.starts_at <= now => {
                let content = content_key(seed, flow.tree);
                let key = content_key(seed, index);
                flow.sender = Some(SendingHost::new(now, &flow.plan, content, key, payload));
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

    fn deliver_to_receiver(&mut self, delivery: Delivery<Carried>) {
        let now = self.now;
        let Carried { flow: index, address, packet } = delivery.packet;
        let flow = &mut self.flows[index];
        let receiver = &mut self.receivers[flow.plan.receiver];
        let bytes = delivery.bytes as u64;
        self.strangers.entry(address).or_default().came += bytes;
        // A closed connection's socket leaves its port open: the process listens on.
        if receiver.is_down(now) {
            if self.simulation.icmp && flow.refusals[0].is_none() {
                flow.refusals[0] = Some(now + flow.plan.path.backward.delay);
            }
            return;
        }
        self.trace.add(now, index, Happening::ReceiverGot, [bytes, 0, 0]);
        if self.flows.iter().skip(index + 1).any(|later| later.tree == self.flows[index].tree) {
            self.counters.count("packet of another attempt");
        }
        if let Some(corruption) = &delivery.corruption {
            self.counters.count_corruption(corruption.kind);
        }
        if receiver.is_over(now, index) {
            return;
        }
        let queued = Queued { address, packet, corruption: delivery.corruption };
        if !receiver.receive(now, index, queued) {
            self.trace.add(now, index, Happening::SocketDrop, [bytes, 0, 0]);
            self.counters.count("drop at a receiver's socket");
        }
    }

    fn deliver_to_sender(&mut self, delivery: Delivery<Carried>) {
        let now = self.now;
        let Carried { flow: index, address, packet } = delivery.packet;
        let SimPacket::Datagram(mut datagram) = packet else { return };
        // Whoever has that address now gets it.
        let owner = self.flows.iter().rposition(|flow| {
            flow.address(now) == address
                && flow.sender.as_ref().is_some_and(|sender| !sender.is_over(now))
        });
        let Some(owner) = owner else {
            let flow = &mut self.flows[index];
            let is_there = flow.address(now) == address;
            if is_there && self.simulation.icmp && flow.refusals[1].is_none() {
                flow.refusals[1] = Some(now + flow.plan.path.forward.delay);
            }
            return;
        };
        let flow = &mut self.flows[owner];
        let Some(sender) = flow.sender.as_mut() else { return };
        if let Some(corruption) = delivery.corruption {
            self.counters.count_corruption(corruption.kind);
            corruption.apply_after(&mut datagram, &flow.before);
        }
        flow.before.clone_from(&datagram);
        self.trace.add(now, owner, Happening::SenderGot, [datagram.len() as u64, 0, 0]);
        if sender.receive(now, datagram) {
            return;
        }
        self.counters.count("drop at a sender's socket");
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
            self.counters.count("port closed, told to a sender");
        }
        if flow.refusals[1].take_if(|at| *at <= now).is_some() && !receiver.is_down(now) {
            receiver.refused(now, index);
            self.counters.count("port closed, told to a receiver");
        }
    }

    fn run_sender(&mut self, index: usize) {
        let now = self.now;
        let Some(mut sender) = self.flows[index].sender.take() else { return };
        let watch = &mut self.watches[index];
        sender.run(now, |datagram| watch.on_sender_host(now, datagram));
        loop {
            while let Some(transmit) = sender.next_transmit(now) {
                for run in std::mem::take(&mut sender.unsent) {
                    self.watches[index].on_sender_body(now, &run, &sender.machine);
                }
                self.send(index, &transmit, &mut sender);
            }
            let mut told = false;
            while let Some(event) = sender.next_event(now) {
                self.trace.note(now, index, format!("sender: {event:?}"));
                told = true;
            }
            if !sender.end_manifest(now) && !told {
                break;
            }
        }
        sender.settle(now);
        self.flows[index].sender = Some(sender);
    }

    /// Brings what a sender transmits onto its link.
    fn send(&mut self, index: usize, transmit: &Transmit, sender: &mut SendingHost) {
        let now = self.now;
        match transmit {
            Transmit::Datagram(datagram) => {
                let number = self.watches[index].on_sender_datagram(now, datagram, &sender.machine);
                let details = [number, datagram.len() as u64, u64::from(datagram[0])];
                self.trace.add(now, index, Happening::SenderSent, details);
                self.offer(index, SimPacket::Datagram(datagram.clone()), sender);
            }
            Transmit::Body(run) => {
                self.watches[index].on_sender_body(now, run, &sender.machine);
                let details = [run.first.0, run.packets(), run.range.start];
                self.trace.add(now, index, Happening::SenderSentBody, details);
                for packet in 0..run.packets() {
                    let packet = sender.fill(now, run, packet);
                    self.offer(index, packet, sender);
                }
            }
        }
    }

    fn offer(&mut self, index: usize, packet: SimPacket, sender: &mut SendingHost) {
        let flow = &self.flows[index];
        let (bytes, address) = (packet.datagram_bytes(), flow.address(self.now));
        self.draws += 1;
        if flow.plan.local_datagram_bytes.is_some_and(|most| bytes > most) {
            sender.machine.handle_too_big(self.now, bytes);
            return self.counters.count("datagram too long for its own host");
        }
        let leaves_at = match sender.host.sending(self.now, mix(self.draws)) {
            Sending::At(at) if at > self.now => {
                self.counters.count("no room to send");
                at
            }
            Sending::At(at) => at,
            Sending::Lost => return self.counters.count("error in sending"),
        };
        self.meddle(index, Direction::Forward, &packet, sender);
        let carried = Carried { flow: index, address, packet };
        let links = self.flows[index].links;
        if self.links[links].forward.offer(leaves_at, carried, bytes).is_some() {
            self.trace.add(self.now, index, Happening::Lost, [0, bytes as u64, 0]);
        }
    }

    fn run_receiver(&mut self, host: usize) {
        let now = self.now;
        let (flows, links, trace) = (&mut self.flows, &mut self.links, &mut self.trace);
        let (strangers, counters) = (&mut self.strangers, &mut self.counters);
        let (additions, draws) = (&mut self.additions, &mut self.draws);
        self.receivers[host].run(now, &mut self.watches, |index, address, watch, emitted| {
            let (number, datagram) = match emitted {
                Emitted::Answer(datagram) => {
                    watch.on_answer(&datagram);
                    let stranger = strangers.entry(address).or_default();
                    stranger.went += datagram.len() as u64;
                    let Stranger { came, went } = *stranger;
                    assert!(went <= came, "{went} bytes to an unproven address, {came} came");
                    (0, datagram)
                }
                Emitted::Packet(datagram) => (watch.on_receiver_datagram(now, &datagram), datagram),
            };
            let bytes = datagram.len();
            trace.add(now, index, Happening::ReceiverSent, [number, bytes as u64, 0]);
            let packet = SimPacket::Datagram(datagram);
            *draws += 1;
            let flow = &flows[index];
            let hostile = flow.plan.hostile.as_ref();
            if let Some(kind) = hostile.and_then(|it| it.reacts(now, mix(*draws)))
                && let Some(sender) = &flow.sender
            {
                let machine = &sender.machine;
                let added = addition(kind, *draws, Direction::Backward, &packet, machine, watch);
                counters.count_hostile(kind, added.is_some());
                additions.extend(added.map(|added| (index, address, added)));
            }
            let backward = &mut links[flow.links].backward;
            let carried = Carried { flow: index, address, packet };
            if backward.offer(now, carried, bytes).is_some() {
                trace.add(now, index, Happening::Lost, [1, bytes as u64, 0]);
            }
        });
    }

    /// An address has to prove itself again to the next process.
    pub fn forget_strangers(&mut self) {
        self.strangers.clear();
    }

    /// The machines as they are: those that send, and those that receive.
    pub fn into_machines(mut self) -> (Vec<Sender>, Vec<Receiver>) {
        let flows = std::mem::take(&mut self.flows).into_iter();
        let hosts = std::mem::take(&mut self.receivers).into_iter();
        let connections = hosts.flat_map(|host| host.connections.into_values());
        let senders = flows.filter_map(|flow| flow.sender).map(|host| host.machine);
        (senders.collect(), connections.filter_map(|one| one.machine).collect())
    }

    /// What became of it all.
    pub fn outcome(mut self) -> Outcome {
        let mut transfers = Vec::new();
        for index in 0..self.flows.len() {
            transfers.extend(self.outcome_of(index));
        }
        for receiver in &self.receivers {
            self.counters.merge(&receiver.counters);
        }
        for links in &self.links {
            self.counters.count_links([links.forward.counters(), links.backward.counters()]);
        }
        Outcome {
            seed: self.simulation.seed,
            finished_at: self.now,
            trace_hash: self.trace.hash(),
            trace: self.trace.report(),
            counters: std::mem::take(&mut self.counters),
            transfers,
        }
    }
}

/// Prints what led to a failed check.
impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() && self.simulation.tells {
            let (seed, now) = (self.simulation.seed, self.now.as_nanos() as f64 / 1e6);
            eprintln!("{}failed at {now:.4} ms; UFX_SEED={seed} replays it", self.trace.report());
        }
    }
}

/// The key of a transfer's content.
pub fn content_key(seed: u64, index: usize) -> u64 {
    mix(mix(seed) ^ index as u64)
}
