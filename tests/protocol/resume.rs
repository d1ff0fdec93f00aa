//! "Resume": what an interrupted transfer has left is not sent again.

use ufx::proto::{Error, SenderEvent};
use ufx::sim::{Path, SimFile, Simulation};
use ufx::wire::{VoidReason, limits};

use crate::{GIB, KIB, MIB, at, millis, window};

fn path() -> Path {
    Path::new(Some(1_000_000_000), millis(10))
}

/// What the second run sent, and what it had to, after the first one was cut by `cut`.
#[track_caller]
fn sent_again(cut: Simulation) -> (u64, u64) {
    let outcome = cut.clone().run();
    assert!(!outcome.first().is_finished());
    let again = cut.again_after(outcome.first());
    let kept: u64 = again.transfers[0].files.iter().map(SimFile::kept_bytes).sum();
    let outcome = again.run();
    outcome.assert_delivered();
    let first = outcome.first();
    assert_eq!(first.receiver.body_bytes_kept, kept);
    (first.sender.body_bytes_sent, first.data_bytes() - kept)
}

//= proto.md#resume
//= type=test
//# When the same file is
//# announced again, the receiver answers with HAVE, and the sender neither reads nor sends them.
#[test]
fn after_the_death_of_either_side_only_the_rest_is_sent() {
    let whole = Simulation::new(path()).files(vec![SimFile::new(GIB)]);
    // Half of it: 8.6 s at 1 Gbit/s. Bounded by what leaves before HAVE can be there.
    let allowed = 2 * MIB;
    let sender = whole.clone().sender(|it| it.host.killed_at = Some(at(4_300)));
    let receiver = whole.clone().receiver(|it| it.host.killed_at = Some(at(4_300)));
    for cut in [sender, receiver] {
        let (sent, missing) = sent_again(cut);
        assert!((400 * MIB..600 * MIB).contains(&missing), "{missing}");
        assert!(sent <= missing + allowed, "{sent} bytes sent, {missing} were missing");
    }
}

#[test]
fn small_and_large_files_with_holes_and_loss_go_on_where_they_were_cut() {
    let mut files = vec![SimFile::new(100), SimFile::directory(), SimFile::new(7 * MIB + 5)];
    files.push(SimFile::sparse(9 * MIB, vec![0..10, 2 * MIB + 5..5 * MIB, 8 * MIB..9 * MIB]));
    files.extend((0..20).map(|_| SimFile::new(50 * KIB)));
    files.push(SimFile::new(20 * MIB));
    for (seed, loss) in [(1, 0.0), (2, 0.05), (3, 0.2)] {
        for milliseconds in [30, 60, 90, 120, 180, 240] {
            let cut = Simulation::new(path().loss(loss))
                .seed(seed)
                .payload()
                .files(files.clone())
                .sender(|it| it.host.killed_at = Some(at(milliseconds)));
            if !cut.clone().run().first().is_finished() {
                sent_again(cut);
            }
        }
    }
}

#[test]
fn a_file_of_which_all_is_there_is_committed_without_a_byte_of_body() {
    let mut file = SimFile::new(5 * MIB + 3);
    file.kept.insert(0..file.blocks());
    // Where body needs a round trip to leave, HAVE is there before.
    let mut simulation = Simulation::new(path()).files(vec![SimFile::new(10), file]);
    simulation.payload = true;
    let outcome = simulation.run();
    outcome.assert_delivered();
    assert!(outcome.first().sender.body_bytes_sent < MIB);
}

#[test]
fn a_source_that_changes_while_its_rest_is_sent_is_not_committed() {
    let mut file = SimFile::new(40 * MIB);
    file.kept.insert(10..30);
    file.changes_at = Some(at(60));
    let outcome = Simulation::new(path()).payload().files(vec![file]).run();
    outcome.assert_delivered();
    let failed = outcome.first().events.iter().any(|it| matches!(it, SenderEvent::Failed { .. }));
    assert!(failed, "{:?}", VoidReason::Changed);
}

#[test]
fn after_a_lost_network_only_the_rest_is_sent() {
    let path = path().both(|link| link.impairments.blackouts = vec![window(2_000, 60_000)]);
    let cut = Simulation::new(path).files(vec![SimFile::new(GIB)]);
    let outcome = cut.clone().run();
    assert!(matches!(outcome.first().sender_error(), Some(Error::Silence { .. })));
    let verified = outcome.first().verified[0].covered() * limits::BLOCK_BYTES;
    assert!(verified > 150 * MIB, "{verified}");
    let mut again = cut.again_after(outcome.first());
    let path = &mut again.transfers[0].path;
    path.forward.impairments.blackouts.clear();
    path.backward.impairments.blackouts.clear();
    let outcome = again.run();
    outcome.assert_delivered();
    assert!(outcome.first().sender.body_bytes_sent <= GIB - verified + 2 * MIB);
}
