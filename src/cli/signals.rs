//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends the program at once.
//! Leaves the orderly end to whoever watches.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::signal::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use super::exit::Exit;
use crate::io::report::Outcome;

/// The signals that were asked to be watched.
#[derive(Debug)]
pub struct Signals {
    /// The number of the signal that came, or 0.
    received: Arc<AtomicUsize>,
    wake: PipeReader,
}

impl Signals {
    /// Starts to watch. From the second signal on, the program exits at once with 130 or 143:
    /// whoever presses Ctrl-C twice does not want to wait for anything.
    ///
    /// # Errors
    /// The operating system gave no pipe or took no handler.
    pub fn install() -> io::Result<Signals> {
        let received = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        let (wake, waker) = io::pipe()?;
        for (signal, exit) in [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)] {
            // Handlers run in the order of their registration: the exit comes first, so that
            // the signal that arms it does not trigger it.
            let code = i32::from(exit.code());
            flag::register_conditional_shutdown(signal, code, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            let number = usize::try_from(signal).map_err(io::Error::other)?;
            flag::register_usize(signal, Arc::clone(&received), number)?;
            low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Signals { received, wake })
    }

    /// What the signal that came makes of the run; none as long as none came.
    pub fn outcome(&self) -> Option<Outcome> {
        match i32::try_from(self.received.load(Ordering::Relaxed)) {
            Ok(SIGINT) => Some(Outcome::Interrupted),
            Ok(SIGTERM) => Some(Outcome::Terminated),
            _ => None,
        }
    }

    /// The number of the signal that came, or 0: for threads that look now and then.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.received)
    }

    /// Becomes readable with the first signal and stays so (nobody reads it): for threads that
    /// wait in `poll`.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_first_signal_is_told_and_wakes_who_waits() {
        let mut signals = Signals::install().unwrap();
        assert_eq!(signals.outcome(), None);
        low_level::raise(SIGTERM).unwrap();
        assert_eq!(signals.outcome(), Some(Outcome::Terminated));
        signals.wake.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn the_second_signal_ends_the_program_at_once() {
        const IN_CHILD: &str = "UFX_TEST_RAISES_TWICE";
        if std::env::var_os(IN_CHILD).is_some() {
            let signals = Signals::install().unwrap();
            low_level::raise(SIGTERM).unwrap();
            assert_eq!(signals.outcome(), Some(Outcome::Terminated));
            low_level::raise(SIGINT).unwrap();
            unreachable!("the second signal did not end the program");
        }
        // The same test in a process of its own, as it ends there.
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cli::signals::tests::the_second_signal_ends_the_program_at_once"])
            .env(IN_CHILD, "1")
            .output()
            .unwrap();
        assert_eq!(child.status.code(), Some(130), "{child:?}");
    }
}
