//! What a receiver tells its shell and its sender of what came.

use super::*;

#[test]
fn progress_shows_what_is_still_to_come_and_what_is_settled() {
    let mut receiver = receiver();
    let large = Entry { size: 2 * limits::BLOCK_BYTES, ..FILE };
    manifest(&mut receiver, 1, &[ManifestRecord::Entry(large), ManifestRecord::Entry(FILE)]);
    receiver.blocks_kept(0, 0, 1);
    receiver.entry_present(1);
    let progress = receiver.progress();
    assert_eq!((progress.settled, progress.entries, progress.is_final), (1, 2, false));
    assert_eq!(progress.body_bytes, limits::BLOCK_BYTES + 100);
    let stats = receiver.stats();
    assert_eq!((stats.body_bytes, stats.entries), (2 * limits::BLOCK_BYTES + 100, 2));
    assert_eq!(stats.body_bytes_kept, limits::BLOCK_BYTES);
}

#[test]
fn the_time_that_credit_bounded_the_sender_is_told_with_its_reason() {
    let mut receiver = receiver();
    let used_up = PacketNumber(1 << 40);
    receiver.credit.update(PacketNumber(1));
    receiver.credit.on_time(Duration::from_secs(1), used_up);
    receiver.set_room(0);
    receiver.credit.update(PacketNumber(1));
    receiver.credit.on_time(Duration::from_secs(2), used_up);
    let stats = receiver.stats();
    assert_eq!(stats.held_by_socket, Duration::from_secs(1));
    assert_eq!(stats.held_by_disk, Duration::from_secs(2));
}

#[test]
fn a_probe_that_acknowledges_no_more_than_before_does_not_hurry_answers() {
    let mut receiver = receiver();
    manifest(&mut receiver, 1, &[ManifestRecord::Entry(FILE); 2]);
    ack(&mut receiver, at(0), |_| {});
    receiver.entry_present(0);
    let first = answers(&mut receiver, at(0)).unwrap().len() as u64;
    handle(&mut receiver, at(0), 2, Frame::Probe(Probe { answers: first, ..PROBE }));
    receiver.entry_committed(1);
    while receiver.poll_transmit(at(0)).is_some() {}
    while receiver.poll_transmit(at(200)).is_some() {}
    assert_eq!((receiver.answers_backoff, receiver.answers_sent_at), (1, Some(at(200))));
    handle(&mut receiver, at(300), 3, Frame::Probe(Probe { answers: first, ..PROBE }));
    assert_eq!((receiver.answers_backoff, receiver.answers_sent_at), (1, Some(at(200))));
}

#[test]
fn a_dry_run_is_known_as_such() {
    for dry_run in [false, true] {
        let greeting = Greeting { dry_run, ..greeting() };
        let accepted = Accepted { greeting, ..accepted() };
        let receiver = Receiver::new(at(0), ReceiverConfig::default(), &accepted);
        assert_eq!(receiver.is_dry_run(), dry_run);
    }
}

#[test]
fn credit_is_stated_for_the_largest_datagram_that_came() {
    let mut receiver = receiver();
    let run = ReceivedRun { payload_bytes: 4_000, bytes: 10_000, ..body(2, 3, 0, 0) };
    receiver.handle_body(at(0), &run, &mut Vec::new());
    assert_eq!(receiver.datagram_bytes(), 4_000 + limits::DATA_HEADER_BYTES);
}

#[test]
fn what_could_not_be_placed_is_taken_when_it_comes_again() {
    let mut receiver = receiver();
    let mut places = Vec::new();
    receiver.handle_body(at(0), &body(2, 2, 0, 80), &mut places);
    assert!(places.is_empty(), "of no entry that is known");
    let far = Data { space: Space::Manifest, offset: receiver.manifest.limit(), payload: b"x" };
    handle(&mut receiver, at(0), 4, Frame::Data(far));
    assert_eq!(receiver.stats().unplaced, 2 + 1);
    manifest(&mut receiver, 5, &[ManifestRecord::Entry(FILE)]);
    handle(&mut receiver, at(0), 4, Frame::Data(far));
    assert!(receiver.sack.is_held(PacketNumber(4)), "the window is open as far by now");
    receiver.handle_body(at(0), &body(2, 2, 0, 80), &mut places);
    assert_eq!(places.len(), 1);
    receiver.handle_body(at(0), &body(2, 2, 0, 80), &mut places);
    let stats = receiver.stats();
    assert_eq!((stats.unplaced, stats.duplicates, stats.body_bytes_again), (3, 5, 0));
}

#[test]
fn records_that_break_a_rule_end_the_transfer() {
    let file = ManifestRecord::Entry(FILE);
    let end = |entries, body_bytes| ManifestRecord::End {
        entries,
        body_bytes,
        digests_bytes: 0,
        digest: Digest::NONE,
    };
    let owner = ManifestRecord::Owner { user: 1, group: 2 };
    let attribute = ManifestRecord::Attribute { name: b"user.a", value: b"x" };
    let void = ManifestRecord::Void { entry: 1, reason: VoidReason::Changed };
    let cases: [(&[ManifestRecord<'_>], &str); 8] = [
        (&[file, end(2, 100)], "the manifest's end does not agree with it"),
        (&[file, end(1, 101)], "the manifest's end does not agree with it"),
        (&[file, end(1, 100), end(1, 100)], "the manifest's end does not agree with it"),
        (&[owner, owner, file], "an owner comes twice or too late"),
        (&[file, end(1, 100), owner], "an owner comes twice or too late"),
        (&[file, end(1, 100), attribute], "attributes come too late or are too long"),
        (&[file, void], "an unknown entry was declared void"),
        (&[file, ManifestRecord::More { bytes: 1 }], "a further block follows no pipe"),
    ];
    for (records, rule) in cases {
        let mut receiver = receiver();
        manifest(&mut receiver, 1, records);
        let told = std::iter::from_fn(|| receiver.poll_event()).last();
        assert_eq!(told, Some(ReceiverEvent::Closed(Error::Protocol { rule })), "{records:?}");
    }
}

#[test]
fn a_digest_waits_for_its_entry_until_the_manifest_has_ended() {
    let mut receiver = receiver();
    let mut payload = Vec::new();
    DigestRecord { entry: 1, block: 0, epoch: 0, digest: Digest::NONE }.encode(&mut payload);
    let data = Data { space: Space::Digests, offset: 0, payload: &payload };
    manifest(&mut receiver, 1, &[ManifestRecord::Entry(FILE)]);
    handle(&mut receiver, at(0), 2, Frame::Data(data));
    assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::Entry(_))));
    assert_eq!(receiver.poll_event(), None, "another may come");
    let digests_bytes = payload.len() as u64;
    let (entries, body_bytes, digest) = (1, 100, Digest::NONE);
    let end = ManifestRecord::End { entries, body_bytes, digests_bytes, digest };
    manifest(&mut receiver, 3, &[end]);
    let rule = "a digest of an unknown block";
    let error = ReceiverEvent::Closed(Error::Protocol { rule });
    assert_eq!(receiver.poll_event(), Some(error));
}

#[test]
fn an_entry_weighs_with_its_path_and_its_target() {
    let mut receiver = receiver();
    let link = Entry { kind: EntryKind::Symlink, size: 0, path: b"ab", target: b"xyz", ..FILE };
    manifest(&mut receiver, 1, &[ManifestRecord::Entry(link)]);
    assert_eq!(receiver.body.unsettled_name_bytes(), 5);
}

#[test]
fn a_port_is_reported_closed_until_something_is_heard() {
    let mut receiver = receiver();
    assert!(!receiver.is_refused());
    receiver.handle_refused(at(1));
    assert!(receiver.is_refused());
    handle(&mut receiver, at(2), 1, Frame::Probe(PROBE));
    assert!(!receiver.is_refused());
}
