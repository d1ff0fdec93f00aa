//! Asks a run to end early. Which signals ask so is the business of the command line.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Asks a run to end early.
#[derive(Clone, Debug)]
pub struct Stop<'a> {
    /// Not 0 once the run shall end.
    pub flag: Arc<AtomicUsize>,
    /// Becomes readable then.
    pub wake: BorrowedFd<'a>,
}

impl Stop<'_> {
    /// Whether the run shall end.
    pub fn is_asked(&self) -> bool {
        self.flag.load(Ordering::Relaxed) != 0
    }
}
