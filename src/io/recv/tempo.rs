//! Whether to doze or to wait: how fast datagrams come.
//!
//! While they come fast, looking again after a short sleep takes many at once and is a third
//! faster than being woken for each (measured). While they come slowly, it would only burn the
//! processor: then the kernel wakes us.

use std::time::Duration;

use crate::proto::Time;
use crate::wire::limits;

/// Below this rate a doze would find no more than one datagram: being woken costs less.
const DATAGRAMS_PER_SECOND_MIN: u64 = 4_000;

/// Datagrams that a look at a socket should find: of 48 a look costs a third less than of 8, at
/// 1 Gbit/s and beyond (see benches/RESULTS.md).
const DATAGRAMS_PER_LOOK: u64 = 48;

/// The shortest sleep: below 30 us it costs as much as it saves. The longest is half of what an
/// ACK is held back anyway.
const DOZE_MIN: Duration = Duration::from_micros(60);
const DOZE_MAX: Duration = Duration::from_micros(500);

/// Span over which the rate is measured.
const SPAN: Duration = Duration::from_millis(2);

/// Counts datagrams.
#[derive(Debug)]
pub struct Tempo {
    span_start: Time,
    datagrams: u64,
    per_second: u64,
}

impl Tempo {
    /// Nothing has come.
    pub fn new(now: Time) -> Tempo {
        Tempo { span_start: now, datagrams: 0, per_second: 0 }
    }

    /// A datagram came. A large one counts as as many of Ethernet's size as it is worth.
    pub fn on_datagram(&mut self, bytes: usize) {
        self.datagrams += bytes.div_ceil(limits::BASE_DATAGRAM_BYTES) as u64;
    }

    /// How long to doze before the next look at so many sockets; none to wait until something
    /// comes.
    pub fn doze(&mut self, now: Time, sockets: usize) -> Option<Duration> {
        let span = now.saturating_since(self.span_start);
        if span >= SPAN {
            let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
            self.per_second = self.datagrams.saturating_mul(1_000_000_000) / nanos.max(1);
            self.datagrams = 0;
            self.span_start = now;
        }
        if self.per_second < DATAGRAMS_PER_SECOND_MIN {
            return None;
        }
        let wanted = DATAGRAMS_PER_LOOK.saturating_mul(sockets.max(1) as u64);
        let nanos = wanted.saturating_mul(1_000_000_000) / self.per_second;
        Some(Duration::from_nanos(nanos).clamp(DOZE_MIN, DOZE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doze_at(datagrams_per_millisecond: usize) -> Option<Duration> {
        let mut tempo = Tempo::new(Time::ZERO);
        for _ in 0..datagrams_per_millisecond * SPAN.as_millis() as usize {
            tempo.on_datagram(1_472);
        }
        tempo.doze(Time::ZERO + SPAN, 1)
    }

    #[test]
    fn a_slow_link_is_waited_for_and_a_fast_one_is_looked_at() {
        assert_eq!(doze_at(2), None, "25 Mbit/s");
        assert_eq!(doze_at(8), Some(DOZE_MAX), "100 Mbit/s");
        assert_eq!(doze_at(83), Some(DOZE_MAX), "1 Gbit/s");
        assert_eq!(doze_at(415), Some(Duration::from_nanos(115_662)), "5 Gbit/s");
        assert_eq!(doze_at(830), Some(DOZE_MIN), "10 Gbit/s");
    }

    #[test]
    fn many_sockets_are_looked_at_less_often() {
        let mut tempo = Tempo::new(Time::ZERO);
        for _ in 0..1_660 {
            tempo.on_datagram(1_472);
        }
        let doze = tempo.doze(Time::ZERO + SPAN, 4);
        assert_eq!(doze, Some(Duration::from_nanos(231_325)), "10 Gbit/s together");
        assert_eq!(tempo.doze(Time::ZERO + SPAN, 256), Some(DOZE_MAX));
    }

    #[test]
    fn a_pause_ends_the_dozing() {
        let mut tempo = Tempo::new(Time::ZERO);
        tempo.on_datagram(65_493);
        assert!(tempo.doze(Time::ZERO + SPAN, 1).is_some());
        assert_eq!(tempo.doze(Time::ZERO + SPAN * 2, 1), None);
    }
}
