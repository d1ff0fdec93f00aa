//! The shell of a simulated receiver: sockets with bounded buffers, a disk, files.
//!
//! One process serves any number of transfers; each has a socket of its own, connected to its
//! sender, as the real one does.

use std::collections::BTreeMap;

use super::connection::{Connection, Emitted, Queued};
use super::counters::Counters;
use super::disk::Disk;
use super::host::{HostConfig, Wake, charged_bytes};
use super::hostile::is_foreign;
use super::impairment::mix;
use super::jobs::Job;
use super::journal::Journal;
use super::plan::{ReceiverPlan, Restart};
use super::sending_host::{MEMORY_RUNS, SimPacket};
use super::storage::Write;
use super::watch::Watch;
use crate::proto::{
    Admission, Place, ReceivedRun, Receiver, ReceiverConfig, ReceiverEvent, ReceiverStats, Time,
};
use crate::wire::{Data, Flags, Frame, FrameType, Packet, Space, peek};

/// Datagrams taken in one turn, over all sockets.
const BATCH_PACKETS: usize = 64;

/// A receiving process.
#[derive(Debug)]
pub struct ReceivingHost {
    /// By transfer.
    pub connections: BTreeMap<usize, Connection>,
    /// When it runs next.
    pub wake: Wake,
    /// Scheduling.
    pub host: HostConfig,
    admission: Admission,
    config: ReceiverConfig,
    pool_packets: u64,
    pub(super) disk: Disk,
    /// Jobs by the time they end.
    pub(super) jobs: BTreeMap<(Time, u64), (usize, Job)>,
    pub(super) job_count: u64,
    busy_until: Time,
    places: Vec<Place>,
    /// What is on the disk, by tree.
    pub(super) journals: BTreeMap<usize, Journal>,
    /// What is to come of restarts; the next one last.
    restarts: Vec<Restart>,
    /// When the next process listens, while there is none.
    down_until: Option<Time>,
    key: u64,
    runs: u64,
    restarted: u64,
    /// What happened to the process and its disk.
    pub counters: Counters,
}

impl ReceivingHost {
    /// A process with its files.
    pub fn new(plan: &ReceiverPlan, key: u64, journals: BTreeMap<usize, Journal>) -> Self {
        let mut restarts = plan.restarts.clone();
        restarts.sort_by_key(|restart| std::cmp::Reverse(restart.at));
        ReceivingHost {
            connections: BTreeMap::new(),
            wake: Wake::default(),
            host: plan.host.clone(),
            admission: Admission::new(plan.config.clone(), secret(key, 0)),
            config: plan.config.clone(),
            pool_packets: plan.pool_packets,
            disk: Disk::new(plan.disk.clone()),
            jobs: BTreeMap::new(),
            job_count: 0,
            busy_until: Time::ZERO,
            places: Vec::new(),
            journals,
            restarts,
            down_until: None,
            key,
            runs: 0,
            restarted: 0,
            counters: Counters::default(),
        }
    }

    /// Whether no process listens.
    pub fn is_down(&self, now: Time) -> bool {
        self.host.is_dead(now) || self.down_until.is_some()
    }

    /// Whether the socket of a transfer is closed.
    pub fn is_over(&self, now: Time, transfer: usize) -> bool {
        self.is_down(now)
            || self.connections.get(&transfer).is_none_or(|it| it.finished_at.is_some())
    }

    /// Whether an entry of a tree has its final name.
    pub fn is_committed(&self, tree: usize, entry: u32) -> bool {
        self.journals.get(&tree).is_some_and(|journal| journal.is_committed(entry))
    }

    /// When the process dies or comes back next.
    pub fn next_restart(&self) -> Option<Time> {
        self.down_until.or(self.restarts.last().map(|restart| restart.at))
    }

    /// Dies or comes back if it is time. True if it died.
    pub fn restart(&mut self, now: Time) -> bool {
        if let Some(until) = self.down_until {
            if until <= now {
                self.down_until = None;
                self.admission =
                    Admission::new(self.config.clone(), secret(self.key, self.restarted));
            }
            return false;
        }
        let Some(restart) = self.restarts.pop_if(|restart| restart.at <= now) else { return false };
        self.restarted += 1;
        self.counters.count(if restart.power_cut { "power cut" } else { "restart of a process" });
        self.down_until = Some(now + restart.down);
        self.jobs.clear();
        self.wake.clear();
        self.busy_until = now;
        for (transfer, connection) in &mut self.connections {
            connection.forget();
            if let Some(journal) = self.journals.get_mut(&connection.tree) {
                journal.release(*transfer);
            }
        }
        if restart.power_cut {
            let draw = mix(self.key ^ self.restarted);
            self.journals.values_mut().for_each(|journal| journal.cut_power(draw));
        }
        true
    }

    /// A datagram reaches a socket. False if it is full.
    pub fn receive(&mut self, now: Time, transfer: usize, queued: Queued) -> bool {
        let Some(connection) = self.connections.get_mut(&transfer) else { return false };
        let charge = charged_bytes(queued.packet.datagram_bytes());
        // An empty socket takes one datagram of any size, as Linux has it.
        let is_full = connection.socket_charged + charge > self.config.socket_bytes;
        if is_full && connection.socket_charged > 0 {
            connection.drops += 1;
            return false;
        }
        connection.socket_charged += charge;
        connection.socket.push_back(queued);
        self.wake.by(self.busy_until.max(now + self.host.wake_latency));
        true
    }

    /// The sender's host reports the port closed.
    pub fn refused(&mut self, now: Time, transfer: usize) {
        if let Some(machine) = self.machine_mut(transfer) {
            machine.handle_refused(now);
            self.wake.by(now + self.host.wake_latency);
        }
    }

    fn machine_mut(&mut self, transfer: usize) -> Option<&mut Receiver> {
        self.connections.get_mut(&transfer)?.machine.as_mut()
    }

    /// The process runs: takes in a batch, lets the disk report, acts on what the machines say.
    /// Datagrams to be sent are handed to `emit`.
    pub fn run(
        &mut self,
        now: Time,
        watches: &mut [Watch],
        mut emit: impl FnMut(usize, u64, &mut Watch, Emitted),
    ) {
        self.wake.clear();
        self.finish_jobs(now);
        let mut packets = 0;
        let transfers: Vec<usize> = self.connections.keys().copied().collect();
        for &transfer in &transfers {
            while packets < BATCH_PACKETS {
                let Some(connection) = self.connections.get_mut(&transfer) else { break };
                let Some(queued) = connection.socket.pop_front() else { break };
                connection.socket_charged -= charged_bytes(queued.packet.datagram_bytes());
                packets += 1;
                let address = queued.address;
                if let Some(answer) = self.take(now, transfer, queued, &mut watches[transfer]) {
                    emit(transfer, address, &mut watches[transfer], Emitted::Answer(answer));
                }
            }
            self.flush_run(now, transfer, &mut watches[transfer]);
        }
        self.busy_until = now + self.host.packet_cost * packets as u32;
        self.runs += 1;
        for &transfer in &transfers {
            let address = self.connections.get(&transfer).and_then(|it| it.address);
            self.drive(now, transfer, |datagram| {
                let watch = &mut watches[transfer];
                emit(transfer, address.unwrap_or_default(), watch, Emitted::Packet(datagram));
            });
        }
        if self.connections.values().any(|connection| !connection.socket.is_empty()) {
            self.wake.by(self.busy_until);
        }
        if let Some((&(at, _), _)) = self.jobs.first_key_value() {
            self.wake.by(at.max(self.busy_until));
        }
    }

    /// One datagram; what it is answered with by a host that keeps nothing of strangers.
    fn take(
        &mut self,
        now: Time,
        transfer: usize,
        queued: Queued,
        watch: &mut Watch,
    ) -> Option<Vec<u8>> {
        let others_live = self.is_taken(transfer, queued.address);
        let connection = self.connections.get_mut(&transfer)?;
        let is_mine = connection.address == Some(queued.address);
        let mut datagram = match queued.packet {
            SimPacket::Datagram(datagram) => datagram,
            SimPacket::Body(body) => {
                let machine = connection.machine.as_mut().filter(|_| is_mine)?;
                if queued.corruption.is_some() {
                    machine.handle_invalid();
                    return None;
                }
                let one = ReceivedRun {
                    first: body.number,
                    packets: 1,
                    offset: body.offset,
                    payload_bytes: body.bytes,
                    bytes: body.bytes,
                    ack_now: body.ack_now,
                };
                self.extend_run(now, transfer, one, &[], body.read_at, watch);
                return None;
            }
        };
        if let Some(corruption) = queued.corruption {
            corruption.apply_after(&mut datagram, &connection.before);
        }
        connection.before.clone_from(&datagram);
        let kind = peek(&datagram).map(|(kind, _)| kind);
        if kind == Some(FrameType::Hello) {
            if others_live || (is_mine && connection.is_live()) {
                return None;
            }
            return self.admission.answer_hello(now, &peer(queued.address), &datagram, || None);
        }
        if connection.machine.is_none() {
            self.admit(now, transfer, queued.address, &datagram, watch);
            return None;
        }
        if !is_mine {
            return None;
        }
        let machine = connection.machine.as_mut()?;
        match machine.opener().open(&datagram) {
            Ok(packet) => self.take_packet(now, transfer, &packet, watch),
            Err(_) => machine.handle_invalid(),
        }
        None
    }

    /// Whether another transfer runs with a sender of this address.
    fn is_taken(&self, transfer: usize, address: u64) -> bool {
        let mut others = self.connections.iter().filter(|(index, _)| **index != transfer);
        others.any(|(_, other)| other.address == Some(address) && other.is_live())
    }

    fn take_packet(&mut self, now: Time, transfer: usize, packet: &Packet<'_>, watch: &mut Watch) {
        if let Frame::Data(Data { space: Space::Body, offset, payload }) = packet.frame {
            let bytes = payload.len() as u64;
            let Flags { ack_now } = packet.flags;
            let one = ReceivedRun {
                first: packet.number,
                packets: 1,
                offset,
                payload_bytes: bytes,
                bytes,
                ack_now,
            };
            return self.extend_run(now, transfer, one, payload, Some(now), watch);
        }
        self.flush_run(now, transfer, watch);
        watch.on_handed(now, packet.number.0, 1);
        if let Some(machine) = self.machine_mut(transfer) {
            machine.handle_packet(now, packet);
        }
    }

    fn admit(
        &mut self,
        now: Time,
        transfer: usize,
        address: u64,
        datagram: &[u8],
        watch: &mut Watch,
    ) {
        let accepted = self.admission.open_start(now, &peer(address), datagram);
        let Some(connection) = self.connections.get_mut(&transfer) else { return };
        if let Some(accepted) = accepted {
            assert!(!is_foreign(address), "a START from elsewhere proves an address");
            watch.on_accepted(now, accepted.number.0);
            connection.address = Some(address);
            connection.machine = Some(Receiver::new(now, self.config.clone(), &accepted));
        }
    }

    /// Adds a body packet to the run that is being gathered, or begins another one.
    fn extend_run(
        &mut self,
        now: Time,
        transfer: usize,
        one: ReceivedRun,
        payload: &[u8],
        read_at: Option<Time>,
        watch: &mut Watch,
    ) {
        let Some(connection) = self.connections.get_mut(&transfer) else { return };
        if let Some((run, bytes, run_read_at)) = &mut connection.run {
            let continues = one.first.0 == run.first.0 + run.packets
                && one.offset == run.offset + run.bytes
                && run.bytes == run.packets * run.payload_bytes
                && one.bytes <= run.payload_bytes
                && *run_read_at == read_at;
            if continues {
                run.packets += 1;
                run.bytes += one.bytes;
                run.ack_now |= one.ack_now;
                bytes.extend_from_slice(payload);
                return;
            }
            self.flush_run(now, transfer, watch);
        }
        if let Some(connection) = self.connections.get_mut(&transfer) {
            connection.run = Some((one, payload.to_vec(), read_at));
        }
    }

    fn flush_run(&mut self, now: Time, transfer: usize, watch: &mut Watch) {
        let Some(connection) = self.connections.get_mut(&transfer) else { return };
        let Some((run, payload, read_at)) = connection.run.take() else { return };
        // The manifest may have come in the same batch: files are opened before they are written,
        // and a block is compared after its last write.
        self.act_on_events(now, transfer);
        let Some(connection) = self.connections.get_mut(&transfer) else { return };
        let Some(machine) = connection.machine.as_mut() else { return };
        watch.on_handed(now, run.first.0, run.packets);
        self.places.clear();
        machine.handle_body(now, &run, &mut self.places);
        if self.places.is_empty() {
            return;
        }
        let mut writes = Vec::with_capacity(self.places.len());
        let mut bytes = 0;
        for place in &self.places {
            let from = place.run_offset as usize;
            let part = payload.get(from..from + place.bytes as usize).unwrap_or_default();
            bytes += place.bytes;
            writes.push(Write {
                entry: place.entry,
                offset: place.file_offset,
                bytes: place.bytes,
                payload: part.to_vec(),
                read_at,
            });
        }
        if connection.storage.discard {
            if let Some(journal) = self.journals.get_mut(&connection.tree) {
                writes.iter().for_each(|write| connection.storage.write(write, journal));
            }
            return machine.on_written(bytes);
        }
        connection.held_packets += run.packets;
        self.write(now, transfer, writes, bytes, run.packets);
    }

    /// Lets a machine run after new input: events first, then packets.
    fn drive(&mut self, now: Time, transfer: usize, mut emit: impl FnMut(Vec<u8>)) {
        let Some(connection) = self.connections.get_mut(&transfer) else { return };
        let Some(machine) = connection.machine.as_mut() else { return };
        machine.handle_timeout(now);
        self.act_on_events(now, transfer);
        let Some(connection) = self.connections.get_mut(&transfer) else { return };
        let Some(machine) = connection.machine.as_mut() else { return };
        machine.set_room(self.pool_packets.saturating_sub(connection.held_packets));
        machine.set_drops(connection.drops);
        while let Some(datagram) = machine.poll_transmit(now) {
            emit(datagram);
        }
        connection.runs += 1;
        if connection.runs % MEMORY_RUNS == 1 {
            let held = machine.memory_bytes();
            connection.memory_bytes_max = connection.memory_bytes_max.max(held);
        }
        if machine.is_closed() {
            if connection.finished_at.is_none() {
                connection.finished_at = Some(now);
                // The writing thread of a transfer that is over drops its queue.
                self.jobs.retain(|_, (owner, _)| *owner != transfer);
                let journal = self.journals.get_mut(&connection.tree);
                journal.into_iter().for_each(|journal| journal.release(transfer));
            }
        } else if let Some(at) = machine.poll_timeout(now) {
            let mut late = if at <= now { now } else { at + self.host.wake_latency };
            if at > now {
                let draw = self.key ^ mix(self.runs) ^ transfer as u64;
                let lateness = self.host.lateness(now, draw);
                self.counters.add("late timer", u64::from(!lateness.is_zero()));
                late += lateness;
            }
            self.wake.by(late.max(self.busy_until));
        }
    }

    fn act_on_events(&mut self, now: Time, transfer: usize) {
        while let Some(event) = self.machine_mut(transfer).and_then(Receiver::poll_event) {
            match event {
                // What reads the file waits for the disk.
                ReceiverEvent::Verify { .. } | ReceiverEvent::Commit { .. } => {
                    let at = self.disk.busy_until().max(now);
                    self.do_by(now, at, transfer, Job::Event(event));
                }
                ReceiverEvent::Settled => {
                    if let Some(machine) = self.machine_mut(transfer) {
                        machine.finish(now);
                    }
                }
                ReceiverEvent::Finished | ReceiverEvent::Closed(_) => {
                    if let Some(connection) = self.connections.get_mut(&transfer) {
                        assert_eq!(connection.ended, None, "a transfer ends once");
                        connection.ended = Some(event);
                    }
                }
                ReceiverEvent::Entry(_)
                | ReceiverEvent::Hole { .. }
                | ReceiverEvent::More { .. }
                | ReceiverEvent::Abandon { .. } => {
                    if let Some(connection) = self.connections.get_mut(&transfer)
                        && let Some(machine) = connection.machine.as_mut()
                        && let Some(journal) = self.journals.get_mut(&connection.tree)
                    {
                        connection.storage.act(now, &event, machine, journal);
                    }
                }
            }
        }
    }

    /// Counters of a transfer, those of its last machine if there is none now.
    pub fn stats(&self, transfer: usize) -> Option<ReceiverStats> {
        let connection = self.connections.get(&transfer)?;
        let stats = connection.machine.as_ref().map(Receiver::stats);
        Some(stats.unwrap_or_else(|| connection.stats.clone()))
    }
}

/// The address of a sender as bytes.
fn peer(address: u64) -> [u8; 8] {
    address.to_be_bytes()
}

/// The secret of a host's process, the n-th after so many restarts.
fn secret(key: u64, restarted: u64) -> [u8; 32] {
    let mut secret = [0; 32];
    secret.as_chunks_mut::<8>().0.iter_mut().zip(1..).for_each(|(bytes, index)| {
        *bytes = mix(key ^ mix(restarted) ^ index).to_be_bytes();
    });
    secret
}
