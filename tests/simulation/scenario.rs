//! What a simulated run is made of, as plain numbers: it can be printed, shortened and replayed.
//!
//! Times are milliseconds after the start, unless said otherwise.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use ufx::proto::{Algorithm, Time};
use ufx::sim::{
    Again, BurstLoss, Corrupting, CorruptionKind, Decision, Duplication, Hostile, HostileKind,
    Impairments, Jitter, JitterShape, LateTimers, LinkChange, LinkConfig, NewValue, Path, Policer,
    QueueLimit, Reordering, Restart, SendErrors, SimFile, Simulation, TimeWindow, TransferPlan,
};
use ufx::wire::{DigestAlgorithm, EntryKind, RefuseCode, VoidReason, limits};

/// A direction of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// From the sender to the receiver.
    There,
    /// From the receiver to the sender.
    Back,
}

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// All other chance comes from it.
    pub seed: u64,
    /// Bits per second; none is without bound.
    pub rate: Option<u64>,
    /// Of each direction, in microseconds.
    pub delay_us: [u64; 2],
    /// Packets that may wait in each direction; none is a bandwidth-delay product.
    pub queue_packets: Option<usize>,
    /// The largest packet of the path.
    pub mtu: usize,
    /// What is sent, by transfer.
    pub transfers: Vec<Vec<File>>,
    /// Whether bytes are simulated, not only places.
    pub payload: bool,
    /// The digest: 0 none, 1 XXH3-128, 2 BLAKE3.
    pub digest: u8,
    /// A fixed rate in bytes per second instead of a controller.
    pub fixed_rate: Option<u64>,
    /// Whether hosts report closed ports.
    pub icmp: bool,
    /// Whether an attempt has the port of the one before.
    pub same_port: bool,
    /// How long after an attempt the next one comes.
    pub again_after: u64,
    /// What is wanted of the receiver.
    #[serde(default)]
    pub purpose: Purpose,
    /// The receiver hands the body on in order, and takes so much more than it could hand on.
    #[serde(default)]
    pub ordered_window: Option<u64>,
    /// From then on there are no faults. None: what does not go by the clock goes on for ever.
    pub quiet_at: Option<u64>,
    /// The packets of each direction that faults may meet, by index; none is all.
    pub packets: [Option<(u64, u64)>; 2],
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// What is wanted of the receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// That it stores what is sent.
    #[default]
    Store,
    /// That it says what it would store.
    DryRun,
    /// That it takes all and stores nothing.
    Discard,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// Bytes.
    pub size: u64,
    /// What is peculiar about it.
    pub what: What,
}

/// What is peculiar about an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// Nothing.
    Plain,
    /// It is a directory.
    Directory,
    /// It is a symbolic link.
    Link,
    /// These ranges hold no data.
    Sparse(Vec<(u64, u64)>),
    /// Its end is not known before it is read, and it can be read once.
    Pipe,
    /// A hole before its bytes fills the body up: they lie at the end of what a body can be.
    Far,
    /// It is there already.
    Present,
    /// Something else is there.
    Refused,
    /// It cannot be renamed.
    NotCommitted,
    /// It cannot be read.
    Unreadable,
    /// It changes at this time.
    Changes(u64),
    /// This block is damaged in memory so many times.
    Damaged(u32, u32),
}

/// Something that goes wrong. Shares and probabilities run from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    /// Packets are lost, each on its own.
    Loss(Way, f64),
    /// Packets are lost in bursts: share, mean length.
    Bursts(Way, f64, f64),
    /// Packets come twice: share, microseconds apart.
    Duplication(Way, f64, u64),
    /// Packets come again after milliseconds.
    Replay(Way, f64, u64),
    /// Packets are held back: share, microseconds.
    Reordering(Way, f64, u64),
    /// Packets are damaged.
    Corruption(Way, f64),
    /// Packets are delayed by up to so many microseconds, in order or not.
    Jitter(Way, u64, bool),
    /// Nothing passes: from, for.
    Blackout(Way, u64, u64),
    /// What exceeds this rate (bits per second, burst in bytes) is dropped.
    Policer(u64, usize),
    /// From then on the path takes packets up to so many bytes only.
    MtuChange(u64, usize),
    /// From then on the rate is another.
    RateChange(u64, u64),
    /// From then on the delay there is another, in microseconds.
    DelayChange(u64, u64),
    /// The sender's address changes.
    AddressChange(u64),
    /// The sender is killed so long after the start of its next attempt.
    Kill(u64),
    /// The receiver dies, is gone for so long, and its power was cut or not.
    Restart(u64, u64, bool),
    /// Timers of the sender (There) or the receiver are late: share, by how much at most.
    LateTimers(Way, f64, u64),
    /// A process stands still: from, for.
    Stall(Way, u64, u64),
    /// The sender's kernel refuses datagrams: share, and share of these that only wait.
    SendErrors(f64, f64),
    /// The sender's kernel refuses longer datagrams.
    LocalMtu(usize),
    /// The receive buffer of the receiver (There) or the sender takes so many bytes.
    Buffer(Way, u64),
    /// Packets that may wait for the disk.
    Pool(u64),
    /// The disk: microseconds a write, bytes per second.
    SlowDisk(u64, u64),
    /// The disk stands still: from, for.
    DiskStall(u64, u64),
    /// The disk is full from this write on, for so many writes.
    DiskFull(u64, u64),
    /// This write fails.
    DiskError(u64),
    /// Every so many writes one is short.
    ShortWrites(u64),
    /// Unfinished files are synced so often.
    Sync(u64),
    /// Somebody hostile reacts to this share of packets in the n-th way.
    Hostile(f64, usize),
    /// The numbers of the sender's (There) or the receiver's packets start there.
    FirstNumber(Way, u64),
    /// The receiver's clock, in microseconds, when a transfer starts.
    FirstClock(u64),
    /// The receiver's 32-bit counters start there.
    FirstCount(u32),
}

/// So many milliseconds after the start.
pub fn at(milliseconds: u64) -> Time {
    Time::ZERO + Duration::from_millis(milliseconds)
}

fn window(from: u64, span: u64) -> TimeWindow {
    TimeWindow { from: at(from), until: at(from + span) }
}

impl Scenario {
    /// As a line of text that [`Scenario::from_text`] reads.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("numbers and names are JSON")
    }

    /// The scenario of such a line.
    pub fn from_text(text: &str) -> Scenario {
        serde_json::from_str(text).expect("a scenario as it was printed")
    }

    /// Whether a sender is killed, or a receiver.
    pub fn has_kill(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::Kill(_) | Fault::Restart(..)))
    }

    /// What it means to the simulation.
    pub fn simulation(&self) -> Simulation {
        let mut simulation = Simulation::new(self.path()).seed(self.seed);
        simulation.payload = self.payload;
        simulation.icmp = self.icmp;
        simulation.deadline = Duration::from_secs(4 * 3_600);
        for (index, files) in self.transfers.iter().enumerate() {
            if index > 0 {
                let plan = TransferPlan {
                    shares_path_of: Some(0),
                    path: simulation.transfers[0].path.clone(),
                    starts_at: at(7 * index as u64),
                    ..TransferPlan::default()
                };
                simulation.transfers.push(plan);
            }
            self.plan(&mut simulation.transfers[index], files);
        }
        simulation.receivers[0].config.ordered_window_bytes = self.ordered_window;
        for fault in &self.faults {
            self.apply_to_receiver(fault, &mut simulation);
            for index in 0..simulation.transfers.len() {
                self.apply_to_sender(fault, index, &mut simulation.transfers[index]);
            }
        }
        simulation
    }

    fn path(&self) -> Path {
        let [there, back] = self.delay_us.map(Duration::from_micros);
        let mut path = Path::new(self.rate, there + back);
        path.forward.delay = there;
        path.backward.delay = back;
        let mut path = path.both(|link| {
            link.mtu_bytes = Some(self.mtu);
            if self.queue_packets.is_some() {
                link.queue = QueueLimit { bytes: None, packets: self.queue_packets };
            }
        });
        for fault in &self.faults {
            apply_to_path(fault, &mut path);
        }
        let links = [&mut path.forward, &mut path.backward];
        for (link, packets) in links.into_iter().zip(&self.packets) {
            link.impairments.packets = packets.map(|(first, end)| first..end);
            link.impairments.until = self.quiet_at.map(at);
        }
        path
    }

    fn plan(&self, plan: &mut TransferPlan, files: &[File]) {
        plan.files = files.iter().map(File::to_sim).collect();
        fill_body(&mut plan.files, files);
        plan.config.dry_run = self.purpose == Purpose::DryRun;
        plan.config.discard = self.purpose == Purpose::Discard;
        plan.config.digest = match self.digest {
            0 => DigestAlgorithm::None,
            1 => DigestAlgorithm::Xxh3,
            _ => DigestAlgorithm::Blake3,
        };
        if let Some(rate) = self.fixed_rate {
            plan.config.algorithm = Algorithm::Fixed;
            plan.config.rate_bytes_max = Some(rate);
        }
        plan.config.route_datagram_bytes = self.mtu.max(1_500) - 28;
        plan.config.wait = Duration::from_secs(15);
        plan.again = Some(Again {
            attempts_max: 500,
            after: Duration::from_millis(self.again_after),
            same_port: self.same_port,
        });
    }

    fn quiet(&self) -> Time {
        self.quiet_at.map_or(Time::from_nanos(u64::MAX), at)
    }

    fn apply_to_sender(&self, fault: &Fault, index: usize, plan: &mut TransferPlan) {
        let host = &mut plan.host;
        let until = self.quiet();
        match *fault {
            Fault::AddressChange(time) => plan.address_changes.push(at(time)),
            Fault::Kill(after) if index == 0 => plan.kills.push(Duration::from_millis(after)),
            Fault::LateTimers(Way::There, probability, most) => {
                let most = Duration::from_millis(most);
                host.late_timers = Some(LateTimers { probability, most, until });
            }
            Fault::Stall(Way::There, from, span) => host.stalls.push(window(from, span)),
            Fault::SendErrors(probability, no_room) => {
                host.send_errors = Some(SendErrors { probability, no_room, until });
            }
            Fault::LocalMtu(bytes) => plan.local_datagram_bytes = Some(bytes - 28),
            Fault::Buffer(Way::Back, bytes) => plan.socket_bytes = Some(bytes),
            Fault::Hostile(probability, kind) => {
                let kind = HostileKind::ALL[kind % HostileKind::ALL.len()];
                let none = Hostile { probability, kinds: Vec::new(), until };
                plan.hostile.get_or_insert(none).kinds.push(kind);
            }
            Fault::FirstNumber(Way::There, number) => plan.config.first_number = number,
            Fault::FirstNumber(Way::Back, number) => plan.config.peer_first_number = number,
            Fault::FirstCount(count) => plan.config.peer_first_count = count,
            _ => {}
        }
    }

    fn apply_to_receiver(&self, fault: &Fault, simulation: &mut Simulation) {
        let plan = &mut simulation.receivers[0];
        let until = self.quiet();
        match *fault {
            Fault::Restart(time, down, power_cut) => plan.restarts.push(Restart {
                at: at(time),
                down: Duration::from_millis(down),
                power_cut,
            }),
            Fault::LateTimers(Way::Back, probability, most) => {
                let most = Duration::from_millis(most);
                plan.host.late_timers = Some(LateTimers { probability, most, until });
            }
            Fault::Stall(Way::Back, from, span) => plan.host.stalls.push(window(from, span)),
            Fault::Buffer(Way::There, bytes) => plan.config.socket_bytes = bytes,
            Fault::Pool(packets) => plan.pool_packets = packets,
            Fault::SlowDisk(latency_us, rate) => {
                plan.disk.write_latency = Duration::from_micros(latency_us);
                plan.disk.rate_bytes_per_second = Some(rate);
            }
            Fault::DiskStall(from, span) => plan.disk.stalls.push(window(from, span)),
            Fault::DiskFull(from, writes) => {
                plan.disk.full_from_write = Some(from);
                plan.disk.full_writes = Some(writes);
            }
            Fault::DiskError(write) => _ = plan.disk.failing_writes.insert(write),
            Fault::ShortWrites(every) => plan.disk.short_every = Some(every),
            Fault::Sync(interval) => plan.sync_interval = Duration::from_millis(interval),
            Fault::FirstNumber(Way::Back, number) => plan.config.first_number = number,
            Fault::FirstNumber(Way::There, number) => plan.config.peer_first_number = number,
            Fault::FirstClock(start) => plan.config.clock_start_us = start,
            Fault::FirstCount(count) => plan.config.first_count = count,
            _ => {}
        }
    }
}

impl File {
    fn to_sim(&self) -> SimFile {
        let file = SimFile::new(self.size);
        match &self.what {
            What::Plain => file,
            What::Directory => SimFile::directory(),
            What::Link => SimFile { kind: EntryKind::Symlink, ..SimFile::new(0) },
            What::Sparse(holes) => {
                // A file that was made shorter may end before them.
                let holes = holes.iter().filter(|hole| hole.0 < self.size);
                let holes = holes.map(|&(start, end)| start..end.min(self.size)).collect();
                SimFile::sparse(self.size, holes)
            }
            What::Pipe if self.size > limits::BLOCK_BYTES => SimFile::pipe(self.size),
            What::Pipe | What::Far => file,
            What::Present => SimFile { decision: Decision::Present, ..file },
            What::Refused => SimFile { decision: Decision::Refuse(RefuseCode::Exists), ..file },
            What::NotCommitted => {
                SimFile { decision: Decision::FailCommit(RefuseCode::Disk), ..file }
            }
            What::Unreadable => SimFile { void: Some(VoidReason::Unreadable), ..file },
            What::Changes(time) => SimFile { changes_at: Some(at(*time)), ..file },
            What::Damaged(block, times) => {
                SimFile { damaged_blocks: vec![(*block, *times)], ..file }
            }
        }
    }
}

/// Lets the body be as long as it can be, if one of the files is to lie at its end.
fn fill_body(files: &mut [SimFile], like: &[File]) {
    let Some(far) = like.iter().position(|file| file.what == What::Far) else { return };
    let hole = limits::BODY_BYTES_MAX - files.iter().map(|file| file.size).sum::<u64>();
    files[far] = SimFile::sparse(files[far].size + hole, std::iter::once(0..hole).collect());
}

fn link_of(path: &mut Path, way: Way) -> &mut LinkConfig {
    match way {
        Way::There => &mut path.forward,
        Way::Back => &mut path.backward,
    }
}

fn apply_to_path(fault: &Fault, path: &mut Path) {
    let change = |time, to| LinkChange { at: at(time), to };
    let impaired = |path: &mut Path, way, set: &dyn Fn(&mut Impairments)| {
        set(&mut link_of(path, way).impairments);
    };
    let micros = Duration::from_micros;
    match *fault {
        Fault::Loss(way, share) => impaired(path, way, &|it| it.loss = share),
        Fault::Bursts(way, mean_loss, mean_burst_packets) => impaired(path, way, &|it| {
            it.burst_loss = Some(BurstLoss { mean_loss, mean_burst_packets });
        }),
        Fault::Duplication(way, probability, apart) => impaired(path, way, &|it| {
            it.duplication = Some(Duplication { probability, delay: micros(apart) });
        }),
        Fault::Replay(way, probability, after) => impaired(path, way, &|it| {
            it.replay = Some(Duplication { probability, delay: micros(after * 1_000) });
        }),
        Fault::Reordering(way, probability, span) => impaired(path, way, &|it| {
            it.reordering = Some(Reordering { probability, delay: micros(span) });
        }),
        Fault::Corruption(way, probability) => impaired(path, way, &|it| {
            it.corruption = Some(Corrupting { probability, kinds: CorruptionKind::ALL.to_vec() });
        }),
        Fault::Jitter(way, max, keeps_order) => impaired(path, way, &|it| {
            let shape = JitterShape::Uniform { max: micros(max) };
            it.jitter = Some(Jitter { shape, keeps_order });
        }),
        Fault::Blackout(way, from, span) => {
            impaired(path, way, &|it| it.blackouts.push(window(from, span)));
        }
        Fault::Policer(rate_bits_per_second, burst_bytes) => {
            path.forward.policer = Some(Policer { rate_bits_per_second, burst_bytes });
        }
        Fault::MtuChange(time, mtu) => {
            path.forward.changes.push(change(time, NewValue::MtuBytes(Some(mtu))));
        }
        Fault::RateChange(time, rate) => {
            path.forward.changes.push(change(time, NewValue::RateBitsPerSecond(Some(rate))));
        }
        Fault::DelayChange(time, delay) => {
            path.forward.changes.push(change(time, NewValue::Delay(micros(delay))));
        }
        _ => {}
    }
}
