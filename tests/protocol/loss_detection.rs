//! "Loss detection".

use std::time::Duration;

use ufx::sim::{Path, QueueLimit, Reordering, Simulation, preset};

use crate::{MIB, millis, window};

//= proto.md#loss-detection
//= type=test
//# Lost content is sent again in a packet with a new number.
#[test]
fn a_lost_packet_is_sent_again_under_a_new_number() {
    // HELLO, START, START and the manifest come first.
    for index in [4, 5, 10, 200] {
        let outcome = Simulation::new(preset::lan().lose_packet(index)).payload().transfer(MIB);
        outcome.assert_delivered();
        assert_eq!(outcome.first().sender.packets_lost, 1, "packet {index}");
        assert_eq!(outcome.first().sender.packets_spurious, 0);
    }
}

//= proto.md#loss-detection
//= type=test
//# When it expires the sender sends up to two
//# packets with ACK_NOW: the oldest unacknowledged content, or a PROBE if there is none
#[test]
fn the_loss_of_the_last_packets_costs_a_probe_timeout() {
    let without = Simulation::new(preset::lan()).transfer(20 * 1_452);
    let packets = without.first().forward.offered_packets;
    // The last but CLOSE, twice, and the acknowledgement of answers.
    for lost in 1..5 {
        let mut path = preset::lan();
        path.forward.impairments.lose_packets = (packets - 3 - lost..packets - 3).collect();
        let outcome = Simulation::new(path).transfer(20 * 1_452);
        outcome.assert_delivered();
        let time = outcome.first().sender_time.expect("the sender ended");
        assert!(time < millis(30), "{lost} lost: {time:?}");
    }
}

//= proto.md#loss-detection
//= type=test
//# A packet that is reported after it was declared lost was a spurious loss
#[test]
fn a_packet_that_was_only_late_is_not_sent_again_where_that_can_be_helped() {
    let mut path = Path::new(Some(100_000_000), millis(4));
    path.forward.impairments.reordering = Some(Reordering { probability: 0.02, delay: millis(12) });
    let outcome = Simulation::new(path).seed(5).transfer(16 * MIB);
    outcome.assert_delivered();
    let sender = &outcome.first().sender;
    assert!(sender.packets_spurious > 0, "the test does not test");
    assert!(sender.packets_spurious * 2 > sender.packets_lost);
    let share = sender.packets_resent as f64 / sender.packets_sent as f64;
    assert!(share < 0.03, "{share} of all packets were sent again");
}

#[test]
fn after_a_blackout_of_all_acks_what_arrived_is_not_sent_again() {
    let mut path = Path::new(Some(1_000_000_000), millis(2));
    path.backward.impairments.blackouts = vec![window(10, 200)];
    path.forward.queue = QueueLimit::default();
    let outcome = Simulation::new(path).transfer(8 * MIB);
    outcome.assert_delivered();
    let first = outcome.first();
    assert!(first.sender.packets_resent < 40, "{} resent", first.sender.packets_resent);
}

#[test]
fn a_short_transfer_takes_three_round_trips() {
    let rtt = millis(15);
    let outcome = Simulation::new(Path::new(Some(1_000_000_000), rtt)).transfer(10_000);
    outcome.assert_delivered();
    let time = outcome.first().sender_time.expect("the sender ended");
    assert!(time < rtt * 2 + Duration::from_millis(5), "{time:?}: HELLO, then all the rest");
}
