//! How long a transfer waits for what others hold: files that another transfer receives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::writer::Abandoned;
use crate::io::confine::FileError;

/// How long files that another transfer holds are waited for, all of them together: its sender
/// may be dead, and the network thread ends such a transfer after [`SILENT_HOLDER`] of silence.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// ... looking so often.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

/// A transfer that holds a file somebody else waits for is given up after this silence: two
/// keepalives did not come.
pub const SILENT_HOLDER: Duration = Duration::from_millis(2_500);

/// How many transfers wait for a file that another one holds.
#[derive(Debug, Default)]
pub struct Waiting(AtomicUsize);

impl Waiting {
    /// Whether any does.
    pub fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// The patience of one transfer.
#[derive(Debug)]
pub struct Patience {
    waiting: Arc<Waiting>,
    abandoned: Abandoned,
    /// Nanoseconds spent.
    spent: AtomicU64,
}

impl Patience {
    /// Nothing of it is spent. `waiting` is shared by all transfers of the receiver.
    pub fn new(waiting: Arc<Waiting>) -> Patience {
        Patience { waiting, abandoned: Abandoned::default(), spent: AtomicU64::new(0) }
    }

    /// Ends every wait.
    pub fn abandoned(&self) -> Abandoned {
        self.abandoned.clone()
    }

    /// Does `create`, and again while the file is busy and patience lasts; `pause` sleeps.
    ///
    /// # Errors
    /// Those of `create`.
    pub fn while_busy<T>(
        &self,
        pause: fn(Duration),
        mut create: impl FnMut() -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        let mut created = create();
        if !matches!(created, Err(FileError::Busy { .. })) {
            return created;
        }
        // Perhaps it is an earlier run of the same command, killed.
        self.waiting.0.fetch_add(1, Ordering::Relaxed);
        while matches!(created, Err(FileError::Busy { .. })) && self.spend(BUSY_INTERVAL) {
            pause(BUSY_INTERVAL);
            created = create();
        }
        self.waiting.0.fetch_sub(1, Ordering::Relaxed);
        created
    }

    /// Takes `span` from what is left, if that is enough.
    fn spend(&self, span: Duration) -> bool {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let spent = self.spent.fetch_add(nanos(span), Ordering::Relaxed);
        spent < nanos(BUSY_WAIT) && !self.abandoned.is_said()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Result<(), FileError> {
        Err(FileError::Busy { path: "a".into() })
    }

    fn tries(patience: &Patience, mut file: impl FnMut() -> Result<(), FileError>) -> u32 {
        let mut tries = 0;
        let _ = patience.while_busy(
            |_| {},
            || {
                tries += 1;
                file()
            },
        );
        tries
    }

    #[test]
    fn many_busy_files_are_waited_for_no_longer_than_one() {
        let patience = Patience::new(Arc::default());
        assert_eq!(tries(&patience, busy), 101, "5 s, 50 ms apart");
        assert_eq!((0..1_000).map(|_| tries(&patience, busy)).sum::<u32>(), 1_000);
        assert!(!patience.waiting.is_any());
    }

    #[test]
    fn a_file_that_becomes_free_in_time_is_had() {
        let patience = Patience::new(Arc::default());
        let mut left = 30;
        let count_down = || {
            left -= 1;
            if left > 0 { busy() } else { Ok(()) }
        };
        assert!(patience.while_busy(|_| {}, count_down).is_ok());
        assert_eq!(tries(&patience, busy), 72, "the rest of the five seconds");
    }

    #[test]
    fn nothing_is_waited_for_once_the_transfer_is_over() {
        let patience = Patience::new(Arc::default());
        patience.abandoned().say();
        assert_eq!(tries(&patience, busy), 1);
    }
}
