//! A whole receiver, by hand: what it counts, what it says, and when.

mod ending;
mod telling;

use std::time::Duration;

use super::*;
use crate::proto::{Accepted, Error, Time};
use crate::wire::{
    Ack, Close, CloseCode, Data, Digest, DigestRecord, Entry, EntryKind, Flags, Greeting, Identity,
    ManifestRecord, Mode, Space,
};

const START_BYTES: usize = 84;
const WINDOW: u64 = 32 << 20;

const FILE: Entry<'static> = Entry {
    kind: EntryKind::File,
    mode: 0o644,
    mtime_seconds: 0,
    mtime_nanos: 0,
    size: 100,
    identity: Identity { device: 0, inode: 0, ctime_seconds: 0, ctime_nanos: 0 },
    path: b"a",
    target: b"",
};

fn at(milliseconds: u64) -> Time {
    Time::ZERO + Duration::from_millis(milliseconds)
}

fn greeting() -> Greeting {
    Greeting {
        version_max: 1,
        version_min: 1,
        mode: Mode::Open,
        digest: DigestAlgorithm::None,
        dry_run: false,
        discard: false,
        connection: 7,
        seed: 8,
        nonce: [9; 16],
        key_share: [0; 32],
    }
}

fn accepted() -> Accepted {
    Accepted {
        greeting: greeting(),
        connection: 1,
        seed: 2,
        srtt_us: 100_000,
        number: PacketNumber(0),
        datagram_bytes: START_BYTES,
    }
}

fn receiver_with(config: ReceiverConfig) -> Receiver {
    Receiver::new(at(0), config, &accepted())
}

fn receiver() -> Receiver {
    receiver_with(ReceiverConfig::default())
}

/// A packet of 1,200 bytes.
fn handle(receiver: &mut Receiver, now: Time, number: u64, frame: Frame<'_>) {
    let (number, flags) = (PacketNumber(number), Flags::default());
    let packet = Packet { connection: 1, number, flags, frame, datagram_bytes: 1_200 };
    receiver.handle_packet(now, &packet);
}

fn manifest(receiver: &mut Receiver, number: u64, records: &[ManifestRecord<'_>]) {
    let mut payload = Vec::new();
    records.iter().for_each(|record| record.encode(&mut payload));
    let offset = receiver.manifest.frontier();
    let data = Data { space: Space::Manifest, offset, payload: &payload };
    handle(receiver, receiver.last_heard, number, Frame::Data(data));
}

fn digest(receiver: &mut Receiver, number: u64, block: u32, epoch: u8) {
    let mut payload = Vec::new();
    DigestRecord { entry: 0, block, epoch, digest: Digest::NONE }.encode(&mut payload);
    let offset = receiver.digests.frontier();
    let data = Data { space: Space::Digests, offset, payload: &payload };
    handle(receiver, receiver.last_heard, number, Frame::Data(data));
}

const PROBE: Probe =
    Probe { srtt_us: 40_000, window_packets: 8, answers: 0, datagram_bytes: 1_200 };

/// The next datagram as a frame, if there is one.
fn next<T>(receiver: &mut Receiver, now: Time, read: impl FnOnce(&Frame<'_>) -> T) -> Option<T> {
    let datagram = receiver.poll_transmit(now)?;
    let opener = Opener { connection: 7, seed: 8, expected: PacketNumber(0) };
    Some(read(&opener.open(&datagram).unwrap().frame))
}

fn ack<T>(receiver: &mut Receiver, now: Time, read: impl FnOnce(&Ack<'_>) -> T) -> T {
    let found = next(receiver, now, |frame| match frame {
        Frame::Ack(ack) => read(ack),
        other => panic!("{other:?}"),
    });
    found.expect("an ACK is due")
}

/// The payload of the next packet, which carries answers.
fn answers(receiver: &mut Receiver, now: Time) -> Option<Vec<u8>> {
    next(receiver, now, |frame| match frame {
        Frame::Data(Data { space: Space::Answers, payload, .. }) => payload.to_vec(),
        other => panic!("{other:?}"),
    })
}

fn body(first: u64, packets: u64, offset: u64, bytes: u64) -> ReceivedRun {
    let first = PacketNumber(first);
    ReceivedRun { first, packets, offset, payload_bytes: 40, bytes, ack_now: false }
}

#[test]
fn every_packet_counts_once_and_an_ack_tells_all_of_it() {
    let mut receiver = receiver();
    receiver.set_drops(7);
    receiver.on_written(10);
    receiver.on_written(5);
    ack(&mut receiver, at(0), |ack| assert_eq!(ack.received_packets, 1));
    handle(&mut receiver, at(10), 5, Frame::Probe(PROBE));
    handle(&mut receiver, at(20), 5, Frame::Probe(PROBE));
    handle(&mut receiver, at(30), 3, Frame::Probe(PROBE));
    let packets = 3;
    let bytes = START_BYTES as u64 + 2 * 1_200;
    // A quarter of 40 ms is more than an ACK may wait: 5 ms.
    ack(&mut receiver, at(31), |ack| {
        assert_eq!(ack.largest, PacketNumber(5));
        assert_eq!((ack.arrival_us, ack.delay_us), (10_000, 21_000), "of the largest");
        assert_eq!((ack.received_packets, ack.received_bytes), (packets, bytes));
        assert_eq!((ack.duplicates, ack.drops, ack.written), (1, 7, 15));
        assert_eq!(ack.datagram_bytes, 1_472);
        assert_eq!((ack.base, ack.bitmap.words()), (PacketNumber(0), 1));
        assert_eq!(ack.bitmap.word(0), 0b10_1001);
        assert_eq!(ack.max_manifest, limits::STREAM_WINDOW_BYTES);
    });
    receiver.handle_invalid();
    receiver.handle_invalid();
    let stats = receiver.stats();
    assert_eq!((stats.packets_received, stats.datagram_bytes_received), (packets, bytes));
    assert_eq!((stats.duplicates, stats.invalid, stats.drops), (1, 2, 7));
    assert_eq!(stats.datagram_bytes_max, 1_200);
    let fillings = 2 * (1_200 - limits::PROBE_BYTES_MIN as u64);
    assert_eq!(stats.filling_bytes_received, fillings, "a duplicate tells nothing");
    assert_eq!((stats.acks, stats.packets_sent), (2, 2));
    assert_eq!(stats.datagram_bytes_sent, 2 * (limits::ACK_BYTES_MIN as u64 + 8));
    assert_eq!((stats.packets_numbered, stats.written), (6, 15));
    assert_eq!(receiver.datagram_bytes(), 1_472);
    assert_eq!(receiver.last_heard(), at(30));
}

#[test]
fn an_ack_reaches_back_two_windows_and_a_half() {
    let mut receiver = receiver();
    let words = |receiver: &mut Receiver, number| {
        let probe = Probe { window_packets: 1_000, ..PROBE };
        handle(receiver, at(1), number, Frame::Probe(probe));
        handle(
            receiver,
            at(1),
            number + 1,
            Frame::Start(crate::wire::Start { greeting: greeting(), srtt_us: 0 }),
        );
        ack(receiver, at(1), |ack| (ack.base.0, ack.bitmap.words() as u64))
    };
    let (base, count) = words(&mut receiver, 100_000);
    assert_eq!(count, (2_500 + 256) / 64);
    assert_eq!(base + 64 * count, 100_032);
}

#[test]
fn body_is_held_as_far_as_it_is_known_and_counted_by_the_packet() {
    let mut receiver = receiver();
    manifest(&mut receiver, 1, &[ManifestRecord::Entry(FILE)]);
    let mut places = Vec::new();
    let before = receiver.stats().datagram_bytes_received;
    receiver.handle_body(at(1), &body(2, 3, 0, 100), &mut places);
    let place = Place { entry: 0, file_offset: 0, run_offset: 0, bytes: 100 };
    assert_eq!(places, [place]);
    let stats = receiver.stats();
    assert_eq!(stats.datagram_bytes_received - before, 60 + 60 + 40);
    assert_eq!((stats.body_bytes_received, stats.body_bytes_again, stats.unplaced), (100, 0, 0));

    receiver.handle_body(at(1), &body(5, 2, 20, 80), &mut places);
    assert_eq!(receiver.stats().body_bytes_again, 80);
    receiver.handle_body(at(1), &body(7, 1, 60, 40), &mut places);
    assert_eq!((receiver.stats().body_bytes_again, places.len()), (120, 1));

    // The second packet and what is behind it lie beyond the file.
    receiver.handle_body(at(1), &body(8, 3, 60, 120), &mut places);
    let stats = receiver.stats();
    assert_eq!((stats.unplaced, stats.body_bytes_received), (2, 100 + 80 + 40 + 120));
    assert_eq!(stats.packets_received, 11);
    ack(&mut receiver, at(2), |ack| assert_eq!(ack.bitmap.word(0), 0b1_1111_1111));
    // The same packets again are no duplicates of what was held, but held no more than before.
    receiver.handle_body(at(3), &body(8, 3, 60, 120), &mut places);
    let stats = receiver.stats();
    assert_eq!((stats.duplicates, stats.unplaced, stats.packets_received), (3, 4, 11));
    let wish = ReceivedRun { ack_now: true, ..body(11, 1, 0, 40) };
    receiver.handle_body(at(3), &wish, &mut places);
    ack(&mut receiver, at(3), |ack| assert_eq!(ack.largest, PacketNumber(11)));
}

#[test]
fn neighbours_that_end_alike_share_an_answer() {
    let mut receiver = receiver();
    manifest(&mut receiver, 1, &[ManifestRecord::Entry(FILE); 9]);
    ack(&mut receiver, at(0), |_| {});
    receiver.entry_present(0);
    receiver.entry_present(1);
    receiver.entry_kept(2);
    receiver.entry_kept(3);
    receiver.entry_committed(4);
    receiver.entry_committed(5);
    receiver.entry_committed(7);
    receiver.entry_refused(6, RefuseCode::Exists, &"é".repeat(200));
    receiver.entry_failed(8, RefuseCode::Disk, "x");
    receiver.entry_failed(8, RefuseCode::Disk, "once is enough");
    let told = answers(&mut receiver, at(0)).unwrap();
    let (mut rest, mut found) = (&told[..], Vec::new());
    while let Ok(Some((record, used))) = AnswerRecord::decode(rest) {
        found.push(record);
        rest = &rest[used..];
    }
    let short = "é".repeat(127);
    let expected = [
        // A run is told when another one of its kind begins, or something else is.
        AnswerRecord::Committed { first_entry: 4, entries: 2 },
        AnswerRecord::Present { first_entry: 0, entries: 2 },
        AnswerRecord::Kept { first_entry: 2, entries: 2 },
        AnswerRecord::Committed { first_entry: 7, entries: 1 },
        AnswerRecord::Refused { entry: 6, code: RefuseCode::Exists, text: &short },
        AnswerRecord::Failed { entry: 8, code: RefuseCode::Disk, text: "x" },
    ];
    assert_eq!((found.as_slice(), rest), (&expected[..], &[][..]));
    let stats = receiver.stats();
    assert_eq!((stats.present, stats.committed, stats.failed), (4, 3, 2));
    let progress = receiver.progress();
    assert_eq!((progress.settled, progress.entries, progress.body_bytes), (9, 9, 900));
    assert!(!progress.is_final);
}

//= proto.md#loss-detection
//= type=test
//# on again after max(2 srtt, 10 ms), doubled each time up to 1 s.
#[test]
fn answers_are_repeated_less_and_less_often_until_they_are_acknowledged() {
    let mut receiver = receiver();
    manifest(&mut receiver, 1, &[ManifestRecord::Entry(FILE); 2]);
    ack(&mut receiver, at(0), |_| {});
    receiver.entry_present(0);
    assert_eq!(receiver.poll_timeout(at(0)), Some(at(0)), "there is something to say");
    let told = answers(&mut receiver, at(0)).unwrap();
    let mut now = 0;
    for pause in [200, 400, 800, 1_000, 1_000] {
        // ACKs that keep the sender from giving up come in between.
        while let Some(is_ack) =
            next(&mut receiver, at(now + pause - 1), |frame| matches!(frame, Frame::Ack(_)))
        {
            assert!(is_ack, "answers after {pause} ms");
        }
        now += pause;
        assert!(receiver.poll_timeout(at(now - 1)).is_some_and(|at_| at_ <= at(now)));
        let mut came = None;
        while let Some(payload) = next(&mut receiver, at(now), |frame| match frame {
            Frame::Data(data) => Some(data.payload.to_vec()),
            _ => None,
        }) {
            came = came.or(payload);
        }
        assert_eq!(came.as_ref(), Some(&told), "after {pause} ms");
    }
    let probe = Probe { answers: told.len() as u64, ..PROBE };
    handle(&mut receiver, at(now), 2, Frame::Probe(Probe { answers: 9_999, ..PROBE }));
    assert!(!receiver.answers.is_acknowledged(), "so much was not said");
    handle(&mut receiver, at(now), 3, Frame::Probe(probe));
    assert!(receiver.answers.is_acknowledged());
    assert_eq!((receiver.answers_backoff, receiver.answers_sent_at), (0, None));
    assert_eq!(receiver.smoothed_rtt, Duration::from_millis(40));
    handle(&mut receiver, at(now), 4, Frame::Probe(Probe { srtt_us: 0, ..probe }));
    assert_eq!(receiver.smoothed_rtt, Duration::from_millis(40), "0 is none");
}

#[test]
fn a_file_is_compared_committed_or_asked_for_again() {
    let mut receiver = receiver();
    manifest(&mut receiver, 1, &[ManifestRecord::Entry(FILE)]);
    assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::Entry(_))));
    ack(&mut receiver, at(0), |_| {});
    let verify = ReceiverEvent::Verify { entry: 0, block: 0, digest: Digest::NONE };
    for epoch in 0..=3 {
        let number = 10 + 10 * u64::from(epoch);
        receiver.handle_body(at(0), &body(number, 3, 0, 100), &mut Vec::new());
        assert_eq!(receiver.poll_event(), None, "its digest has not come");
        digest(&mut receiver, number + 5, 0, epoch);
        assert_eq!(receiver.poll_event(), Some(verify.clone()));
        receiver.block_differs(0, 0);
        let again = AnswerRecord::Again { entry: 0, block: 0, epoch: epoch + 1 };
        let mut told = None;
        while let Some(payload) = next(&mut receiver, at(0), |frame| match frame {
            Frame::Data(data) => data.payload.to_vec(),
            _ => Vec::new(),
        }) {
            told = told.or(Some(payload).filter(|payload| !payload.is_empty()));
        }
        let told = told.unwrap_or_default();
        match epoch {
            3 => assert!(told.is_empty(), "{told:?}"),
            _ => assert_eq!(AnswerRecord::decode(&told), Ok(Some((again, told.len())))),
        }
    }
    let code = RefuseCode::Changed;
    let abandon = ReceiverEvent::Abandon { entry: 0, code, reason: None };
    assert_eq!(receiver.poll_event(), Some(abandon));
}

#[test]
fn a_file_without_bytes_and_a_verified_one_are_committed() {
    let mut receiver = receiver();
    let empty = ManifestRecord::Entry(Entry { size: 0, ..FILE });
    manifest(&mut receiver, 1, &[ManifestRecord::Entry(FILE), empty]);
    assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::Entry(_))));
    assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::Entry(_))));
    assert_eq!(receiver.poll_event(), Some(ReceiverEvent::Commit { entry: 1 }));
    digest(&mut receiver, 2, 0, 0);
    receiver.handle_body(at(0), &body(3, 3, 0, 100), &mut Vec::new());
    assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::Verify { .. })));
    receiver.block_verified(0, 0);
    assert_eq!(receiver.poll_event(), Some(ReceiverEvent::Commit { entry: 0 }));
    let end = ManifestRecord::End {
        entries: 2,
        body_bytes: 100,
        digests_bytes: receiver.digests.consumed(),
        digest: Digest::NONE,
    };
    manifest(&mut receiver, 6, &[end]);
    receiver.entry_committed(0);
    assert_eq!(receiver.poll_event(), None, "one is open");
    receiver.entry_committed(1);
    assert_eq!(receiver.poll_event(), Some(ReceiverEvent::Settled));
    assert_eq!(receiver.poll_event(), None);
}

#[test]
fn a_pipe_goes_on_block_by_block_and_is_committed_at_the_end_of_all() {
    let mut receiver = receiver();
    let block = limits::BLOCK_BYTES;
    let pipe = Entry { kind: EntryKind::Pipe, size: block, ..FILE };
    manifest(&mut receiver, 1, &[ManifestRecord::Entry(pipe)]);
    receiver.poll_event();
    let whole = |first, offset, bytes| ReceivedRun {
        payload_bytes: bytes,
        ..body(first, 1, offset, bytes)
    };
    receiver.handle_body(at(0), &whole(2, 0, block), &mut Vec::new());
    receiver.handle_body(at(0), &whole(3, block, 10), &mut Vec::new());
    assert_eq!(receiver.stats().unplaced, 1, "no MORE has announced it");
    digest(&mut receiver, 4, 0, 0);
    digest(&mut receiver, 5, 1, 0);
    receiver.poll_event();
    receiver.block_verified(0, 0);
    assert_eq!(receiver.poll_event(), None, "it may go on, and a digest waits for it");
    manifest(&mut receiver, 6, &[ManifestRecord::More { bytes: 10 }]);
    assert_eq!(receiver.poll_event(), Some(ReceiverEvent::More { entry: 0, bytes: 10 }));
    receiver.handle_body(at(0), &whole(7, block, 10), &mut Vec::new());
    assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::Verify { block: 1, .. })));
    receiver.block_verified(0, 1);
    assert_eq!(receiver.poll_event(), None, "END has not come");
    let digests_bytes = receiver.digests.consumed() + 9;
    let end = ManifestRecord::End {
        entries: 1,
        body_bytes: block + 10,
        digests_bytes,
        digest: Digest::NONE,
    };
    manifest(&mut receiver, 8, &[end]);
    assert_eq!(receiver.poll_event(), None, "END speaks of another digest record");
    digest(&mut receiver, 9, 1, 0);
    assert_eq!(receiver.poll_event(), Some(ReceiverEvent::Commit { entry: 0 }));
    manifest(&mut receiver, 10, &[ManifestRecord::More { bytes: 10 }]);
    let rule = "a further block follows no pipe";
    let error = ReceiverEvent::Closed(Error::Protocol { rule });
    assert_eq!(receiver.poll_event(), Some(error), "the last block was short");
}

#[test]
fn what_is_handed_on_in_order_opens_the_window_and_is_told_by_the_block() {
    let config = ReceiverConfig { ordered_window_bytes: Some(WINDOW), ..ReceiverConfig::default() };
    let mut receiver = receiver_with(config);
    let block = limits::BLOCK_BYTES;
    ack(&mut receiver, at(0), |ack| assert_eq!(ack.max_body, WINDOW));
    receiver.set_handed_on(block - 1);
    assert_eq!(receiver.poll_transmit(at(0)), None, "that is not worth an ACK");
    receiver.set_handed_on(block);
    ack(&mut receiver, at(0), |ack| assert_eq!(ack.max_body, WINDOW + block));
    receiver.set_handed_on(0);
    assert_eq!(receiver.credit.max_body(), WINDOW + block, "credit never retreats");
    let mut elsewhere = self::receiver();
    ack(&mut elsewhere, at(0), |ack| assert_eq!(ack.max_body, limits::OFFSET_MAX));
    elsewhere.set_handed_on(block);
    assert_eq!(elsewhere.poll_transmit(at(0)), None);
}

#[test]
fn an_ack_is_due_after_a_quarter_of_the_window_or_of_the_round_trip() {
    let mut receiver = receiver();
    ack(&mut receiver, at(0), |_| {});
    assert_eq!(receiver.poll_timeout(at(0)), Some(at(1_000)), "nothing is to be told");
    handle(&mut receiver, at(10), 1, Frame::Probe(PROBE));
    assert_eq!(receiver.poll_timeout(at(10)), Some(at(15)), "at most 5 ms");
    assert_eq!(receiver.poll_transmit(at(14)), None);
    handle(&mut receiver, at(14), 2, Frame::Probe(PROBE));
    ack(&mut receiver, at(14), |ack| assert_eq!(ack.largest, PacketNumber(2)));
    let quick = Probe { srtt_us: 100, window_packets: 4_000, ..PROBE };
    handle(&mut receiver, at(20), 3, Frame::Probe(quick));
    assert_eq!(receiver.poll_timeout(at(20)), Some(at(21)), "at least 1 ms");
}

#[test]
fn memory_is_that_of_all_parts() {
    let mut receiver = receiver();
    manifest(&mut receiver, 1, &[ManifestRecord::Entry(FILE); 3]);
    handle(
        &mut receiver,
        at(0),
        2,
        Frame::Data(Data { space: Space::Manifest, offset: 5_000, payload: &[1; 100] }),
    );
    handle(
        &mut receiver,
        at(0),
        3,
        Frame::Data(Data { space: Space::Digests, offset: 700, payload: &[1; 300] }),
    );
    receiver.entry_refused(0, RefuseCode::Disk, "x");
    let events: usize = receiver.events.iter().map(ReceiverEvent::memory_bytes).sum();
    assert!(events >= 3);
    assert_eq!(receiver.transcript.memory_bytes(), 0, "there are no digests");
    let parts = [
        size_of::<Receiver>(),
        receiver.sack.memory_bytes(),
        receiver.manifest.memory_bytes(),
        receiver.digests.memory_bytes(),
        receiver.body.memory_bytes(),
        receiver.answers.memory_bytes(),
        receiver.events.capacity() * size_of::<ReceiverEvent>(),
        events,
    ];
    assert!(parts.iter().all(|part| *part > 0), "{parts:?}");
    assert_eq!(receiver.memory_bytes(), parts.iter().sum::<usize>());
    assert!(receiver.sack.memory_bytes() >= 16);
    assert!((100..10_000).contains(&receiver.manifest.memory_bytes()));
    assert!((300..10_000).contains(&receiver.digests.memory_bytes()));
    assert!((5..10_000).contains(&receiver.answers.memory_bytes()));
    assert!((200..10_000).contains(&receiver.body.memory_bytes()));
}
