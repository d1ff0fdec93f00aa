//! How many files this process may have open.

use rustix::process::{Resource, Rlimit};

/// Raises the soft limit to the hard one: a receiver has one open file for each that is not
/// complete, and the usual soft limit of 1,024 would fail a tree of small ones.
pub fn raise_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // If it is not granted, what cannot be opened is named.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}
