//! "Spaces": entries of every kind, digests, AGAIN, VOID, what is refused or there already.

use ufx::proto::SenderEvent;
use ufx::sim::{Decision, Path, SimFile, Simulation, Stored, preset};
use ufx::wire::{DigestAlgorithm, EntryKind, RefuseCode, VoidReason};

use crate::{KIB, MIB, at, millis};

fn wan() -> Path {
    Path::new(Some(100_000_000), millis(20))
}

#[test]
fn empty_files_directories_and_links_are_settled_without_body() {
    let link = SimFile { kind: EntryKind::Symlink, ..SimFile::new(0) };
    let files = vec![SimFile::directory(), SimFile::new(0), link, SimFile::new(1)];
    for digest in [DigestAlgorithm::None, DigestAlgorithm::Xxh3, DigestAlgorithm::Blake3] {
        let outcome = Simulation::new(preset::lan())
            .payload()
            .files(files.clone())
            .sender(|transfer| transfer.config.digest = digest)
            .run();
        outcome.assert_delivered();
        assert_eq!(outcome.first().sender.body_bytes_sent, 1);
    }
    Simulation::new(preset::lan()).run().assert_delivered();
}

#[test]
fn holes_are_not_sent() {
    let mut holes = vec![0..5, 2 * MIB..4 * MIB + 7];
    holes.push(5 * MIB - 3..6 * MIB);
    let mut nothing = SimFile::new(MIB + 1);
    nothing.holes.push(0..MIB + 1);
    let files = vec![SimFile::sparse(6 * MIB, holes), nothing];
    let outcome = Simulation::new(preset::lan().loss(0.02)).payload().files(files).run();
    outcome.assert_delivered();
    let first = outcome.first();
    assert_eq!(first.sender.body_bytes_new, first.data_bytes());
}

//= proto.md#answer-records
//= type=test
//# When a block differs in epoch 3, too, the file is FAILED
//# `changed`.
#[test]
fn a_block_that_differs_is_sent_again_three_times() {
    for loss in [0.0, 0.1] {
        for times in 1..=4 {
            let mut file = SimFile::new(3 * MIB + 5);
            file.damaged_blocks = vec![(1, times), (3, 1)];
            let files = vec![SimFile::new(10), file, SimFile::new(MIB)];
            let outcome = Simulation::new(wan().loss(loss)).payload().files(files).run();
            outcome.assert_delivered();
            let first = outcome.first();
            let failed = Some(Stored::Failed(RefuseCode::Changed));
            let expected = if times == 4 { failed } else { Some(Stored::Committed) };
            assert_eq!(first.stored[1], expected, "{times} times, loss {loss}");
            let again = first
                .events
                .iter()
                .filter(|it| matches!(it, SenderEvent::Again { block, .. } if *block == 1));
            assert_eq!(again.count() as u32, times.min(3), "{times} times, loss {loss}");
        }
    }
}

//= proto.md#manifest-records
//= type=test
//# From here on no byte of the file is sent. The receiver answers FAILED
//# `source` for it and MUST NOT commit it
#[test]
fn a_file_that_cannot_be_read_fails_alone() {
    for reason in [VoidReason::Changed, VoidReason::Vanished, VoidReason::Unreadable] {
        let void = SimFile { void: Some(reason), ..SimFile::new(2 * MIB) };
        let files = vec![SimFile::new(MIB), void, SimFile::new(MIB)];
        let outcome = Simulation::new(wan()).payload().files(files).run();
        outcome.assert_delivered();
        assert_eq!(outcome.first().stored[1], Some(Stored::Failed(RefuseCode::Source)));
    }
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_never_committed_mixed() {
    for milliseconds in [0, 30, 100, 200, 2_000] {
        for seed in 0..3 {
            let changing = SimFile { changes_at: Some(at(milliseconds)), ..SimFile::new(3 * MIB) };
            let files = vec![changing, SimFile::new(KIB)];
            let path = wan().loss(0.05);
            let outcome = Simulation::new(path).seed(seed).payload().files(files).run();
            outcome.assert_delivered();
            let stored = outcome.first().stored[0];
            let late = milliseconds == 2_000;
            assert_eq!(stored == Some(Stored::Committed), late, "{milliseconds} ms: {stored:?}");
        }
    }
}

//= proto.md#answer-records
//= type=test
//# a late answer cancels what is not sent yet.
#[test]
fn what_is_refused_or_there_already_is_not_sent_further() {
    for decision in [Decision::Refuse(RefuseCode::Exists), Decision::Present] {
        let large = SimFile { decision, ..SimFile::new(64 * MIB) };
        let files = vec![SimFile::new(KIB), large, SimFile::new(KIB)];
        let outcome = Simulation::new(wan()).files(files).run();
        outcome.assert_delivered();
        let sent = outcome.first().sender.body_bytes_sent;
        assert!(sent < MIB, "{sent} bytes were sent until the answer came");
    }
}

#[test]
fn a_commit_that_fails_fails_its_file_alone() {
    let decision = Decision::FailCommit(RefuseCode::Disk);
    let failing = SimFile { decision, ..SimFile::new(MIB) };
    let files = vec![SimFile::new(KIB), failing, SimFile::new(KIB)];
    Simulation::new(wan()).payload().files(files).run().assert_delivered();
}

//= proto.md#handshake
//= type=test
//# DRY_RUN: only the manifest is sent; nothing is created; each entry is answered with PRESENT,
//# KEPT, REFUSED or TAKE.
#[test]
fn a_dry_run_sends_no_body() {
    let present = SimFile { decision: Decision::Present, ..SimFile::new(MIB) };
    let refused = SimFile { decision: Decision::Refuse(RefuseCode::Name), ..SimFile::new(MIB) };
    let sparse = SimFile::sparse(2 * MIB, vec![5..MIB, MIB + 1..MIB + 2]);
    let files = vec![SimFile::directory(), SimFile::new(MIB), present, refused, sparse];
    let outcome = Simulation::new(wan().loss(0.1))
        .files(files)
        .sender(|transfer| transfer.config.dry_run = true)
        .run();
    outcome.assert_delivered();
    assert_eq!(outcome.first().sender.body_bytes_sent, 0);
}

#[test]
fn a_tree_of_many_small_files_is_no_slower_than_its_bytes() {
    let mut files: Vec<SimFile> = (0..20_000).map(|index| SimFile::new(index % 3_000)).collect();
    for file in files.iter_mut().step_by(7) {
        file.decision = Decision::Present;
    }
    let path = Path::new(Some(1_000_000_000), millis(2));
    let outcome = Simulation::new(path).files(files).run();
    outcome.assert_delivered();
    let time = outcome.first().sender_time.expect("the sender ended");
    // 30 MB of body and 1.6 MB of manifest are 0.25 s.
    assert!(time < millis(600), "{time:?}");
}
