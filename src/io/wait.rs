//! What a thread does when it has nothing to do: wait for sockets, be woken, or doze. Which of
//! them is best when, is for the loops in `send` and `recv` to say.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::thread::{ClockId, clock_nanosleep_relative};

/// What [`wait`] waits for on one descriptor.
#[derive(Clone, Copy, Debug)]
pub enum Interest<'a> {
    /// Something can be received, or an error (such as an ICMP refusal) can be read.
    Read(BorrowedFd<'a>),
    /// There is room to send again.
    Write(BorrowedFd<'a>),
}

/// Waits until one of `interests` is ready, a signal arrives, or `timeout` (nanoseconds count;
/// `None` is for ever) has passed. `ready` is cleared and then lists the positions in `interests`
/// that are ready; it stays empty after a signal or a timeout.
pub fn wait(
    interests: &[Interest<'_>],
    timeout: Option<Duration>,
    ready: &mut Vec<usize>,
) -> io::Result<()> {
    ready.clear();
    let mut polled: Vec<PollFd<'_>> = interests
        .iter()
        .map(|interest| match *interest {
            Interest::Read(fd) => PollFd::from_borrowed_fd(fd, PollFlags::IN),
            Interest::Write(fd) => PollFd::from_borrowed_fd(fd, PollFlags::OUT),
        })
        .collect();
    let timeout = timeout.map(timespec);
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    ready.extend(
        polled
            .iter()
            .enumerate()
            .filter(|(_, polled)| !polled.revents().is_empty())
            .map(|(position, _)| position),
    );
    Ok(())
}

/// Sleeps for `span`, meant for the 20-50 microseconds between two looks at an empty socket:
/// a third faster than blocking in the receive call (measured). A signal may cut it short.
/// Without [`set_shortest_timer_slack`] the kernel adds up to 50 microseconds.
pub fn doze(span: Duration) {
    // Interrupted or not: the caller looks at its sockets next, either way.
    let _ = clock_nanosleep_relative(ClockId::Monotonic, &timespec(span));
}

/// Lets the kernel delay this thread's timers by no more than a nanosecond; the default of 50
/// microseconds would double every doze. It counts for the calling thread and those it starts.
pub fn set_shortest_timer_slack() -> io::Result<()> {
    Ok(rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?)
}

/// Wakes a thread out of [`wait`]: listed there as `Interest::Read(waker.as_fd())`.
#[derive(Debug)]
pub struct Waker {
    event: OwnedFd,
}

impl Waker {
    /// A waker that has not been rung.
    pub fn new() -> io::Result<Waker> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker { event })
    }

    /// Makes the present or the next [`wait`] on this waker return; several rings count as one.
    pub fn wake(&self) {
        // The only failure is a counter that is full, and then the waker rings already.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// Silences the waker. Call it before looking at what it was rung for, never after.
    pub fn clear(&self) {
        // The only failure is that it was not rung.
        let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// `span` for the kernel; one that it cannot count (centuries) becomes the longest that it can.
fn timespec(span: Duration) -> Timespec {
    Timespec::try_from(span).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 999_999_999 })
}

/// A waker that costs nothing while nobody sleeps: between a thread that loops and the threads
/// that put work where it looks.
#[derive(Debug)]
pub struct Doorbell {
    waker: Waker,
    asleep: AtomicBool,
}

impl Doorbell {
    /// A doorbell nobody waits at.
    pub fn new() -> io::Result<Doorbell> {
        Ok(Doorbell { waker: Waker::new()?, asleep: AtomicBool::new(false) })
    }

    /// Something was put where the looping thread looks: wakes it if it sleeps.
    pub fn ring(&self) {
        if self.asleep.load(Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// The looping thread is about to sleep; it must look once more after this.
    pub fn before_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// The looping thread is awake.
    pub fn after_sleep(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        self.waker.clear();
    }

    /// What the looping thread waits on.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_ends_a_wait_until_it_is_cleared() {
        let quiet = Waker::new().unwrap();
        let waker = Waker::new().unwrap();
        let interests = [Interest::Read(quiet.as_fd()), Interest::Read(waker.as_fd())];
        let mut ready = vec![7];

        wait(&interests, Some(Duration::ZERO), &mut ready).unwrap();
        assert!(ready.is_empty());

        waker.wake();
        waker.wake();
        wait(&interests, None, &mut ready).unwrap();
        assert_eq!(ready, [1]);

        waker.clear();
        wait(&interests, Some(Duration::ZERO), &mut ready).unwrap();
        assert!(ready.is_empty());
    }

    #[test]
    fn a_thread_is_woken_by_another() {
        let waker = Waker::new().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake());
            let mut ready = Vec::new();
            wait(&[Interest::Read(waker.as_fd())], None, &mut ready).unwrap();
            assert_eq!(ready, [0]);
        });
    }

    #[test]
    fn a_span_beyond_the_kernels_reach_is_cut() {
        assert_eq!(timespec(Duration::MAX).tv_sec, i64::MAX);
        assert_eq!(timespec(Duration::from_nanos(1_000_000_007)).tv_nsec, 7);
    }

    #[test]
    fn dozing_and_timer_slack_are_accepted_by_the_kernel() {
        set_shortest_timer_slack().unwrap();
        doze(Duration::from_micros(20));
    }
}
