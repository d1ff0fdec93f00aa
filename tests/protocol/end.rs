//! "End": END, CLOSE, linger, silence, and who was killed.

use ufx::proto::{Error, ReceiverEvent, Time};
use ufx::sim::{Path, Simulation, TimeWindow};

use crate::{MIB, at, millis, window};

fn path() -> Path {
    Path::new(Some(100_000_000), millis(10))
}

//= proto.md#end
//= type=test
//# it repeats END until PROBE acknowledges all answers,
//# CLOSE arrives, its host reports the sender's port closed, or 20 s have passed
#[test]
fn a_receiver_that_hears_nothing_after_the_end_lingers() {
    let without = Simulation::new(path()).transfer(1_000);
    let (forward, backward) = (without.first().forward, without.first().backward);
    for icmp in [true, false] {
        let mut path = path();
        // Both CLOSEs are lost.
        let packets = forward.offered_packets;
        path.forward.impairments.lose_packets = (packets - 2..packets).collect();
        let mut simulation = Simulation::new(path);
        simulation.icmp = icmp;
        let outcome = simulation.transfer(1_000);
        outcome.assert_delivered();
        assert_eq!(outcome.first().receiver_end, Some(ReceiverEvent::Finished));
        let time = outcome.first().receiver_time.expect("the receiver ended");
        let expected = if icmp { millis(20)..millis(200) } else { millis(20_000)..millis(20_100) };
        assert!(expected.contains(&time), "{time:?}");
    }
    // END is lost, twice.
    let mut path = path();
    let packets = backward.offered_packets;
    path.backward.impairments.lose_packets = (packets - 1..=packets).collect();
    let outcome = Simulation::new(path).transfer(1_000);
    outcome.assert_delivered();
    assert!(outcome.first().sender_time < Some(millis(400)), "{:?}", outcome.first().sender_time);
}

//= proto.md#end
//= type=test
//# a receiver that
//# goes on listening for other senders keeps the result for 60 s.
#[test]
fn a_patient_sender_learns_of_the_result_after_a_cut_of_45_s() {
    let path = path().both(|link| link.impairments.blackouts = vec![window(12, 45_000)]);
    let mut simulation = Simulation::new(path).sender(|it| it.config.timeout = millis(100_000));
    simulation = simulation.receiver(|it| it.config.linger = millis(60_000));
    let outcome = simulation.transfer(1_000);
    outcome.assert_delivered();
    let time = outcome.first().sender_time.expect("the sender ended");
    assert!((millis(45_000)..millis(47_000)).contains(&time), "{time:?}");
    assert_eq!(outcome.first().receiver_end, Some(ReceiverEvent::Finished));
}

//= proto.md#end
//= type=test
//# A peer is gone after 20 s of silence (configurable), or after half of that if the host
//# reports its port closed in that time.
#[test]
fn a_peer_that_was_killed_is_noticed() {
    for icmp in [true, false] {
        let times =
            if icmp { millis(10_000)..millis(11_500) } else { millis(20_000)..millis(21_500) };
        let mut simulation = Simulation::new(path());
        simulation.icmp = icmp;
        let killed = at(100);
        let sender_killed = simulation.clone().sender(|it| it.host.killed_at = Some(killed));
        let outcome = sender_killed.transfer(64 * MIB);
        let first = outcome.first();
        assert!(matches!(first.receiver_error(), Some(Error::Silence { .. })));
        assert!(times.contains(&first.receiver_time.expect("the receiver ended")));
        let receiver_killed = simulation.receiver(|it| it.host.killed_at = Some(killed));
        let outcome = receiver_killed.transfer(64 * MIB);
        let first = outcome.first();
        assert!(matches!(first.sender_error(), Some(Error::Silence { .. })));
        assert!(times.contains(&first.sender_time.expect("the sender ended")));
    }
}

#[test]
fn silence_of_the_network_ends_both_after_20_s() {
    let forever = TimeWindow { from: at(100), until: Time::ZERO + millis(1_000_000) };
    let path = path().both(|link| link.impairments.blackouts = vec![forever]);
    let outcome = Simulation::new(path).transfer(64 * MIB);
    let first = outcome.first();
    assert!(matches!(first.sender_error(), Some(Error::Silence { .. })));
    assert!(matches!(first.receiver_error(), Some(Error::Silence { .. })));
    assert!(outcome.finished_at < at(20_500));
}

#[test]
fn silence_of_15_s_is_survived() {
    let path = path().both(|link| link.impairments.blackouts = vec![window(100, 15_000)]);
    let outcome = Simulation::new(path).transfer(8 * MIB);
    outcome.assert_delivered();
    assert!(outcome.finished_at < at(18_000), "{:?}", outcome.finished_at);
}
