//! How long a transfer waits for what others hold: files that another transfer receives, and
//! descriptors when there are none to be had.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::writer::Abandoned;
use crate::io::confine::FileError;

/// How long files that another transfer holds are waited for, all of them together: its sender
/// may be dead, and the network thread ends such a transfer after [`SILENT_HOLDER`] of silence.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// ... looking so often.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long descriptors are waited for: somebody on this host opens too many files, and may stop.
const SHORTAGE_WAIT: Duration = Duration::from_secs(60);

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
    /// Nanoseconds spent on busy files, and on descriptors.
    for_busy: AtomicU64,
    for_descriptors: AtomicU64,
}

impl Patience {
    /// Nothing of it is spent. `waiting` is shared by all transfers of the receiver.
    pub fn new(waiting: Arc<Waiting>) -> Patience {
        let [for_busy, for_descriptors] = [0, 0].map(AtomicU64::new);
        Patience { waiting, abandoned: Abandoned::default(), for_busy, for_descriptors }
    }

    /// Ends every wait.
    pub fn abandoned(&self) -> Abandoned {
        self.abandoned.clone()
    }

    /// Does `create`, and again while the file is busy or descriptors are short, as long as
    /// patience lasts; `pause` sleeps.
    ///
    /// # Errors
    /// Those of `create`.
    pub fn retry<T>(
        &self,
        pause: fn(Duration),
        mut create: impl FnMut() -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        loop {
            let created = create();
            let goes_on = match &created {
                Ok(_) => false,
                // Perhaps it is an earlier run of the same command, killed.
                Err(FileError::Busy { .. }) => {
                    self.waiting.0.fetch_add(1, Ordering::Relaxed);
                    let goes_on = self.spend(&self.for_busy, BUSY_WAIT, pause);
                    self.waiting.0.fetch_sub(1, Ordering::Relaxed);
                    goes_on
                }
                Err(error) if error.is_shortage() => {
                    self.spend(&self.for_descriptors, SHORTAGE_WAIT, pause)
                }
                Err(_) => false,
            };
            if !goes_on {
                return created;
            }
        }
    }

    /// Pauses, unless patience is at its end.
    fn spend(&self, spent: &AtomicU64, most: Duration, pause: fn(Duration)) -> bool {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let before = spent.fetch_add(nanos(INTERVAL), Ordering::Relaxed);
        let goes_on = before < nanos(most) && !self.abandoned.is_said();
        if goes_on {
            pause(INTERVAL);
        }
        goes_on
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
        let _ = patience.retry(
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
        assert!(patience.retry(|_| {}, count_down).is_ok());
        assert_eq!(tries(&patience, busy), 72, "the rest of the five seconds");
    }

    #[test]
    fn nothing_is_waited_for_once_the_transfer_is_over() {
        let patience = Patience::new(Arc::default());
        patience.abandoned().say();
        assert_eq!(tries(&patience, busy), 1);
    }

    #[test]
    fn descriptors_are_waited_for_longer_and_other_errors_not_at_all() {
        let patience = Patience::new(Arc::default());
        let failing = |errno: rustix::io::Errno| {
            move || Err(crate::io::confine::io_error("create", "a".into(), errno))
        };
        assert_eq!(tries(&patience, failing(rustix::io::Errno::NFILE)), 1_201);
        assert_eq!(tries(&patience, failing(rustix::io::Errno::MFILE)), 1, "all is spent");
        assert_eq!(tries(&patience, failing(rustix::io::Errno::NOSPC)), 1);
        assert_eq!(tries(&patience, busy), 101);
    }
}
