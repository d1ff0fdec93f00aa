//! "Acknowledgement" and "Credit".

use ufx::proto::Held;
use ufx::sim::{DiskConfig, Path, Simulation, preset};

use crate::{KIB, MIB, at, millis, window};

//= proto.md#credit
//= type=test
//# Every PROBE with ACK_NOW is answered with the current credit, so that no
//# loss of an ACK can stop a transfer for good.
#[test]
fn a_span_without_any_ack_stops_the_sender_only_for_that_span() {
    for (from, until) in [(1, 300), (3, 200), (10, 1_500)] {
        let mut path = Path::new(Some(1_000_000_000), millis(1));
        path.backward.impairments.blackouts = vec![window(from, until)];
        let outcome = Simulation::new(path).transfer(8 * MIB);
        outcome.assert_delivered();
        let time = outcome.first().sender_time.expect("the sender ended");
        assert!(time < millis(until + 1_200), "{time:?} after {from} to {until} ms");
    }
}

#[test]
fn a_receiver_whose_disk_stalls_is_waited_for() {
    let simulation = Simulation::new(preset::lan()).receiver(|host| {
        host.pool_packets = 256;
        host.disk = DiskConfig {
            write_latency: millis(0),
            stalls: vec![window(5, 15_000)],
            ..DiskConfig::default()
        };
    });
    let outcome = simulation.transfer(8 * MIB);
    outcome.assert_delivered();
    let first = outcome.first();
    assert_eq!(first.drops, 0);
    assert_eq!(first.sender.packets_lost, 0, "a slow disk never looks like loss");
    assert!(first.sender.held.get(Held::ReceiverDisk) > millis(14_000));
    let time = first.sender_time.expect("the sender ended");
    assert!((millis(15_000)..millis(16_000)).contains(&time), "{time:?}");
}

#[test]
fn a_small_socket_is_never_overrun() {
    for socket_bytes in [8 * KIB, 16 * KIB, 64 * KIB, 208 * KIB] {
        for rtt in [0, 2, 20] {
            let path = Path::new(Some(1_000_000_000), millis(rtt));
            let simulation =
                Simulation::new(path).receiver(|host| host.config.socket_bytes = socket_bytes);
            let outcome = simulation.transfer(2 * MIB);
            outcome.assert_delivered();
            assert_eq!(outcome.first().drops, 0, "{socket_bytes} bytes, {rtt} ms");
        }
    }
}

//= proto.md#acknowledgement
//= type=test
//# after clamp(min(window_packets, credit left) / 4, 1, 512) packets that no ACK has reported;
#[test]
fn few_packets_go_back() {
    let path = Path::new(Some(1_000_000_000), millis(10));
    let outcome = Simulation::new(path)
        .receiver(|host| host.config.socket_bytes = 8 * MIB)
        .transfer(64 * MIB);
    outcome.assert_delivered();
    let first = outcome.first();
    let per_ack = first.sender.packets_sent / first.receiver.acks;
    assert!(per_ack > 100, "{per_ack} packets for each ACK");
}

//= proto.md#end
//= type=test
//# After a stall of its own of more than two seconds, a peer probes before it
//# judges.
#[test]
fn a_process_that_was_stopped_for_longer_than_the_timeout_goes_on() {
    for sender_stops in [true, false] {
        let stall = window(10, 25_000);
        let simulation = Simulation::new(Path::new(Some(100_000_000), millis(2)))
            .sender(|transfer| {
                if sender_stops {
                    transfer.host.stalls = vec![stall];
                }
                transfer.config.timeout = millis(40_000);
            })
            .receiver(|host| {
                if !sender_stops {
                    host.host.stalls = vec![stall];
                }
                host.config.timeout = millis(40_000);
            });
        let outcome = simulation.transfer(8 * MIB);
        outcome.assert_delivered();
        assert!(outcome.finished_at < at(28_000), "sender stops: {sender_stops}");
    }
}
