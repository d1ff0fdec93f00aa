//! The live line of a running transfer: drawn by a thread of its own from shared counters, at
//! most ten times a second, and only where a person watches. Leaves all other lines to `output`.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{self, Console, Verbosity};
use crate::io::defaults::SILENCE_SHOWN;
use crate::io::report::{Counters, Operation};

/// Ten redraws a second are as many as an eye follows.
const REDRAWS_PER_SECOND: u8 = 10;
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// The rate shown is the mean of this long: calm enough to read, quick enough to be true.
const RATE_WINDOW: Duration = Duration::from_secs(3);

/// Characters between the bar's brackets: with them the whole line still fits 80 columns.
const BAR_COLUMNS: usize = 10;

/// What the live line says at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressSnapshot {
    /// Transfers that run.
    pub transfers: u64,
    /// Files that the receiver has committed.
    pub files_done: u64,
    /// All files, once known.
    pub files_total: Option<u64>,
    /// Bytes that the receiver has written.
    pub bytes_done: u64,
    /// All bytes, once known.
    pub bytes_total: Option<u64>,
    /// Bytes written per second, of late.
    pub bytes_per_second: u64,
    /// How long nothing was heard from the other side.
    pub silence: Duration,
}

impl ProgressSnapshot {
    /// How much is done, in percent, rounded down; none while the whole is not known.
    fn percent(&self) -> Option<usize> {
        let total = self.bytes_total?;
        let done = u128::from(self.bytes_done.min(total)) * 100;
        // With nothing to write, everything is written.
        let percent = done.checked_div(u128::from(total)).unwrap_or(100);
        usize::try_from(percent).ok()
    }

    /// The line's text, as in
    /// `[====      ] 42 %  450 MB of 1.07 GB  941 Mbit/s  5 s left  3 of 12 files`.
    fn text(&self, op: Operation) -> String {
        let other_side = match op {
            Operation::Send => "the receiver",
            Operation::Recv => "a sender",
        };
        if self.transfers == 0 {
            return format!("waiting for {other_side} ...");
        }
        let mut parts = Vec::new();
        parts.extend(self.percent().map(|percent| {
            let full = percent * BAR_COLUMNS / 100;
            format!("[{:<BAR_COLUMNS$}] {percent} %", "=".repeat(full))
        }));
        parts.push(match self.bytes_total {
            Some(total) => {
                format!("{} of {}", output::bytes(self.bytes_done), output::bytes(total))
            }
            None => output::bytes(self.bytes_done),
        });
        if self.silence >= SILENCE_SHOWN {
            let seconds = self.silence.as_secs();
            parts.push(format!("waiting for {other_side} ... {seconds} s"));
        } else {
            parts.push(output::rate(self.bytes_per_second.saturating_mul(8)));
            let left = self.bytes_total.map(|total| total.saturating_sub(self.bytes_done));
            let seconds = left.and_then(|left| left.checked_div(self.bytes_per_second));
            parts.extend(seconds.map(|seconds| {
                // Never 0 s: that would be a lie until the end.
                format!("{} left", output::duration(Duration::from_secs(seconds.max(1))))
            }));
        }
        parts.push(match self.files_total {
            Some(total) => format!("{} of {}", self.files_done, output::count(total, "file")),
            None => format!("{}, still listing", output::count(self.files_done, "file")),
        });
        parts.join("  ")
    }
}

/// Turns counters into snapshots: remembers what a moment alone does not show. Told the time.
#[derive(Debug, Default)]
struct Observer {
    /// (when, bytes done) of the last [`RATE_WINDOW`], oldest first.
    history: VecDeque<(Duration, u64)>,
    packets_heard: u64,
    last_heard: Duration,
}

impl Observer {
    fn observe(&mut self, now: Duration, counters: &Counters) -> ProgressSnapshot {
        let bytes_done = counters.bytes_written.load(Relaxed);
        let packets_heard = counters.packets_heard.load(Relaxed);
        if packets_heard != self.packets_heard {
            self.packets_heard = packets_heard;
            self.last_heard = now;
        }
        self.history.push_back((now, bytes_done));
        while self.history.len() > 2
            && self.history.get(1).is_some_and(|(when, _)| now.saturating_sub(*when) >= RATE_WINDOW)
        {
            self.history.pop_front();
        }
        let totals_final = counters.totals_final.load(Relaxed);
        let total = |counter: u64| totals_final.then_some(counter);
        ProgressSnapshot {
            transfers: counters.transfers.load(Relaxed),
            files_done: counters.files_done.load(Relaxed),
            files_total: total(counters.files_total.load(Relaxed)),
            bytes_done,
            bytes_total: total(counters.bytes_total.load(Relaxed)),
            bytes_per_second: self.bytes_per_second(now, bytes_done),
            silence: now.saturating_sub(self.last_heard),
        }
    }

    fn bytes_per_second(&self, now: Duration, bytes_done: u64) -> u64 {
        let (since, bytes_then) = self.history.front().copied().unwrap_or((now, bytes_done));
        let seconds = now.saturating_sub(since).as_secs_f64();
        let moved = bytes_done.saturating_sub(bytes_then) as f64;
        if seconds > 0.0 { (moved / seconds) as u64 } else { 0 }
    }
}

/// A running live line; it disappears when dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    drawer: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts to draw `counters`, if a person watches: stderr is a terminal that can move its
    /// cursor, and neither `-q` nor JSON on the same terminal forbids it. Returns the console to
    /// print through as long as the line stands.
    pub fn start(console: &Console, op: Operation, counters: Arc<Counters>) -> (Progress, Console) {
        let json_on_terminal = console.json && io::stdout().is_terminal();
        if console.verbosity == Verbosity::Quiet || json_on_terminal {
            return (Progress { bar: ProgressBar::hidden(), drawer: None }, console.clone());
        }
        // indicatif itself hides the bar where stderr is no terminal or TERM is "dumb".
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(None, target);
        // One field, so that a moment is one redraw; indicatif cuts it to the terminal's width.
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        let console = console.with_bar(bar.clone());
        if bar.is_hidden() {
            return (Progress { bar, drawer: None }, console);
        }
        let (stop, stopped) = mpsc::channel();
        let drawn = bar.clone();
        let spawned = thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let started = Instant::now();
            let mut observer = Observer::default();
            while stopped.recv_timeout(REDRAW_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                drawn.set_message(observer.observe(started.elapsed(), &counters).text(op));
            }
        });
        // Without the thread there is no live line, and nothing else is lost.
        let drawer = spawned.ok().map(|thread| (stop, thread));
        (Progress { bar, drawer }, console)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.drawer.take() {
            drop(stop);
            // A thread that panicked has said so itself; the transfer's result stands.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> ProgressSnapshot {
        ProgressSnapshot {
            transfers: 1,
            files_done: 3,
            files_total: Some(12),
            bytes_done: 450_000_000,
            bytes_total: Some(1_073_741_824),
            bytes_per_second: 117_600_000,
            silence: Duration::ZERO,
        }
    }

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long() {
        assert_eq!(
            running().text(Operation::Send),
            "[====      ] 41 %  450 MB of 1.07 GB  941 Mbit/s  5 s left  3 of 12 files"
        );
    }

    #[test]
    fn the_line_promises_nothing_while_the_whole_is_not_known() {
        let snapshot = ProgressSnapshot { files_total: None, bytes_total: None, ..running() };
        assert_eq!(snapshot.percent(), None);
        assert_eq!(snapshot.text(Operation::Send), "450 MB  941 Mbit/s  3 files, still listing");
    }

    #[test]
    fn a_silence_takes_the_place_of_the_rate_after_three_seconds() {
        let mut snapshot = running();
        snapshot.silence = Duration::from_millis(2_999);
        assert!(snapshot.text(Operation::Send).contains("941 Mbit/s"));
        snapshot.silence = Duration::from_millis(4_200);
        assert_eq!(
            snapshot.text(Operation::Send),
            "[====      ] 41 %  450 MB of 1.07 GB  waiting for the receiver ... 4 s  3 of 12 files"
        );
    }

    #[test]
    fn nothing_to_send_and_nothing_moving_divide_by_nothing() {
        let empty = ProgressSnapshot {
            transfers: 1,
            files_total: Some(1),
            bytes_total: Some(0),
            ..ProgressSnapshot::default()
        };
        assert_eq!(
            empty.text(Operation::Recv),
            "[==========] 100 %  0 B of 0 B  0 bit/s  0 of 1 file"
        );
        let idle = ProgressSnapshot::default();
        assert_eq!(idle.text(Operation::Recv), "waiting for a sender ...");
    }

    #[test]
    fn the_rate_is_that_of_the_last_three_seconds() {
        let counters = Counters::default();
        let mut observer = Observer::default();
        let mut rate_at = |tenths: u64, bytes: u64| {
            counters.bytes_written.store(bytes, Relaxed);
            observer.observe(Duration::from_millis(tenths * 100), &counters).bytes_per_second
        };
        assert_eq!(rate_at(0, 0), 0);
        for tenth in 1..=100 {
            assert_eq!(rate_at(tenth, tenth * 1_000), 10_000, "at {tenth} tenths");
        }
        // Nothing more arrives: after the window has passed, the rate is nothing.
        let rates: Vec<u64> = (101..=131).map(|tenth| rate_at(tenth, 100_000)).collect();
        assert!(rates.is_sorted_by(|earlier, later| earlier >= later), "{rates:?}");
        assert_eq!(rates.last(), Some(&0));
        // A counter that steps back (a file started again) is no negative rate.
        assert_eq!(rate_at(140, 0), 0);
    }

    #[test]
    fn any_packet_ends_a_silence() {
        let counters = Counters::default();
        let mut observer = Observer::default();
        let mut silence_at = |seconds: u64, packets: u64| {
            counters.packets_heard.store(packets, Relaxed);
            observer.observe(Duration::from_secs(seconds), &counters).silence.as_secs()
        };
        assert_eq!(silence_at(1, 5), 0);
        assert_eq!(silence_at(4, 5), 3);
        assert_eq!(silence_at(5, 6), 0);
    }
}
