//! What a simulation counts of its faults, so that a test can say which were met.

use std::collections::BTreeMap;

use super::corruption::CorruptionKind;
use super::hostile::HostileKind;
use super::link::LinkCounters;

/// How often each thing happened, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    counts: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// It happened once.
    pub fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// It happened so often; never does not count.
    pub fn add(&mut self, name: &'static str, times: u64) {
        if times > 0 {
            *self.counts.entry(name).or_default() += times;
        }
    }

    /// How often it happened.
    pub fn get(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// All that happened, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: &Counters) {
        other.iter().for_each(|(name, times)| self.add(name, times));
    }

    /// A damaged packet has arrived.
    pub fn count_corruption(&mut self, kind: CorruptionKind) {
        self.count(match kind {
            CorruptionKind::FlipBit => "corruption: a flipped bit",
            CorruptionKind::Truncate => "corruption: cut short",
            CorruptionKind::Extend => "corruption: lengthened",
            CorruptionKind::SwapWords => "corruption: swapped words",
            CorruptionKind::Offset => "corruption: neutral to UDP's checksum",
            CorruptionKind::Splice => "corruption: spliced",
        });
    }

    /// Somebody hostile reacted, and `applied` if that came to something.
    pub fn count_hostile(&mut self, kind: HostileKind, applied: bool) {
        let name = match kind {
            HostileKind::Noise => "hostile: noise",
            HostileKind::Reflection => "hostile: a reflected packet",
            HostileKind::UnsentAck => "hostile: an ACK of what was not sent",
            HostileKind::FalseClose => "hostile: a false CLOSE",
            HostileKind::ForeignBody => "hostile: other bytes with a right check",
            HostileKind::Stranger => "hostile: HELLO or START from elsewhere",
            HostileKind::FalseRefusal => "hostile: a false closed port",
            HostileKind::UnsentProbe => "hostile: a PROBE of what was not sent",
        };
        self.add(name, u64::from(applied));
    }

    /// What both directions of a path have done.
    pub fn count_links(&mut self, links: [&LinkCounters; 2]) {
        let one_way = ["black-out to the receiver", "black-out to the sender"];
        for (link, one_way) in links.into_iter().zip(one_way) {
            self.add("packets", link.offered_packets);
            self.add("loss", link.lost.random);
            self.add("loss in bursts", link.lost.burst);
            self.add("chosen loss", link.lost.chosen);
            self.add(one_way, link.lost.blackout);
            self.add("full queue", link.lost.queue);
            self.add("policer", link.lost.policer);
            self.add("too long for the path", link.lost.mtu);
            self.add("duplication", link.duplicated_packets);
            self.add("replay", link.replayed_packets);
            self.add("reordering", link.reordered_packets);
        }
    }
}
