//! A whole sender, by hand: what it says when, what it takes in, and how it ends.

mod timing;

use super::asking::welcome_to;
use super::*;
use crate::proto::Algorithm;
use crate::proto::event::Outcome;
use crate::wire::{
    Ack, AnswerRecord, Bitmap, Close, Data, Entry, EntryKind, Flags, Frame, Hello, Identity, Limit,
    ManifestRecord, RefuseCode, Space,
};

const FILE: Entry<'static> = Entry {
    kind: EntryKind::File,
    mode: 0o644,
    mtime_seconds: 0,
    mtime_nanos: 0,
    size: 3_000,
    identity: Identity { device: 0, inode: 0, ctime_seconds: 0, ctime_nanos: 0 },
    path: b"a",
    target: b"",
};

fn at(milliseconds: u64) -> Time {
    Time::ZERO + Duration::from_millis(milliseconds)
}

fn sender_with(config: SenderConfig) -> Sender {
    Sender::new(at(0), SenderConfig { algorithm: Algorithm::Cubic, ..config }, [7; 32])
}

/// Its HELLO left at 0 and was answered after 40 ms; credit is no matter.
fn open_with(config: SenderConfig) -> Sender {
    let mut sender = sender_with(config);
    assert!(sender.poll_transmit(at(0)).is_some());
    welcome(&mut sender, 40);
    assert_eq!(sender.poll_event(), Some(SenderEvent::Connected));
    sender
}

fn open() -> Sender {
    open_with(SenderConfig::default())
}

/// The receiver says something, under a number; returns the bytes of the datagram.
fn tell(sender: &mut Sender, milliseconds: u64, number: u64, frame: &Frame<'_>) -> u64 {
    let greeting = sender.greeting;
    let sealer = Sealer { connection: greeting.connection, seed: greeting.seed };
    let mut datagram = Vec::new();
    sealer.seal(PacketNumber(number), Flags::default(), frame, &mut datagram);
    sender.handle_datagram(at(milliseconds), &datagram);
    datagram.len() as u64
}

fn welcome(sender: &mut Sender, milliseconds: u64) {
    let least = welcome_to(&sender.greeting);
    let welcome = Welcome { socket_bytes: 1 << 20, credit: 1_000, ..least };
    tell(sender, milliseconds, 0, &Frame::Welcome(welcome));
}

/// Answers from an offset of their space on; returns where they end.
fn answer(sender: &mut Sender, number: u64, offset: u64, records: &[AnswerRecord<'_>]) -> u64 {
    let mut payload = Vec::new();
    records.iter().for_each(|record| record.encode(&mut payload));
    let data = Data { space: Space::Answers, offset, payload: &payload };
    tell(sender, 50, number, &Frame::Data(data));
    offset + payload.len() as u64
}

/// Reads the next datagram, if there is one and it carries no body.
fn next<T>(sender: &mut Sender, now: Time, read: impl FnOnce(&Frame<'_>) -> T) -> Option<T> {
    let Some(Transmit::Datagram(datagram)) = sender.poll_transmit(now) else { return None };
    let hello = sender.sealer.connection == 0;
    let Sealer { connection, seed } = sender.sealer;
    let ours = Opener { connection, seed, expected: PacketNumber(0) };
    let opener = if hello { Opener::hello() } else { ours };
    Some(read(&opener.open(&datagram).unwrap().frame))
}

fn failure(sender: &mut Sender) -> Option<Error> {
    std::iter::from_fn(|| sender.poll_event()).find_map(|event| match event {
        SenderEvent::Closed(error) => Some(error),
        _ => None,
    })
}

/// An ACK of the first so many numbers, all of them received, and of so many bytes written.
fn acknowledge(sender: &mut Sender, milliseconds: u64, count: u64, written: u64) {
    let bits = ((1_u64 << count) - 1).to_le_bytes();
    let ack = Ack {
        largest: PacketNumber(count - 1),
        arrival_us: 0,
        delay_us: 0,
        received_packets: count,
        received_bytes: 1_472 * count,
        duplicates: 0,
        drops: 0,
        ecn_ce: 0,
        max_number: PacketNumber(1_000),
        max_manifest: 1 << 20,
        max_digests: 1 << 20,
        max_body: 1 << 20,
        written,
        datagram_bytes: 1_472,
        limit: Limit::Disk,
        base: PacketNumber(0),
        bitmap: Bitmap::from_bytes(&bits).unwrap(),
    };
    tell(sender, milliseconds, milliseconds, &Frame::Ack(ack));
}

#[test]
fn hello_is_said_at_the_times_of_the_table_and_then_every_300_to_350_ms() {
    let mut sender = sender_with(SenderConfig::default());
    let mut times = Vec::new();
    for millisecond in 0..1_500 {
        let greeting = sender.greeting;
        let said = next(&mut sender, at(millisecond), |frame| match frame {
            Frame::Hello(Hello { greeting: said }) => *said == greeting,
            other => panic!("{other:?}"),
        });
        times.extend(said.map(|is_ours| is_ours.then_some(millisecond)));
    }
    assert_eq!(times.get(..5), Some(&[0, 20, 60, 140, 300].map(Some)[..]));
    let later: Vec<u64> = times.iter().skip(4).flatten().copied().collect();
    let pauses: Vec<u64> = later.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() >= 3 && pauses.iter().all(|it| (300..=351).contains(it)), "{pauses:?}");
    assert_eq!(sender.stats().packets_sent, times.len() as u64);
    let bytes = limits::DATAGRAM_BYTES_MIN as u64 * times.len() as u64;
    assert_eq!(sender.stats().datagram_bytes_sent, bytes);
}

#[test]
fn the_first_round_trip_is_measured_only_if_one_hello_is_out() {
    let mut sender = sender_with(SenderConfig::default());
    let unknown = sender.stats().smoothed_rtt;
    assert_eq!(open().stats().smoothed_rtt, Duration::from_millis(40));
    sender.poll_transmit(at(0));
    sender.poll_transmit(at(20));
    welcome(&mut sender, 45);
    assert_eq!(sender.poll_event(), Some(SenderEvent::Connected));
    assert_eq!(sender.stats().smoothed_rtt, unknown, "it may answer either");
}

#[test]
fn a_welcome_to_somebody_else_is_counted_and_opens_nothing() {
    let mut sender = sender_with(SenderConfig::default());
    for count in 1..=3 {
        let theirs = Welcome { nonce: [1; 16], ..welcome_to(&sender.greeting) };
        tell(&mut sender, 40, 0, &Frame::Welcome(theirs));
        assert_eq!((sender.stats().invalid, sender.poll_event()), (count, None));
    }
}

#[test]
fn a_close_ends_the_transfer_with_the_peers_words_whether_it_is_open_or_not() {
    for mut sender in [sender_with(SenderConfig::default()), open()] {
        let close = Close { code: CloseCode::Mode, text: "no" };
        tell(&mut sender, 41, 1, &Frame::Close(close));
        let error = Error::ClosedByPeer { code: CloseCode::Mode, text: String::from("no") };
        assert_eq!(sender.poll_event(), Some(SenderEvent::Closed(error)));
        assert!(sender.is_closed() && sender.poll_transmit(at(42)).is_none());
    }
}

#[test]
fn what_comes_of_the_receiver_is_counted_by_packets_and_bytes() {
    let mut sender = open();
    let data = Data { space: Space::Answers, offset: 0, payload: &[1] };
    let bytes: u64 = (1..=3).map(|turn| tell(&mut sender, 50, turn, &Frame::Data(data))).sum();
    let stats = sender.stats();
    assert_eq!((stats.packets_received, stats.datagram_bytes_received), (3, bytes));
    let elsewhere = Data { space: Space::Manifest, ..data };
    tell(&mut sender, 50, 4, &Frame::Data(elsewhere));
    tell(&mut sender, 50, 5, &Frame::Data(elsewhere));
    assert_eq!(sender.stats().invalid, 2, "a receiver has nothing to announce");
}

#[test]
fn what_an_ack_tells_is_shown() {
    let mut sender = open();
    sender.push_entry(&FILE);
    while sender.poll_transmit(at(40)).is_some() {}
    let numbers = sender.in_flight.next_number().0;
    assert!(sender.in_flight_bytes() > 0);
    acknowledge(&mut sender, 70, numbers, 1_234);
    assert_eq!((sender.written(), sender.in_flight_bytes()), (1_234, 0));
    let stats = sender.stats();
    assert_eq!((stats.acks, stats.limit), (1, Some(Limit::Disk)));
    assert_eq!(stats.min_rtt, Duration::from_millis(30));
    assert_eq!(stats.datagram_bytes, 1_472);
}

//= proto.md#invariants
//= type=test
//# An end that hears nothing sends two packets per probe timeout, and what its window allows,
//# halved each time
#[test]
fn the_window_is_halved_at_each_timeout_after_the_first_but_leaves_two_datagrams() {
    let mut sender = sender_with(SenderConfig::default());
    let window = sender.window_bytes(at(0));
    assert!(window > 8 * 1_472, "{window}");
    let mut seen = Vec::new();
    for backoff in 0..6 {
        sender.pto_backoff = backoff;
        seen.push(sender.window_bytes(at(0)));
    }
    assert_eq!(seen, [window, window, window / 2, window / 4, 2 * 1_472, 2 * 1_472]);
}

#[test]
fn a_datagram_that_the_socket_refuses_as_too_large_is_not_tried_again() {
    let mut sender = open();
    assert_eq!(sender.stats().datagram_bytes, 1_472);
    sender.handle_too_big(at(41), 1_472);
    assert!(sender.stats().datagram_bytes < 1_472);
}

#[test]
fn a_cancelled_transfer_says_so_twice_and_is_closed() {
    let mut sender = open();
    sender.cancel(CloseCode::Cancelled);
    for turn in 0..2 {
        assert!(!sender.is_closed(), "turn {turn}");
        let code = next(&mut sender, at(50), |frame| match frame {
            Frame::Close(close) => close.code,
            other => panic!("{other:?}"),
        });
        assert_eq!(code, Some(CloseCode::Cancelled));
    }
    assert!(sender.is_closed());
    assert_eq!(sender.poll_transmit(at(50)), None);
}

#[test]
fn what_the_receiver_answers_is_told_and_counted_for_the_end() {
    let mut sender = open();
    for _ in 0..9 {
        sender.push_entry(&FILE);
    }
    sender.finish_manifest();
    let (code, text) = (RefuseCode::Exists, "x");
    let offset = answer(
        &mut sender,
        1,
        0,
        &[
            AnswerRecord::Have { entry: 8, first_block: 0, blocks: 1 },
            AnswerRecord::Present { first_entry: 0, entries: 2 },
            AnswerRecord::Kept { first_entry: 2, entries: 1 },
            AnswerRecord::Committed { first_entry: 3, entries: 3 },
            AnswerRecord::Refused { entry: 6, code, text },
            AnswerRecord::Failed { entry: 7, code, text },
        ],
    );
    let settled =
        |first_entry, entries, outcome| SenderEvent::Settled { first_entry, entries, outcome };
    let failed =
        |entry, refused| SenderEvent::Failed { entry, code, text: String::from(text), refused };
    let expected = [
        SenderEvent::Have { entry: 8, first_block: 0, blocks: 1 },
        settled(0, 2, Outcome::Present),
        settled(2, 1, Outcome::Kept),
        settled(3, 3, Outcome::Committed),
        failed(6, true),
        failed(7, false),
    ];
    let told: Vec<SenderEvent> = std::iter::from_fn(|| sender.poll_event()).collect();
    assert_eq!(told, expected);
    let again = AnswerRecord::Again { entry: 8, block: 0, epoch: 1 };
    let last = AnswerRecord::Committed { first_entry: 8, entries: 1 };
    let offset = answer(&mut sender, 2, offset, &[again, last]);
    assert_eq!(sender.poll_event(), Some(SenderEvent::Again { entry: 8, block: 0, epoch: 1 }));
    assert_eq!(sender.poll_event(), Some(settled(8, 1, Outcome::Committed)));
    let end = AnswerRecord::End { committed: 4, present: 3, failed: 2 };
    answer(&mut sender, 3, offset, &[end]);
    let finished = SenderEvent::Finished { committed: 4, present: 3, failed: 2 };
    assert_eq!(sender.poll_event(), Some(finished));
    let code = next(&mut sender, at(50), |frame| match frame {
        Frame::Close(close) => close.code,
        other => panic!("{other:?}"),
    });
    assert_eq!(code, Some(CloseCode::Done));
}

#[test]
fn answers_that_cannot_be_are_a_fault() {
    let two = |first_entry, entries| AnswerRecord::Present { first_entry, entries };
    let failed = |entry| AnswerRecord::Failed { entry, code: RefuseCode::Disk, text: "" };
    let end = |committed, present, failed| AnswerRecord::End { committed, present, failed };
    let have = |entry, blocks| AnswerRecord::Have { entry, first_block: 0, blocks };
    let again = |block, epoch| AnswerRecord::Again { entry: 0, block, epoch };
    let cases: [(&[AnswerRecord<'_>], &str); 14] = [
        (&[two(1, 2)], "an entry was settled twice or never sent"),
        (&[two(0, 1), two(0, 2)], "an entry was settled twice or never sent"),
        (&[two(u32::MAX - 2, 2)], "an entry was settled twice or never sent"),
        (&[failed(2)], "an entry was settled twice or never sent"),
        (&[have(0, 2)], "unknown blocks were said to be there"),
        (&[have(2, 1)], "unknown blocks were said to be there"),
        (&[again(1, 1)], "an unknown block or epoch was asked for again"),
        (&[again(0, 2)], "an unknown block or epoch was asked for again"),
        (&[two(0, 1), end(0, 1, 0)], "the receiver's end does not agree with its answers"),
        (&[two(0, 2), end(1, 2, 0)], "the receiver's end does not agree with its answers"),
        (&[two(0, 2), end(0, 1, 0)], "the receiver's end does not agree with its answers"),
        (&[two(0, 2), end(0, 2, 1)], "the receiver's end does not agree with its answers"),
        (
            &[AnswerRecord::Take { first_entry: 0, entries: 1 }],
            "an entry was only taken, but this is no dry run",
        ),
        (&[two(0, 1), failed(0)], "an entry was settled twice or never sent"),
    ];
    for (records, rule) in cases {
        let mut sender = open();
        sender.push_entry(&FILE);
        sender.push_entry(&FILE);
        sender.finish_manifest();
        answer(&mut sender, 1, 0, records);
        assert_eq!(failure(&mut sender), Some(Error::Protocol { rule }), "{records:?}");
        let code = next(&mut sender, at(50), |frame| match frame {
            Frame::Close(close) => close.code,
            other => panic!("{other:?}"),
        });
        assert_eq!(code, Some(CloseCode::Protocol));
    }
}

#[test]
fn in_a_dry_run_entries_are_taken_and_none_is_committed() {
    let dry = || {
        let mut sender = open_with(SenderConfig { dry_run: true, ..SenderConfig::default() });
        sender.push_entry(&FILE);
        sender
    };
    let mut sender = dry();
    assert_eq!(sender.unsent_body_bytes(), 0, "no body is sent");
    answer(&mut sender, 1, 0, &[AnswerRecord::Take { first_entry: 0, entries: 1 }]);
    let outcome = Outcome::WouldStore;
    let settled = SenderEvent::Settled { first_entry: 0, entries: 1, outcome };
    assert_eq!(sender.poll_event(), Some(settled));
    let mut sender = dry();
    answer(&mut sender, 1, 0, &[AnswerRecord::Committed { first_entry: 0, entries: 1 }]);
    let rule = "an entry was committed in a dry run";
    assert_eq!(failure(&mut sender), Some(Error::Protocol { rule }));
}

#[test]
fn an_end_before_the_manifest_ended_is_a_fault() {
    let mut sender = open();
    answer(&mut sender, 1, 0, &[AnswerRecord::End { committed: 0, present: 0, failed: 0 }]);
    let rule = "the receiver's end does not agree with its answers";
    assert_eq!(failure(&mut sender), Some(Error::Protocol { rule }));
}

/// What leaves at once after the answer to HELLO: START, then what is announced, then body.
#[test]
fn start_comes_first_then_the_manifest_then_body_within_one_run() {
    let mut sender = open();
    sender.push_entry(&FILE);
    let start = next(&mut sender, at(40), |frame| matches!(frame, Frame::Start(_)));
    assert_eq!(start, Some(true));
    while let Some(Transmit::Datagram(datagram)) = sender.poll_transmit(at(40)) {
        let Sealer { connection, seed } = sender.sealer;
        let opener = Opener { connection, seed, expected: PacketNumber(0) };
        match opener.open(&datagram).unwrap().frame {
            Frame::Start(_) | Frame::Probe(_) => {}
            Frame::Data(data) => {
                assert_eq!((data.space, data.offset), (Space::Manifest, 0));
                let (record, _) = ManifestRecord::decode(data.payload).unwrap().unwrap();
                assert_eq!(record, ManifestRecord::Entry(FILE));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let mut runs = Vec::new();
    for millisecond in 40..80 {
        while let Some(transmit) = sender.poll_transmit(at(millisecond)) {
            runs.extend(match transmit {
                Transmit::Body(run) => Some(run),
                Transmit::Datagram(_) => None,
            });
        }
    }
    let first = runs.first().unwrap();
    assert_eq!((first.range.start, first.is_new), (0, true));
    assert_eq!(runs.last().unwrap().range.end, 3_000);
    assert!(runs.iter().all(|run| run.payload_bytes == 1_472 - limits::DATA_HEADER_BYTES as u64));
    let stats = sender.stats();
    assert_eq!((stats.body_bytes_sent, stats.body_bytes_new), (3_000, 3_000));
    assert_eq!(runs.iter().map(BodyRun::packets).sum::<u64>(), 3);
}

#[test]
fn a_transfer_that_is_over_is_not_cancelled() {
    for code in [CloseCode::Done, CloseCode::Protocol] {
        let mut sender = Sender::new(Time::ZERO, SenderConfig::default(), [7; 32]);
        sender.sealer.connection = 1;
        sender.state = State::Closing { left: 1, code };
        sender.cancel(CloseCode::Cancelled);
        assert!(matches!(sender.state, State::Closing { left: 1, code: told } if told == code));
        assert_eq!(sender.poll_event(), None);
    }
}

#[test]
fn a_transfer_that_nobody_has_answered_is_cancelled_without_a_word() {
    let mut sender = Sender::new(Time::ZERO, SenderConfig::default(), [7; 32]);
    sender.cancel(CloseCode::Cancelled);
    assert!(sender.is_closed() && sender.poll_transmit(Time::ZERO).is_none());
}

#[test]
fn a_transfer_that_runs_is_cancelled_once() {
    let mut sender = Sender::new(Time::ZERO, SenderConfig::default(), [7; 32]);
    sender.sealer.connection = 1;
    sender.cancel(CloseCode::Cancelled);
    sender.cancel(CloseCode::Internal);
    let error = Error::Cancelled { code: CloseCode::Cancelled };
    assert_eq!(sender.poll_event(), Some(SenderEvent::Closed(error)));
    assert_eq!(sender.poll_event(), None);
}

/// What leaves within 40 ms: datagrams opened by `read`, runs of body as they are.
fn leave(sender: &mut Sender, from: u64, mut read: impl FnMut(Flags, &Frame<'_>)) -> Vec<BodyRun> {
    let mut runs = Vec::new();
    for millisecond in from..from + 40 {
        while let Some(transmit) = sender.poll_transmit(at(millisecond)) {
            match transmit {
                Transmit::Body(run) => runs.push(run),
                Transmit::Datagram(datagram) => {
                    let Sealer { connection, seed } = sender.sealer;
                    let opener = Opener { connection, seed, expected: PacketNumber(0) };
                    let packet = opener.open(&datagram).unwrap();
                    read(packet.flags, &packet.frame);
                }
            }
        }
    }
    runs
}

#[test]
fn the_last_of_what_waits_asks_for_an_ack_and_so_does_each_burst_of_the_first_flight() {
    let mut sender = open();
    sender.push_entry(&FILE);
    sender.push_entry(&Entry { size: 1 << 20, path: b"b", ..FILE });
    let mut of_records = Vec::new();
    let runs = leave(&mut sender, 40, |flags, frame| {
        of_records.extend(matches!(frame, Frame::Data(_)).then_some(flags.ack_now));
    });
    assert_eq!(of_records, [false], "body waits behind it");
    assert!(sender.has_content() && runs.iter().all(|run| run.ack_now), "{runs:?}");
    let numbers = sender.in_flight.next_number().0;
    acknowledge(&mut sender, 80, numbers, 0);
    let runs = leave(&mut sender, 80, |_, _| {});
    assert!(sender.has_content() && !runs.is_empty());
    assert!(!runs.iter().any(|run| run.ack_now), "the receiver has been heard: {runs:?}");
    let mut sender = open();
    sender.push_entry(&Entry { size: 0, ..FILE });
    let mut of_records = Vec::new();
    leave(&mut sender, 40, |flags, frame| {
        of_records.extend(matches!(frame, Frame::Data(_)).then_some(flags.ack_now));
    });
    assert_eq!(of_records, [true], "it is the last");
}

#[test]
fn what_was_lost_at_the_end_of_all_is_sent_twice() {
    for is_end in [false, true] {
        let mut sender = open();
        sender.push_entry(&FILE);
        leave(&mut sender, 40, |_, _| {});
        if is_end {
            sender.finish_manifest();
        }
        let numbers = sender.in_flight.next_number().0;
        acknowledge(&mut sender, 80, numbers, 0);
        leave(&mut sender, 80, |_, _| {});
        sender.body.on_lost(0..1_000);
        let again: Vec<(u64, bool)> = leave(&mut sender, 120, |_, _| {})
            .iter()
            .map(|run| (run.range.end, run.is_new))
            .collect();
        assert_eq!(again, vec![(1_000, false); if is_end { 2 } else { 1 }]);
    }
}

#[test]
fn a_probe_tells_the_window_in_packets() {
    let mut sender = open();
    let window = sender.window_bytes(at(0)) / 1_472;
    let probe = sender.keep_alive(at(2_000)).unwrap();
    let Sealer { connection, seed } = sender.sealer;
    let opener = Opener { connection, seed, expected: PacketNumber(0) };
    let Frame::Probe(probe) = opener.open(&probe).unwrap().frame else { panic!("no PROBE") };
    assert_eq!((u64::from(probe.window_packets), probe.srtt_us), (window, 40_000));
}
