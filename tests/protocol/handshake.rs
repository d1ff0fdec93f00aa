//! "Handshake": HELLO, WELCOME, START under loss; who is not there.

use std::time::Duration;

use ufx::proto::{Error, Time};
use ufx::sim::{Duplication, Path, SimFile, Simulation, TimeWindow, preset};

use crate::{MIB, millis};

/// Loses the first packets of both directions.
fn losing(forward: u64, backward: u64) -> Path {
    let mut path = preset::lan();
    path.forward.impairments.lose_packets = (0..forward).collect();
    path.backward.impairments.lose_packets = (0..backward).collect();
    path
}

//= proto.md#handshake
//= type=test
//# The sender sends HELLO and repeats it 20, 60, 140 and 300 ms after the first, then every 300 ms
#[test]
fn a_lost_hello_or_welcome_is_repeated_after_20_ms() {
    for (path, times) in
        [(losing(1, 0), [20, 40]), (losing(0, 1), [20, 40]), (losing(1, 1), [60, 80])]
    {
        let outcome = Simulation::new(path).transfer(1_000);
        outcome.assert_delivered();
        let time = outcome.first().sender_time.expect("the sender ended");
        assert!((millis(times[0])..millis(times[1])).contains(&time), "{time:?}");
    }
}

//= proto.md#handshake
//= type=test
//# START is sent twice in the first flight, and again with every probe until a packet of the
//# transfer arrives from the receiver.
#[test]
fn a_lost_start_is_sent_again() {
    // HELLO has index 0; both STARTs of the first flight follow it.
    let outcome = Simulation::new(losing(1, 0).lose_packet(2)).transfer(MIB);
    outcome.assert_delivered();
    let mut path = preset::lan();
    path.forward.impairments.lose_packets = [1, 2].into();
    let outcome = Simulation::new(path).transfer(MIB);
    outcome.assert_delivered();
    assert!(outcome.first().sender_time < Some(millis(100)), "{:?}", outcome.first().sender_time);
    assert!(outcome.first().sender.probe_timeouts > 0);
}

//= proto.md#handshake
//= type=test
//# until WELCOME arrives or its patience ends (10 s by default;
#[test]
fn a_receiver_that_is_not_there_is_waited_for_10_s() {
    let mut path = preset::lan();
    path.forward.impairments.loss = 1.0;
    let outcome = Simulation::new(path).transfer(1);
    let first = outcome.first();
    assert!(matches!(first.sender_error(), Some(Error::NoAnswer { refused: false, .. })));
    let time = first.sender_time.expect("the sender ended");
    assert!((millis(10_000)..millis(10_100)).contains(&time), "{time:?}");
    assert!(first.sender.packets_sent < 45, "{} HELLOs", first.sender.packets_sent);
}

//= proto.md#handshake
//= type=test
//# 2 s once its host reports the port closed
#[test]
fn a_closed_port_is_waited_for_2_s() {
    let simulation =
        Simulation::new(preset::lan()).receiver(|host| host.host.killed_at = Some(Time::ZERO));
    let outcome = simulation.transfer(1);
    assert!(matches!(
        outcome.first().sender_error(),
        Some(Error::NoAnswer { refused: true, waited }) if *waited < millis(2_100)
    ));
}

#[test]
fn a_receiver_that_starts_late_is_found() {
    // A path that is down stands for a receiver that is not up.
    let window = TimeWindow { from: Time::ZERO, until: Time::ZERO + Duration::from_secs(8) };
    let path = preset::lan().both(|link| link.impairments.blackouts = vec![window]);
    let outcome = Simulation::new(path).transfer(MIB);
    outcome.assert_delivered();
    assert!(outcome.first().sender_time < Some(millis(8_500)));
}

//= proto.md#handshake
//= type=test
//# It keeps the first good one; later ones
//# change nothing.
#[test]
fn duplicates_of_the_handshake_change_nothing() {
    let duplication = Duplication { probability: 1.0, delay: millis(1) };
    let path = preset::lan().both(|link| link.impairments.duplication = Some(duplication));
    let outcome = Simulation::new(path).payload().transfer(MIB);
    outcome.assert_delivered();
    assert_eq!(outcome.first().receiver.entries, 1);
}

//= proto.md#handshake
//= type=test
//# What arrives before START is dropped: not counted, not
//# answered.
#[test]
fn data_that_overtakes_start_is_sent_again() {
    let mut path = preset::lan();
    path.forward.impairments.lose_packets = [1, 2].into();
    let outcome = Simulation::new(path).payload().files(vec![SimFile::new(100_000)]).run();
    outcome.assert_delivered();
    let first = outcome.first();
    assert!(first.receiver.packets_received < first.sender.packets_sent);
}
