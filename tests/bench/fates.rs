//! Packets on the emulated link meet the fates their seed names: each by its index, in every run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::time::Duration;

use ufx::compare::emulator::{Emulator, EmulatorConfig, Tally};
use ufx::compare::lab::{Host, Lab, LabError};
use ufx::io::clock::Clock;
use ufx::sim::{
    Corrupting, CorruptionKind, Direction, Duplication, Fate, Fates, Impairments, Path, Reordering,
};

use super::has_rights;

const SEED: u64 = 7;
/// All of them, and a fifth doubled, fit the kernel's default receive buffer (about 1,100 bytes
/// each): a test that is not scheduled for a while loses none.
const COUNT: u32 = 150;
const BYTES: usize = 200;

/// A path without a rate: nothing but the impairments happens to packets.
fn path(impairments: Impairments) -> Path {
    Path::new(None, Duration::from_millis(1)).both(|link| {
        link.overhead_bytes = 0;
        link.impairments = impairments.clone();
    })
}

fn socket(host: &Host) -> UdpSocket {
    let bound = host.run(|| {
        UdpSocket::bind((host.address, 0))
            .map_err(|error| LabError::Step { step: "bind a socket", error })
    });
    bound.unwrap()
}

/// Numbered datagrams through a fresh lab: the numbers that arrived, in their order, and the
/// link's own count.
fn carry(impairments: Impairments) -> (Vec<u32>, Tally) {
    println!("seed {SEED}");
    let mut lab = Lab::emulated().unwrap();
    let ports = lab.ports.take().unwrap();
    let config = EmulatorConfig { path: path(impairments), seed: SEED, step_bytes: u64::MAX };
    let emulator = Emulator::start(ports, &config, Clock::start()).unwrap();
    let (sender, receiver) = (socket(&lab.sender), socket(lab.receiver()));
    // Only the end of the run waits so long; nothing is measured.
    receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let address = receiver.local_addr().unwrap();
    let mut arrived = Vec::new();
    let mut datagram = [0; 2_048];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                let mut datagram = [0xa5; BYTES];
                datagram[..4].copy_from_slice(&number.to_be_bytes());
                sender.send_to(&datagram, address).unwrap();
            }
        });
        while let Ok(length) = receiver.recv(&mut datagram) {
            assert_eq!(length, BYTES);
            arrived.push(u32::from_be_bytes(*datagram.first_chunk().unwrap()));
        }
    });
    (arrived, emulator.finish())
}

fn fates(impairments: &Impairments) -> Vec<Fate> {
    Fates::new(impairments.clone(), SEED, Direction::Forward).take(COUNT as usize).collect()
}

#[test]
fn exactly_the_chosen_packets_are_lost() {
    if !has_rights() {
        return;
    }
    let lose_packets = BTreeSet::from([0, 3, 4, 99, u64::from(COUNT) - 1]);
    let (arrived, tally) =
        carry(Impairments { lose_packets: lose_packets.clone(), ..Impairments::default() });
    let expected: Vec<u32> =
        (0..COUNT).filter(|number| !lose_packets.contains(&u64::from(*number))).collect();
    assert_eq!(arrived, expected);
    assert_eq!(tally.forward.link.lost.chosen, 5);
    assert_eq!(tally.forward.device_drops + tally.backward.device_drops, 0);
}

#[test]
fn lost_and_doubled_packets_are_those_the_seed_names_in_every_run() {
    if !has_rights() {
        return;
    }
    let impairments = Impairments {
        loss: 0.1,
        duplication: Some(Duplication { probability: 0.2, delay: Duration::from_micros(50) }),
        ..Impairments::default()
    };
    let expected: BTreeMap<u32, usize> = (0..)
        .zip(fates(&impairments))
        .filter(|(_, fate)| fate.lost.is_none())
        .map(|(number, fate)| (number, 1 + usize::from(fate.duplicate_after.is_some())))
        .collect();
    for _ in 0..2 {
        let mut arrived: BTreeMap<u32, usize> = BTreeMap::new();
        for number in carry(impairments.clone()).0 {
            *arrived.entry(number).or_default() += 1;
        }
        assert_eq!(arrived, expected);
    }
}

#[test]
fn held_back_packets_are_overtaken_and_no_others() {
    if !has_rights() {
        return;
    }
    let delay = Duration::from_millis(100);
    let reordering = Some(Reordering { probability: 0.05, delay });
    let impairments = Impairments { reordering, ..Impairments::default() };
    let held_back: BTreeSet<u32> = (0..)
        .zip(fates(&impairments))
        .filter(|(_, fate)| fate.held_back.is_some())
        .map(|(number, _)| number)
        .collect();
    let (arrived, _) = carry(impairments);
    assert_eq!(arrived.len(), COUNT as usize);
    let in_order: Vec<u32> =
        arrived.iter().copied().filter(|number| !held_back.contains(number)).collect();
    assert!(in_order.is_sorted(), "{in_order:?}");
    assert!(!arrived.is_sorted());
}

#[test]
fn damaged_packets_with_swapped_words_pass_the_checksum_of_udp() {
    if !has_rights() {
        return;
    }
    let corruption = Some(Corrupting { probability: 1.0, kinds: vec![CorruptionKind::SwapWords] });
    let (arrived, tally) = carry(Impairments { corruption, ..Impairments::default() });
    assert_eq!(arrived.len(), COUNT as usize);
    assert_eq!(tally.forward.link.corrupted_packets, u64::from(COUNT));
}
