//! How a receiver ends: by silence, by the end of all, by CLOSE.

use super::*;

#[test]
fn silence_ends_a_transfer_and_a_closed_port_sooner() {
    let ends_at = |refused: bool, deaf: bool| {
        let mut receiver = receiver();
        for second in 1..40 {
            let now = at(1_000 * second);
            if refused && second == 3 {
                receiver.handle_refused(now);
                assert!(receiver.is_refused());
            }
            if deaf && second == 5 {
                receiver.handle_deaf(now);
            }
            assert!(
                receiver.poll_timeout(now).is_some_and(|at_| at_ <= now + Duration::from_secs(20))
            );
            receiver.handle_timeout(now);
            while receiver.poll_transmit(now).is_some() {}
            if let Some(event) = receiver.poll_event() {
                let silence = Duration::from_secs(second - if deaf { 5 } else { 0 });
                let error = Error::Silence { silence, refused };
                assert_eq!(event, ReceiverEvent::Closed(error));
                assert!(receiver.is_closed() && receiver.poll_timeout(now).is_none());
                return second;
            }
            assert!(!receiver.is_closed() && !receiver.has_answered_end());
        }
        panic!("it never ends");
    };
    assert_eq!(ends_at(false, false), 20);
    assert_eq!(ends_at(true, false), 10);
    assert_eq!(ends_at(false, true), 25);
}

//= proto.md#end
//= type=test
//# After a stall of its own of more than two seconds, a peer
//# probes before it judges.
#[test]
fn a_receiver_that_stood_still_listens_for_a_second_before_it_judges() {
    let mut receiver = receiver();
    receiver.handle_timeout(at(30_000));
    assert_eq!(receiver.poll_event(), None);
    receiver.handle_timeout(at(30_999));
    assert_eq!(receiver.poll_event(), None);
    receiver.handle_timeout(at(31_000));
    assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::Closed(_))));
}

/// A receiver of nothing that has answered the end at 0, and how long the answers are.
fn lingering() -> (Receiver, u64) {
    let mut receiver = receiver();
    receiver.finish(at(0));
    assert!(!receiver.has_answered_end(), "nothing is settled yet");
    let end =
        ManifestRecord::End { entries: 0, body_bytes: 0, digests_bytes: 0, digest: Digest::NONE };
    manifest(&mut receiver, 1, &[end]);
    assert_eq!(receiver.poll_event(), Some(ReceiverEvent::Settled));
    receiver.finish(at(0));
    receiver.finish(at(0));
    assert!(receiver.has_answered_end() && receiver.progress().is_final);
    ack(&mut receiver, at(0), |_| {});
    let told = answers(&mut receiver, at(0)).unwrap();
    let end = AnswerRecord::End { committed: 0, present: 0, failed: 0 };
    assert_eq!(AnswerRecord::decode(&told), Ok(Some((end, told.len()))));
    assert_eq!(answers(&mut receiver, at(0)), Some(told.clone()), "the end is said twice");
    assert_eq!(answers(&mut receiver, at(0)), None);
    (receiver, told.len() as u64)
}

//= proto.md#end
//= type=test
//# it repeats END until PROBE acknowledges all answers,
//# CLOSE arrives, its host reports the sender's port closed, or 20 s have passed;
#[test]
fn a_receiver_lingers_until_the_end_is_heard_or_nobody_can_hear_it() {
    let is_finished = |receiver: &mut Receiver| {
        assert_eq!(receiver.poll_event(), Some(ReceiverEvent::Finished));
        assert!(receiver.is_closed() && receiver.poll_transmit(at(30_000)).is_none());
    };
    let (mut receiver, bytes) = lingering();
    handle(&mut receiver, at(1), 2, Frame::Probe(PROBE));
    assert_eq!(receiver.poll_event(), None);
    handle(&mut receiver, at(1), 3, Frame::Probe(Probe { answers: bytes, ..PROBE }));
    is_finished(&mut receiver);

    let (mut receiver, _) = lingering();
    let close = Close { code: CloseCode::Done, text: "" };
    handle(&mut receiver, at(1), 2, Frame::Close(close));
    is_finished(&mut receiver);

    let (mut receiver, _) = lingering();
    receiver.handle_refused(at(1));
    is_finished(&mut receiver);

    let (mut receiver, _) = lingering();
    receiver.handle_timeout(at(19_999));
    assert_eq!(receiver.poll_event(), None);
    receiver.handle_timeout(at(20_000));
    is_finished(&mut receiver);
}

#[test]
fn whoever_ends_early_says_so_twice_and_whoever_hears_it_says_nothing() {
    let mut cancelled = receiver();
    cancelled.cancel(CloseCode::Cancelled);
    cancelled.cancel(CloseCode::Internal);
    let error = Error::Cancelled { code: CloseCode::Cancelled };
    assert_eq!(cancelled.poll_event(), Some(ReceiverEvent::Closed(error)));
    assert_eq!(cancelled.poll_event(), None);
    for _ in 0..2 {
        assert!(!cancelled.is_closed());
        assert_eq!(cancelled.poll_timeout(at(1)), Some(at(1)));
        let code = next(&mut cancelled, at(1), |frame| match frame {
            Frame::Close(close) => close.code,
            other => panic!("{other:?}"),
        });
        assert_eq!(code, Some(CloseCode::Cancelled));
    }
    assert!(cancelled.is_closed() && cancelled.poll_transmit(at(1)).is_none());

    let mut closed = receiver();
    handle(&mut closed, at(1), 1, Frame::Close(Close { code: CloseCode::Disk, text: "full" }));
    let error = Error::ClosedByPeer { code: CloseCode::Disk, text: "full".to_owned() };
    assert_eq!(closed.poll_event(), Some(ReceiverEvent::Closed(error)));
    assert!(closed.is_closed() && closed.poll_transmit(at(1)).is_none());
}
