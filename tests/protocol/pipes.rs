//! "Manifest records" and "Credit" for what cannot be read again, or must be handed on in order.

use ufx::proto::Held;
use ufx::sim::{Decision, DiskConfig, Path, SimFile, Simulation, Stored, preset};
use ufx::wire::{DigestAlgorithm, RefuseCode, VoidReason, limits};

use crate::{KIB, MIB, millis, window};

fn wan() -> Path {
    Path::new(Some(1_000_000_000), millis(20))
}

//= proto.md#manifest-records
//= type=test
//# a receiver MUST NOT commit it before it has
//# compared END's digest.
#[test]
fn a_pipe_of_any_length_arrives_whole_whatever_is_lost() {
    for (index, bytes) in [MIB + 1, 2 * MIB, 5 * MIB + 3, 30 * MIB].into_iter().enumerate() {
        for loss in [0.0, 0.02, 0.2] {
            for digest in [DigestAlgorithm::Xxh3, DigestAlgorithm::None] {
                let outcome = Simulation::new(wan().loss(loss))
                    .seed(index as u64)
                    .payload()
                    .files(vec![SimFile::new(10), SimFile::pipe(bytes)])
                    .sender(|transfer| transfer.config.digest = digest)
                    .run();
                outcome.assert_delivered();
                assert_eq!(outcome.first().stored[1], Some(Stored::Committed));
            }
        }
    }
}

#[test]
fn a_pipe_that_is_refused_or_breaks_ends_the_transfer_as_a_file_would() {
    let mut refused = SimFile::pipe(20 * MIB);
    refused.decision = Decision::Refuse(RefuseCode::Exists);
    let mut broken = SimFile::pipe(20 * MIB);
    broken.void = Some(VoidReason::Unreadable);
    let mut uncommitted = SimFile::pipe(20 * MIB);
    uncommitted.decision = Decision::FailCommit(RefuseCode::Disk);
    for file in [refused, broken, uncommitted] {
        for loss in [0.0, 0.05] {
            let outcome = Simulation::new(wan().loss(loss)).files(vec![file.clone()]).run();
            outcome.assert_delivered();
            assert!(outcome.first().is_finished());
        }
    }
}

//= proto.md#manifest-records
//= type=test
//# The sender need not keep what is acknowledged; it answers AGAIN for that with VOID.
#[test]
fn a_block_of_a_pipe_that_differs_is_sent_again_or_given_up_but_never_kept() {
    let mut file = SimFile::pipe(12 * MIB);
    file.damaged_blocks = vec![(3, 1)];
    let outcome = Simulation::new(wan()).payload().files(vec![file]).run();
    let stored = outcome.first().stored[0];
    let given_up = Some(Stored::Failed(RefuseCode::Source));
    assert!(stored == Some(Stored::Committed) || stored == given_up, "{stored:?}");
}

//= proto.md#credit
//= type=test
//# it lets max_body be 32 MiB above what it has handed on.
#[test]
fn what_is_handed_on_in_order_is_never_held_beyond_its_window() {
    let in_order = |simulation: Simulation| {
        simulation.receiver(|host| {
            host.config.ordered_window_bytes = Some(limits::ORDERED_WINDOW_BYTES);
            host.pool_packets = u64::MAX;
        })
    };
    for loss in [0.0, 0.01, 0.1] {
        for file in [SimFile::new(80 * MIB), SimFile::pipe(80 * MIB + 7)] {
            // The storage asserts the bound at each write.
            let path = Path::new(Some(10_000_000_000), millis(10)).loss(loss);
            let outcome = in_order(Simulation::new(path)).files(vec![file]).run();
            outcome.assert_delivered();
        }
    }
    // A reader that takes nothing for ten seconds holds the sender, and costs it nothing.
    let stalled = in_order(Simulation::new(preset::lan())).receiver(|host| {
        host.disk = DiskConfig { stalls: vec![window(5, 10_000)], ..DiskConfig::default() };
    });
    let outcome = stalled.transfer(100 * MIB);
    outcome.assert_delivered();
    let first = outcome.first();
    assert_eq!(first.sender.packets_lost, 0, "a slow reader never looks like loss");
    assert!(first.sender.held.get(Held::ReceiverDisk) > millis(9_000));
    let time = first.sender_time.expect("the sender ended");
    assert!((millis(10_000)..millis(11_500)).contains(&time), "{time:?}");
}

#[test]
fn handing_on_in_order_costs_no_speed_where_the_reader_keeps_up() {
    let time = |window: Option<u64>| {
        let simulation = Simulation::new(wan().loss(0.001))
            .receiver(|host| host.config.ordered_window_bytes = window);
        let outcome = simulation.transfer(200 * MIB + 3 * KIB);
        outcome.assert_delivered();
        outcome.first().sender_time.expect("the sender ended")
    };
    let (anywhere, in_order) = (time(None), time(Some(limits::ORDERED_WINDOW_BYTES)));
    assert!(in_order < anywhere + anywhere / 10, "{in_order:?} and {anywhere:?}");
}
