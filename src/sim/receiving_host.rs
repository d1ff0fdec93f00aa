//! The shell of a simulated receiver: sockets with bounded buffers, a disk, files.
//!
//! One process serves any number of transfers; each has a socket of its own, connected to its
//! sender, as the real one does.

use std::collections::{BTreeMap, VecDeque};

use super::disk::{Disk, DiskOutcome};
use super::host::{HostConfig, Wake, charged_bytes};
use super::impairment::Corruption;
use super::plan::ReceiverPlan;
use super::sending_host::{MEMORY_RUNS, SimPacket};
use super::storage::{Storage, Write};
use super::watch::Watch;
use crate::proto::{
    Admission, Place, ReceivedRun, Receiver, ReceiverConfig, ReceiverEvent, ReceiverStats, Time,
};
use crate::wire::{Data, Flags, Frame, FrameType, Packet, RefuseCode, Space, peek};

/// Datagrams taken in one turn, over all sockets.
const BATCH_PACKETS: usize = 64;

/// A datagram in a socket's queue.
#[derive(Debug)]
struct Queued {
    packet: SimPacket,
    corruption: Option<Corruption>,
}

/// One sender as the receiver's host sees it.
#[derive(Debug)]
pub struct Connection {
    /// The machine, once START was proven.
    pub machine: Option<Receiver>,
    /// What it told, except requests.
    pub ended: Option<ReceiverEvent>,
    /// When it was over.
    pub finished_at: Option<Time>,
    /// Datagrams that found the socket full.
    pub drops: u32,
    /// The most memory the machine held.
    pub memory_bytes_max: usize,
    /// What is stored.
    pub storage: Storage,
    socket: VecDeque<Queued>,
    socket_charged: u64,
    /// Packets whose buffers wait for the disk.
    held_packets: u64,
    runs: u64,
    /// The run of body that is being gathered, and its bytes.
    run: Option<(ReceivedRun, Vec<u8>, Time)>,
}

/// Something that ends when the disk has done what was before it.
#[derive(Debug)]
enum Job {
    Write { writes: Vec<Write>, bytes: u64, packets: u64, outcome: DiskOutcome },
    Event(ReceiverEvent),
}

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
    disk: Disk,
    /// Jobs by the time they end.
    jobs: BTreeMap<(Time, u64), (usize, Job)>,
    job_count: u64,
    busy_until: Time,
    places: Vec<Place>,
}

impl ReceivingHost {
    /// A process with its files; `transfers` are those that will come, with what they announce.
    pub fn new(plan: &ReceiverPlan, seed: [u8; 32], transfers: BTreeMap<usize, Storage>) -> Self {
        let connections = transfers.into_iter().map(|(transfer, storage)| {
            let connection = Connection {
                machine: None,
                ended: None,
                finished_at: None,
                drops: 0,
                memory_bytes_max: 0,
                storage,
                socket: VecDeque::new(),
                socket_charged: 0,
                held_packets: 0,
                runs: 0,
                run: None,
            };
            (transfer, connection)
        });
        ReceivingHost {
            connections: connections.collect(),
            wake: Wake::default(),
            host: plan.host.clone(),
            admission: Admission::new(plan.config.clone(), seed),
            config: plan.config.clone(),
            pool_packets: plan.pool_packets,
            disk: Disk::new(plan.disk.clone()),
            jobs: BTreeMap::new(),
            job_count: 0,
            busy_until: Time::ZERO,
            places: Vec::new(),
        }
    }

    /// Whether the socket of a transfer is closed.
    pub fn is_over(&self, now: Time, transfer: usize) -> bool {
        self.host.is_dead(now)
            || self.connections.get(&transfer).is_none_or(|it| it.finished_at.is_some())
    }

    /// A datagram reaches a socket. False if it is full.
    pub fn receive(
        &mut self,
        now: Time,
        transfer: usize,
        packet: SimPacket,
        corruption: Option<Corruption>,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(&transfer) else { return false };
        let charge = charged_bytes(packet.datagram_bytes());
        if connection.socket_charged + charge > self.config.socket_bytes {
            connection.drops += 1;
            return false;
        }
        connection.socket_charged += charge;
        connection.socket.push_back(Queued { packet, corruption });
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
        mut emit: impl FnMut(usize, &mut Watch, Vec<u8>),
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
                if let Some(answer) = self.take(now, transfer, queued, &mut watches[transfer]) {
                    emit(transfer, &mut watches[transfer], answer);
                }
            }
            self.flush_run(now, transfer, &mut watches[transfer]);
        }
        self.busy_until = now + self.host.packet_cost * packets as u32;
        for &transfer in &transfers {
            self.drive(now, transfer, |datagram| emit(transfer, &mut watches[transfer], datagram));
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
        let connection = self.connections.get_mut(&transfer)?;
        let mut datagram = match queued.packet {
            SimPacket::Datagram(datagram) => datagram,
            SimPacket::Body(body) => {
                let machine = connection.machine.as_mut()?;
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
            corruption.apply(&mut datagram);
        }
        let kind = peek(&datagram).map(|(kind, _)| kind);
        if kind == Some(FrameType::Hello) {
            if connection.machine.as_ref().is_some_and(|machine| !machine.is_closed()) {
                return None;
            }
            return self.admission.answer_hello(now, &peer(transfer), &datagram, || None);
        }
        if connection.machine.is_none() {
            self.admit(now, transfer, &datagram, watch);
            return None;
        }
        let machine = connection.machine.as_mut()?;
        match machine.opener().open(&datagram) {
            Ok(packet) => self.take_packet(now, transfer, &packet, watch),
            Err(_) => machine.handle_invalid(),
        }
        None
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
            return self.extend_run(now, transfer, one, payload, now, watch);
        }
        self.flush_run(now, transfer, watch);
        watch.on_handed(packet.number.0, 1);
        if let Some(machine) = self.machine_mut(transfer) {
            machine.handle_packet(now, packet);
        }
    }

    fn admit(&mut self, now: Time, transfer: usize, datagram: &[u8], watch: &mut Watch) {
        let accepted = self.admission.open_start(now, &peer(transfer), datagram);
        let Some(connection) = self.connections.get_mut(&transfer) else { return };
        if let Some(accepted) = accepted {
            watch.on_proven();
            watch.on_handed(accepted.number.0, 1);
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
        read_at: Time,
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
        watch.on_handed(run.first.0, run.packets);
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
        connection.held_packets += run.packets;
        let completion = self.disk.submit(now, bytes);
        let (packets, outcome) = (run.packets, completion.outcome);
        let job = Job::Write { writes, bytes, packets, outcome };
        self.do_by(now, completion.at, transfer, job);
    }

    /// Does a job at its time, which may be now.
    fn do_by(&mut self, now: Time, at: Time, transfer: usize, job: Job) {
        if at <= now && self.jobs.is_empty() {
            return self.finish_job(transfer, job);
        }
        self.job_count += 1;
        self.jobs.insert((at, self.job_count), (transfer, job));
        self.wake.by(at);
    }

    fn finish_jobs(&mut self, now: Time) {
        while let Some(entry) = self.jobs.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (transfer, job) = entry.remove();
            self.finish_job(transfer, job);
        }
    }

    fn finish_job(&mut self, transfer: usize, job: Job) {
        let Some(connection) = self.connections.get_mut(&transfer) else { return };
        let Some(machine) = connection.machine.as_mut() else { return };
        match job {
            Job::Write { writes, bytes, packets, outcome } => {
                connection.held_packets -= packets;
                let code = match outcome {
                    DiskOutcome::Written => {
                        writes.iter().for_each(|write| connection.storage.write(write));
                        return machine.on_written(bytes);
                    }
                    DiskOutcome::Full => RefuseCode::Space,
                    DiskOutcome::Failed => RefuseCode::Disk,
                };
                for write in writes {
                    connection.storage.fail(write.entry);
                    machine.entry_failed(write.entry, code, "the disk said no");
                }
            }
            Job::Event(event) => connection.storage.act(&event, machine),
        }
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
            connection.finished_at.get_or_insert(now);
        } else if let Some(at) = machine.poll_timeout(now) {
            let late = if at <= now { now } else { at + self.host.wake_latency };
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
                    {
                        connection.storage.act(&event, machine);
                    }
                }
            }
        }
    }

    /// Counters of a transfer, if it was admitted.
    pub fn stats(&self, transfer: usize) -> Option<ReceiverStats> {
        self.connections.get(&transfer)?.machine.as_ref().map(Receiver::stats)
    }
}

/// The address of a sender as bytes.
fn peer(transfer: usize) -> [u8; 8] {
    (transfer as u64).to_be_bytes()
}
