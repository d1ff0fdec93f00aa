//! Somebody on the path who sees every packet, and adds some of its own. It loses nothing (that
//! is `link.rs`), and forges nothing that open mode does not claim to withstand: who answers in
//! the receiver's name can make a sender believe anything.

use super::impairment::{Direction, below, is_hit, mix};
use super::running::{Carried, Running};
use super::sending_host::{SendingHost, SimPacket};
use super::watch::Watch;
use crate::proto::{Sender, Time};
use crate::wire::{
    Ack, Bitmap, Close, CloseCode, Flags, Frame, FrameType, Limit, PacketNumber, Probe, Sealer,
    peek,
};

/// How often it acts, and in which ways.
#[derive(Clone, Debug, PartialEq)]
pub struct Hostile {
    /// How likely it reacts to a packet.
    pub probability: f64,
    /// To choose from, each equally likely.
    pub kinds: Vec<HostileKind>,
    /// From then on it does nothing.
    pub until: Time,
}

/// What it does about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostileKind {
    /// Noise in the packet's direction.
    Noise,
    /// The packet goes back to who sent it.
    Reflection,
    /// An ACK, in all else correct, of a number that was not sent, with endless credit.
    UnsentAck,
    /// A correct CLOSE to either end.
    FalseClose,
    /// The same body packet with other bytes and a right check.
    ForeignBody,
    /// HELLO and START again, from an address that is not the sender's.
    Stranger,
    /// A message that the port is closed.
    FalseRefusal,
    /// A PROBE, in all else correct, of a number that was not sent: from then on every ACK is of
    /// that number.
    UnsentProbe,
}

impl HostileKind {
    /// Every kind.
    pub const ALL: [HostileKind; 8] = [
        HostileKind::Noise,
        HostileKind::Reflection,
        HostileKind::UnsentAck,
        HostileKind::FalseClose,
        HostileKind::ForeignBody,
        HostileKind::Stranger,
        HostileKind::FalseRefusal,
        HostileKind::UnsentProbe,
    ];
}

/// What it adds.
#[derive(Clone, Debug)]
pub enum Addition {
    /// A packet in some direction.
    Packet(Direction, SimPacket),
    /// A packet to the receiver that seems to come from elsewhere.
    Foreign(SimPacket),
    /// A message that a port is closed, to the end that a packet of this direction goes to.
    Refusal(Direction),
}

/// An address that is not the sender's, and looks like any other.
pub fn foreign(address: u64) -> u64 {
    address ^ FOREIGN
}

/// Whether it is such a one.
pub fn is_foreign(address: u64) -> bool {
    address & FOREIGN != 0
}

const FOREIGN: u64 = 1 << 63;

/// More packets than a transfer of a simulation sends.
const UNSENT: u64 = 1 << 24;

/// Bytes of noise at most: more than any datagram of a usual path.
const NOISE_BYTES_MAX: u64 = 2_000;

impl Hostile {
    /// The kind of its reaction to the packet that `draw` stands for, if it reacts.
    pub fn reacts(&self, now: Time, draw: u64) -> Option<HostileKind> {
        if now >= self.until || self.kinds.is_empty() || !is_hit(mix(draw), self.probability) {
            return None;
        }
        self.kinds.get(below(mix(!draw), self.kinds.len() as u64) as usize).copied()
    }
}

impl Running {
    /// Somebody hostile sees a packet of a sender before it gets onto its link.
    pub fn meddle(
        &mut self,
        index: usize,
        direction: Direction,
        packet: &SimPacket,
        sender: &SendingHost,
    ) {
        let Some(hostile) = &self.flows[index].plan.hostile else { return };
        let draw = mix(self.draws ^ 0x0bad);
        let Some(kind) = hostile.reacts(self.now, draw) else { return };
        let watch = &self.watches[index];
        let added = addition(kind, draw, direction, packet, &sender.machine, watch);
        self.counters.count_hostile(kind, added.is_some());
        let address = self.flows[index].address(self.now);
        match added {
            // A stranger is quicker than who it copies.
            Some(Addition::Foreign(packet)) => {
                let links = self.flows[index].links;
                let bytes = packet.datagram_bytes();
                let carried = Carried { flow: index, address: foreign(address), packet };
                self.links[links].forward.offer(self.now, carried, bytes);
            }
            added => self.additions.extend(added.map(|added| (index, address, added))),
        }
    }

    /// What was added arrives as fast as anything on the path.
    pub fn add_hostile(&mut self) {
        for (index, address, addition) in std::mem::take(&mut self.additions) {
            let now = self.now;
            let flow = &mut self.flows[index];
            let links = &mut self.links[flow.links];
            let (link, address, packet) = match addition {
                Addition::Packet(Direction::Forward, packet) => {
                    (&mut links.forward, address, packet)
                }
                Addition::Packet(Direction::Backward, packet) => {
                    (&mut links.backward, address, packet)
                }
                Addition::Foreign(_) => continue,
                Addition::Refusal(Direction::Forward) => {
                    flow.refusals[1].get_or_insert(now + flow.plan.path.forward.delay);
                    continue;
                }
                Addition::Refusal(Direction::Backward) => {
                    flow.refusals[0].get_or_insert(now + flow.plan.path.backward.delay);
                    continue;
                }
            };
            let bytes = packet.datagram_bytes();
            link.offer(now, Carried { flow: index, address, packet }, bytes);
        }
    }
}

/// What `kind` adds to a packet that goes in `direction`; nothing where it does not apply.
pub fn addition(
    kind: HostileKind,
    draw: u64,
    direction: Direction,
    packet: &SimPacket,
    sender: &Sender,
    watch: &Watch,
) -> Option<Addition> {
    let back = match direction {
        Direction::Forward => Direction::Backward,
        Direction::Backward => Direction::Forward,
    };
    match kind {
        HostileKind::Noise => {
            let bytes = below(mix(draw), NOISE_BYTES_MAX);
            let mut noise: Vec<u8> = (0..bytes).map(|step| mix(draw ^ step) as u8).collect();
            if let Some(first) = noise.first_mut() {
                // One of the frame types more often than not.
                *first &= 7;
            }
            Some(Addition::Packet(direction, SimPacket::Datagram(noise)))
        }
        HostileKind::Reflection => match packet {
            SimPacket::Datagram(_) => Some(Addition::Packet(back, packet.clone())),
            SimPacket::Body(_) => None,
        },
        HostileKind::UnsentAck => {
            let packet = SimPacket::Datagram(unsent_ack(draw, watch)?);
            Some(Addition::Packet(Direction::Backward, packet))
        }
        HostileKind::FalseClose => {
            let packet = SimPacket::Datagram(false_close(draw, direction, sender, watch)?);
            Some(Addition::Packet(direction, packet))
        }
        HostileKind::ForeignBody => foreign_body(direction, packet, sender, watch),
        HostileKind::Stranger => match packet {
            SimPacket::Datagram(datagram) if direction == Direction::Forward => {
                let kind = peek(datagram).map(|(kind, _)| kind);
                let is_opening = matches!(kind, Some(FrameType::Hello | FrameType::Start));
                is_opening.then(|| Addition::Foreign(packet.clone()))
            }
            _ => None,
        },
        HostileKind::FalseRefusal => Some(Addition::Refusal(direction)),
        HostileKind::UnsentProbe => {
            let packet = SimPacket::Datagram(unsent_probe(draw, sender, watch)?);
            Some(Addition::Packet(Direction::Forward, packet))
        }
    }
}

fn unsent_ack(draw: u64, watch: &Watch) -> Option<Vec<u8>> {
    let greeting = watch.greeting()?;
    let [unsent, number] = watch.next_numbers();
    // So far ahead that it is not sent by the time this arrives, either.
    let largest = PacketNumber(unsent.0.saturating_add(UNSENT + below(draw, 100)));
    let base = PacketNumber(largest.0 / 64 * 64);
    // Bit i is bit i mod 8 of byte i / 8: the bytes of a number, least first.
    let bitmap = (u64::MAX >> (63 - (largest.0 - base.0))).to_le_bytes();
    let ack = Ack {
        largest,
        arrival_us: 0,
        delay_us: 0,
        received_packets: u64::MAX / 2,
        received_bytes: u64::MAX / 2,
        duplicates: 0,
        drops: 0,
        ecn_ce: 0,
        max_number: PacketNumber(u64::MAX),
        max_manifest: u64::MAX,
        max_digests: u64::MAX,
        max_body: u64::MAX,
        written: u64::MAX,
        datagram_bytes: u32::MAX,
        limit: Limit::Nothing,
        base,
        bitmap: Bitmap::from_bytes(&bitmap)?,
    };
    let sealer = Sealer { connection: greeting.connection, seed: greeting.seed };
    let mut datagram = Vec::new();
    sealer.seal(number, Flags::default(), &Frame::Ack(ack), &mut datagram);
    Some(datagram)
}

fn unsent_probe(draw: u64, sender: &Sender, watch: &Watch) -> Option<Vec<u8>> {
    let sealer = sender.sealer();
    if sealer.connection == 0 {
        return None;
    }
    let [unsent, _] = watch.next_numbers();
    let number = PacketNumber(unsent.0.saturating_add(UNSENT + below(draw, 100)));
    let probe = Probe { srtt_us: 0, window_packets: 0, answers: 0, datagram_bytes: 0 };
    let mut datagram = Vec::new();
    sealer.seal(number, Flags { ack_now: true }, &Frame::Probe(probe), &mut datagram);
    Some(datagram)
}

fn false_close(draw: u64, direction: Direction, sender: &Sender, watch: &Watch) -> Option<Vec<u8>> {
    let codes = [CloseCode::Done, CloseCode::Busy, CloseCode::Timeout, CloseCode::Internal];
    let code = codes[below(draw, codes.len() as u64) as usize];
    let greeting = watch.greeting()?;
    let [to_receiver, to_sender] = watch.next_numbers();
    let (sealer, number) = match direction {
        Direction::Forward => (sender.sealer(), to_receiver),
        Direction::Backward => {
            (Sealer { connection: greeting.connection, seed: greeting.seed }, to_sender)
        }
    };
    if sealer.connection == 0 {
        return None;
    }
    let mut datagram = Vec::new();
    sealer.seal(number, Flags::default(), &Frame::Close(Close { code, text: "" }), &mut datagram);
    Some(datagram)
}

fn foreign_body(
    direction: Direction,
    packet: &SimPacket,
    sender: &Sender,
    watch: &Watch,
) -> Option<Addition> {
    use crate::wire::{Data, Opener, Space};
    let forged = match packet {
        SimPacket::Body(body) => {
            SimPacket::Body(super::sending_host::BodyPacket { read_at: None, ..*body })
        }
        SimPacket::Datagram(datagram) if direction == Direction::Forward => {
            let sealer = sender.sealer();
            let [expected, _] = watch.next_numbers();
            let opener = Opener { connection: sealer.connection, seed: sealer.seed, expected };
            let packet = opener.open(datagram).ok()?;
            let Frame::Data(Data { space: Space::Body, offset, .. }) = packet.frame else {
                return None;
            };
            let mut forged = datagram.clone();
            *forged.last_mut()? ^= 1;
            sealer.seal_data(packet.number, packet.flags, Space::Body, offset, &mut forged);
            SimPacket::Datagram(forged)
        }
        SimPacket::Datagram(_) => return None,
    };
    Some(Addition::Packet(Direction::Forward, forged))
}
