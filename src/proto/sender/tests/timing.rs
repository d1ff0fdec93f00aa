//! What a sender does when nothing comes.

use super::*;
use crate::proto::sender::congestion::AckSample;

/// Lets time pass as a shell does that hears nothing; returns when each probe timeout came, and
/// the end.
fn silence(sender: &mut Sender, from: u64) -> (Vec<Time>, Time) {
    let mut now = at(from);
    let mut timeouts = Vec::new();
    loop {
        while sender.poll_transmit(now).is_some() {}
        let Some(next) = sender.poll_timeout(now) else { return (timeouts, now) };
        assert!(next >= now, "no time passes");
        now = next;
        let before = sender.stats().probe_timeouts;
        sender.handle_timeout(now);
        timeouts.extend((sender.stats().probe_timeouts > before).then_some(now));
    }
}

fn milliseconds(times: &[Time]) -> Vec<u64> {
    times.iter().map(|time| time.as_micros() / 1_000).collect()
}

//= proto.md#loss-detection
//= type=test
//# From the second expiry on it doubles, up to that bound
#[test]
fn probe_timeouts_double_from_the_second_on_up_to_300_ms_and_end_in_silence() {
    let mut sender = open();
    sender.push_entry(&FILE);
    let (timeouts, end) = silence(&mut sender, 40);
    // srtt 40 ms, four times its variance of 20 ms, and 5 ms that an ACK may wait.
    let expected = [165, 290, 540, 840, 1_140, 1_440];
    assert_eq!(milliseconds(&timeouts).get(..6), Some(&expected[..]));
    let pauses = timeouts.windows(2).skip(2).map(|pair| pair[1].saturating_since(pair[0]));
    assert!(pauses.eq([Duration::from_millis(300); 64]));
    assert_eq!(end, at(40 + 20_000));
    let silence = Duration::from_secs(20);
    assert_eq!(failure(&mut sender), Some(Error::Silence { silence, refused: false }));
}

#[test]
fn a_receiver_whose_port_is_closed_is_waited_for_half_as_long() {
    let mut sender = open();
    sender.handle_refused(at(50));
    assert_eq!(silence(&mut sender, 50).1, at(40 + 10_000));
    let silence = Duration::from_secs(10);
    assert_eq!(failure(&mut sender), Some(Error::Silence { silence, refused: true }));
}

#[test]
fn nobody_who_answers_hello_is_waited_for_ten_seconds_and_a_closed_port_for_two() {
    let mut sender = sender_with(SenderConfig::default());
    assert_eq!(silence(&mut sender, 0).1, at(10_000));
    let error = Error::NoAnswer { waited: Duration::from_secs(10), refused: false };
    assert_eq!(failure(&mut sender), Some(error));
    let mut sender = sender_with(SenderConfig::default());
    assert!(sender.poll_transmit(at(0)).is_some());
    sender.handle_refused(at(7));
    sender.handle_refused(at(90));
    assert_eq!(silence(&mut sender, 90).1, at(7 + 2_000), "from the first report on");
    let error = Error::NoAnswer { waited: Duration::from_millis(2_007), refused: true };
    assert_eq!(failure(&mut sender), Some(error));
}

#[test]
fn each_timeout_sends_start_and_two_probes_until_the_receiver_is_heard() {
    let mut sender = open();
    while sender.poll_transmit(at(40)).is_some() {}
    for timeout in [165, 290] {
        sender.handle_timeout(at(timeout - 1));
        assert_eq!(sender.poll_transmit(at(timeout - 1)), None);
        sender.handle_timeout(at(timeout));
        let said: Vec<bool> = std::iter::from_fn(|| {
            next(&mut sender, at(timeout), |frame| match frame {
                Frame::Start(_) => true,
                Frame::Probe(_) => false,
                other => panic!("{other:?}"),
            })
        })
        .collect();
        assert_eq!(said, [true, false], "at {timeout} ms");
    }
}

#[test]
fn after_a_stall_of_its_own_a_sender_asks_before_it_judges() {
    let mut sender = open();
    while sender.poll_transmit(at(40)).is_some() {}
    sender.handle_timeout(at(100));
    assert_eq!(sender.stats().probe_timeouts, 0);
    sender.handle_timeout(at(60_000));
    assert_eq!(sender.poll_event(), None, "the silence may have been its own");
    assert!(sender.poll_transmit(at(60_000)).is_some(), "it asks");
    sender.handle_timeout(at(60_999));
    assert_eq!(sender.poll_event(), None);
    sender.handle_timeout(at(61_000));
    let silence = Duration::from_millis(60_960);
    assert_eq!(failure(&mut sender), Some(Error::Silence { silence, refused: false }));
}

#[test]
fn a_call_after_more_than_two_seconds_is_a_stall_and_counts_as_a_timeout() {
    for (call, timeouts) in [(2_000, 0), (2_001, 1)] {
        let mut sender = open();
        sender.last_call = at(0);
        sender.handle_datagram(at(call), b"nothing of ours");
        assert_eq!(sender.stats().probe_timeouts, timeouts, "after {call} ms");
    }
}

//= proto.md#loss-detection
//= type=test
//# An RTT sample that spans a stall of the
//# sender's own is ignored
#[test]
fn an_answer_that_is_read_more_than_ten_milliseconds_late_measures_nothing() {
    for (read_at, measured) in [(30, 30), (31, 0)] {
        let mut sender = sender_with(SenderConfig::default());
        let unknown = sender.stats().smoothed_rtt;
        assert!(sender.poll_transmit(at(0)).is_some());
        assert_eq!(sender.poll_timeout(at(0)), Some(at(20)), "HELLO is due again");
        welcome(&mut sender, read_at);
        let expected = if measured > 0 { Duration::from_millis(measured) } else { unknown };
        assert_eq!(sender.stats().smoothed_rtt, expected);
    }
}

#[test]
fn a_shell_that_is_held_up_says_something_once_a_second() {
    let mut sender = open();
    while sender.poll_transmit(at(40)).is_some() {}
    assert_eq!(sender.keep_alive(at(1_039)), None);
    let probe = sender.keep_alive(at(1_040)).unwrap();
    assert!(probe.len() >= limits::PROBE_BYTES_MIN);
    assert_eq!(sender.keep_alive(at(1_041)), None, "it has been said");
    sender.cancel(CloseCode::Cancelled);
    assert_eq!(sender.keep_alive(at(9_000)), None);
}

#[test]
fn what_holds_a_sender_is_counted_by_its_time() {
    let mut sender = open();
    while sender.poll_transmit(at(40)).is_some() {}
    while sender.poll_transmit(at(140)).is_some() {}
    assert_eq!(sender.stats().held.get(Held::Source), Duration::from_millis(140));
    assert!(sender.mark.limited, "rates say nothing of the path");
    sender.finish_manifest();
    while sender.poll_transmit(at(141)).is_some() {}
    while sender.poll_transmit(at(161)).is_some() {}
    assert_eq!(sender.stats().held.get(Held::Settling), Duration::from_millis(20));
}

/// A window of 50,000 bytes, a pace of a megabyte per second, for 20 ms unheard.
#[derive(Debug)]
struct Paced;

impl Controller for Paced {
    fn on_ack(&mut self, _: &AckSample) {}

    fn on_probe_timeout(&mut self) {}

    fn window_bytes(&self) -> u64 {
        50_000
    }

    fn pacing_rate(&self) -> u64 {
        1_000_000
    }

    fn unheard_max(&self) -> Duration {
        Duration::from_millis(20)
    }
}

#[test]
fn in_a_silence_the_pace_goes_on_for_a_while_and_timeouts_halve_what_may_be_under_way() {
    let mut sender = Sender::new(Time::ZERO, SenderConfig::default(), [7; 32]);
    sender.controller = Box::new(Paced);
    sender.last_heard = at(100);
    let windows = [100, 101, 120, 900].map(|milliseconds| sender.window_bytes(at(milliseconds)));
    assert_eq!(windows, [50_000, 51_000, 70_000, 70_000]);
    let halved = [0, 1, 2, 3, 30].map(|timeouts| {
        sender.pto_backoff = timeouts;
        sender.window_bytes(at(100))
    });
    assert_eq!(halved, [50_000, 50_000, 25_000, 12_500, 2 * 1_472]);
}
